"""From which probability on a class is decided for: learned from training records alone."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d
from torch import nn

from ecg_digitize.diagnoses.classes import Labelled
from ecg_digitize.diagnoses.imitate import printed_as, with_errors
from ecg_digitize.diagnoses.inputs import at_input_rate, input_of, stacked
from ecg_digitize.diagnoses.records import Record, records_of, targets_array, twelve_of
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.signals import printed_recording
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.types import Float32, Float64, Image

CANDIDATES: Final = np.round(np.arange(0.05, 0.901, 0.01), 2)
_LEVEL: Final = 11
"""Thresholds over which F is averaged: the middle of where it is high is wanted, not its tip."""
VIEWS: Final = 3
"""How often each record is shown, each time with other errors of digitizing: as they lie, records
that were trained on look surer than others do."""
_SEED: Final = 777
_BATCH: Final = 128


class ScoredRecords(NamedTuple):
    """What a network says of records, and what is known of them."""

    probabilities: Float64  # (records, classes)
    targets: Float32  # (records, classes) 0 or 1


def f_measure(decisions: Float64, targets: Float64) -> Float64:
    """Return F1 along the first axis; 0 where nothing is decided for nor there."""
    hits = (decisions * targets).sum(axis=0)
    both = decisions.sum(axis=0) + targets.sum(axis=0)
    return np.asarray(2 * hits / np.maximum(both, 1))


def thresholds_of(seen: ScoredRecords) -> tuple[float, ...]:
    """Return for each class where F is best, F being averaged over thresholds nearby."""
    best = []
    for p, target in zip(seen.probabilities.T, seen.targets.T.astype(np.float64), strict=True):
        decided = (p[:, None] >= CANDIDATES).astype(np.float64)
        level = uniform_filter1d(f_measure(decided, target[:, None]), _LEVEL, mode="nearest")
        best.append(float(CANDIDATES[int(level.argmax())]))
    return tuple(best)


def fitted_thresholds(
    network: nn.Module, source: SignalSource, labels: Mapping[str, Labelled]
) -> tuple[float, ...]:
    """Return a network's thresholds, of the records that may be learned from.

    Args:
        network: Of signals.
        source: Has these records.
        labels: See ``classes.read_labels``; says which they are.

    Raises:
        InputError: There are none.
    """
    records = records_of(source, labels, validation=False)
    rng = np.random.default_rng(_SEED)
    inputs = []
    for record in records:
        whole_mv = at_input_rate(twelve_of(source, record).astype(np.float64), fs_hz=TRACE_FS_HZ)
        inputs += [
            stacked(printed_as(with_errors(whole_mv, rng), rng, otherwise=0.0))
            for _ in range(VIEWS)
        ]
    targets = np.repeat(targets_array(records), VIEWS, axis=0)
    return thresholds_of(ScoredRecords(probabilities_of(network, np.stack(inputs)), targets))


def probabilities_of(network: nn.Module, inputs: Float32 | Image) -> Float64:
    """Return (n, classes) probabilities for the (n, ...) inputs of a network."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(inputs), _BATCH):
            logits = network(torch.from_numpy(inputs[start : start + _BATCH]))
            parts.append(torch.sigmoid(logits.double()).numpy())
    return np.concatenate(parts)


def seen_as_printed(
    network: nn.Module, source: SignalSource, records: tuple[Record, ...]
) -> ScoredRecords:
    """Show a network of signals records as the competition's sheet shows them."""
    inputs = [
        input_of(printed_recording(twelve_of(source, record), fs_hz=TRACE_FS_HZ))
        for record in records
    ]
    return ScoredRecords(probabilities_of(network, np.stack(inputs)), targets_array(records))
