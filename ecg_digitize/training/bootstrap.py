"""How sure a mean over pages is."""

from collections.abc import Sequence
from typing import Final

import numpy as np

SEED: Final = 2_000
"""Of the draws, so that the same pages give the same interval."""
_RESAMPLES: Final = 2_000
COVERED_PERCENT: Final = (2.5, 97.5)
"""The percentiles between which the interval lies."""


def mean_interval(values: Sequence[float], rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean.

    The percentile method (Efron, Ann Stat 7, 1979): n values are drawn anew from the n, with
    replacement, 2,000 times. The interval reaches from the 2.5th to the 97.5th percentile of the
    means. It takes the values to be independent, so pages of one record make it too narrow, and so
    do few pages: of three it reaches no farther than from the worst to the best.

    Args:
        values: One of each page.
        rng: Draws.

    Returns:
        Low and high; NaN for fewer than two values, which tell nothing of how they scatter.
    """
    of_pages = np.asarray(values, np.float64)
    if of_pages.size < 2:
        return float("nan"), float("nan")
    drawn = rng.integers(of_pages.size, size=(_RESAMPLES, of_pages.size), dtype=np.int32)
    low, high = np.percentile(of_pages[drawn].mean(axis=1), COVERED_PERCENT)
    return float(low), float(high)
