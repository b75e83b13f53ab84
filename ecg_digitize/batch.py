"""Many pictures into one folder: their signals, overlays, and a report of what failed."""

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from ecg_digitize.engine.seats import Seat, device_kinds
from ecg_digitize.engine.stop import Stop
from ecg_digitize.engine.store import PageStore, open_store, settings_hash
from ecg_digitize.engine.workers import Lost, Make, work_on
from ecg_digitize.errors import InputError
from ecg_digitize.files import replacing, short_name
from ecg_digitize.formats.fhir import SUFFIX as FHIR_SUFFIX
from ecg_digitize.inputs import SUFFIXES, pages_of
from ecg_digitize.many import NO_OVERRIDES, Overrides
from ecg_digitize.measures.table import TABLE_NAME, MeasuredPage, write_table
from ecg_digitize.models import TORCH
from ecg_digitize.page_files import (
    OVERLAY_SUFFIX,
    PageDone,
    PageOutput,
    Picture,
    Writing,
    caption,
)
from ecg_digitize.render.overlay import save_png
from ecg_digitize.render.sheet import contact_sheet
from ecg_digitize.report.html import MOST_SHOWN, REPORT_HTML, write_report
from ecg_digitize.report.view import PageView, view_from
from ecg_digitize.types import Failure, Image

REPORT_NAME: Final = "run_report.json"
STORE_NAME: Final = ".ecg_digitize"
"""Folder below the outputs for what a later run needs to know of them."""
MAX_SHEET_PAGES: Final = 96
APART_FROM_PAGES: Final = 8
"""From so many pages on, what several processes gain is more than what their start costs."""
_GOODNESS: Final = {"reject": 0, "check": 1, "ok": 2}
_VIEW: Final = "view_"
NOBODY_CALLED: Final[Mapping[Path, str]] = {}


@dataclass(frozen=True)
class FoundPages:
    """What lies in the folders that were named."""

    pictures: tuple[Picture, ...]
    skipped: tuple[Path, ...]  # files that are no pictures, by their suffix


@dataclass(frozen=True)
class BatchReport:
    """What became of a batch, written as run_report.json."""

    outputs: Mapping[str, PageOutput]  # by page, see PageRef.label, in the order given
    failures: tuple[Failure, ...]
    elapsed_s: float
    timings_s: Mapping[str, float]  # stage -> seconds a page, mean over those of this run
    overrides: Overrides = NO_OVERRIDES
    backend: str = TORCH  # what ran the networks
    resumed: int = 0  # pages that an earlier run had done
    skipped: tuple[Path, ...] = ()
    stopped: str | None = None  # by what, if the run ended early

    def to_json(self) -> str:
        """Return the report as indented JSON."""
        document = {
            "pages": len(self.outputs) + len(self.failures),
            "digitized": len(self.outputs),
            "resumed": self.resumed,
            "stopped": self.stopped,
            "elapsed_s": round(self.elapsed_s, 3),
            "timings_s": {stage: round(value, 4) for stage, value in self.timings_s.items()},
            "overrides": self.overrides.to_json(),
            "backend": self.backend,
            "outputs": {source: vars(output) for source, output in self.outputs.items()},
            "failures": [asdict(failure) for failure in self.failures],
            "skipped": [str(path) for path in self.skipped],
        }
        return json.dumps(document, indent=2) + "\n"

    def doubts(self) -> dict[str, tuple[str, ...]]:
        """Return what speaks against the readings, picture by picture, where something does."""
        return {source: one.doubts for source, one in self.outputs.items() if one.doubts}


def find_pages(
    paths: Iterable[str | Path],
    *,
    out: Path | None = None,
    called: Mapping[Path, str] = NOBODY_CALLED,
) -> FoundPages:
    """Find pages: files as they are named, folders with all that is below them.

    Hidden files and folders, and overlays that an earlier run left there, are no pictures. Each
    picture's outputs are named as it is, below a folder like its own, and numbered where that is
    taken; upper and lower case count as equal, as they do on Windows and macOS. Of a file with
    several pages each is one, and its outputs end in -p1, -p2 and so on.

    Args:
        paths: Files and folders.
        out: A folder that is not looked into, even if it lies in one of them.
        called: What messages call a file, where that is not its path.

    Raises:
        InputError: A folder holds no picture.
    """
    found: dict[Path, Path] = {}  # picture -> its name below the outputs, with suffix
    skipped: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.setdefault(path, Path(path.name))
            continue
        inside = [file for file in _below(path, out) if not file.name.endswith(OVERLAY_SUFFIX)]
        pictures = [file for file in inside if file.suffix.lower() in SUFFIXES]
        if not pictures:
            raise InputError(
                f"{path}: no pictures in this folder, nor below it (looked for "
                f"{' '.join(SUFFIXES)})"
            )
        skipped += [file for file in inside if file.suffix.lower() not in SUFFIXES]
        for file in pictures:
            found.setdefault(file, file.relative_to(path))
    pages = [page for path in found for page in pages_of(path, name=called.get(path))]
    names = _names((found[page.path], page.page_number) for page in pages)
    pairs = zip(pages, names, strict=True)
    named = tuple(Picture(one.path, name, one.page_number, one.name) for one, name in pairs)
    return FoundPages(named, tuple(skipped))


