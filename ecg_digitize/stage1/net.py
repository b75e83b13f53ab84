"""Stage 1: a heatmap of the 5 mm grid crossings in the norm frame."""

import torch
from torch import Tensor, nn

from ecg_digitize.nets.unet import MarkerHead, UNet, normalized, unfold_cells


class Stage1Net(nn.Module):
    """Norm image -> logits of grid crossings at full resolution."""

    def __init__(
        self,
        *,
        backbone: str = "tf_efficientnet_lite0",
        decoder: tuple[int, ...] = (96, 48, 32, 32),
    ) -> None:
        """Build; see UNet for the options."""
        super().__init__()
        self.body = UNet(
            backbone, in_channels=3, decoder=tuple(decoder), detail=12, row_coordinate=True
        )
        self.crossings = MarkerHead(self.body.out_channels, 4)

    @staticmethod
    def example_input_shape() -> tuple[int, int, int, int]:
        """Return the shape of a small valid input (N, 3, H, W)."""
        return (1, 3, 128, 160)

    def forward(self, image: Tensor) -> Tensor:
        """Score every pixel.

        Args:
            image: (N, 3, H, W) grey levels 0..255, norm frame; H and W divisible by 32.

        Returns:
            (N, H, W) logits.
        """
        x = normalized(image.contiguous(memory_format=torch.channels_last))
        features, _ = self.body(x)
        return unfold_cells(self.crossings(features), 2, 2)[:, 0]
