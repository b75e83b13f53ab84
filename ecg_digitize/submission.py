"""Kaggle's test.csv and its pictures -> submission.parquet and run_report.json.

Every row of test.csv gets a finite value, whatever happens to a page: one that is missing,
unreadable, fails in a stage or is not begun within the time budget gets zeros, and the report
says which and why. Zeros because the metric removes each lead's offset: any constant scores the
same 0.16 dB, and only a wrong shape can score less.
"""

import argparse
import functools
import json
import logging
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecg_digitize.competition import (
    Competition,
    PageRequest,
    TestRow,
    TestTable,
    find_competition,
    fitting_lengths,
    index_images,
    page_requests,
    read_test_table,
)
from ecg_digitize.errors import EcgDigitizeError
from ecg_digitize.files import replacing
from ecg_digitize.image import read_image
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.many import attempt, ordered_map
from ecg_digitize.models import BEST, PRESETS, load_models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.render.overlay import draw_overlay
from ecg_digitize.runtime import choose_device
from ecg_digitize.types import Digitization, Failure, Float32, Image, Recording

logger = logging.getLogger(__name__)

TIME_BUDGET_S: Final = 8.5 * 3600
"""Half an hour below Kaggle's limit, for start-up and the pages under way."""
FALLBACK_MV: Final = 0.0
SCHEMA: Final = pa.schema([("id", pa.string()), ("value", pa.float32())])
_LOG_EVERY_PAGES: Final = 25


@dataclass(frozen=True)
class RunReport:
    """What a run did, written as run_report.json."""

    pages: int
    rows: int
    failures: Mapping[str, Failure]  # image id -> why its rows are zeros
    samples_filled: int  # samples of digitized pages that had to be interpolated
    elapsed_s: float
    timings_s: Mapping[str, float]  # stage -> seconds a digitized page, mean
    table_failures: tuple[Failure, ...] = ()  # rows and lines of test.csv that were not answered

    def to_json(self) -> str:
        """Return the report as indented JSON."""
        failures = [
            {"image": image_id, "stage": failure.stage, "error": failure.error}
            for image_id, failure in (
                *self.failures.items(),
                *((failure.source, failure) for failure in self.table_failures),
            )
        ]
        document = {
            "pages": self.pages,
            "digitized": self.pages - len(self.failures),
            "rows": self.rows,
            "samples_filled": self.samples_filled,
            "elapsed_s": round(self.elapsed_s, 3),
            "timings_s": {stage: round(value, 4) for stage, value in self.timings_s.items()},
            "failures": failures,
        }
        return json.dumps(document, indent=2) + "\n"


Digitize = Callable[[Path, PageRequest], Digitization]
"""Reads and digitizes one picture; called from several threads; raises on failure."""


def lead_values(recording: Recording, lead: str, n_samples: int) -> tuple[Float32, int]:
    """Cut one lead's printed window out of a recording, finite and of the wanted length.

    Args:
        recording: NaN outside the windows.
        lead: One of LEADS.
        n_samples: Wanted; a window that is shorter is continued with its last value.

    Returns:
        (n_samples,) float32 mV, and how many of them had to be filled in.
    """
    signal = recording.signals_mv[LEADS.index(lead)]
    start, _ = COMPETITION.window(lead, signal.size)
    values = np.full(n_samples, np.nan, dtype=np.float32)
    window = signal[start : start + n_samples]
    values[: window.size] = window
    bad = ~np.isfinite(values)
    n_bad = int(bad.sum())
    if n_bad == n_samples:
        values[:] = FALLBACK_MV
    elif n_bad:
        values[bad] = np.interp(np.flatnonzero(bad), np.flatnonzero(~bad), values[~bad])
    return values, n_bad


