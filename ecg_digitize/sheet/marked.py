"""How a sheet is read on which somebody marked where everything lies."""

from dataclasses import replace
from typing import Final

import numpy as np

from ecg_digitize import geometry
from ecg_digitize.errors import StageError
from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, SQUARE_MM, TIME_ORIGIN_MM
from ecg_digitize.layout import COMPETITION
from ecg_digitize.models import Models, reader_of
from ecg_digitize.sheet.bent import unbent
from ecg_digitize.sheet.find import FoundSheet, placed_names, pulses_of
from ecg_digitize.sheet.flat import (
    FLAT_PX_PER_MM,
    MAX_SIDE_MM,
    flat_sheet,
    lay_flat,
    strokes_of,
)
from ecg_digitize.sheet.lattice import refined, share_on_lines
from ecg_digitize.sheet.marks import Marks
from ecg_digitize.sheet.match import Match
from ecg_digitize.sheet.places import DEFAULTS as PLACES
from ecg_digitize.sheet.places import Places
from ecg_digitize.sheet.read import Sheet, start_mm
from ecg_digitize.sheet.sift import without_text
from ecg_digitize.sheet.text import cut_lines, told_by
from ecg_digitize.stage1.grid import unseen_grid
from ecg_digitize.stage1.lines import SURE_SHARE
from ecg_digitize.types import Float64, GridMap, Image, Page

LEAST_LEAD_MM: Final = 5.0
BEYOND_MM: Final = 25.0
"""How much of the sheet beyond the first and last row, and the last column, is looked at."""
LATTICE_MM: Final = SQUARE_MM * np.array([GRID_COLUMNS - 1, GRID_ROWS - 1])


def marked_sheet(page: Page, marks: Marks, models: Models) -> FoundSheet:
    """Return the sheet that marks tell of.

    Args:
        page: The picture.
        marks: What somebody marked in it.
        models: The networks, which read what is printed: speed and gain, if nobody tells these.

    Raises:
        StageError: The marks make no sheet, or networks are missing.
    """
    reader = reader_of(models)
    if reader is None:
        raise StageError("sheet", f"{page.source}: the weights that read such sheets are missing")
    grid = _grid_of(page, marks, models)
    zeros_mm, borders_mm = _on_sheet(marks, grid)
    starts_mm, lengths_mm = borders_mm[:-1], np.diff(borders_mm)
    if not (np.diff(zeros_mm) > 0).all():
        raise StageError("sheet", f"{page.source}: the baselines must lie one below the other")
    if not (lengths_mm > LEAST_LEAD_MM).all():
        raise StageError(
            "sheet",
            f"{page.source}: expected the borders of leads from the left, at least "
            f"{LEAST_LEAD_MM:g} mm apart by the grid that is marked, but they are "
            f"{np.array2string(lengths_mm, precision=1)} mm apart",
        )
    family = marks.family
    n_leads = len(family.rows) * family.n_columns
    match = Match(
        family,
        zeros_mm,
        np.ones(len(zeros_mm)),
        marks.strips,
        np.full(family.n_columns, np.nan),
        score=float(n_leads),
        named=n_leads,
        n_leads=n_leads,
    )
    has_gaps = _has_gaps(borders_mm)
    lead_mm = float(lengths_mm[-1] if has_gaps else lengths_mm.mean())
    places = Places(starts_mm, lead_mm, family.n_columns * lead_mm, has_gaps)
    size_mm = np.array([borders_mm[-1], zeros_mm[-1]]) + BEYOND_MM
    width_mm, height_mm = (float(one) for one in np.clip(size_mm, LATTICE_MM, MAX_SIDE_MM))
    flat = flat_sheet(page.image, grid, (width_mm, height_mm))
    names = placed_names(reader.names(flat.seen), flat)
    text = reader.lines(cut_lines(page.image, flat))
    return FoundSheet(
        Sheet(replace(grid, start_mm=start_mm(places)), match, places),
        flat,
        without_text(strokes_of(flat.ink, px_per_mm=FLAT_PX_PER_MM), text),
        pulses_of(page.image, flat, match),
        names,
        told_by(text),
        confidence=_confidence(page.image, grid),
        image=page.image,
        is_marked=True,
    )


