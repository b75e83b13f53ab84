"""Where the rows lie on sheets that are not laid out as the competition's.

Other machines put the rows 30 to 40 mm apart, higher or lower. The lattice of 5 mm squares is the
same, so once it is found, the lead names say which row lies about where, and the ink, which is
densest along the baselines, says it to a millimetre. The rectified page is then stretched down so
that its rows come where stage 2 expects them, and what is decoded is taken back on the paper.
"""

from dataclasses import replace
from itertools import combinations
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from ecg_digitize import geometry
from ecg_digitize.frames import GRID_ROWS, NORM, RECT, SQUARE_MM, TIME_ORIGIN_MM, crossings_mm
from ecg_digitize.layout import COMPETITION, NAME_KEYS
from ecg_digitize.stage1.sight import against_paper, seen_in
from ecg_digitize.types import Float64, GridMap, Image, Page, Registration, Trace

SAME_MM: Final = 2.5
"""Names and rows within this of their places are there: printed names vary by 1 mm."""
AGREE_MM: Final = 2.5
LEAST_NAMES: Final = 4
STRETCH: Final = (0.6, 1.4)  # rows 22 to 50 mm apart
BELOW: Final = (-0.72, 0.22)
"""How much farther below its baseline a name may stand than the competition's, which stand 5.6 mm
below, in distances of rows: with rows 31 mm apart from 17 mm above it to 12 mm below."""
NEAR_MM: Final = 4.0  # of a row from where evenly spaced ones put it
ROWS_SIGMA_MM: Final = 2.0
WIDER: Final = np.arange(0.82, 1.2, 0.03)
WIDER_SIGMA: Final = 0.3
"""How much farther apart the rows may be than their names, which stage 0 finds a little nearer to
where it is used to them."""
CLEARLY: Final = 1.5  # more ink than on the usual rows that rows elsewhere must have
STEP_MM: Final = 0.25  # of the places tried
INK_SHARE: Final = (0.75, 0.5)
"""Brightness against the paper's at which ink begins to count, and at which it counts fully: lines
of the grid are brighter, in their brightest channel."""
_ZERO: Final = np.array(COMPETITION.zero_mm)
_FAR: Final = 5  # rows beyond the outermost: past the edges of the sheet


def place_rows(page: Page, grid: GridMap, registration: Registration) -> GridMap:
    """Find the rows of a sheet whose lead names do not lie where the competition's do.

    Args:
        page: The picture.
        grid: Its crossings.
        registration: Its lead names.

    Returns:
        The grid, with rows_mm if the sheet has another layout and its rows are seen. Where they lie
        as usual, but by whole squares off, the grid was counted from a wrong line: it is moved.
    """
    if not np.isfinite(grid.residual_px):
        return grid
    named = _named_rows(grid, registration)
    if named is None:
        return grid
    density = _ink_density(page.image, grid)
    # The last row lies as far from the third as the others from each other, or somewhat nearer.
    apart_mm = (named[2] - named[0]) / 2
    shift_mm = np.arange(BELOW[0] * apart_mm, BELOW[1] * apart_mm, STEP_MM)[:, None]
    best: tuple[float, Float64] = (0.0, named)
    for rhythm_mm in (named[3], named[2] + apart_mm):
        rows = np.append(named[:3], rhythm_mm)
        for wider in WIDER:
            tried = rows[1] + wider * (rows - rows[1]) - shift_mm
            together = _together(_density_at(density, tried))
            k = int(together.argmax())
            likely = float(together[k]) * np.exp(-0.5 * ((wider - 1) / WIDER_SIGMA) ** 2)
            if likely > best[0]:
                best = likely, tried[k]
    rows, seen = _on_ink(density, best[1], NEAR_MM)
    _, usually = _on_ink(density, _ZERO, SAME_MM)
    if seen <= CLEARLY * usually:
        return grid
    off_mm = rows - _ZERO
    squares = round(float(off_mm.mean()) / SQUARE_MM)
    if squares and np.abs(off_mm - squares * SQUARE_MM).max() < SAME_MM:
        return counted_from(grid, squares)
    return replace(grid, rows_mm=elsewhere(rows))


def elsewhere(rows_mm: Float64) -> Float64 | None:
    """Return (4,) sheet y of baselines, or None if they lie where the competition's do."""
    return None if np.abs(rows_mm - _ZERO).max() < SAME_MM else rows_mm


def counted_from(grid: GridMap, row: int) -> GridMap:
    """Return the same lattice counted from another row; it goes on where it was not seen."""
    mm = crossings_mm()
    mm[..., 1] += row * SQUARE_MM
    was_row = np.arange(GRID_ROWS) + row
    seen_row = np.clip(was_row, 0, GRID_ROWS - 1)
    seen = (was_row == seen_row)[:, None]
    residual_mm = grid.residual_mm
    return replace(
        grid,
        crossings_xy_px=geometry.page_from_sheet(grid.crossings_xy_px, mm).astype(np.float32),
        confidence=np.where(seen, grid.confidence[seen_row], np.float32(0)),
        residual_mm=None if residual_mm is None else residual_mm[seen_row],
    )


def as_printed(y_mm: NDArray[np.floating], rows_mm: Float64 | None) -> Float64:
    """Return where on the paper lies what lies at y mm of the sheet laid out anew.

    Every baseline comes from where it is printed to where stage 2 expects it; between them the
    stretch changes smoothly, and beyond them it stays.

    Args:
        y_mm: Any shape, sheet mm.
        rows_mm: (4,) sheet y of the baselines; None where they are as expected.
    """
    if rows_mm is None:
        return np.asarray(y_mm, np.float64)
    expected, printed = (
        np.concatenate(
            [row[:1] - _FAR * (row[1] - row[0]), row, row[-1:] + _FAR * (row[-1] - row[-2])]
        )
        for row in (_ZERO, rows_mm)
    )
    return np.asarray(PchipInterpolator(expected, printed)(y_mm))


