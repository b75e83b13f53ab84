"""Train all four networks at once: for a machine with a GPU and many cores.

Making a page takes a third of a second of a core, a step of training some hundredths of a second
of a GPU: pages are what is short. So each is shown to all networks. Stages 0 and 1 see it once.
Stage 2 draws crops from the last pages, which stay on the device. And stage 2, as it is at that
time, says where the lines of each page are; threads decode them, and the refinement draws from the
last of those. Stages 0 to 2 are done early, so that the refinement ends on pages as the stage 2
that ships sees them.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from ecg_digitize.layout import N_ROWS, RECT
from ecg_digitize.runtime import autocast_dtype, limit_threads
from ecg_digitize.stage2.whole import column_probability, trace_map_of
from ecg_digitize.synth.dataset import OTHER_MACHINES, make_page
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training import refine, stage0, stage1, stage2
from ecg_digitize.training.export import save_half
from ecg_digitize.training.loop import Sample, Trainee, TrainOptions, stream
from ecg_digitize.training.run import DEFAULTS, has_encoder, script_of, start_from

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Course:
    """How a network is trained here."""

    batch: int
    learning_rate: float
    until: float  # share of the time after which it is done


COURSES: Final = {
    "stage0": Course(8, 5e-4, 0.55),
    "stage1": Course(8, 5e-4, 0.55),
    "stage2": Course(24, 8e-4, 0.55),
    "refine": Course(256, 2e-3, 1.0),
}
DECODERS: Final = 8  # threads
BACKLOG: Final = 32  # pages that wait for them; more go without
FIRST_BANDS: Final = 100  # pages decoded before the refinement begins
AHEAD: Final = 16  # pages that wait for the device
LOG_EVERY_S: Final = 15.0


@dataclass(frozen=True)
class Sizes:
    """Pages that stay on the device."""

    crops: int = 512  # 22 MB each
    bands: int = 4000  # 5.7 MB each


@dataclass(frozen=True)
class Samples:
    """Page index -> what all networks are shown of it (picklable, run in workers)."""

    source: SignalSource
    seed: int

    def __call__(self, index: int) -> list[Sample]:
        """Return one dict of a page.

        Its keys are those of `stage0.sample_of` and `stage1.sample_of`, after "stage0." and
        "stage1.", the fields of `stage2.Crop` for the whole page, and its weight for `refine`.
        """
        rng = np.random.default_rng([self.seed, index, 7])
        page = make_page(
            self.source,
            seed=self.seed,
            index=index,
            turns=False,
            max_megapixels=4.0,
            other_machines=OTHER_MACHINES,
        )
        crop = stage2.whole_page(page, rng)
        whole = {"image": crop.image, "y_px": crop.y_px, "seams": crop.seams}
        for stage, script in (("stage0", stage0), ("stage1", stage1)):
            sample = script.sample_of(page, rng)
            whole |= {f"{stage}.{name}": value for name, value in sample.items()}
        return [{**whole, "weight": np.array(refine.weight_of(page))}]


class Crops:
    """The last pages, rectified, from which stage 2's crops are drawn."""

    def __init__(self, capacity: int, *, device: torch.device) -> None:
        """Make room for so many pages."""
        shape = (capacity, N_ROWS, RECT.width_px)
        self._image = torch.empty(
            (capacity, RECT.height_px, RECT.width_px, 3), dtype=torch.uint8, device=device
        )
        self._y_px = torch.empty(shape, dtype=torch.float32, device=device)
        self._seams = torch.empty(shape, dtype=torch.bool, device=device)
        self.capacity, self._put = capacity, 0

    def __len__(self) -> int:
        """Return the number of pages to draw from."""
        return min(self._put, self.capacity)

    def put(self, image: Tensor, y_px: Tensor, seams: Tensor) -> Tensor:
        """Add a page, in place of the oldest where the pool is full; return its picture."""
        slot = self._put % self.capacity
        self._image[slot].copy_(image, non_blocking=True)
        self._y_px[slot].copy_(y_px, non_blocking=True)
        self._seams[slot].copy_(seams, non_blocking=True)
        self._put += 1
        return self._image[slot]

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


def train_together(
    source: SignalSource,
    options: TrainOptions,
    *,
    initial: Path | None = None,
    encoder: Path | None = None,
    sizes: Sizes | None = None,
) -> dict[str, dict[str, float]]:
    """Train all networks until the time is over and write them to `options.out`.

    Batches and learning rates are those of COURSES. What is written every `save_every_s` can be
    started from again, but nothing is resumed.

    Args:
        source: Training signals.
        options: Budget, seed, device, processes that make pages.
        initial: Folder with STAGE.safetensors to start from, those that there are.
        encoder: ImageNet weights of the backbones of those that there are not.
        sizes: Pages that stay on the device.

    Returns:
        Of each stage the figures of the run: steps, minutes, the mean loss of the last tenth.
    """
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True  # shapes never change
    options.out.mkdir(parents=True, exist_ok=True)
    trainees = {
        stage: Trainee(
            _network(stage, initial, encoder),
            script_of(stage).loss_of,
            device=options.device,
            learning_rate=course.learning_rate,
        )
        for stage, course in COURSES.items()
    }
    pages = _Arriving(
        stream(
            Samples(source, options.seed),
            batch=1,
            workers=options.workers,
            pin_memory=options.device.type == "cuda",
        )
    )
    with ThreadPoolExecutor(DECODERS, initializer=limit_threads, initargs=(4,)) as decoders:
        run = _Run(trainees, options, sizes or Sizes(), decoders)
        try:
            return run.go(pages)
        finally:
            pages.stop()


