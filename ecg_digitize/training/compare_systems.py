"""Published systems and this one's networks side by side, on the same pages.

A row is a way to read a page: a system of ``systems/``, a network of stage 2 in the place of the
one that ships, or several of them. Of what is not trained the table says how to train it. The ways
are those of ``system_ways``.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ecg_digitize.inputs import read_page
from ecg_digitize.metrics import image_snr, of_length
from ecg_digitize.models import Models
from ecg_digitize.training.pairs import Pair, read_pairs, truths_of
from ecg_digitize.training.system_ways import Read, Untrained, Way, digitized
from ecg_digitize.types import Recording

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """What a way gave."""

    name: str
    megabytes: float
    minutes: float
    seconds: float  # a page, mean
    snr_db: Mapping[str, float]  # by group of pages: mean capped dB; a page that failed has 0
    failed: int


@dataclass(frozen=True)
class SystemsComparison:
    """The table, row by row."""

    groups: Mapping[str, int]  # name -> number of pages
    rows: tuple[Row, ...]
    untrained: tuple[Untrained, ...] = ()
    notes: tuple[str, ...] = ()  # what is measured otherwise, and what was published

    def to_text(self) -> str:
        """Return the table to read."""
        width = max(len(name) for name in ("system", *(row.name for row in self.rows)))
        heads = [f"{name} ({n})" for name, n in self.groups.items()]
        apart = [max(8, len(head) + 2) for head in heads]
        line = f"{'system':<{width}}{'MB':>7}{'min':>7}{'s':>7}{'failed':>8}"
        lines = [line + "".join(f"{head:>{n}}" for head, n in zip(heads, apart, strict=True))]
        for row in self.rows:
            line = f"{row.name:<{width}}{row.megabytes:7.1f}{row.minutes:7.0f}{row.seconds:7.2f}"
            values = zip(row.snr_db.values(), apart, strict=True)
            line += f"{row.failed:8d}" + "".join(f"{value:{n}.2f}" for value, n in values)
            lines.append(line)
        lines += [f"{one.name}: not trained; ecg-digitize {one.train}" for one in self.untrained]
        return "\n".join([*lines, *self.notes]) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return the table as a dict that `json.dumps` takes."""
        return {
            "pages": dict(self.groups),
            "systems": [{**vars(row), "snr_db": dict(row.snr_db)} for row in self.rows],
            "untrained": [vars(one) for one in self.untrained],
            "notes": list(self.notes),
        }


def chosen_of(tables: Sequence[Path], *, pages: int | None = None) -> dict[str, list[Pair]]:
    """Return the pages of tables by the folder of their pictures.

    Args:
        tables: As `evaluate` takes them.
        pages: Of each folder at most, the first ones; None: all.
    """
    groups: dict[str, list[Pair]] = {}
    for table in tables:
        for pair in read_pairs(table):
            members = groups.setdefault(pair.image_path.parent.name, [])
            if pages is None or len(members) < pages:
                members.append(pair)
    return groups


def compare_systems(
    groups: Mapping[str, Sequence[Pair]],
    models: Models,
    ways: Sequence[Way],
    untrained: Sequence[Untrained] = (),
    *,
    notes: Sequence[str] = (),
    progress: Callable[[], None] = lambda: None,
) -> SystemsComparison:
    """Read pages in every way.

    Args:
        groups: See `chosen_of`. References are read by what ships.
        models: What ships.
        ways: See `system_ways.ways_of`.
        untrained: Likewise.
        notes: See `system_ways.notes_of`.
        progress: Called after each page of each way.
    """
    chosen = [(group, pair) for group, members in groups.items() for pair in members]

    def reference(path: Path, fs_hz: float) -> Recording:
        return digitized(read_page(path), models, fs_hz)

    truths = list(truths_of([pair for _, pair in chosen], reference))
    readings: dict[str, list[_Reading]] = {}
    rows = []
    for way in ways:
        done: list[_Reading] = []
        for number, (_, pair) in enumerate(chosen):
            if way.members:
                done.append(_joined([readings[name][number] for name in way.members]))
            else:
                done.append(_reading(way.read, pair))
            progress()
        readings[way.name] = done
        by_group: dict[str, list[float]] = {}
        for (group, pair), truth, one in zip(chosen, truths, done, strict=True):
            by_group.setdefault(group, []).append(one.snr_db(truth, pair.fs_hz))
        means = {group: float(np.mean(values)) for group, values in by_group.items()}
        seconds = float(np.mean([one.seconds for one in done]))
        failed = sum(one.recording is None for one in done)
        rows.append(Row(way.name, way.megabytes, way.minutes, seconds, means, failed))
    counts = {group: len(members) for group, members in groups.items()}
    return SystemsComparison(counts, tuple(rows), tuple(untrained), tuple(notes))


@dataclass(frozen=True)
class _Reading:
    """What a way made of a page."""

    recording: Recording | None  # None: it failed
    seconds: float

    def snr_db(self, truth: Recording, fs_hz: float) -> float:
        """Return the capped dB; a page that failed counts as zeros, as in a submission."""
        truth_mv = truth.signals_mv
        read_mv = np.zeros_like(truth_mv)
        if self.recording is not None:
            read_mv = of_length(self.recording.signals_mv, truth_mv.shape[1])
        return image_snr(truth_mv, read_mv, fs_hz=fs_hz).snr_capped_db


def _reading(read: Read, pair: Pair) -> _Reading:
    started = time.perf_counter()
    recording = None
    try:
        recording = read(read_page(pair.image_path), pair.fs_hz)
    except Exception as error:  # a page may end any system, but not the table
        log.warning("%s: %s: %s", pair.image, type(error).__name__, error)
    return _Reading(recording, time.perf_counter() - started)


def _joined(readings: Sequence[_Reading]) -> _Reading:
    """Return the median of what several ways read, sample by sample."""
    seconds = sum(one.seconds for one in readings)
    good = [one.recording for one in readings if one.recording is not None]
    if not good:
        return _Reading(None, seconds)
    signals_mv = np.median([one.signals_mv for one in good], axis=0).astype(np.float32)
    return _Reading(replace(good[0], signals_mv=signals_mv), seconds)
