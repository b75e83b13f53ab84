"""Train one stage by its script: what the command `train` does."""

import importlib
import inspect
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ecg_digitize.errors import InputError, WeightsError
from ecg_digitize.layout import COMPETITION
from ecg_digitize.manifest import Architecture
from ecg_digitize.runtime import placed
from ecg_digitize.stage2.members import BACKBONE, MEMBERS
from ecg_digitize.stage2.series import SeriesNet, start_as_strips
from ecg_digitize.stage2.strip import StripNet, n_rows_of, start_as_whole
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.systems.registry import TRAINABLE
from ecg_digitize.training.loop import TrainOptions, train
from ecg_digitize.training.losses import MIXTURES
from ecg_digitize.weights import network_classes

DEFAULTS: Final = {
    "stage0": Architecture("Stage0Net", {"backbone": BACKBONE}),
    "stage1": Architecture("Stage1Net", {"backbone": BACKBONE}),
    "stage2": MEMBERS["whole"],
    "refine": Architecture("RefineNet", {}),
}
"""What each stage ships."""

ALONE: Final = {
    "strips": Architecture("StripNet", {"backbone": BACKBONE}),
    "names": Architecture("NamesNet", {}),
    "text": Architecture("TextNet", {}),
}
"""Networks that are trained by themselves: no stage of the competition's pipeline needs them."""

PUBLISHED: Final = {
    name: system.architecture
    for name, system in TRAINABLE.items()
    if system.architecture is not None
}
"""Networks of published systems, see ``systems``."""


def architecture_of(
    stage: str, *, member: str | None = None, backbone: str | None = None
) -> Architecture:
    """Return the network that a stage is to have.

    Args:
        stage: A key of DEFAULTS, ALONE or PUBLISHED.
        member: For stage 2, a key of MEMBERS.
        backbone: timm name, in place of the usual one.

    Raises:
        InputError: The stage has no members, the member is unknown, or it has no backbone.
    """
    architecture = {**DEFAULTS, **ALONE, **PUBLISHED}[stage]
    if member is not None:
        if stage != "stage2" or member not in MEMBERS:
            raise InputError(
                f"{stage}: no member {member!r}; stage2 alone has some: {', '.join(MEMBERS)}"
            )
        architecture = MEMBERS[member]
    if backbone is None:
        return architecture
    if "backbone" not in architecture.options:
        raise InputError(f"{stage}: {architecture.name} has no backbone; leave --backbone out")
    return Architecture(architecture.name, {**architecture.options, "backbone": backbone})


def script_of(stage: str) -> ModuleType:
    """Return the module that says what the samples (`Samples`) and the loss of a stage are."""
    if stage in TRAINABLE:
        return TRAINABLE[stage].module("training")
    return importlib.import_module(f"ecg_digitize.training.{stage}")


def network_of(architecture: Architecture) -> nn.Module:
    """Return a network, not yet trained."""
    known = dict(network_classes())
    for system in TRAINABLE.values():
        if system.architecture is not None and system.architecture.name == architecture.name:
            known[architecture.name] = getattr(system.module("net"), architecture.name)
    return known[architecture.name](**architecture.options)


def has_encoder(architecture: Architecture) -> bool:
    """Tell whether ImageNet weights fit into a network."""
    return "backbone" in architecture.options


def start_from(
    architecture: Architecture, *, encoder: Path | None = None, initial: Path | None = None
) -> nn.Module:
    """Return a network to train.

    Args:
        architecture: Which.
        encoder: ImageNet weights of its backbone (safetensors).
        initial: All weights of an earlier network of its kind (safetensors).

    Raises:
        WeightsError: A file does not fit.
    """
    network = network_of(architecture)
    if encoder is not None:
        network.body.encoder.load_imagenet(encoder)  # type: ignore[operator,union-attr]
    if initial is not None:
        load_trained(network, initial, architecture)
    return network


def trained_file(trained: Path | None, name: str) -> Path | None:
    """Return the weights of a training in a folder of its name; None if there are none.

    Args:
        trained: Folder of such folders; None has none.
        name: Of the training.
    """
    found = sorted((trained / name).glob("*.safetensors")) if trained is not None else []
    return found[0] if found else None