def _network(stage: str, initial: Path | None, encoder: Path | None) -> nn.Module:
    architecture = DEFAULTS[stage]
    path = None if initial is None else initial / f"{stage}.safetensors"
    if path is not None and path.exists():
        return start_from(architecture, initial=path)
    return start_from(architecture, encoder=encoder if has_encoder(architecture) else None)


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
        self, trainees: Mapping[str, Trainee], options: TrainOptions, sizes: Sizes,
        decoders: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        self.trainees, self.options, self.decoders = trainees, options, decoders
        self.rng = np.random.default_rng([options.seed, 8])
        self.crops = Crops(sizes.crops, device=options.device)
        self.bands = refine.Pool(sizes.bands, device=options.device)
        self.waiting: dict[str, list[dict[str, Tensor]]] = {"stage0": [], "stage1": []}
        self.decoding: deque[Future[refine.Bands]] = deque()
        self.seen = self.rounds = 0

    def go(self, pages: _Arriving) -> dict[str, dict[str, float]]:
        begun = saved = told = time.monotonic()
        progress = 0.0
        while progress < 1:
            for page in pages.take(at_least=0 if self.seen else 1):
                self._show(page, progress)
            self._collect()
            self._learn(progress)
            self.rounds += 1
            now = time.monotonic()
            if now - told > LOG_EVERY_S:
                self._tell(now - begun)
                told = now
            if now - saved > self.options.save_every_s:
                self._save()
                saved = now
            progress = (now - begun) / (60 * self.options.minutes)
            if self.options.max_steps is not None:
                progress = self.trainees["refine"].steps / self.options.max_steps
        spent_s = time.monotonic() - begun
        self._tell(spent_s)
        self._save()
        return {stage: self._figures(stage, spent_s) for stage in self.trainees}

    def _figures(self, stage: str, spent_s: float) -> dict[str, float]:
        trainee = self.trainees[stage]
        trainee.network.eval()
        loss = trainee.mean_loss(trainee.steps // 10)
        minutes = COURSES[stage].until * spent_s / 60
        return {"steps": trainee.steps, "minutes": minutes, "loss": loss}

    def _show(self, page: dict[str, Tensor], progress: float) -> None:
        """Show stages 0 and 1 a page, keep it for stage 2 and have its lines decoded."""
        self.seen += 1
        device = self.options.device
        for stage, waiting in self.waiting.items():
            course = COURSES[stage]
            if progress >= course.until:
                continue
            prefix = stage + "."
            waiting.append({
                name.removeprefix(prefix): value.to(device, non_blocking=True)
                for name, value in page.items() if name.startswith(prefix)
            })  # fmt: skip
            if len(waiting) == course.batch:
                batch = {name: torch.stack([one[name] for one in waiting]) for name in waiting[0]}
                self.trainees[stage].learn(batch, progress=progress / course.until)
                waiting.clear()
        image = self.crops.put(page["image"], page["y_px"], page["seams"])
        if len(self.decoding) < BACKLOG:
            probability = self._probability(image, progress)
            self.decoding.append(self.decoders.submit(_decoded, page, *probability))

    @torch.no_grad()
    def _probability(
        self, image: Tensor, progress: float
    ) -> tuple[Tensor, torch.cuda.Event | None]:
        """Return what stage 2 says of a page now, in memory once the event has come."""
        network = self.trainees["stage2"].network.eval()
        device = self.options.device
        dtype = autocast_dtype(device)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            logits = network(image.permute(2, 0, 1)[None])
        network.train(progress < COURSES["stage2"].until)
        probability = column_probability(logits[0]).half()
        if device.type != "cuda":
            return probability, None
        host = torch.empty(probability.shape, dtype=probability.dtype, pin_memory=True)
        host.copy_(probability, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record()
        return host, copied

    def _collect(self) -> None:
        """Put the pages that are decoded into the refinement's pool."""
        for _ in range(len(self.decoding)):
            decoded = self.decoding.popleft()
            if decoded.done():
                self.bands.put(decoded.result())
            else:
                self.decoding.append(decoded)

    def _learn(self, progress: float) -> None:
        """Let stage 2 and the refinement take a step each on what is in their pools."""
        course = COURSES["stage2"]
        if progress < course.until and len(self.crops) >= min(course.batch, self.crops.capacity):
            batch = self.crops.draw(course.batch, self.rng)
            self.trainees["stage2"].learn(batch, progress=progress / course.until)
        if len(self.bands) >= min(FIRST_BANDS, self.bands.capacity):
            batch = self.bands.draw(COURSES["refine"].batch, self.rng)
            self.trainees["refine"].learn(batch, progress=progress)

    def _tell(self, spent_s: float) -> None:
        of_each = "  ".join(
            f"{stage} {trainee.steps} {trainee.mean_loss(50):.4f}"
            for stage, trainee in self.trainees.items()
            if trainee.steps
        )
        log.info(
            "%5.1f of %.1f min  %d pages, %d decoded  steps and loss: %s",
            spent_s / 60, self.options.minutes, self.seen, self.bands.put_so_far, of_each,
        )  # fmt: skip

    def _save(self) -> None:
        for stage, trainee in self.trainees.items():
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
