"""Where things lie on a sheet, as somebody marked them in the picture.

What the search of ``find`` gets wrong, a person sees at a glance: where the grid lies, where the
rows and the columns of leads are, what is printed. ``marks_of`` gives the marks of a reading, to be
moved; ``marked`` reads a sheet by them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ecg_digitize import geometry
from ecg_digitize.errors import InputError
from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, SQUARE_MM, TIME_ORIGIN_MM
from ecg_digitize.layout import LEADS
from ecg_digitize.layouts import Family, family_named, single
from ecg_digitize.sheet.flat import FLAT_PX_PER_MM, MAX_SIDE_MM, FlatSheet, lay_flat, strokes_of
from ecg_digitize.sheet.match import DEFAULTS as MATCH
from ecg_digitize.sheet.places import ink_ends_mm
from ecg_digitize.sheet.read import READ_AT_MM_PER_S
from ecg_digitize.sheet.rows import find_rows
from ecg_digitize.sheet.scale import find_squares
from ecg_digitize.types import Digitization, Float64, GridMap, Page

MOST_STRIPS: Final = MATCH.most_strips
MOST_PX: Final = 1e6
LEAST_AREA_PX: Final = 100.0
"""Of the parallelogram that two sides at a corner make, px squared."""
MOST_SQUARES: Final = round(MAX_SIDE_MM / SQUARE_MM)
"""Squares between two marked corners at most."""
LEAST_ROW_MM: Final = 50.0
_ROWS_WITH_STRIP: Final = 3
GUESSED_WIDTH_MM: Final = 280.0
"""Width of a picture that shows no grid,
and between which shares of the picture its rows are guessed."""
GUESSED_SHARE: Final = (0.08, 0.92)
ROUND_MM: Final = 10.0
"""How far beyond the rows and the columns of leads the corners of a reading are given."""


@dataclass(frozen=True)
class Marks:
    """What somebody marked. Points are page px; (1, 1) is the centre of the second pixel."""

    family: Family
    corners_px: Float64  # (4, 2) crossings of 5 mm lines, clockwise from the upper left one
    squares: tuple[int, int]  # 5 mm squares between these, across and down
    zeros_px: Float64  # (rows + strips, 2) a point on each baseline, from the top
    borders_px: Float64  # (columns + 1, 2) where columns of leads begin, and where the last ends
    strips: tuple[str | None, ...] = ()  # leads of the strips; None asks which lead one repeats
    grid: GridMap | None = field(default=None, compare=False)
    """The grid of an earlier reading, where nobody moved its corners."""

    def __post_init__(self) -> None:
        """Check that they can be.

        Raises:
            InputError: They cannot.
        """
        n_rows = len(self.family.rows) + len(self.strips)
        for name, points, n in (
            ("corners", self.corners_px, 4),
            ("baselines", self.zeros_px, n_rows),
            ("borders", self.borders_px, self.family.n_columns + 1),
        ):
            if points.shape != (n, 2):
                raise InputError(
                    f"marks: expected {n} points as {name} of {self.family.name} with "
                    f"{len(self.strips)} strips, but got {points.shape[0]}"
                )
            if not (np.abs(points) <= MOST_PX).all():
                raise InputError(f"marks: expected {name} near the picture, but one is far away")
        sides_px = np.roll(self.corners_px, -1, axis=0) - self.corners_px
        before_px = np.roll(sides_px, 1, axis=0)
        turns = before_px[:, 0] * sides_px[:, 1] - before_px[:, 1] * sides_px[:, 0]
        if not (turns > LEAST_AREA_PX).all():
            raise InputError(
                "marks: expected four corners clockwise from the upper left one, none of them "
                "inside the others or on a line with them"
            )
        if len(self.strips) > MOST_STRIPS:
            raise InputError(
                f"marks: expected at most {MOST_STRIPS} strips, but got {len(self.strips)}"
            )
        if not all(1 <= n <= MOST_SQUARES for n in self.squares):
            raise InputError(
                f"marks: expected 1 to {MOST_SQUARES} squares between corners, but got "
                f"{self.squares[0]} x {self.squares[1]}"
            )
        for lead in self.strips:
            if lead is not None and lead not in LEADS:
                raise InputError(f'marks: expected a lead as a strip, but got "{lead}"')

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; ``marks_from`` reads it."""
        told = {name: value for name, value in vars(self).items() if name not in ("family", "grid")}
        points = {name: v.tolist() for name, v in told.items() if isinstance(v, np.ndarray)}
        return {"layout": self.family.full_name, **told, **points}


