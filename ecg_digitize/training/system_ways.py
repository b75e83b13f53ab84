"""The ways to read a page that `compare systems` knows, and what is noted beside them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from ecg_digitize.manifest import ManifestEntry
from ecg_digitize.models import Models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.stage2.members import MEMBERS
from ecg_digitize.stage2.series import FUSIONS, StripsOfPage
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.systems.registry import SYSTEMS, System
from ecg_digitize.training.export import figures_of
from ecg_digitize.training.member_cost import HALF_BYTES
from ecg_digitize.training.run import trained_file, trained_network
from ecg_digitize.types import Page, Recording

Read = Callable[[Page, float], Recording]


@dataclass(frozen=True)
class Way:
    """A way to read a page.

    Attributes:
        name: Its row in the table.
        read: Page and wanted samples a second -> recording.
        megabytes: All weights that it needs: of what ships the files, of others in half precision.
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
    loaded = ((getattr(models, entry.stage, None), entry.bytes) for entry in manifest)
    shipped = {network: size for network, size in loaded if network is not None}
    for system in SYSTEMS:
        if system.reads_pages:
            found = _published(system, models, shipped, trained)
            if isinstance(found, Way):
                ways.append(found)
            else:
                missing.append(found)
    minutes = {entry.stage: entry.provenance.minutes for entry in manifest}
    of_whole = minutes["stage2"]
    of_strips = of_whole + minutes.get("strips", 0.0)  # strips begin as *whole*, series as strips
    geometry = (models.stage0, models.stage1, models.refine)

    def of_stage2(name: str, networks: Sequence[nn.Module], took: float) -> Way:
        first, *others = networks
        further = {f"stage2-{number}": one for number, one in enumerate(others)}
        asked = replace(models.preset, asks_members=bool(others))
        those = replace(models, stage2=first, members=further, preset=asked)
        size = _megabytes([*geometry, *networks], shipped)
        return Way(name, lambda page, fs_hz: digitized(page, those, fs_hz), size, took)

    ships = of_stage2("whole (ships)", [models.stage2], of_whole)
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
        took = figures_of(path).get("minutes", math.nan) + of_strips
        series[fusion] = network, took
        ways.append(of_stage2(f"series, {fusion}", [series[fusion][0]], took))
    if models.strips is not None:
        strips = StripsOfPage(models.strips)
        ways.append(of_stage2("strips (ship)", [strips], of_strips))
        others: dict[str, tuple[nn.Module, float]] = {"strips": (strips, of_strips)}
        others |= {f"series, {fusion}": one for fusion, one in series.items()}
        for name, (network, took) in others.items():
            ways.append(of_stage2(f"whole + {name}", [models.stage2, network], took))
    further = [network for network, _ in series.values()]
    if len(further) > 1:
        took = of_strips + sum(took - of_strips for _, took in series.values())
        ways.append(of_stage2("whole + all series", [models.stage2, *further], took))
        alone = (ships.name, *(f"series, {fusion}" for fusion in series))
        size = _megabytes([*geometry, models.stage2, *further], shipped)
        ways.append(Way("median of the same, as signals", ships.read, size, took, alone))
    flipped = [models.stage2, Mirrored(models.stage2)]
    ways.append(of_stage2("whole, mirrored too", flipped, of_whole))
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


def digitized(page: Page, models: Models, fs_hz: float) -> Recording:
    """Read a page as this package does."""
    return digitize_page(page, models, fs_hz=fs_hz).recording


def _published(
    system: System, models: Models, shipped: Mapping[nn.Module, int], trained: Path | None
) -> Way | Untrained:
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
    size = _megabytes([*needs, *([] if network is None else [network])], shipped)
    return Way(
        system.name,
        lambda page, fs_hz: read(page, network, models, fs_hz=fs_hz),
        size,
        took,
    )


def _megabytes(networks: Sequence[nn.Module], shipped: Mapping[nn.Module, int]) -> float:
    """Return the size of all weights; those that networks share count once.

    Args:
        networks: Of a way.
        shipped: Those that ship -> bytes of the file; any backend may run them.
    """
    files = {one for network in networks for one in network.modules() if one in shipped}
    inside = {id(weights) for one in files for weights in one.state_dict(keep_vars=True).values()}
    states = (one for network in networks for one in network.state_dict(keep_vars=True).values())
    others = {id(one): one.numel() * HALF_BYTES for one in states if id(one) not in inside}
    return float(sum(shipped[one] for one in files) + sum(others.values())) / 1e6
