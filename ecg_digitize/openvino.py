"""Run the networks by OpenVINO, which takes less of a CPU's time than torch.

It is optional: `pip install "ecg-digitize[cpu]"`. The networks are converted once, which takes some
ten seconds, and kept in the user's cache folder. What this is worth is in docs/cpu.md.
"""

import hashlib
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from ecg_digitize import __version__
from ecg_digitize.engine.spare import WithSpare, load_on
from ecg_digitize.errors import InputError, WeightsError
from ecg_digitize.files import replacing
from ecg_digitize.models import BEST, READERS, STAGES, TORCH, Models
from ecg_digitize.nets import encoder, lite, unet
from ecg_digitize.runtime import autocast_dtype
from ecg_digitize.weights import check_input

logger = logging.getLogger(__name__)

OPENVINO: Final = "openvino"
CACHE_VARIABLE: Final = "ECG_DIGITIZE_CACHE"
"""Environment variable that names another folder for the converted networks."""

_IN_FLOAT32: Final = frozenset({"names", "text"})
"""There are thresholds on how sure these are."""
_MEASURES: Final = frozenset({"refine"})
"""What gets float32; all others get grey levels, uint8."""
_MOST_OFF: Final = 0.05
"""How far outputs may be off in the mean, as a share of their size: bfloat16 is off by up to 0.012,
other weights by about 1."""


class Compiled(nn.Module):
    """A network that OpenVINO runs: tensors in and out as those of the torch network."""

    def __init__(self, compiled: Any, dtype: torch.dtype) -> None:
        """Wrap an `openvino.CompiledModel` whose input has this type."""
        super().__init__()
        self.compiled = compiled
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Run the network on the CPU."""
        assert x.dtype == self.dtype, f"expected {self.dtype}, but got {x.dtype}"
        # A request a call: threads may call at once, and its outputs are never written again.
        request = self.compiled.create_infer_request()
        out = request.infer([x.contiguous().numpy()], share_inputs=True, share_outputs=True)
        tensors = tuple(torch.from_numpy(out[k]) for k in range(len(out)))
        return tensors if len(tensors) > 1 else tensors[0]


def on_backend(backend: str, models: Models) -> Models:
    """Return models run by "torch", as they are loaded, or by "openvino"."""
    return models if backend == TORCH else on_openvino(models)


def load_by(
    backend: str, device: str, *, weights_dir: Path | None = None, preset: str = BEST
) -> Models:
    """Load the networks for a backend; see ``engine.spare.load_on`` and ``on_openvino``."""
    loaded = load_on(device, weights_dir=weights_dir, preset=preset, is_final=backend == TORCH)
    return on_backend(backend, loaded)


def spare_by(
    backend: str, device: str, *, weights_dir: Path | None = None, preset: str = BEST
) -> WithSpare:
    """Load the networks for a backend, with the CPU to fall back on."""
    load = partial(load_by, backend, weights_dir=weights_dir, preset=preset)
    return WithSpare(load(device), partial(load, "cpu"))


def device_for(backend: str, requested: str | None) -> str | None:
    """Return the device to ask for: OpenVINO takes the CPU also where there is a GPU."""
    return requested or ("cpu" if backend == OPENVINO else None)


def on_openvino(
    models: Models, *, threads: int | None = None, cache_dir: Path | None = None
) -> Models:
    """Return models whose networks OpenVINO runs.

    Args:
        models: The networks in torch, on the CPU, as they were trained.
        threads: How many OpenVINO uses; None takes as many as torch does now.
        cache_dir: Where converted networks are kept; None takes `cache_folder()`.

    Raises:
        InputError: If OpenVINO is not installed, or the networks are not on the CPU.
        WeightsError: If a converted network computes something else than the torch network.
    """
    openvino = _import_openvino()
    if models.device.type != "cpu":
        raise InputError(f'OpenVINO runs on "cpu", but the device is "{models.device}"')
    if any(one.dtype != torch.float32 for one in models.stage2.parameters()):
        raise InputError("OpenVINO: expected float32 networks; load them with is_final=False")
    maker = _Maker(
        openvino,
        threads=threads or torch.get_num_threads(),
        folder=(cache_folder() if cache_dir is None else cache_dir) / "openvino",
    )
    networks = {stage: getattr(models, stage) for stage in (*STAGES, *READERS)}
    compiled: dict[str, Any] = {
        stage: maker.compiled(stage, network)
        for stage, network in networks.items()
        if hasattr(network, "example_input_shape")  # stages that were not asked for have none
    }
    members = {name: maker.compiled(name, network) for name, network in models.members.items()}
    return replace(models, **compiled, members=members, backend=OPENVINO)


def cache_folder() -> Path:
    """Return the folder for what is made once on a machine; all in it may be deleted."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ecg-digitize"


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which tells Google Analytics of every import."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # cannot be found
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise InputError(
            f'OpenVINO is not installed ({error}); run pip install "ecg-digitize[cpu]", or leave '
            "--backend out"
        ) from error


