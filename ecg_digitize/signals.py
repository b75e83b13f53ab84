"""From the decoded centre lines to twelve leads in millivolts, and back to printed rows.

Time: trace column n is the sample at n / 500 s of its row. Each row's lead windows are resampled
on their own, because the trace jumps from one lead to the next.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from ecg_digitize.errors import InputError
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import COMPETITION, LEADS, Layout
from ecg_digitize.limb import GOLDBERGER, STRIP, Sum, relations_by_window
from ecg_digitize.types import Float32, Float64, Recording, Trace

SINC_LOBES: Final = 32
"""Half width of the interpolation kernel, in trace columns."""
KAISER_BETA: Final = 8.0
"""Stop band below -80 dB; flat to 230 Hz."""

FUSION_MAX_NOISE_MV: Final = 0.05
"""Leads that typically disagree by more than this are not blended; 0.013 mV is what 26 dB needs."""
_LOST_MV: Final = 0.15
"""Nor are places where they disagree by more than this, so that one lost beat neither spoils nor
stops the rest: 0.5 dB on four scans; 0.1 to 0.2 are worth the same."""
RHYTHM_LEADS: Final = ("I", "II", "III", "aVF", "V1", "V2", "V3", "V5")
"""Leads that machines print as strips. V4 and V6 look like V5, aVL and aVR like I."""
RHYTHM_ALIKE: Final = 0.4
RHYTHM_UNLIKE: Final = 0.8
"""Difference of a short lead from the strip that repeats it, as a share of the lead: 0.1 where it
does, 1 and more where it does not, 0.6 between limb leads that look alike."""
RHYTHM_CLEARLY: Final = 2.5
"""How much more like another lead than II the strip must be."""
_LEAST_SWING_MV: Final = 0.02
_MOSTLY: Final = 0.6
_HARDLY: Final = 0.2
_RHYTHM_LAG: Final = 30  # columns, 60 ms: three times what skewed prints show
_JUDGED_COLUMNS: Final = 51
_FADE_COLUMNS: Final = 25
_CONFIDENT: Final = 0.5
_CONFIDENCE_FLOOR: Final = 0.05

_BLENDED: Final[tuple[Sum, ...]] = (
    {"I": -1.0, "III": -1.0, STRIP: 1.0},
    {"II": -1.0, STRIP: 1.0},
    GOLDBERGER,
    {"aVR": 2 / 3, "aVF": -2 / 3, STRIP: 1.0},
)


def to_recording(
    trace: Trace,
    *,
    fs_hz: float,
    lengths: Mapping[str, int] | None = None,
    fusion: bool = False,
) -> Recording:
    """Turn centre lines into the twelve leads at a wanted sampling rate.

    Sample j of a lead whose window starts at sample s lies at (s + j) / fs_hz, exactly.

    Args:
        trace: Centre lines, rect-frame px at 500 Hz.
        fs_hz: Wanted sampling rate; any positive one. At 500 Hz no sample is touched; below, none
            is filtered: they are the drawn line's values at their instants.
        lengths: Samples wanted of each lead (`number_of_rows` of the competition's test.csv), all
            twelve. Left out, the windows are those of `Layout.window`.
        fusion: Blend limb leads that are printed twice or follow from each other, see
            `fuse_rows`; nothing is blended if the strip is not II, nor if the trace is exact.

    Returns:
        (12, n) float32 mV, NaN outside each lead's window and outside the picture; n = the strip's
        length or round(fs_hz * duration_s).

    Raises:
        InputError: fs_hz or lengths cannot be used.
    """
    if not (np.isfinite(fs_hz) and fs_hz > 0):
        raise InputError(f"fs_hz must be a positive number of samples a second, but got {fs_hz}")
    rows_mv, layout = rows_from_trace(trace), trace.layout
    if fusion and layout.strip_lead == "II" and not trace.is_exact:
        rows_mv = fuse_rows(rows_mv, trace.confidence, layout=layout)
    n_total = round(layout.duration_s * fs_hz)
    if lengths is not None and layout.strip_lead is not None:
        n_total = _length(lengths, layout.strip_lead)
    signals_mv = np.full((len(LEADS), n_total), np.nan, dtype=np.float32)
    for lead in layout.leads:
        row, columns = layout.place(lead)
        start, stop = layout.window(lead, n_total)
        if lengths is not None:
            stop = start + _length(lengths, lead)
        if stop > n_total:
            raise InputError(
                f"lengths: lead {lead} starts at sample {start} of {n_total} and can have at most "
                f"{n_total - start}, but {stop - start} are wanted; check number_of_rows and fs"
            )
        signals_mv[LEADS.index(lead), start:stop] = layout.mv_per_row_mv(lead) * resample_window(
            rows_mv[row, columns],
            first=start / fs_hz * TRACE_FS_HZ - columns.start,
            step=TRACE_FS_HZ / fs_hz,
            count=stop - start,
        )
        if trace.shown is not None:
            at = columns.start + np.rint(np.arange(stop - start) * TRACE_FS_HZ / fs_hz).astype(int)
            hidden = ~trace.shown[row, np.minimum(at, layout.n_columns - 1)]
            signals_mv[LEADS.index(lead), start:stop][hidden] = np.nan
    return Recording(signals_mv, float(fs_hz), layout, by_lines=trace.by_lines)


def find_rhythm(trace: Trace, *, otherwise: str | None = "II") -> str | None:
    """Say which lead the rhythm strip repeats.

    It is II unless II's window, clearly seen, is not repeated at the same time. Machines print V1
    or V5 as well, or leave the strip out.

    Args:
        trace: Centre lines, rect-frame px at 500 Hz.
        otherwise: What a strip is that repeats none of the leads.

    Returns:
        One of RHYTHM_LEADS; None if there is no strip, or if it is hardly seen.
    """
    rows_mv, strip = rows_from_trace(trace), trace.layout.strip_row
    seen = trace.confidence > _CONFIDENT
    if strip is None or seen[strip].mean() < _HARDLY:
        return None
    unlike = {}
    for lead in RHYTHM_LEADS:
        if not trace.layout.shows(lead, short=True):
            continue
        row, columns = trace.layout.place(lead, short=True)
        short_mv, long_mv = rows_mv[row, columns], rows_mv[strip, columns]
        clear = (seen[row, columns] & seen[strip, columns]).mean() > _MOSTLY
        swing_mv = min(float(np.std(short_mv)), float(np.std(long_mv)))
        if clear and swing_mv > _LEAST_SWING_MV:
            unlike[lead] = _difference_mv(short_mv, long_mv) / float(np.std(short_mv))
    usual = unlike.get("II", 0.0)
    if usual < RHYTHM_ALIKE:
        return "II"
    best = min(unlike, key=unlike.__getitem__)
    if unlike[best] < RHYTHM_ALIKE and RHYTHM_CLEARLY * unlike[best] < usual:
        return best
    return "II" if usual < RHYTHM_UNLIKE else otherwise


def _difference_mv(short_mv: Float64, long_mv: Float64) -> float:
    """Return the standard deviation of the difference at the best lag: prints stand askew."""
    least = np.inf
    inside = short_mv[_RHYTHM_LAG:-_RHYTHM_LAG]
    for lag in range(0, 2 * _RHYTHM_LAG + 1, 2):
        least = min(least, float(np.std(long_mv[lag : lag + len(inside)] - inside)))
    return least


def rows_from_trace(trace: Trace) -> Float64:
    """Return the (rows, columns) float64 mV of the printed rows at 500 Hz."""
    zero_px = np.array(trace.layout.zero_px)[:, None]
    px_per_mv = trace.layout.rows_px_per_mv[:, None]
    return np.asarray((zero_px - trace.y_px.astype(np.float64)) / px_per_mv)


def rows_from_signals(
    signals_mv: NDArray[np.floating[Any]], *, layout: Layout = COMPETITION
) -> Float64:
    """Lay twelve full-length leads out as the rows that are printed.

    Args:
        signals_mv: (12, 5000) floating, LEADS order, mV at 500 Hz, finite everywhere a row needs.
        layout: What is printed where.

    Returns:
        (rows, columns) float64 mV.

    Raises:
        ValueError: The shape is wrong, or a printed sample is not finite.
    """
    _check_signals(signals_mv, layout.n_columns)
    rows_mv = np.zeros(layout.shape)  # nothing is printed in gaps
    for index, row in enumerate(layout.rows):
        for segment in row.segments:
            columns = layout.columns(segment)
            rows_mv[index, columns] = segment.sign * signals_mv[LEADS.index(segment.lead), columns]
    if not np.isfinite(rows_mv).all():
        raise ValueError("signals_mv must be finite wherever a lead is printed, but is not")
    return rows_mv


def printed_recording(
    signals_mv: NDArray[np.floating[Any]], *, fs_hz: float, layout: Layout = COMPETITION
) -> Recording:
    """Keep of twelve full-length leads what a page shows: NaN outside each lead's window.

    Args:
        signals_mv: (12, n) floating, LEADS order, mV, n = round(10 fs_hz).
        fs_hz: Its sampling rate.
        layout: What is printed where.

    Returns:
        The recording that a perfect digitization of the page would give.

    Raises:
        ValueError: The shape is wrong.
    """
    n_total = round(layout.duration_s * fs_hz)
    _check_signals(signals_mv, n_total)
    printed = np.full((len(LEADS), n_total), np.nan, dtype=np.float32)
    for lead in layout.leads:
        index = LEADS.index(lead)
        start, stop = layout.window(lead, n_total)
        printed[index, start:stop] = signals_mv[index, start:stop]
    return Recording(printed, float(fs_hz), layout)


def fuse_rows(
    rows_mv: Float64,
    confidence: Float32,
    *,
    layout: Layout = COMPETITION,
    max_noise_mv: float = FUSION_MAX_NOISE_MV,
) -> Float64:
    """Blend the limb leads that say the same thing, where they do agree.

    In the first 2.5 s lead II is printed twice and equals I + III; in the next 2.5 s the augmented
    leads sum to zero and give II as 2/3 (aVF - aVR). Each window moves by the smallest
    confidence-weighted correction that fulfils its relations up to a constant. It moves only if
    the relations' own residual says that the rows typically carry less than `max_noise_mv` of
    noise, and only where the residual of a tenth of a second does not speak of a lost trace: it
    would otherwise spoil three good ones.

    Args:
        rows_mv: (rows, columns) float64, mV at 500 Hz.
        confidence: (rows, columns) float32 in [0, 1], 0 where the trace was filled in.
        layout: What the rows show.
        max_noise_mv: Largest RMS noise of a row, estimated from the residual, to blend at.

    Returns:
        (rows, columns) float64 mV; offsets of the leads stay as they were.
    """
    fused = rows_mv.copy()
    for window, relations in relations_by_window(layout, _BLENDED):
        used = (relations != 0).any(axis=0)
        trusted = confidence[used, window].min(axis=0) >= _CONFIDENT
        if trusted.mean() < 0.5:
            continue  # too little to judge the agreement by
        residual = relations @ rows_mv[:, window]  # (relations, width) mV
        # The offsets of the leads are free, in the metric and on the paper.
        residual -= np.median(residual[:, trusted], axis=1, keepdims=True)
        gram = relations @ relations.T
        per_relation = np.linalg.solve(gram, residual)
        # Where one lead was not seen the residual is its own, and it alone will move.
        power_mv2 = trusted * np.sum(residual * per_relation, axis=0) / len(relations)
        noise_mv = np.sqrt(np.maximum(uniform_filter1d(power_mv2, _JUDGED_COLUMNS), 0))
        if np.median(noise_mv[trusted]) > max_noise_mv:
            continue
        share = uniform_filter1d((noise_mv < _LOST_MV).astype(np.float64), _FADE_COLUMNS)
        variance = np.clip(confidence[:, window], _CONFIDENCE_FLOOR, 1.0).astype(np.float64) ** -2
        weighted = np.einsum("ir,rt,jr->tij", relations, variance, relations)
        multipliers = np.linalg.solve(weighted, residual.T[..., None])[..., 0]
        fused[:, window] -= share * variance * (multipliers @ relations).T
    return fused


def resample_window(values: Float64, *, first: float, step: float, count: int) -> Float64:
    """Evaluate a signal at evenly spaced positions, by windowed sinc interpolation.

    Beyond its ends the signal is turned about the end point (odd reflection): value and slope go
    on, so nothing rings. Frequencies above half the wanted rate are kept: a page drawn from samples
    at that rate goes straight from one to the next, and a filter would cut its corners off.

    Args:
        values: (n,) float64 samples at positions 0..n-1.
        first: Position of the first wanted sample, in input samples; may lie just outside.
        step: Input samples from one wanted sample to the next.
        count: Wanted samples.

    Returns:
        (count,) float64. Equal to `values` where step is 1 and first is 0.
    """
    if step == 1.0 and first == 0.0 and count == values.size:
        return values.copy()
    index, weights, pad = _kernel(values.size, first, step, count)
    extended = np.pad(values, pad, mode="reflect", reflect_type="odd")
    resampled: Float64 = np.einsum("jk,jk->j", extended[index], weights)
    return resampled


@lru_cache(maxsize=16)  # a page needs two to five of them, and a batch the same ones again
def _kernel(n: int, first: float, step: float, count: int) -> tuple[NDArray[np.intp], Float64, int]:
    """Return (count, taps) indices into the padded signal, (count, taps) weights, and the pad."""
    pad = SINC_LOBES + 2
    # A caller may want a few samples more than were printed: hold the end there.
    position = np.clip(first + step * np.arange(count), -1.0, float(n))
    index = np.floor(position).astype(np.intp)[:, None] + np.arange(1 - SINC_LOBES, SINC_LOBES + 1)
    lobes = position[:, None] - index
    taper = np.i0(KAISER_BETA * np.sqrt(np.clip(1.0 - (lobes / SINC_LOBES) ** 2, 0.0, None)))
    weights = np.sinc(lobes) * taper
    weights /= weights.sum(axis=1, keepdims=True)  # a constant stays the constant
    return index + pad, weights, pad


def _length(lengths: Mapping[str, int], lead: str) -> int:
    length = lengths.get(lead)
    if length is None or length < 1:
        raise InputError(
            f"lengths must give a positive number of samples for lead {lead}, but got {length}; "
            "test.csv needs one row for each of the twelve leads of an image"
        )
    return int(length)


def _check_signals(signals_mv: NDArray[np.floating[Any]], n_total: int) -> None:
    if signals_mv.shape != (len(LEADS), n_total):
        raise ValueError(
            f"signals_mv must be ({len(LEADS)}, {n_total}), but got {signals_mv.shape}"
        )
