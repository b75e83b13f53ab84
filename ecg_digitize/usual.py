"""Is it the competition's sheet? What it is read by, and what speaks against it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from ecg_digitize.doubts import DEFAULTS as DOUBTS
from ecg_digitize.doubts import grid_confidence, grid_doubts, has_gaps
from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, SQUARE_MM
from ecg_digitize.geometry import jacobian
from ecg_digitize.layout import COMPETITION, NAME_KEYS, Layout
from ecg_digitize.runtime import side_by_side
from ecg_digitize.sheet.find import DEFAULTS as FIND
from ecg_digitize.sheet.find import FoundSheet, Reader, placed_names
from ecg_digitize.sheet.flat import flat_sheet
from ecg_digitize.sheet.match import PlacedName, contradicts
from ecg_digitize.sheet.scale import find_squares
from ecg_digitize.sheet.text import NOTHING_TOLD, Told, cut_lines, told_by
from ecg_digitize.stage0.normalize import CENTRE_MM, unstretched
from ecg_digitize.stage1.ends import find_ends
from ecg_digitize.stage1.pulses import Pulse, find_pulses
from ecg_digitize.types import Float64, GridMap, Image, Page, Registration, Trace

CUT_FROM_IT: Final = ("3x4", "3x2 limb", "3x2 chest")
"""Families that a part of the competition's sheet is taken for."""
STRETCHED: Final = 0.06
"""Logarithm of the sides of a square, as names have it, from which on the rows lie elsewhere."""


@dataclass(frozen=True)
class Usual:
    """What the competition's sheet is read by."""

    registration: Registration
    grid: GridMap
    pulses: tuple[Pulse, ...] = ()
    ends_mm: Float64 | None = None  # see stage1.ends; None where the sheet is known
    names: tuple[PlacedName, ...] = ()  # as they are printed, wherever
    told: Told = NOTHING_TOLD


def names_fit(registration: Registration | None) -> bool:
    """Say whether as many lead names are where the competition has them as on its sheets."""
    return registration is not None and registration.n_inliers >= DOUBTS.names


def is_square(image: Image, registration: Registration | None) -> bool:
    """Say whether printed squares are square where lead names say that the sheet lies.

    Where the rows of a sheet lie closer or farther apart than the competition's, they are not.
    """
    if registration is None:
        return False
    if unstretched(registration) is None:
        return True
    squares = find_squares(image)
    if squares is None or squares.confidence < FIND.sure_grid:
        return True
    to_page, to_squares = registration.page_from_sheet, np.linalg.inv(squares.page_from_sheet)
    by_names = jacobian(np.asarray(to_squares @ to_page), CENTRE_MM)
    longest, shortest = np.linalg.svd(by_names, compute_uv=False)
    return bool(np.log(longest / shortest) < STRETCHED)


def has_scale(usual: Usual) -> bool:
    """Say whether anything tells the scale: printed lines, or the competition's names."""
    return bool(np.isfinite(usual.grid.residual_px)) or names_fit(usual.registration)


def no_scale(page: Page, usual: Usual) -> str:
    """Return what to tell of a page of which nothing tells the scale."""
    return (
        f"{page.source}: expected grid lines, or lead names where the competition has them, that "
        f"tell the scale, but found no grid and {usual.registration.n_inliers} of "
        f"{len(NAME_KEYS)} names; scan it finer or in colour"
    )


def unexplained(page: Page) -> str:
    """Return what to tell of a page that shows no sheet of any layout."""
    return (
        f"{page.source}: expected an ECG with a grid and lead names, but no layout explains what "
        "was read; retake the picture with the whole sheet in view, flat and in focus, or say "
        "which layout it is with --layout"
    )


def with_calibration(page: Page, usual: Usual, reader: Reader | None) -> Usual:
    """Look for pulses, for where the traces begin, and for what is printed."""

    def measured() -> Usual:
        pulses = find_pulses(page.image, usual.grid, COMPETITION)
        ends_mm = find_ends(page.image, usual.grid, COMPETITION, pulses)
        return replace(usual, pulses=pulses, ends_mm=ends_mm)

    if reader is None:
        return measured()
    looks: tuple[Callable[[], Usual], ...] = (partial(with_print, page, usual, reader), measured)
    printed, drawn = side_by_side(lambda look: look(), looks)
    return replace(drawn, names=printed.names, told=printed.told)


def looks_usual(page: Page, usual: Usual) -> bool:
    """Say whether a page shows the competition's sheet: its grid, its rows, its names, no gaps."""
    if usual.grid.rows_mm is not None or has_gaps_in(usual):
        return False
    if any(grid_doubts(page.image, usual.registration, usual.grid)):
        return False
    return not contradicts(usual.names, COMPETITION)


def with_print(page: Page, usual: Usual, reader: Reader) -> Usual:
    """Read what is printed on the sheet."""
    size_mm = SQUARE_MM * (GRID_COLUMNS - 1), SQUARE_MM * (GRID_ROWS - 1)
    flat = flat_sheet(page.image, usual.grid, size_mm)
    names = placed_names(reader.names(flat.seen), flat)
    return replace(usual, names=names, told=told_by(reader.lines(cut_lines(page.image, flat))))


def is_cut(page: Page, found: FoundSheet, usual: Usual) -> bool:
    """Say whether a sheet is the competition's after all, of which the picture shows a part.

    Its rows lie where the competition's do, and it has the same layout: three rows of four. Without
    a grid nobody knows where they lie.
    """
    if not found.confidence and grid_confidence(page.image, usual.grid) < DOUBTS.grid:
        return False
    at_home = usual.grid.rows_mm is None and np.isfinite(usual.grid.residual_px)
    return at_home and may_be_cut(found) and not has_gaps_in(usual)


def may_be_cut(found: FoundSheet) -> bool:
    """Say whether a sheet may be a part of the competition's: it has no more strips than that."""
    match = found.sheet.match
    return match.family.name in CUT_FROM_IT and len(match.strips) <= 1


def has_gaps_in(usual: Usual) -> bool:
    """Say whether the rows have gaps between their leads; the competition's have none."""
    return usual.ends_mm is not None and has_gaps(usual.ends_mm)


def layout_seen(paper: Trace) -> Layout:
    """Return the layout of a reading without the strip, if that lies outside the picture.

    Many sheets that are laid out as the competition's have none.
    """
    layout, shown = paper.layout, paper.shown
    if shown is None:
        return layout
    rows = tuple(
        row
        for row, on_picture in zip(layout.rows, shown, strict=True)
        if not row.is_strip or row.segments or on_picture.mean() > DOUBTS.missing
    )
    if len(rows) == layout.n_rows:
        return layout
    return replace(layout, name=layout.name.partition("+")[0], rows=rows)
