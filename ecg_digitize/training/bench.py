"""How long one page takes, stage by stage, next to the floor that no digitizer gets below.

And how fast training samples come, which must not keep a network waiting.
"""

import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import torch

from ecg_digitize.geometry import mesh_maps
from ecg_digitize.image import read_image
from ecg_digitize.layout import RECT
from ecg_digitize.pipeline import Models, digitize_many, digitize_page
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.loop import stream
from ecg_digitize.training.run import script_of
from ecg_digitize.training.validate import VALIDATION_SEED
from ecg_digitize.types import Digitization, GridMap, Page


@dataclass(frozen=True)
class BenchReport:
    """Times of one picture; medians over the repeats, without start-up and the first page."""

    image: str
    size_px: tuple[int, int]  # width, height
    repeat: int
    threads: int  # of torch
    device: str
    stages_ms: Mapping[str, float]  # "read", then the pipeline's stages
    page_ms: float  # all of them
    floor_ms: float  # decode of the file plus one remap to the rect frame
    pages_per_s: float  # of a batch, where reading overlaps the networks
    peak_memory_mb: float | None  # of the process so far; None where the system does not tell
    machine: Mapping[str, str | int | None]

    def to_json(self) -> dict[str, Any]:
        """Return the report as a dict for `json.dumps`."""
        return asdict(self)

    def to_text(self) -> str:
        """Return the report as a table to read."""
        width, height = self.size_px
        lines = [
            f"{self.image}: {width} x {height} px, {self.repeat} times on {self.device}, "
            f"{self.threads} threads",
            *(f"  {stage:<10}{value:9.1f} ms" for stage, value in self.stages_ms.items()),
            f"  {'page':<10}{self.page_ms:9.1f} ms",
            f"  {'floor':<10}{self.floor_ms:9.1f} ms   (decode the file, remap once)",
            f"  {self.pages_per_s:.2f} pages/s in a batch",
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
    image: Path, models: Models, *, repeat: int = 5, progress: Callable[[], None] | None = None
) -> BenchReport:
    """Digitize one picture again and again.

    Args:
        image: The picture file.
        models: See `pipeline.load_models`.
        repeat: Times that count, after one that does not: it compiles and fills caches.
        progress: Called after each of the `2 * repeat + 1` pages.

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
        page = read_image(image)
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
    start = time.perf_counter()
    for outcome in digitize_many([image] * repeat, models):
        assert isinstance(outcome, Digitization)  # it was one in the loop above
        if progress is not None:
            progress()
    batch_s = time.perf_counter() - start
    return BenchReport(
        image=str(image),
        size_px=(page.image.shape[1], page.image.shape[0]),
        repeat=repeat,
        threads=torch.get_num_threads(),
        device=str(models.device),
        stages_ms={stage: _median_ms(values) for stage, values in stages_s.items()},
        page_ms=_median_ms(pages_s),
        floor_ms=_median_ms(floors_s),
        pages_per_s=repeat / batch_s,
        peak_memory_mb=peak_memory_mb(),
        machine={
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "opencv": cv2.__version__,
        },
    )


def peak_memory_mb() -> float | None:
    """Return the most memory this process ever held, MB; None on systems that do not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def _remap_s(page: Page, grid: GridMap) -> float:
    """Return the seconds of the one remap, its maps being given."""
    map_x, map_y = mesh_maps(grid.crossings_xy_px, RECT)
    start = time.perf_counter()
    cv2.remap(page.image, map_x, map_y, cv2.INTER_LINEAR)
    return time.perf_counter() - start


def _median_ms(values_s: Sequence[float]) -> float:
    return 1000 * statistics.median(values_s)
