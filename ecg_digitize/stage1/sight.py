"""The sheet as a frame shows it, and how dark things are against the paper around them."""

from typing import Final

import cv2
import numpy as np

from ecg_digitize import geometry
from ecg_digitize.layout import Frame
from ecg_digitize.types import Float32, Image

PAPER_MM: Final = 5.0
"""Window in which the brightest pixel is taken for paper."""


def seen_in(frame: Frame, image: Image, crossings_xy_px: Float32) -> Image:
    """Look at a picture through its crossings: (H, W, 3) uint8 of a frame, white outside it."""
    maps = geometry.mesh_maps(crossings_xy_px, frame)
    white = (255, 255, 255)
    return np.asarray(
        cv2.remap(
            image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=white
        ),
        np.uint8,
    )


def against_paper(seen: Image, frame: Frame) -> Float32:
    """Return (H, W) brightness of the brightest channel as a share of the paper's around it."""
    return _share_of_paper(seen.max(axis=2), frame)


def channels_against_paper(seen: Image, frame: Frame, *, window_mm: float = PAPER_MM) -> Float32:
    """Return (H, W, 3) brightness of each channel as a share of the paper's around it."""
    channels = np.ascontiguousarray(np.moveaxis(seen, 2, 0))
    return np.stack([_share_of_paper(channel, frame, window_mm) for channel in channels], axis=2)


def _share_of_paper(channel: Image, frame: Frame, window_mm: float = PAPER_MM) -> Float32:
    width, height = (2 * round(window_mm * scale / 2) + 1 for scale in frame.px_per_mm_xy)
    paper = cv2.blur(cv2.dilate(channel, np.ones((height, width), np.uint8)), (width, height))
    return np.asarray(channel / np.maximum(paper, 1), np.float32)
