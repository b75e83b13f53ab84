"""A model of the twelve-lead ECG, so that a fresh clone can draw pages without any download.

The heart is a dipole whose P, QRS, ST, T and U waves are skewed Gaussians in time (McSharry et al.,
IEEE Trans Biomed Eng 50, 2003; Sameni et al., EURASIP J Adv Signal Process, 2007). Dower's matrix
(Dower, Machado and Osborne, Clin Cardiol 3, 1980) carries the dipole to the electrodes. Dipole axes
are Frank's: x to the left, y to the feet, z to the back.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import COMPETITION
from ecg_digitize.synth.augment import LEADS_8, N_SAMPLES, muscle_noise, sum_of_sines
from ecg_digitize.synth.signals import UNLIMITED
from ecg_digitize.types import Float32, Float64

DOWER: Final = np.array(
    [
        [0.632, -0.235, 0.059],  # I
        [0.235, 1.066, -0.132],  # II
        [-0.515, 0.157, -0.917],  # V1
        [0.044, 0.164, -1.387],  # V2
        [0.882, 0.098, -1.277],  # V3
        [1.213, 0.127, -0.601],  # V4
        [1.125, 0.127, -0.086],  # V5
        [0.831, 0.076, 0.230],  # V6
    ]
)
"""(8, 3) lead field: mV in I II V1..V6 for a dipole of 1 mV along x, y, z."""

_TIME_S: Final = np.arange(N_SAMPLES) / TRACE_FS_HZ


@dataclass(frozen=True)
class _Wave:
    """One deflection that every beat of a kind repeats."""

    lead_mv: Float64  # (8,) peak in each lead, mV
    at_s: float  # peak after the R peak, s
    rise_s: float  # standard deviation before the peak, s
    fall_s: float  # standard deviation after the peak, s
    stretches: bool = False  # time grows with the square root of the beat interval (Bazett)


@dataclass(frozen=True)
class _Beats:
    """Moments at which a set of waves is played."""

    r_s: Float64  # (n,) R peaks, s
    interval_s: Float64  # (n,) smoothed interval to the neighbours, s
    strength: Float64  # (n,) amplitude factor

    def where(self, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> "_Beats":
        """Keep the chosen beats."""
        return _Beats(self.r_s[chosen], self.interval_s[chosen], self.strength[chosen])


class SimulatorSource:
    """Endless simulated records: sinus rhythm and the disturbances that change a trace's look."""

    name = "simulator"

    def __init__(self, seed: int = 0, *, validation: bool = False) -> None:
        """Choose the stream of records; the validation stream never meets the training stream."""
        self._stream = (seed, int(validation))

    def __len__(self) -> int:
        """Return the number of indices that may be asked for."""
        return UNLIMITED

    def get(self, index: int) -> Float32:
        """Return record `index` as (8, 5000) float32 mV at 500 Hz."""
        return simulate(np.random.default_rng((*self._stream, index)))


def simulate(rng: np.random.Generator) -> Float32:
    """Draw one patient and record ten seconds.

    Args:
        rng: Source of all randomness.

    Returns:
        (8, 5000) float32 mV at 500 Hz, leads I II V1..V6.
    """
    field = DOWER * rng.normal(1, 0.12, DOWER.shape) + rng.normal(0, 0.06, DOWER.shape)
    fibrillates = rng.random() < 0.08
    beats = _rhythm(fibrillates, rng)
    early = _ectopic(len(beats.r_s), rng)
    beats = _brought_forward(beats, early, rng)

    x = _play(_ventricular_waves(field, rng), beats.where(~early))
    x += _play(_ectopic_waves(field, rng), beats.where(early))
    if fibrillates:
        x += _fibrillation(field, rng)
    else:
        x += _play(_atrial_waves(field, rng), beats.where(~early))
    return _recorded(x, rng)


def _recorded(x: Float64, rng: np.random.Generator) -> Float32:
    """Add what electrodes and the mains add."""
    mv = x.astype(np.float32)
    mv += muscle_noise(rng.uniform(0.001, 0.006), rng)
    if rng.random() < 0.2:
        mv += muscle_noise(rng.uniform(0.006, 0.03), rng)
    if rng.random() < 0.3:
        mv += sum_of_sines(np.array([rng.choice([50.0, 60.0])]), rng.uniform(0.002, 0.015), rng)
    wander_mv = rng.uniform(0.05, 0.15) if rng.random() < 0.25 else rng.uniform(0.005, 0.05)
    return mv + sum_of_sines(rng.uniform(0.05, 0.5, 4), wander_mv, rng)


