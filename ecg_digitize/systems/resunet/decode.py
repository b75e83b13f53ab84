"""From the mask of the trace to the lines of the rows, with the gain that ``pulse`` measures."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks
from scipy.stats import theilslopes

from ecg_digitize.errors import StageError
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.jit import compiled
from ecg_digitize.layout import COMPETITION, Layout
from ecg_digitize.systems.resunet.pulse import Spans, find_pulse, gain_of
from ecg_digitize.types import Float64, Mask


class DecodeOptions(NamedTuple):
    """Constants of the decoder; lengths are px of the mask, where a page's 1 mm is at most 3.9 px.

    Attributes:
        blur_px: By which the ink of the rows of pixels is smoothed.
        apart_px: Least distance of two baselines.
        reach: How far from its baseline a line may be, as a share of the distance of the rows;
            at 1 the next row's line begins.
        start: The same where a line begins, or begins anew.
        hole_px: Holes in the ink of a column that are closed.
        jump_px: How far a line may move from one column to the next.
        gap_px: Columns without a line, after which it is looked for at the baseline again.
        dense_px, dense: A row begins, and ends, where this share of so many columns has a line.
        seen: Share of the columns of a row that must have a line.
        level_share: Share of the columns of which the line is level: their groups are as high as
            the stroke is wide.
    """

    blur_px: float = 3.0
    apart_px: int = 45
    reach: float = 0.9
    start: float = 0.4
    hole_px: int = 2
    jump_px: int = 60
    gap_px: int = 12
    dense_px: int = 16
    dense: float = 0.6
    seen: float = 0.25
    level_share: float = 0.2


DEFAULTS: Final = DecodeOptions()
NO_LINE: Final = -1


@dataclass(frozen=True)
class Lines:
    """The rows of a page, in px of its mask."""

    y_px: Float64  # (rows, W) middle of the stroke, NaN where there is none
    baseline_px: Float64  # (rows,)
    start_px: Float64  # (rows,) x of the first sample
    end_px: Float64  # (rows,) x of the last sample
    px_per_mv: float
    n_pulses: int  # that the gain was taken from; 0: it is the usual one

    def row_mv(self, row: int, at_px: Float64) -> Float64:
        """Return a row's mV at some x; straight lines lead over the gaps."""
        y_px = self.y_px[row]
        known = np.flatnonzero(np.isfinite(y_px))
        line_px = np.interp(at_px, known, y_px[known])
        return np.asarray((self.baseline_px[row] - line_px) / self.px_per_mv)


def decode(
    mask: Mask,
    *,
    layout: Layout = COMPETITION,
    source: str = "page",
    options: DecodeOptions = DEFAULTS,
) -> Lines:
    """Read the lines of an upright page.

    Args:
        mask: (H, W) bool, ink of the traces and the pulses.
        layout: What is printed where.
        source: Name of the page, for messages.
        options: Constants of the decoder.

    Raises:
        StageError: There are fewer rows than the layout has, or a row has hardly any line.
    """
    baseline_px = find_baselines(mask, layout.n_rows, source=source, options=options)
    spacing_px = float(np.median(np.diff(baseline_px)))
    closed = _without_holes(mask, options.hole_px)
    near_px, far_px = options.start * spacing_px, options.reach * spacing_px
    spans = np.stack(
        [
            _follow(closed, zero, near_px, far_px, options.jump_px, options.gap_px)
            for zero in baseline_px
        ]
    )
    found = spans[..., 0] != NO_LINE
    if (least := found.mean(axis=1).min()) < options.seen:
        raise StageError("resunet", f"{source}: a row's line is seen in {least:.0%} of the columns")
    ends = np.array([_ends(row, options) for row in found])
    thick = [np.diff(span[at]) for span, at in zip(spans, found, strict=True)]
    strokes_px = np.array([np.quantile(one, options.level_share) for one in thick])
    pulses = [
        find_pulse(span, first_px=int(first), last_px=int(last), stroke_px=stroke)
        for span, (first, last), stroke in zip(spans, ends, strokes_px, strict=True)
    ]
    start_px, end_px = ends[:, 0] + (strokes_px - 1) / 2, ends[:, 1] - (strokes_px - 1) / 2
    end_px = _straight(baseline_px, end_px)
    px_per_mv, n_pulses = gain_of(pulses)
    if n_pulses:
        rights = np.array([np.nan if pulse is None else pulse.right_px for pulse in pulses])
        start_px = _straight(baseline_px, rights)
    else:
        start_px = _straight(baseline_px, start_px)
        drawn_mm = (layout.n_columns - 1) / TRACE_FS_HZ * layout.mm_per_s
        px_per_mv = layout.mm_per_mv * float(np.median(end_px - start_px)) / drawn_mm
    y_px = np.where(found, (spans[..., 0] + spans[..., 1] - 1) / 2, np.nan)
    return Lines(y_px, baseline_px, start_px, end_px, px_per_mv, n_pulses)