def marks_from(document: Mapping[str, Any], *, grid: GridMap | None = None) -> Marks:
    """Return the marks of ``Marks.to_json``.

    Args:
        document: See there.
        grid: See ``Marks.grid``.

    Raises:
        InputError: They cannot be.
    """
    try:
        family = family_named(str(document["layout"]))
        assert family is not None
        across, down = (int(n) for n in document["squares"])
        return Marks(
            family,
            np.array(document["corners_px"], np.float64),
            (across, down),
            np.array(document["zeros_px"], np.float64),
            np.array(document["borders_px"], np.float64),
            tuple(None if lead is None else str(lead) for lead in document.get("strips", ())),
            grid,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"marks: expected what Marks.to_json gives ({error!r})") from error


def marks_of(digitization: Digitization, page: Page) -> Marks:
    """Return where a reading has everything, so that it can be moved.

    Args:
        digitization: The reading.
        page: Its picture; the corners lie inside it if they can.
    """
    recording, grid = digitization.recording, digitization.grid
    layout, by_place = recording.layout, digitization.trace.layout
    rows = [row for row in layout.rows if not row.is_strip]
    strips = [row for row in layout.rows if row.is_strip]
    starts_s = np.array([segment.start_s for segment in by_place.rows[0].segments])
    starts_mm = TIME_ORIGIN_MM + grid.start_mm + READ_AT_MM_PER_S * starts_s
    last = rows[0].segments[-1]
    end_mm = starts_mm[-1] + (last.stop_s - last.start_s) * layout.mm_per_s
    # A strip that lies outside the picture has no row in the recording.
    zeros_mm = grid.zero_mm(by_place)[: layout.n_rows]
    name = layout.name.partition("+")[0]
    printed = rows[0].segments[0]
    alone = single(printed.lead if printed.sign > 0 else f"-{printed.lead}")
    family = alone if name == alone.name else family_named(name)
    assert family is not None
    strip_leads = tuple(row.leads[0] if row.leads else None for row in strips)
    return _marks_at(page, grid, family, zeros_mm, np.append(starts_mm, end_mm), strip_leads)


def guessed_marks(page: Page, *, family: Family) -> Marks:
    """Return marks for a picture that could not be read, to be moved.

    They lie on the squares and on the rows that are seen, or else are spread over the picture.

    Args:
        page: The picture.
        family: What may be printed; with three rows there is a rhythm strip below them.
    """
    strips = (None,) if len(family.rows) == _ROWS_WITH_STRIP else ()
    n_rows = len(family.rows) + len(strips)
    squares = find_squares(page.image)
    px_per_mm = page.image.shape[1] / GUESSED_WIDTH_MM
    page_from_sheet = (
        np.diag([px_per_mm, px_per_mm, 1.0]) if squares is None else squares.page_from_sheet
    )
    flat = lay_flat(page.image, page_from_sheet)
    if flat is None:  # a picture of a very large sheet, or of none
        flat = lay_flat(page.image, np.diag([px_per_mm, px_per_mm, 1.0]))
        assert flat is not None
    zeros_mm, ends_mm = _seen_rows(flat, n_rows) or _spread_rows(flat, n_rows)
    borders_mm = np.linspace(*ends_mm, family.n_columns + 1)
    return _marks_at(page, flat.grid, family, zeros_mm, borders_mm, strips)


