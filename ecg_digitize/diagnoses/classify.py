"""A recording -> its classes, with what must be said beside them."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import nn

from ecg_digitize.diagnoses.inputs import input_of
from ecg_digitize.diagnoses.signals.net import SignalNet
from ecg_digitize.diagnoses.thresholds import probabilities_of
from ecg_digitize.errors import InputError, WeightsError
from ecg_digitize.files import replacing
from ecg_digitize.manifest import read_manifest
from ecg_digitize.types import Recording
from ecg_digitize.weights import NetworkFactory, load_network

STAGE: Final = "diagnose"
"""Of the network that ships, in the manifest; nothing but this package loads it."""
NETWORKS: Final[dict[str, NetworkFactory]] = {"SignalNet": SignalNet}

NOTICE: Final = "research only, not for diagnosis"
UNKNOWABLE: Final = (
    "acute infarction is not told from an old one: MI is both",
    "most leads are printed for 2.5 s: what happens at other times is not seen",
    "PAC, BRADY, TACHY, PVC and AFIB/AFL were learned from few records each",
    "what is none of the ten classes is not told, and no class does not mean healthy",
    "age, sex, complaints, medicines and earlier ECGs are not known",
    "all training records are from Germany, 1989 to 1996 (PTB-XL)",
    "where the picture was read wrong, the classes are wrong",
)
"""What the classes cannot say, whatever the probabilities are."""
CSV_NAME: Final = "classify.csv"
COLUMNS: Final = ("page", "verdict", "class", "probability", "decision", "threshold", "note")


@dataclass(frozen=True)
class ClassFound:
    """One class of a page."""

    name: str  # of classes.CLASSES
    probability: float
    threshold: float

    @property
    def is_decided(self) -> bool:
        """Whether the class is decided for."""
        return self.probability >= self.threshold


@dataclass(frozen=True)
class Classified:
    """What a network says of a recording: research only, see NOTICE and UNKNOWABLE."""

    classes: tuple[ClassFound, ...]
    verdict: str = "ok"
    """Of the reading, see ``types.Recording.verdict``. Of a rejected one nothing is decided: what
    was read is wrong, and so are its classes."""

    @property
    def is_rejected(self) -> bool:
        """Whether the reading is."""
        return self.verdict == "reject"

    @property
    def decided(self) -> tuple[str, ...]:
        """The names of the classes that are decided for."""
        return tuple(one.name for one in self.classes if one.is_decided and not self.is_rejected)

    def to_line(self) -> str:
        """Return it in one line, with the notice."""
        if self.is_rejected:
            return f"nothing decided, the reading is rejected ({NOTICE})"
        told = [f"{one.name} {one.probability:.2f}" for one in self.classes if one.is_decided]
        return f"{', '.join(told) or 'none of the classes'} ({NOTICE})"


def load_classifier(weights_dir: Path | None = None) -> SignalNet:
    """Load the network that ships.

    Raises:
        WeightsError: There is none, or it is altered.
    """
    entries = {entry.stage: entry for entry in read_manifest(weights_dir=weights_dir)}
    if STAGE not in entries:
        raise WeightsError(
            f"weights_manifest.json has no weights for {STAGE}; train diagnose-signals, and ship "
            f'it with "ecg-digitize export {STAGE}"'
        )
    network = load_network(entries[STAGE], weights_dir=weights_dir, networks=NETWORKS)
    assert isinstance(network, SignalNet)
    return network


def classify(recording: Recording, network: nn.Module) -> Classified:
    """Say which classes a recording suggests.

    Args:
        recording: Of any layout, at any rate.
        network: See ``load_classifier``.

    Raises:
        InputError: Nothing is seen of any lead.
    """
    seen = input_of(recording)
    if not seen[len(seen) // 2 :].any():
        raise InputError("nothing is seen of any lead")
    (probabilities,) = probabilities_of(network, seen[None])
    named = zip(network.classes, probabilities, network.thresholds, strict=True)  # type: ignore[arg-type]
    found = tuple(ClassFound(str(n), float(p), float(t)) for n, p, t in named)
    return Classified(found, recording.verdict)


def write_classes(path: Path, pages: Iterable[tuple[str, Classified]]) -> None:
    """Write a row for each page and class; the column `note` says that it is research only.

    The column `verdict` is that of the reading; where it is "reject", `decision` is empty.

    Raises:
        OSError: The file cannot be written.
    """
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for page, found in pages:
            for one in found.classes:
                decision = "" if found.is_rejected else int(one.is_decided)
                told = f"{one.probability:.4f}", decision, f"{one.threshold:.2f}"
                writer.writerow((page, found.verdict, one.name, *told, NOTICE))


def unknowable_text() -> str:
    """Return NOTICE and what the classes cannot say, a line each."""
    return "\n".join(
        [f"Classes are {NOTICE}. What they cannot say:", *(f"* {w}" for w in UNKNOWABLE)]
    )