def find_baselines(
    mask: Mask, n_rows: int, *, source: str = "page", options: DecodeOptions = DEFAULTS
) -> Float64:
    """Return (rows,) y, from the top: where most ink lies side by side.

    Raises:
        StageError: There are fewer.
    """
    ink = gaussian_filter1d(mask.sum(axis=1).astype(np.float64), options.blur_px)
    peaks, _ = find_peaks(np.pad(ink, 1), distance=options.apart_px)
    if len(peaks) < n_rows:
        raise StageError(
            "resunet", f"{source}: expected {n_rows} rows, but the mask shows {len(peaks)}"
        )
    peaks = peaks - 1
    return np.sort(peaks[np.argsort(-ink[peaks])[:n_rows]]).astype(np.float64)


def _without_holes(mask: Mask, hole_px: int) -> Mask:
    """Close holes between ink and ink below it: one pixel missing would break a steep stroke."""
    kernel = np.ones((hole_px + 1, 1), np.uint8)
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(np.bool_)


@compiled
def _follow(
    mask: Mask, baseline_px: float, near_px: float, far_px: float, jump_px: int, gap_px: int
) -> Spans:
    """Return (W, 2) the first row of pixels of a line's group in each column, and that below it.

    The first group is the one nearest to the baseline; from then on it is the one nearest to the
    group before, and where several touch that, the one whose middle is nearest to the baseline.
    """
    height, width = mask.shape
    spans = np.full((width, 2), -1, np.int64)
    last, top, bottom = -gap_px - 2, 0, 0
    for x in range(width):
        lost = x - last > gap_px
        least = np.inf
        y = 0
        while y < height:
            if not mask[y, x]:
                y += 1
                continue
            start = y
            while y < height and mask[y, x]:
                y += 1
            off = max(start - baseline_px, baseline_px - (y - 1), 0.0)
            if off > (near_px if lost else far_px):
                continue
            if not lost:
                moved = max(start - bottom, top - y, 0)
                if moved > jump_px:
                    continue
                off = moved + 1e-3 * abs((start + y - 1) / 2 - baseline_px)
            if off < least:
                least = off
                spans[x, 0], spans[x, 1] = start, y
        if spans[x, 0] >= 0:
            last, top, bottom = x, spans[x, 0], spans[x, 1]
    return spans


def _ends(found: Mask, options: DecodeOptions) -> tuple[int, int]:
    """Return the first and the last column of a row: those at which many have a line."""

    def first(columns: Mask) -> int:
        share = np.convolve(columns, np.ones(options.dense_px) / options.dense_px, "full")
        ahead = share[options.dense_px - 1 :]  # of a column and those to its right
        return int(np.argmax(columns & (ahead >= options.dense)))

    return first(found), len(found) - 1 - first(found[::-1])


def _straight(y_px: Float64, x_px: Float64) -> Float64:
    """Return the x on the straight line through most of the points; NaN are left out."""
    known = np.isfinite(x_px)
    slope, intercept, *_ = theilslopes(x_px[known], y_px[known])
    return np.asarray(intercept + slope * y_px)
