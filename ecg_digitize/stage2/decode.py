"""From column-wise probabilities to one centre line a row.

Three steps: a few candidate ridges a column and the best path through them (ridges.py), and a fill
of the columns that show nothing. `decode` runs the numba kernels, `decode_numpy` their twins.
"""

from threading import Lock

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from ecg_digitize.layout import LEAD_COLUMNS, N_ROWS, TRACE_COLUMNS, ZERO_PX
from ecg_digitize.stage2.ink import blank_above
from ecg_digitize.stage2.ridges import (
    DEFAULTS,
    DecodeOptions,
    best_path,
    best_path_numpy,
    find_ridges,
    find_ridges_numpy,
)
from ecg_digitize.types import Float32, Float64, Image, Trace, TraceMap

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


def decode(
    trace_map: TraceMap, image: Image | None = None, *, options: DecodeOptions = DEFAULTS
) -> Trace:
    """Decode the centre line of every row.

    Args:
        trace_map: Probabilities of the centre line, (4, H, 5000) float32. NaN, infinite and
            negative values count as zero, so a column of them is a gap.
        image: (1280, 5600, 3) uint8 RGB, the rectified page, whose blank paper no line crosses
            from one column to the next, and whose map this is; without it the path leaves no column
            out.
        options: Constants of the decoder.

    Returns:
        y in rect px and, as confidence, the probability inside the window around the chosen
        ridge. Gaps have confidence 0 and are interpolated without overshoot between their
        neighbours, or held at the ends of a lead; a lead of nothing but gaps lies on its zero line.
    """
    with _PARALLEL:
        centre, mass = find_ridges(trace_map.probability, options)
    blank, options = _paper(image, centre, mass, options)
    chosen = best_path(centre, mass, blank, LEAD_BEGINS, options)
    return _trace(trace_map, centre, mass, chosen, options.min_mass)


def decode_numpy(
    trace_map: TraceMap, image: Image | None = None, *, options: DecodeOptions = DEFAULTS
) -> Trace:
    """Do what `decode` does in plain numpy, slowly; see there."""
    centre, mass = find_ridges_numpy(trace_map.probability, options)
    blank, options = _paper(image, centre, mass, options)
    chosen = best_path_numpy(centre, mass, blank, LEAD_BEGINS, options)
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


def _paper(
    image: Image | None, centre: Float64, mass: Float64, options: DecodeOptions
) -> tuple[Float32, DecodeOptions]:
    """Return the blank paper of a picture; with none, none, and options that leave nothing out."""
    if image is None:
        return np.zeros((1, TRACE_COLUMNS), np.float32), options._replace(max_gap=0)
    return blank_above(image, centre[..., 0], mass[..., 0]), options


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
