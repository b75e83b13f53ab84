"""Where the leads of each row begin and end on the paper, by the ink of the rows.

A row begins with its first sample, unless a calibration pulse leads to it; then its end tells, less
its length. Some machines leave gaps between the leads; they are where no row has ink.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np

from ecg_digitize.stage1.pulses import Pulse
from ecg_digitize.types import Float64, Image, Mask


class PlaceOptions(NamedTuple):
    """Constants of the search.

    Attributes:
        reach_mm: How far from its baseline ink counts for a row, if the next row is not nearer.
        closed_mm: Gaps in the ink of a row that are closed.
        gap_mm: Width of the narrowest gap between leads,
        seam: and how far, as a share of a lead's length, its middle may be from where a lead ends.
        beside_mm: How far beside its edges a pulse still has ink.
        foot_mm: By how much the ink of a row may be longer than its time, a pulse leading to it.
        usual_mm: Lengths of rows: ten seconds at 25 mm/s, and five at 50, and half of it.
        slack_mm: By how much a row may be longer than such a length,
        lost_mm: and shorter: the ends of its ink are often not seen.
        agree_mm: By how much a row's end may be off the others'.
        frame_mm: And a line of a frame off where the rows begin or end.
        pitch: Share by which the columns of names may be farther apart or nearer than the leads are
            long, names standing alike; where they differ by more, ink beyond the rows was taken for
            theirs.
    """

    reach_mm: float = 10.0
    closed_mm: float = 0.8
    gap_mm: float = 1.0
    seam: float = 0.2
    beside_mm: float = 0.4
    foot_mm: float = 9.0
    usual_mm: tuple[float, ...] = (250.0, 125.0)
    slack_mm: float = 1.2
    lost_mm: float = 7.0
    agree_mm: float = 2.0
    frame_mm: float = 1.5
    pitch: float = 0.025


DEFAULTS: Final = PlaceOptions()
BEGIN: Final = 20.0
"""Percentile of the rows' beginnings: ink is rather lost there than dirt is taken for it."""


@dataclass(frozen=True)
class Places:
    """Where the leads of the rows lie."""

    starts_mm: Float64  # (columns,) sheet x of the first sample of each column of leads
    lead_mm: float  # length of a lead
    strip_mm: float  # length of a strip; it begins with the first column
    has_gaps: bool
    framed: tuple[bool, bool] = (False, False)  # whether rows begin and end on lines of a frame

    @property
    def length_mm(self) -> float:
        """Length of all leads of a row, without the gaps between them."""
        return len(self.starts_mm) * self.lead_mm

    def is_usual(self, *, options: PlaceOptions = DEFAULTS) -> bool:
        """Say whether machines print rows so long."""
        off_mm = [abs(self.length_mm - usual_mm) for usual_mm in options.usual_mm]
        return min(off_mm) < options.slack_mm

    @property
    def end_mm(self) -> float:
        """Sheet x of the end of the last column of leads."""
        return float(self.starts_mm[-1]) + self.lead_mm


def ink_ends_mm(
    lines: Mask,
    rows_mm: Float64,
    pulses: Sequence[Pulse],
    *,
    px_per_mm: float,
    options: PlaceOptions = DEFAULTS,
) -> tuple[Mask, Float64]:
    """Return (rows, W) which columns have ink of a row, and (rows, 2) sheet x of its ends.

    Args:
        lines: (H, W) bool, what may be traces; its origin is sheet (0, 0).
        rows_mm: (rows,) sheet y of the baselines.
        pulses: What stands before or behind the traces and is none of them.
        px_per_mm: Scale of `lines`.
        options: See there.
    """
    apart_mm = np.diff(rows_mm).min() if len(rows_mm) > 1 else np.inf
    reach = max(round(min(options.reach_mm, 0.5 * apart_mm - 1.0) * px_per_mm), 2)
    x_mm = np.arange(lines.shape[1]) / px_per_mm
    inked = np.zeros((len(rows_mm), lines.shape[1]), np.bool_)
    ends_mm = np.full((len(rows_mm), 2), np.nan)
    half = round(0.5 * options.closed_mm * px_per_mm)
    kernel = np.ones((1, 2 * half + 1), np.uint8)
    for row, zero_mm in enumerate(rows_mm):
        zero = round(float(zero_mm) * px_per_mm)
        band = lines[max(zero - reach, 0) : zero + reach + 1]
        seen = np.asarray(band.any(axis=0))
        for pulse in pulses:
            if pulse.row == row:
                right_mm = pulse.left_mm + pulse.width_mm + options.beside_mm
                if pulse.left_mm < x_mm.mean():
                    seen &= x_mm > right_mm
                else:
                    seen &= x_mm < pulse.left_mm - options.beside_mm
        padded: Image = np.pad(seen.astype(np.uint8)[None], ((0, 0), (half, half)))
        closed = np.asarray(cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel), np.uint8)
        inked[row] = closed.reshape(-1)[half : half + lines.shape[1]] > 0
        at = np.flatnonzero(inked[row])
        if at.size:
            ends_mm[row] = x_mm[at[0]], x_mm[at[-1]]
    return inked, ends_mm


