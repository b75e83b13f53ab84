"""Depthwise convolutions that train fast on a CPU in bfloat16.

torch's gradients of a bfloat16 depthwise convolution take five times as long on a CPU as those in
float32 (torch 2.13, AVX-512 BF16: 295 against 62 ms for 144 channels, 5x5, stride 2, at 224x288);
forward it is twice as fast. So forward stays as autocast has it and backward computes in float32.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Any, padding: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = list(stride), list(padding)
        return F.conv2d(x, weight, None, stride, padding, 1, weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        d_x, d_weight, _ = torch.ops.aten.convolution_backward(
            grads[0].float(), x.float(), weight.float(), None,
            ctx.stride, ctx.padding, [1, 1], False, [0, 0], weight.shape[0], [True, True, False],
        )  # fmt: skip
        return d_x.to(x.dtype), d_weight.to(weight.dtype), None, None


def speed_up_depthwise(network: nn.Module, dtype: torch.dtype) -> None:
    """Let the network's depthwise convolutions compute in a dtype, their gradients in float32.

    Args:
        network: Changed in place; parameters and state dict stay as they are.
        dtype: Of the activations under autocast.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.forward = _forward_of(module, dtype)  # type: ignore[method-assign]


def _forward_of(conv: nn.Conv2d, dtype: torch.dtype) -> Any:
    same = type(conv).__name__ == "Conv2dSame"  # timm's "tf_" models pad as TensorFlow does

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            padding = conv.padding
            if same:
                x = F.pad(x, _same_padding(x, conv))
                padding = (0, 0)
            out: Tensor = _Depthwise.apply(  # type: ignore[no-untyped-call]
                x.to(dtype), conv.weight.to(dtype), conv.stride, padding
            )
            return out if conv.bias is None else out + conv.bias[:, None, None].to(dtype)

    return forward


def _same_padding(x: Tensor, conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """Return left, right, top, bottom so that ceil(size / stride) cells come out."""
    pads = []
    for size, kernel, stride in zip(x.shape[2:], conv.kernel_size, conv.stride, strict=True):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads.append((total // 2, total - total // 2))
    (top, bottom), (left, right) = pads
    return left, right, top, bottom
