"""Train the network of pictures: labelled records, printed on pages of all kinds."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize.diagnoses.classes import read_labels
from ecg_digitize.diagnoses.pictures.net import SEEN, picture_input
from ecg_digitize.diagnoses.records import Learned, OneRecord, learned_of
from ecg_digitize.frames import Frame, crossings_mm
from ecg_digitize.geometry import page_from_sheet
from ecg_digitize.synth.dataset import LASER_PRINTS, SyntheticPage, make_page
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.loop import Sample
from ecg_digitize.types import Image

JITTER_MM: Final = 0.3  # more than stage 1 leaves, see ``training.stage2``
MEGAPIXELS: Final = 2.0  # of photos: twice what the network sees of them, and quicker made


@dataclass(frozen=True)
class Samples:
    """Page index -> training samples (picklable, run in workers)."""

    source: SignalSource
    seed: int
    labels: Path  # see ``classes.read_labels``
    frame: Frame = SEEN

    def __post_init__(self) -> None:
        """Name a table that cannot be used at once, and not out of a worker."""
        _ = self._learned

    @cached_property
    def _learned(self) -> Learned:
        return learned_of(self.source, read_labels(self.labels))

    def __call__(self, index: int) -> list[Sample]:
        """Return one sample: image (3, H, W) uint8, see ``picture_input``; targets (10,)."""
        rng = np.random.default_rng([self.seed, index, 29])
        record = self._learned.draw(rng)
        page = make_page(
            OneRecord(self.source, record),
            seed=self.seed,
            index=index,
            vary_signals=False,  # another rate would be another class
            max_megapixels=MEGAPIXELS,
            laser_prints=LASER_PRINTS,
        )
        image = seen_off(page, rng, frame=self.frame)
        return [{"image": image, "targets": record.targets}]


def seen_off(page: SyntheticPage, rng: np.random.Generator, *, frame: Frame = SEEN) -> Image:
    """Return ``picture_input`` by a page's true geometry, but for an error as stage 1 leaves."""
    off_mm = crossings_mm() + rng.normal(0, JITTER_MM, 2)
    crossings_xy_px = page_from_sheet(page.crossings_xy_px, off_mm).astype(np.float32)
    return picture_input(
        page.image, replace(page.grid, crossings_xy_px=crossings_xy_px), frame=frame
    )


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean binary cross-entropy of a batch."""
    logits = network(batch["image"]).float()
    return F.binary_cross_entropy_with_logits(logits, batch["targets"])
