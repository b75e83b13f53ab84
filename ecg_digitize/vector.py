"""Traces that a PDF draws as lines, read from these lines: exactly, and not from pixels.

The networks say which row is which and about where its trace lies. A line of the page that goes
along a decoded row over most of its own length is the row's trace, or a lead of it; what it passes
through is then the reading. Each line belongs to one row, the one that it fits best, so that a
decoder which strays to a neighbour where they overlap strays alone. Columns along which no line
goes stay as they were decoded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from ecg_digitize import geometry
from ecg_digitize.frames import RECT, TRACE_X0_PX
from ecg_digitize.pdf_lines import is_straight
from ecg_digitize.sheet.read import Sheet
from ecg_digitize.sheet.read import start_mm as start_mm_of
from ecg_digitize.stage1.rectify import page_from_rect
from ecg_digitize.stage1.rows import laid_out
from ecg_digitize.types import Float32, Float64, GridMap, Trace


class VectorOptions(NamedTuple):
    """Constants of the search. A column is 0.05 mm.

    Attributes:
        far_px: Distance from the decoded line, rect px, from which on it does not matter how far.
        beside_columns: How far to both sides the decoded line is looked for: steep strokes.
        fits: Mean distance, as a share of far_px, below which a line is the row's.
        least_columns: Length of the shortest line that may be a trace.
        back_columns: How far back a line may go: steep strokes, on a sheet a little askew.
        post_columns: Width of an upright stroke at the end of a line that is none of the trace.
        apart_columns: How far apart the points of a trace are on the average, at most.
        straight_px: A line no point of which is farther from its chord is none of a trace.
        begin_columns: Between which columns from where a lead was taken to begin its line may
            begin: farther left there are pulses,
        begin_lines: how many lines must do so, if there are so many rows,
        begin_agree: and by how many columns their begins may differ, to be believed.
        dense: Points of a trace are at most so many times as far apart as they mostly are; those
            of a pulse that leads to it are farther.
    """

    far_px: float = 8.0
    beside_columns: int = 4
    fits: float = 0.4
    least_columns: int = 40
    back_columns: float = 4.0
    post_columns: float = 0.1
    apart_columns: float = 50.0
    straight_px: float = 0.05
    begin_columns: tuple[float, float] = (-30.0, 120.0)
    begin_lines: int = 3
    begin_agree: float = 1.0
    dense: float = 3.0


DEFAULTS: Final = VectorOptions()
_CHUNK: Final = 20_000  # points that are taken to the sheet at a time


@dataclass(frozen=True)
class VectorLines:
    """The lines of a page that are not straight."""

    lines_px: tuple[Float64, ...]  # (n, 2) each, page px

    def followed(
        self, grid: GridMap, trace: Trace, *, options: VectorOptions = DEFAULTS
    ) -> tuple[GridMap, Trace]:
        """Read a trace from the lines along it.

        Args:
            grid: By which the page was rectified.
            trace: As decoded from that, or by place, see ``sheet.read.read_rows``.
            options: See there.

        Returns:
            The grid, its start_mm moved to where the lines of the first leads begin, if these
            agree; and the trace in its frame, ``by_lines`` telling how much of it is from lines.
        """
        owned = _owned(_pieces(self.lines_px, grid, trace, options), trace, options)
        late_mm = float(_late_mm(owned, trace, options)[0])
        return replace(grid, start_mm=grid.start_mm + late_mm), _read(owned, trace, late_mm)

    def followed_on(
        self, sheet: Sheet, trace: Trace, *, options: VectorOptions = DEFAULTS
    ) -> tuple[Sheet, Trace]:
        """Do what ``followed`` does for a sheet of any layout, whose trace is by place.

        Each column of leads begins where its own lines do: there may be gaps between them.
        """
        owned = _owned(_pieces(self.lines_px, sheet.grid, trace, options), trace, options)
        late_mm = _late_mm(owned, trace, options)
        starts_mm = sheet.places.starts_mm + late_mm[: len(sheet.places.starts_mm)]
        places = replace(sheet.places, starts_mm=starts_mm)
        grid = replace(sheet.grid, start_mm=start_mm_of(places))
        return replace(sheet, grid=grid, places=places), _read(owned, trace, float(late_mm[0]))


def rect_from_page(grid: GridMap, xy_px: Float64) -> Float64:
    """Return the inverse of ``stage1.rectify.page_from_rect``; NaN far outside the sheet.

    Args:
        grid: The sheet.
        xy_px: (n, 2) page px.
    """
    table = laid_out(grid).crossings_xy_px

    def without_ripples(xy_px: Float64) -> Float64:
        parts = [xy_px[at : at + _CHUNK] for at in range(0, len(xy_px), _CHUNK)]
        return np.concatenate([geometry.sheet_from_page(table, part) for part in parts])

    goal_mm = without_ripples(xy_px)
    xy_mm = goal_mm.copy()
    if grid.ripple_mm is not None or grid.feed_px is not None:
        for _ in range(3):  # ripples are small and smooth
            inside = np.isfinite(xy_mm).all(axis=1)
            again_px = page_from_rect(grid, RECT.px_from_mm(xy_mm[inside]))
            xy_mm[inside] += goal_mm[inside] - without_ripples(again_px)
    return RECT.px_from_mm(xy_mm)


def _pieces(
    lines_px: tuple[Float64, ...], grid: GridMap, trace: Trace, options: VectorOptions
) -> Iterator[Float64]:
    """Yield what may be traces of some lines: (n, 2) each, column and rect y, columns rising."""
    if not lines_px:
        return
    xy = rect_from_page(grid, np.concatenate(lines_px))
    xy[:, 0] -= TRACE_X0_PX
    for line in np.split(xy, np.cumsum([len(line) for line in lines_px])[:-1]):
        for way in _one_way(line[np.isfinite(line).all(axis=1)], options.back_columns):
            piece = _without_posts(way, options.post_columns)
            is_dense = len(piece) > 2 and np.ptp(piece[:, 0]) < options.apart_columns * len(piece)
            if is_dense and not is_straight(piece, options.straight_px):
                yield np.column_stack([np.maximum.accumulate(piece[:, 0]), piece[:, 1]])


def _one_way(line: Float64, back: float) -> Iterator[Float64]:
    """Cut a line where it turns back by more than that, and let each part run to the right."""
    x, cuts, low, high, way = line[:, 0].tolist(), [0], 0, 0, 0
    for index, here in enumerate(x):
        high = index if here >= x[high] else high
        low = index if here <= x[low] else low
        if way >= 0 and x[high] - here > back:
            cuts, way, low = [*cuts, high], -1, index
        elif way <= 0 and here - x[low] > back:
            cuts, way, high = [*cuts, low], 1, index
    for start, stop in zip(cuts, [*cuts[1:], len(x) - 1], strict=True):
        part = line[start : stop + 1]
        if len(part) > 1:
            yield part if part[-1, 0] >= part[0, 0] else part[::-1]


def _without_posts(piece: Float64, wide: float) -> Float64:
    """Leave out upright strokes at the ends of a piece, which lead from one line to the next."""
    (behind,) = np.nonzero(piece[:, 0] > piece[0, 0] + wide)
    (before,) = np.nonzero(piece[:, 0] < piece[-1, 0] - wide)
    if not behind.size or not before.size:
        return piece[:0]
    return piece[behind[0] - 1 : before[-1] + 2]


def _owned(
    pieces: Iterator[Float64], trace: Trace, options: VectorOptions
) -> list[tuple[int, Float64]]:
    """Return each piece that goes along a row, with the row that it fits best: the surest first.

    The longer a piece is and the better it fits, the surer it is.
    """
    around = 2 * options.beside_columns + 1
    least = minimum_filter1d(trace.y_px, around, axis=1)
    most = maximum_filter1d(trace.y_px, around, axis=1)
    seen = trace.confidence > 0
    owned: list[tuple[float, int, Float64]] = []
    for piece in pieces:
        columns = _columns(piece[:, 0], trace.layout.n_columns)
        if len(columns) < options.least_columns:
            continue
        y_px = np.interp(columns, piece[:, 0], piece[:, 1])
        off_px = np.maximum(least[:, columns] - y_px, y_px - most[:, columns])
        off = np.clip(off_px / options.far_px, 0, 1)
        counted = seen[:, columns].sum(axis=1)
        off = np.where(seen[:, columns], off, 0).sum(axis=1) / np.maximum(counted, 1)
        off[2 * counted < len(columns)] = np.inf
        row = int(off.argmin())
        if off[row] < options.fits:
            owned.append((len(columns) * float(options.fits - off[row]), row, piece))
    owned.sort(key=lambda one: -one[0])
    return [(row, piece) for _, row, piece in owned]


def _columns(x: Float64, n_columns: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the columns that a line passes, to half a column."""
    start, stop = max(np.ceil(x[0] - 0.5), 0), min(np.floor(x[-1] + 0.5), n_columns - 1)
    return np.arange(int(start), int(stop) + 1)


