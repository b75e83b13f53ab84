"""Stage 0: a marker map of the 13 printed lead names, and which way is up."""

import torch
from torch import Tensor, nn

from ecg_digitize.layout import NAME_KEYS
from ecg_digitize.nets.unet import MarkerHead, UNet, normalized

INPUT_PX = 1024
"""The picture is scaled so that its longer side is this, then padded to a square."""

STRIDE = 4
"""Input px a cell of the marker map is wide."""


class Stage0Net(nn.Module):
    """Picture -> logits of the names' left ends at stride 4, logits of four quarter turns."""

    def __init__(
        self,
        *,
        backbone: str = "tf_efficientnet_lite0",
        decoder: tuple[int, ...] = (96, 64, 48),
        levels: int = 5,
    ) -> None:
        """Build; see UNet for the options."""
        super().__init__()
        self.body = UNet(backbone, in_channels=3, decoder=tuple(decoder), levels=levels)
        self.markers = MarkerHead(self.body.out_channels, len(NAME_KEYS))
        self.orientation = nn.Linear(self.body.encoder.channels[-1], 4)

    @staticmethod
    def example_input_shape() -> tuple[int, int, int, int]:
        """Return the shape of a small valid input (N, 3, H, W)."""
        return (1, 3, 256, 256)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Score markers and orientation.

        Args:
            image: (N, 3, H, W) grey levels 0..255; H and W divisible by 32.

        Returns:
            (N, 13, H/4, W/4) logits in NAME_KEYS order; (N, 4) logits of the number of
            counter-clockwise quarter turns that set the page upright.
        """
        x = normalized(image.contiguous(memory_format=torch.channels_last))
        features, deepest = self.body(x)
        return self.markers(features), self.orientation(deepest.mean((2, 3)))
