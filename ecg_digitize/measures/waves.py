"""Where P, QRS and T of the median beat begin and end, seen in all its leads together.

Intervals are those of all leads together, as the AHA/ACCF/HRS recommendations want them (Kligfield
et al., Circulation 115:1306, 2007; Surawicz et al., Circulation 119:e235, 2009): a wave that is
flat at its end in one lead is not so in all of them. neurokit2 finds the peaks of P and T (method
"prominence": Emrich et al., EUSIPCO 2024) on the size of all leads, where every wave is upright.
Its ends of waves are not taken: on 60 simulated records their median error was up to 20 ms at
usual rates (method "prominence") or 90 ms ("dwt"), and single ones were off by more than 100 ms.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ecg_digitize.measures.beats import FS_HZ, NotMeasured, neurokit
from ecg_digitize.types import Float64

SMOOTHING_S: Final = 0.004
"""Standard deviation of the Gaussian before slopes are taken."""
QRS_SLOPE: Final = 0.06
"""The QRS complex ends where the steepness of all leads is below this share of its peak ..."""
QUIET_S: Final = 0.012
"""... for this long."""
OTHER_SLOPES: Final = (0.05, 0.08)
UNSURE_S: Final = 0.016
"""Its ends are not clear if these shares put one of them so far apart."""
LARGEST_SHARE: Final = 0.3
"""A QRS complex that is more of the beat than this has other waves in it."""
LONGEST_HALF_QRS_S: Final = 0.14
"""The QRS complex ends no farther from where it is steepest."""
LEVEL_S: Final = 0.012
"""So long before the QRS complex is the level that amplitudes are relative to."""
LEAST_P_MV: Final = 0.02
LEAST_T_MV: Final = 0.03
CLEAR: Final = 2.0
"""A P or T wave is this many times as high as what is beside it."""
LOW_SHARE: Final = 0.1
APART_S: Final = 0.03
"""A wave has no clear end if it falls to LOW_SHARE of its height so far from the tangent's foot."""
RISES_AGAIN: Final = 0.35
"""Share of a wave's height that nothing which follows it reaches: U waves, second humps."""
P_FLANK_S: Final = 0.14
"""So long before its peak the begin of a P wave is looked for."""
PR_S: Final = (0.08, 0.35)
QT_S: Final = (0.2, 0.7)
"""Intervals outside these were not found right."""
_TRAIN: Final = 6  # median beats in a row that neurokit2 is shown


@dataclass(frozen=True)
class Waves:
    """Times of a beat, s from its R peak; None where they are not clear, ``why`` says why."""

    qrs_on_s: float
    qrs_off_s: float
    p_on_s: float | None
    t_off_s: float | None
    why: Mapping[str, str]  # "P" or "T" -> reason


def find_waves(times_s: Float64, beats_mv: Float64) -> Waves:
    """Find where the waves of a median beat begin and end.

    The QRS complex is where the leads' spatial velocity (root mean square of their slopes; van
    Bemmel et al., Methods Inf Med 29:346, 1990) is more than QRS_SLOPE of its peak. P begins
    and T ends where the tangent at the steepest point of the flank meets the base line (Lepeschkin
    and Surawicz, Circulation 6:378, 1952), on the root mean square of all leads.

    Args:
        times_s: (n,) of one beat, see ``MeanBeats``.
        beats_mv: (leads, n) mV, finite.

    Raises:
        NotMeasured: The QRS complex has no clear ends.
    """
    smooth = gaussian_filter1d(beats_mv, SMOOTHING_S * FS_HZ, axis=1, mode="nearest")
    velocity = np.sqrt((np.gradient(smooth, axis=1) ** 2).mean(axis=0))
    on, off = _qrs(times_s, velocity)
    level = smooth[:, max(on - round(LEVEL_S * FS_HZ), 0) : on + 1].mean(axis=1, keepdims=True)
    size_mv = np.sqrt(((smooth - level) ** 2).mean(axis=0))
    p_peak, t_peak = _peaks(size_mv, on, off)
    why: dict[str, str] = {}
    p_on = t_off = None
    try:
        t_off = _t_off(size_mv, off, t_peak, p_peak)
    except NotMeasured as error:
        why["T"] = str(error)
    try:
        p_on = _p_on(size_mv, on, p_peak)
    except NotMeasured as error:
        why["P"] = str(error)
    zero = float(times_s[0])
    p_on_s = None if p_on is None else zero + p_on / FS_HZ
    t_off_s = None if t_off is None else zero + t_off / FS_HZ
    on_s, off_s = zero + on / FS_HZ, zero + off / FS_HZ
    if p_on_s is not None and not PR_S[0] <= on_s - p_on_s <= PR_S[1]:
        p_on_s, why["P"] = None, "the PR interval cannot be"
    if t_off_s is not None and not QT_S[0] <= t_off_s - on_s <= QT_S[1]:
        t_off_s, why["T"] = None, "the QT interval cannot be"
    return Waves(on_s, off_s, p_on_s, t_off_s, why)