def submit(
    competition: Competition,
    digitize: Digitize,
    *,
    output: Path,
    report: Path,
    time_budget_s: float = TIME_BUDGET_S,
    workers: int = 2,
) -> RunReport:
    """Digitize every picture of test.csv and write the submission and the report.

    Pages are worked on by `workers` threads, a few ahead of the writer; memory holds those pages
    and the values of rows not yet written. Both files appear whole or not at all.

    Args:
        competition: The inputs.
        digitize: What turns one picture into signals.
        output: The parquet file: id string, value float32 (mV), in test.csv's order.
        report: The JSON report.
        time_budget_s: Pages not begun after this many seconds get the fallback.
        workers: Threads.

    Raises:
        InputError: If test.csv cannot be used.
    """
    began = time.monotonic()
    asked = read_test_table(competition.test_csv)
    rows = asked.rows
    requests = page_requests(rows)
    logger.info("%d pages, %d leads in %s", len(requests), len(rows), competition.test_csv)
    outcomes = _outcomes(
        requests.values(),
        index_images(competition.images),
        digitize,
        deadline=began + time_budget_s,
        workers=workers,
    )
    recordings: dict[str, Recording | None]  # pages not yet written; None if one failed
    recordings = {row.image_id: None for row in rows if row.image_id not in requests}
    failures: dict[str, Failure] = {}
    seconds: defaultdict[str, float] = defaultdict(float)
    rows_left = Counter(row.image_id for row in rows)
    n_rows = n_filled = 0
    with ExitStack() as stack:
        partial = stack.enter_context(replacing(output))
        writer = stack.enter_context(pq.ParquetWriter(partial, SCHEMA, use_dictionary=False))
        for image_id, block in groupby(rows, key=lambda row: row.image_id):
            while image_id not in recordings:
                done, outcome = next(outcomes)
                if isinstance(outcome, Failure):
                    failures[done], recordings[done] = outcome, None
                else:
                    recordings[done] = outcome.recording
                    for stage, value in outcome.timings_s.items():
                        seconds[stage] += value
            leads = list(block)
            table, filled = _table(leads, recordings[image_id])
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            n_rows, n_filled = n_rows + table.num_rows, n_filled + filled
            rows_left[image_id] -= len(leads)
            if not rows_left[image_id]:
                del recordings[image_id]
    n_digitized = len(requests) - len(failures)
    run_report = RunReport(
        pages=len(requests),
        rows=n_rows,
        failures=failures,
        samples_filled=n_filled,
        elapsed_s=time.monotonic() - began,
        timings_s={stage: total / n_digitized for stage, total in seconds.items()},
        table_failures=_table_failures(asked, competition.test_csv),
    )
    with replacing(report) as partial:
        partial.write_text(run_report.to_json(), encoding="utf-8")
    return run_report


def pipeline_digitize(
    *, weights_dir: Path | None = None, device: str | None = None, preset: str = BEST
) -> Digitize:
    """Load the networks and return the function that reads and digitizes one picture.

    Args:
        weights_dir: Folder of the weight files; None searches the usual places.
        device: "cpu", "cuda" or None for the best there is.
        preset: A key of `models.PRESETS`.

    Raises:
        InputError: If there is no such preset.
        WeightsError: If the weights are missing or altered.
    """
    models = load_models(weights_dir=weights_dir, device=choose_device(device), preset=preset)
    one_at_a_time = threading.Lock()  # the networks; reading the next pictures goes on beside it

    def digitize(source: Path, request: PageRequest) -> Digitization:
        page = read_image(source)
        with one_at_a_time:
            return digitize_page(
                page,
                models,
                fs_hz=request.fs_hz,
                lengths=fitting_lengths(request),
                layout=COMPETITION,
                rhythm=COMPETITION.strip_lead,
            )

    return digitize


