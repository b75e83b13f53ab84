"""Kaggle's test.csv and its pictures -> submission.parquet and run_report.json.

Every row of test.csv gets a finite value, whatever happens to a page: one that is missing,
unreadable, fails in a stage or is not begun within the time budget gets zeros, and the report
says which and why. Workers read the pages side by side (``engine/``); finished pages lie in a
folder beside the submission, so that a run that was killed goes on. The submission is written from
them at the end, in the order of the table.
"""

import argparse
import functools
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from ecg_digitize.answers import Answer, Answering, Question, digitize_asked
from ecg_digitize.competition import (
    Competition,
    PageRequest,
    find_competition,
    index_images,
    page_requests,
    read_test_table,
)
from ecg_digitize.engine.pace import Level, Pace
from ecg_digitize.engine.seats import Seat, device_kinds, devices_named, seats_for
from ecg_digitize.engine.spare import load_on
from ecg_digitize.engine.stop import Stop, stop_on_signals
from ecg_digitize.engine.store import open_store, settings_hash
from ecg_digitize.engine.workers import Lost, Make, work_on
from ecg_digitize.environment import set_environment
from ecg_digitize.errors import EcgDigitizeError
from ecg_digitize.failures import attempt
from ecg_digitize.files import replacing
from ecg_digitize.formats.submission import write_submission
from ecg_digitize.image import read_image
from ecg_digitize.models import BEST, PRESETS, Models
from ecg_digitize.render.overlay import draw_overlay
from ecg_digitize.submission_state import Progress, RunReport, table_failures
from ecg_digitize.types import Failure, Image

logger = logging.getLogger(__name__)

TIME_BUDGET_S: Final = 8.5 * 3600
"""Half an hour below Kaggle's limit, for start-up and the pages under way."""
LEVELS: Final = (
    Level("ensemble", 1.4), Level("best", 1.0), Level("fast", 0.9), Level("quick", 0.7),
)  # fmt: skip
"""What is spent on a page, best first; the shares are those of CPU time on one core. Where time is
short the members of stage 2 go first, then looks, then the refinement."""
_LOG_EVERY_PAGES: Final = 25

MakeAsk = Make[Question, Answer | Failure]


def levels_from(preset: str) -> tuple[Level, ...]:
    """Return what may be spent on a page if nothing dearer than a preset is wanted."""
    names = [level.name for level in LEVELS]
    return LEVELS[names.index(preset) :]


