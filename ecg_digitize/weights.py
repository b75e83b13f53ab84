"""Weight files: found, proved to be the ones the manifest means, loaded strictly.

A file that differs in one byte, or a library that computes something else, is found before the
first page and not as a bad score.
"""

import dataclasses
import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ecg_digitize.errors import WeightsError
from ecg_digitize.files import input_root, mounted_folders, replacing, search_below, sha256_of
from ecg_digitize.manifest import (
    DATASET_SLUG,
    MANIFEST_NAME,
    WEIGHTS_VARIABLE,
    Architecture,
    InputSpec,
    ManifestEntry,
    OutputCheck,
    Provenance,
    explicit_folders,
    read_manifest,
    update_manifest,
)
from ecg_digitize.shipped import HOME

__all__ = [
    "FileStatus",
    "NetworkFactory",
    "check_file",
    "check_input",
    "load_network",
    "locate_weights",
    "network_classes",
    "read_manifest",
    "update_manifest",
    "verify_all",
    "write_entry",
]

logger = logging.getLogger(__name__)

NetworkFactory = Callable[..., nn.Module]

_N_SAMPLES: Final = 8
_TOLERANCE: Final = 1e-3
"""Share of an output's size it may be off: one CPU and library differ from the next by about 1e-5
in float32, other weights by about 1."""


@dataclass(frozen=True)
class FileStatus:
    """One line of the table that the command `weights` prints."""

    file: str
    stage: str
    bytes: int
    ok: bool
    why: str  # where it was found, or what is wrong


def network_classes() -> dict[str, NetworkFactory]:
    """Return the networks a manifest may name, by class name."""
    # Imported late: finding and checking files needs no networks.
    from ecg_digitize.sheet.names_net import NamesNet
    from ecg_digitize.sheet.text_net import TextNet
    from ecg_digitize.stage0.net import Stage0Net
    from ecg_digitize.stage1.net import Stage1Net
    from ecg_digitize.stage2.refine import RefineNet
    from ecg_digitize.stage2.series import SeriesNet
    from ecg_digitize.stage2.strip import StripNet
    from ecg_digitize.stage2.whole import WholeNet

    known = (Stage0Net, Stage1Net, WholeNet, SeriesNet, StripNet, RefineNet, NamesNet, TextNet)
    return {network.__name__: network for network in known}


def check_file(path: Path, entry: ManifestEntry) -> None:
    """Compare a file with its manifest entry.

    Raises:
        WeightsError: If size or SHA-256 differ.
    """
    size = path.stat().st_size
    if size != entry.bytes:
        raise WeightsError(
            f"{path}: {size} bytes but {MANIFEST_NAME} says {entry.bytes}; the copy is incomplete "
            "or of another version: re-attach the dataset or restore the file"
        )
    digest = sha256_of(path)
    if digest != entry.sha256:
        raise WeightsError(
            f"{path}: SHA-256 {digest[:12]}… but {MANIFEST_NAME} says {entry.sha256[:12]}…; "
            "re-attach the dataset or restore the file"
        )


def locate_weights(
    entry: ManifestEntry, *, weights_dir: Path | None = None, root: Path | None = None
) -> Path:
    """Return the path of a weight file whose size and SHA-256 are right.

    A folder given by argument or environment is the only place looked at. Otherwise: `weights/`
    in `shipped.HOME`, the data set's old and new mounts on Kaggle, and last any file of that name
    below Kaggle's inputs, since owners rename data sets.

    Args:
        entry: The file to find.
        weights_dir: Folder that must hold the file; None reads ECG_DIGITIZE_WEIGHTS.
        root: Stands in for /kaggle/input.

    Raises:
        WeightsError: If there is no such file, or only ones that differ.
    """
    root = input_root() if root is None else root
    explicit = explicit_folders(weights_dir)
    mounts = mounted_folders(DATASET_SLUG, kind="datasets", root=root)
    folders = explicit or [HOME / "weights", *mounts]
    named = (folder / entry.file for folder in folders)
    elsewhere = iter(()) if explicit else search_below(root, {entry.file})
    first_error: WeightsError | None = None
    for path in itertools.chain(filter(Path.is_file, named), elsewhere):
        try:
            check_file(path, entry)
        except WeightsError as error:
            logger.warning("%s", error)
            first_error = first_error or error
        else:
            return path
    if first_error is not None:
        raise first_error
    tried = ", ".join(map(str, folders)) + ("" if explicit else f", anywhere below {root}")
    raise WeightsError(
        f"{entry.file}: not found in {tried}; attach the dataset {DATASET_SLUG} or set "
        f"{WEIGHTS_VARIABLE} to the folder that holds it"
    )


