"""The sheet laid flat, at whatever place and size: what names, rows and pieces are read from."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from scipy.ndimage import median_filter

from ecg_digitize import geometry
from ecg_digitize.frames import SQUARE_MM, Frame, crossings_mm
from ecg_digitize.runtime import side_by_side
from ecg_digitize.stage1.grid import unseen_grid
from ecg_digitize.stage1.sight import brightest, seen_inside, share_of_paper
from ecg_digitize.types import Float32, Float64, GridMap, Image, Mask

FLAT_PX_PER_MM: Final = 5.0
"""Scale of a flat sheet: a stroke 0.3 mm wide is still 1.5 px wide."""
MAX_SIDE_MM: Final = 900.0
"""Larger sheets are no sheets: their scale is wrong."""


DARKEST: Final = 1.0
"""Percentile of brightness that is ink: traces cover one to three hundredths of a sheet."""
INK: Final = 0.4
"""Share of the way from the grid's brightness to the ink's from which on something is ink."""
LEAST_CONTRAST: Final = 0.2
NEIGHBOURS: Final = 5
"""Lines of the grid that tell how dark one of them is."""
LINE_REACH_MM: Final = 0.3
FRAME_REACH_MM: Final = 4.0
WHOLE: Final = 0.9
"""Share of the height of a sheet that an upright line of its frame has at least."""
CLEAR_MM: Final = 6.0
"""A level line of a frame is at least so far from any row."""
AROUND_PX: Final = 3.0
"""From how far around a frame its paint comes."""


@dataclass(frozen=True)
class FlatSheet:
    """A sheet as it would lie before us, upright."""

    grid: GridMap  # its crossings in the picture
    frame: Frame  # what `seen` shows
    seen: Image  # (H, W, 3) uint8 RGB, frame px
    ink: Mask  # (H, W) what is darker than paper and grid
    inside: Mask  # (H, W) what the picture shows

    def mm_from_px(self, xy_px: Float64) -> Float64:
        """Map (..., 2) frame px to sheet mm."""
        return self.frame.mm_from_px(xy_px)


def lay_flat(image: Image, page_from_sheet: Float64, *, turns: int = 0) -> FlatSheet | None:
    """Lay a sheet flat by its homography.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        page_from_sheet: (3, 3), sheet mm to page px; 5 mm lines at multiples of 5 mm.
        turns: Counter-clockwise quarter turns (np.rot90) that the sheet is turned by first.

    Returns:
        The sheet, its origin moved by whole squares so that the picture begins in the first; None
        if the picture would be larger than any sheet.
    """
    turning = np.linalg.matrix_power(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), turns % 4)
    page_from_sheet = page_from_sheet @ turning
    height, width = image.shape[:2]
    right, bottom = width - 1.0, height - 1.0
    corners_px = np.array([[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]])
    corners_mm = geometry.apply_homography(np.asarray(np.linalg.inv(page_from_sheet)), corners_px)
    low = SQUARE_MM * np.floor(corners_mm.min(axis=0) / SQUARE_MM)
    size_mm = corners_mm.max(axis=0) - low
    if not np.isfinite(size_mm).all() or size_mm.max() > MAX_SIDE_MM:
        return None
    shift = np.array([[1, 0, low[0]], [0, 1, low[1]], [0, 0, 1]])
    return flat_sheet(image, unseen_grid(page_from_sheet @ shift), (size_mm[0], size_mm[1]))


def flat_sheet(image: Image, grid: GridMap, size_mm: tuple[float, float]) -> FlatSheet:
    """Show what lies between sheet (0, 0) and a size, mm, through crossings."""
    scale = FLAT_PX_PER_MM
    frame = Frame(
        round(size_mm[0] * scale), round(size_mm[1] * scale), (scale, scale), (0.0, 0.0)
    )  # fmt: skip
    seen, inside = seen_inside(frame, image, grid.crossings_xy_px)
    return FlatSheet(grid, frame, seen, find_ink(seen, frame, inside), inside)


def find_ink(seen: Image, frame: Frame, inside: Mask | None = None) -> Mask:
    """Return (H, W) bool: what is clearly darker than paper and the lines of the grid.

    Grids and traces come in all colours. Of the three channels and the brightest one the one is
    taken in which the darkest hundredth stands out most from the grid's 5 mm lines.

    Args:
        seen: (H, W, 3) uint8 RGB, a frame whose 5 mm lines lie at multiples of 5 mm.
        frame: What it shows.
        inside: (H, W) what the picture shows; None: everything.
    """
    if inside is None:
        inside = np.ones(seen.shape[:2], np.bool_)
    sparse = inside[::3, ::3]

    def shown_by(channel: Image) -> tuple[float, float, Float32, Float32]:
        """Return by how much the darkest hundredth stands out, it, all shares, and the lines'."""
        share = share_of_paper(channel, frame)
        lines = np.minimum(_of_grid(share, frame, 0), _of_grid(share, frame, 1)[:, None])
        dark = float(np.percentile(share[::3, ::3][sparse], DARKEST)) if sparse.any() else 1.0
        return float(np.median(lines)) - dark, dark, share, lines

    channels = brightest(seen), *np.ascontiguousarray(np.moveaxis(seen, 2, 0))[:3]
    shown = side_by_side(shown_by, channels)
    _, dark, share, lines = max(shown, key=lambda one: one[0])
    ink = share < lines - INK * np.maximum(lines - dark, LEAST_CONTRAST)
    return np.asarray(ink & inside, np.bool_)


