"""The commands of users: pictures to signals."""

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from ecg_digitize.commands.shared import DONE, PAGES_FAILED, UNUSABLE, bar
from ecg_digitize.errors import InputError
from ecg_digitize.shipped import sample_page

if TYPE_CHECKING:
    from ecg_digitize.batch import BatchReport, FoundPages
    from ecg_digitize.page_files import PageDone, Picture, Writing
    from ecg_digitize.types import Failure

SKIPPED_NAMED: Final = 5
"""Files that are no pictures are named on the terminal up to this number."""
STANDARD_INPUT: Final = "-"
"""Stands for a file among the paths; one of that name is ./- below a folder, or a full path."""
STDIN_NAME: Final = "stdin"


def digitize(arguments: argparse.Namespace) -> int:
    """Write the signals and an overlay for each page."""
    paths = [*arguments.paths, *([sample_page()] if arguments.sample else [])]
    if not paths:
        raise InputError("digitize: no pictures; name files or folders, or say --sample")
    with _stdin_as_file(paths) as (files, called):
        return _digitize(arguments, files, called)


def _digitize(arguments: argparse.Namespace, paths: Sequence[Path], called: dict[Path, str]) -> int:
    from ecg_digitize.batch import APART_FROM_PAGES, digitize_into, find_pages
    from ecg_digitize.engine.seats import devices_named, seats_for
    from ecg_digitize.engine.stop import stop_on_signals
    from ecg_digitize.formats.writers import formats_named
    from ecg_digitize.layouts import family_named
    from ecg_digitize.many import Overrides
    from ecg_digitize.measures.beats import neurokit
    from ecg_digitize.openvino import device_for
    from ecg_digitize.page_files import Writing
    from ecg_digitize.types import Failure

    formats = formats_named(arguments.format, fs_hz=arguments.fs)
    if arguments.measure:
        neurokit()  # what is missing is said before the first page is read
    found = find_pages(paths, out=arguments.out, called=called)
    n_pages = len(found.pictures)
    workers = arguments.workers or (1 if n_pages < APART_FROM_PAGES else None)
    devices = devices_named(device_for(arguments.backend, arguments.device))
    writing = Writing(
        out=arguments.out,
        weights_dir=arguments.weights,
        preset=arguments.preset,
        backend=arguments.backend,
        fs_hz=arguments.fs,
        overrides=Overrides(family_named(arguments.layout), arguments.speed, arguments.gain),
        formats=formats,
        overlay=not arguments.no_overlay,
        thumbs=arguments.contact_sheet is not None,
        views=not arguments.no_report,
        measure=arguments.measure,
    )
    if arguments.dry_run:
        return _dry_run(found, writing)
    with bar(n_pages, is_quiet=arguments.quiet) as step, stop_on_signals() as stop:

        def progress(picture: "Picture", outcome: "PageDone | Failure", is_known: bool) -> None:
            is_told = not is_known and (not arguments.quiet or isinstance(outcome, Failure))
            step(_line(picture, outcome) if is_told else None)

        report = digitize_into(
            arguments.out,
            found.pictures,
            writing,
            seats=seats_for(devices, workers=workers, n_pages=n_pages),
            sheet=arguments.contact_sheet,
            skipped=found.skipped,
            resume=not arguments.no_resume,
            stop=stop,
            progress=progress,
        )
    if arguments.json:
        print(report.to_json(), end="")
    if not arguments.quiet:
        _tell(report, arguments.out, n_pages=n_pages, has_html=writing.views)
    if report.stopped:
        print(f"ecg-digitize: {report.stopped}", file=sys.stderr)
        return stop.exit_code
    return PAGES_FAILED if report.failures else DONE


