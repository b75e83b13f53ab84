"""How long one page takes, stage by stage, next to the floor that no digitizer gets below.

How long a start takes before the first page, cold and warm; how many pages a batch makes and what
its workers hold; and how fast training samples come, which must not keep a network waiting.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import torch

from ecg_digitize.engine.seats import Seat, seats_for
from ecg_digitize.engine.workers import Lost, work_on
from ecg_digitize.frames import RECT
from ecg_digitize.geometry import mesh_maps
from ecg_digitize.inputs import read_page
from ecg_digitize.models import BEST, Models
from ecg_digitize.openvino import load_by
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.loop import stream
from ecg_digitize.training.run import script_of
from ecg_digitize.training.validate import VALIDATION_SEED
from ecg_digitize.types import GridMap, Page

_START = """\
import json, os, sys, time
from pathlib import Path
from ecg_digitize import digitize_page, read_page
from ecg_digitize.openvino import load_by
from ecg_digitize.runtime import limit_threads
began, image, threads, device, backend, preset, weights_dir = json.loads(sys.argv[1])
limit_threads(threads)
folder = Path(weights_dir) if weights_dir else None
models = load_by(backend, device, preset=preset, weights_dir=folder)
ready_s = time.time() - began
digitize_page(read_page(Path(image)), models)
print(json.dumps([ready_s, time.time() - began, sum(os.times()[:2])]))
"""
"""A fresh process: everything imported, the weights loaded and checked, one page digitized."""


@dataclass(frozen=True)
class Start:
    """One fresh process up to the end of its first page."""

    ready_s: float  # until the weights are loaded and checked
    first_page_s: float  # until the first page is done
    cpu_s: float  # of all threads, until then

    def to_text(self, name: str) -> str:
        """Return a line to read."""
        return (
            f"  {name:<10}ready after {self.ready_s:.1f} s, first page after "
            f"{self.first_page_s:.1f} s ({self.cpu_s:.1f} s of CPU)"
        )


@dataclass(frozen=True)
class Batch:
    """Many pages by several workers, as `digitize` and `submit` read them."""

    workers: int
    threads: int  # of each worker
    pages: int  # that were counted, after the first one of each worker
    start_s: float  # until every worker has done its first page
    pages_per_s: float  # after that
    worker_memory_mb: float | None  # the most that one of them ever held

    def seconds_for(self, n_pages: int) -> float:
        """Return what so many pages take, the start included."""
        return self.start_s + max(0, n_pages - self.workers) / self.pages_per_s

    def to_text(self, page_s: float) -> str:
        """Return lines to read; page_s: what a page takes by itself."""
        totals = ", ".join(f"{n}: {self.seconds_for(n):.0f} s" for n in (1, 10, 100, 1000))
        held = "" if self.worker_memory_mb is None else f", each {self.worker_memory_mb:.0f} MB"
        gain = self.pages_per_s * page_s
        return (
            f"  {self.pages_per_s:.2f} pages/s in a batch, {gain:.2f} times one page after the "
            f"other ({self.workers} workers of {self.threads} threads{held})\n"
            f"  pages in so many seconds, by that and the start of {self.start_s:.0f} s: {totals}"
        )


@dataclass(frozen=True)
class BatchWork:
    """Prepares a worker, see ``engine.workers.Make``."""

    weights_dir: Path | None
    preset: str
    backend: str

    def __call__(self, seat: Seat) -> Callable[[Path], float | None]:
        """Load the networks; return what digitizes a picture and tells the memory held so far."""
        models = load_by(
            self.backend, seat.device, weights_dir=self.weights_dir, preset=self.preset
        )

        def work(image: Path) -> float | None:
            digitize_page(read_page(image), models)
            return peak_memory_mb()

        return work


@dataclass(frozen=True)
class BenchReport:
    """Times of one picture; medians over the repeats, without start-up and the first page."""

    image: str
    size_px: tuple[int, int]  # width, height
    repeat: int
    threads: int  # of torch
    device: str
    backend: str  # "torch" or "openvino"
    stages_ms: Mapping[str, float]  # "read", then the pipeline's stages
    page_ms: float  # all of them
    floor_ms: float  # decode of the file plus one remap to the rect frame
    page_floors: float  # page_ms / floor_ms: what does not depend on the machine's speed
    batch: Batch
    peak_memory_mb: float | None  # of the process so far; None where the system does not tell
    cold: Start  # as after an installation: numba has compiled nothing yet
    warm: Start  # as ever after
    machine: Mapping[str, str | int | None]

    def to_json(self) -> dict[str, Any]:
        """Return the report as a dict for `json.dumps`."""
        return asdict(self)

    def to_text(self) -> str:
        """Return the report as a table to read."""
        width, height = self.size_px
        lines = [
            f"{self.image}: {width} x {height} px, {self.repeat} times by {self.backend} on "
            f"{self.device}, {self.threads} threads",
            *(f"  {stage:<10}{value:9.1f} ms" for stage, value in self.stages_ms.items()),
            f"  {'page':<10}{self.page_ms:9.1f} ms",
            f"  {'floor':<10}{self.floor_ms:9.1f} ms   (decode the file, remap once)",
            f"  {self.page_floors:.0f} floors a page",
            self.batch.to_text(self.page_ms / 1000),
            self.cold.to_text("cold"),
            self.warm.to_text("warm"),
        ]
        if self.peak_memory_mb is not None:
            lines.append(f"  {self.peak_memory_mb:.0f} MB at most")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class FeedReport:
    """How fast samples are made."""

    stage: str
    samples: int  # that were counted, a page each
    workers: int  # processes of one thread each
    samples_per_s: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as a dict for `json.dumps`."""
        return asdict(self)

    def to_text(self) -> str:
        """Return the report as a line to read."""
        return (
            f"{self.stage}: {self.samples_per_s:.2f} samples/s from {self.workers} processes "
            f"({self.samples} made)\n"
        )


