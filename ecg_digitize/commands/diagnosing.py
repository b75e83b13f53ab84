"""The commands of diagnoses, for research only: `classify`, and those that train and judge it."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ecg_digitize.commands.shared import DONE, PAGES_FAILED, bar, models_of
from ecg_digitize.errors import InputError, StageError

if TYPE_CHECKING:
    from ecg_digitize.types import Recording

SIGNALS: Final = "diagnose-signals"
PICTURES: Final = "diagnose-pictures"


def classify(arguments: argparse.Namespace) -> int:
    """Write the classes that pages suggest, with the notice that this is research only."""
    from ecg_digitize.diagnoses import classify as classifying
    from ecg_digitize.failures import attempt
    from ecg_digitize.types import Failure

    network = classifying.load_classifier(arguments.weights)
    pages = list(_pages(arguments))
    arguments.out.mkdir(parents=True, exist_ok=True)
    found: list[tuple[str, classifying.Classified]] = []

    def look(read: Callable[[], "Recording"]) -> tuple["Recording", classifying.Classified]:
        try:
            recording = read()
            return recording, classifying.classify(recording, network)
        except InputError as error:  # of one csv, or of a page that shows nothing
            raise StageError("classify", str(error)) from error

    print(classifying.unknowable_text(), file=sys.stderr)
    for name, read in pages:
        result = attempt(partial(look, read), name)
        if isinstance(result, Failure):
            print(f"failed  {name}: {result.error} ({result.stage})", file=sys.stderr)
            continue
        recording, classified = result
        found.append((name, classified))
        print(f"{recording.verdict:<7} {name}: {classified.to_line()}")
    classifying.write_classes(arguments.out / classifying.CSV_NAME, found)
    return DONE if len(found) == len(pages) else PAGES_FAILED


def _pages(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[], "Recording"]]]:
    """Yield the name of each page, and what reads it."""
    from ecg_digitize.batch import REPORT_NAME, find_pages
    from ecg_digitize.formats.csv import read_csv
    from ecg_digitize.inputs import PageRef, read_page
    from ecg_digitize.pipeline import digitize_page

    others: list[Path] = []
    for path in arguments.paths:
        if path.suffix.lower() == ".csv":
            yield str(path), partial(read_csv, path)
        elif (path / REPORT_NAME).is_file():
            for table in _tables_in(path):
                yield str(table), partial(read_csv, table)
            yield from _failed_in(path / REPORT_NAME)
        else:
            others.append(path)
    if not others:
        return
    pictures = find_pages(others, out=arguments.out).pictures
    models = models_of(arguments)

    def digitized(page: PageRef) -> "Recording":
        return digitize_page(read_page(page), models).recording

    for picture in pictures:
        yield picture.page.label, partial(digitized, picture.page)


def _tables_in(folder: Path) -> list[Path]:
    """Return the tables that `digitize` wrote into a folder: a side file lies beside each."""
    from ecg_digitize.formats.csv import full_files

    below = sorted(folder.rglob("*.csv"))
    tables = [path for path in below if full_files(path.with_suffix(""))[1].is_file()]
    if not tables:
        raise InputError(
            f"{folder}: digitize wrote here, but no NAME.csv with NAME.json beside it; name its "
            "csv files, or digitize with --format csv"
        )
    return tables


def _failed_in(report: Path) -> Iterator[tuple[str, Callable[[], "Recording"]]]:
    """Yield the pages that `digitize` could not read: they have no table, and fail here too."""

    def fail(stage: str, error: str) -> "Recording":
        raise StageError(stage, error)

    try:
        failures = json.loads(report.read_text("utf-8")).get("failures", ())
        told = [(one["source"], partial(fail, one["stage"], one["error"])) for one in failures]
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{report}: expected the report of digitize: {error!r}") from error
    yield from told


def print_and_read(arguments: argparse.Namespace) -> int:
    """Print records, digitize the pages, and keep what was read to train on."""
    from ecg_digitize.diagnoses import printed
    from ecg_digitize.diagnoses.classes import read_labels
    from ecg_digitize.diagnoses.records import records_of
    from ecg_digitize.synth.signals import open_source

    source = open_source(arguments.source)
    records = records_of(source, read_labels(arguments.labels), validation=False)
    models = models_of(arguments)
    with bar(arguments.pages) as step:
        readings = printed.print_and_read(
            arguments.out,
            source,
            records,
            models,
            pages=arguments.pages,
            seed=arguments.seed,
            progress=step,
        )
    n_read = sum(bool(name) for name in readings.ids)
    print(f"{arguments.out}: {n_read} of {len(readings.ids)} pages were read", file=sys.stderr)
    return DONE


def compare(arguments: argparse.Namespace) -> int:
    """Judge the network that ships, or those that were trained."""
    from ecg_digitize.diagnoses import compare as comparing
    from ecg_digitize.diagnoses.classes import read_labels
    from ecg_digitize.diagnoses.classify import load_classifier
    from ecg_digitize.diagnoses.ship import with_thresholds
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training.pairs import read_pairs
    from ecg_digitize.training.run import trained_file

    if arguments.labels is None:
        raise InputError("compare diagnoses: expected --labels CSV and --source bank:FILE.npz")
    labels = read_labels(arguments.labels)
    kept = open_source(arguments.source, validation=True)
    pairs = tuple(pair for table in arguments.paired or () for pair in read_pairs(table))
    pictures, signals = (trained_file(arguments.trained, name) for name in (PICTURES, SIGNALS))
    if arguments.trained is not None and not (signals or pictures):
        raise InputError(
            f"{arguments.trained}: expected weights in {SIGNALS} or {PICTURES}, but there are "
            "none; train one"
        )
    if signals or not pictures:
        network = (
            load_classifier(arguments.weights)
            if signals is None
            else with_thresholds(signals, open_source(arguments.source), labels)
        )
        models = models_of(arguments)
        with bar(comparing.n_pages(arguments.pages, pairs, labels)) as step:
            table = comparing.compare_diagnoses(
                network,
                kept,
                labels,
                models,
                pages=arguments.pages,
                seed=arguments.seed,
                pairs=pairs,
                progress=step,
            )
        print(table.to_text(), end="")
    if pictures:
        _compare_pictures(arguments, pictures)
    return DONE


def _compare_pictures(arguments: argparse.Namespace, trained: Path) -> None:
    from ecg_digitize.diagnoses.classes import read_labels
    from ecg_digitize.diagnoses.compare import compare_pictures
    from ecg_digitize.synth.dataset import KINDS
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training.run import PUBLISHED, start_from

    network = start_from(PUBLISHED[PICTURES], initial=trained)
    pages = arguments.pages * len(KINDS)
    with bar(2 * pages) as step:
        judged = compare_pictures(
            network,
            open_source(arguments.source),
            open_source(arguments.source, validation=True),
            read_labels(arguments.labels),
            pages=pages,
            seed=arguments.seed,
            progress=step,
        )
    print(f"\npictures, synthetic pages of records kept for judging\n{judged.to_text()}", end="")


def ship(arguments: argparse.Namespace) -> int:
    """Put a trained network of signals, with its thresholds, where it ships from."""
    from ecg_digitize.diagnoses import ship as shipping
    from ecg_digitize.diagnoses.classes import read_labels
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training.export import provenance_now

    for option in ("average_with", "member", "backbone", "beside"):
        if getattr(arguments, option):
            raise InputError(f"export diagnose: expected no --{option.replace('_', '-')}")
    if arguments.source is None or arguments.labels is None:
        raise InputError("export diagnose: its thresholds need --source SPEC and --labels CSV")
    network = shipping.with_thresholds(
        arguments.trained, open_source(arguments.source), read_labels(arguments.labels)
    )
    entry = shipping.ship(
        network,
        provenance=provenance_now(
            command=arguments.provenance_command,
            data=arguments.data,
            minutes=arguments.minutes,
            metrics=dict(arguments.metric),
        ),
        weights_dir=arguments.weights,
        manifest=arguments.manifest,
    )
    print(f"{entry.file}: {entry.bytes} bytes, SHA-256 {entry.sha256}")
    return DONE
