"""The picture as stage 0's network takes it."""

import cv2
import numpy as np

from ecg_digitize.geometry import resizing, scaling
from ecg_digitize.stage0.net import INPUT_PX, STRIDE
from ecg_digitize.types import Float64, Image

PAD_GREY = 128


def stage0_input(image: Image) -> tuple[Image, Float64]:
    """Scale the longer side to INPUT_PX and pad to a square, the picture at the upper left.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.

    Returns:
        (INPUT_PX, INPUT_PX, 3) uint8 RGB and map_from_page (3, 3), page px -> px of the stride-4
        marker map.
    """
    height, width = image.shape[:2]
    scale = INPUT_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.full((INPUT_PX, INPUT_PX, 3), PAD_GREY, np.uint8)
    square[: size[1], : size[0]] = cv2.resize(image, size, interpolation=how)
    return square, scaling((1 / STRIDE, 1 / STRIDE)) @ resizing((width, height), size)
