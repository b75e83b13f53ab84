"""Train the network of signals: records as their pages show them, with what digitizing leaves."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize.diagnoses.classes import read_labels
from ecg_digitize.diagnoses.imitate import printed_as, with_errors
from ecg_digitize.diagnoses.inputs import at_input_rate, stacked
from ecg_digitize.diagnoses.printed import Readings, read_readings
from ecg_digitize.diagnoses.records import Learned, learned_of, twelve_of
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.loop import Sample

FROM_PAGES: Final = 0.4
"""Share of the samples that were read from pages, for records of which there are such."""


@dataclass(frozen=True)
class Samples:
    """Index -> training samples (picklable, run in workers)."""

    source: SignalSource
    seed: int
    labels: Path  # see ``classes.read_labels``
    digitized: Path | None = None  # see ``printed.print_and_read``

    def __post_init__(self) -> None:
        """Name files that cannot be used at once, and not out of a worker."""
        _ = self._learned
        if self.digitized is not None:
            read_readings(self.digitized)  # not kept: workers read it sooner than it is sent

    @cached_property
    def _learned(self) -> Learned:
        return learned_of(self.source, read_labels(self.labels))

    @cached_property
    def _readings(self) -> Readings | None:
        return None if self.digitized is None else read_readings(self.digitized)

    def __call__(self, index: int) -> list[Sample]:
        """Return one sample: signals (24, 1000) float32, see ``inputs.input_of``; targets (10,)."""
        rng = np.random.default_rng([self.seed, index, 23])
        record = self._learned.draw(rng)
        read = () if self._readings is None else self._readings.of(record.id)
        if len(read) and rng.random() < FROM_PAGES:
            leads_mv = with_errors(read[int(rng.integers(len(read)))], rng)
        else:
            whole_mv = twelve_of(self.source, record).astype(np.float64)
            leads_mv = with_errors(at_input_rate(whole_mv, fs_hz=TRACE_FS_HZ), rng)
            leads_mv = printed_as(leads_mv, rng)
        return [{"signals": stacked(leads_mv), "targets": record.targets}]


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the mean binary cross-entropy of a batch."""
    logits = network(batch["signals"]).float()
    return F.binary_cross_entropy_with_logits(logits, batch["targets"])
