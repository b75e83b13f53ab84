"""The decoded trace drawn on the picture it came from: the quickest check there is."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg_digitize import geometry
from ecg_digitize.errors import InputError
from ecg_digitize.files import replacing
from ecg_digitize.frames import RECT, TRACE_X0_PX, crossings_mm
from ecg_digitize.layout import Layout
from ecg_digitize.stage1.rectify import page_from_rect
from ecg_digitize.types import Digitization, Float64, Image, Page

ROW_RGB: Final = ((0, 130, 255), (0, 200, 60), (190, 70, 255), (0, 195, 215))
"""Colours that neither ink nor paper has, bright enough to show through on black."""
FILLED_RGB: Final = (255, 0, 0)
GRID_RGB: Final = (0, 60, 255)
TICK_RGB: Final = (20, 20, 120)

_TRACE_ALPHA: Final = 0.75
_GRID_ALPHA: Final = 0.35
_TICK_HALF_MM: Final = 4.0
_SHIFT: Final = 4  # cv2 draws in sixteenths of a pixel
_MAX_DRAWN_PX: Final = 30_000.0  # cv2 wants 16 bit coordinates; this is far outside any overlay


def draw_overlay(
    page: Page, digitization: Digitization, *, max_side_px: int = 2200, grid: bool = True
) -> Image:
    """Draw what was decoded on the picture, scaled down if it is large.

    Every row has its colour; where nothing was seen and the trace was filled in it is red. Ticks
    stand where the leads' windows begin, dots on the 5 mm crossings.

    Args:
        page: The picture, page frame.
        digitization: What it gave.
        max_side_px: Longer side of the result at most.
        grid: Draw the crossings.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = page.image.shape[:2]
    scale = min(1.0, max_side_px / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = _Canvas(page.image, size)
    sheet = digitization.grid

    if grid:
        dots = page_from_rect(
            replace(sheet, rows_mm=None, start_mm=0.0),
            RECT.px_from_mm(crossings_mm().reshape(-1, 2)),
        )
        canvas.dots(dots, GRID_RGB, _GRID_ALPHA)
    trace = digitization.trace
    columns = TRACE_X0_PX + np.arange(trace.layout.n_columns)
    for row in range(trace.layout.n_rows):
        xy_px = page_from_rect(sheet, np.column_stack([columns, trace.y_px[row]]))
        filled = trace.confidence[row] <= 0
        canvas.lines(_runs(xy_px, ~filled), ROW_RGB[row % len(ROW_RGB)], _TRACE_ALPHA)
        canvas.lines(_runs(xy_px, filled), FILLED_RGB, _TRACE_ALPHA)
    canvas.lines(list(page_from_rect(sheet, _window_ticks(trace.layout))), TICK_RGB, 1.0)
    return canvas.image


def save_png(path: str | Path, image: Image) -> None:
    """Write a picture as PNG, whole or not at all; its folder is made if need be.

    Args:
        path: File to make or replace.
        image: (H, W, 3) uint8 RGB.

    Raises:
        InputError: The file cannot be written.
    """
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    try:
        with replacing(Path(path)) as partial:
            partial.write_bytes(encoded.tobytes())
    except OSError as error:
        raise InputError(f"{path}: cannot write the picture ({error}); check the folder") from error


class _Canvas:
    """A picture to draw on with anti-aliased, see-through lines in coordinates of the page."""

    def __init__(self, page: Image, size_px: tuple[int, int]) -> None:
        resized = cv2.resize(page, size_px, interpolation=cv2.INTER_AREA)
        self.image: Image = np.array(resized, np.uint8)  # a copy: equal sizes give the page itself
        self._canvas_from_page = geometry.resizing((page.shape[1], page.shape[0]), size_px)
        self._thickness = max(2, round(max(size_px) / 1000))

    def lines(self, pieces: list[Float64], rgb: tuple[int, int, int], alpha: float) -> None:
        """Draw polylines, each (n, 2) page px."""
        mask = np.zeros(self.image.shape[:2], np.uint8)
        drawn = [self._fixed_point(xy).astype(np.int32)[:, None] for xy in pieces]
        cv2.polylines(mask, drawn, False, 255, self._thickness, cv2.LINE_AA, _SHIFT)
        self._blend(mask, rgb, alpha)

    def dots(self, xy_px: NDArray[np.floating], rgb: tuple[int, int, int], alpha: float) -> None:
        """Draw dots at (n, 2) page px."""
        mask = np.zeros(self.image.shape[:2], np.uint8)
        radius = round(0.7 * self._thickness * 2**_SHIFT)
        for x, y in self._fixed_point(xy_px):
            cv2.circle(mask, (int(x), int(y)), radius, 255, cv2.FILLED, cv2.LINE_AA, _SHIFT)
        self._blend(mask, rgb, alpha)

    def _fixed_point(self, xy_px: NDArray[np.floating]) -> Float64:
        xy = geometry.apply_homography(self._canvas_from_page, xy_px)
        return np.rint(np.clip(xy, -_MAX_DRAWN_PX, _MAX_DRAWN_PX) * 2**_SHIFT)

    def _blend(self, mask: Image, rgb: tuple[int, int, int], alpha: float) -> None:
        """Mix the colour in where the mask says so, only in the rectangle that it touches."""
        x, y, width, height = cv2.boundingRect(mask)
        part = self.image[y : y + height, x : x + width]
        share = mask[y : y + height, x : x + width, None] * np.float32(alpha / 255)
        part[:] = np.rint(part + share * (np.array(rgb, np.float32) - part))


def _window_ticks(layout: Layout) -> Float64:
    """Return (n, 2, 2) rect px of a vertical stroke across the zero line at each lead's start."""
    half_px = _TICK_HALF_MM * RECT.px_per_mm_xy[1]
    ticks = []
    for row, lead in layout.pieces:
        x, zero = TRACE_X0_PX + lead.start, layout.zero_px[row]
        ticks.append([[x, zero - half_px], [x, zero + half_px]])
    return np.array(ticks)


def _runs(xy_px: Float64, wanted: NDArray[np.bool_]) -> list[Float64]:
    """Cut a line into the runs of wanted points, each with the point before, so none gapes."""
    edges = np.flatnonzero(np.diff(wanted.astype(np.int8), prepend=0, append=0))
    starts, stops = edges[::2], edges[1::2]
    return [xy_px[max(0, a - 1) : b] for a, b in zip(starts, stops, strict=True)]
