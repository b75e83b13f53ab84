"""Many pictures on one sheet."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from ecg_digitize.types import Image

THUMB_PX: Final = (440, 340)


def thumbnail(image: Image, *, size_px: tuple[int, int] = THUMB_PX) -> Image:
    """Fit a picture into a thumbnail's box, on grey.

    Args:
        image: (H, W, 3) uint8 RGB.
        size_px: Width and height of the box.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    width, height = size_px
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    box = np.full((height, width, 3), 90, np.uint8)
    box[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return box


def contact_sheet(thumbs: Sequence[tuple[str, Image]], *, columns: int = 4) -> Image:
    """Lay thumbnails out in rows, their captions below them.

    Args:
        thumbs: Caption and (h, w, 3) uint8 RGB, all of one size; at least one.
        columns: Thumbnails a row.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    columns = min(columns, len(thumbs))
    height, width = (n + gap for n, gap in zip(thumbs[0][1].shape, (28, 8), strict=False))
    sheet = np.full((-(-len(thumbs) // columns) * height, columns * width, 3), 40, np.uint8)
    for k, (caption, thumb) in enumerate(thumbs):
        y, x = k // columns * height, k % columns * width
        sheet[y + 4 : y + 4 + thumb.shape[0], x + 4 : x + 4 + thumb.shape[1]] = thumb
        origin = (x + 6, y + height - 7)
        cv2.putText(
            sheet, caption, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (230, 230, 230), 1, cv2.LINE_AA
        )
    return sheet