def digitize_into(
    out: Path,
    pictures: Sequence[Picture],
    writing: Writing,
    *,
    make: Make[Picture, PageDone | Failure] | None = None,
    seats: Sequence[Seat] = (Seat("cpu", 1),),
    sheet: Path | None = None,
    skipped: Sequence[Path] = (),
    resume: bool = True,
    stop: Stop | None = None,
    progress: Callable[[Picture, PageDone | Failure, bool], None] | None = None,
) -> BatchReport:
    """Digitize pictures into a folder; a page that fails is reported and the others go on.

    Args:
        out: Folder for the files of each picture, see ``Writing``, report.html and
            run_report.json, made if need be.
        pictures: See ``find_pages``.
        writing: What is written of a page.
        make: Prepares a worker in place of ``writing``.
        seats: Where the workers run; several are processes of their own.
        sheet: PNG for the first overlays, all on one sheet; needs ``writing.thumbs``.
        skipped: Files to name in the report.
        resume: Take what an earlier run wrote of the same picture with the same settings as done.
        stop: Once it is wanted, the pages under way are finished and the report is written.
        progress: Called after each page with it, what became of it, and whether an earlier run had
            read it.

    Returns:
        The report, which was also written.

    Raises:
        InputError: The folder cannot be made, or another run is writing there.
        EcgDigitizeError: No worker can be made.
    """
    began = time.monotonic()
    stop = stop or Stop()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be the output folder ({error}); name another") from error
    settings = settings_hash(
        {
            "preset": writing.preset,
            "fs_hz": writing.fs_hz,
            "formats": sorted(writing.formats),
            "overrides": writing.overrides.to_json(),
            "backend": writing.backend,
            "thumbs": writing.thumbs,
            "views": writing.views,
            "devices": device_kinds(seats),
            **({"measure": True} if writing.measure else {}),
        },
        weights_dir=writing.weights_dir,
    )
    outcomes: dict[Picture, PageDone | Failure] = {}
    seconds: defaultdict[str, float] = defaultdict(float)
    with open_store(out / STORE_NAME, settings=settings) as store:
        if not resume:
            store.clear()
        for picture in pictures:
            if (known := _known(store, picture, writing)) is not None:
                outcomes[picture] = known
                if progress is not None:
                    progress(picture, known, True)
        resumed = len(outcomes)
        left = [picture for picture in pictures if picture not in outcomes]
        for picture, result in work_on(left, make or writing, seats, stop=stop):
            outcome = _told(picture, result)
            if isinstance(outcome, PageDone):
                outcome = _kept(store, picture, outcome)
                for stage, value in outcome.timings_s.items():
                    seconds[stage] += value
            outcomes[picture] = outcome
            if progress is not None:
                progress(picture, outcome, False)
        in_order = [(picture, outcomes[picture]) for picture in pictures if picture in outcomes]
        done = {p: one for p, one in in_order if isinstance(one, PageDone)}
        text = stop.to_text(n_done=len(in_order), n_pages=len(pictures))
        report = BatchReport(
            outputs={picture.page.label: one.output for picture, one in done.items()},
            failures=tuple(one for _, one in in_order if isinstance(one, Failure)),
            elapsed_s=time.monotonic() - began,
            timings_s={stage: sum_s / (len(done) - resumed) for stage, sum_s in seconds.items()},
            overrides=writing.overrides,
            backend=writing.backend,
            resumed=resumed,
            skipped=tuple(skipped),
            stopped=text if stop.is_wanted else None,
        )
        if sheet is not None and (thumbs := _thumbs(done)):
            save_png(sheet, contact_sheet(thumbs))
        with replacing(out / REPORT_NAME) as partial:
            partial.write_text(report.to_json(), encoding="utf-8")
        if writing.measure:
            write_table(out / TABLE_NAME, _measured(in_order))
        if writing.views:
            shown = _worst(done)
            try:
                write_report(
                    out / REPORT_HTML,
                    _views(store, shown),
                    report.failures,
                    n_pages=len(shown),
                    n_left_out=len(done) - len(shown),
                )
            except OSError as error:
                raise InputError(
                    f"{out / REPORT_HTML}: cannot be written ({error}); free space and say the "
                    "same command again, all pages are done"
                ) from error
    return report


def _below(folder: Path, out: Path | None) -> Iterator[Path]:
    """Yield the files below a folder, sorted, without hidden ones and those in hidden folders."""
    left_out = None if out is None else out.resolve()
    for here, folders, files in os.walk(folder):
        if Path(here).resolve() == left_out:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here) / name for name in sorted(files) if not name.startswith("."))


