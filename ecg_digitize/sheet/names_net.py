"""The network that reads printed lead names, wherever they stand."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize.layout import LEADS
from ecg_digitize.nets.unet import conv_block, normalized

STRIDE: Final = 4
"""Input px a cell of the output is wide."""
NONE: Final = len(LEADS)
"""Channel of cells that are the centre of no name."""
MINUS: Final = NONE + 1
"""Channel, of its own, that tells whether a name has a minus sign."""
N_CHANNELS: Final = MINUS + 1
MULTIPLE: Final = 8
"""Height and width of the input must be divisible by this."""


class _Residual(nn.Module):
    """A dilated 3x3 block beside its input."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.norm(self.conv(x)))


class NamesNet(nn.Module):
    """Picture -> which lead's name has its centre in each cell at stride 4."""

    def __init__(
        self,
        *,
        stem: int = 16,
        fine: int = 32,
        letters: int = 2,
        coarse: int = 64,
        dilations: tuple[int, ...] = (1, 2, 1, 2, 1),
    ) -> None:
        """Build.

        Args:
            stem: Channels at stride 2.
            fine: Channels at stride 4.
            letters: Residual blocks at stride 4, where letters are told apart.
            coarse: Channels at stride 8, where words are read.
            dilations: Of the residual blocks at stride 8.
        """
        super().__init__()
        self.stem = nn.Sequential(
            conv_block(3, stem, kernel=(5, 5), stride=(2, 2)),
            conv_block(stem, fine, stride=(2, 2)),
            conv_block(fine, fine),
            *(_Residual(fine, 1) for _ in range(letters)),
        )
        self.words = nn.Sequential(
            conv_block(fine, coarse, stride=(2, 2)),
            *(_Residual(coarse, dilation) for dilation in dilations),
        )
        self.down = nn.Conv2d(coarse, fine, 1)
        self.joined = conv_block(2 * fine, fine)
        self.head = nn.Conv2d(fine, N_CHANNELS, 1)
        with torch.no_grad():
            assert self.head.bias is not None
            self.head.bias[NONE] = 5.0  # names are rare

    @staticmethod
    def example_input_shape() -> tuple[int, int, int, int]:
        """Return the shape of a small valid input (N, 3, H, W)."""
        return (1, 3, 64, 96)

    def forward(self, image: Tensor) -> Tensor:
        """Score names.

        Args:
            image: (N, 3, H, W) grey levels 0..255 at 5 px/mm; H and W divisible by 8.

        Returns:
            (N, 14, H/4, W/4) logits: twelve leads and NONE, which share a softmax, and MINUS, which
            stands alone. Cell (i, j) covers the px 4i..4i+3, 4j..4j+3.
        """
        x = normalized(image.contiguous(memory_format=torch.channels_last))
        fine = self.stem(x)
        words = F.interpolate(self.down(self.words(fine)), scale_factor=2, mode="nearest")
        logits: Tensor = self.head(self.joined(torch.cat([fine, words], dim=1)))
        return logits