def find_places(
    inked: Mask,
    ends_mm: Float64,
    pulses: Sequence[Pulse],
    *,
    n_columns: int,
    n_rows: int,
    upright: Mask,
    px_per_mm: float,
    names_mm: Float64 | None = None,
    options: PlaceOptions = DEFAULTS,
) -> Places | None:
    """Find where the columns of leads begin, and how long the leads are.

    Args:
        inked: (rows, W), see ``ink_ends_mm``.
        ends_mm: (rows, 2) likewise.
        pulses: Calibration pulses.
        n_columns: Leads of a row.
        n_rows: Rows above the strips.
        upright: (W,) in which columns a frame has an upright line.
        px_per_mm: Scale.
        names_mm: (columns,) sheet x of the columns of names; NaN or None where none were read.
        options: See there.

    Returns:
        None if no row has ink.
    """
    if not np.isfinite(ends_mm[:n_rows]).any():
        return None
    begin_mm, end_mm = (
        _begin_mm(ends_mm[:n_rows, 0], options),
        _end_mm(ends_mm[:n_rows, 1], options),
    )
    middle_mm = 0.5 * (begin_mm + end_mm)
    led_to = any(pulse.left_mm < middle_mm for pulse in pulses)
    followed = any(pulse.left_mm > middle_mm for pulse in pulses)
    runs = _runs(np.asarray(inked[:n_rows].any(axis=0)), px_per_mm, options)
    if n_columns > 1 and (gapped := _gapped(runs, n_columns, end_mm, options)):
        starts_mm, lead_mm = gapped
        strip_mm = n_columns * lead_mm
        if n_rows < len(ends_mm):
            seen_mm = _end_mm(ends_mm[n_rows:, 1], options) - starts_mm[0]
            strip_mm = _usual(max(float(seen_mm), strip_mm), False, options)
        return Places(starts_mm, lead_mm, strip_mm, True)
    # Many machines draw the leads of the rows some samples short, but never the strip.
    end_mm = max(end_mm, _end_mm(ends_mm[:, 1], options))
    if n_rows < len(ends_mm) and np.isfinite(ends_mm[n_rows:, 1]).any():
        strip_end_mm = float(np.nanmax(ends_mm[n_rows:, 1]))
        if end_mm < strip_end_mm < end_mm + options.agree_mm:
            end_mm = strip_end_mm
    length_mm = _usual(end_mm - begin_mm, led_to, options)
    by_names_mm = _by_names_mm(names_mm, options)
    if by_names_mm is not None and abs(length_mm / by_names_mm - 1) > 0.1 * options.pitch:
        if abs(length_mm / by_names_mm - 1) > 2 * options.pitch:
            end_mm = begin_mm + by_names_mm
        length_mm = by_names_mm
    if led_to and length_mm in options.usual_mm:
        end_mm = _behind_pulses(end_mm, length_mm, ends_mm[:, 1], pulses, options)
    from_end_mm = end_mm - length_mm
    if led_to:
        begin_mm = from_end_mm
    elif not followed:  # it lies about the middle of what is seen
        begin_mm = 0.5 * (begin_mm + from_end_mm)
    lead_mm = length_mm / n_columns
    starts_mm = np.asarray(begin_mm + lead_mm * np.arange(n_columns), np.float64)
    lines_mm = np.flatnonzero(upright) / px_per_mm
    on_frame = [
        bool((np.abs(lines_mm - at_mm) < options.frame_mm).any())
        for at_mm in (begin_mm, begin_mm + length_mm)
    ]
    return Places(starts_mm, lead_mm, length_mm, False, (on_frame[0], on_frame[1]))


