"""Train networks on the same pages: for a machine with a GPU and many cores.

Making a page takes up to a second of a core, a step of training some hundredths of a second of a
GPU: pages are what is short. In the first half of the time stages 0 and 1 see each page once, and
stage 2 draws crops from the last pages, which stay on the device. In the second half stage 2 says
where the lines of the pages are that come then, threads decode them, and the refinement draws from
the last of those.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from ecg_digitize.errors import InputError
from ecg_digitize.frames import RECT
from ecg_digitize.layout import COMPETITION
from ecg_digitize.models import run_batch
from ecg_digitize.runtime import limit_threads, placed
from ecg_digitize.stage2.whole import column_probability, trace_map_of
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training import refine, stage2
from ecg_digitize.training.export import save_half
from ecg_digitize.training.loop import Sample, Trainee, TrainOptions, stream
from ecg_digitize.training.run import DEFAULTS, has_encoder, script_of, start_from

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Course:
    """How a network is trained here."""

    batch: int
    learning_rate: float


COURSES: Final = {
    "stage0": Course(8, 5e-4),
    "stage1": Course(8, 5e-4),
    "stage2": Course(32, 8e-4),
    "refine": Course(768, 3e-3),
}
SEEN_ONCE: Final = ("stage0", "stage1")
FIRST_SHARE: Final = 0.5  # of the time, for stages 0 to 2
DECODERS: Final = 4  # threads; more keep the interpreter from feeding the GPU
BACKLOG: Final = 32  # pages that wait for them; more go without
FIRST_PAGES: Final = 100  # in a pool before crops or bands are drawn from it
POOL_SHARE: Final = 0.5  # of the device's free memory, for pages
MOST_PAGES: Final = 7000  # of them; on a CPU, where this is but tried,
FEW_PAGES: Final = 32
AHEAD: Final = 16  # pages that wait for the device
LOG_EVERY_S: Final = 15.0


@dataclass(frozen=True)
class Samples:
    """Page index -> what the networks are shown of it (picklable, run in workers)."""

    source: SignalSource
    seed: int
    stages: tuple[str, ...]  # those that are trained

    def __call__(self, index: int) -> list[Sample]:
        """Return one dict of a page.

        Its keys are those of the samples of stages 0 and 1, where they are trained, after "stage0."
        and "stage1.", the fields of `stage2.Crop` for the whole page, and its weight for `refine`.
        """
        rng = np.random.default_rng([self.seed, index, 7])
        page = stage2.training_page(self.source, seed=self.seed, index=index, turns=False)
        crop = stage2.whole_page(page, rng)
        whole = {"image": crop.image, "y_px": crop.y_px, "seams": crop.seams}
        for stage in SEEN_ONCE:
            if stage not in self.stages:
                continue
            sample = script_of(stage).sample_of(page, rng)
            whole |= {f"{stage}.{name}": value for name, value in sample.items()}
        return [{**whole, "weight": np.array(refine.weight_of(page))}]


class Crops:
    """The last pages, rectified, from which stage 2's crops are drawn."""

    def __init__(self, capacity: int, *, device: torch.device) -> None:
        """Make room for so many pages."""
        shape = (capacity, COMPETITION.n_rows, RECT.width_px)
        self._image = torch.empty(
            (capacity, RECT.height_px, RECT.width_px, 3), dtype=torch.uint8, device=device
        )
        self._y_px = torch.empty(shape, dtype=torch.float32, device=device)
        self._seams = torch.empty(shape, dtype=torch.bool, device=device)
        self.capacity, self._put = capacity, 0

    def __len__(self) -> int:
        """Return the number of pages to draw from."""
        return min(self._put, self.capacity)

    def put(self, image: Tensor, y_px: Tensor, seams: Tensor) -> None:
        """Add a page, in place of the oldest where the pool is full."""
        slot = self._put % self.capacity
        self._image[slot].copy_(image, non_blocking=True)
        self._y_px[slot].copy_(y_px, non_blocking=True)
        self._seams[slot].copy_(seams, non_blocking=True)
        self._put += 1

    def draw(self, n: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return n samples as `stage2.Samples` makes them."""
        pages = rng.integers(len(self), size=n)
        where = []
        for page in pages:
            x0 = stage2.random_column(rng)
            where.append((int(page), slice(x0, x0 + stage2.CROP_PX)))
        image = torch.stack([self._image[page, :, columns] for page, columns in where])
        return {
            "image": image.permute(0, 3, 1, 2),
            "y_px": torch.stack([self._y_px[page, :, columns] for page, columns in where]),
            "seams": torch.stack([self._seams[page, :, columns] for page, columns in where]),
        }


CROPS_BYTES: Final = RECT.height_px * RECT.width_px * 3 + COMPETITION.n_rows * RECT.width_px * 5
"""Of a page in `Crops`."""


def _room(device: torch.device, bytes_a_page: int) -> int:
    """Return how many pages the device is to hold."""
    if device.type != "cuda":
        return FEW_PAGES
    torch.cuda.empty_cache()  # of the pool before
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(MOST_PAGES, int(POOL_SHARE * free / bytes_a_page)))


def train_together(
    source: SignalSource,
    options: TrainOptions,
    *,
    stages: Collection[str] = tuple(COURSES),
    initial: Path | None = None,
    encoder: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Train networks until the time is over and write them to `options.out`.

    Batches and learning rates are those of COURSES. What is written every `save_every_s` can be
    started from again, but nothing is resumed.

    Args:
        source: Training signals.
        options: Budget, seed, device, processes that make pages.
        stages: Keys of COURSES, those to train. The refinement alone has all of the time.
        initial: Folder with STAGE.safetensors to start from, those that there are.
        encoder: ImageNet weights of the backbones of those that there are not.

    Returns:
        Of each stage the figures of the run: steps, minutes, the mean loss of the last tenth.

    Raises:
        InputError: There is nothing to start from in `initial`; the refinement is to learn from a
            stage 2 that is neither trained nor given; the time was too short for a step.
        WeightsError: A file does not fit.
    """
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    given = {stage: _given(stage, initial) for stage in COURSES}
    if initial is not None and not any(given.values()):
        raise InputError(f"{initial}: expected a folder with STAGE.safetensors, but there is none")
    if "refine" in stages and "stage2" not in stages and given["stage2"] is None:
        raise InputError("refine: learns from stage 2; train that too or give it by --initial")
    networks = {
        stage: start_from(
            DEFAULTS[stage],
            initial=given[stage],
            encoder=None if given[stage] or not has_encoder(DEFAULTS[stage]) else encoder,
        )
        for stage in COURSES
        if stage in stages or stage == "stage2"
    }
    trainees = {
        stage: Trainee(
            networks[stage],
            script_of(stage).loss_of,
            device=options.device,
            learning_rate=COURSES[stage].learning_rate,
            weight_decay=options.weight_decay,
        )
        for stage in stages
    }
    decoders = ThreadPoolExecutor(DECODERS, initializer=limit_threads, initargs=(2,))
    run = _Run(trainees, placed(networks["stage2"], options.device), options, decoders)
    pages = _Arriving(
        stream(
            Samples(source, options.seed, tuple(stages)),
            batch=1,
            workers=options.workers,
            pin_memory=options.device.type == "cuda",
        )
    )
    try:
        return run.go(pages)
    finally:
        pages.stop()
        decoders.shutdown(cancel_futures=True)


def _given(stage: str, initial: Path | None) -> Path | None:
    path = None if initial is None else initial / f"{stage}.safetensors"
    return path if path is not None and path.exists() else None


class _Arriving:
    """Pages out of a loader, which a thread waits for."""

    def __init__(self, loader: Iterable[dict[str, Tensor]]) -> None:
        self._pages: queue.Queue[dict[str, Tensor] | Exception] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._pull, args=(loader,), daemon=True)
        self._thread.start()

    def _pull(self, loader: Iterable[dict[str, Tensor]]) -> None:
        try:
            for page in loader:
                if self._stopped.is_set():
                    return
                self._pages.put({name: value[0] for name, value in page.items()})
        except Exception as error:  # to be raised where pages are taken
            self._pages.put(error)

    def take(self, *, at_least: int) -> Iterator[dict[str, Tensor]]:
        """Yield the pages that have arrived; wait for some."""
        for _ in range(max(at_least, self._pages.qsize())):
            page = self._pages.get()
            if isinstance(page, Exception):
                raise page
            yield page

    def stop(self) -> None:
        """Let the thread end, and with it the loader's processes."""
        self._stopped.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._pages.get(timeout=0.1)