def _names(pages: Iterable[tuple[Path, int | None]]) -> list[str]:
    """Return names without suffix, each once, short enough for what is added to them.

    No file of one picture may be another's, nor the report or the table of measures: the side
    file of a csv called x.fhir would be the Observation of x.
    """
    taken = {Path(REPORT_NAME).stem, Path(TABLE_NAME).stem}
    names = []
    for path, page_number in pages:
        end = "" if page_number is None else f"-p{page_number}"
        stem = short_name(path.stem, spare_bytes=len(OVERLAY_SUFFIX) + len("-9999" + end)) + end
        name, number = path.with_name(stem).as_posix(), 1
        while not taken.isdisjoint(_claimed(name)):
            number += 1
            name = path.with_name(f"{stem}-{number}").as_posix()
        taken |= _claimed(name)
        names.append(name)
    return names


def _claimed(name: str) -> set[str]:
    """Return the names that nobody else may have, if a picture's outputs have this one."""
    plain = name.casefold()
    return {plain, plain + Path(FHIR_SUFFIX).stem}


def _told(picture: Picture, result: PageDone | Failure | Lost) -> PageDone | Failure:
    if isinstance(result, Lost):
        return Failure(picture.page.label, "worker", result.why)
    return result


def _known(store: PageStore, picture: Picture, writing: Writing) -> PageDone | None:
    """Return what an earlier run did of a picture, if its files are there."""
    files = [path for paths in writing.files(picture).values() for path in paths]
    files += [writing.overlay_file(picture)] if writing.overlay else []
    kept = store.get(picture.name, picture.source) if all(map(Path.is_file, files)) else None
    if kept is None:
        return None
    output = _output_from(kept.meta["output"], files=writing.files(picture))
    return PageDone(output, {}, "", kept.arrays.get("thumb"))


def _kept(store: PageStore, picture: Picture, done: PageDone) -> PageDone:
    """Note that a page is done, and return it without what the report takes from there.

    On a full disk the page is read again next time, and its view stays in memory.
    """
    meta: dict[str, Any] = {"output": asdict(done.output)}
    arrays: dict[str, Any] = {} if done.thumb is None else {"thumb": done.thumb}
    if done.view is not None:
        meta["view"] = done.view.to_meta()
        arrays |= {_VIEW + name: data for name, data in done.view.to_arrays().items()}
    try:
        store.put(picture.name, done.picture_sha256, meta=meta, arrays=arrays)
    except OSError:
        return done
    return replace(done, view=None)


def _views(store: PageStore, done: Mapping[Picture, PageDone]) -> Iterator[PageView]:
    """Yield what the report shows, a page at a time: all of them together can be large."""
    for picture, one in done.items():
        if one.view is not None:
            yield one.view
        elif (kept := store.get(picture.name, None)) is not None:
            arrays = {
                name.removeprefix(_VIEW): data
                for name, data in kept.arrays.items()
                if name.startswith(_VIEW)
            }
            yield view_from(kept.meta["view"], arrays)


def _worst(done: Mapping[Picture, PageDone]) -> Mapping[Picture, PageDone]:
    """Return the pages that need a look most, as many as a report shows, in the order given."""
    if len(done) <= MOST_SHOWN:
        return done

    def goodness(picture: Picture) -> tuple[int, float]:
        output = done[picture].output
        return _GOODNESS[output.verdict], min(output.quality.values(), default=0.0)

    worst = set(sorted(done, key=goodness)[:MOST_SHOWN])
    return {picture: one for picture, one in done.items() if picture in worst}


def _output_from(meta: Mapping[str, Any], *, files: Mapping[str, tuple[Path, ...]]) -> PageOutput:
    """Return what was kept of a page, with its files as they are named now."""
    named = {name: tuple(map(str, paths)) for name, paths in files.items()}
    windows_s = {lead: (start, stop) for lead, (start, stop) in meta["windows_s"].items()}
    return PageOutput(
        **{**meta, "files": named, "windows_s": windows_s, "doubts": tuple(meta["doubts"])}
    )


def _measured(in_order: Iterable[tuple[Picture, PageDone | Failure]]) -> Iterator[MeasuredPage]:
    """Yield the rows of the table of measures."""
    for picture, one in in_order:
        source = picture.page.label
        if isinstance(one, PageDone):
            yield MeasuredPage(source, one.output.verdict, one.output.measures)
        else:
            yield MeasuredPage(source, "failed", None, one.error)


def _thumbs(done: Mapping[Picture, PageDone]) -> list[tuple[str, Image]]:
    shown = [
        (caption(picture.name, one.output), one.thumb)
        for picture, one in done.items()
        if one.thumb is not None
    ]
    return shown[:MAX_SHEET_PAGES]
