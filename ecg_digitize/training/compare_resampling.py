"""Ways to bring a lead to another sampling rate, side by side."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from scipy import signal
from scipy.interpolate import CubicSpline

from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.signals import resample_window
from ecg_digitize.synth.signals import SignalSource, to_twelve
from ecg_digitize.training.compare import Comparison
from ecg_digitize.types import Float64

RATES_HZ: Final = (100.0, 250.0, 256.0, 500.0, 512.0, 1000.0, 1025.0)
"""The competition's sampling rates, and that of many archives."""


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


def _cubic(lead: Float64, rate_hz: float) -> Float64:
    step, count = _step(lead.size, rate_hz)
    spline = CubicSpline(np.arange(lead.size), lead)
    return np.asarray(spline(step * np.arange(count)), np.float64)


def _linear(lead: Float64, rate_hz: float) -> Float64:
    step, count = _step(lead.size, rate_hz)
    return np.asarray(np.interp(step * np.arange(count), np.arange(lead.size), lead), np.float64)


RESAMPLERS: Final[Mapping[str, Callable[[Float64, float], Float64]]] = {
    "windowed sinc (ships)": _windowed_sinc,
    "cubic spline": _cubic,
    "Fourier": _fourier,
    "polyphase": _polyphase,
    "linear": _linear,
}


def compare_resampling(
    source: SignalSource, *, windows: int, progress: Callable[[], None] | None = None
) -> Comparison:
    """Resample windows of two seconds; mean SNR in dB against the samples that were drawn.

    A page is drawn from samples at some rate, straight from one to the next, and the trace columns
    cut what was drawn at 500 Hz. Wanted are the samples back.

    Args:
        source: Validation signals.
        windows: How many records, all leads of each.
        progress: Called after each record.
    """
    # Begins at a whole sample at every rate.
    window = slice(1000, 2000)
    snr_db: dict[str, dict[float, list[float]]] = {
        name: {rate_hz: [] for rate_hz in RATES_HZ} for name in RESAMPLERS
    }
    for index in range(min(windows, len(source))):
        for lead in to_twelve(source.get(index)).astype(np.float64):
            if np.ptp(lead[window]) == 0:
                continue  # an electrode was off
            for rate_hz in RATES_HZ:
                samples = _fourier(lead, rate_hz)
                columns = np.arange(lead.size) / TRACE_FS_HZ
                drawn = np.interp(columns, np.arange(samples.size) / rate_hz, samples)
                for name, resample in RESAMPLERS.items():
                    got = resample(drawn[window], rate_hz)
                    snr_db[name][rate_hz].append(_window_db(got, samples, window, rate_hz))
        if progress is not None:
            progress()
    rows = {
        name: np.array([np.mean(values) for values in by_rate.values()])
        for name, by_rate in snr_db.items()
    }
    return Comparison("resampling", tuple(f"{rate:g} Hz" for rate in RATES_HZ), rows)


def _window_db(got: Float64, samples: Float64, window: slice, rate_hz: float) -> float:
    first = round(window.start * rate_hz / TRACE_FS_HZ)
    wanted = samples[first : first + got.size]
    error, wanted = got - wanted, wanted - wanted.mean()
    error -= error.mean()
    return float(10 * np.log10(wanted @ wanted / max(error @ error, 1e-12 * (wanted @ wanted))))
