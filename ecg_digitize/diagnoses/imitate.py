"""What printing and digitizing does to signals, imitated, so that a network learns to bear it.

All of it at the rate of the network's input, on whole leads; ``printed_as`` then takes away what a
sheet does not show.
"""

from typing import Final, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ecg_digitize.diagnoses.inputs import FS_HZ
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.layouts import FAMILIES
from ecg_digitize.types import Float64


class ImitateOptions(NamedTuple):
    """How much of it; standard deviations unless named otherwise."""

    gain: float = 0.03  # of each lead
    size: float = 0.12  # of all leads: people differ
    shift_s: float = 0.006  # of each lead
    start_s: float = 0.02  # of all leads
    noise_mv: float = 0.02  # the largest
    blur_s: float = 0.008  # the largest
    wander_mv: float = 0.06  # the largest
    lost: float = 1.5  # pieces a record, mean
    lost_s: float = 0.4  # the longest


DEFAULTS: Final = ImitateOptions()

_COLUMNS: Final = tuple(zip(*FAMILIES[0].rows, strict=True))  # of 3x4
OTHERWISE: Final = 0.3
"""Share of the records that are shown as other sheets show them, in training."""


def with_errors(
    leads_mv: Float64, rng: np.random.Generator, options: ImitateOptions = DEFAULTS
) -> Float64:
    """Imitate what digitizing leaves of leads.

    Args:
        leads_mv: (12, n) mV at FS_HZ; NaN stays NaN.
        rng: Source of all randomness.
        options: How much of it.

    Returns:
        (12, n) mV; some pieces are NaN.
    """
    n_leads, n = leads_mv.shape
    at = np.arange(n, dtype=np.float64)
    late = rng.normal(0, options.shift_s, (n_leads, 1)) + rng.normal(0, options.start_s)
    places = at + FS_HZ * late

    def taken(values: Float64) -> Float64:
        return np.stack([np.interp(places[lead], at, values[lead]) for lead in range(n_leads)])

    finite = np.isfinite(leads_mv)
    known = taken(finite.astype(np.float64)) > 1 - 1e-6
    moved = taken(np.where(finite, leads_mv, 0.0))
    if rng.random() < 0.5:
        moved = gaussian_filter1d(moved, rng.uniform(0, options.blur_s) * FS_HZ + 1e-3, axis=1)
    size = np.exp(rng.normal(0, options.size))
    moved *= size * np.exp(rng.normal(0, options.gain, (n_leads, 1)))
    moved += rng.normal(0, rng.uniform(0, options.noise_mv), moved.shape)
    phase, f_hz = rng.uniform(0, 2 * np.pi, (n_leads, 1)), rng.uniform(0.05, 0.5, (n_leads, 1))
    height_mv = rng.uniform(0, options.wander_mv, (n_leads, 1))
    moved += height_mv * np.sin(2 * np.pi * f_hz * at / FS_HZ + phase)
    for _ in range(rng.poisson(options.lost)):
        start = int(rng.integers(n))
        stop = start + 1 + int(rng.uniform(0, options.lost_s) * FS_HZ)
        known[int(rng.integers(n_leads)), start:stop] = False
    return np.where(known, moved, np.nan)


def printed_as(
    leads_mv: Float64, rng: np.random.Generator, *, otherwise: float = OTHERWISE
) -> Float64:
    """Take away what a sheet does not show: mostly the competition's, else one like it.

    Args:
        leads_mv: (12, n) mV at FS_HZ, ten seconds.
        rng: Draws the sheet.
        otherwise: Share of the sheets that are others than the competition's.

    Returns:
        (12, n) mV, NaN where a lead is not printed.
    """
    n = leads_mv.shape[1]
    shown = np.zeros(leads_mv.shape, np.bool_)
    draw = rng.random()
    if draw < 1 - otherwise:
        for lead in COMPETITION.leads:
            shown[LEADS.index(lead), slice(*COMPETITION.window(lead, n))] = True
    elif draw < 1 - otherwise / 4:  # 3x4 with the columns at other times, with a strip mostly
        for k, column in enumerate(rng.permutation(len(_COLUMNS))):
            rows = [LEADS.index(lead) for lead in _COLUMNS[column]]
            shown[rows, k * n // 4 : (k + 1) * n // 4] = True
        shown[LEADS.index("II")] |= rng.random() < 0.8
    else:  # 6x2, or all twelve one below the other
        shown[:6, : n // 2], shown[6:, n // 2 :] = True, True
        shown |= rng.random() < 0.5
    return np.where(shown, leads_mv, np.nan)
