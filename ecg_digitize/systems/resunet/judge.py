"""How well the network's masks fit: the F1 that was published of it."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ecg_digitize.runtime import run_batch
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.systems.resunet.page import seen
from ecg_digitize.systems.resunet.training import training_page, true_mask, true_upright
from ecg_digitize.types import Image, Mask


def painted(network: nn.Module, grey: Image, device: torch.device) -> Mask:
    """Return the (H, W) bool mask of the trace that a network sees in an (H, W) grey picture."""
    (logits,) = run_batch(network, torch.from_numpy(grey)[None, None], device)
    return np.asarray(logits[0, 0].cpu().numpy() > 0, np.bool_)


def mask_f1(predicted: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the F1 of a mask.

    Args:
        predicted: (H, W) bool.
        truth: (H, W) bool.

    Returns:
        2 TP / (2 TP + FP + FN) in [0, 1]; 1 where both are empty.
    """
    either = int(np.count_nonzero(predicted)) + int(np.count_nonzero(truth))
    return 2 * int(np.count_nonzero(predicted & truth)) / either if either else 1.0


def f1_on(source: SignalSource, network: nn.Module, *, pages: int, seed: int) -> float:
    """Return the mean F1 of a network over synthetic pages of the kinds that it is trained on.

    Args:
        source: Signals that were kept out of the training.
        network: In evaluation mode.
        pages: How many; kinds take turns.
        seed: Of the pages; another one than the training's.
    """
    device = next(network.parameters()).device
    figures = []
    for index in range(pages):
        page = training_page(source, seed=seed, index=index)
        seen_from_page = true_upright(page, np.random.default_rng([seed, index, 23]))
        mask = painted(network, seen(page.image, seen_from_page), device)
        figures.append(mask_f1(mask, true_mask(page, seen_from_page)))
    return float(np.mean(figures))
