"""From column-wise probabilities to one centre line a row.

Five steps: a few candidate ridges a column, what the paper shows around them (ink.py), the best
path through them (ridges.py), another one where two rows took the same line (apart.py), and a fill
of the columns that it leaves out (gaps.py). `decode` runs
the numba kernels, `decode_numpy` their twins.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ecg_digitize.layout import COMPETITION, Layout
from ecg_digitize.runtime import side_by_side
from ecg_digitize.stage2.apart import of_other_rows
from ecg_digitize.stage2.gaps import MOSTLY, along_the_ink, fill_gaps
from ecg_digitize.stage2.ink import see_ink
from ecg_digitize.stage2.ridges import (
    DEFAULTS,
    DecodeOptions,
    best_path,
    best_path_numpy,
    find_ridges,
    find_ridges_numpy,
)
from ecg_digitize.types import Float32, Float64, Image, Trace, TraceMap


@cache
def _lead_begins(layout: Layout) -> NDArray[np.bool_]:
    """Return (rows, columns): where a lead begins, and the trace may stand anywhere."""
    begins = np.zeros(layout.shape, np.bool_)
    for row, columns in layout.pieces:
        begins[row, columns.start] = True
    return begins


def decode(
    trace_map: TraceMap, image: Image | None = None, *, options: DecodeOptions = DEFAULTS
) -> Trace:
    """Decode the centre line of every row.

    Args:
        trace_map: Probabilities of the centre line, (4, H, 5000) float32. NaN, infinite and
            negative values count as zero, so a column of them is a gap.
        image: (1280, 5600, 3) uint8 RGB, the rectified page whose map this is, for its ink; without
            it the path leaves no column out.
        options: Constants of the decoder.

    Returns:
        y in rect px and, as confidence, the probability inside the window around the chosen
        ridge. Gaps have confidence 0. They are filled along the ink, or without overshoot where
        there is none, and held at the ends of a lead; a lead of nothing but gaps lies on its zero
        line.
    """
    rows = trace_map.probability[:, None]
    found = side_by_side(lambda row: find_ridges(row, options), list(rows))
    centre, mass = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return _follow(best_path, trace_map, centre, mass, image, options)


def decode_numpy(
    trace_map: TraceMap, image: Image | None = None, *, options: DecodeOptions = DEFAULTS
) -> Trace:
    """Do what `decode` does in plain numpy, slowly; see there."""
    centre, mass = find_ridges_numpy(trace_map.probability, options)
    return _follow(best_path_numpy, trace_map, centre, mass, image, options)


def true_trace_map(
    y_px: Float32,
    *,
    px_per_bin: float = 2.0,
    first_px: float = 0.5,
    n_bins: int = 640,
    layout: Layout = COMPETITION,
) -> TraceMap:
    """Make the exact label of a trace: two bins a column whose weighted mean is y.

    Args:
        y_px: (4, 5000) float32, rect px from the top; NaN where no trace.
        px_per_bin: Height of a bin, rect px.
        first_px: Centre of bin 0, rect px.
        n_bins: Bins of a column.
        layout: What the rows show.

    Returns:
        The map; columns whose y is NaN or outside the bins' centres are all zero.
    """
    if y_px.shape != layout.shape:
        raise ValueError(f"y_px must be {layout.shape}, but got {y_px.shape}")
    position = (y_px.astype(np.float64) - first_px) / px_per_bin
    row, column = np.nonzero((position >= 0) & (position <= n_bins - 1))  # NaN is neither
    position = position[row, column]
    below = np.minimum(position.astype(np.int64), n_bins - 2)
    weight = position - below
    probability = np.zeros((layout.n_rows, n_bins, layout.n_columns), np.float32)
    probability[row, below, column] = 1 - weight
    probability[row, below + 1, column] = weight
    return TraceMap(probability, px_per_bin, first_px, layout)


def _follow(
    path: Callable[..., NDArray[np.int64]],
    trace_map: TraceMap,
    centre: Float64,
    mass: Float64,
    image: Image | None,
    options: DecodeOptions,
) -> Trace:
    """Find the path through the ridges, pick its ridges, fill the gaps and convert bins to px."""
    layout = trace_map.layout
    if image is None:
        blank_above, foreign = np.zeros((1, layout.n_columns), np.float32), np.zeros_like(mass)
        options = options._replace(max_gap=0)
    else:
        ink = see_ink(image, centre, mass)
        blank_above, foreign = ink.blank_above, ink.foreign
    likely = mass * np.exp(-options.foreign_cost * foreign)
    begins = _lead_begins(layout)
    chosen = path(centre, likely, blank_above, begins, options)
    zero_bins = (np.array(layout.zero_px) - trace_map.first_px) / trace_map.px_per_bin
    others = of_other_rows(_at(centre, chosen), chosen >= 0, centre, zero_bins)
    if image is not None and others.any():
        chosen = path(centre, np.where(others, 0.0, likely), blank_above, begins, options)
    confidence, y_bins = _at(mass, chosen), _at(centre, chosen)
    known = (chosen >= 0) & (confidence >= options.min_mass)
    confidence = np.where(known, np.minimum(confidence, 1.0), 0.0)
    if image is not None:
        alien = (mass[..., 0] > 0) & (foreign[..., 0] > MOSTLY)
        for row, lead in layout.pieces:
            at = row, lead
            along_the_ink(y_bins[at], known[at], blank_above[:, lead], alien[at])
    y_px = y_bins * trace_map.px_per_bin + trace_map.first_px
    for row, lead in layout.pieces:
        fill_gaps(y_px[row, lead], known[row, lead], layout.zero_px[row])
    return Trace(y_px.astype(np.float32), confidence.astype(np.float32), layout)


def _at(values: Float64, chosen: NDArray[np.int64]) -> Float64:
    """Return (rows, W) of (rows, W, n) values those of the chosen ridges, the first if none is."""
    return np.take_along_axis(values, np.maximum(chosen, 0)[..., None], axis=-1)[..., 0]