def submit(
    competition: Competition,
    make: MakeAsk,
    *,
    output: Path,
    report: Path,
    seats: Sequence[Seat] = (Seat("cpu", 1),),
    levels: Sequence[Level] | None = None,
    time_budget_s: float = TIME_BUDGET_S,
    weights_dir: Path | None = None,
    resume: bool = True,
    stop: Stop | None = None,
    apart: bool | None = None,
) -> RunReport:
    """Digitize every picture of test.csv and write the submission and the report.

    A worker holds one page, this process the values of the pages that the disk did not take. Both
    files appear whole or not at all.

    Args:
        competition: The inputs.
        make: Prepares a worker; what that returns turns one picture into values.
        output: The parquet file: id string, value float32 (mV), in test.csv's order.
        report: The JSON report.
        seats: Where the workers run.
        levels: What may be spent on a page, best first; the time decides page by page. None: those
            from BEST on.
        time_budget_s: Pages not begun after this many seconds get the fallback.
        weights_dir: Folder of the weights that make uses; None searches the usual places.
        resume: Use the pages of an earlier run that was stopped.
        stop: Once it is wanted, the pages under way are finished and only the report is written.
        apart: See ``work_on``.

    Raises:
        InputError: If test.csv cannot be used, or another run is writing the same submission.
        EcgDigitizeError: If no worker can be made.
    """
    began = time.monotonic()
    stop = stop or Stop()
    table = read_test_table(competition.test_csv)
    requests = page_requests(table.rows)
    logger.info("%d pages, %d leads in %s", len(requests), len(table.rows), competition.test_csv)
    levels = levels_from(BEST) if levels is None else levels
    told = {"levels": [level.name for level in levels], "devices": device_kinds(seats)}
    digest = settings_hash(told, weights_dir=weights_dir)
    n_rows = 0
    with open_store(output.parent / f".{output.name}.pages", settings=digest) as store:
        if not resume:
            store.clear()
        progress = Progress(store, requests)
        asked = _asked(progress, index_images(competition.images))
        end_s = began + time_budget_s
        try:
            _read(progress, asked, make, seats, levels, end_s=end_s, stop=stop, apart=apart)
        except Exception as error:
            if apart is False:
                raise
            logger.warning("%s; one process goes on by itself", error)
            _read(progress, asked, make, seats[:1], levels, end_s=end_s, stop=stop, apart=False)
        if not stop.is_wanted:
            n_rows = write_submission(output, table.rows, progress.values_mv)
        run_report = progress.report(
            rows=n_rows,
            table_failures=table_failures(table, competition.test_csv),
            elapsed_s=time.monotonic() - began,
            seats=seats,
            stop=stop,
        )
        with replacing(report) as partial:
            partial.write_text(run_report.to_json(), encoding="utf-8")
        if not stop.is_wanted:
            store.remove()
    return run_report


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
        weights_dir: Folder of the weight files; None searches the usual places.
        device: "cpu", "cuda" or None for the best there is.

    Yields:
        Image id and the (H, W, 3) uint8 RGB overlay.
    """
    competition = competition or find_competition()
    requests = page_requests(read_test_table(competition.test_csv).rows)
    images = index_images(competition.images)
    models = load_on(devices_named(device)[0], weights_dir=weights_dir)
    for request in islice(requests.values(), n_pages):
        if (source := images.get(request.image_id)) is None:
            continue
        drawn = attempt(functools.partial(_drawn, request, source, models), str(source))
        if isinstance(drawn, Failure):
            logger.warning("%s: %s: %s", request.image_id, drawn.stage, drawn.error)
        else:
            yield request.image_id, drawn


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m ecg_digitize.submission` and return its exit code.

    0: all done, 2: unusable, 3: some pages failed, 130 or 143: stopped by Ctrl-C or SIGTERM.
    """
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
    add("--device", help="cpu, cuda, or several as cuda:0,cuda:1 (default: the best there are)")
    add("--preset", choices=tuple(PRESETS), default=BEST, help="at most (default: %(default)s)")
    add("--workers", type=int, help="processes (default: one a core)")
    add("--time-budget-s", type=float, default=TIME_BUDGET_S, help="default: %(default)s")
    add("--no-resume", action="store_true", help="read again what a stopped run has read")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("ecg_digitize").setLevel(logging.INFO)  # Jupyter may own the root logger
    set_environment()
    try:
        seats = seats_for(devices_named(arguments.device), workers=arguments.workers)
        logger.info("%d workers: %s", len(seats), ", ".join(seat.device for seat in seats))
        with stop_on_signals() as stop:
            report = submit(
                find_competition(test_csv=arguments.test_csv, images=arguments.images),
                Answering(arguments.weights),
                output=arguments.output,
                report=arguments.report,
                seats=seats,
                levels=levels_from(arguments.preset),
                time_budget_s=arguments.time_budget_s,
                weights_dir=arguments.weights,
                resume=not arguments.no_resume,
                stop=stop,
                apart=True,
            )
    except EcgDigitizeError as error:
        logger.error("%s", error)
        return 2
    except OSError as error:
        logger.error("%s; free space or name another folder, and run the same command", error)
        return 2
    if report.stopped:
        logger.warning("%s", report.stopped)
        return stop.exit_code
    logger.info(
        "%s: %d rows of %d pages in %.0f s, %d pages failed",
        arguments.output,
        report.rows,
        report.pages,
        report.elapsed_s,
        len(report.failures),
    )
    return 3 if report.failures or report.table_failures else 0


def _drawn(request: PageRequest, source: Path, models: Models) -> Image:
    page = read_image(source)
    return draw_overlay(page, digitize_asked(page, Question(request, source, BEST), models))


def _asked(progress: Progress, images: Mapping[str, Path]) -> list[tuple[PageRequest, Path]]:
    """Return the pages that are to be read, and note which need not or cannot."""
    asked = []
    for name, request in progress.requests.items():
        if name not in images:
            progress.fail(name, Failure(name, "read", f"no {name}.png, nor of another known kind"))
        elif not progress.recall(request, images[name]):
            asked.append((request, images[name]))
    return asked


def _read(
    progress: Progress,
    asked: Sequence[tuple[PageRequest, Path]],
    make: MakeAsk,
    seats: Sequence[Seat],
    levels: Sequence[Level],
    *,
    end_s: float,
    stop: Stop,
    apart: bool | None,
) -> None:
    """Read the pages of which nothing is known yet; end_s: by time.monotonic."""
    left = [(request, source) for request, source in asked if not progress.knows(request)]
    budget_s = end_s - time.monotonic()
    pace = Pace(levels, budget_s=budget_s, n_pages=len(left), n_workers=len(seats))
    questions = _questions(progress, left, pace)
    done = work_on(questions, make, seats, stop=stop, apart=apart)
    for number, (question, outcome) in enumerate(done, 1):
        request = question.request
        if isinstance(outcome, Answer):
            pace.took(outcome.preset, sum(outcome.timings_s.values()))
            progress.keep(request, outcome)
        elif isinstance(outcome, Lost):
            progress.fail(request.image_id, Failure(str(question.source), "worker", outcome.why))
        else:
            progress.fail(request.image_id, outcome)
        if number % _LOG_EVERY_PAGES == 0:
            logger.info("%d of %d pages", number, len(left))


def _questions(
    progress: Progress, asked: Sequence[tuple[PageRequest, Path]], pace: Pace
) -> Iterator[Question]:
    """Yield pages when workers are free for them, with what may be spent on each."""
    for request, source in asked:
        level = pace.choose()
        if level is None:
            name = request.image_id
            progress.fail(name, Failure(name, "time", "not begun within the time budget"))
        else:
            yield Question(request, source, level.name)


if __name__ == "__main__":
    sys.exit(main())