def trained_network(architecture: Architecture, path: Path, device: torch.device) -> nn.Module:
    """Return a network as its training left it, on a device and in evaluation mode.

    Raises:
        WeightsError: The file does not hold it.
    """
    return placed(start_from(architecture, initial=path).eval(), device)


def load_trained(network: nn.Module, trained: Path, architecture: Architecture) -> None:
    """Load the checkpoint.pt of a training, or the safetensors file it ended with.

    Raises:
        WeightsError: The file is missing, or does not hold such a network.
    """
    try:
        if trained.suffix == ".safetensors":
            state: dict[str, Tensor] = load_file(trained)
        else:
            checkpoint: Any = torch.load(trained, map_location="cpu", weights_only=True)
            state = checkpoint["network"]
        n_rows = n_rows_of(state)
        if isinstance(network, StripNet) and n_rows == COMPETITION.n_rows:
            start_as_whole(network, state)
        elif isinstance(network, SeriesNet) and n_rows == 1:
            start_as_strips(network, state)
        else:
            network.load_state_dict(state, strict=True)
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise WeightsError(
            f"{trained}: expected the checkpoint.pt or the safetensors file of a training, but "
            f"got {type(error).__name__}: {error}"
        ) from error
    except RuntimeError as error:  # torch names every tensor that does not fit; the first tells
        raise WeightsError(
            f"{trained}: does not fit {architecture.name} {dict(architecture.options)}: "
            f"{str(error).splitlines()[-1].strip()}; check the stage, --member and --backbone"
        ) from error


def train_stage(
    stage: str,
    source: SignalSource,
    options: TrainOptions,
    *,
    architecture: Architecture | None = None,
    encoder: Path | None = None,
    initial: Path | None = None,
    loss: str | None = None,
    width_px: int | None = None,
    labels: Path | None = None,
    digitized: Path | None = None,
) -> tuple[nn.Module, dict[str, float]]:
    """Train a network.

    Args:
        stage: A key of DEFAULTS, ALONE or PUBLISHED; its script has `Samples` and `loss_of`.
        source: Training signals.
        options: Budget and hyperparameters.
        architecture: Of the network; None is the stage's usual one.
        encoder: ImageNet weights of the backbone to start from (safetensors).
        initial: All weights of an earlier network of its kind to start from (safetensors).
        loss: For stage 2, a key of MIXTURES; None is what ships.
        width_px: For stage 2, columns of a sample; None is what ships.
        labels: Table of what is known of the records, for scripts whose `Samples` take it.
        digitized: Records as they were read from pages, for diagnose-signals.

    Returns:
        The network in evaluation mode and the figures of the run.

    Raises:
        InputError: An encoder is given for a network without one, or the loss is not the stage's.
        WeightsError: The encoder's file or that of the earlier network does not fit.
    """
    script = script_of(stage)
    loss_of = script.loss_of
    if loss is not None:
        if stage != "stage2" or loss not in MIXTURES:
            raise InputError(
                f"{stage}: no loss {loss!r}; stage2 alone has some: {', '.join(MIXTURES)}"
            )
        loss_of = partial(loss_of, mixture=MIXTURES[loss])
    architecture = architecture or {**DEFAULTS, **ALONE, **PUBLISHED}[stage]
    if encoder is not None and not has_encoder(architecture):
        raise InputError(f"{stage}: {architecture.name} has no encoder; leave --encoder out")
    more: dict[str, Any] = {"width_px": width_px, "labels": labels, "digitized": digitized}
    more = {name: value for name, value in more.items() if value is not None}
    takes = inspect.signature(script.Samples).parameters
    if unknown := [name for name in more if name not in takes]:
        raise InputError(f"{stage}: expected no --{unknown[0]}, since its samples take none")
    if "labels" in takes and labels is None:
        raise InputError(f"{stage}: expected what is known of the records in --labels CSV")
    samples = script.Samples(source, options.seed, **more)
    torch.manual_seed(options.seed)
    network = start_from(architecture, encoder=encoder, initial=initial)
    return network, train(network, loss_of, samples, options)
