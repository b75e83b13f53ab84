"""Resampling: the norm image that stage 1 looks at, and the one remap to the rect frame."""

from typing import Final

import cv2
import numpy as np

from ecg_digitize.geometry import (
    frame_from_sheet,
    jacobian,
    mesh_maps,
    scaling,
)
from ecg_digitize.layout import NORM, RECT, SQUARE_MM
from ecg_digitize.types import Float64, GridMap, Image, Page, RectifiedPage, Registration

WHITE: Final = (255, 255, 255)

ALIAS_RATIO: Final = 1.5
"""Source pixels a target pixel from which linear interpolation skips so many that it aliases."""


def page_from_norm(registration: Registration) -> Float64:
    """Return the (3, 3) homography from norm px to page px."""
    return registration.page_from_sheet @ np.linalg.inv(frame_from_sheet(NORM))


def norm_image(page: Page, registration: Registration) -> Image:
    """Return the page in the norm frame.

    Pictures of a finer scale than the frame's are first reduced by averaging: resampled directly,
    the 1 mm lines of a 12 MP photo would turn into moire.

    Args:
        page: The picture.
        registration: Where the sheet lies in it.

    Returns:
        (896, 1152, 3) uint8 RGB, white outside the picture.
    """
    image, page_from_target = page.image, page_from_norm(registration)
    centre = np.array([NORM.width_px / 2, NORM.height_px * 0.6])
    ratio = float(np.sqrt(abs(np.linalg.det(jacobian(page_from_target, centre)))))
    if ratio > ALIAS_RATIO:
        image, reduced_from_page = _reduced(image, 1 / ratio)
        page_from_target = reduced_from_page @ page_from_target
    size = (NORM.width_px, NORM.height_px)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(
        image, page_from_target, size, flags=how, borderMode=cv2.BORDER_CONSTANT, borderValue=WHITE
    )
    return np.asarray(warped, np.uint8)


def rectify(page: Page, grid: GridMap, *, interpolation: int = cv2.INTER_LINEAR) -> RectifiedPage:
    """Resample the original pixels once to the rect frame.

    The frame has 8 px/mm down, so only pictures above about 12 px/mm (3350 px across the sheet)
    are reduced first.

    Args:
        page: The picture.
        grid: Its grid crossings.
        interpolation: cv2 constant.

    Returns:
        The rectified page, white outside the picture.
    """
    height, width = page.image.shape[:2]
    map_x, map_y = mesh_maps(grid.crossings_xy_px, RECT)
    inside = (map_x > -1) & (map_y > -1) & (map_x < width) & (map_y < height)
    image = page.image
    ratio = _px_per_rect_row(grid)
    if ratio > ALIAS_RATIO:
        image, reduced_from_page = _reduced(image, 1 / ratio)
        (sx, _, tx), (_, sy, ty), _ = reduced_from_page
        map_x = map_x * np.float32(sx) + np.float32(tx)
        map_y = map_y * np.float32(sy) + np.float32(ty)
    rect = cv2.remap(
        image, map_x, map_y, interpolation, borderMode=cv2.BORDER_CONSTANT, borderValue=WHITE
    )
    return RectifiedPage(np.asarray(rect, np.uint8), float(inside.mean()))


def _px_per_rect_row(grid: GridMap) -> float:
    """Return how many page px one rect row spans, in the median over the table."""
    steps = np.diff(grid.crossings_xy_px, axis=0)
    square_px = float(np.median(np.hypot(steps[..., 0], steps[..., 1])))
    return square_px / (SQUARE_MM * RECT.px_per_mm_xy[1])


def _reduced(image: Image, scale: float) -> tuple[Image, Float64]:
    """Shrink by averaging; return the picture and reduced_from_page (3, 3)."""
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return reduced, scaling((size[0] / width, size[1] / height))
