"""EfficientNet-Lite0, the encoder of the shipped networks, in plain torch.

timm has the same network, and `encoder.py` takes every other backbone from there. But importing
timm imports torchvision and half of torch's compiler, which was 1.6 s of the 4.8 s that a start of
the command took. Names of parameters are timm's, so that weights fit both; a test holds the two to
the same outputs.

Source: Tan and Le, EfficientNet (2019), https://arxiv.org/abs/1905.11946; the Lite variant leaves
out squeeze-and-excitation and uses ReLU6, and neither its stem nor its last stage is scaled.
"""

from typing import Final, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

NAME: Final = "tf_efficientnet_lite0"
"""timm's name of it; "tf": padded as TensorFlow pads, with TensorFlow's epsilon."""

_STEM: Final = 32
_EPSILON: Final = 1e-3  # of the batch norms; torch's own default is 1e-5


class _Stage(NamedTuple):
    """A row of the paper's table 1."""

    repeats: int
    kernel: int
    stride: int  # of the first block
    expansion: int  # 1: depthwise separable, else inverted residual
    channels: int


STAGES: Final = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
LEVELS: Final = (0, 1, 2, 4, 6)
"""The stages whose outputs are the feature pyramid: the last one of each stride, 2 to 32."""


class Conv2dSame(nn.Conv2d):
    """A convolution padded so that ceil(size / stride) cells come out, as TensorFlow does it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of (N, C, H, W)."""
        pads: list[int] = []  # left, right, top, bottom: the last axis comes first
        for axis in (1, 0):
            size, kernel, stride = x.shape[2 + axis], self.kernel_size[axis], self.stride[axis]
            total = -size % stride + kernel - stride  # no kernel is smaller than its stride
            pads += (total // 2, total - total // 2)
        return super().forward(F.pad(x, pads))


def _conv(channels_in: int, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> (
    nn.Conv2d
):  # fmt: skip
    if stride > 1:
        return Conv2dSame(channels_in, channels, kernel, stride, groups=groups, bias=False)
    padding = kernel // 2  # at stride 1 both ways of padding are the same
    return nn.Conv2d(channels_in, channels, kernel, 1, padding, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


class _DepthwiseSeparable(nn.Module):
    """Depthwise, then pointwise convolution."""

    def __init__(self, channels_in: int, channels: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _conv(channels_in, channels_in, kernel, stride, channels_in)
        self.bn1 = _norm(channels_in)
        self.conv_pw = _conv(channels_in, channels)
        self.bn2 = _norm(channels)
        self.has_skip = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.relu6(self.bn1(self.conv_dw(x)), inplace=True)
        out = self.bn2(self.conv_pw(out))
        return out + x if self.has_skip else out


class _InvertedResidual(nn.Module):
    """Pointwise expansion, depthwise convolution, pointwise projection."""

    def __init__(
        self, channels_in: int, channels: int, *, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.conv_pw = _conv(channels_in, wide)
        self.bn1 = _norm(wide)
        self.conv_dw = _conv(wide, wide, kernel, stride, wide)
        self.bn2 = _norm(wide)
        self.conv_pwl = _conv(wide, channels)
        self.bn3 = _norm(channels)
        self.has_skip = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.relu6(self.bn1(self.conv_pw(x)), inplace=True)
        out = F.relu6(self.bn2(self.conv_dw(out)), inplace=True)
        out = self.bn3(self.conv_pwl(out))
        return out + x if self.has_skip else out


class EfficientNetLite0(nn.Module):
    """The feature pyramid.

    Attributes:
        channels: Channels of each level, finest first.
        reductions: Stride of each level.
    """

    def __init__(self, *, in_channels: int, levels: int) -> None:
        """Build with random weights.

        Args:
            in_channels: Channels of the input.
            levels: Levels to return, 1 to 5, from stride 2 on.
        """
        super().__init__()
        self.n_stages = LEVELS[levels - 1] + 1  # those behind have weights but nothing asks them
        self.channels = [STAGES[stage].channels for stage in LEVELS[:levels]]
        self.reductions = [2 ** (level + 1) for level in range(levels)]
        self.conv_stem = _conv(in_channels, _STEM, 3, 2)
        self.bn1 = _norm(_STEM)
        stages, channels_in = [], _STEM
        for stage in STAGES:
            blocks: list[nn.Module] = []
            for k in range(stage.repeats):
                stride = stage.stride if k == 0 else 1
                if stage.expansion == 1:
                    block: nn.Module = _DepthwiseSeparable(
                        channels_in, stage.channels, kernel=stage.kernel, stride=stride
                    )
                else:
                    block = _InvertedResidual(
                        channels_in,
                        stage.channels,
                        kernel=stage.kernel,
                        stride=stride,
                        expansion=stage.expansion,
                    )
                blocks.append(block)
                channels_in = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the levels of (N, C, H, W), finest first."""
        x = F.relu6(self.bn1(self.conv_stem(x)), inplace=True)
        features = []
        for number in range(self.n_stages):
            x = self.blocks[number](x)
            if number in LEVELS:
                features.append(x)
        return features
