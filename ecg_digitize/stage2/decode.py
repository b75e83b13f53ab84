"""From column-wise probabilities to one centre line a row.

Three steps: a few candidate ridges a column and the best path through them (ridges.py), and a fill
of the columns that show nothing. `decode` runs the numba kernels, `decode_numpy` their twins.
"""

import itertools
from collections.abc import Callable
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from ecg_digitize.layout import LEAD_COLUMNS, N_ROWS, TRACE_COLUMNS, ZERO_PX
from ecg_digitize.stage2.ridges import (
    DEFAULTS,
    DecodeOptions,
    best_path,
    best_path_numpy,
    find_ridges,
    find_ridges_numpy,
)
from ecg_digitize.types import Float32, Float64, Trace, TraceMap

# numba's "workqueue" threading layer, all that some platforms have, aborts the process when two
# threads enter parallel kernels at once, which the pipeline's thread pool would do.
_PARALLEL = Lock()


def _lead_begins() -> NDArray[np.bool_]:
    begins = np.zeros((N_ROWS, TRACE_COLUMNS), np.bool_)
    for row, lead in LEAD_COLUMNS:
        begins[row, lead.start] = True
    return begins


LEAD_BEGINS = _lead_begins()
"""(4, 5000) bool: the columns in which a lead begins, and the trace may stand anywhere."""


def decode(trace_map: TraceMap, *, options: DecodeOptions = DEFAULTS) -> Trace:
    """Decode the centre line of every row.

    Args:
        trace_map: Probabilities of the centre line, (4, H, 5000) float32. NaN, infinite and
            negative values count as zero, so a column of them is a gap.
        options: Constants of the decoder.

    Returns:
        y in rect px and, as confidence, the probability inside the window around the chosen
        ridge. Gaps have confidence 0 and are interpolated without overshoot between their
        neighbours, or held at the ends of a lead; a lead of nothing but gaps lies on its zero line.
    """
    with _PARALLEL:
        centre, mass = find_ridges(trace_map.probability, options)
    chosen = _apart(best_path, centre, mass, options)
    return _trace(trace_map, centre, mass, chosen, options.min_mass)


def decode_numpy(trace_map: TraceMap, *, options: DecodeOptions = DEFAULTS) -> Trace:
    """Do what `decode` does in plain numpy, slowly; see there."""
    centre, mass = find_ridges_numpy(trace_map.probability, options)
    chosen = _apart(best_path_numpy, centre, mass, options)
    return _trace(trace_map, centre, mass, chosen, options.min_mass)


def true_trace_map(
    y_px: Float32, *, px_per_bin: float = 2.0, first_px: float = 0.5, n_bins: int = 640
) -> TraceMap:
    """Make the exact label of a trace: two bins a column whose weighted mean is y.

    Args:
        y_px: (4, 5000) float32, rect px from the top; NaN where no trace.
        px_per_bin: Height of a bin, rect px.
        first_px: Centre of bin 0, rect px.
        n_bins: Bins of a column.

    Returns:
        The map; columns whose y is NaN or outside the bins' centres are all zero.
    """
    if y_px.shape != (N_ROWS, TRACE_COLUMNS):
        raise ValueError(f"y_px must be {(N_ROWS, TRACE_COLUMNS)}, but got {y_px.shape}")
    position = (y_px.astype(np.float64) - first_px) / px_per_bin
    row, column = np.nonzero((position >= 0) & (position <= n_bins - 1))  # NaN is neither
    position = position[row, column]
    below = np.minimum(position.astype(np.int64), n_bins - 2)
    weight = position - below
    probability = np.zeros((N_ROWS, n_bins, TRACE_COLUMNS), np.float32)
    probability[row, below, column] = 1 - weight
    probability[row, below + 1, column] = weight
    return TraceMap(probability=probability, px_per_bin=px_per_bin, first_px=first_px)


