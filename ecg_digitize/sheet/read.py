"""Read the rows of any sheet, strip by strip, and each lead in its time.

The strip network sees one row at a time, its baseline half-way down, see ``stage2.strip``. What it
reads lies on the paper. From there each lead goes to its time: leads of a sheet may have gaps
between them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ecg_digitize import geometry
from ecg_digitize.frames import RECT, TIME_ORIGIN_MM, TRACE_FS_HZ, crossings_mm
from ecg_digitize.layout import COMPETITION, Layout, Row, Segment
from ecg_digitize.sheet.match import Match
from ecg_digitize.sheet.places import Places
from ecg_digitize.signals import find_rhythm
from ecg_digitize.stage1.rectify import EVERY_COLUMNS, rectify
from ecg_digitize.stage2.strip import STRIP_PX
from ecg_digitize.types import Float32, Float64, GridMap, Mask, Page, RectifiedPage, Trace

READ_AT_MM_PER_S: Final = COMPETITION.mm_per_s
"""Rows are read as if they were printed at this speed, and take their own afterwards."""
USUAL_MM_PER_MV: Final = COMPETITION.mm_per_mv
NEAR_MM: Final = 20.0
"""Rows are not compressed until they lie nearer to each other than this."""
USUAL_S: Final = (10.0, 5.0, 12.0, 2.5)
"""Lengths that rows are given which are off them by less than a hundredth."""
FRAME_MM: Final = 0.3
"""How far from where rows begin or end on a frame the paint hides the trace."""
UNSEEN_MM: Final = 3.0
"""Length at the end of a row that may be unseen: the next that is seen goes on."""
_MIDDLE_MM: Final = RECT.origin_mm_xy[1] + STRIP_PX / 2 / RECT.px_per_mm_xy[1]
"""Sheet y, in a strip of the rect frame's upper edge, of the row that is read."""


@dataclass(frozen=True)
class Sheet:
    """What is printed where on a sheet, as found."""

    grid: GridMap  # its crossings; start_mm is where the first column of leads begins
    match: Match
    places: Places

    @property
    def n_rows(self) -> int:
        """Rows, strips included."""
        return len(self.match.rows_mm)


def on_the_paper(sheet: Sheet) -> Layout:
    """Return the layout by place: a second is 25 mm of paper, gaps between leads are kept."""
    starts_s = (sheet.places.starts_mm - sheet.places.starts_mm[0]) / READ_AT_MM_PER_S
    lead_s = sheet.places.lead_mm / READ_AT_MM_PER_S
    return _laid_out(sheet, starts_s, lead_s, sheet.places.strip_mm / READ_AT_MM_PER_S)


def in_time(sheet: Sheet, *, mm_per_s: float, mm_per_mv: float) -> Layout:
    """Return the layout by time: columns of leads follow each other."""
    n_columns = sheet.match.family.n_columns
    whole_s = n_columns * sheet.places.lead_mm / mm_per_s
    strip_s = sheet.places.strip_mm / mm_per_s
    whole_s, strip_s = (_usual_s(seconds) for seconds in (whole_s, strip_s))
    starts_s = np.asarray(whole_s / n_columns * np.arange(n_columns), np.float64)
    layout = _laid_out(sheet, starts_s, whole_s / n_columns, strip_s)
    return replace(layout, mm_per_s=mm_per_s, mm_per_mv=mm_per_mv)


def _usual_s(seconds: float) -> float:
    nearest = min(USUAL_S, key=lambda usual: abs(usual - seconds))
    return nearest if abs(seconds - nearest) < 0.01 * nearest else round(seconds, 3)


def _laid_out(sheet: Sheet, starts_s: Float64, lead_s: float, strip_s: float) -> Layout:
    family, match = sheet.match.family, sheet.match
    rows = [
        Row(
            float(match.rows_mm[index]),
            tuple(
                _segment(lead, float(start_s), float(start_s) + lead_s)
                for lead, start_s in zip(leads, starts_s, strict=True)
            ),
        )
        for index, leads in enumerate(family.rows)
    ]
    for zero_mm, lead in zip(match.rows_mm[len(family.rows) :], match.strips, strict=True):
        whole = () if lead is None else (_segment(lead, 0.0, strip_s),)
        rows.append(Row(float(zero_mm), whole, is_strip=True))
    suffix = f"+{len(match.strips)}" if match.strips else ""
    return Layout(family.name + suffix, tuple(rows))


