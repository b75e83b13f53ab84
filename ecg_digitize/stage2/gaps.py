"""Fill the columns in which no ridge was chosen: along the ink, and smoothly where none is."""

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from ecg_digitize.types import Float32, Float64, Mask

MOST_BLANK: Final = 0.5
"""Bins of blank paper a column up to which ink is said to bridge a gap."""
MOST_BLANK_BINS: Final = 12
"""And the most in a gap, however long: the line that a leap would lead to is another row's."""
MOSTLY: Final = 0.5
"""Share from which on ink is another's, and a gap's columns are full of it."""
DETOUR: Final = 0.003
"""Price of a bin along the ink, in bins of blank paper: of two ways on ink the shorter."""


def along_the_ink(y_bins: Float64, known: Mask, blank_above: Float32, foreign: Mask) -> None:
    """Follow the ink through the gaps between what is known of a lead, in place.

    Of all ways up, down and to the right from the known bin before a gap to that behind it, the one
    over the least blank paper. A column's y is halfway between where the way enters and leaves it.

    Args:
        y_bins: (n,) bins.
        known: (n,) where; set in gaps that were filled.
        blank_above: (H + 1, n): how many of the bins above each are blank; see ink.py.
        foreign: (n,) where the ink seen in place of the lead's is another's: gaps most of whose
            columns are such are not filled.
    """
    x = np.flatnonzero(known)
    for before, after in pairwise(x):
        if after - before > 1 and foreign[before + 1 : after].mean() < MOSTLY:
            start, end = np.rint(y_bins[[before, after]]).astype(int)
            way, blank = _way(blank_above[:, before + 1 : after + 1], start, end)
            if blank <= min(MOST_BLANK * way.size, MOST_BLANK_BINS):
                y_bins[before + 1 : after] = way
                known[before + 1 : after] = True


def _way(blank_above: Float32, start: int, end: int) -> tuple[Float64, float]:
    """Return the cheapest way through all but the last column, and its price, all included."""
    bins = np.arange(len(blank_above) - 1)
    blank = np.diff(blank_above, axis=0)
    detour = DETOUR * bins[:, None]
    upper, lower = blank_above[:-1] + detour, blank_above[1:] + detour  # edges of the bins
    price = np.where(bins == start, 0.0, np.inf)
    came_from = np.empty(blank.shape, np.int64)
    for column in range(blank.shape[1]):
        price = price + blank[:, column]
        down, from_above = _running_least(price - lower[:, column])
        up, from_below = _running_least((price + upper[:, column])[::-1])
        down, up = down + lower[:, column], up[::-1] - upper[:, column]
        came_from[:, column] = np.where(down <= up, from_above, bins[-1] - from_below[::-1])
        price = np.minimum(down, up)
    way = np.empty(blank.shape[1] - 1)
    k = came_from[end, -1]
    for column in range(way.size - 1, -1, -1):
        way[column] = (came_from[k, column] + k) / 2
        k = came_from[k, column]
    return way, float(price[end])


def _running_least(price: Float64) -> tuple[Float64, NDArray[np.int64]]:
    """Return the least of the prices so far, and where it was."""
    least = np.minimum.accumulate(price)
    at = np.where(price <= least, np.arange(price.size), 0)
    return least, np.maximum.accumulate(at)


def fill_gaps(y_px: Float64, known: Mask, zero_px: float) -> None:
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
