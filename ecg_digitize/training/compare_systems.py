"""Published systems and this one's networks side by side, on the same pages.

A row is a way to read a page: a system of ``systems/``, a network of stage 2 in the place of the
one that ships, or several of them. Of what is not trained the table says how to train it.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from ecg_digitize.inputs import read_page
from ecg_digitize.manifest import ManifestEntry
from ecg_digitize.metrics import image_snr, of_length
from ecg_digitize.models import Models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.stage2.members import MEMBERS
from ecg_digitize.stage2.series import FUSIONS, StripsOfPage
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.systems.registry import SYSTEMS, System
from ecg_digitize.training.export import figures_of
from ecg_digitize.training.member_cost import HALF_BYTES
from ecg_digitize.training.pairs import Pair, read_pairs, truths_of
from ecg_digitize.training.run import trained_file, trained_network
from ecg_digitize.types import Page, Recording

log = logging.getLogger(__name__)

Read = Callable[[Page, float], Recording]


@dataclass(frozen=True)
class Way:
    """A way to read a page.

    Attributes:
        name: Its row in the table.
        read: Page and wanted samples a second -> recording.
        megabytes: All weights that it needs, in half precision.
        minutes: What the training of its own network took, with what it began from.
        members: Names of the ways whose signals it joins; then `read` is not asked.
    """

    name: str
    read: Read
    megabytes: float = 0.0
    minutes: float = 0.0
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Untrained:
    """A way that cannot be tried: its network is not there."""

    name: str
    train: str  # the command that makes it


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


class Mirrored(nn.Module):
    """Has a network of stage 2 look at the page mirrored, whose columns lie in the middle."""

    def __init__(self, network: nn.Module) -> None:
        """Take the network."""
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Score every bin; see WholeNet.forward."""
        logits: Tensor = self.network(image.flip(-1))
        return logits.flip(-1)


def ways_of(
    models: Models, manifest: Sequence[ManifestEntry], *, trained: Path | None
) -> tuple[list[Way], list[Untrained]]:
    """Return the ways that there are, in the order of the table, and those not trained.

    Args:
        models: All networks that ship.
        manifest: What is known of them.
        trained: Folder of trainings, each in a folder of its name.
    """
    ways: list[Way] = []
    missing: list[Untrained] = []
    for system in SYSTEMS:
        if system.reads_pages:
            found = _published(system, models, trained)
            if isinstance(found, Way):
                ways.append(found)
            else:
                missing.append(found)
    minutes = {entry.stage: entry.provenance.minutes for entry in manifest}
    geometry = (models.stage0, models.stage1, models.refine)

    def of_stage2(name: str, networks: Sequence[nn.Module], took: float) -> Way:
        first, *others = networks
        further = {f"stage2-{number}": one for number, one in enumerate(others)}
        asked = replace(models.preset, asks_members=bool(others))
        those = replace(models, stage2=first, members=further, preset=asked)
        size = _megabytes(*geometry, *networks)
        return Way(name, lambda page, fs_hz: _digitized(page, those, fs_hz), size, took)

    ships = of_stage2("whole (ships)", [models.stage2], minutes["stage2"])
    ways.append(ships)
    series: dict[str, tuple[nn.Module, float]] = {}
    for fusion in FUSIONS:
        name = f"series-{fusion}"
        path = trained_file(trained, name)
        if path is None:
            command = f"train stage2 --member {name} --initial weights/strips.safetensors"
            missing.append(Untrained(f"series, {fusion}", f"{command} --out runs/{name}"))
            continue
        network = trained_network(MEMBERS[name], path, models.device)
        took = figures_of(path).get("minutes", math.nan) + minutes.get("strips", 0.0)
        series[fusion] = network, took
        ways.append(of_stage2(f"series, {fusion}", [series[fusion][0]], took))
    if models.strips is not None:
        strips = StripsOfPage(models.strips)
        ways.append(of_stage2("strips (ship)", [strips], minutes["strips"]))
        others: dict[str, tuple[nn.Module, float]] = {"strips": (strips, minutes["strips"])}
        others |= {f"series, {fusion}": one for fusion, one in series.items()}
        for name, (network, took) in others.items():
            networks, both = [models.stage2, network], minutes["stage2"] + took
            ways.append(of_stage2(f"whole + {name}", networks, both))
    further = [network for network, _ in series.values()]
    if len(further) > 1:
        took = minutes["stage2"] + sum(took for _, took in series.values())
        ways.append(of_stage2("whole + all series", [models.stage2, *further], took))
        alone = (ships.name, *(f"series, {fusion}" for fusion in series))
        size = _megabytes(*geometry, models.stage2, *further)
        ways.append(Way("median of the same, as signals", ships.read, size, took, alone))
    flipped = [models.stage2, Mirrored(models.stage2)]
    ways.append(of_stage2("whole, mirrored too", flipped, minutes["stage2"]))
    return ways, missing


def notes_of(
    source: SignalSource, models: Models, *, trained: Path | None, pages: int, seed: int
) -> list[str]:
    """Return what the authors published, and of masks the F1 that theirs are judged by.

    Args:
        source: Signals that training never saw.
        models: Tells the device.
        trained: See `ways_of`.
        pages: Synthetic pages for masks.
        seed: Family of these pages.
    """
    notes = []
    for system in SYSTEMS:
        told = [f"published: {system.published}"] if system.published else []
        path = trained_file(trained, system.name)
        if system.has_masks and path is not None and system.architecture is not None:
            network = trained_network(system.architecture, path, models.device)
            f1 = system.module("judge").f1_on(source, network, pages=pages, seed=seed)
            told.insert(0, f"F1 of its masks {f1:.3f} on {pages} synthetic pages")
        if told:
            notes.append(f"{system.name}: {'; '.join(told)}")
    return notes


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
        ways: See `ways_of`.
        untrained: Likewise.
        notes: See `notes_of`.
        progress: Called after each page of each way.
    """
    chosen = [(group, pair) for group, members in groups.items() for pair in members]

    def reference(path: Path, fs_hz: float) -> Recording:
        return _digitized(read_page(path), models, fs_hz)

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


def _digitized(page: Page, models: Models, fs_hz: float) -> Recording:
    return digitize_page(page, models, fs_hz=fs_hz).recording


def _published(system: System, models: Models, trained: Path | None) -> Way | Untrained:
    """Return a published system as a way, or how its network is trained."""
    read, architecture = system.module("read").read, system.architecture
    network, took = None, 0.0
    if architecture is not None:
        path = trained_file(trained, system.name)
        if path is None:
            command = f"train {system.name} --out runs/{system.name}"
            return Untrained(system.name, command)
        network = trained_network(architecture, path, models.device)
        took = figures_of(path).get("minutes", math.nan)
    needs = [getattr(models, stage) for stage in system.needs]
    size = _megabytes(*needs, *([] if network is None else [network]))
    return Way(
        system.name,
        lambda page, fs_hz: read(page, network, models, fs_hz=fs_hz),
        size,
        took,
    )


def _megabytes(*networks: nn.Module) -> float:
    """Return the size of all weights in half precision; those that networks share count once."""
    states = [one for network in networks for one in network.state_dict().values()]
    sizes = {one.data_ptr(): one.numel() for one in states}
    return float(sum(sizes.values())) * HALF_BYTES / 1e6