def _late_mm(owned: list[tuple[int, Float64]], trace: Trace, options: VectorOptions) -> Float64:
    """Return how much farther right than they were taken to the columns of leads begin.

    A column of which too few lines begin alike begins as late as the first that tells it.
    """
    rows, (least, most) = trace.layout.rows, options.begin_columns
    late = np.full(max(len(row.segments) for row in rows), np.nan)
    for index in range(len(late)):
        expected = {
            row: trace.layout.columns(one.segments[index]).start
            for row, one in enumerate(rows)
            if index < len(one.segments)
        }
        off = []
        for row, piece in owned:
            late_by = [
                begin - expected[row] for begin in _begins(piece, options) if row in expected
            ]
            off += [one for one in late_by if least < one < most][:1]
        agree = np.abs(np.array(off) - np.median(off)) < options.begin_agree if off else np.zeros(0)
        if agree.sum() >= max(min(options.begin_lines, len(expected)), len(off) / 2):
            late[index] = np.median(off)
    told = late[np.isfinite(late)]
    late[np.isnan(late)] = told[0] if told.size else 0.0
    return late / RECT.px_per_mm_xy[0]


def _read(owned: list[tuple[int, Float64]], trace: Trace, late_mm: float) -> Trace:
    """Return a trace that begins so much later, read from the lines along it, the surest first."""
    late = late_mm * RECT.px_per_mm_xy[0]
    y_px, confidence = _moved(trace, late)
    known = np.zeros(trace.layout.shape, np.bool_)
    for row, piece in owned:
        columns = _columns(piece[:, 0] - late, trace.layout.n_columns)
        columns = columns[~known[row, columns]]
        y_px[row, columns] = np.interp(columns, piece[:, 0] - late, piece[:, 1])
        confidence[row, columns], known[row, columns] = 1.0, True
    printed = [known[row, columns] for row, columns in trace.layout.pieces]
    share = float(np.concatenate(printed).mean()) if printed else 0.0
    return replace(trace, y_px=y_px, confidence=confidence, by_lines=share)


def _begins(piece: Float64, options: VectorOptions) -> tuple[float, ...]:
    """Return the columns at which a line begins: with its first point, or behind a pulse."""
    apart = np.diff(piece[:, 0])
    (wide,) = np.nonzero(apart > options.dense * np.median(apart))
    behind = () if not wide.size else (float(piece[wide[-1] + 1, 0]),)
    return float(piece[0, 0]), *behind


def _moved(trace: Trace, late: float) -> tuple[Float32, Float32]:
    """Return where the lines of a trace are, and its confidence, some columns later."""
    columns = np.arange(trace.layout.n_columns)
    y_px, confidence = (
        np.stack([np.interp(columns + late, columns, row) for row in rows]).astype(np.float32)
        for rows in (trace.y_px, trace.confidence)
    )
    return y_px, confidence