def _by_names_mm(names_mm: Float64 | None, options: PlaceOptions) -> float | None:
    """Return the usual length of rows that the columns of names tell; None if they tell none."""
    if names_mm is None or len(names_mm) < 2 or not np.isfinite(names_mm).all():
        return None
    if not options.usual_mm:
        return None
    length_mm = len(names_mm) * float(np.median(np.diff(names_mm)))
    nearest = min(options.usual_mm, key=lambda usual_mm: abs(usual_mm - length_mm))
    return nearest if abs(length_mm / nearest - 1) < options.pitch else None


def _behind_pulses(
    end_mm: float,
    length_mm: float,
    ends_mm: Float64,
    pulses: Sequence[Pulse],
    options: PlaceOptions,
) -> float:
    """Return where rows end that do not begin before their pulses do end."""
    right_mm = float(np.median([pulse.left_mm + pulse.width_mm for pulse in pulses]))
    least_mm = right_mm + length_mm
    if end_mm > least_mm - options.slack_mm:
        return end_mm
    late = ends_mm[(ends_mm > least_mm - options.slack_mm) & (ends_mm < least_mm + options.foot_mm)]
    return float(np.median(late)) if late.size else least_mm


def _begin_mm(begins_mm: Float64, options: PlaceOptions) -> float:
    """Return where most rows begin: a low percentile of those that agree."""
    known = begins_mm[np.isfinite(begins_mm)]
    close = np.abs(known[:, None] - known) < options.agree_mm
    return float(np.percentile(known[close[int(close.sum(axis=1).argmax())]], BEGIN))


def _end_mm(ends_mm: Float64, options: PlaceOptions) -> float:
    """Return where the rows end: where at least two do, as far right as may be.

    Behind the last beat the ink of a row is often too short to be taken for a trace.
    """
    known = np.sort(ends_mm[np.isfinite(ends_mm)])
    pairs = known[1:][np.diff(known) < 0.5 * options.agree_mm]
    return float(pairs[-1] if pairs.size else known[-1])


def _usual(length_mm: float, led_to: bool, options: PlaceOptions) -> float:
    """Return the usual length that a measured one is, or itself."""
    most_mm = options.foot_mm if led_to else options.slack_mm
    for usual_mm in options.usual_mm:
        if -options.lost_mm < length_mm - usual_mm < most_mm:
            return usual_mm
    return length_mm


def _runs(inked: Mask, px_per_mm: float, options: PlaceOptions) -> Float64:
    """Return (n, 2) sheet x of the runs of ink between gaps."""
    change = np.diff(np.pad(inked, 1).astype(np.int8))
    starts, stops = np.flatnonzero(change == 1), np.flatnonzero(change == -1) - 1
    if not starts.size:
        return np.empty((0, 2))
    wide = (starts[1:] - stops[:-1]) >= options.gap_mm * px_per_mm
    starts, stops = starts[np.append(True, wide)], stops[np.append(wide, True)]
    return np.column_stack([starts, stops]) / px_per_mm


def _gapped(
    runs: Float64, n_columns: int, end_mm: float, options: PlaceOptions
) -> tuple[Float64, float] | None:
    """Return where leads begin that have gaps between them, and their length; None without."""
    long = runs[np.diff(runs).ravel() > 0.3 * np.diff(runs).max(initial=0)]
    if len(long) != n_columns:
        return None
    lead_mm = float(np.median(np.diff(long).ravel()[1:]))
    apart_mm = float(np.median(np.diff(long[:, 0])[1:])) if n_columns > 2 else lead_mm
    starts_mm = long[:, 0].copy()
    if abs((starts_mm[1] - starts_mm[0]) - apart_mm) > options.slack_mm and n_columns > 2:
        starts_mm[0] = starts_mm[1] - apart_mm  # a pulse stands before the first
    even = np.abs(np.diff(starts_mm) - np.diff(starts_mm).mean()) < options.agree_mm
    return (starts_mm, lead_mm) if even.all() else None
