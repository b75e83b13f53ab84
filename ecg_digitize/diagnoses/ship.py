"""A trained network of signals with its thresholds: to be used, or into `weights/`."""

from collections.abc import Mapping
from pathlib import Path

from ecg_digitize.diagnoses.classes import Labelled
from ecg_digitize.diagnoses.classify import NETWORKS, STAGE
from ecg_digitize.diagnoses.inputs import N_CHANNELS, N_SAMPLES
from ecg_digitize.diagnoses.signals.net import SignalNet
from ecg_digitize.diagnoses.thresholds import fitted_thresholds
from ecg_digitize.manifest import (
    Architecture,
    InputSpec,
    ManifestEntry,
    Provenance,
    update_manifest,
)
from ecg_digitize.shipped import HOME
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.run import load_trained
from ecg_digitize.weights import write_entry


def with_thresholds(
    trained: Path, source: SignalSource, labels: Mapping[str, Labelled]
) -> SignalNet:
    """Load a training of `diagnose-signals` and give it thresholds.

    Args:
        trained: checkpoint.pt or safetensors.
        source: Of records that may be learned from.
        labels: Of them.

    Raises:
        WeightsError: The file is missing, or does not hold such a network.
        InputError: None of the records may be learned from.
    """
    network = SignalNet()
    load_trained(network, trained, Architecture("SignalNet", {}))
    network.thresholds = fitted_thresholds(network.eval(), source, labels)
    return network


def ship(
    network: SignalNet,
    *,
    provenance: Provenance,
    licence: str = "Apache-2.0",
    weights_dir: Path | None = None,
    manifest: Path | None = None,
) -> ManifestEntry:
    """Write weights/diagnose.safetensors and its entry, which holds classes and thresholds.

    Args:
        network: See ``with_thresholds``.
        provenance: How it was trained.
        licence: SPDX identifier.
        weights_dir: Folder of the weights; None is the package's own.
        manifest: The manifest; None is the package's own.
    """
    entry = write_entry(
        network.eval(),
        (weights_dir or HOME / "weights") / f"{STAGE}.safetensors",
        stage=STAGE,
        options={"classes": network.classes, "thresholds": network.thresholds},
        input_spec=InputSpec((1, N_CHANNELS, N_SAMPLES), "signals, mV at 100 Hz, and their masks"),
        licence=licence,
        provenance=provenance,
        networks=NETWORKS,
    )
    update_manifest(entry, manifest)
    return entry
