"""Which worker runs on which device, with how many threads."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from ecg_digitize.errors import InputError
from ecg_digitize.runtime import choose_device

DEVICE_VARIABLE: Final = "ECG_DIGITIZE_DEVICE"
"""Environment variable that names devices where no argument does: "cpu", "cuda:0,cuda:1"."""
GPU_BYTES_A_WORKER: Final = 3 << 30
"""What a worker may need of a GPU: its context, the weights, and a page at half precision."""


@dataclass(frozen=True)
class Seat:
    """Where one worker runs."""

    device: str  # of torch
    threads: int  # that it may use


def usable_cores() -> int:
    """Return how many cores this process may use, where the system tells; else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def devices_named(requested: str | None) -> tuple[str, ...]:
    """Return the devices to use.

    Args:
        requested: Names joined by commas; "cuda" is every GPU there is. None reads
            ECG_DIGITIZE_DEVICE, and without it takes every GPU, else the CPU.

    Raises:
        InputError: A device is unknown, missing, or not served by this torch.
    """
    requested = requested or os.environ.get(DEVICE_VARIABLE) or None
    names = [None] if requested is None else [name.strip() for name in requested.split(",")]
    found: list[str] = []
    for name in names:
        device = choose_device(name)
        if device.type == "cuda" and name in (None, "cuda"):
            found += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        else:
            found.append(str(device))
    return tuple(found)


def seats_for(
    devices: Sequence[str], *, workers: int | None = None, n_pages: int | None = None
) -> tuple[Seat, ...]:
    """Share cores and devices out among workers.

    A page keeps a core busy for most of its time and a GPU for little of it, so there is one
    worker a core, and several share a GPU as far as its memory holds them.

    Args:
        devices: See ``devices_named``; workers take them in turn.
        workers: How many; None is one a core, and at least one a device.
        n_pages: There is no use in more workers than pages.

    Raises:
        InputError: Fewer than one worker is asked for.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers: expected 1 or more, but got {workers}")
    cores = usable_cores()
    wanted = workers or max(cores, len(devices))
    if workers is None:
        wanted = min(wanted, sum(_room_for(device, cores) for device in devices))
    if n_pages is not None:
        wanted = max(1, min(wanted, n_pages))
    threads = max(1, cores // wanted)
    return tuple(Seat(devices[k % len(devices)], threads) for k in range(wanted))


def device_kinds(seats: Sequence[Seat]) -> list[str]:
    """Return "cpu", "cuda", ... as far as they are used; each rounds in its own way."""
    return sorted({seat.device.partition(":")[0] for seat in seats})


def _room_for(device: str, cores: int) -> int:
    """Return how many workers a device can hold."""
    if not device.startswith("cuda"):
        return cores
    total = torch.cuda.get_device_properties(torch.device(device)).total_memory
    return max(1, int(total // GPU_BYTES_A_WORKER))
