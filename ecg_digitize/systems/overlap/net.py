"""A plain U-Net: the crop of one lead -> the mask of its trace."""

from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS: Final = (16, 32, 64, 96, 128)
FOLD: Final = 2
"""The U-Net works on blocks of FOLD by FOLD pixels, whose colours are its channels, and scores each
pixel by itself: half the time of a step with half as many channels on single pixels."""
FAR_PX: Final = 240.0
"""Distance from the middle that the network is shown as 1."""


class OverlapNet(nn.Module):
    """Crop of a lead whose baseline lies half-way down -> how much of each pixel is its trace.

    Besides the colours it sees how far each pixel lies from the middle: which of several traces is
    meant is told by nothing else.
    """

    def __init__(self, *, widths: tuple[int, ...] = WIDTHS) -> None:
        """Build.

        Args:
            widths: Channels of each level, finest first; each level is half as large as the one
                before, and the finest has FOLD by FOLD pixels to a block.
        """
        super().__init__()
        self.step = FOLD * 2 ** (len(widths) - 1)
        self.down = nn.ModuleList(
            _double(before, width)
            for before, width in zip((5 * FOLD**2, *widths), widths, strict=False)
        )
        self.up = nn.ModuleList(_double(fine + coarse, fine) for fine, coarse in pairwise(widths))
        self.pool = nn.MaxPool2d(2)
        self.mask = nn.Conv2d(widths[0], FOLD**2, 1)
        nn.init.constant_(self.mask.bias, -4.0)  # type: ignore[arg-type]  # a trace is thin

    def forward(self, image: Tensor) -> Tensor:
        """Score every pixel.

        Args:
            image: (N, 3, H, W) grey levels 0..255, any size.

        Returns:
            (N, H, W) logits of the mask.
        """
        height, width = image.shape[2:]
        x = _with_places(image)
        missing = (0, -width % self.step, 0, -height % self.step)
        x = F.pad(x, missing, mode="replicate")
        x = F.pixel_unshuffle(x, FOLD)
        x = x.contiguous(memory_format=torch.channels_last)
        levels = []
        for index, block in enumerate(self.down):
            x = block(self.pool(x) if index else x)
            levels.append(x)
        for block, fine in zip(reversed(self.up), reversed(levels[:-1]), strict=True):
            wide = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([fine, wide], dim=1))
        return F.pixel_shuffle(self.mask(x), FOLD)[:, 0, :height, :width]


def _with_places(image: Tensor) -> Tensor:
    """Return (N, 5, H, W): colours about 0, height above the middle, and distance from it."""
    n, _, height, width = image.shape
    colours = (image.float() - 192.0) / 64.0
    above = (height - 1) / 2 - torch.arange(height, device=image.device, dtype=torch.float32)
    places = torch.stack([above, above.abs()]) / FAR_PX
    return torch.cat([colours, places[None, :, :, None].expand(n, 2, height, width)], dim=1)


def _double(before: int, width: int) -> nn.Sequential:
    """Return the two convolutions of a level."""
    layers: list[nn.Module] = []
    for channels in (before, width):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
