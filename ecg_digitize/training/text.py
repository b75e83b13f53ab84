"""Train the network that reads lines of text, on lines drawn as it goes."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize.sheet.text import line_input
from ecg_digitize.sheet.text_net import BLANK, LETTERS, OTHER, SPACE, STRIDE
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.synth.text import TextLine, draw_line
from ecg_digitize.training.loop import Sample

LINES: Final = 16
"""Drawn for each page index."""
WIDTH_PX: Final = 512
"""Longer lines are left out."""
MOST_LETTERS: Final = 72


def classes_of(text: str) -> list[int]:
    """Return the classes of a text's letters; several spaces are one."""
    known = {letter: index + 1 for index, letter in enumerate(LETTERS)}
    return [
        SPACE if letter == " " else known.get(letter, OTHER)
        for letter in " ".join(text.lower().split())
    ]


def sample_of(line: TextLine) -> Sample | None:
    """Return what a line teaches, None if it is too long.

    Returns:
        line (1, HEIGHT_PX, WIDTH_PX) uint8, see ``sheet.text.line_input``; letters
        (MOST_LETTERS,) int64, and how many they are; and the width of the line, px.
    """
    seen, letters = line_input(line.image), classes_of(line.text)
    width_px = seen.shape[1]
    twice = sum(one == other for one, other in pairwise(letters))
    steps = width_px // STRIDE
    if width_px > WIDTH_PX or len(letters) > MOST_LETTERS or steps < len(letters) + twice:
        return None
    padded = np.zeros((1, seen.shape[0], WIDTH_PX), np.uint8)
    padded[0, :, :width_px] = seen
    targets = np.full(MOST_LETTERS, BLANK, np.int64)
    targets[: len(letters)] = letters
    return {
        "line": padded,
        "letters": targets,
        "n_letters": np.int64(len(letters)),  # type: ignore[dict-item]
        "width_px": np.int64(width_px),  # type: ignore[dict-item]
    }


@dataclass(frozen=True)
class Samples:
    """Page index -> training samples (picklable, run in workers)."""

    source: SignalSource  # not used: there are no signals in a line of text
    seed: int

    def __call__(self, index: int) -> list[Sample]:
        """Return LINES samples, see `sample_of`."""
        rng = np.random.default_rng([self.seed, index, 11])
        samples: list[Sample] = []
        while len(samples) < LINES:
            sample = sample_of(draw_line(rng))
            if sample is not None:
                samples.append(sample)
        return samples


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the CTC loss, a letter."""
    logits = network(batch["line"]).float()
    log_p = F.log_softmax(logits, dim=1).permute(2, 0, 1)
    steps = (batch["width_px"] // STRIDE).clamp_max(log_p.shape[0])
    return F.ctc_loss(
        log_p, batch["letters"], steps, batch["n_letters"], blank=BLANK, zero_infinity=True
    )
