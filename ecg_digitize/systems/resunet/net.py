"""The network: a residual U-Net with attention in every block."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PUBLISHED_WIDTHS: Final = (32, 64, 128, 256, 512)
WIDTHS: Final = (16, 32, 64, 128, 256)
"""Half of what was published: a step takes a third of the time on a CPU."""
PHASES: Final = 2
"""Each second pixel across and down goes into a channel of its own: four channels."""
INK_AT_FIRST: Final = 0.01
"""Of the pixels, before anything was learnt; without it the first steps only learn this."""


class Cbam(nn.Module):
    """Attention by channel, then by place: the "convolutional block attention module" of 2018."""

    def __init__(self, width: int, *, reduction: int = 8, kernel: int = 7) -> None:
        """Build both parts.

        Args:
            width: Channels.
            reduction: By which the channels are squeezed.
            kernel: Size of the window that decides on a place, px.
        """
        super().__init__()
        squeezed = max(4, width // reduction)
        self.of_channels = nn.Sequential(
            nn.Conv2d(width, squeezed, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, width, 1, bias=False),
        )
        self.of_places = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh (N, C, H, W)."""
        mean, most = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        x = x * torch.sigmoid(self.of_channels(mean) + self.of_channels(most))
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        weighed: Tensor = x * torch.sigmoid(self.of_places(seen))
        return weighed


class Block(nn.Module):
    """Two convolutions and attention beside a shortcut."""

    def __init__(self, width_in: int, width: int) -> None:
        """Build a block of `width` channels out of `width_in`."""
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            Cbam(width),
        )
        self.shortcut = (
            nn.Identity()
            if width_in == width
            else nn.Sequential(nn.Conv2d(width_in, width, 1, bias=False), nn.BatchNorm2d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width_in, H, W) to (N, width, H, W)."""
        return F.relu(self.body(x) + self.shortcut(x))


class ResUNet(nn.Module):
    """Grey pages to masks of the trace, of the same size."""

    def __init__(self, *, widths: Sequence[int] = WIDTHS) -> None:
        """Build it with random weights.

        Args:
            widths: Channels of the levels; each level is half as wide and high as the one before.
        """
        super().__init__()
        before = (PHASES**2, *widths[:-1])
        self.down = nn.ModuleList(Block(n, width) for n, width in zip(before, widths, strict=True))
        pairs = list(pairwise(widths))
        self.up = nn.ModuleList(Block(above + below, above) for above, below in pairs)
        self.head = nn.Conv2d(widths[0], PHASES**2, 1)
        nn.init.constant_(self.head.bias, -math.log(1 / INK_AT_FIRST - 1))  # type: ignore[arg-type]
        self.stride = PHASES * 2 ** (len(widths) - 1)

    def forward(self, grey: Tensor) -> Tensor:
        """Judge every pixel.

        Args:
            grey: (N, 1, H, W) uint8; any size.

        Returns:
            (N, 1, H, W) logits that the pixel is ink of the trace.
        """
        height, width = grey.shape[2:]
        x = 1 - grey.float() / 255  # paper is about 0, and so is what is put beside it:
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride))
        x = F.pixel_unshuffle(x, PHASES)
        levels: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if levels else x)
            levels.append(x)
        for block, beside in zip(reversed(self.up), reversed(levels[:-1]), strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat([beside, x], dim=1))
        logits: Tensor = F.pixel_shuffle(self.head(x), PHASES)
        return logits[..., :height, :width]
