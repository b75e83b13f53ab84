"""Train the network on whole pages, by the competition's metric and the smoothness of the leads."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.metrics import MAX_LAG_S
from ecg_digitize.signals import printed_recording
from ecg_digitize.synth.dataset import make_page
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.systems.regression.net import INPUT_PX
from ecg_digitize.systems.starter import GreyImage, grey_sheet
from ecg_digitize.training.loop import Sample

DRAWS: Final = 3
"""Samples of a page. To make one takes 0.36 s of a core, to learn from three samples 0.34 s."""
MEGAPIXELS: Final = 1.0
"""Of photos; the network sees 0.6."""


class LossOptions(NamedTuple):
    """How predicted leads are judged.

    Attributes:
        reach_s: How far a lead may be shifted, as by the metric.
        smoothness: Weight of the mean squared second difference, in mV a sample at 500 Hz. Of true
            leads it is 0.0002.
        floor_mv2: Added to both sums of squares, so that no logarithm is of 0.
    """

    reach_s: float = MAX_LAG_S
    smoothness: float = 10.0
    floor_mv2: float = 1e-3


DEFAULTS: Final = LossOptions()


@dataclass(frozen=True)
class Samples:
    """Page index -> training samples (picklable, run in workers)."""

    source: SignalSource
    seed: int

    def __call__(self, index: int) -> list[Sample]:
        """Return DRAWS samples: image (1, 680, 880) uint8, signals_mv (12, 5000) float32."""
        rng = np.random.default_rng([self.seed, index, 11])
        page = make_page(
            self.source, seed=self.seed, index=index, turns=False, max_megapixels=MEGAPIXELS
        )
        signals_mv = printed_recording(page.signals_mv, fs_hz=TRACE_FS_HZ).signals_mv
        grey = grey_sheet(page.image, INPUT_PX)
        return [
            {"image": _placed_anew(grey, rng)[None], "signals_mv": signals_mv} for _ in range(DRAWS)
        ]


def _placed_anew(grey: GreyImage, rng: np.random.Generator) -> GreyImage:
    """Shift and stretch a picture by about 1 %, and make it a little darker or brighter."""
    size_px = np.array(INPUT_PX)
    scale = rng.normal(1, 0.01, 2)
    shift_px = rng.normal(0, 0.01, 2) * size_px + (1 - scale) * size_px / 2
    matrix = np.column_stack([np.diag(scale), shift_px])
    moved = cv2.warpAffine(grey, matrix, INPUT_PX, borderMode=cv2.BORDER_REPLICATE)
    levels = moved * rng.uniform(0.85, 1.1) + rng.normal(0, 8)
    return np.asarray(np.clip(levels, 0, 255), np.uint8)


def loss_of(
    network: nn.Module, batch: dict[str, Tensor], *, options: LossOptions = DEFAULTS
) -> Tensor:
    """Return the loss of a batch: log of error over signal, and how rough the leads are."""
    predicted_mv = network(batch["image"]).float()
    truth_mv = batch["signals_mv"]
    rough = predicted_mv.diff(n=2, dim=2).square()
    judged = torch.isfinite(truth_mv)[..., 1:-1]
    roughness = (rough * judged).sum() / judged.sum()
    loss: Tensor = log_error_share(predicted_mv, truth_mv, options)
    return loss.add(roughness, alpha=options.smoothness)


def log_error_share(
    predicted_mv: Tensor, truth_mv: Tensor, options: LossOptions = DEFAULTS
) -> Tensor:
    """Return the mean of log(error / signal): the SNR of ``metrics.image_snr``, without its unit.

    Each lead is shifted to where it fits best, then its offset is taken off. What is shifted in
    counts as 0 mV.

    Args:
        predicted_mv: (N, 12, T) mV at 500 Hz.
        truth_mv: The same, NaN outside the leads' windows.
        options: How far leads may be shifted.

    Returns:
        Scalar; minus it times 4.34 is dB.
    """
    window = torch.isfinite(truth_mv)
    y = torch.where(window, truth_mv, 0.0)
    n = y.shape[2]
    at = torch.arange(n, device=y.device) - _best_lag(predicted_mv, y, window, options)[..., None]
    inside = (at >= 0) & (at < n)
    at = at.clamp(0, n - 1)
    valid = window & inside & window.gather(2, at)
    off = torch.where(valid, predicted_mv.gather(2, at) - y, 0.0)
    off = off - off.sum(2, keepdim=True) / valid.sum(2, keepdim=True).clamp_min(1)
    error = torch.where(valid, off, y)  # y is 0 outside the window
    noise = error.square().sum((1, 2)) + options.floor_mv2
    signal = y.square().sum((1, 2)) + options.floor_mv2
    share: Tensor = (noise / signal).log().mean()
    return share


@torch.no_grad()
def _best_lag(predicted: Tensor, y: Tensor, window: Tensor, options: LossOptions) -> Tensor:
    """Return (N, 12): by how many samples leads go to the right to correlate best.

    Of ties it is the smallest shift: all are ties before the network says anything.
    """
    reach = int(options.reach_s * TRACE_FS_HZ)
    count = window.sum(2, keepdim=True).clamp_min(1)

    def spectrum(values: Tensor) -> Tensor:
        inside = torch.where(window, values, 0.0)
        centred = torch.where(window, inside - inside.sum(2, keepdim=True) / count, 0.0)
        result: Tensor = torch.fft.rfft(centred, n=y.shape[2] + reach)
        return result

    product = spectrum(y) * spectrum(predicted).conj()
    correlation = torch.fft.irfft(product, n=y.shape[2] + reach)
    lags = torch.tensor(sorted(range(-reach, reach + 1), key=abs), device=y.device)
    best: Tensor = lags[correlation[..., lags].argmax(2)]
    return best