def _segment(lead: str, start_s: float, stop_s: float) -> Segment:
    return Segment(lead.removeprefix("-"), start_s, stop_s, -1 if lead.startswith("-") else 1)


def read_rows(
    page: Page, sheet: Sheet, read: Callable[[RectifiedPage], Trace], *, mm_per_mv: float
) -> Trace:
    """Read all rows of a sheet.

    Args:
        page: The picture.
        sheet: What is printed where.
        mm_per_mv: Its gain. Rows of a higher one than USUAL_MM_PER_MV are seen compressed.
        read: Stage 2 on a strip, see ``stages.read_rectified``.

    Returns:
        The trace as on the paper, by place, see ``on_the_paper``.
    """
    layout = _whole(on_the_paper(sheet))
    y_px = np.empty(layout.shape, np.float32)
    confidence, shown = np.zeros(layout.shape, np.float32), np.zeros(layout.shape, np.bool_)
    taller = _taller(sheet.match.rows_mm, mm_per_mv)
    for index, row in enumerate(layout.rows):
        trace = read(_strip(page, sheet.grid, row, taller))
        n = trace.layout.n_columns  # of this row: strips may be longer or shorter than the leads
        y_px[index] = layout.zero_px[index]
        off_px = trace.y_px[0] - np.float32(trace.layout.zero_px[0])
        y_px[index, :n] += np.float32(taller) * off_px
        confidence[index, :n] = trace.confidence[0]
        shown[index, :n] = True if trace.shown is None else trace.shown[0]
    _held_at_ends(y_px, confidence, shown, sheet)
    return Trace(y_px, confidence, layout, shown)


def _taller(rows_mm: Float64, mm_per_mv: float) -> float:
    """Return by how much rows are compressed: not so much that neighbours come too near."""
    apart_mm = float(np.diff(rows_mm).min()) if len(rows_mm) > 1 else np.inf
    return max(min(mm_per_mv / USUAL_MM_PER_MV, apart_mm / NEAR_MM), 1.0)


def _strip(page: Page, grid: GridMap, row: Row, taller: float) -> RectifiedPage:
    """Show a row alone, its baseline at _MIDDLE_MM, so many times less tall than printed."""
    mm = crossings_mm()
    mm[..., 1] = row.zero_mm + taller * (mm[..., 1] - _MIDDLE_MM)
    table = geometry.page_from_sheet(grid.crossings_xy_px, mm)
    alone = replace(grid, crossings_xy_px=table.astype(np.float32))
    layout = Layout("strip", (replace(row, zero_mm=_MIDDLE_MM),))
    return rectify(page, alone, layout=layout, height_px=STRIP_PX)


def _held_at_ends(y_px: Float32, confidence: Float32, shown: Mask, sheet: Sheet) -> None:
    """Hold the rows where they begin and end unseen, or where a frame was painted over.

    What a decoder finds there is dirt, or the ink of something else. Where the picture ends so
    little before a row does, its line is held too.
    """
    on_frame, reach = (
        round(length_mm * RECT.px_per_mm_xy[0]) for length_mm in (FRAME_MM, UNSEEN_MM)
    )
    places = sheet.places
    for index, rows in enumerate(zip(y_px, confidence, shown, strict=True)):
        is_strip = index >= len(sheet.match.family.rows)
        length_mm = places.strip_mm if is_strip else places.end_mm - float(places.starts_mm[0])
        end = min(round(length_mm * RECT.px_per_mm_xy[0]), y_px.shape[1])
        for side, is_framed in zip((1, -1), places.framed, strict=True):
            outward, seen, inside = (row[:end][::side] for row in rows)  # views from this end
            seen[: on_frame if is_framed else 0] = 0.0
            seen[:reach][~inside[:reach]] = 0.0
            (known,) = np.nonzero(seen[:reach] > 0)
            if known.size:
                outward[: known[0]] = outward[known[0]]
                inside[: known[0]] = True


