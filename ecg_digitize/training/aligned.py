"""A page's leads beside their truth, aligned as the metric does, and as curves over time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.metrics import MAX_LAG_S, align
from ecg_digitize.types import Float64, Mask


@dataclass(frozen=True)
class AlignedPage:
    """The samples of all leads in one line."""

    lead: NDArray[np.intp]  # (n,) index into LEADS
    row: NDArray[np.intp]  # (n,) which row it is printed in
    taken_s: Float64  # (n,) how late the metric takes the lead to be
    sample: NDArray[np.intp]  # (n,) since the page's first
    time_s: Float64  # (n,) the same
    truth_mv: Float64  # (n,)
    known: Mask  # (n,) where something was read
    curves: dict[int, tuple[CubicSpline, CubicSpline]]  # truth and read of each lead, mV over s

    def error_mv(self, shift_s: Float64 | float = 0.0) -> Float64:
        """Return (n,) truth - read, what was read `shift_s` later; all of the truth if unread."""
        return self.truth_mv - np.where(self.known, self._curve(1, shift_s), 0.0)

    def slope_mv_s(self, shift_s: Float64) -> Float64:
        """Return (n,) the slope of what was read `shift_s` later."""
        return self._curve(1, shift_s, derivative=1)

    def differences_mv(self) -> Float64:
        """Return (2, n) the truth's first and second differences at 500 Hz."""
        before, after = self._curve(0, -1 / TRACE_FS_HZ), self._curve(0, 1 / TRACE_FS_HZ)
        return np.stack([(after - before) / 2, after - 2 * self.truth_mv + before])

    def centred(self, values: Float64, chosen: Mask) -> Float64:
        """Return (..., n) values less each lead's mean over the chosen samples; 0 elsewhere."""
        out = np.zeros_like(values)
        for lead in self.curves:
            here = chosen & (self.lead == lead)
            if here.any():
                out[..., here] = values[..., here] - values[..., here].mean(-1, keepdims=True)
        return out

    def _curve(self, which: int, shift_s: Float64 | float, *, derivative: int = 0) -> Float64:
        """Return (n,) the truth (0) or the read (1) of each sample's lead, `shift_s` later."""
        at_s = self.time_s + shift_s
        out = np.empty_like(at_s)
        for lead, curves in self.curves.items():
            here = self.lead == lead
            within_s = np.clip(at_s[here], self.time_s[here][0], self.time_s[here][-1])
            out[here] = curves[which](within_s, derivative)
        return out


def align_page(truth_mv: Float64, read_mv: Float64, *, fs_hz: float) -> AlignedPage:
    """Align what was read to the truth, lead by lead.

    Args:
        truth_mv: (12, n) float64, LEADS order, mV; a lead's window is where it is finite, in two
            samples or more of one lead at least.
        read_mv: Same shape and unit, NaN where nothing was read.
        fs_hz: Sampling rate of both.
    """
    windows = np.isfinite(truth_mv)
    windows &= windows.sum(axis=1, keepdims=True) > 1  # no curve goes through one point
    lead, sample = np.nonzero(windows)
    row, taken_s, known = np.zeros(lead.size, np.intp), np.zeros(lead.size), lead < 0
    curves = {}
    for k in np.unique(lead):
        here = lead == k
        time_s, truth = sample[here] / fs_hz, truth_mv[k, sample[here]]
        aligned, lag = align(truth, read_mv[k, sample[here]], int(fs_hz * MAX_LAG_S))
        seen = np.isfinite(aligned)
        read = np.interp(time_s, time_s[seen], aligned[seen]) if seen.any() else 0 * truth
        curves[int(k)] = (CubicSpline(time_s, truth), CubicSpline(time_s, read))
        row[here] = _row(k, time_s.size / truth_mv.shape[1])
        taken_s[here] = -lag / fs_hz
        known[here] = seen
    return AlignedPage(
        lead, row, taken_s, sample, sample / fs_hz, truth_mv[lead, sample], known, curves
    )


def _row(lead: int, share: float) -> int:
    """Return the row of the usual sheet, or one of its own for a lead longer than a quarter."""
    if share > 1.5 / len(COMPETITION.rows[0].segments):
        return COMPETITION.n_rows + lead
    return COMPETITION.place(LEADS[lead], short=True)[0]
