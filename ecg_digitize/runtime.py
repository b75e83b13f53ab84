"""Which device, which precision, how many threads, which seed, and how long it takes."""

import logging
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numba
import numpy as np
import torch
from torch import nn

from ecg_digitize.errors import InputError

_log = logging.getLogger(__name__)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AMPERE = (8, 0)
_NATIVE_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
_CPU_INFO = Path("/proc/cpuinfo")


def choose_device(requested: str | None = None) -> torch.device:
    """Choose where the networks run.

    Args:
        requested: A torch device such as "cpu", "cuda:1" or "mps"; None takes a CUDA device if
            this torch has code for it, else the CPU. MPS is used only on request.

    Returns:
        The device.

    Raises:
        InputError: The device asked for is unknown, missing, or not served by this torch.
    """
    if requested is None:
        if not torch.cuda.is_available():
            return torch.device("cpu")
        device = torch.device("cuda", torch.cuda.current_device())
        obstacle = _cuda_obstacle(device)
        if obstacle is None:
            return device
        _log.warning("%s; running on the CPU, which is many times slower", obstacle)
        return torch.device("cpu")
    try:
        device = torch.device(requested)
    except RuntimeError:
        raise InputError(
            f'device: expected "cpu", "cuda", "cuda:N" or "mps", but got "{requested}"'
        ) from None
    obstacle = _cuda_obstacle(device) if device.type == "cuda" else None
    if device.type == "mps" and not torch.backends.mps.is_available():
        obstacle = "this torch sees no MPS device"
    if obstacle is not None:
        raise InputError(f'device "{requested}": {obstacle}; leave the device out or say "cpu"')
    return device


def _cuda_obstacle(device: torch.device) -> str | None:
    """Say why a CUDA device cannot be used, or None if it can."""
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= n_devices:
        return f"this torch ({torch.__version__}) sees {n_devices} CUDA devices"
    capability = torch.cuda.get_device_capability(device)
    arch_list = torch.cuda.get_arch_list()
    if torch.version.hip or has_code_for(capability, arch_list):  # ROCm lists gfx names
        return None
    return (
        f"{torch.cuda.get_device_name(device)} has compute capability "
        f"{capability[0]}.{capability[1]}, but torch {torch.__version__} was built for "
        f"{' '.join(arch_list)}"
    )


def has_code_for(capability: tuple[int, int], arch_list: Iterable[str]) -> bool:
    """Tell whether a torch build runs on a GPU.

    Machine code (sm_XY) runs on its own major version from its minor version on, so that an
    8.6 runs sm_80; with suffix a only on exactly its own. Portable code (compute_XY) is
    compiled for anything newer.

    Args:
        capability: Of the GPU, (major, minor).
        arch_list: What `torch.cuda.get_arch_list` says.
    """
    for name in arch_list:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
        if match is None:
            continue
        kind, suffix = match[1], match[4]
        built = (int(match[2]), int(match[3]))
        if suffix == "a":
            fits = capability == built
        elif kind == "sm" or suffix == "f":
            fits = capability[0] == built[0] and capability >= built
        else:
            fits = capability >= built
        if fits:
            return True
    return False


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the half precision the device computes natively, None if it has none.

    bfloat16 on CUDA devices from Ampere on, float16 on older ones (a T4 emulates bfloat16 at
    a fraction of the speed), bfloat16 on CPUs that have instructions for it, not merely AVX-512.
    """
    if device.type == "cuda":
        ampere = torch.cuda.get_device_capability(device) >= _AMPERE
        return torch.bfloat16 if ampere else torch.float16
    if device.type == "cpu" and _cpu_has_bfloat16():
        return torch.bfloat16
    return None


def _cpu_has_bfloat16() -> bool:
    # torch's own question exists from 2.4 on but is private, and not all releases have it.
    ask = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if ask is not None and ask():
        return True
    try:
        text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return False
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return flags is not None and not _NATIVE_BF16_FLAGS.isdisjoint(flags[1].split())


def placed(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device and lay its images' kernels out as channels last, in place.

    `Module.to(memory_format=...)` refuses networks that also hold kernels of volumes.
    """
    network.to(device)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


@torch.inference_mode()
def run_batch(
    network: nn.Module, x: torch.Tensor, device: torch.device
) -> tuple[torch.Tensor, ...]:
    """Run a network on (N, C, H, W) in the device's fast precision; outputs float32."""
    dtype = autocast_dtype(device)
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        out = network(x.to(device))
    return tuple(t.float() for t in (out if isinstance(out, tuple) else (out,)))


def limit_threads(n: int) -> None:
    """Let torch, OpenCV and numba use at most n threads each; numba only in the calling thread.

    Raises:
        InputError: n is below 1.
    """
    if n < 1:
        raise InputError(f"threads: expected 1 or more, but got {n}")
    config: Any = numba.config  # its attributes are set from the environment
    # First, because starting numba's OpenMP layer sets the number that torch shares with it.
    numba.set_num_threads(min(n, config.NUMBA_NUM_THREADS))
    torch.set_num_threads(n)
    cv2.setNumThreads(n)


def side_by_side(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Map on as many threads as torch may use, the calling one among them.

    It is for what takes milliseconds and lets go of the GIL, as numpy, OpenCV and compiled kernels
    do. Threads that have nothing to do sleep. Workers of a batch have one thread each: there it is
    a plain loop.

    Args:
        function: Gives the same whichever thread runs it.
        items: What to map; each thread takes every n-th, so they are best all alike in length. Only
            the first, which the calling thread takes, may run networks: other threads would start
            threads of torch's own.

    Returns:
        The results in the order of the items.
    """
    n = min(torch.get_num_threads(), len(items))
    if n < 2:
        return [function(item) for item in items]

    def share(k: int) -> list[_Result]:
        return [function(item) for item in items[k::n]]

    with ThreadPoolExecutor(n - 1) as pool:
        others = [pool.submit(share, k) for k in range(1, n)]
        shares = [share(0), *(other.result() for other in others)]
    return [shares[k % n][k // n] for k in range(len(items))]


def seed_everything(seed: int) -> np.random.Generator:
    """Seed the global generators of Python, numpy and torch, and return one to pass around."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  libraries draw from it
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


class Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        """Start."""
        self.laps_s: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Count the time since the last lap to a name."""
        now = time.perf_counter()
        self.laps_s[name] = self.laps_s.get(name, 0.0) + now - self._last
        self._last = now