def _qrs(times_s: Float64, velocity: Float64) -> tuple[int, int]:
    """Return the first and last sample of the QRS complex."""
    ends = [_qrs_above(times_s, velocity, share) for share in (QRS_SLOPE, *OTHER_SLOPES)]
    if np.ptp(np.array(ends[1:]), axis=0).max() > UNSURE_S * FS_HZ:
        raise NotMeasured("the QRS complex has no clear ends")
    if ends[0][1] - ends[0][0] > LARGEST_SHARE * len(velocity):
        raise NotMeasured("QRS, T and P run into each other")
    return ends[0]


def _qrs_above(times_s: Float64, velocity: Float64, share: float) -> tuple[int, int]:
    near = np.flatnonzero(np.abs(times_s) <= 0.1)
    peak = int(near[velocity[near].argmax()])
    low = velocity < share * velocity[peak]
    quiet, most = round(QUIET_S * FS_HZ), round(LONGEST_HALF_QRS_S * FS_HZ)
    before = range(peak, max(peak - most, quiet) - 1, -1)
    after = range(peak, min(peak + most, len(velocity) - quiet))
    on = next((k for k in before if low[k - quiet + 1 : k + 1].all()), None)
    off = next((k for k in after if low[k : k + quiet].all()), None)
    if on is None or off is None:
        raise NotMeasured("the QRS complex has no clear ends")
    return on, off


def _peaks(size_mv: Float64, on: int, off: int) -> tuple[int | None, int | None]:
    """Return the peaks of P and T, as neurokit2 finds them in a row of such beats."""
    n = len(size_mv)
    r = on + int(size_mv[on : off + 1].argmax())
    train, peaks = np.tile(size_mv, _TRAIN), r + n * np.arange(_TRAIN)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, found = neurokit().ecg_delineate(
                train, peaks[1:-1], sampling_rate=int(FS_HZ), method="prominence"
            )
    except Exception:  # whatever neurokit2 stumbles over, it found no waves
        return None, None
    p = [k - r_k + r for k, r_k in zip(found["ECG_P_Peaks"], peaks[1:-1], strict=False)]
    t = [k - r_k + r for k, r_k in zip(found["ECG_T_Peaks"], peaks[1:-1], strict=False)]
    p_peak = int(np.nanmedian(p)) if np.isfinite(p).any() else None
    t_peak = int(np.nanmedian(t)) if np.isfinite(t).any() else None
    return p_peak, t_peak


def _t_off(size_mv: Float64, off: int, t_peak: int | None, p_peak: int | None) -> int:
    n = len(size_mv)
    if t_peak is None or not off < t_peak < n:
        raise NotMeasured("no T wave was found")
    height = float(size_mv[t_peak])
    next_p = n if p_peak is None else min(n, n + p_peak)
    tail = size_mv[t_peak:next_p]
    return t_peak + _foot(tail, height, LEAST_T_MV, "T")


def _p_on(size_mv: Float64, on: int, p_peak: int | None) -> int:
    if p_peak is None or not 0 < p_peak < on:
        raise NotMeasured("no P wave was found")
    before = size_mv[max(p_peak - round(P_FLANK_S * FS_HZ), 0) : p_peak + 1][::-1]
    p_on = p_peak - _foot(before, float(size_mv[p_peak]), LEAST_P_MV, "P")
    if p_on < 0:
        raise NotMeasured("the P wave is not seen whole")
    return p_on


def _foot(flank: Float64, height_mv: float, least_mv: float, wave: str) -> int:
    """Return where the tangent of a falling flank, which begins at the peak, meets its base."""
    if len(flank) < round(0.02 * FS_HZ):
        raise NotMeasured(f"the {wave} wave is not seen whole")
    base = float(np.quantile(flank, 0.1))
    if height_mv - base < max(least_mv, (CLEAR - 1) * base):
        raise NotMeasured(f"the {wave} wave is too small, or runs into another")
    below = np.flatnonzero(flank - base < 0.3 * (height_mv - base))
    falling = flank[: int(below[0]) + 1]
    slope = np.gradient(falling) if len(falling) > 2 else np.zeros(0)
    if not len(slope) or slope.min() >= 0:
        raise NotMeasured(f"the {wave} wave has no flank")
    steepest = int(slope.argmin())
    foot = round(steepest + float(falling[steepest] - base) / -float(slope[steepest]))
    low = np.flatnonzero(flank - base < LOW_SHARE * (height_mv - base))
    if not len(low) or abs(int(low[0]) - foot) > APART_S * FS_HZ:
        raise NotMeasured(f"the {wave} wave has no clear end")
    if (flank[low[0] :] - base).max() > RISES_AGAIN * (height_mv - base):
        raise NotMeasured(f"another wave is beside the {wave} wave")
    return foot