def timed(trace: Trace, sheet: Sheet, layout: Layout) -> Trace:
    """Take a trace from the paper to its time.

    Args:
        trace: By place, see ``read_rows``.
        sheet: What is printed where.
        layout: The sheet's by time, see ``in_time``.

    Returns:
        The trace; rows lie on their zero lines, unseen, where nothing is printed.
    """
    zero_px = np.array(layout.zero_px, np.float32)[:, None]
    y_px = np.repeat(zero_px, layout.n_columns, axis=1)
    confidence, shown = np.zeros(layout.shape, np.float32), np.zeros(layout.shape, np.bool_)
    step = layout.mm_per_s / READ_AT_MM_PER_S  # trace columns on the paper a column in time
    paper = on_the_paper(sheet)
    at_paper = np.arange(trace.layout.n_columns)
    for index, (row, by_place) in enumerate(zip(layout.rows, paper.rows, strict=True)):
        pairs = list(zip(row.segments, by_place.segments, strict=True))
        if row.is_strip and not pairs:  # its lead may still be found
            pairs = [(Segment("II", 0.0, layout.duration_s), Segment("II", 0.0, paper.duration_s))]
        for segment, place in pairs:
            columns = layout.columns(segment)
            at = place.start_s * TRACE_FS_HZ + step * np.arange(columns.stop - columns.start)
            at = np.minimum(at, len(at_paper) - 1)
            y_px[index, columns] = zero_px[index] + np.interp(
                at, at_paper, trace.y_px[index] - trace.layout.zero_px[index]
            )
            confidence[index, columns] = np.interp(at, at_paper, trace.confidence[index])
            nearest = np.rint(at).astype(np.int64)
            shown[index, columns] = True if trace.shown is None else trace.shown[index, nearest]
    return replace(trace, y_px=y_px, confidence=confidence, layout=layout, shown=shown)


def with_strips(paper: Trace) -> Trace:
    """Find the leads of those strips whose names were not read: which leads they repeat.

    Args:
        paper: By time, see ``timed``.

    Returns:
        The trace; strips that repeat no lead still have none.
    """
    layout = paper.layout
    for index, row in enumerate(layout.rows):
        if not row.is_strip or row.segments:
            continue
        others = [
            replace(other, is_strip=k == index, segments=() if other.is_strip else other.segments)
            for k, other in enumerate(layout.rows)
        ]
        lead = find_rhythm(_cut(paper, replace(layout, rows=tuple(others))), otherwise=None)
        if lead is not None:
            rows = list(layout.rows)
            rows[index] = replace(row, segments=(Segment(lead, 0.0, layout.duration_s),))
            layout = replace(layout, rows=tuple(rows))
    return replace(paper, layout=layout)


def _cut(trace: Trace, layout: Layout) -> Trace:
    """Give a trace a layout that is shorter: that of its leads, without its strips."""
    n = layout.n_columns
    shown = None if trace.shown is None else trace.shown[:, :n]
    return Trace(trace.y_px[:, :n], trace.confidence[:, :n], layout, shown)


def _whole(layout: Layout) -> Layout:
    """Return the layout with its last segments somewhat longer: a whole number of steps."""
    step_s = EVERY_COLUMNS / TRACE_FS_HZ
    until_s = step_s * np.ceil(layout.duration_s / step_s - 1e-6)
    rows = []
    for row in layout.rows:
        segments = row.segments or (Segment("II", 0.0, until_s),)
        rows.append(replace(row, segments=(*segments[:-1], replace(segments[-1], stop_s=until_s))))
    return replace(layout, rows=tuple(rows))


def start_mm(places: Places) -> float:
    """Return GridMap.start_mm of a sheet whose first column of leads begins at places."""
    return float(places.starts_mm[0]) - TIME_ORIGIN_MM