def load_network(
    entry: ManifestEntry,
    *,
    weights_dir: Path | None = None,
    root: Path | None = None,
    networks: Mapping[str, NetworkFactory] | None = None,
) -> nn.Module:
    """Construct the network of a manifest entry, load its weights and check what it computes.

    Args:
        entry: Which file and architecture.
        weights_dir: As for `locate_weights`.
        root: As for `locate_weights`.
        networks: Architectures by name; None is `network_classes()`.

    Returns:
        The network, float32 on the CPU, in evaluation mode.

    Raises:
        WeightsError: If the file is missing or altered, its tensors are not the network's, or the
            outputs on the check's input are not the manifest's.
    """
    path = locate_weights(entry, weights_dir=weights_dir, root=root)
    network = _construct(entry, network_classes() if networks is None else networks)
    _load_strictly(network, path)
    _compare_outputs(_summaries(network, entry.check.seed, entry.check.shape), entry)
    return network


def write_entry(
    network: nn.Module,
    path: Path,
    *,
    stage: str,
    options: Mapping[str, object],
    input_spec: InputSpec,
    licence: str,
    provenance: Provenance,
    check_shape: tuple[int, ...] | None = None,
    seed: int = 0,
    networks: Mapping[str, NetworkFactory] | None = None,
) -> ManifestEntry:
    """Write a trained network's weights and return its manifest entry.

    Kernels are stored in half precision; vectors (norms, biases: 1 % of the bytes) stay float32,
    as running variances reach below what half precision can hold. The entry's numbers come from a
    network loaded back from the file, so they are those of the rounded weights.

    Args:
        network: The trained network; its class name is the architecture's name.
        path: The safetensors file to write, whole or not at all.
        stage: "stage0", "stage1", "stage2", "refine", "strips", "names", "text", or "stage2-" and
            the name of a further member.
        options: Keyword arguments that construct the network.
        input_spec: What it looks at in use.
        licence: SPDX identifier.
        provenance: How it was trained.
        check_shape: (N, C, H, W) of the output check's input, run at every start; None asks the
            network's `example_input_shape()`.
        seed: Of the output check's input.
        networks: Architectures by name; None is `network_classes()`.

    Raises:
        WeightsError: If a weight is not finite in half precision, or the options do not
            reconstruct the network.
    """
    tensors = {name: _stored(name, tensor) for name, tensor in network.state_dict().items()}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
        partial.chmod(0o644)  # save_file leaves it to its owner alone
    shape: tuple[int, ...] = check_shape or network.example_input_shape()  # type: ignore[operator]
    empty = OutputCheck(seed=seed, shape=shape, outputs=(), tolerance=_TOLERANCE)
    entry = ManifestEntry(
        stage=stage,
        file=path.name,
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        architecture=Architecture(name=type(network).__name__, options=dict(options)),
        input=input_spec,
        licence=licence,
        provenance=provenance,
        check=empty,
    )
    reloaded = _construct(entry, network_classes() if networks is None else networks)
    _load_strictly(reloaded, path)
    outputs = _summaries(reloaded, seed, shape)
    return dataclasses.replace(entry, check=dataclasses.replace(empty, outputs=outputs))


