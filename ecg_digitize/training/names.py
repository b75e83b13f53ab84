"""Train the network that reads lead names, on patches drawn as it goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize.layout import LEADS
from ecg_digitize.sheet.names_net import MINUS, NONE, STRIDE
from ecg_digitize.synth.signals import SignalSource, to_twelve
from ecg_digitize.synth.words import Patch, draw_patch
from ecg_digitize.training.loop import Sample
from ecg_digitize.types import Float32

PATCHES: Final = 4
"""Drawn for each page index, with traces of the same records."""
IGNORED: Final = -1
CENTRE_CELLS: Final = 1.2
"""Cells within this of a name's centre are the name's."""
NEAR_CELLS: Final = 2.3
"""Cells within this of it are nobody's."""
FOCUS: Final = 1.5
"""How much less sure answers count that are right: exponent of the focal loss."""
MINUS_WEIGHT: Final = 0.2
_RECORDS: Final = 5


def sample_of(patch: Patch) -> Sample:
    """Return what a patch teaches.

    Returns:
        image (3, H, W) uint8; names (H/4, W/4) int64, the index of a lead, NONE or IGNORED; minus
        (H/4, W/4) float32, 1 where the name has a minus sign, 0 elsewhere.
    """
    height, width = (n // STRIDE for n in patch.image.shape[:2])
    names = np.full((height, width), NONE, np.int64)
    minus = np.zeros((height, width), np.float32)
    rows, columns = np.mgrid[:height, :width]
    for name in patch.names:
        # Cell j covers px 4j..4j+3, so its middle is px 4j + 1.5.
        x, y = ((at - (STRIDE - 1) / 2) / STRIDE for at in name.xy_px)
        off = np.hypot(columns - x, rows - y)
        names[(off < NEAR_CELLS) & (names == NONE)] = IGNORED
        own = off < CENTRE_CELLS
        names[own] = LEADS.index(name.lead)
        minus[own] = name.sign < 0
    image = np.ascontiguousarray(patch.image.transpose(2, 0, 1))
    return {"image": image, "names": names, "minus": minus}


@dataclass(frozen=True)
class Samples:
    """Page index -> training samples (picklable, run in workers)."""

    source: SignalSource
    seed: int

    def __call__(self, index: int) -> list[Sample]:
        """Return PATCHES samples, see `sample_of`."""
        rng = np.random.default_rng([self.seed, index, 7])
        first = int(rng.integers(max(1, len(self.source) // _RECORDS))) * _RECORDS
        records_mv = _records(self, first % (40 * _RECORDS))
        return [sample_of(draw_patch(rng, records_mv)) for _ in range(PATCHES)]


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the focal cross-entropy of the names plus the loss of the minus signs."""
    logits = network(batch["image"]).float()
    names = batch["names"]
    log_p = F.log_softmax(logits[:, :MINUS], dim=1)
    picked = log_p.gather(1, names.clamp_min(0)[:, None])[:, 0]
    focal = -((1 - picked.exp()) ** FOCUS) * picked
    is_name = (names != NONE) & (names != IGNORED)
    count = is_name.sum().clamp_min(1)
    loss = (focal * (names != IGNORED)).sum() / count
    signed = names == LEADS.index("aVR")
    each = F.binary_cross_entropy_with_logits(logits[:, MINUS], batch["minus"], reduction="none")
    return loss + MINUS_WEIGHT * (each * signed).sum() / signed.sum().clamp_min(1)


@lru_cache(maxsize=64)
def _records(samples: Samples, first: int) -> Sequence[Float32]:
    """Return a few (12, 5000) records; the same ones serve for many patches."""
    last = min(first + _RECORDS, len(samples.source))
    return tuple(to_twelve(samples.source.get(index)) for index in range(first, last))
