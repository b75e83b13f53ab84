"""Where the beats are, and what a beat looks like in each lead.

All rows of a printout are recorded at the same time, so the beats that are found on the rhythm
strip are those of every lead, though most leads show only some of them.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from ecg_digitize.extras import load
from ecg_digitize.layout import LEADS
from ecg_digitize.types import Float64, Mask, Recording

Samples = NDArray[np.int64]

FS_HZ: Final = 500.0
"""Everything is measured at this rate; others are interpolated to it."""
LEAST_FS_HZ: Final = 99.0
"""A QRS of 90 ms has nine samples at 100 Hz; with fewer its ends mean nothing."""
LONGEST_FILLED_S: Final = 0.04
"""Shorter holes in a lead are bridged."""
SHORTEST_RUN_S: Final = 2.0
LEAST_BEATS: Final = 3
LEAST_MV: Final = 0.15
"""Peak to peak of a QRS complex; low voltage is below 0.5 mV."""
ALIKE: Final = 0.9
"""Correlation from which on a beat is one of the dominant kind."""
LEAST_SHARE_ALIKE: Final = 0.6
"""Share of the beats that must be of that kind."""
FLAT: Final = 0.4
"""An R peak where the leads have less than this share of the usual QRS steepness is no beat, ..."""
STEEP: Final = 0.6
"""... one with more than this is a beat, and one between the two leaves the beats uncertain."""
LEFT_STEEP: Final = 0.5
"""So does more than this share where no beat was found."""
NEAR_S: Final = 0.06
"""A beat is steep so near its R peak,"""
QRS_AROUND_S: Final = 0.16
"""and is all of what is steep this near."""
EDGE_S: Final = 0.6
"""So near the ends of a lead a beat may be missed."""
RR_S: Final = (0.25, 3.0)
"""Between beats: 20 to 240 a minute."""
_QRS_S: Final = (-0.08, 0.10)  # around R: what is compared between beats
_SHIFT_S: Final = 0.04  # so far a beat is moved to lie on the others
_LEVEL_S: Final = (-0.08, -0.06)  # before R: beats are put at the same level there


@dataclass(frozen=True)
class Beats:
    """Where the beats are.

    Attributes:
        lead: The lead on which they were found.
        r_s: (n,) times of all beats, s from the first sample.
        is_dominant: (n,) bool, whether a beat looks as most do.
        rr_s: Median interval between beats.
    """

    lead: str
    r_s: Float64
    is_dominant: Mask
    rr_s: float

    @property
    def irregularity(self) -> float:
        """Standard deviation of the intervals between beats, by their mean."""
        rr_s = np.diff(self.r_s)
        return float(rr_s.std() / rr_s.mean())

    @property
    def rate_per_min(self) -> float:
        """Mean rate: beats a minute from the first beat to the last."""
        return float(60 * (len(self.r_s) - 1) / (self.r_s[-1] - self.r_s[0]))


@dataclass(frozen=True)
class MeanBeats:
    """The median beat of each lead, all on the time axis of one beat.

    Attributes:
        times_s: (n,) from the R peak, one beat long, at FS_HZ.
        beats_mv: (12, n) median of a lead's printed beats, NaN where none is.
        n_beats: (12, n) how many beats each sample is the median of.
        each_mv: lead -> (beats, n) the beats themselves, NaN where they are not printed.
    """

    times_s: Float64
    beats_mv: Float64
    n_beats: Samples
    each_mv: dict[str, Float64]


class NotMeasured(Exception):
    """Something cannot be measured; the text says why."""


def neurokit() -> Any:
    """Import neurokit2.

    Raises:
        InputError: It is not installed.
    """
    return load("neurokit2", extra="measures")


def resampled(recording: Recording) -> Float64:
    """Return (12, n) mV at FS_HZ; holes of up to LONGEST_FILLED_S are bridged, others are NaN."""
    n_in = recording.signals_mv.shape[1]
    times_s = np.arange(round(n_in / recording.fs_hz * FS_HZ)) / FS_HZ
    out_mv = np.full((len(LEADS), len(times_s)), np.nan)
    for lead_mv, row_mv in zip(out_mv, recording.signals_mv.astype(np.float64), strict=True):
        for start, stop in _runs(np.isfinite(row_mv), round(LONGEST_FILLED_S * recording.fs_hz)):
            seen = start + np.flatnonzero(np.isfinite(row_mv[start:stop]))
            inside = (times_s >= seen[0] / recording.fs_hz) & (
                times_s <= seen[-1] / recording.fs_hz
            )
            if len(seen) > 3 and inside.any():
                spline = CubicSpline(seen / recording.fs_hz, row_mv[seen])
                lead_mv[inside] = spline(times_s[inside])
    return out_mv


def find_beats(signals_mv: Float64, *, strip: str | None) -> Beats:
    """Find the beats on the lead that is seen longest, the rhythm strip if it is one of those.

    Args:
        signals_mv: (12, n) mV at FS_HZ.
        strip: The lead of the rhythm strip, preferred where it is as long as any; then II.

    Raises:
        NotMeasured: There are too few beats, or it is not certain which they are.
    """
    runs = [max(_runs(np.isfinite(mv), 0), key=_length, default=(0, 0)) for mv in signals_mv]
    preferred = [strip or "II", "II", *LEADS]
    index = max(
        range(len(LEADS)), key=lambda k: (_length(runs[k]) // 10, -preferred.index(LEADS[k]))
    )
    start, stop = runs[index]
    mv = signals_mv[index, start:stop]
    if len(mv) < SHORTEST_RUN_S * FS_HZ:
        raise NotMeasured("no lead is seen for two seconds without a hole")
    steepness = _steepness(signals_mv)
    why = NotMeasured("no beats were found")
    for seen in (mv, -mv, steepness[start:stop]):  # neurokit2 wants R peaks upright
        try:
            return _beats_of(LEADS[index], mv, _r_peaks(seen), steepness, start)
        except NotMeasured as error:
            why = error
    raise why


def _beats_of(lead: str, mv: Float64, r: Samples, steepness: Float64, start: int) -> Beats:
    """Return the beats at R peaks, if it is certain that they are those that there are.

    Args:
        lead: Where they were found.
        mv: (n,) of that lead.
        r: Samples of it.
        steepness: See ``_steepness``, of all samples.
        start: The first sample of ``mv`` in them.

    Raises:
        NotMeasured: It is not certain.
    """
    r, alike = _aligned(mv, _confirmed(r, steepness[start : start + len(mv)]))
    if alike.sum() < LEAST_BEATS or alike.mean() < LEAST_SHARE_ALIKE:
        raise NotMeasured("too few beats look alike")
    rr_s = np.diff(r) / FS_HZ
    if rr_s.min() < RR_S[0] or rr_s.max() > RR_S[1]:
        raise NotMeasured("the beats are too near each other, or too far apart")
    return Beats(lead, (start + r) / FS_HZ, alike, float(np.median(rr_s)))


def mean_beats(signals_mv: Float64, beats: Beats) -> MeanBeats:
    """Return the median of the dominant beats of each lead, in what is printed of them.

    A beat ends where the next begins. Before the median is taken, the beats of a lead are put at
    the same level just before the QRS complex, so that wander between beats does not count.

    Args:
        signals_mv: (12, n) mV at FS_HZ.
        beats: Where they are.
    """
    before = round(min(0.42 * beats.rr_s, 0.45) * FS_HZ)
    length = round(beats.rr_s * FS_HZ)
    k = np.arange(-before, length - before)
    times_s = k / FS_HZ
    level = (times_s >= _LEVEL_S[0]) & (times_s <= _LEVEL_S[1])
    n = signals_mv.shape[1]
    padded = np.pad(signals_mv, ((0, 0), (length, length)), constant_values=np.nan)
    r = np.round(beats.r_s * FS_HZ).astype(int)
    ends = np.append(r[1:] - before, n + length)
    cut = []
    for r_k, end, chosen in zip(r, ends, beats.is_dominant, strict=True):
        if chosen:
            beat_mv = padded[:, r_k + k + length].copy()
            beat_mv[:, r_k + k >= end] = np.nan
            cut.append(beat_mv - beat_mv[:, level].mean(axis=1, keepdims=True))
    stack = np.stack(cut)  # (beats, 12, n); all NaN where the level is not printed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # samples that no beat has
        median_mv = np.nanmedian(stack, axis=0)
    each = {lead: stack[:, i][np.isfinite(stack[:, i]).any(axis=1)] for i, lead in enumerate(LEADS)}
    return MeanBeats(times_s, median_mv, np.isfinite(stack).sum(axis=0), each)


def _r_peaks(mv: Float64) -> Samples:
    """Return R peaks in samples, as neurokit2's own method finds them.

    Source: Makowski et al., Behav Res Methods 53:1689, 2021.
    """
    nk = neurokit()
    if np.ptp(mv) < LEAST_MV:
        raise NotMeasured("the lead is flat")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clean = nk.ecg_clean(mv, sampling_rate=int(FS_HZ))
            _, info = nk.ecg_peaks(clean, sampling_rate=int(FS_HZ))
    except Exception as error:  # whatever neurokit2 stumbles over, it found no beats
        raise NotMeasured(f"no beats were found ({error})") from error
    r = np.asarray(info["ECG_R_Peaks"], dtype=np.int64)
    if len(r) < LEAST_BEATS:
        raise NotMeasured(f"expected at least {LEAST_BEATS} beats, but found {len(r)}")
    return r


def _steepness(signals_mv: Float64) -> Float64:
    """Return (n,) how steep the leads are at each moment; QRS complexes are about 1.

    It is the root mean square of the slopes of the leads printed at that moment. Where others are
    printed, it is the share of another usual steepness.
    """
    slopes = np.zeros(signals_mv.shape)
    edges = {0, signals_mv.shape[1]}
    for slope, mv in zip(slopes, signals_mv, strict=True):
        runs = _runs(np.isfinite(mv), 0)
        for start, stop in runs:
            if stop - start > 1:
                smooth = gaussian_filter1d(mv[start:stop], 0.006 * FS_HZ)
                slope[start:stop] = np.gradient(smooth)
        if runs:
            edges |= {runs[0][0], runs[-1][1]}
    size: Float64 = np.sqrt((slopes**2).sum(axis=0))
    for start, stop in _pieces(edges):
        piece = gaussian_filter1d(size[start:stop], 0.016 * FS_HZ)
        size[start:stop] = piece / max(float(np.quantile(piece, 0.98)), 1e-9)
    return size


def _pieces(edges: set[int]) -> list[tuple[int, int]]:
    """Return [start, stop) between edges that are a second apart or more."""
    kept = [0]
    last = max(edges)
    for edge in sorted(edges):
        if edge - kept[-1] >= FS_HZ and last - edge >= FS_HZ:
            kept.append(edge)
    return list(zip(kept, [*kept[1:], last], strict=True))


def _confirmed(r: Samples, steepness: Float64) -> Samples:
    """Return those R peaks at which all leads together are steep: T waves are not.

    Raises:
        NotMeasured: The leads are steep elsewhere too, or not more so than between beats.
    """
    near, around = round(NEAR_S * FS_HZ), round(QRS_AROUND_S * FS_HZ)
    steep = np.array([steepness[max(k - near, 0) : k + near].max(initial=0) for k in r])
    if ((steep >= FLAT) & (steep < STEEP)).any():
        raise NotMeasured("it is not certain which deflections are beats")
    r = r[steep >= STEEP]
    between = steepness.copy()
    for k in r:
        between[max(k - around, 0) : k + around] = 0
    edge = round(EDGE_S * FS_HZ)
    if between[edge:-edge].max(initial=0) >= LEFT_STEEP:
        raise NotMeasured("it is not certain which deflections are beats")
    if len(r) < LEAST_BEATS:
        raise NotMeasured(f"expected at least {LEAST_BEATS} beats, but found {len(r)}")
    return r


def _aligned(mv: Float64, r: Samples) -> tuple[Samples, Mask]:
    """Move beats so that their QRS complexes lie on each other, and say which are alike."""
    span = np.arange(round(_QRS_S[0] * FS_HZ), round(_QRS_S[1] * FS_HZ))
    most = round(_SHIFT_S * FS_HZ)
    r = r[(r + span[0] - most >= 0) & (r + span[-1] + most < len(mv))]
    if len(r) < LEAST_BEATS:
        raise NotMeasured(f"expected at least {LEAST_BEATS} whole beats, but found {len(r)}")
    template = np.median(mv[r[:, None] + span], axis=0)
    shifts = np.arange(-most, most + 1)
    for _ in range(2):
        likeness = np.array(
            [[_correlation(template, mv[one + shift + span]) for shift in shifts] for one in r]
        )
        best = likeness.argmax(axis=1)
        template = np.median(mv[(r + shifts[best])[:, None] + span], axis=0)
    alike = likeness.max(axis=1) >= ALIKE
    r = r + shifts[best]
    if (np.diff(r) <= 0).any():
        raise NotMeasured("beats lie on each other")
    if np.ptp(template) < LEAST_MV:
        raise NotMeasured("the QRS complexes are too small to be sure")
    return r, alike


def _correlation(a: Float64, b: Float64) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def _runs(seen: Mask, most_missing: int) -> list[tuple[int, int]]:
    """Return [start, stop) of what is seen, across holes of up to some samples."""
    where = np.flatnonzero(seen)
    if not len(where):
        return []
    breaks = np.flatnonzero(np.diff(where) > most_missing + 1)
    starts = where[np.append(0, breaks + 1)]
    stops = where[np.append(breaks, len(where) - 1)] + 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _length(run: tuple[int, int]) -> int:
    return run[1] - run[0]
