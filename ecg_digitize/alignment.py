"""When things were recorded, by what the limb leads know of each other.

Lead I + III is II, and the augmented leads sum to zero: where the one ends and the other begins is
where the first leads end, which is sure on sheets whose names stand anywhere.

Many machines print on paper whose grid is printed already, and pull it in a little crooked: the
traces are then turned against the grid by up to half a degree, which sets rows 36 mm apart off by
10 to 20 ms. On one row nothing is amiss; but lead II would no longer be I + III, nor the strip what
it repeats. The one angle at which they agree best is the angle of the print.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import LEADS, Layout
from ecg_digitize.limb import EINTHOVEN, GOLDBERGER, REPEATED, relations
from ecg_digitize.signals import find_rhythm, rows_from_trace, to_recording
from ecg_digitize.stage1.rows import levelled
from ecg_digitize.types import Float32, Float64, GridMap, Trace

MOST: Final = 0.03
"""Steepest skew looked for, mm along time a mm down; 0.012 was seen on phone photos."""
STEP: Final = 0.001
BETTER: Final = 0.8
"""Share of the disagreement that an angle may leave to be believed; where nothing is askew the best
one leaves more than 0.9, where the traces are 0.1 to 0.6."""
LOST_MV: Final = 0.3  # of disagreement: more is a lost beat, which no angle brings back
START_REACH: Final = 150  # columns, 0.3 s: names stand up to a square and a half off
START_GAIN_MV: Final = 0.03
"""How much less the leads must disagree in what is given to the other side."""
LEAST_START_MM: Final = 1.0
BEGINNING: Final = 75  # columns, 0.15 s
APART: Final = np.arange(-6, 7)
"""Columns, 2 ms each, by which a row may be read late: a fold between two rows sets them so far
apart in time, and steep strokes of a true beat then disagree."""
SETTLED_MV: Final = 0.1  # of disagreement that does not speak of pulses any more
_SEEN: Final = 0.5
_SUMS: Final = (EINTHOVEN, GOLDBERGER, REPEATED)


@dataclass(frozen=True)
class Reading:
    """Traces as they were read by a grid, and set in time."""

    grid: GridMap
    trace: Trace  # as rectified
    paper: Trace  # as on the paper
    upright: Trace  # as on the paper, recorded at once in one column; its layout has the strip
    einthoven_mv: float


def on_paper(grid: GridMap, trace: Trace, layout: Layout) -> Trace:
    """Take a trace that was read at 25 mm/s back to the paper, its speed and its gain.

    Args:
        grid: The sheet as it is.
        trace: As rectified.
        layout: The trace's, calibrated.
    """
    trace = levelled(trace, grid)
    if trace.layout.mm_per_s == layout.mm_per_s:
        return replace(trace, layout=layout)
    at = np.arange(layout.n_columns) * layout.mm_per_s / trace.layout.mm_per_s
    columns = np.arange(trace.layout.n_columns)
    y_px, confidence = (
        np.stack([np.interp(at, columns, row) for row in rows]).astype(np.float32)
        for rows in (trace.y_px, trace.confidence)
    )
    nearest = np.minimum(np.rint(at).astype(np.int64), len(columns) - 1)
    shown = None if trace.shown is None else trace.shown[:, nearest]
    return replace(trace, y_px=y_px, confidence=confidence, layout=layout, shown=shown)


def set_in_time(grid: GridMap, trace: Trace, layout: Layout, rhythm: str | None) -> Reading:
    """Find the strip's lead, unless it is known, and the skew of the print.

    Args:
        grid: The sheet as it is.
        trace: As rectified, read at 25 mm/s.
        layout: What is printed where, at its own speed and gain.
        rhythm: The lead of the strip; None if it is unknown.
    """
    paper = on_paper(grid, trace, layout)
    if rhythm is None:
        usual = grid.rows_mm is None
        rhythm = find_rhythm(paper, otherwise="II" if usual else None)
    return set_upright_in_time(grid, trace, replace(paper, layout=paper.layout.with_strip(rhythm)))


def set_upright_in_time(grid: GridMap, trace: Trace, paper: Trace) -> Reading:
    """Find the skew of a print whose strips are known, and take it out.

    Args:
        grid: The sheet as it is.
        trace: As rectified.
        paper: As on the paper, at its own speed and gain.
    """
    skew = find_skew(paper, grid)
    upright = without_pulses(set_upright(paper, grid, skew))
    plain = to_recording(upright, fs_hz=TRACE_FS_HZ)
    einthoven_mv = einthoven_residual_mv(plain.signals_mv, remove_offset=True)
    return Reading(grid, trace, paper, upright, einthoven_mv)


def find_start(paper: Trace) -> float:
    """Find where the traces begin, by where the first leads of the rows give way to the second.

    Args:
        paper: As on the paper, rect-frame px.

    Returns:
        mm farther right than they were taken to begin; 0 unless the limb leads clearly say so.
    """
    rows_mv, layout = rows_from_trace(paper), paper.layout
    first, second = (relations(layout, (limb,)) for limb in (EINTHOVEN, GOLDBERGER))
    if not first or not second or first[0].window.stop != second[0].window.start:
        return 0.0
    off_mv = []
    for relation in (*first, *second):
        residual = relation.weights @ rows_mv
        inner = slice(relation.window.start + START_REACH, relation.window.stop - START_REACH)
        if inner.stop - inner.start < START_REACH:
            return 0.0  # at high speeds leads are too short to tell
        off_mv.append(np.minimum(np.abs(residual - np.median(residual[inner])), LOST_MV))
        if np.median(off_mv[-1][inner]) > START_GAIN_MV:
            return 0.0
    seam = first[0].window.stop
    near = slice(seam - START_REACH, seam + START_REACH + 1)
    used = (first[0].weights != 0) | (second[0].weights != 0)
    seen = paper.confidence[used, near].min(axis=0) > _SEEN
    gain = np.where(seen, off_mv[1][near] - off_mv[0][near], 0.0)  # if the first leads go on
    total = np.concatenate([[0.0], np.cumsum(gain)])
    change = int(np.argmax(total)) - START_REACH
    moved = total[START_REACH + change] - total[START_REACH]
    start_mm = change / TRACE_FS_HZ * layout.mm_per_s
    if abs(start_mm) < LEAST_START_MM or moved < START_GAIN_MV * abs(change):
        return 0.0
    return start_mm


def find_skew(paper: Trace, grid: GridMap) -> float:
    """Find how far the traces stand askew on the grid.

    Args:
        paper: As on the paper, rect-frame px.
        grid: Where the rows lie.

    Returns:
        mm along time a mm down; 0 unless the limb leads agree clearly better askew.
    """
    rows_mv = rows_from_trace(paper)
    tried = np.arange(-MOST, MOST + STEP / 2, STEP)
    apart = np.array([_disagreement_mv(paper, rows_mv, grid, skew) for skew in tried])
    best = int(np.argmin(apart))
    upright = apart[len(tried) // 2]
    if not 0 < best < len(tried) - 1 or not apart[best] < BETTER * upright:
        return 0.0
    before, least, after = apart[best - 1 : best + 2]
    return float(tried[best] + 0.5 * STEP * (before - after) / (before - 2 * least + after))


def set_upright(trace: Trace, grid: GridMap, skew: float) -> Trace:
    """Move each row of a trace along time so that what was recorded at once stands at one column.

    Args:
        trace: As on the paper, rect-frame px.
        grid: Where its rows lie.
        skew: See ``find_skew``.

    Returns:
        The trace about the middle of the rows; ends are held.
    """
    if skew == 0.0:
        return trace
    y_px = _shifted(trace.y_px, trace.layout, grid, skew)
    confidence = _shifted(trace.confidence, trace.layout, grid, skew)
    shown = trace.shown
    if shown is not None:
        shown = _shifted(shown.astype(np.float64), trace.layout, grid, skew) > 0.5
    y_px, confidence = y_px.astype(np.float32), confidence.astype(np.float32)
    return replace(
        trace,
        y_px=y_px.astype(np.float32),
        confidence=confidence.astype(np.float32),
        shown=shown,
    )


def without_pulses(trace: Trace) -> Trace:
    """Take pulses and names off the beginning of the rows.

    They stand close to where the traces begin, and may have been read as if they were trace. No
    beat looks like it: I + III is II, up to what the rows are apart in time.

    Args:
        trace: As on the paper, rect-frame px.

    Returns:
        The trace; where leads that agree well elsewhere disagree in the first 0.15 s, and in the
        rows that leap there, the first value behind is held and confidence is 0.
    """
    rows_mv, known = rows_from_trace(trace), relations(trace.layout, (EINTHOVEN,))
    if not known:
        return trace
    residual = known[0].weights @ rows_mv[:, known[0].window]
    middle_mv = np.median(residual)
    off_mv = np.abs(residual - middle_mv)
    apart = np.flatnonzero(off_mv[:BEGINNING] > LOST_MV)
    if not apart.size or np.median(off_mv) > START_GAIN_MV:
        return trace
    if _agree_apart(rows_mv[:, :BEGINNING], trace.layout, middle_mv):
        return trace
    end = int(apart[-1]) + int(np.argmax(off_mv[apart[-1] :] < SETTLED_MV))
    leaps = np.abs(rows_mv[:, :end] - rows_mv[:, end : end + 1]).max(axis=1) > LOST_MV
    y_px, confidence = trace.y_px.copy(), trace.confidence.copy()
    y_px[leaps, :end], confidence[leaps, :end] = y_px[leaps, end : end + 1], 0.0
    return replace(trace, y_px=y_px, confidence=confidence)


def _agree_apart(rows_mv: Float64, layout: Layout, middle_mv: float) -> bool:
    """Say whether I + III is II all along if I and III are moved in time."""
    columns = np.maximum(np.arange(rows_mv.shape[1]) + APART[:, None], 0)
    columns = np.minimum(columns, rows_mv.shape[1] - 1)
    i_row, ii_row, iii_row = (layout.place(lead, short=True)[0] for lead in ("I", "II", "III"))
    i, iii = rows_mv[i_row, columns], rows_mv[iii_row, columns]  # (moves, columns) each
    off_mv = np.abs(i[:, None] + iii - rows_mv[ii_row] - middle_mv)
    return bool((off_mv <= LOST_MV).all(axis=-1).any())


def einthoven_residual_mv(
    signals_mv: NDArray[np.floating[Any]], *, remove_offset: bool = False
) -> float:
    """Return the RMS of II - I - III where all three are known: how far the leads disagree.

    Needs no truth. In recordings it is the rounding of the file, below 0.001 mV.

    Args:
        signals_mv: (12, n) floating, LEADS order, mV, NaN outside windows. In a printed recording
            the three leads meet in the first 2.5 s.
        remove_offset: Take the mean of the residual off first: the metric does not see it.

    Returns:
        mV, NaN if the three leads have no sample in common.
    """
    i, ii, iii = (
        np.asarray(signals_mv[LEADS.index(lead)], np.float64) for lead in ("I", "II", "III")
    )
    residual = ii - i - iii
    residual = residual[np.isfinite(residual)]
    if residual.size == 0:
        return float("nan")
    if remove_offset:
        residual = residual - residual.mean()
    return float(np.sqrt(np.mean(residual**2)))


def _disagreement_mv(paper: Trace, rows_mv: Float64, grid: GridMap, skew: float) -> float:
    """Return how far the leads disagree on the whole, a lost beat counting little, mV."""
    rows_mv = _shifted(rows_mv, paper.layout, grid, skew)
    apart = []
    for relation in relations(paper.layout, _SUMS):
        used, window = relation.weights != 0, relation.window
        seen = paper.confidence[used, window].min(axis=0) > _SEEN
        residual = (relation.weights @ rows_mv[:, window])[seen]
        if residual.size:
            off = np.abs(residual - np.median(residual))
            apart.append(float(np.minimum(off, LOST_MV).mean()))
    return float(np.mean(apart)) if apart else np.inf


def _shifted(rows: Float64 | Float32, layout: Layout, grid: GridMap, skew: float) -> Float64:
    """Return (rows, columns) values as they are where a line of the skew crosses them."""
    y_mm = grid.zero_mm(layout)
    late_columns = skew * (y_mm - y_mm.mean()) / layout.mm_per_s * TRACE_FS_HZ
    columns = np.arange(rows.shape[1])
    pairs = zip(rows, late_columns, strict=True)
    return np.stack([np.interp(columns + late, columns, row) for row, late in pairs])