def _apart(
    path: Callable[..., NDArray[np.int64]], centre: Float64, mass: Float64, options: DecodeOptions
) -> NDArray[np.int64]:
    """Find the paths of all rows and take from each what is a neighbour's.

    A row that leapt onto the ridge its neighbour follows, and stays there, has lost its own: the
    ridge is closed to it, in `mass`, and its path is found anew. So is one that leapt too far for
    any beat, be it for a column: its own line was not seen there. So are pieces torn off the line,
    whatever they lie on.

    Args:
        path: best_path or its twin.
        centre: (rows, W, n_ridges) float64, bins.
        mass: (rows, W, n_ridges) float64; closed ridges are all but emptied in place.
        options: Constants of the decoder.

    Returns:
        (rows, W) index of the chosen ridge, -1 in columns without ridges.
    """
    for _ in range(_ROUNDS_APART):
        chosen = path(centre, mass, LEAD_BEGINS, options)
        y = np.take_along_axis(centre, np.maximum(chosen, 0)[..., None], axis=-1)[..., 0]
        y[chosen < 0] = np.nan
        lost = [
            (row, start, stop)
            for row in range(N_ROWS)
            for start, stop in _torn_off(y[row], LEAD_BEGINS[row])
        ]
        for pair in zip(range(N_ROWS - 1), range(1, N_ROWS), strict=True):
            shared = np.abs(y[pair[0]] - y[pair[1]]) < _SHARED_BINS  # False beside NaN
            edges = np.flatnonzero(np.diff(shared.astype(np.int8), prepend=0, append=0))
            for start, stop in zip(edges[::2], edges[1::2], strict=True):
                leaps = [_leap(y[row], LEAD_BEGINS[row], start, stop) for row in pair]
                least = _LEAP_BINS if stop - start >= _SHARED_COLUMNS else _FAR_LEAP_BINS
                if max(leaps) > least:
                    lost.append((pair[int(np.argmax(leaps))], start, stop))
        for row, start, stop in lost:
            near = np.abs(centre[row, start:stop] - y[row, start:stop, None])
            mass[row, start:stop][near < _SHARED_BINS] *= 1e-6
        if not lost:
            break
    return chosen


def _torn_off(y: Float64, begins: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return start and stop of the pieces of a path that a leap in one column begins and ends."""
    known = np.flatnonzero(np.isfinite(y))
    lead = np.cumsum(begins)[known]
    same = lead[1:] == lead[:-1]
    leaps = known[1:][(np.abs(np.diff(y[known])) > _TORN_BINS) & same]
    least, most = _TORN_COLUMNS
    pieces: list[tuple[int, int]] = []
    for start, stop in itertools.pairwise(leaps.tolist()):
        goes_on = bool(pieces) and pieces[-1][1] == start  # the line itself, between two pieces
        within = not begins[start + 1 : stop + 1].any()
        if least <= stop - start <= most and within and not goes_on:
            pieces.append((start, stop))
    return pieces


def _leap(y: Float64, begins: NDArray[np.bool_], start: int, stop: int) -> float:
    """Return how far a path leaps into and out of columns start..stop - 1 of a lead, bins."""
    columns = [x for x in (start, stop) if x < len(y) and not begins[x]]
    return float(np.nansum(np.abs([y[x] - y[x - 1] for x in columns])))


_ROUNDS_APART = 3
_SHARED_BINS = 3.0  # paths nearer than this follow the same stroke
_SHARED_COLUMNS = 8  # for longer than traces cross
_LEAP_BINS = 25.0  # a third of a millivolt in one column
_FAR_LEAP_BINS = 150.0  # there and back
_TORN_BINS = 50.0  # 1.25 mV in 2 ms: no beat does it twice
_TORN_COLUMNS = (6, 75)  # a pacing spike is narrower


def _trace(
    trace_map: TraceMap,
    centre: Float64,
    mass: Float64,
    chosen: NDArray[np.int64],
    min_mass: float,
) -> Trace:
    """Pick the chosen ridges, convert bins to px and fill the gaps."""
    index = np.maximum(chosen, 0)[..., None]
    confidence = np.take_along_axis(mass, index, axis=-1)[..., 0]
    y_px = np.take_along_axis(centre, index, axis=-1)[..., 0]
    y_px = y_px * trace_map.px_per_bin + trace_map.first_px
    known = (chosen >= 0) & (confidence >= min_mass)
    for row, lead in LEAD_COLUMNS:
        _fill_gaps(y_px[row, lead], known[row, lead], ZERO_PX[row])
    confidence = np.where(known, np.minimum(confidence, 1.0), 0.0)
    return Trace(y_px=y_px.astype(np.float32), confidence=confidence.astype(np.float32))


def _fill_gaps(y_px: Float64, known: NDArray[np.bool_], zero_px: float) -> None:
    """Fill y where it is not known, in place: PCHIP inside, the last known value at the ends."""
    x = np.flatnonzero(known)
    if x.size == 0:
        y_px[:] = zero_px
        return
    gaps = np.flatnonzero(~known)
    if x.size == 1:
        y_px[gaps] = y_px[x[0]]
    elif gaps.size:
        y_px[gaps] = PchipInterpolator(x, y_px[x])(np.clip(gaps, x[0], x[-1]))