def preview(
    competition: Competition | None = None,
    *,
    n_pages: int = 3,
    weights_dir: Path | None = None,
    device: str | None = None,
) -> Iterator[tuple[str, Image]]:
    """Digitize the first pages again and draw what was found over them.

    Args:
        competition: The inputs; None is `find_competition()`.
        n_pages: Pages of test.csv to try; those that fail are left out and logged.
        weights_dir: As for `pipeline_digitize`.
        device: As for `pipeline_digitize`.

    Yields:
        Image id and the (H, W, 3) uint8 RGB overlay.
    """
    competition = competition or find_competition()
    requests = page_requests(read_test_table(competition.test_csv).rows)
    images = index_images(competition.images)
    digitize = pipeline_digitize(weights_dir=weights_dir, device=device)
    for request in islice(requests.values(), n_pages):
        if (source := images.get(request.image_id)) is None:
            continue
        result = attempt(functools.partial(digitize, source, request), str(source))
        if isinstance(result, Failure):
            logger.warning("%s: %s: %s", request.image_id, result.stage, result.error)
        else:
            yield request.image_id, draw_overlay(read_image(source), result)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m ecg_digitize.submission`; returns 0, 2 (unusable) or 3 (some pages failed)."""
    parser = argparse.ArgumentParser(
        prog="python -m ecg_digitize.submission",
        description="Digitize the pictures of test.csv into submission.parquet.",
    )
    add = parser.add_argument
    add("--test-csv", type=Path, help="the table (default: the competition's mount)")
    add("--images", type=Path, help="folder of the pictures (default: test/ beside the table)")
    add("--output", type=Path, default=Path("submission.parquet"))
    add("--report", type=Path, default=Path("run_report.json"))
    add("--weights", type=Path, metavar="DIR", help="folder of the weight files")
    add("--device", help="cpu or cuda (default: the best there is)")
    add("--preset", choices=tuple(PRESETS), default=BEST, help="default: %(default)s")
    add("--workers", type=int, default=2, help="threads (default: %(default)s)")
    add("--time-budget-s", type=float, default=TIME_BUDGET_S, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("ecg_digitize").setLevel(logging.INFO)  # Jupyter may own the root logger
    try:
        report = submit(
            find_competition(test_csv=arguments.test_csv, images=arguments.images),
            pipeline_digitize(
                weights_dir=arguments.weights, device=arguments.device, preset=arguments.preset
            ),
            output=arguments.output,
            report=arguments.report,
            time_budget_s=arguments.time_budget_s,
            workers=max(1, arguments.workers),
        )
    except EcgDigitizeError as error:
        logger.error("%s", error)
        return 2
    logger.info(
        "%s: %d rows of %d pages in %.0f s, %d pages failed",
        arguments.output,
        report.rows,
        report.pages,
        report.elapsed_s,
        len(report.failures),
    )
    return 3 if report.failures or report.table_failures else 0


def _outcomes(
    requests: Collection[PageRequest],
    images: Mapping[str, Path],
    digitize: Digitize,
    *,
    deadline: float,
    workers: int,
) -> Iterator[tuple[str, Digitization | Failure]]:
    """Yield each page's id and what became of it, in order."""

    def work(request: PageRequest) -> tuple[str, Digitization | Failure]:
        name = request.image_id
        if time.monotonic() > deadline:
            return name, Failure(name, "time", "not begun within the time budget")
        if name not in images:
            return name, Failure(name, "read", f"no {name}.png, nor of another known kind")
        source = images[name]
        return name, attempt(functools.partial(digitize, source, request), str(source))

    for number, (name, outcome) in enumerate(ordered_map(work, requests, workers=workers), 1):
        if isinstance(outcome, Failure):
            logger.warning("%s: %s: %s", name, outcome.stage, outcome.error)
        if number % _LOG_EVERY_PAGES == 0:
            logger.info("%d of %d pages", number, len(requests))
        yield name, outcome


def _table_failures(asked: TestTable, test_csv: Path) -> tuple[Failure, ...]:
    """Return what test.csv itself is to blame for: under its own name, or the image's."""
    of_lines = [Failure(test_csv.name, "table", problem) for problem in asked.problems]
    of_rows = [
        Failure(row.image_id, "table", f"lead {row.lead}: {row.problem}")
        for row in asked.rows
        if row.problem is not None
    ]
    return (*of_lines, *of_rows)


def _table(leads: Sequence[TestRow], recording: Recording | None) -> tuple[pa.Table, int]:
    """Return the rows of consecutive leads of one page, and how many samples were filled."""
    ids, values, n_filled = [], [], 0
    for row in leads:
        if recording is None or row.problem is not None:
            lead_mv, filled = np.full(row.n_samples, FALLBACK_MV, dtype=np.float32), 0
        else:
            lead_mv, filled = lead_values(recording, row.lead, row.n_samples)
        # Arrow joins the parts outside Python: 37 million strings are never objects, and a page of
        # 37,500 rows is made and written in 8 ms.
        prefix, suffix = pa.scalar(f"{row.image_id}_"), pa.scalar(f"_{row.lead}")
        ids.append(pc.binary_join_element_wise(prefix, _numbers(row.n_samples), suffix, ""))
        values.append(lead_mv)
        n_filled += filled
    columns = [pa.chunked_array(ids, pa.string()), pa.chunked_array(values, pa.float32())]
    return pa.table(columns, schema=SCHEMA), n_filled


@functools.lru_cache(maxsize=32)
def _numbers(count: int) -> pa.Array:
    return pc.cast(pa.array(np.arange(count)), pa.string())


if __name__ == "__main__":
    sys.exit(main())
