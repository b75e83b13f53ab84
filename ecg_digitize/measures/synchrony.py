"""Whether all columns of a printout show the same moments: some machines print them shifted.

Beats are found on the strip; if the rows above it lag, their median beats do not lie on that of the
strip, and a QRS complex of all leads together would come out too long.
"""

from collections import defaultdict
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ecg_digitize.measures.beats import FS_HZ, MeanBeats, NotMeasured
from ecg_digitize.types import Float64

MOST_APART_S: Final = 0.02
"""A shift of less lengthens a QRS complex by no more than that. Of 58 prints of the rows and strip
of one record at most 12 ms were found, of 14 PDFs of a program that shifts columns 36 to 60 ms."""
SHARES: Final = (0.05, 0.5, 0.95)
"""Of the steepness of a QRS complex: a shift moves all these moments, another shape only some."""
_NEAR_S: Final = 0.15
_FLOOR: Final = 0.1  # share of the peak's steepness that is not counted: noise, P and T
_SAME_WINDOW_S: Final = 0.5


def check_synchronous(signals_mv: Float64, mean: MeanBeats) -> None:
    """Check that the QRS complexes of leads in different windows lie on each other.

    Args:
        signals_mv: (12, n) mV at FS_HZ, which tells the windows.
        mean: Their median beats.

    Raises:
        NotMeasured: They do not.
    """
    moments_s = np.array([_moments_s(mean, rows) for rows in _columns(signals_mv, mean)])
    if len(moments_s) < 2:
        return
    apart_s = moments_s[:, None] - moments_s[None, :]  # (columns, columns, shares)
    same_way = (np.sign(apart_s) == np.sign(apart_s[..., :1])).all(axis=-1)
    shift_s = float((np.abs(apart_s).min(axis=-1) * same_way).max())
    if shift_s > MOST_APART_S:
        raise NotMeasured(
            f"the columns of leads are not of the same moments: {1e3 * shift_s:.0f} ms apart"
        )


def _columns(signals_mv: Float64, mean: MeanBeats) -> list[list[int]]:
    """Return the leads that are printed in the same window, window by window."""
    columns: dict[tuple[int, int], list[int]] = defaultdict(list)
    bin_ = round(_SAME_WINDOW_S * FS_HZ)
    for index, mv in enumerate(signals_mv):
        seen = np.flatnonzero(np.isfinite(mv))
        if len(seen) and np.isfinite(mean.beats_mv[index]).all():
            columns[round(seen[0] / bin_), round(seen[-1] / bin_)].append(index)
    return list(columns.values())


def _moments_s(mean: MeanBeats, rows: list[int]) -> list[float]:
    """Return when SHARES of the steepness of the leads' QRS complexes are over."""
    near = np.abs(mean.times_s) < _NEAR_S
    smooth = gaussian_filter1d(mean.beats_mv[rows], 0.004 * FS_HZ, axis=1)
    steep = np.sqrt((np.gradient(smooth, axis=1) ** 2).mean(axis=0))[near]
    over = np.cumsum(np.maximum(steep - _FLOOR * steep.max(), 0))
    times_s = mean.times_s[near]
    return [
        float(times_s[min(int(np.searchsorted(over, share * over[-1])), len(times_s) - 1)])
        for share in SHARES
    ]
