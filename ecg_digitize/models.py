"""The networks, how they are loaded, and how one of them is run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from ecg_digitize.errors import InputError, WeightsError
from ecg_digitize.manifest import read_manifest
from ecg_digitize.memory import keep_memory
from ecg_digitize.runtime import autocast_dtype, choose_device, placed
from ecg_digitize.runtime import run_batch as run_batch  # here for those who run networks
from ecg_digitize.sheet.names import Name, find_names
from ecg_digitize.sheet.text import Cut, Line, read_lines
from ecg_digitize.stage2.refine import PASSES
from ecg_digitize.stage2.series import StripsOfPage
from ecg_digitize.types import Image
from ecg_digitize.weights import load_network

STAGES: Final = ("stage0", "stage1", "stage2", "refine")
"""Those that have a network."""
MEMBER_OF_STAGE2: Final = "stage2-"
"""What the names of further members begin with in the manifest."""
READERS: Final = ("names", "text", "strips")
"""Networks that read other sheets than the competition's, and are not needed for that one."""


@dataclass(frozen=True)
class Preset:
    """What is spent on a page."""

    looks_turned: bool
    """Whether the refinement sees its bands turned by 180 degrees too. To see them flipped each way
    as well takes twice as long, and is worth nothing on paired pages, 0.01 dB on photos."""
    passes: int = PASSES  # how often the decoded lines are refined on the ink
    follows_lines: bool = True  # whether stage 1 follows the printed lines between the crossings
    asks_members: bool = False
    """Whether all members of stage 2 look at a page of the competition, and their probabilities are
    averaged; see ``members_of``."""


PRESETS: Final = {
    "quick": Preset(looks_turned=False, passes=0, follows_lines=False),  # where the time is short
    "fast": Preset(looks_turned=False),
    "best": Preset(looks_turned=True),
    "ensemble": Preset(looks_turned=True, asks_members=True),
}
BEST: Final = "best"
TORCH: Final = "torch"
"""What runs the networks if nothing else is asked for; `openvino.py` has the other."""


@dataclass(frozen=True)
class Models:
    """The networks on their device, in evaluation mode, and how they are used."""

    stage0: nn.Module
    stage1: nn.Module
    stage2: nn.Module
    refine: nn.Module
    device: torch.device
    names: nn.Module | None = None  # what other sheets than the competition's are read by,
    text: nn.Module | None = None  # what they tell in words,
    strips: nn.Module | None = None  # and their rows
    members: Mapping[str, nn.Module] = field(default_factory=dict)
    """What the manifest names beside stage 2, for presets that ask it."""
    preset: Preset = PRESETS[BEST]
    backend: str = TORCH  # what runs them


def load_models(
    *,
    weights_dir: Path | None = None,
    device: torch.device | None = None,
    stages: Collection[str] = STAGES,
    preset: str = BEST,
    is_final: bool = True,
) -> Models:
    """Load the networks the manifest names.

    Args:
        weights_dir: Folder of the weight files; None searches the usual places.
        device: Where they run; None chooses.
        stages: Those wanted, for training and judging a part of the way; the others are empty.
        preset: A key of PRESETS.
        is_final: Bring them into the form that torch runs fastest; False leaves them as they were
            trained, for what converts them.

    Raises:
        InputError: If there is no such preset.
        WeightsError: If the manifest lacks a stage, or a file is missing or altered.
    """
    if preset not in PRESETS:
        raise InputError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
    device = choose_device() if device is None else device
    keep_memory()
    entries = {entry.stage: entry for entry in read_manifest(weights_dir=weights_dir)}
    missing = [stage for stage in stages if stage not in entries]
    if missing:
        raise WeightsError(
            f"weights_manifest.json has no weights for {', '.join(missing)}; "
            'train them with "python -m ecg_digitize train STAGE"'
        )
    networks: dict[str, nn.Module] = {stage: nn.Identity() for stage in STAGES}
    readers: tuple[str, ...] = ()
    if set(stages) == set(STAGES) and set(READERS) <= set(entries):
        readers = READERS
    further: list[str] = []
    if PRESETS[preset].asks_members and "stage2" in stages:
        further = [stage for stage in entries if stage.startswith(MEMBER_OF_STAGE2)]
        if not (further or readers) and "strips" in entries:
            readers = ("strips",)  # is the member then
    members: dict[str, nn.Module] = {}
    for stage in (*stages, *readers, *further):
        network = load_network(entries[stage], weights_dir=weights_dir)
        where = members if stage in further else networks
        where[stage] = _ready(network, device) if is_final else network
    return Models(**networks, members=members, device=device, preset=PRESETS[preset], backend=TORCH)


def members_of(models: Models) -> tuple[nn.Module, ...]:
    """Return what looks for the rows of a page of the competition.

    That is stage 2, and for presets that ask its members these too. Where the manifest names none
    it is the strip network, which looks at each row by itself.
    """
    if not models.preset.asks_members:
        return (models.stage2,)
    if models.members or models.strips is None:
        return (models.stage2, *models.members.values())
    return models.stage2, StripsOfPage(models.strips)


def _ready(network: nn.Module, device: torch.device) -> nn.Module:
    """Bring a network that is not trained any more to its device, in the form it runs fastest.

    Batch norms stay: folding them into the convolutions saves 0.15 s of CPU a page, but four of
    the 25 paired pages lose 0.5 to 1.5 dB by the other rounding: 23.93 dB in place of 23.98.
    """
    dtype = autocast_dtype(device) or torch.float32
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            module.to(dtype)  # autocast would do so at every page
    return placed(network, device)


@dataclass(frozen=True)
class PrintReader:
    """Reads what is printed, see ``sheet.find.Reader``."""

    of_names: nn.Module
    of_text: nn.Module
    device: torch.device

    def names(self, seen: Image) -> Sequence[Name]:
        """Read lead names."""
        return find_names(self.of_names, seen, self.device)

    def lines(self, cuts: Sequence[Cut]) -> Sequence[Line]:
        """Read lines of text."""
        return read_lines(self.of_text, cuts, self.device)


def reader_of(models: Models) -> PrintReader | None:
    """Return what reads the print of other sheets; None if its networks are not loaded."""
    if models.names is None or models.text is None:
        return None
    return PrintReader(models.names, models.text, models.device)


def run_on(network: nn.Module, image: Image, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Run a network on one (H, W, 3) picture."""
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]  # channels last
    return run_batch(network, x, device)