def _rhythm(fibrillates: bool, rng: np.random.Generator) -> _Beats:
    """Draw R peaks from before the first to after the last sample."""
    mean_s = 60 / np.clip(np.exp(rng.normal(np.log(74), 0.25)), 40, 160)
    n = int((COMPETITION.duration_s + 4) / mean_s * 1.8) + 8
    if fibrillates:
        interval_s = mean_s * np.exp(rng.normal(0, rng.uniform(0.12, 0.26), n))
    else:
        breath = np.sin(
            2 * np.pi * (np.arange(n) * mean_s * rng.uniform(0.15, 0.35) + rng.random())
        )
        interval_s = mean_s * (1 + rng.uniform(0.003, 0.07) * breath + rng.normal(0, 0.008, n))
    interval_s = np.maximum(interval_s, 0.3)
    r_s = np.cumsum(interval_s) - interval_s[0] * (1 + rng.random())
    settled_s = 0.6 * interval_s + 0.4 * mean_s  # repolarisation adapts over several beats
    strength = 1 + rng.uniform(0, 0.08) * np.sin(2 * np.pi * (r_s * rng.uniform(0.15, 0.35)))
    inside = r_s < COMPETITION.duration_s + 1
    return _Beats(r_s, settled_s, strength).where(inside)


def _ectopic(n: int, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Choose which of n beats are ventricular extrasystoles, sometimes every second or third."""
    early = np.zeros(n, dtype=np.bool_)
    kind = rng.random()
    if kind < 0.03:
        early[int(rng.integers(2)) :: int(rng.integers(2, 4))] = True
    elif kind < 0.15:
        early = rng.random(n) < rng.uniform(0.05, 0.25)
    early[1:] &= ~early[:-1]
    return early


def _brought_forward(
    beats: _Beats, early: np.ndarray[tuple[int], np.dtype[np.bool_]], rng: np.random.Generator
) -> _Beats:
    """Move extrasystoles ahead of time; the compensatory pause follows by itself."""
    ahead_s = rng.uniform(0.2, 0.4) * beats.interval_s * early
    return _Beats(beats.r_s - ahead_s, beats.interval_s, beats.strength)


def _play(waves: list[_Wave], beats: _Beats) -> Float64:
    """Return (8, 5000) mV of the waves at every beat.

    Each sample hears only the nearest beat of a wave: neighbours are further than three standard
    deviations away, and one exponential a sample and wave keeps a record at a few milliseconds.
    """
    if not len(beats.r_s):
        return np.zeros((len(LEADS_8), N_SAMPLES))
    shapes = np.empty((len(waves), N_SAMPLES))
    for shape, wave in zip(shapes, waves, strict=True):
        pace = np.sqrt(beats.interval_s) if wave.stretches else np.ones_like(beats.r_s)
        peak_s = beats.r_s + wave.at_s * pace
        k = np.searchsorted((peak_s[1:] + peak_s[:-1]) / 2, _TIME_S)
        after_s = (_TIME_S - peak_s[k]) / pace[k]
        width_s = np.where(after_s < 0, wave.rise_s, wave.fall_s)
        shape[:] = beats.strength[k] * np.exp(-0.5 * (after_s / width_s) ** 2)
    played: Float64 = np.stack([wave.lead_mv for wave in waves], axis=1) @ shapes
    return played


def _seen(field: Float64, dipole_mv: Float64, rng: np.random.Generator) -> Float64:
    """Project a dipole to the (8,) leads, with what a single dipole cannot explain on top."""
    stray = 0.07 * float(np.linalg.norm(dipole_mv))
    projected: Float64 = field @ dipole_mv + rng.normal(0, stray, len(LEADS_8))
    return projected


def _any_direction(rng: np.random.Generator) -> Float64:
    """Return a (3,) unit vector."""
    v: Float64 = rng.normal(size=3)
    return v / np.linalg.norm(v)


def _ventricular_waves(field: Float64, rng: np.random.Generator) -> list[_Wave]:
    """Draw QRS, ST, T and U of the conducted beats."""
    axis = Rotation.from_rotvec(rng.normal(0, 0.3, 3))
    size = np.exp(rng.normal(0, 0.28))
    width = rng.uniform(0.8, 1.25)
    kind = rng.choice(["narrow", "right", "left", "paced"], p=[0.78, 0.1, 0.08, 0.04])
    # Dipole (mV), moment, rise and fall (ms) of the phases of ventricular activation.
    phases: list[tuple[tuple[float, float, float], float, float, float]]
    if kind in ("left", "paced"):
        phases = [
            ((0.40, 0.10, 0.35), -38, 13, 14),
            ((0.75, 0.35, 0.95), -8, 16, 17),
            ((0.80, 0.25, 0.90), 30, 17, 15),
        ]
        t_dipole = np.array([-0.25, -0.05, -0.40])
    else:
        phases = [
            ((-0.14, -0.02, -0.32), -21, 6, 5.5),
            ((0.75, 0.42, -0.30), -7, 5, 6),
            ((1.00, 0.68, 0.42), 3, 5, 6.5),
            ((0.05, 0.02, 0.80), 17, 5.5, 7),
            ((-0.15, -0.15, 0.25), 29, 6, 8),
        ]
        t_dipole = np.array([0.26, 0.20, -0.22])
    if kind == "right":
        phases.append(((-0.65, -0.10, -0.65), 58, 15, 17))
        t_dipole = np.array([0.28, 0.18, 0.08])

    waves = []
    for dipole, at_ms, rise_ms, fall_ms in phases:
        tilt = axis * Rotation.from_rotvec(rng.normal(0, 0.15, 3))
        turned = tilt.apply(np.array(dipole)) * size * np.exp(rng.normal(0, 0.2))
        at_s, rise_s, fall_s = (
            width * 1e-3 * ms * f
            for ms, f in zip((at_ms, rise_ms, fall_ms), rng.uniform(0.85, 1.15, 3), strict=True)
        )
        waves.append(_Wave(_seen(field, turned, rng), at_s, rise_s, fall_s))
    onset_s = waves[0].at_s - 2 * waves[0].rise_s
    j_s = waves[-1].at_s + 2 * waves[-1].fall_s
    for _ in range(rng.poisson(1.8 if kind in ("left", "paced") else 0.7)):  # notches and slurs
        notch = _seen(field, _any_direction(rng) * rng.uniform(0.05, 0.25) * size, rng)
        waves.append(_Wave(notch, rng.uniform(onset_s, j_s), *rng.uniform(0.003, 0.009, 2)))
    if kind == "paced":
        spike = _seen(field, _any_direction(rng) * rng.uniform(0.3, 1.8), rng)
        waves.append(_Wave(spike, onset_s - 0.01, 0.0012, 0.002))

    if rng.random() < 0.15:
        t_dipole = _any_direction(rng) * rng.uniform(0.1, 0.45)
    t_tilt = Rotation.from_rotvec(rng.normal(0, 0.3, 3))
    t_seen = _seen(field, t_tilt.apply(t_dipole) * np.exp(rng.normal(0, 0.4)), rng)
    t_at_s = j_s + rng.uniform(0.20, 0.27)
    t_rise_s, t_fall_s = rng.uniform(0.045, 0.075), rng.uniform(0.03, 0.05)
    waves.append(_Wave(t_seen, t_at_s, t_rise_s, t_fall_s, stretches=True))
    shifted = rng.random() < 0.15
    st_dipole = _any_direction(rng) * rng.uniform(0.1, 0.3) if shifted else 0.12 * t_dipole
    waves.append(_Wave(_seen(field, st_dipole, rng), j_s + 0.08, 0.03, 0.06, stretches=True))
    if rng.random() < 0.15:
        u_seen = t_seen * rng.uniform(0.05, 0.2)
        waves.append(_Wave(u_seen, t_at_s + rng.uniform(0.14, 0.2), 0.03, 0.04, stretches=True))
    return waves


def _ectopic_waves(field: Float64, rng: np.random.Generator) -> list[_Wave]:
    """Draw a wide beat from somewhere in a ventricle, its T wave opposite to its QRS."""
    first, second = _any_direction(rng), _any_direction(rng)
    qrs = first * rng.uniform(0.9, 1.8)
    late = (0.5 * first + second) * rng.uniform(0.3, 0.9)
    width_s = rng.uniform(0.018, 0.03)
    return [
        _Wave(_seen(field, qrs, rng), 0.0, width_s, 1.1 * width_s),
        _Wave(_seen(field, late, rng), 2.2 * width_s, width_s, 1.2 * width_s),
        _Wave(_seen(field, -0.35 * qrs - 0.2 * late, rng), 0.28, 0.07, 0.05),
    ]


def _atrial_waves(field: Float64, rng: np.random.Generator) -> list[_Wave]:
    """Draw the P wave: the right atrium first, then the left."""
    size = np.exp(rng.normal(0, 0.3))
    pr_s = rng.uniform(0.10, 0.20)
    right = np.array([0.03, 0.09, -0.05]) * size * rng.uniform(0.7, 1.4)
    left = np.array([0.07, 0.06, 0.05]) * size * rng.uniform(0.7, 1.4)
    return [
        _Wave(_seen(field, right, rng), -pr_s - 0.018, 0.016, 0.018),
        _Wave(_seen(field, left, rng), -pr_s + 0.018, 0.018, 0.018),
    ]


def _fibrillation(field: Float64, rng: np.random.Generator) -> Float64:
    """Return (8, 5000) mV of f waves: 4 to 9 a second, restless, best seen in V1."""
    x = np.zeros((len(LEADS_8), N_SAMPLES))
    for _ in range(3):
        drift = np.cumsum(rng.normal(0, rng.uniform(0.005, 0.04), N_SAMPLES))
        phase = 2 * np.pi * (rng.uniform(4, 9) * _TIME_S + rng.random()) + drift
        wave = np.sin(phase) + 0.35 * np.sin(2 * phase + rng.uniform(0, 2 * np.pi))
        dipole = np.array([-0.5, 0.5, -0.7]) + rng.normal(0, 0.4, 3)
        x += np.outer(_seen(field, dipole * rng.uniform(0.01, 0.05), rng), wave)
    return x
