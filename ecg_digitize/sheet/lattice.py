"""The grid of a sheet of any layout, led on to its printed lines."""

from dataclasses import replace
from typing import Final

import numpy as np

from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, SQUARE_MM
from ecg_digitize.stage1.lines import Area, lead_flat, trusted_share
from ecg_digitize.types import GridMap, Image, Mask

BESIDE_MM: Final = 10.0
"""How far rows may go on beyond the lattice: farther out bends would be made up."""
LEAST_CROSSINGS: Final = 6
"""Rows and columns of crossings that the picture must show, its outermost ones left aside."""
LEAST_BEND_PX: Final = 0.08
"""By how much the crossings must move against each other, root mean square in px of the picture.
Plotting libraries put every line on a whole pixel, and the traces between pixels. Such lines are
off by 0.29 px, and surfaces through fifty of them by 0.04 px: that is not where the traces are."""


def refined(image: Image, grid: GridMap, *, reach_mm: tuple[float, float]) -> GridMap:
    """Lead the crossings of a sheet on to its lines.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        grid: The sheet's, by its homography.
        reach_mm: Sheet xy of the end of the rows and of the last row.

    Returns:
        The refined crossings; those given where the rows reach farther than the lattice, where the
        lines do not agree with them, or where they move no more than a raster moves its lines.
    """
    lattice_mm = SQUARE_MM * np.array([GRID_COLUMNS - 1, GRID_ROWS - 1])
    inside = _inside(image, grid)
    among = _among(inside)
    if among is None or bool((np.array(reach_mm) > lattice_mm + BESIDE_MM).any()):
        return grid
    seen = replace(grid, confidence=np.asarray(inside, np.float32))
    led_on = lead_flat(image, seen, among=among)
    moved_px = (led_on.crossings_xy_px - grid.crossings_xy_px)[inside]
    return led_on if moved_px.std(axis=0).max() >= LEAST_BEND_PX else grid


def share_on_lines(image: Image, grid: GridMap) -> float | None:
    """Return the share of the crossings at which the printed lines lie where a grid has them.

    None where the picture shows too few.
    """
    among = _among(_inside(image, grid))
    return None if among is None else trusted_share(image, grid, among=among)


def _inside(image: Image, grid: GridMap) -> Mask:
    """Return (44, 57) which crossings lie inside the picture."""
    points_px, size_px = grid.crossings_xy_px, np.array(image.shape[1::-1])
    return np.asarray(((points_px >= 0) & (points_px <= size_px - 1)).all(axis=-1), np.bool_)


def _among(inside: Mask) -> Area | None:
    """Return rows and columns of crossings in the picture but the outermost; None if too few."""
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    if min(len(rows), len(columns)) < LEAST_CROSSINGS + 2:
        return None
    return slice(rows[0] + 1, rows[-1]), slice(columns[0] + 1, columns[-1])
