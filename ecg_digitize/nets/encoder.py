"""Encoders: the shipped one from `lite.py`, others from timm. Only this file imports timm."""

import importlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecg_digitize.errors import WeightsError
from ecg_digitize.nets import lite


@lru_cache(maxsize=1)
def _timm() -> Any:
    """Import timm, curing a torchvision whose compiled operators are missing.

    timm imports torchvision. Beside a CPU-only torch the package index serves a torchvision that
    was built for CUDA; its operators do not load and its import dies with "operator
    torchvision::nms does not exist". Declaring the two operators first lets the import pass; they
    are never called here.
    """
    try:
        return importlib.import_module("timm")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _timm.library = library  # type: ignore[attr-defined]  # freed operators would vanish again
    return importlib.import_module("timm")


class Encoder(nn.Module):
    """Feature pyramid of a backbone.

    Attributes:
        channels: Channels of each level, finest first.
        reductions: Stride of each level.
    """

    def __init__(self, backbone: str, *, in_channels: int, levels: int) -> None:
        """Build the backbone without pretrained weights (nothing is ever fetched).

        Args:
            backbone: `lite.NAME`, or any timm model with `features_only`.
            in_channels: Channels of the input.
            levels: Levels to return, from stride 2 on.
        """
        super().__init__()
        if backbone == lite.NAME:
            self.model: Any = lite.EfficientNetLite0(in_channels=in_channels, levels=levels)
            self.channels: list[int] = self.model.channels
            self.reductions: list[int] = self.model.reductions
            return
        self.model = _timm().create_model(
            backbone,
            features_only=True,
            pretrained=False,
            in_chans=in_channels,
            out_indices=tuple(range(levels)),
        )
        self.channels = self.model.feature_info.channels()
        self.reductions = self.model.feature_info.reduction()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the levels of (N, C, H, W), finest first."""
        features: list[Tensor] = self.model(x)
        return features

    def load_imagenet(self, path: Path) -> None:
        """Start from weights under timm's names; the first layer is spread over the channels.

        With k times three input channels every group of three gets the RGB kernel over k, so that
        polyphase components of one picture start as their mean.

        Raises:
            WeightsError: If the file lacks a tensor of the backbone or has other shapes.
        """
        from safetensors.torch import load_file

        stored = load_file(path)
        own = self.model.state_dict()
        missing = [key for key in own if key not in stored]
        if missing:
            raise WeightsError(
                f"{path}: lacks {len(missing)} tensors of the encoder: {missing[:3]}"
            )
        for key, value in own.items():
            tensor = stored[key].to(value.dtype)
            if tensor.ndim == 4 and tensor.shape[1] == 3 and value.shape[1] % 3 == 0:
                times = value.shape[1] // 3
                tensor = tensor.repeat(1, times, 1, 1) / times
            if tensor.shape != value.shape:
                raise WeightsError(
                    f"{path}: {key} is {tuple(tensor.shape)}, not {tuple(value.shape)}"
                )
            own[key] = tensor
        self.model.load_state_dict(own)
