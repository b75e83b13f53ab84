"""`weights_manifest.json`: what each weight file is, where it is from, what it must compute."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ecg_digitize.errors import WeightsError
from ecg_digitize.files import mounted_folders, replacing
from ecg_digitize.shipped import HOME

DATASET_SLUG: Final = "ecg-digitize-weights"
MANIFEST_NAME: Final = "weights_manifest.json"
MANIFEST_FORMAT: Final = 1
MANIFEST_VARIABLE: Final = "ECG_DIGITIZE_MANIFEST"
"""Environment variable: the manifest file, before any other place."""
WEIGHTS_VARIABLE: Final = "ECG_DIGITIZE_WEIGHTS"
"""Environment variable: the folder with the weight files, before any other place."""


@dataclass(frozen=True)
class Architecture:
    """Which class the weights fit, and how it is constructed."""

    name: str  # a key of `weights.network_classes()`
    options: Mapping[str, Any]  # keyword arguments; JSON lists arrive as tuples


@dataclass(frozen=True)
class InputSpec:
    """What the network looks at in use."""

    shape: tuple[int, ...]  # (N, C, H, W)
    frame: str  # frame of those pixels, see frames.py


@dataclass(frozen=True)
class Provenance:
    """How the file came to be."""

    command: str  # command line that trained it
    data: str  # what it was trained on
    date: str  # ISO 8601
    minutes: float  # training time
    metrics: Mapping[str, float]  # on held-out data


@dataclass(frozen=True)
class OutputCheck:
    """What the network must give on `weights.check_input(seed, shape)`, float32 on the CPU."""

    seed: int
    shape: tuple[int, ...]  # (N, C, H, W), small
    outputs: tuple[tuple[float, ...], ...]  # one an output: mean, std, then evenly spaced samples
    tolerance: float  # allowed difference, as a share of |mean| + std


@dataclass(frozen=True)
class ManifestEntry:
    """One weight file."""

    stage: str
    file: str
    bytes: int
    sha256: str
    architecture: Architecture
    input: InputSpec
    licence: str  # SPDX identifier
    provenance: Provenance
    check: OutputCheck


def explicit_folders(weights_dir: Path | None) -> list[Path]:
    """Return the one folder named by the argument or ECG_DIGITIZE_WEIGHTS, or nothing."""
    named = weights_dir or os.environ.get(WEIGHTS_VARIABLE)
    return [Path(named)] if named else []


def find_manifest(path: Path | None = None, *, weights_dir: Path | None = None) -> Path:
    """Return the manifest's path.

    Args:
        path: Taken as it is when given, and ECG_DIGITIZE_MANIFEST after it. Otherwise the first of
            the package's own, the one beside the weights, the one in the mounted data set.
        weights_dir: Folder with the weights; None reads ECG_DIGITIZE_WEIGHTS.

    Raises:
        WeightsError: If there is none.
    """
    if path is None and (named := os.environ.get(MANIFEST_VARIABLE)):
        path = Path(named)
    if path is not None:
        candidates = [path]
    else:
        mounts = mounted_folders(DATASET_SLUG, kind="datasets")
        folders = [HOME, *explicit_folders(weights_dir), *mounts]
        candidates = [folder / MANIFEST_NAME for folder in folders]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    tried = ", ".join(map(str, candidates))
    raise WeightsError(
        f"{MANIFEST_NAME}: not found, tried {tried}; set {MANIFEST_VARIABLE} to its path"
    )


def read_manifest(
    path: Path | None = None, *, weights_dir: Path | None = None
) -> tuple[ManifestEntry, ...]:
    """Read the list of weight files.

    Args:
        path: The manifest; None looks in the places `find_manifest` names.
        weights_dir: Folder with the weights, which may hold a copy of the manifest.

    Raises:
        WeightsError: If it is missing or not a manifest.
    """
    path = find_manifest(path, weights_dir=weights_dir)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != MANIFEST_FORMAT:
            raise ValueError(f"format is {document['format']}, expected {MANIFEST_FORMAT}")
        return tuple(_entry_from_json(item) for item in document["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path}: not a usable weights manifest ({type(error).__name__}: {error}); "
            "restore the file"
        ) from error


def update_manifest(entry: ManifestEntry, path: Path | None = None) -> None:
    """Put an entry into the manifest, in place of the one for the same file.

    Args:
        entry: What `weights.write_entry` returned.
        path: The manifest, made if it does not exist; None is the package's own.
    """
    path = path or HOME / MANIFEST_NAME
    known = read_manifest(path) if path.exists() else ()
    entries = [entry, *(other for other in known if other.file != entry.file)]
    entries.sort(key=lambda item: (item.stage, item.file))
    document = {"format": MANIFEST_FORMAT, "files": [asdict(item) for item in entries]}
    with replacing(path) as partial:
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _entry_from_json(item: Mapping[str, Any]) -> ManifestEntry:
    fields = _with_tuples(item)
    nested = {
        "architecture": Architecture,
        "input": InputSpec,
        "provenance": Provenance,
        "check": OutputCheck,
    }
    return ManifestEntry(**{**fields, **{key: kind(**fields[key]) for key, kind in nested.items()}})


def _with_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
