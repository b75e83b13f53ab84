"""The time-boxed, resumable training loop that the stages' scripts share."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ecg_digitize.runtime import autocast_dtype, limit_threads, placed
from ecg_digitize.training.depthwise import speed_up_depthwise

log = logging.getLogger(__name__)

WARM_UP_STEPS: Final = 40

Sample = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class TrainOptions:
    """What every stage's training needs."""

    out: Path  # folder of checkpoint and log
    minutes: float  # wall-clock budget of this run; the learning rate reaches zero at its end
    batch: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    workers: int = 1
    seed: int = 1
    max_steps: int | None = None  # for tests
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    save_every_s: float = 180.0


class Stream(IterableDataset[Sample]):
    """Endless samples: worker w of n makes pages w, w + n, w + 2n, ..."""

    def __init__(self, make: Callable[[int], list[Sample]], *, first: int = 0) -> None:
        """Store the maker of the samples of one page index."""
        super().__init__()
        self.make, self.first = make, first

    def __iter__(self) -> Iterator[Sample]:
        """Yield samples for ever."""
        info = get_worker_info()
        worker, count = (info.id, info.num_workers) if info else (0, 1)
        index = self.first + worker
        while True:
            yield from self.make(index)
            index += count


def stream(
    make: Callable[[int], list[Sample]],
    *,
    batch: int,
    workers: int,
    first: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Sample]:
    """Return endless batches, made in `workers` processes (0: in this one) of one thread each."""
    return DataLoader(
        Stream(make, first=first),
        batch_size=batch,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread,
        # A process forked after the thread pools of torch or numba began hangs when it uses them.
        multiprocessing_context="spawn" if workers else None,
        pin_memory=pin_memory,
        drop_last=True,
    )


def _one_thread(_: int) -> None:
    limit_threads(1)
    if hasattr(os, "nice"):
        os.nice(5)


def train(
    network: nn.Module,
    loss_of: Callable[[nn.Module, dict[str, Tensor]], Tensor],
    make: Callable[[int], list[Sample]],
    options: TrainOptions,
) -> dict[str, float]:
    """Train until the time is over.

    AdamW, warm-up then cosine to zero over the budget, mixed precision where the device has it.
    A checkpoint in `options.out` is resumed, its elapsed time counted into the budget.

    Args:
        network: Trained in place.
        loss_of: (network, batch) -> scalar loss.
        make: Page index -> samples, run in worker processes.
        options: Budget and hyperparameters.

    Returns:
        Figures of the run: steps, minutes, the mean loss of the last tenth.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / "checkpoint.pt"
    device = options.device
    placed(network, device).train()
    dtype = autocast_dtype(device)
    if device.type == "cpu" and dtype is not None:
        speed_up_depthwise(network, dtype)
    decay = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": options.weight_decay},
         {"params": rest, "weight_decay": 0.0}],
        lr=options.learning_rate,
    )  # fmt: skip
    step, spent_s, losses = 0, 0.0, []
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent_s = state["step"], state["spent_s"]
        log.info("resumed %s at step %d, %.1f min", checkpoint, step, spent_s / 60)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def save() -> None:
        state = {
            "network": network.state_dict(), "optimizer": optimizer.state_dict(),
            "step": step, "spent_s": spent_s,
        }  # fmt: skip
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)

    loader = stream(
        make,
        batch=options.batch,
        workers=options.workers,
        first=step * options.batch,
        pin_memory=device.type == "cuda",
    )
    budget_s = options.minutes * 60
    last = saved = time.monotonic()
    for batch in loader:
        batch = {k: v.to(device, non_blocking=True) for k, v in batch.items()}
        progress = min(spent_s / budget_s, 1.0)
        if options.max_steps is not None:
            progress = min(step / options.max_steps, 1.0)
        warm = min(1.0, (step + 1) / WARM_UP_STEPS)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * progress))
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            loss = loss_of(network, batch)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss.detach()))
        step += 1
        now = time.monotonic()
        spent_s, last = spent_s + now - last, now
        if step % 25 == 0 or step == 1:
            log.info(
                "step %5d  %5.1f of %.0f min  loss %.4f  lr %.2e",
                step, spent_s / 60, options.minutes, float(np.mean(losses[-25:])),
                optimizer.param_groups[0]["lr"],
            )  # fmt: skip
        if now - saved > options.save_every_s:
            save()
            saved = now
        if spent_s >= budget_s or (options.max_steps is not None and step >= options.max_steps):
            break
    save()
    network.eval()
    tail = losses[-max(1, len(losses) // 10) :]
    return {"steps": step, "minutes": spent_s / 60, "loss": float(np.mean(tail))}