def _of_grid(share: Float32, frame: Frame, axis: int) -> Float32:
    """Return how bright, against the paper, the grid's lines are there.

    Args:
        share: (H, W) brightness over that of the paper.
        frame: What it shows.
        axis: 0: (W,), of the vertical 5 mm lines; 1: (H,), of the horizontal ones.
    """
    scale, size_px = frame.px_per_mm_xy[axis], share.shape[1 - axis]
    reach = 2 * round(LINE_REACH_MM * scale) + 1
    darkest = cv2.erode(share, np.ones((1, reach) if axis == 0 else (reach, 1), np.uint8))
    at_px = np.arange(0, size_px, SQUARE_MM * scale)
    at_px = np.rint(at_px - frame.origin_mm_xy[axis] * scale).astype(np.int64)
    at_px = at_px[(at_px >= 0) & (at_px < size_px)]
    if not at_px.size:  # a strip between two lines
        return np.ones(size_px, np.float32)
    of_lines = np.median(np.take(darkest, at_px, axis=1 - axis), axis=axis)
    # The line of a frame may lie where one of the grid would, and a row does lie along one.
    usual = median_filter(of_lines, NEIGHBOURS, mode="nearest")
    of_lines = np.maximum(of_lines, usual - (LEAST_CONTRAST if axis == 0 else 0.0))
    return np.asarray(np.interp(np.arange(size_px), at_px, of_lines), np.float32)


@dataclass(frozen=True)
class Strokes:
    """What the ink of a flat sheet is."""

    lines: Mask  # (H, W) what may be traces
    level: Mask  # (H, W) level lines of frames
    upright: Mask  # (H, W) and upright ones


def strokes_of(
    ink: Mask,
    *,
    px_per_mm: float,
    least_mm: float = 8.0,
    frame_mm: float = 60.0,
    thick_mm: float = 1.8,
) -> Strokes:
    """Tell what may be traces from lines of frames.

    Args:
        ink: (H, W) bool.
        px_per_mm: Its scale.
        least_mm: Width of the smallest piece of a trace; letters are smaller.
        frame_mm: Length from which on a straight line is one of a frame, if the sheet is so high.
        thick_mm: What is so wide in all directions is a shadow or a stain.
    """
    plain = ink.astype(np.uint8)
    square = np.ones((round(thick_mm * px_per_mm),) * 2, np.uint8)
    thick = cv2.morphologyEx(plain, cv2.MORPH_OPEN, square)
    plain[cv2.dilate(thick, np.ones((3, 3), np.uint8)) > 0] = 0
    long_px = round(frame_mm * px_per_mm)
    high_px = min(long_px, round(WHOLE * ink.shape[0]))
    level, upright = (
        _straight(plain, shape, thick) & plain
        for shape, thick in (((1, long_px), (3, 1)), ((high_px, 1), (1, 3)))
    )
    frames = level | upright
    plain[frames > 0] = 0
    joined = cv2.morphologyEx(plain, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, label, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    wide = stats[:, cv2.CC_STAT_WIDTH] >= least_mm * px_per_mm
    wide[0] = False
    lines = wide[label] & (plain > 0)
    # Traces that begin or end on a frame do so on its line, and their last bits are short.
    beside = np.ones((1, 2 * round(FRAME_REACH_MM * px_per_mm) + 1), np.uint8)
    near = np.asarray(cv2.dilate(lines.astype(np.uint8), beside), np.uint8)
    lines = np.asarray(lines | ((near & frames) > 0), np.bool_)
    return Strokes(lines, level > 0, upright > 0)


def _straight(plain: Image, shape: tuple[int, int], thick: tuple[int, int]) -> Image:
    kernel = np.ones(thick, np.uint8)
    opened = cv2.morphologyEx(cv2.dilate(plain, kernel), cv2.MORPH_OPEN, np.ones(shape, np.uint8))
    return np.asarray(cv2.dilate(opened, kernel), np.uint8)


def unframed(
    image: Image,
    flat: FlatSheet,
    strokes: Strokes,
    *,
    rows_mm: Float64,
    ends_mm: tuple[float, float],
) -> Image:
    """Paint paper over the lines of frames, which look like traces where these touch them.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        flat: The sheet.
        strokes: Its ink.
        rows_mm: (rows,) sheet y of the baselines; level lines near them may be flat traces.
        ends_mm: Sheet x where the rows begin and end; upright lines between these may be strokes of
            rows, one below the other.
    """
    y_mm = np.arange(flat.frame.height_px) / flat.frame.px_per_mm_xy[1]
    x_mm = np.arange(flat.frame.width_px) / flat.frame.px_per_mm_xy[0]
    away = np.abs(y_mm[:, None] - rows_mm).min(axis=1) > CLEAR_MM
    beyond = (x_mm < ends_mm[0] + FRAME_REACH_MM) | (x_mm > ends_mm[1] - FRAME_REACH_MM)
    lines = ((strokes.upright & beyond) | (strokes.level & away[:, None])).astype(np.uint8)
    if not lines.any():
        return image
    page_from_sheet = geometry.fit_homography(
        crossings_mm().reshape(-1, 2), flat.grid.crossings_xy_px.reshape(-1, 2).astype(np.float64)
    )
    sheet_from_flat = np.diag([1 / flat.frame.px_per_mm_xy[0], 1 / flat.frame.px_per_mm_xy[1], 1.0])
    size_px = image.shape[1], image.shape[0]
    seen = cv2.warpPerspective(lines * np.uint8(255), page_from_sheet @ sheet_from_flat, size_px)
    on_line = cv2.dilate(np.asarray(seen > 0, np.uint8), np.ones((3, 3), np.uint8))
    return np.asarray(cv2.inpaint(image, on_line, AROUND_PX, cv2.INPAINT_TELEA), np.uint8)
