"""Losses on column distributions."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SEAM_WEIGHT: Final = 6.0
"""Extra weight of the columns round a lead's first and last. There the upright of the calibration
pulse, a bar or the neighbour lead's last wave lies in the way, and taking it for the trace over a
few columns costs a 2.5 s lead 10 dB: 2 % of the time held a third of the error on renders."""


class _ColumnStatistics(torch.autograd.Function):
    """Softmax over dim 2, reduced at once to log-probabilities at some bins and to the mean.

    One pass forward and one backward over the (N, R, H, W) scores; composed from library calls
    the same takes six and a third of a training step on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        probability = torch.softmax(logits, dim=2, dtype=torch.float32)
        bins = torch.arange(logits.shape[2], device=logits.device, dtype=torch.float32)
        mean = torch.einsum("nrhw,h->nrw", probability, bins)
        log_p = probability.gather(2, index).clamp_min(1e-30).log()
        ctx.save_for_backward(probability, index, mean, bins)
        ctx.dtype = logits.dtype
        return log_p, mean

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        d_log_p, d_mean = grads
        probability, index, mean, bins = ctx.saved_tensors
        slope = bins[None, None, :, None] * d_mean[:, :, None]
        slope -= (d_log_p.sum(2) + mean * d_mean)[:, :, None]
        slope *= probability
        slope.scatter_add_(2, index, d_log_p)
        return slope.to(ctx.dtype), None


def deflection_weight(y_bins: Tensor, *, reach: int = 8, gain: float = 0.125) -> Tensor:
    """Weigh columns by how far the trace moves near them: QRS complexes decide the SNR.

    Nine columns in ten are nearly flat and soon right; unweighted, the tips of R waves stay 20 %
    short for the first thousand steps.

    Args:
        y_bins: (N, R, W) centre line, finite.
        reach: Columns to both sides.
        gain: Weight a bin of movement.

    Returns:
        (N, R, W), 1 where flat, at most 8.
    """
    high = F.max_pool1d(y_bins, 2 * reach + 1, stride=1, padding=reach)
    low = -F.max_pool1d(-y_bins, 2 * reach + 1, stride=1, padding=reach)
    return 1 + (gain * (high - low)).clamp(max=7)


@dataclass(frozen=True)
class Mixture:
    """Weights of what a column can be judged by."""

    cross_entropy: float = 0.0  # against a narrow Gaussian round the centre line
    coordinate: float = 0.0  # smooth L1 distance of the soft-argmax, in bins
    mask: float = 0.0  # binary cross-entropy on the fractional mask of a line one bin thick
    snr: float = 0.0  # log of error over signal power of each row's soft-argmax
    positive_weight: float = 10.0  # of the mask's bins with ink against those without
    is_plain: bool = False  # whether all columns count alike


MIXTURES: Final = {
    "column+coordinate": Mixture(cross_entropy=1.0, coordinate=0.1),
    "column": Mixture(cross_entropy=1.0),
    "coordinate": Mixture(coordinate=1.0),
    "mask": Mixture(mask=1.0),
    "snr": Mixture(snr=1.0),
    "column+snr": Mixture(cross_entropy=1.0, snr=0.2),
    "published mask": Mixture(mask=1.0, positive_weight=20.0, is_plain=True),
}
"""What stage 2 can be trained by; docs/ablation.md compares them."""
SHIPS: Final = "column+coordinate"

SIGMA_BINS: Final = 0.8
"""Width of the Gaussian that a column's distribution should be."""


