"""From a trained network to `weights/` and its entry in the manifest."""

import datetime
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ecg_digitize.errors import WeightsError
from ecg_digitize.files import replacing
from ecg_digitize.layout import NORM, RECT
from ecg_digitize.manifest import HOME, InputSpec, ManifestEntry, Provenance, update_manifest
from ecg_digitize.stage0.net import INPUT_PX
from ecg_digitize.weights import network_classes, write_entry

DEFAULT_BACKBONE: Final = "tf_efficientnet_lite0"


@dataclass(frozen=True)
class StageSpec:
    """Which network a stage is, and what it looks at in use."""

    network: str  # a key of `weights.network_classes()`
    input: InputSpec


STAGES: Final = {
    "stage0": StageSpec("Stage0Net", InputSpec((1, 3, INPUT_PX, INPUT_PX), "page, scaled")),
    "stage1": StageSpec("Stage1Net", InputSpec((1, 3, NORM.height_px, NORM.width_px), "norm")),
    "stage2": StageSpec("WholeNet", InputSpec((1, 3, RECT.height_px, RECT.width_px), "rect")),
}


def export(
    stage: str,
    trained: Path,
    *,
    provenance: Provenance,
    backbone: str = DEFAULT_BACKBONE,
    licence: str = "Apache-2.0",
    weights_dir: Path | None = None,
    manifest: Path | None = None,
) -> ManifestEntry:
    """Write weights/STAGE.safetensors and put its entry into the manifest.

    Args:
        stage: A key of STAGES.
        trained: checkpoint.pt of a training, or the safetensors file it ended with.
        provenance: How it was trained; see `provenance_now`.
        backbone: timm name the network was trained with.
        licence: SPDX identifier.
        weights_dir: Folder of the weights; None is the package's own.
        manifest: The manifest; None is the package's own.

    Returns:
        The new entry, in place of the stage's old one.

    Raises:
        WeightsError: The file is missing, or does not hold the stage's network.
    """
    spec = STAGES[stage]
    network = network_classes()[spec.network](backbone=backbone)
    _load(network, trained, stage=stage, backbone=backbone)
    entry = write_entry(
        network.eval(),
        (weights_dir or HOME / "weights") / f"{stage}.safetensors",
        stage=stage,
        options={"backbone": backbone},
        input_spec=spec.input,
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


def save_half(network: nn.Module, path: Path) -> None:
    """Write a network's weights in half precision, to be exported or trained on."""
    tensors = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
        partial.chmod(0o644)  # save_file leaves it to its owner alone


def export_line(
    stage: str, path: Path, *, backbone: str, command: str, data: str, minutes: float,
    metrics: Mapping[str, float],
) -> str:  # fmt: skip
    """Return the command that exports a finished training, ready for the shell."""
    words = ["python", "-m", "ecg_digitize", "export", stage, str(path)]
    words += ["--minutes", f"{minutes:.3g}", "--command", command, "--data", data]
    if backbone != DEFAULT_BACKBONE:
        words += ["--backbone", backbone]
    for name, value in metrics.items():
        words += ["--metric", f"{name}={value:.5g}"]
    return shlex.join(words)


def _load(network: nn.Module, trained: Path, *, stage: str, backbone: str) -> None:
    try:
        if trained.suffix == ".safetensors":
            state: dict[str, Tensor] = load_file(trained)
        else:
            checkpoint: Any = torch.load(trained, map_location="cpu", weights_only=True)
            state = checkpoint["network"]
        network.load_state_dict(state, strict=True)
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise WeightsError(
            f"{trained}: expected the checkpoint.pt or the safetensors file of a training, but "
            f"got {type(error).__name__}: {error}"
        ) from error
    except RuntimeError as error:  # torch names every tensor that does not fit; the first tells
        raise WeightsError(
            f"{trained}: does not fit {type(network).__name__} on {backbone}, which {stage} is: "
            f"{str(error).splitlines()[-1].strip()}; check the stage and --backbone"
        ) from error
