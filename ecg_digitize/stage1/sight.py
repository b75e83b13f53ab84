"""The sheet as a frame shows it, and how dark things are against the paper around them."""

from typing import Final

import cv2
import numpy as np

from ecg_digitize import geometry
from ecg_digitize.frames import GRID_COLUMNS, SQUARE_MM, Frame
from ecg_digitize.types import Float32, Image, Mask

ROW_MM: Final = (-25.0, 305.0)
"""Sheet x between which a row, its pulses and its ends may lie."""
PAPER_MM: Final = 5.0
"""Window in which the brightest pixel is taken for paper."""
INK_OF_PAPER: Final = 0.55  # share of the paper's brightness: ink is darker in every channel,
INK_OF_LINE: Final = 0.75  # and darker than this share of the brightness of the nearest line
LINE_REACH_MM: Final = 0.3


def seen_in(frame: Frame, image: Image, crossings_xy_px: Float32) -> Image:
    """Look at a picture through its crossings: (H, W, 3) uint8 of a frame, white outside it."""
    return _looked_up(image, *geometry.mesh_maps(crossings_xy_px, frame))


def seen_inside(frame: Frame, image: Image, crossings_xy_px: Float32) -> tuple[Image, Mask]:
    """Do what ``seen_in`` does, and say (H, W) bool which pixels lie inside the picture."""
    map_x, map_y = geometry.mesh_maps(crossings_xy_px, frame)
    height, width = image.shape[:2]
    inside = (map_x >= 0) & (map_x <= width - 1) & (map_y >= 0) & (map_y <= height - 1)
    return _looked_up(image, map_x, map_y), np.asarray(inside, np.bool_)


def _looked_up(image: Image, map_x: Float32, map_y: Float32) -> Image:
    white = (255, 255, 255)
    seen = cv2.remap(
        image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=white
    )
    return np.asarray(seen, np.uint8)


def darkest(seen: Image) -> Image:
    """Return (H, W) uint8, the darkest channel; ``seen.min(axis=2)`` takes ten times as long."""
    return np.minimum(np.minimum(seen[..., 0], seen[..., 1]), seen[..., 2])


def brightest(seen: Image) -> Image:
    """Return (H, W) uint8, the brightest channel."""
    return np.maximum(np.maximum(seen[..., 0], seen[..., 1]), seen[..., 2])


def against_paper(seen: Image, frame: Frame) -> Float32:
    """Return (H, W) brightness of the brightest channel as a share of the paper's around it."""
    return share_of_paper(brightest(seen), frame)


def is_ink(seen: Image, frame: Frame) -> Mask:
    """Return (H, W) bool: what is too dark for paper and for the printed lines.

    Grids are printed in anything from pale pink to dark brown, so that what a trace is darker than
    is asked of each vertical 5 mm line.

    Args:
        seen: (H, W, 3) uint8 RGB.
        frame: What it shows: the sheet, right to LINE_REACH_MM.
    """
    share = against_paper(seen, frame)
    scale = frame.px_per_mm_xy[0]
    at_px = np.rint((SQUARE_MM * np.arange(GRID_COLUMNS) - frame.origin_mm_xy[0]) * scale)
    at_px = at_px[(at_px >= 0) & (at_px < frame.width_px)].astype(np.int64)
    darkest = cv2.erode(share, np.ones((1, 2 * round(LINE_REACH_MM * scale) + 1), np.uint8))
    line_share = np.median(darkest[:, at_px], axis=0)
    line_share = np.interp(np.arange(frame.width_px), at_px, line_share)
    return np.asarray(share < np.minimum(INK_OF_PAPER, INK_OF_LINE * line_share), np.bool_)


def channels_against_paper(seen: Image, frame: Frame, *, window_mm: float = PAPER_MM) -> Float32:
    """Return (H, W, 3) brightness of each channel as a share of the paper's around it."""
    channels = np.ascontiguousarray(np.moveaxis(seen, 2, 0))
    return np.stack([share_of_paper(channel, frame, window_mm) for channel in channels], axis=2)


def share_of_paper(channel: Image, frame: Frame, window_mm: float = PAPER_MM) -> Float32:
    """Return (H, W) brightness of a channel as a share of the paper's around it."""
    width, height = (2 * round(window_mm * scale / 2) + 1 for scale in frame.px_per_mm_xy)
    paper = cv2.blur(cv2.dilate(channel, np.ones((height, width), np.uint8)), (width, height))
    return np.divide(channel, np.maximum(paper, 1), dtype=np.float32)
