"""The time-boxed, resumable training loop that the stages' scripts share."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What libraries of linear algebra read when a process loads them; `limit_threads` comes too late
for them. On 16 cores, 14 processes of 16 threads each make half as many pages."""

Sample = dict[str, np.ndarray[Any, Any]]
Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]


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
    max_steps: int | None = None  # ends the run, too, if they are done before the time is over
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
) -> Iterator[dict[str, Tensor]]:
    """Return endless batches, made in `workers` processes (0: in this one) of one thread each."""
    loader = DataLoader(
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
    with _exported(dict.fromkeys(ONE_THREAD, "1")):
        return iter(loader)


@contextmanager
def _exported(variables: dict[str, str]) -> Iterator[None]:
    """Set variables of the environment for processes that start meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _one_thread(_: int) -> None:
    limit_threads(1)
    if hasattr(os, "nice"):
        os.nice(5)


class Trainee:
    """A network in training, its optimizer and its learning rate.

    AdamW, warm-up then cosine to zero, mixed precision where the device has it.
    """

    def __init__(
        self, network: nn.Module, loss_of: Loss, *, device: torch.device, learning_rate: float,
        weight_decay: float,
    ) -> None:  # fmt: skip
        """Place the network on the device, in training mode.

        Args:
            network: Trained in place.
            loss_of: (network, batch) -> scalar loss.
            device: Where.
            learning_rate: The highest.
            weight_decay: Of kernels; biases and norms have none.
        """
        self.network, self.loss_of, self.device = network, loss_of, device
        self.learning_rate = learning_rate
        self.steps = 0
        self.losses: list[Tensor] = []  # of the steps of this run
        placed(network, device).train()
        self._dtype = autocast_dtype(device)
        if device.type == "cpu" and self._dtype is not None:
            speed_up_depthwise(network, self._dtype)
        decay = [p for p in network.parameters() if p.ndim > 1]
        rest = [p for p in network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": weight_decay},
             {"params": rest, "weight_decay": 0.0}],
            lr=learning_rate,
        )  # fmt: skip
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._dtype == torch.float16)

    def learn(self, batch: dict[str, Tensor], *, progress: float) -> None:
        """Take a step.

        Args:
            batch: What `loss_of` takes; on any device.
            progress: Share of the training that is over, 0 to 1.
        """
        batch = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
        warm = min(1.0, (self.steps + 1) / WARM_UP_STEPS)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * progress))
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            loss = self.loss_of(self.network, batch)
        self.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.losses.append(loss.detach())
        self.steps += 1

    def mean_loss(self, last: int) -> float:
        """Return the mean loss of the last so many steps of this run, NaN before the first."""
        if not self.losses:
            return math.nan
        return float(torch.stack(self.losses[-max(1, last) :]).mean())

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` goes on from."""
        return {
            "network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
            "step": self.steps,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another trainee was."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["step"]


def train(
    network: nn.Module,
    loss_of: Loss,
    make: Callable[[int], list[Sample]],
    options: TrainOptions,
) -> dict[str, float]:
    """Train until the time is over.

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
    trainee = Trainee(
        network,
        loss_of,
        device=options.device,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
    )
    spent_s = 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=options.device, weights_only=True)
        trainee.load_state_dict(state)
        spent_s = state["spent_s"]
        log.info("resumed %s at step %d, %.1f min", checkpoint, trainee.steps, spent_s / 60)

    def save() -> None:
        state = {**trainee.state_dict(), "spent_s": spent_s}
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)

    batches = stream(
        make,
        batch=options.batch,
        workers=options.workers,
        first=trainee.steps * options.batch,
        pin_memory=options.device.type == "cuda",
    )
    budget_s = options.minutes * 60
    last = saved = time.monotonic()
    for batch in batches:
        progress = spent_s / budget_s
        if options.max_steps is not None:
            progress = max(progress, trainee.steps / options.max_steps)
        trainee.learn(batch, progress=min(progress, 1.0))
        step = trainee.steps
        now = time.monotonic()
        spent_s, last = spent_s + now - last, now
        if step % 25 == 0 or step == 1:
            log.info(
                "step %5d  %5.1f of %.0f min  loss %.4f  lr %.2e",
                step, spent_s / 60, options.minutes, trainee.mean_loss(25),
                trainee.optimizer.param_groups[0]["lr"],
            )  # fmt: skip
        if now - saved > options.save_every_s:
            save()
            saved = now
        if spent_s >= budget_s or (options.max_steps is not None and step >= options.max_steps):
            break
    save()
    network.eval()
    loss = trainee.mean_loss(len(trainee.losses) // 10)
    return {"steps": trainee.steps, "minutes": spent_s / 60, "loss": loss}