def _confidence(image: Image, grid: GridMap) -> float:
    """Return how sure a marked grid is: by the share of its crossings that lie on printed lines.

    Where the picture shows too few of them, somebody's word is all there is.
    """
    share = share_on_lines(image, grid)
    return 1.0 if share is None else min(1.0, share / SURE_SHARE)


def _on_sheet(marks: Marks, grid: GridMap) -> tuple[Float64, Float64]:
    """Return sheet y of the baselines, and sheet x of the borders, by a grid."""
    zeros_mm, borders_mm = (
        geometry.sheet_from_page(grid.crossings_xy_px, points)
        for points in (marks.zeros_px, marks.borders_px)
    )
    return zeros_mm[:, 1], borders_mm[:, 0]


def _has_gaps(borders_mm: Float64) -> bool:
    """Say whether columns of leads begin farther apart than the last one is long."""
    lengths_mm = np.diff(borders_mm)
    return bool((lengths_mm[:-1] > lengths_mm[-1] + PLACES.gap_mm).any())


def _grid_of(page: Page, marks: Marks, models: Models) -> GridMap:
    """Return the grid that is known, or else the one that the corners lead to.

    Where the lines agree with the corners the sheet is flat. Where they do not, the paper bends
    between these.
    """
    if marks.grid is not None:
        return replace(marks.grid, rows_mm=None, start_mm=0.0, ripple_mm=None)
    page_from_sheet = _by_corners(page, marks)
    flat = unseen_grid(page_from_sheet)
    rows_mm, columns_mm = _on_sheet(marks, flat)
    if _has_gaps(columns_mm):  # each column of leads may have a grid of its own
        return flat
    led_on = refined(page.image, flat, reach_mm=(columns_mm[-1], rows_mm[-1]))
    return unbent(page.image, led_on, models)


def _by_corners(page: Page, marks: Marks) -> Float64:
    """Return the (3, 3) homography from sheet mm to page px that the corners tell.

    It has the rows and the columns of leads where the competition's sheet has them, to whole
    squares: stage 1 knows sheets that lie so.
    """
    across_mm, down_mm = (SQUARE_MM * n for n in marks.squares)
    corners_mm = np.array([[0, 0], [across_mm, 0], [across_mm, down_mm], [0, down_mm]])
    page_from_sheet = geometry.fit_homography(corners_mm, marks.corners_px)
    if lay_flat(page.image, page_from_sheet) is None:
        raise StageError(
            "sheet",
            f"{page.source}: {marks.squares[0]} x {marks.squares[1]} squares between these corners "
            f"make the picture larger than {MAX_SIDE_MM:g} mm; mark other corners, or count anew",
        )
    sheet_from_page = np.asarray(np.linalg.inv(page_from_sheet))
    zeros_mm = geometry.apply_homography(sheet_from_page, marks.zeros_px)[:, 1]
    left_mm = geometry.apply_homography(sheet_from_page, marks.borders_px)[0, 0]
    middle_mm = 0.5 * (COMPETITION.zero_mm[0] + COMPETITION.zero_mm[-1])
    down_by_mm = max(middle_mm - 0.5 * (zeros_mm[0] + zeros_mm[-1]), BEYOND_MM - zeros_mm[0])
    by_mm = np.array([TIME_ORIGIN_MM - left_mm, down_by_mm])
    by_mm = SQUARE_MM * np.rint(by_mm / SQUARE_MM)
    return np.asarray(page_from_sheet @ np.array([[1, 0, -by_mm[0]], [0, 1, -by_mm[1]], [0, 0, 1]]))
