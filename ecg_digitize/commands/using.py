"""The commands of users: pictures to signals."""

import argparse
import sys
from typing import TYPE_CHECKING, Final

from ecg_digitize.commands.shared import DONE, PAGES_FAILED, UNUSABLE, bar
from ecg_digitize.errors import InputError
from ecg_digitize.shipped import sample_page

if TYPE_CHECKING:
    from ecg_digitize.layouts import Family

SKIPPED_NAMED: Final = 5
"""Files that are no pictures are named on the terminal up to this number."""


def digitize(arguments: argparse.Namespace) -> int:
    """Write the signals and an overlay for each picture."""
    from ecg_digitize.batch import APART_FROM_PAGES, digitize_into, find_pages
    from ecg_digitize.engine.seats import devices_named, seats_for
    from ecg_digitize.engine.stop import stop_on_signals
    from ecg_digitize.formats.writers import formats_named
    from ecg_digitize.many import Overrides
    from ecg_digitize.measures.beats import neurokit
    from ecg_digitize.openvino import device_for
    from ecg_digitize.page_files import Writing

    paths = [*arguments.paths, *([sample_page()] if arguments.sample else [])]
    if not paths:
        raise InputError("digitize: no pictures; name files or folders, or say --sample")
    formats = formats_named(arguments.format, fs_hz=arguments.fs)
    if arguments.measure:
        neurokit()  # what is missing is said before the first page is read
    found = find_pages(paths, out=arguments.out)
    n_pages = len(found.pictures)
    workers = arguments.workers or (1 if n_pages < APART_FROM_PAGES else None)
    devices = devices_named(device_for(arguments.backend, arguments.device))
    writing = Writing(
        out=arguments.out,
        weights_dir=arguments.weights,
        preset=arguments.preset,
        backend=arguments.backend,
        fs_hz=arguments.fs,
        overrides=Overrides(_family(arguments.layout), arguments.speed, arguments.gain),
        formats=formats,
        overlay=not arguments.no_overlay,
        thumbs=arguments.contact_sheet is not None,
        measure=arguments.measure,
    )
    with bar(n_pages) as step, stop_on_signals() as stop:
        report = digitize_into(
            arguments.out,
            found.pictures,
            writing,
            seats=seats_for(devices, workers=workers, n_pages=n_pages),
            sheet=arguments.contact_sheet,
            skipped=found.skipped,
            resume=not arguments.no_resume,
            stop=stop,
            progress=lambda picture, failure: step(),
        )
    for failure in report.failures:
        named = failure.error.startswith(failure.source)
        reason = failure.error if named else f"{failure.source}: {failure.error}"
        print(f"{reason} ({failure.stage})", file=sys.stderr)
    for path in report.skipped[:SKIPPED_NAMED]:
        print(f"{path}: skipped, its suffix is not that of a picture", file=sys.stderr)
    if (more := len(report.skipped) - SKIPPED_NAMED) > 0:
        print(f"{more} more files skipped; run_report.json names them", file=sys.stderr)
    again = f", {report.resumed} of them by an earlier run" if report.resumed else ""
    print(f"{arguments.out}: {len(report.outputs)} of {n_pages} pages{again}", file=sys.stderr)
    for source, doubts in report.doubts().items():
        print(f"{report.outputs[source].verdict} {source}: {'; '.join(doubts)}", file=sys.stderr)
    if report.stopped:
        print(f"ecg-digitize: {report.stopped}", file=sys.stderr)
        return stop.exit_code
    return PAGES_FAILED if report.failures else DONE


def digitize_many(arguments: argparse.Namespace) -> int:
    """Digitize a list of pages into parquet files."""
    from ecg_digitize.archive import command
    from ecg_digitize.many import Overrides

    told = Overrides(_family(arguments.layout), arguments.speed, arguments.gain)
    return command.digitize_many(arguments, told)


def _family(name: str | None) -> "Family | None":
    from ecg_digitize.layouts import FAMILIES

    if name is None:
        return None
    known = {family.name.casefold(): family for family in FAMILIES}
    if name.casefold() not in known:
        names = ", ".join(family.name for family in FAMILIES)
        raise InputError(f'--layout: expected one of {names}, but got "{name}"')
    return known[name.casefold()]


def weights(arguments: argparse.Namespace) -> int:
    """Check every weight file against the manifest."""
    from ecg_digitize.weights import verify_all

    table = verify_all(weights_dir=arguments.weights)
    for status in table:
        verdict = "ok" if status.ok else "BAD"
        print(f"{status.stage:<8}{status.file:<24}{status.bytes:>10}  {verdict:<4}{status.why}")
    if not table:
        raise InputError("weights_manifest.json lists no files; train and export the stages first")
    return DONE if all(status.ok for status in table) else UNUSABLE
