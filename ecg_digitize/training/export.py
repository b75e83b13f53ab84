"""From a trained network to `weights/` and its entry in the manifest."""

import datetime
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ecg_digitize.files import replacing
from ecg_digitize.frames import NORM, RECT
from ecg_digitize.layout import COMPETITION
from ecg_digitize.manifest import (
    Architecture,
    InputSpec,
    ManifestEntry,
    Provenance,
    update_manifest,
)
from ecg_digitize.models import MEMBER_OF_STAGE2
from ecg_digitize.sheet.text_net import HEIGHT_PX
from ecg_digitize.shipped import HOME
from ecg_digitize.stage0.net import INPUT_PX
from ecg_digitize.stage2.refine import BAND_PX, CLUES, PIXELS
from ecg_digitize.stage2.strip import STRIP_PX
from ecg_digitize.training.run import ALONE, DEFAULTS, load_trained
from ecg_digitize.weights import network_classes, write_entry

INPUTS: Final = {
    "stage0": InputSpec((1, 3, INPUT_PX, INPUT_PX), "page, scaled"),
    "stage1": InputSpec((1, 3, NORM.height_px, NORM.width_px), "norm"),
    "stage2": InputSpec((1, 3, RECT.height_px, RECT.width_px), "rect"),
    "refine": InputSpec(
        (COMPETITION.n_rows, PIXELS + CLUES, BAND_PX, COMPETITION.n_columns),
        "rect, along the lines",
    ),
}
"""What the networks look at in use."""
INPUTS_ALONE: Final = {
    "strips": InputSpec((1, 3, STRIP_PX, RECT.width_px), "rect, a strip of it"),
    "names": InputSpec((1, 3, 1120, 1440), "sheet, 5 px/mm"),
    "text": InputSpec((16, 1, HEIGHT_PX, 640), "lines of text"),
}
"""The same of `run.ALONE`; any size will do."""


def export(
    stage: str,
    trained: Path,
    *,
    provenance: Provenance,
    averaged_with: Sequence[Path] = (),
    architecture: Architecture | None = None,
    member: str | None = None,
    licence: str = "Apache-2.0",
    weights_dir: Path | None = None,
    manifest: Path | None = None,
) -> ManifestEntry:
    """Write weights/STAGE.safetensors and put its entry into the manifest.

    Args:
        stage: A key of INPUTS or INPUTS_ALONE.
        trained: checkpoint.pt of a training, or the safetensors file it ended with.
        provenance: How it was trained; see `provenance_now`.
        averaged_with: Trainings of the same network whose weights are averaged with its own, which
            is worth something where one began from the other (docs/ablation.md).
        architecture: What was trained; None is the stage's usual one.
        member: Its name as a further member of stage 2, which stays what it is; see
            ``models.members_of``. None: it takes the stage's place.
        licence: SPDX identifier.
        weights_dir: Folder of the weights; None is the package's own.
        manifest: The manifest; None is the package's own.

    Returns:
        The new entry, in place of the stage's old one.

    Raises:
        WeightsError: The file is missing, or does not hold the stage's network.
    """
    architecture = architecture or {**DEFAULTS, **ALONE}[stage]
    network = network_classes()[architecture.name](**architecture.options)
    states = []
    for path in (trained, *averaged_with):
        load_trained(network, path, architecture)
        states.append({name: value.clone() for name, value in network.state_dict().items()})
    network.load_state_dict({name: _mean([one[name] for one in states]) for name in states[0]})
    called = stage if member is None else f"{MEMBER_OF_STAGE2}{member}"
    entry = write_entry(
        network.eval(),
        (weights_dir or HOME / "weights") / f"{called}.safetensors",
        stage=called,
        options=architecture.options,
        input_spec={**INPUTS, **INPUTS_ALONE}[stage],
        licence=licence,
        provenance=provenance,
    )
    update_manifest(entry, manifest)
    return entry


def provenance_now(
    *, command: str, data: str, minutes: float, metrics: Mapping[str, float]
) -> Provenance:
    """Return how a network was trained, dated today."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Provenance(command, data, today, minutes, dict(metrics))


def save_half(
    network: nn.Module, path: Path, *, figures: Mapping[str, float] | None = None
) -> None:
    """Write a network's weights in half precision, to be exported or trained on.

    Args:
        network: In training or not.
        path: The safetensors file.
        figures: Of the training: steps, minutes, loss. `figures_of` finds them in the file.
    """
    tensors = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    with replacing(path) as partial:
        told = {name: f"{value:.6g}" for name, value in (figures or {}).items()}
        save_file(tensors, partial, metadata={"format": "pt", **told})
        partial.chmod(0o644)  # save_file leaves it to its owner alone


def figures_of(path: Path) -> dict[str, float]:
    """Return the figures of the training whose weights `save_half` wrote."""
    with safe_open(path, "pt") as file:
        told: Mapping[str, str] = file.metadata() or {}
    return {name: float(value) for name, value in told.items() if name != "format"}


def export_line(
    stage: str, path: Path, *, member: str | None, backbone: str | None, command: str, data: str,
    minutes: float, metrics: Mapping[str, float],
) -> str:  # fmt: skip
    """Return the command that exports a finished training, ready for the shell."""
    words = ["python", "-m", "ecg_digitize", "export", stage, str(path)]
    words += ["--minutes", f"{minutes:.3g}", "--command", command, "--data", data]
    for option, value in (("--member", member), ("--backbone", backbone)):
        words += [option, value] if value is not None else []
    for name, figure in metrics.items():
        words += ["--metric", f"{name}={figure:.5g}"]
    return shlex.join(words)


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    if not tensors[0].is_floating_point():  # batches counted
        return tensors[0]
    return torch.stack(list(tensors)).mean(dim=0)
