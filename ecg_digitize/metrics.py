"""The competition's metric, exactly, and what else tells how close two recordings are.

The metric forgives each lead a constant offset and a whole-sample shift of up to 0.2 s, then sums
the power of signal and error over all leads. Gain is not forgiven: 0.98 alone limits a lead to
34 dB. Images are averaged as linear ratios, never as dB.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from ecg_digitize.layout import LEADS
from ecg_digitize.types import Float64

MAX_LAG_S: Final = 0.2
CAP_RATIO: Final = 384.0
"""Largest linear ratio an image can score: 25.84 dB. One public copy of the metric uses 1e6."""
FLOOR_DB: Final = -384.0


@dataclass(frozen=True)
class LeadScore:
    """How one lead came out, after alignment and removal of the offset.

    Attributes:
        snr_db: 10 log10 of this lead's signal over error power, not capped.
        rmse_mv: RMS error over the whole window; samples without prediction count as 0 mV.
        pearson: Correlation over the overlap, 0 where either side is constant.
        lag_samples: Shift that was applied; positive moves the prediction to the right.
    """

    snr_db: float
    rmse_mv: float
    pearson: float
    lag_samples: int


@dataclass(frozen=True)
class ImageScore:
    """How one image came out.

    Attributes:
        ratio: Signal over error power of all leads, capped: what the competition averages.
        snr_capped_db: The same in dB.
        snr_db: In dB without the cap; inf for a perfect prediction.
        rmse_mv: RMS error over the samples of all leads.
        pearson: Mean over leads.
        leads: By lead name, those that the truth has.
    """

    ratio: float
    snr_capped_db: float
    snr_db: float
    rmse_mv: float
    pearson: float
    leads: Mapping[str, LeadScore]


def image_snr(
    truth_mv: NDArray[np.floating[Any]],
    predicted_mv: NDArray[np.floating[Any]],
    *,
    fs_hz: float,
    cap_ratio: float | None = CAP_RATIO,
) -> ImageScore:
    """Score the prediction of one image.

    Args:
        truth_mv: (12, n) floating, LEADS order, mV; a lead's window is where it is finite.
        predicted_mv: Same shape and unit. Only the samples in the truth's windows count. The
            competition refuses a submission that is not finite there; here such samples are lost,
            which the metric's own rule for samples without prediction makes 0 mV.
        fs_hz: Sampling rate of both.
        cap_ratio: Largest ratio an image can score; None for no cap.

    Returns:
        The image's score and those of its leads.

    Raises:
        ValueError: The shapes do not fit, or the truth has no finite sample.
    """
    truth = np.asarray(truth_mv, dtype=np.float64)
    predicted = np.asarray(predicted_mv, dtype=np.float64)
    if truth.ndim != 2 or truth.shape[0] != len(LEADS) or predicted.shape != truth.shape:
        raise ValueError(
            f"truth_mv and predicted_mv must both be ({len(LEADS)}, n), "
            f"but got {truth.shape} and {predicted.shape}; bring both to the same sampling rate"
        )
    max_lag = int(fs_hz * MAX_LAG_S)
    signal = noise = 0.0
    n_samples = 0
    leads: dict[str, LeadScore] = {}
    for lead, y_all, p_all in zip(LEADS, truth, predicted, strict=True):
        window = np.isfinite(y_all)
        if not window.any():
            continue
        y = y_all[window]
        aligned, lag = align(y, p_all[window], max_lag)
        lead_signal = float(np.sum(y**2))
        lead_noise = float(np.sum((y - np.nan_to_num(aligned, nan=0.0)) ** 2))
        leads[lead] = LeadScore(
            snr_db=_db(_ratio(lead_signal, lead_noise, None)),
            rmse_mv=float(np.sqrt(lead_noise / y.size)),
            pearson=_pearson(y, aligned),
            lag_samples=lag,
        )
        signal += lead_signal
        noise += lead_noise
        n_samples += y.size
    if not leads:
        raise ValueError("truth_mv must have finite samples in at least one lead, but has none")
    ratio = _ratio(signal, noise, cap_ratio)
    return ImageScore(
        ratio=ratio,
        snr_capped_db=_db(ratio),
        snr_db=_db(_ratio(signal, noise, None)),
        rmse_mv=float(np.sqrt(noise / n_samples)),
        pearson=float(np.mean([score.pearson for score in leads.values()])),
        leads=leads,
    )


def of_length(signals_mv: NDArray[np.floating[Any]], n: int) -> NDArray[np.float32]:
    """Return (12, n) mV: cut, or continued with NaN.

    Sheets at other speeds show more or fewer seconds than their truth.
    """
    fitted = np.full((len(signals_mv), n), np.nan, np.float32)
    shared = min(n, signals_mv.shape[1])
    fitted[:, :shared] = signals_mv[:, :shared]
    return fitted


def competition_score(ratios: Iterable[float], *, floor_db: float = FLOOR_DB) -> float:
    """Return the score of a set of images: the mean of their linear ratios, in dB.

    Args:
        ratios: `ImageScore.ratio` of every image.
        floor_db: Smallest score.

    Raises:
        ValueError: There is no image.
    """
    values = list(ratios)
    if not values:
        raise ValueError("competition_score needs the ratio of at least one image, but got none")
    return max(_db(float(np.mean(values))), floor_db)


def align(truth: Float64, predicted: Float64, max_lag: int) -> tuple[Float64, int]:
    """Shift one lead in time, then in mV, as the metric does.

    Args:
        truth: (n,) float64, mV, finite.
        predicted: (n,) float64, mV; NaN where nothing is predicted.
        max_lag: Farthest shift, samples.

    Returns:
        (n,) float64, the prediction on the truth's samples, NaN where there is none; and the shift
        in samples, positive where it moved the prediction to the right.
    """
    n = truth.size
    finite = np.isfinite(predicted)
    aligned = np.full(n, np.nan)
    if not finite.any():
        return aligned, 0
    # A lost sample must not pull the lag: it enters the correlation as the mean.
    centred = np.where(finite, predicted, predicted[finite].mean())
    # With the metric's own routine, so that near-ties of the correlation fall the same way.
    correlation = scipy.signal.correlate(truth - truth.mean(), centred - centred.mean(), "full")
    reach = min(max_lag, n - 1)
    lags = np.arange(-reach, reach + 1)
    allowed = correlation[n - 1 - reach : n + reach]
    tied = lags[allowed == allowed.max()]
    lag = int(tied[np.argmin(np.abs(tied))])

    aligned[max(lag, 0) : n + min(lag, 0)] = predicted[max(-lag, 0) : n - max(lag, 0)]
    aligned[~np.isfinite(aligned)] = np.nan
    if np.isfinite(aligned).any():
        aligned -= np.nanmean(aligned - truth)
    return aligned, lag


def _pearson(truth: Float64, aligned: Float64) -> float:
    known = np.isfinite(aligned)
    if not known.any():
        return 0.0
    y = truth[known] - truth[known].mean()
    q = aligned[known] - aligned[known].mean()
    # The error of the means, not zero, is what is left of a constant.
    scale = float(np.sqrt(np.sum(y**2) * np.sum(q**2)))
    return float(np.sum(y * q)) / scale if scale > 1e-12 else 0.0


def _ratio(signal: float, noise: float, cap_ratio: float | None) -> float:
    cap = float("inf") if cap_ratio is None else cap_ratio
    if noise == 0:
        return cap
    return min(signal / noise, cap)


def _db(ratio: float) -> float:
    return max(10.0 * float(np.log10(ratio)), FLOOR_DB) if ratio > 0 else FLOOR_DB