def as_laid_out(y_mm: Float64, rows_mm: Float64 | None) -> Float64:
    """Return the inverse of ``as_printed``."""
    expected_mm = np.arange(-100.0, 400.0, 0.05)
    return np.asarray(np.interp(y_mm, as_printed(expected_mm, rows_mm), expected_mm))


def laid_out(grid: GridMap) -> GridMap:
    """Return the grid of the same picture on which the rows lie and begin where stage 2 expects."""
    if grid.rows_mm is None and not grid.start_mm:
        return grid
    mm = crossings_mm()
    mm[..., 0] += grid.start_mm
    mm[..., 1] = as_printed(mm[..., 1], grid.rows_mm)
    points = geometry.page_from_sheet(grid.crossings_xy_px, mm)
    return replace(grid, crossings_xy_px=points.astype(np.float32), rows_mm=None, start_mm=0.0)


def levelled(trace: Trace, grid: GridMap) -> Trace:
    """Take centre lines of a page laid out anew back on the paper.

    Args:
        trace: Decoded from the page that ``laid_out`` describes.
        grid: The sheet as it is.

    Returns:
        The lines with their deflections as on the paper, about the zero lines of the rect frame.
    """
    if grid.rows_mm is None:
        return trace
    expected_mm = trace.y_px / RECT.px_per_mm_xy[1] + RECT.origin_mm_xy[1]
    off_mm = as_printed(expected_mm, grid.rows_mm) - grid.rows_mm[:, None]
    y_px = np.array(trace.layout.zero_px)[:, None] + off_mm * RECT.px_per_mm_xy[1]
    return replace(trace, y_px=y_px.astype(np.float32))


def _named_rows(grid: GridMap, registration: Registration) -> Float64 | None:
    """Return (4,) sheet y of the baselines, were the names as far below as the competition's.

    None if few names agree.
    """
    which = np.flatnonzero(np.isfinite(registration.names_xy_px).all(axis=1))
    which = which[which != NAME_KEYS.index("rhythm")]
    mm = geometry.sheet_from_page(grid.crossings_xy_px, registration.names_xy_px[which])
    which, y_mm = which[np.isfinite(mm[:, 1])], mm[np.isfinite(mm[:, 1]), 1]
    row, off_mm = COMPETITION.names_mm[which, 1], y_mm - COMPETITION.names_mm[which, 1]
    best = LEAST_NAMES - 1, np.zeros(len(row), bool)
    for i, j in combinations(range(len(row)), 2):
        if row[i] == row[j]:
            continue
        slope = (off_mm[j] - off_mm[i]) / (row[j] - row[i])
        agree = np.abs(off_mm - off_mm[i] - slope * (row - row[i])) < AGREE_MM
        if STRETCH[0] < 1 + slope < STRETCH[1] and agree.sum() > best[0]:
            best = int(agree.sum()), agree
    if best[0] < LEAST_NAMES:
        return None
    slope, offset = np.polyfit(row[best[1]], off_mm[best[1]], 1)
    below_mm = COMPETITION.names_mm[0, 1] - _ZERO[0]
    return np.asarray(_ZERO + offset + slope * (_ZERO + below_mm))


def _ink_density(image: Image, grid: GridMap) -> Float64:
    """Return (896,): how much of the traces' width is ink at each row of the norm frame."""
    share = against_paper(seen_in(NORM, image, grid.crossings_xy_px), NORM)
    least, most = INK_SHARE
    ink = np.clip((least - share) / (least - most), 0, 1)
    x0 = round((TIME_ORIGIN_MM - NORM.origin_mm_xy[0]) * NORM.px_per_mm_xy[0])
    ink = ink[
        :, x0 : x0 + round(COMPETITION.duration_s * COMPETITION.mm_per_s * NORM.px_per_mm_xy[0])
    ]
    density = (ink / (ink.sum(axis=0) + 1)).mean(axis=1)  # a steep stroke counts no more
    return np.asarray(cv2.GaussianBlur(density[None], (0, 0), 2.0)[0], np.float64)


def _on_ink(density: Float64, rows_mm: Float64, reach_mm: float) -> tuple[Float64, float]:
    """Move each of (4,) rows to ink within reach, the nearer the better; say how much they have."""
    steps = np.arange(-reach_mm, reach_mm + STEP_MM / 2, STEP_MM)
    steps = steps[np.argsort(np.abs(steps), kind="stable")]  # a row without ink stays
    seen = _density_at(density, rows_mm[:, None] + steps)
    best = (seen * np.exp(-0.5 * (steps / ROWS_SIGMA_MM) ** 2)).argmax(axis=1)
    return rows_mm + steps[best], float(_together(seen[np.arange(len(best)), best]))


def _together(density: Float64) -> Float64:
    """Return the sum over (..., 4) rows, none of them, say a monitor's edge, above the others."""
    least = 2 * np.sort(density, axis=-1)[..., 1:2]
    return np.asarray(np.minimum(density, least).sum(axis=-1))


def _density_at(density: Float64, y_mm: Float64) -> Float64:
    at = (y_mm - NORM.origin_mm_xy[1]) * NORM.px_per_mm_xy[1]
    return np.interp(at, np.arange(len(density)), density, left=0.0, right=0.0)
