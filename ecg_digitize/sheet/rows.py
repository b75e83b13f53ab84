"""Where the rows of a sheet lie: ink is densest along their baselines."""

from typing import NamedTuple

import cv2
import numpy as np
from scipy.signal import find_peaks

from ecg_digitize.types import Float64, Mask


class RowOptions(NamedTuple):
    """Constants of the search.

    Attributes:
        sigma_mm: Blur of the density; traces wander about their baselines.
        apart_mm: Rows are at least so far apart.
        least: Density of a row, as a share of the median one's.
        rises: How far it rises above what lies between it and denser rows, likewise.
    """

    sigma_mm: float = 1.0
    apart_mm: float = 7.0
    least: float = 0.25
    rises: float = 0.1


DEFAULTS = RowOptions()


def find_rows(
    lines: Mask, *, px_per_mm: float, options: RowOptions = DEFAULTS
) -> tuple[Float64, Float64]:
    """Find the baselines of all rows.

    Args:
        lines: (H, W) bool, what may be traces, see ``flat.strokes_of``.
        px_per_mm: Its scale.
        options: See there.

    Returns:
        (n,) sheet y of baselines, downwards, and (n,) how dense their ink is, 1 the median.
    """
    per_column = lines.sum(axis=0) + 1.0  # a steep stroke counts no more than a level line
    density = (lines / per_column).mean(axis=1)
    density = cv2.GaussianBlur(density[None], (0, 0), options.sigma_mm * px_per_mm)[0]
    most = density.max(initial=0.0)
    if most <= 0:
        return np.empty(0), np.empty(0)
    density = np.pad(density / most, 1)  # a row on the picture's edge is one too
    peaks, _ = find_peaks(
        density,
        height=0.5 * options.least,
        prominence=options.rises,
        distance=options.apart_mm * px_per_mm,
    )
    usual = np.median(density[peaks]) if peaks.size else 1.0
    peaks = peaks[density[peaks] > options.least * usual]
    return (peaks - 1) / px_per_mm, density[peaks] / usual
