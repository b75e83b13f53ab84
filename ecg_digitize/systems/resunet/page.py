"""The page as the network sees it: upright, grey, 1100 x 850 px."""

from typing import Final

import cv2
import numpy as np

from ecg_digitize import geometry
from ecg_digitize.layout import COMPETITION
from ecg_digitize.types import Float64, Image

SIZE_PX: Final = (1100, 850)
"""Width and height: a sheet of letter paper on its side, at 100 dpi."""
WHITE: Final = 255


def upright(size_px: tuple[int, int], names_xy_px: Float64) -> Float64:
    """Return how a page is turned upright, and scaled so that all of it is seen.

    Nothing but the rotation is taken from the names: perspective, scale and place stay unknown.

    Args:
        size_px: Width and height of the page.
        names_xy_px: (13, 2) page px of the lead names in NAME_KEYS order, finite.

    Returns:
        seen_from_page (3, 3), page px to px of the picture that the network sees.
    """
    page_from_sheet = geometry.fit_similarity(COMPETITION.names_mm, names_xy_px)
    turn_rad = np.arctan2(page_from_sheet[1, 0], page_from_sheet[0, 0])
    cos, sin = np.cos(turn_rad), np.sin(turn_rad)
    turned_from_page = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]])
    width, height = size_px
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) - 0.5
    turned = geometry.apply_homography(turned_from_page, corners)
    low, high = turned.min(axis=0), turned.max(axis=0)
    scale = float((np.array(SIZE_PX) / (high - low)).min())
    shift = (np.array(SIZE_PX) - 1) / 2 - scale * (low + high) / 2
    seen_from_turned = np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1]])
    return np.asarray(seen_from_turned @ turned_from_page)


def seen(image: Image, seen_from_page: Float64) -> Image:
    """Return the (850, 1100) uint8 grey picture of a page; where the page is not, it is white.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        seen_from_page: See ``upright``.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    scale = float(np.hypot(*seen_from_page[:2, 0]))
    if scale < 1:  # areas are averaged first: the turning below would leave out most pixels
        size_px = max(1, round(scale * width)), max(1, round(scale * height))
        grey = cv2.resize(grey, size_px, interpolation=cv2.INTER_AREA)
        seen_from_page = seen_from_page @ geometry.resizing(size_px, (width, height))
    turned = cv2.warpAffine(
        grey, seen_from_page[:2], SIZE_PX, flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=WHITE,
    )  # fmt: skip
    return np.asarray(turned, np.uint8)
