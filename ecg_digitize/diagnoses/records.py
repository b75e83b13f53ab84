"""Which labelled records there are in a source, and for what they may be used."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ecg_digitize.diagnoses.classes import Labelled, targets_of
from ecg_digitize.errors import InputError
from ecg_digitize.synth.signals import SignalSource, to_twelve
from ecg_digitize.types import Float32, Float64


@dataclass(frozen=True)
class Record:
    """A labelled record of a source."""

    index: int  # in the source
    id: str
    targets: Float32  # (10,) 0 or 1, see classes.CLASSES


@dataclass(frozen=True)
class Learned:
    """The records of a source that may be learned from."""

    records: tuple[Record, ...]
    shares: Float64  # (records,) how often each is drawn

    def draw(self, rng: np.random.Generator) -> Record:
        """Draw a record."""
        return self.records[int(rng.choice(len(self.records), p=self.shares))]


class OneRecord:
    """A source of one record: pages that are made of it show that one."""

    def __init__(self, source: SignalSource, record: Record) -> None:
        """Take a record out of a source."""
        self.name, self._source, self._index = record.id, source, record.index

    def __len__(self) -> int:
        """Return 1."""
        return 1

    def get(self, index: int) -> Float32:
        """Return the record, (8, 5000) float32 mV at 500 Hz."""
        return self._source.get(self._index)


def records_of(
    source: SignalSource, labels: Mapping[str, Labelled], *, validation: bool
) -> tuple[Record, ...]:
    """Return the labelled records of a source that are of one side of the split.

    The labels decide, whatever part of a bank the source is: a record that is kept for judging is
    never among those to learn from.

    Args:
        source: Its records have ids.
        labels: See ``classes.read_labels``.
        validation: Those for judging alone, or those to learn from.

    Raises:
        InputError: The source has no ids, or none of them is labelled so.
    """
    ids: tuple[str, ...] | None = getattr(source, "ids", None)
    if ids is None:
        raise InputError(
            f"source {source.name}: expected records with ids, as banks have them, to find their "
            "labels by; name bank:FILE.npz"
        )
    found = tuple(
        Record(index, name, targets_of(labels[name].classes))
        for index, name in enumerate(ids)
        if name in labels and labels[name].validation == validation
    )
    if not found:
        side = "for judging (validation = 1)" if validation else "to learn from (validation = 0)"
        raise InputError(f"source {source.name}: none of its {len(ids)} records is labelled {side}")
    return found


def twelve_of(source: SignalSource, record: Record) -> Float32:
    """Return the whole leads of a record, (12, 5000) float32 mV at 500 Hz."""
    return to_twelve(source.get(record.index))


def targets_array(records: tuple[Record, ...]) -> Float32:
    """Return (records, 10) float32, 0 or 1."""
    return np.stack([record.targets for record in records])


def learned_of(source: SignalSource, labels: Mapping[str, Labelled]) -> Learned:
    """Return the records to learn from, those of rare classes to be drawn more often.

    The weight of a record is the root of how rare its rarest class is.

    Args:
        source: Its records have ids.
        labels: See ``classes.read_labels``.

    Raises:
        InputError: See ``records_of``.
    """
    records = records_of(source, labels, validation=False)
    targets = targets_array(records)
    rarity = len(records) / np.maximum(targets.sum(axis=0), 1)
    weights = np.sqrt(np.where(targets > 0, rarity, 1.0).max(axis=1))
    return Learned(records, np.asarray(weights / weights.sum()))
