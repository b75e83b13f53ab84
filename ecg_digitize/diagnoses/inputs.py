"""What the network of signals looks at: all that is printed of each lead, and nothing else.

A true record is shown as its page would show it, see ``signals.printed_recording``: then both the
network's training and the judging of flips compare like with like.
"""

from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.types import Float32, Float64, Recording

FS_HZ: Final = 100.0
N_SAMPLES: Final = round(COMPETITION.duration_s * FS_HZ)
"""Ten seconds: what is shorter is followed by nothing, what is longer is cut."""
N_CHANNELS: Final = 2 * len(LEADS)

_SMOOTHING_S: Final = 0.004
"""Standard deviation of what is averaged before every fifth sample of 500 Hz is taken: 3 dB at 33
Hz. Below 2 ms higher frequencies come back as lower ones."""
_LEAST_SEEN: Final = 0.5
"""Share of the weight round an instant that must be printed."""
_LARGEST_MV: Final = 5.0


def input_of(recording: Recording) -> Float32:
    """Return what the network looks at.

    Args:
        recording: At any rate, of any layout; NaN where nothing is printed or seen.

    Returns:
        (24, 1000) float32: twelve leads in mV at FS_HZ without their medians, 0 where they are not
        printed, and then for each lead 1 where it is printed and 0 where not.
    """
    leads_mv = at_input_rate(recording.signals_mv.astype(np.float64), fs_hz=recording.fs_hz)
    return stacked(leads_mv)


def at_input_rate(signals_mv: Float64, *, fs_hz: float) -> Float64:
    """Smooth leads and take them at FS_HZ, for ten seconds; NaN stays where little is known.

    Args:
        signals_mv: (12, n) mV, NaN where nothing is known.
        fs_hz: Their rate.

    Returns:
        (12, 1000) mV.
    """
    known = np.isfinite(signals_mv)
    sigma = _SMOOTHING_S * fs_hz
    weight = gaussian_filter1d(known.astype(np.float64), sigma, axis=1, mode="nearest")
    total = gaussian_filter1d(np.where(known, signals_mv, 0.0), sigma, axis=1, mode="nearest")
    smooth = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight >= _LEAST_SEEN)
    at = np.arange(N_SAMPLES) * fs_hz / FS_HZ
    left = np.floor(at).astype(np.intp)
    is_inside = left < signals_mv.shape[1]
    left = np.minimum(left, signals_mv.shape[1] - 1)
    right, share = np.minimum(left + 1, signals_mv.shape[1] - 1), at - left
    beyond = np.where(np.isfinite(smooth[:, right]), smooth[:, right], smooth[:, left])
    leads_mv = smooth[:, left] * (1 - share) + beyond * share
    leads_mv[:, ~is_inside] = np.nan
    return np.asarray(leads_mv)


def stacked(leads_mv: Float64) -> Float32:
    """Return what the network looks at of (12, 1000) mV at FS_HZ; see ``input_of``."""
    seen = np.isfinite(leads_mv)
    level_mv = [np.median(lead[is_seen]) if is_seen.any() else 0.0
                for lead, is_seen in zip(leads_mv, seen, strict=True)]  # fmt: skip
    upright = np.where(seen, leads_mv - np.array(level_mv)[:, None], 0.0)
    upright = np.clip(upright, -_LARGEST_MV, _LARGEST_MV)
    return np.concatenate([upright, seen]).astype(np.float32)