def column_loss(
    logits: Tensor,
    y_bins: Tensor,
    *,
    seams: Tensor | None = None,
    mixture: Mixture = MIXTURES[SHIPS],
) -> Tensor:
    """Judge the distribution of every column.

    Columns are weighed by `deflection_weight`, and those at seams by SEAM_WEIGHT more, unless the
    mixture is plain; the SNR weighs itself.

    Args:
        logits: (N, R, H, W) scores of the bins.
        y_bins: (N, R, W) true centre line in bins, NaN where there is none to learn.
        seams: (N, R, W) bool, columns round the first and last of a lead.
        mixture: What is judged.

    Returns:
        Scalar.
    """
    height = logits.shape[2]
    valid = torch.isfinite(y_bins) & (y_bins >= 0) & (y_bins <= height - 1)
    y = torch.where(valid, y_bins, torch.zeros_like(y_bins))
    reach = int(3 * SIGMA_BINS + 1)
    offsets = torch.arange(-reach, reach + 1, device=logits.device)
    index = (y.round().long()[:, :, None] + offsets[None, None, :, None]).clamp(0, height - 1)
    weight = torch.exp(-0.5 * ((index - y[:, :, None]) / SIGMA_BINS) ** 2)
    weight = weight / weight.sum(2, keepdim=True)
    log_p, mean = _ColumnStatistics.apply(logits, index)  # type: ignore[no-untyped-call]
    loss = -mixture.cross_entropy * (weight * log_p).sum(2)
    loss = loss + mixture.coordinate * F.smooth_l1_loss(mean, y, reduction="none")
    if mixture.mask:
        loss = loss + mixture.mask * _mask_loss(logits, y, mixture.positive_weight)
    middle = torch.nanmean(torch.where(valid, y_bins, torch.nan), dim=2, keepdim=True)
    if mixture.is_plain:
        importance = torch.ones_like(y)
    else:
        importance = deflection_weight(torch.where(valid, y_bins, middle.nan_to_num()))
    if seams is not None and not mixture.is_plain:
        importance = importance + SEAM_WEIGHT * seams
    importance = torch.where(valid, importance, 0.0)
    total: Tensor = (importance * loss).sum() / importance.sum().clamp_min(1.0)
    if mixture.snr:
        off = torch.where(valid, mean - y, 0.0).square().sum(2)
        signal = torch.where(valid, y - middle, 0.0).square().sum(2)
        total = total + mixture.snr * torch.log((off + 1) / (signal + 1)).mean()
    return total


def _mask_loss(logits: Tensor, y_bins: Tensor, positive_weight: float) -> Tensor:
    """Return (N, R, W): the cross-entropy of each column with a line one bin thick."""
    bins = torch.arange(logits.shape[2], device=logits.device)[None, None, :, None]
    mask = (1 - (bins - y_bins[:, :, None]).abs()).clamp_min(0)
    weight = torch.tensor(positive_weight, device=logits.device)
    # One bin of a column is ink; without this prior, steps go into learning that.
    prior = math.log(positive_weight / logits.shape[2])
    return F.binary_cross_entropy_with_logits(
        logits.float() + prior, mask, pos_weight=weight, reduction="none"
    ).sum(2)


def draw_gaussians(
    shape: tuple[int, int], xy_px: NDArray[np.floating[Any]], *, sigma_px: float
) -> NDArray[np.float32]:
    """Draw the soft target of marks: Gaussians of height 1, the maximum where two meet.

    Args:
        shape: Height and width of the map.
        xy_px: (n, 2) points, map px; those outside or NaN are left out.
        sigma_px: Width.

    Returns:
        (H, W) float32.
    """
    target = np.zeros(shape, np.float32)
    reach = int(np.ceil(3 * sigma_px))
    for x, y in xy_px[np.isfinite(xy_px).all(-1)]:
        left, top = max(0, round(float(x)) - reach), max(0, round(float(y)) - reach)
        right, bottom = round(float(x)) + reach + 1, round(float(y)) + reach + 1
        if right <= 0 or bottom <= 0 or left >= shape[1] or top >= shape[0]:
            continue
        window = target[top:bottom, left:right]
        column = np.arange(left, left + window.shape[1])
        row = np.arange(top, top + window.shape[0])
        bump = np.exp(-((row[:, None] - y) ** 2 + (column[None] - x) ** 2) / (2 * sigma_px**2))
        np.maximum(window, bump.astype(np.float32), out=window)
    return target


def marker_loss(logits: Tensor, target: Tensor, *, positive_weight: float = 10.0) -> Tensor:
    """Binary cross-entropy on soft marks, per unit of mark: maps of few marks count no less.

    Args:
        logits: (...) scores.
        target: (...) in [0, 1], see draw_gaussians.
        positive_weight: Weight of the marks against the background.

    Returns:
        Scalar.
    """
    weight = torch.tensor(positive_weight, device=logits.device)
    loss = F.binary_cross_entropy_with_logits(
        logits.float(), target, pos_weight=weight, reduction="sum"
    )
    return loss / (positive_weight * (target.sum() + 1.0))
