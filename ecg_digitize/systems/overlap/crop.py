"""The crop of one lead: its box, cut out of a rectified page at the scale the network knows."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from ecg_digitize.stage2.strip import STRIP_PX
from ecg_digitize.types import Float64, Image

SHRUNK: Final = 2
"""Columns of the rect frame that make one of a crop: 250 a second at 25 mm/s."""
HEIGHT_PX: Final = STRIP_PX
"""Of a crop: 30 mm to both sides of the lead's baseline, which lies half-way down."""
_WHITE: Final = 255


@dataclass(frozen=True)
class Crop:
    """The box of a lead."""

    image: Image  # (HEIGHT_PX, w, 3) uint8 RGB
    top_px: int  # rect y of its first row
    n_columns: int  # of the rect frame that it shows

    def at_columns(self, values: Float64) -> Float64:
        """Take (w,) values of the crop's columns to the (n_columns,) of the rect frame."""
        at = (np.arange(self.n_columns) - (SHRUNK - 1) / 2) / SHRUNK
        return np.interp(at, np.arange(len(values)), values)


def cut(image: Image, *, zero_px: float, first: int, n_columns: int) -> Crop:
    """Cut a lead's box out of a page or a strip in the rect frame.

    Args:
        image: (H, W, 3) uint8 RGB, 20 px/mm across and 8 down.
        zero_px: y of the lead's baseline.
        first: Its first column.
        n_columns: How many it has.

    Returns:
        The crop; white above and below the page.
    """
    top_px = round(zero_px) - HEIGHT_PX // 2
    box = image[max(top_px, 0) : max(top_px + HEIGHT_PX, 0), first : first + n_columns]
    above = min(max(-top_px, 0), HEIGHT_PX)
    below = HEIGHT_PX - above - len(box)
    box = np.pad(box, ((above, below), (0, 0), (0, 0)), constant_values=_WHITE)
    box = np.pad(box, ((0, 0), (0, -n_columns % SHRUNK), (0, 0)), mode="edge")
    return Crop(shrunk(box), top_px, n_columns)


def shrunk(image: Image) -> Image:
    """Take the mean of each SHRUNK columns; the width must be divisible by that."""
    size = image.shape[1] // SHRUNK, image.shape[0]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
