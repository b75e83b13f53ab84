"""How one ECG record becomes many: rate, gain, beats, noise and the recorder's filters."""

from typing import Final

import numpy as np
from scipy import fft

from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import COMPETITION
from ecg_digitize.types import Float32, Float64

LEADS_8: Final = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
"""The independent leads: order of rows in every (8, n) array."""
N_SAMPLES: Final = round(COMPETITION.duration_s * TRACE_FS_HZ)


def augment(leads8_mv: Float32, rng: np.random.Generator) -> Float32:
    """Make another plausible record out of one.

    Rate, gain, polarity, ectopic beats, noise and the recorder's filters change at random.

    Args:
        leads8_mv: (8, 5000) float32 mV at 500 Hz, leads I II V1..V6.
        rng: Source of all randomness.

    Returns:
        (8, 5000) float32 mV; the input is left alone.
    """

    def happens(probability: float) -> bool:
        return bool(rng.random() < probability)

    x = _retime(leads8_mv, 1.0 if happens(0.5) else rng.uniform(0.75, 1.35), rng)
    if happens(0.15):
        x = _with_ectopic_beat(x, rng)
    x *= _gains(rng)
    if happens(0.35):
        x += muscle_noise(rng.uniform(0.002, 0.03), rng)
    if happens(0.5):
        x += sum_of_sines(rng.uniform(0.05, 0.6, 4), rng.uniform(0, 0.3) / 4, rng)
    if happens(0.2):
        x += sum_of_sines(np.array([rng.choice([50.0, 60.0])]), rng.uniform(0.002, 0.02), rng)
    if happens(0.12):
        x = _low_pass(x, 40.0)
    if happens(0.12):
        x = _joined_by_lines(_low_pass(x, 45.0), step=5)
    elif happens(0.3):
        x = _joined_by_lines(x, step=2)  # R waves keep the sharp tips of 250 Hz records
    if happens(0.2):
        x = (np.rint(x * 200) / 200).astype(np.float32)  # 5 uV steps, as in many archives
    return np.ascontiguousarray(x, dtype=np.float32)


def _read_at(x: Float32, start: int, rate: float, n: int) -> Float32:
    """Read n samples from `start` on, `rate` samples apart, by Catmull-Rom interpolation."""
    position = start + rate * np.arange(n)
    whole = np.minimum(position.astype(np.intp), x.shape[1] - 3)
    t = (position - whole).astype(np.float32)
    before, here, after, beyond = (x[:, whole + k] for k in (-1, 0, 1, 2))
    slope, slope_after = (after - before) / 2, (beyond - here) / 2
    cubic = slope + slope_after - 2 * (after - here)
    square = after - here - slope - cubic
    read: Float32 = ((cubic * t + square) * t + slope) * t + here
    return read


def _retime(x: Float32, rate: float, rng: np.random.Generator) -> Float32:
    """Speed up by `rate` and shift at random; the record is first looped to have enough of it."""
    fade, step, search = 150, 5, 1500
    # Among the first three seconds, enter the loop where the record looks most like its end.
    tail, head = x[:, -fade::step], x[:, : search + fade : step]
    windows = np.lib.stride_tricks.sliding_window_view(head, tail.shape[1], axis=1)
    entry = step * int(np.argmin(((windows - tail[:, None]) ** 2).sum(axis=(0, 2))))
    weight = np.linspace(0, 1, fade, dtype=np.float32)
    joint = x[:, -fade:] * (1 - weight) + x[:, entry : entry + fade] * weight
    looped = np.concatenate([x[:, :-fade], joint, x[:, entry + fade :]], axis=1)
    last_start = int(looped.shape[1] - rate * N_SAMPLES) - 3
    return _read_at(looped, int(rng.integers(1, last_start)), rate, N_SAMPLES)


