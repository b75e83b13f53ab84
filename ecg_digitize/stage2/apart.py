"""No two rows share a line for long: of two that do, it is the nearer one's.

Stage 2 sometimes shows a row's trace where its neighbour's is, most of all on sheets whose rows
are others than those it learned from. Lines cross within a stroke; they do not run together.
"""

from itertools import permutations
from typing import NamedTuple

import numpy as np

from ecg_digitize.types import Float64, Mask


class ApartOptions(NamedTuple):
    """When two rows are said to share a line.

    Attributes:
        near_bins: Distance below which two lines are one.
        least_columns: For so long at least.
        beside_columns: So far beside such a run the line is not the row's either.
        nearer: Largest share of the other's distance from its own zero line that the row whose
            line it is may have from its own.
    """

    near_bins: float = 4.0
    least_columns: int = 75
    beside_columns: int = 4
    nearer: float = 0.35


DEFAULTS = ApartOptions()


def of_other_rows(
    y_bins: Float64,
    known: Mask,
    centre: Float64,
    zero_bins: Float64,
    *,
    options: ApartOptions = DEFAULTS,
) -> Mask:
    """Say which ridges are another row's line, that a row followed.

    Args:
        y_bins: (rows, W) the paths of the rows.
        known: (rows, W) where a ridge was chosen.
        centre: (rows, W, n) the ridges of each row.
        zero_bins: (rows,) the zero lines.
        options: See there.

    Returns:
        (rows, W, n) bool; none, where the rows keep apart.
    """
    other = np.zeros(centre.shape, np.bool_)
    off = np.abs(y_bins - zero_bins[:, None])
    for row, owner in permutations(range(len(y_bins)), 2):
        together = known[row] & known[owner]
        together &= np.abs(y_bins[row] - y_bins[owner]) < options.near_bins
        change = np.diff(np.pad(together, 1).astype(np.int8))
        for start, stop in zip(
            np.flatnonzero(change == 1), np.flatnonzero(change == -1), strict=True
        ):
            if stop - start < options.least_columns:
                continue
            run = slice(start, stop)
            if off[owner, run].mean() > options.nearer * off[row, run].mean():
                continue
            wider = slice(max(start - options.beside_columns, 0), stop + options.beside_columns)
            near = np.abs(centre[row, wider] - y_bins[owner, wider, None])
            other[row, wider] |= near < 2 * options.near_bins
    return other