def _line(picture: "Picture", outcome: "PageDone | Failure") -> str:
    """Return what happened to a page, in one line."""
    from ecg_digitize.types import Failure

    if isinstance(outcome, Failure):
        named = outcome.error.startswith(outcome.source)
        reason = outcome.error if named else f"{outcome.source}: {outcome.error}"
        return f"failed  {reason} ({outcome.stage})"
    output = outcome.output
    read_as = f"{output.layout}, {output.mm_per_s:g} mm/s, {output.mm_per_mv:g} mm/mV"
    told = "; ".join((read_as, *output.doubts))
    return f"{output.verdict:<7} {picture.page.label}: {told}"


def _tell(report: "BatchReport", out: Path, *, n_pages: int, has_html: bool) -> None:
    """Say what became of all pages."""
    from ecg_digitize.report.html import REPORT_HTML

    for path in report.skipped[:SKIPPED_NAMED]:
        print(f"skipped {path}: its suffix is not that of a picture", file=sys.stderr)
    if (more := len(report.skipped) - SKIPPED_NAMED) > 0:
        print(f"{more} more files skipped; run_report.json names them", file=sys.stderr)
    verdicts = Counter(output.verdict for output in report.outputs.values())
    counts = [f"{verdicts[one]} {one}" for one in ("ok", "check", "reject") if verdicts[one]]
    counts += [f"{len(report.failures)} failed"] if report.failures else []
    again = f", {report.resumed} of them by an earlier run" if report.resumed else ""
    look = f"; look at {out / REPORT_HTML}" if has_html else ""
    print(
        f"{out}: {len(report.outputs)} of {n_pages} pages{again} ({', '.join(counts)}){look}",
        file=sys.stderr,
    )


def _dry_run(found: "FoundPages", writing: "Writing") -> int:
    """Say what would be read, and which files it would write."""
    for picture in found.pictures:
        written = [path for paths in writing.files(picture).values() for path in paths]
        print(f"{picture.page.label} -> {', '.join(map(str, written))}")
    for path in found.skipped:
        print(f"skipped {path}: its suffix is not that of a picture", file=sys.stderr)
    return DONE


@contextmanager
def _stdin_as_file(paths: Sequence[str | Path]) -> Iterator[tuple[list[Path], dict[Path, str]]]:
    """Give paths with standard input as a file, since workers read files, and what it is called.

    Raises:
        InputError: Nobody sends anything.
    """
    if STANDARD_INPUT not in paths:
        yield [Path(path) for path in paths], {}
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            'digitize -: expected a picture on standard input, but it is the terminal; say "< FILE"'
        )
    with TemporaryDirectory(prefix="ecg-digitize-") as folder:
        path = Path(folder) / STDIN_NAME
        with path.open("wb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream)
        yield [path if one == STANDARD_INPUT else Path(one) for one in paths], {path: STDIN_NAME}


def serve(arguments: argparse.Namespace) -> int:
    """Serve the page on which pictures are read and readings are mended."""
    from ecg_digitize.serve import command

    return command.serve(arguments)


def digitize_many(arguments: argparse.Namespace) -> int:
    """Digitize a list of pages into parquet files."""
    from ecg_digitize.archive import command
    from ecg_digitize.layouts import family_named
    from ecg_digitize.many import Overrides

    told = Overrides(family_named(arguments.layout), arguments.speed, arguments.gain)
    return command.digitize_many(arguments, told)


def weights(arguments: argparse.Namespace) -> int:
    """Check every weight file against the manifest."""
    from ecg_digitize.diagnoses.classify import NETWORKS
    from ecg_digitize.weights import network_classes, verify_all

    known = {**network_classes(), **NETWORKS}
    table = verify_all(weights_dir=arguments.weights, networks=known)
    for status in table:
        verdict = "ok" if status.ok else "BAD"
        print(f"{status.stage:<10}{status.file:<24}{status.bytes:>10}  {verdict:<4}{status.why}")
    if not table:
        raise InputError("weights_manifest.json lists no files; train and export the stages first")
    return DONE if all(status.ok for status in table) else UNUSABLE
