"""Ways to bring a lead to another sampling rate, side by side."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from scipy import signal

from ecg_digitize.layout import TRACE_FS_HZ
from ecg_digitize.signals import resample_window
from ecg_digitize.synth.signals import SignalSource, to_twelve
from ecg_digitize.training.compare import Comparison
from ecg_digitize.types import Float64

RATES_HZ: Final = (250.0, 256.0, 500.0, 512.0, 1000.0, 1025.0)
"""The competition's sampling rates."""


def _step(n: int, rate_hz: float) -> tuple[float, int]:
    return TRACE_FS_HZ / rate_hz, int(n * rate_hz / TRACE_FS_HZ)


def _windowed_sinc(lead: Float64, rate_hz: float) -> Float64:
    step, count = _step(lead.size, rate_hz)
    return resample_window(lead, first=0.0, step=step, count=count)


def _fourier(lead: Float64, rate_hz: float) -> Float64:
    return np.asarray(signal.resample(lead, _step(lead.size, rate_hz)[1]), np.float64)


def _polyphase(lead: Float64, rate_hz: float) -> Float64:
    up, down = int(rate_hz), int(TRACE_FS_HZ)
    out = signal.resample_poly(lead, up, down, padtype="line")
    return np.asarray(out[: _step(lead.size, rate_hz)[1]], np.float64)


def _linear(lead: Float64, rate_hz: float) -> Float64:
    step, count = _step(lead.size, rate_hz)
    return np.asarray(np.interp(step * np.arange(count), np.arange(lead.size), lead), np.float64)


RESAMPLERS: Final[Mapping[str, Callable[[Float64, float], Float64]]] = {
    "windowed sinc (ships)": _windowed_sinc,
    "Fourier": _fourier,
    "polyphase": _polyphase,
    "linear": _linear,
}


def compare_resampling(
    source: SignalSource, *, windows: int, progress: Callable[[], None] | None = None
) -> Comparison:
    """Resample windows of two seconds; mean SNR in dB against resampling all ten by Fourier.

    The latter is what a host that has the records would do (`scipy.signal.resample`), and knows
    what comes before and after a window.

    Args:
        source: Validation signals.
        windows: How many records, all leads of each.
        progress: Called after each record.
    """
    # Begins at a whole sample at every rate.
    window = slice(1000, 2000)
    snr_db: dict[str, list[list[float]]] = {name: [] for name in RESAMPLERS}
    for index in range(min(windows, len(source))):
        for lead in to_twelve(source.get(index)).astype(np.float64):
            if np.ptp(lead[window]) == 0:
                continue  # an electrode was off
            whole = [_fourier(lead, rate_hz) for rate_hz in RATES_HZ]
            for name, resample in RESAMPLERS.items():
                snr_db[name].append(
                    [
                        _window_db(resample(lead[window], rate_hz), true, window, rate_hz)
                        for rate_hz, true in zip(RATES_HZ, whole, strict=True)
                    ]
                )
        if progress is not None:
            progress()
    rows = {name: np.mean(values, axis=0) for name, values in snr_db.items()}
    return Comparison("resampling", tuple(f"{rate:g} Hz" for rate in RATES_HZ), rows)


def _window_db(got: Float64, whole: Float64, window: slice, rate_hz: float) -> float:
    first = round(window.start * rate_hz / TRACE_FS_HZ)
    wanted = whole[first : first + got.size]
    error, wanted = got - wanted, wanted - wanted.mean()
    error -= error.mean()
    return float(10 * np.log10(wanted @ wanted / max(error @ error, 1e-12 * (wanted @ wanted))))