def verify_all(
    *,
    weights_dir: Path | None = None,
    manifest: Path | None = None,
    networks: Mapping[str, NetworkFactory] | None = None,
) -> list[FileStatus]:
    """Locate, load and check every file of the manifest.

    Args:
        weights_dir: As for `locate_weights`.
        manifest: As for `read_manifest`.
        networks: As for `load_network`.

    Returns:
        One line a file; problems are told in `why`, not raised.

    Raises:
        WeightsError: If the manifest itself cannot be read.
    """
    table = []
    for entry in read_manifest(manifest, weights_dir=weights_dir):
        try:
            load_network(entry, weights_dir=weights_dir, networks=networks)
            ok, why = True, str(locate_weights(entry, weights_dir=weights_dir))
        except WeightsError as error:
            ok, why = False, str(error)
        table.append(FileStatus(entry.file, entry.stage, entry.bytes, ok, why))
    return table


def check_input(seed: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the made picture of an output check: (N, C, H, W) uint8, the same on every machine.

    Closed arithmetic instead of a numpy Generator, whose streams may change between releases:
    counters multiplied and folded (the mixing step of splitmix64), uniform in [0, 255].
    """
    count = np.arange(math.prod(shape), dtype=np.uint64) + (np.uint64(seed) << np.uint64(32))
    mixed = count * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(56)).astype(np.uint8).reshape(shape)


def _construct(entry: ManifestEntry, networks: Mapping[str, NetworkFactory]) -> nn.Module:
    name, options = entry.architecture.name, entry.architecture.options
    if name not in networks:
        raise WeightsError(
            f"{entry.file}: {MANIFEST_NAME} names architecture {name!r}, expected one of "
            f"{', '.join(sorted(networks))}; update the package or restore the manifest"
        )
    try:
        return networks[name](**options).eval()
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{entry.file}: {name} cannot be constructed from the options {dict(options)} in "
            f"{MANIFEST_NAME}: {error}"
        ) from error


def _load_strictly(network: nn.Module, path: Path) -> None:
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error}); restore it") from error
    want = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    differing = sorted(name for name in want.keys() | got.keys() if want.get(name) != got.get(name))
    if differing:
        name = differing[0]
        raise WeightsError(
            f"{path}: {len(differing)} of {len(want)} tensors do not fit {type(network).__name__}, "
            f"first {name}: expected {want.get(name, 'none')}, got {got.get(name, 'none')}; "
            f"the options in {MANIFEST_NAME} are not those of this file"
        )
    network.load_state_dict(tensors, strict=True)  # copies into float32 parameters
    network.eval()


def _stored(name: str, tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu().contiguous()
    half = tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor
    if not torch.isfinite(half).all():
        raise WeightsError(f"{name}: not finite in half precision; the training has diverged")
    return half


def _summaries(
    network: nn.Module, seed: int, shape: tuple[int, ...]
) -> tuple[tuple[float, ...], ...]:
    with torch.inference_mode():
        result = network(torch.from_numpy(check_input(seed, shape)))
    outputs: Sequence[torch.Tensor] = (result,) if isinstance(result, torch.Tensor) else result
    return tuple(map(_summary, outputs))


def _summary(output: torch.Tensor) -> tuple[float, ...]:
    flat = output.double().flatten()
    at = torch.linspace(0, flat.numel() - 1, _N_SAMPLES).long()
    values = [flat.mean(), flat.std(correction=0), *flat[at]]
    return tuple(float(f"{float(value):.7g}") for value in values)


def _compare_outputs(got: tuple[tuple[float, ...], ...], entry: ManifestEntry) -> None:
    want = entry.check.outputs
    if [len(summary) for summary in got] != [len(summary) for summary in want]:
        raise WeightsError(
            f"{entry.file}: the network gives {len(got)} outputs but {MANIFEST_NAME} holds "
            f"{len(want)}; restore the manifest or export the weights again"
        )
    for index, (wanted, given) in enumerate(zip(want, got, strict=True)):
        allowed = entry.check.tolerance * (abs(wanted[0]) + wanted[1]) + 1e-6
        worst = float(np.abs(np.subtract(wanted, given)).max())
        if not worst <= allowed:  # so written that NaN fails too
            raise WeightsError(
                f"{entry.file}: output {index} on the check input is off by {worst:.3g}, allowed "
                f"{allowed:.3g}; torch {torch.__version__} or the network's code computes "
                "something else than at export"
            )