def bench_feed(
    stage: str,
    source: SignalSource,
    *,
    samples: int = 100,
    workers: int = 2,
    progress: Callable[[], None] | None = None,
) -> FeedReport:
    """Make training samples as `train` does, and train nothing.

    Args:
        stage: Whose samples: "stage0" or "stage1", whose samples are a page each.
        source: Where the signals come from.
        samples: How many count, after the first of each process, which start up meanwhile.
        workers: Processes that make them.
        progress: Called after each of the `workers + samples` samples.

    Returns:
        Their number a second.
    """
    made = stream(script_of(stage).Samples(source, VALIDATION_SEED), batch=1, workers=workers)
    start = time.perf_counter()
    for number in range(workers + samples):
        next(made)
        if number == workers - 1:
            start = time.perf_counter()
        if progress is not None:
            progress()
    return FeedReport(stage, samples, workers, samples / (time.perf_counter() - start))


def bench(
    image: Path,
    models: Models,
    *,
    preset: str = BEST,
    weights_dir: Path | None = None,
    repeat: int = 5,
    workers: int | None = None,
    progress: Callable[[], None] | None = None,
) -> BenchReport:
    """Digitize one picture again and again, in this process and in two fresh ones.

    Args:
        image: The picture file.
        models: See `models.load_models`.
        preset: What they were loaded with.
        weights_dir: Where they were loaded from.
        repeat: Times that count, after one that does not: it compiles and fills caches.
        workers: Of the batch; None is one a core.
        progress: Called after each page.

    Returns:
        The times.

    Raises:
        ImageError: The picture cannot be read.
        StageError: It cannot be digitized.
    """
    stages_s: defaultdict[str, list[float]] = defaultdict(list)
    pages_s, floors_s = [], []
    for turn in range(repeat + 1):
        start = time.perf_counter()
        page = read_page(image)
        read_s = time.perf_counter() - start
        result = digitize_page(page, models)
        if turn > 0:
            laps_s = {"read": read_s, **result.timings_s}
            for stage, value in laps_s.items():
                stages_s[stage].append(value)
            pages_s.append(sum(laps_s.values()))
            floors_s.append(read_s + _remap_s(page, result.grid))
        if progress is not None:
            progress()
    threads = torch.get_num_threads()
    seats = seats_for((str(models.device),), workers=workers)
    make = BatchWork(weights_dir, preset, models.backend)
    batch = _batch(image, make, seats, repeat=repeat, progress=progress)
    with tempfile.TemporaryDirectory(prefix="ecg-digitize-bench-") as cache:
        folder = weights_dir and str(weights_dir)
        how = [str(image), threads, str(models.device), models.backend, preset, folder]
        cold, warm = (_start(how, numba_cache=cache) for _ in range(2))
    return BenchReport(
        image=str(image),
        size_px=(page.image.shape[1], page.image.shape[0]),
        repeat=repeat,
        threads=threads,
        device=str(models.device),
        backend=models.backend,
        stages_ms={stage: _median_ms(values) for stage, values in stages_s.items()},
        page_ms=_median_ms(pages_s),
        floor_ms=_median_ms(floors_s),
        page_floors=_median_ms(pages_s) / _median_ms(floors_s),
        batch=batch,
        peak_memory_mb=peak_memory_mb(),
        cold=cold,
        warm=warm,
        machine={
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "opencv": cv2.__version__,
        },
    )


def _batch(
    image: Path,
    make: BatchWork,
    seats: Sequence[Seat],
    *,
    repeat: int,
    progress: Callable[[], None] | None,
) -> Batch:
    """Digitize one picture by all workers, `repeat` times each after the first."""
    began, ready, held_mb = time.perf_counter(), 0.0, []
    n_pages = len(seats) * (repeat + 1)
    done = work_on([image] * n_pages, make, seats, apart=True)
    for number, (_, memory_mb) in enumerate(done, 1):
        assert not isinstance(memory_mb, Lost)  # it was digitized in this process before
        held_mb.append(memory_mb or 0.0)
        if number == len(seats):
            ready = time.perf_counter()
        if progress is not None:
            progress()
    counted = n_pages - len(seats)
    return Batch(
        workers=len(seats),
        threads=seats[0].threads,
        pages=counted,
        start_s=ready - began,
        pages_per_s=counted / (time.perf_counter() - ready),
        worker_memory_mb=max(held_mb) or None,
    )


def peak_memory_mb() -> float | None:
    """Return the most memory this process ever held, MB; None on systems that do not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose ru_maxrss counts what the parent held at the start too
        (peak_kb,) = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())
        return int(peak_kb) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def _start(how: list[Any], *, numba_cache: str) -> Start:
    """Time a fresh process; `how` is what _START reads after the time of its beginning."""
    command = [sys.executable, "-c", _START, json.dumps([time.time(), *how])]
    environment = os.environ | {"NUMBA_CACHE_DIR": numba_cache}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return Start(*json.loads(done.stdout))


def _remap_s(page: Page, grid: GridMap) -> float:
    """Return the seconds of the one remap, its maps being given."""
    map_x, map_y = mesh_maps(grid.crossings_xy_px, RECT)
    start = time.perf_counter()
    cv2.remap(page.image, map_x, map_y, cv2.INTER_LINEAR)
    return time.perf_counter() - start


def _median_ms(values_s: Sequence[float]) -> float:
    return 1000 * statistics.median(values_s)