def _with_ectopic_beat(x: Float32, rng: np.random.Generator) -> Float32:
    """Put a widened, rescaled copy of one beat somewhere into the record."""
    activity = np.abs(np.diff(x, axis=1)).sum(axis=0)
    look = int(rng.integers(150, 3800))
    peak = look + int(np.argmax(activity[look : look + 600]))
    slower = rng.uniform(1.4, 2.0)
    n = int(350 * slower)
    beat = _read_at(x, peak - 100, 1 / slower, n)
    scale = rng.choice([-1.0, 1.0]) * rng.uniform(0.6, 1.6, (len(x), 1))
    at = int(rng.integers(0, N_SAMPLES - n))
    ramp = np.linspace(0, 1, n, dtype=np.float32)

    def chord(piece: Float32) -> Float32:
        return piece[:, :1] * (1 - ramp) + piece[:, -1:] * ramp

    # Swapping the chords makes both ends meet the record without a step.
    x = x.copy()
    x[:, at : at + n] = (beat - chord(beat)) * scale + chord(x[:, at : at + n])
    return x


def _gains(rng: np.random.Generator) -> Float32:
    """Draw the (8, 1) factors of the leads: one gain, sometimes chest gains and inversions."""
    gains = np.full((len(LEADS_8), 1), np.exp(rng.uniform(np.log(0.6), np.log(1.6))))
    if rng.random() < 0.3:
        gains[2:] *= np.exp(rng.uniform(np.log(0.7), np.log(1.4), (6, 1)))
    if rng.random() < 0.1:
        gains[2:] *= np.where(rng.random((6, 1)) < 0.4, -1, 1)
    return gains.astype(np.float32)


def _spectrum_times(x: Float32, response: Float32) -> Float32:
    """Multiply the spectrum of (8, n) signals by a zero-phase response, (n // 2 + 1,)."""
    filtered: Float32 = fft.irfft(fft.rfft(x, axis=1) * response, n=x.shape[1], axis=1)
    return filtered


def _butterworth(n: int, cut_hz: float) -> Float32:
    """Return the magnitude of a second-order low-pass on the rfft frequencies of n samples."""
    f_hz = np.fft.rfftfreq(n, 1 / TRACE_FS_HZ)
    magnitude: Float64 = 1 / np.sqrt(1 + (f_hz / cut_hz) ** 4)
    return magnitude.astype(np.float32)


def _low_pass(x: Float32, cut_hz: float) -> Float32:
    """Filter without phase shift; the ends are mirrored so that the wrap-around stays outside."""
    pad = 300  # 5600 samples: a length with small factors
    padded = np.pad(x, ((0, 0), (pad, pad)), mode="reflect", reflect_type="odd")
    return _spectrum_times(padded, _butterworth(padded.shape[1], cut_hz))[:, pad:-pad]


def muscle_noise(rms_mv: float, rng: np.random.Generator) -> Float32:
    """Return (8, 5000) noise in the 15-150 Hz band."""
    white = rng.standard_normal((len(LEADS_8), N_SAMPLES), dtype=np.float32)
    band = _butterworth(N_SAMPLES, 150.0) * (1 - _butterworth(N_SAMPLES, 15.0))
    noise = _spectrum_times(white, band)
    return noise * np.float32(rms_mv / noise.std())


def sum_of_sines(f_hz: Float64, peak_mv: float, rng: np.random.Generator) -> Float32:
    """Return (8, 5000) sums of sines of shared frequencies, each at most `peak_mv`."""
    turns = f_hz[:, None] * np.arange(N_SAMPLES) / TRACE_FS_HZ + rng.random((len(f_hz), 1))
    weights = rng.uniform(-peak_mv, peak_mv, (len(LEADS_8), len(f_hz)))
    waves: Float64 = weights @ np.sin(2 * np.pi * turns)
    return waves.astype(np.float32)


def _joined_by_lines(x: Float32, *, step: int) -> Float32:
    """Keep every step-th sample and join them by straight lines, as plotters of such records do."""
    knots = x[:, ::step]
    knots = np.concatenate([knots, knots[:, -1:]], axis=1)
    w = np.arange(step, dtype=np.float32) / step
    lines = knots[:, :-1, None] * (1 - w) + knots[:, 1:, None] * w
    return lines.reshape(len(x), -1).astype(np.float32)