def _seen_rows(flat: FlatSheet, n_rows: int) -> tuple[Float64, tuple[float, float]] | None:
    """Return where the rows with most ink lie, and where they begin and end; None with too few."""
    lines = strokes_of(flat.ink, px_per_mm=FLAT_PX_PER_MM).lines
    rows_mm, weights = find_rows(lines, px_per_mm=FLAT_PX_PER_MM)
    if len(rows_mm) < n_rows:
        return None
    zeros_mm = np.sort(rows_mm[np.argsort(weights)[-n_rows:]])
    _, ends_mm = ink_ends_mm(lines, zeros_mm, (), px_per_mm=FLAT_PX_PER_MM)
    begin_mm, end_mm = np.nanmedian(ends_mm, axis=0)
    return (zeros_mm, (begin_mm, end_mm)) if end_mm - begin_mm > LEAST_ROW_MM else None


def _spread_rows(flat: FlatSheet, n_rows: int) -> tuple[Float64, tuple[float, float]]:
    """Return rows spread over the picture."""
    y, x = np.nonzero(flat.inside[::4, ::4])
    low, high = GUESSED_SHARE
    (left, right), (top, bottom) = (
        (1 - np.array([low, high])) * at.min() + np.array([low, high]) * at.max()
        for at in (4 * x / FLAT_PX_PER_MM, 4 * y / FLAT_PX_PER_MM)
    )
    return np.linspace(top, bottom, n_rows), (left, right)


def _marks_at(
    page: Page,
    grid: GridMap,
    family: Family,
    zeros_mm: Float64,
    borders_mm: Float64,
    strips: tuple[str | None, ...],
) -> Marks:
    """Return marks where rows and borders lie on a sheet, corners round them."""
    zeros = np.column_stack([np.full(len(zeros_mm), borders_mm[0]), zeros_mm])
    borders = np.column_stack([borders_mm, np.full(len(borders_mm), zeros_mm.mean())])
    low_mm = np.array([borders_mm[0] - ROUND_MM, zeros_mm[0] - ROUND_MM])
    high_mm = np.array([borders_mm[-1] + ROUND_MM, zeros_mm[-1] + ROUND_MM])
    squares, corners_px = _corners(page, grid, low_mm, high_mm)
    zeros_px, borders_px = (
        np.round(geometry.page_from_sheet(grid.crossings_xy_px, xy_mm), 2)
        for xy_mm in (zeros, borders)
    )
    return Marks(family, corners_px, squares, zeros_px, borders_px, strips, grid)


def _corners(
    page: Page, grid: GridMap, low_mm: Float64, high_mm: Float64
) -> tuple[tuple[int, int], Float64]:
    """Return the squares and the page px of the crossings about two points of a sheet.

    They are moved inwards until they lie inside the picture, where that is possible.
    """
    most = np.array([GRID_COLUMNS - 1, GRID_ROWS - 1])
    first = np.clip(np.floor(low_mm / SQUARE_MM), 0, most - 1).astype(int)
    last = np.clip(np.ceil(high_mm / SQUARE_MM), first + 1, most).astype(int)
    size_px = np.array(page.image.shape[1::-1])
    while True:
        (left, top), (right, bottom) = first, last
        corners_px = grid.crossings_xy_px[[top, top, bottom, bottom], [left, right, right, left]]
        beyond = (corners_px < 0) | (corners_px > size_px - 1)
        outside = np.asarray(beyond.any(axis=1), np.bool_)
        moves = [  # for each side of the sheet: its corners, and what is moved inwards
            (outside[[3, 0]], first, 0, 1),
            (outside[[0, 1]], first, 1, 1),
            (outside[[1, 2]], last, 0, -1),
            (outside[[2, 3]], last, 1, -1),
        ]
        moved = False
        for here, edge, axis, step in moves:
            if here.all() and (last - first)[axis] > 1:
                edge[axis] += step
                moved = True
        if not moved and outside.any() and (last - first).min() > 1:
            first, last, moved = first + 1, last - 1, True
        if not moved:
            across, down = (int(n) for n in last - first)
            return (across, down), np.asarray(corners_px.astype(np.float64).round(2), np.float64)