class _Run:
    """What there is during a training."""

    def __init__(
        self, trainees: Mapping[str, Trainee], eye: nn.Module, options: TrainOptions,
        decoders: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        self.trainees, self.eye, self.options = trainees, eye, options
        self.decoders = decoders
        self.rng = np.random.default_rng([options.seed, 8])
        self.crops: Crops | None = None  # in the first share of the time
        self.bands: refine.Pool | None = None  # after it
        self.waiting: dict[str, list[dict[str, Tensor]]] = {
            stage: [] for stage in SEEN_ONCE if stage in trainees
        }
        self.decoding: deque[Future[refine.Bands]] = deque()
        self.seen = 0
        self.first_share = FIRST_SHARE
        if "refine" not in trainees:
            self.first_share = 1.0
        elif len(trainees) == 1:
            self.first_share = 0.0

    def go(self, pages: _Arriving) -> dict[str, dict[str, float]]:
        begun = saved = told = time.monotonic()
        progress, learned = 0.0, False
        while progress < 1:
            first = progress < self.first_share
            share = self.first_share if first else 1 - self.first_share
            done = (progress if first else progress - self.first_share) / share
            self._make_room(first)
            for page in pages.take(at_least=0 if learned else 1):
                self.seen += 1
                if first:
                    self._show(page, done)
                elif len(self.decoding) < BACKLOG:
                    self._look_at(page)
            if first:
                learned = self._learn("stage2", self.crops, done)
            else:
                self._collect()
                learned = self._learn("refine", self.bands, done)
            now = time.monotonic()
            if now - told > LOG_EVERY_S:
                self._tell(now - begun)
                told = now
            if now - saved > self.options.save_every_s:
                self._save()
                saved = now
            progress = (now - begun) / (60 * self.options.minutes)
            if self.options.max_steps is not None:
                progress = max(progress, self._share_of_steps(first))
        spent_s = time.monotonic() - begun
        self._tell(spent_s)
        self._save()
        for stage, trainee in self.trainees.items():
            if trainee.steps == 0:
                raise InputError(f"{stage}: no step in the time; give more --minutes or --workers")
        return {stage: self._figures(stage, spent_s) for stage in self.trainees}

    def _make_room(self, first: bool) -> None:
        """Have the pool that is drawn from now, and not the other one."""
        device = self.options.device
        if first and self.crops is None and "stage2" in self.trainees:
            self.crops = Crops(_room(device, CROPS_BYTES), device=device)
        if not first and self.bands is None:
            self.crops = None
            self.eye.eval()
            self.bands = refine.Pool(_room(device, refine.POOL_BYTES), device=device)

    def _share_of_steps(self, first: bool) -> float:
        assert self.options.max_steps is not None
        of = [name for name in self.trainees if (name == "refine") != first]
        steps = min(self.trainees[stage].steps for stage in of)
        share = min(1.0, steps / self.options.max_steps)
        if first:
            return share * self.first_share
        return self.first_share + share * (1 - self.first_share)

    def _figures(self, stage: str, spent_s: float) -> dict[str, float]:
        trainee = self.trainees[stage]
        trainee.network.eval()
        share = 1 - self.first_share if stage == "refine" else self.first_share
        loss = trainee.mean_loss(trainee.steps // 10)
        return {"steps": trainee.steps, "minutes": share * spent_s / 60, "loss": loss}

    def _show(self, page: dict[str, Tensor], done: float) -> None:
        """Show stages 0 and 1 a page and keep it for stage 2."""
        for stage, waiting in self.waiting.items():
            prefix = stage + "."
            waiting.append({
                name.removeprefix(prefix): value.to(self.options.device, non_blocking=True)
                for name, value in page.items() if name.startswith(prefix)
            })  # fmt: skip
            if len(waiting) == COURSES[stage].batch:
                batch = {name: torch.stack([one[name] for one in waiting]) for name in waiting[0]}
                self.trainees[stage].learn(batch, progress=done)
                waiting.clear()
        if self.crops is not None:
            self.crops.put(page["image"], page["y_px"], page["seams"])

    def _learn(self, stage: str, pool: Crops | refine.Pool | None, done: float) -> bool:
        """Let a network take a step on what is in its pool, if that is enough."""
        if pool is None or len(pool) < min(FIRST_PAGES, pool.capacity):
            return False
        batch = pool.draw(COURSES[stage].batch, self.rng)
        self.trainees[stage].learn(batch, progress=done)
        return True

    def _look_at(self, page: dict[str, Tensor]) -> None:
        """Let stage 2 look at a page and a thread decode what it says."""
        device = self.options.device
        (logits,) = run_batch(self.eye, page["image"].permute(2, 0, 1)[None], device)
        probability = column_probability(logits[0]).half()
        copied = None
        if device.type == "cuda":  # waiting here would let the device wait too
            host = torch.empty(probability.shape, dtype=probability.dtype, pin_memory=True)
            probability = host.copy_(probability, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(torch.cuda.current_stream(device))
        self.decoding.append(self.decoders.submit(_decoded, page, probability, copied))

    def _collect(self) -> None:
        """Put the pages that are decoded into the refinement's pool."""
        assert self.bands is not None
        for _ in range(len(self.decoding)):
            decoded = self.decoding.popleft()
            if decoded.done():
                self.bands.put(decoded.result())
            else:
                self.decoding.append(decoded)

    def _tell(self, spent_s: float) -> None:
        of_each = "  ".join(
            f"{stage} {trainee.steps} {trainee.mean_loss(50):.4f}"
            for stage, trainee in self.trainees.items()
            if trainee.steps
        )
        decoded = self.bands.put_so_far if self.bands else 0
        log.info(
            "%5.1f of %.1f min  %d pages, %d decoded  steps and loss: %s",
            spent_s / 60, self.options.minutes, self.seen, decoded, of_each,
        )  # fmt: skip

    def _save(self) -> None:
        for stage, trainee in self.trainees.items():
            if trainee.steps:
                save_half(trainee.network, self.options.out / f"{stage}.safetensors")


def _decoded(
    page: dict[str, Tensor], probability: Tensor, copied: torch.cuda.Event | None
) -> refine.Bands:
    """Decode a page, in a thread."""
    if copied is not None:
        copied.synchronize()
    return refine.bands_of(
        page["image"].numpy(),
        page["y_px"].numpy(),
        trace_map_of(probability),
        weight=float(page["weight"]),
    )