@cache
def _core(openvino: Any) -> Any:
    """Return the one `openvino.Core` of this process, which is never given back.

    A Core sets the stack that handlers of signals run on. When it goes, it frees that stack and
    sets the one from before. If the first of two Cores goes first, the second one sets a stack that
    is freed, and the next signal ends the process (OpenVINO 2026.4).
    """
    return openvino.Core()


class _Maker:
    """Makes compiled networks, or takes them from the cache."""

    def __init__(self, openvino: Any, *, threads: int, folder: Path) -> None:
        self.openvino = openvino
        self.core = _core(openvino)
        self.folder = folder
        self.threads = threads

    def compiled(self, stage: str, network: Any) -> Compiled:
        """Return a network as OpenVINO runs it."""
        half = autocast_dtype(torch.device("cpu")) is not None and stage not in _IN_FLOAT32
        config = {
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "INFERENCE_NUM_THREADS": self.threads,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # else every process waits for the same core
        }
        dtype = torch.float32 if stage in _MEASURES else torch.uint8
        path = self.folder / f"{stage}-{self._key(network, config)}.blob"
        blob = _read(path)
        if blob is None:
            logger.warning("converting %s for OpenVINO, once; kept in %s", stage, self.folder)
            seen = torch.from_numpy(check_input(0, network.example_input_shape())).to(dtype)
            model = self.openvino.convert_model(network, example_input=seen)
            made = self.core.compile_model(model, "CPU", config)
            _compare(Compiled(made, dtype), network, seen, stage)
            blob = made.export_model().getvalue()
            _write(path, blob)
        return Compiled(self.core.import_model(blob, "CPU", config), dtype)

    def _key(self, network: nn.Module, config: dict[str, Any]) -> str:
        """Return what tells a compiled network from all others: weights, code, versions, CPU."""
        digest = hashlib.sha256()
        cpu = self.core.get_property("CPU", "FULL_DEVICE_NAME")
        versions = __version__, self.openvino.get_version(), torch.__version__
        digest.update(repr((versions, cpu, config["INFERENCE_PRECISION_HINT"], network)).encode())
        for source in sorted({*map(inspect.getfile, (encoder, lite, unet)), *_sources(network)}):
            digest.update(Path(source).read_bytes())
        for name, tensor in network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


def _sources(network: nn.Module) -> Iterator[str]:
    """Yield the files of this package that define a network's class."""
    for kind in type(network).__mro__:
        if kind.__module__.startswith("ecg_digitize."):
            yield inspect.getfile(kind)


def _read(path: Path) -> bytes | None:
    """Return what was kept in a file, None if it is not there or not whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, blob = data[:32], data[32:]
    return blob if hashlib.sha256(blob).digest() == digest else None


def _write(path: Path, blob: bytes) -> None:
    """Keep something in a file, behind its SHA-256; a folder that cannot be written is named."""
    try:
        with replacing(path) as partial:
            partial.write_bytes(hashlib.sha256(blob).digest() + blob)
    except OSError as error:
        logger.warning("%s; set %s to a folder that can be written", error, CACHE_VARIABLE)


@torch.inference_mode()
def _compare(compiled: Compiled, network: nn.Module, seen: torch.Tensor, stage: str) -> None:
    """Refuse a converted network that computes something else than the torch network."""
    pairs = zip(*(_outputs(run(seen)) for run in (network, compiled)), strict=True)
    for want, got in pairs:
        off = float((want - got).abs().mean())
        allowed = _MOST_OFF * float(want.abs().mean() + want.std(correction=0)) + 1e-6
        if not off <= allowed:  # so written that NaN fails too
            raise WeightsError(
                f"{stage}: OpenVINO is off by {off:.3g}, allowed {allowed:.3g}; leave --backend out"
            )


def _outputs(out: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return out if isinstance(out, tuple) else (out,)
