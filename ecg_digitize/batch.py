"""Many pictures into one folder: a csv and an overlay each, and a report of what failed."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ecg_digitize.errors import InputError
from ecg_digitize.files import replacing
from ecg_digitize.formats.csv import write_csv
from ecg_digitize.image import find_images, read_image
from ecg_digitize.layout import LEADS, Layout
from ecg_digitize.many import NO_OVERRIDES, Overrides, attempt, attempt_page, ordered_map
from ecg_digitize.models import Models
from ecg_digitize.render.overlay import draw_overlay, save_png
from ecg_digitize.render.sheet import contact_sheet, thumbnail
from ecg_digitize.types import Digitization, Failure, Image, Page, Recording

OVERLAY_SUFFIX: Final = ".overlay.png"
REPORT_NAME: Final = "run_report.json"
MAX_SHEET_PAGES: Final = 96
SHEET_THUMB_PX: Final = (700, 460)


@dataclass(frozen=True)
class PageOutput:
    """What a digitized page gave."""

    csv: str
    layout: str  # what it was read as
    rhythm: str | None  # the lead that spans all of the page
    windows_s: Mapping[str, tuple[float, float]]  # where each lead begins and ends
    mm_per_s: float
    mm_per_mv: float
    einthoven_mv: float | None  # see Digitization
    verdict: str  # "ok", "check" or "reject", see Recording
    doubts: tuple[str, ...]
    quality: Mapping[str, float]  # lead -> probability that it is right, see quality.py


@dataclass(frozen=True)
class BatchReport:
    """What became of a batch, written as run_report.json."""

    outputs: Mapping[str, PageOutput]  # by picture, in the order given
    failures: tuple[Failure, ...]
    elapsed_s: float
    timings_s: Mapping[str, float]  # stage -> seconds a digitized page, mean
    overrides: Overrides = NO_OVERRIDES
    engine: str = "torch"  # what ran the networks

    def to_json(self) -> str:
        """Return the report as indented JSON."""
        document = {
            "pages": len(self.outputs) + len(self.failures),
            "digitized": len(self.outputs),
            "elapsed_s": round(self.elapsed_s, 3),
            "timings_s": {stage: round(value, 4) for stage, value in self.timings_s.items()},
            "overrides": self.overrides.to_json(),
            "engine": self.engine,
            "outputs": {source: vars(output) for source, output in self.outputs.items()},
            "failures": [asdict(failure) for failure in self.failures],
        }
        return json.dumps(document, indent=2) + "\n"

    def doubts(self) -> dict[str, tuple[str, ...]]:
        """Return what speaks against the readings, picture by picture, where something does."""
        return {source: one.doubts for source, one in self.outputs.items() if one.doubts}


def find_pages(paths: Iterable[str | Path]) -> list[Path]:
    """Expand files and folders to pictures, leaving out overlays that an earlier run left there.

    Raises:
        InputError: A folder holds no picture.
    """
    named = [Path(path) for path in paths]
    found = find_images(named)
    return [path for path in found if path in named or not path.name.endswith(OVERLAY_SUFFIX)]


def digitize_into(
    out: Path,
    sources: Sequence[Path],
    models: Models,
    *,
    fs_hz: float = 500.0,
    overrides: Overrides = NO_OVERRIDES,
    overlay: bool = True,
    sheet: Path | None = None,
    progress: Callable[[Path, Failure | None], None] | None = None,
) -> BatchReport:
    """Digitize pictures into a folder; a page that fails is reported and the others go on.

    Args:
        out: Folder for NAME.csv, NAME.overlay.png and run_report.json, made if need be.
        sources: Picture files.
        models: See `models.load_models`.
        fs_hz: Samples a second of the tables.
        overrides: What is told of all pages, whatever they show.
        overlay: Draw the decoded trace on each picture.
        sheet: PNG for the first overlays, all on one sheet.
        progress: Called after each picture with its path and, if it failed, why.

    Returns:
        The report, which was also written.

    Raises:
        InputError: The folder cannot be made.
    """
    began = time.monotonic()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be the output folder ({error}); name another") from error
    outputs: dict[str, PageOutput] = {}
    thumbs: list[tuple[str, Image]] = []
    failures: list[Failure] = []
    seconds: defaultdict[str, float] = defaultdict(float)
    pages = ordered_map(_read, sources, workers=2)
    for source, name, page in zip(sources, output_names(sources), pages, strict=True):
        result: Digitization | Failure
        if isinstance(page, Failure):
            result = page
        else:
            result = attempt_page(page, models, fs_hz=fs_hz, overrides=overrides)
        if isinstance(page, Page) and isinstance(result, Digitization):
            drawn = draw_overlay(page, result) if overlay or sheet else None
            result = _write(result, out, name, drawn if overlay else None)
            if drawn is not None and isinstance(result, Digitization):
                thumbs.append((_caption(name, result), thumbnail(drawn, size_px=SHEET_THUMB_PX)))
                del thumbs[MAX_SHEET_PAGES:]
        failure = result if isinstance(result, Failure) else None
        if isinstance(result, Digitization):
            apart_mv = result.einthoven_mv
            outputs[str(source)] = PageOutput(
                csv=str(out / f"{name}.csv"),
                layout=result.recording.layout.name,
                rhythm=result.recording.rhythm,
                windows_s=_windows_s(result.recording.layout),
                mm_per_s=result.recording.layout.mm_per_s,
                mm_per_mv=result.recording.layout.mm_per_mv,
                einthoven_mv=round(apart_mv, 4) if np.isfinite(apart_mv) else None,
                verdict=result.recording.verdict,
                doubts=result.doubts,
                quality=_quality(result.recording),
            )
            for stage, value in result.timings_s.items():
                seconds[stage] += value
        if failure is not None:
            failures.append(failure)
        if progress is not None:
            progress(source, failure)
    report = BatchReport(
        outputs=outputs,
        failures=tuple(failures),
        elapsed_s=time.monotonic() - began,
        timings_s={stage: total / len(outputs) for stage, total in seconds.items()},
        overrides=overrides,
        engine=models.engine,
    )
    if sheet is not None and thumbs:
        save_png(sheet, contact_sheet(thumbs))
    with replacing(out / REPORT_NAME) as partial:
        partial.write_text(report.to_json(), encoding="utf-8")
    return report


def output_names(sources: Iterable[Path]) -> list[str]:
    """Name each picture's outputs: its own name without suffix, numbered where that is taken.

    Upper and lower case count as equal, as they do on the file systems of Windows and macOS.
    """
    taken: set[str] = set()
    names = []
    for source in sources:
        name, number = source.stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{source.stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _read(source: Path) -> Page | Failure:
    return attempt(lambda: read_image(source), str(source))


def _windows_s(layout: Layout) -> dict[str, tuple[float, float]]:
    segments = ((lead, layout.segment(lead)) for lead in layout.leads)
    return {lead: (round(one.start_s, 4), round(one.stop_s, 4)) for lead, one in segments}


def _quality(recording: Recording) -> dict[str, float]:
    if recording.quality is None:
        return {}
    pairs = zip(LEADS, recording.quality, strict=True)
    return {lead: round(float(right), 3) for lead, right in pairs if np.isfinite(right)}


def _caption(name: str, result: Digitization) -> str:
    strip = f"strip {result.recording.rhythm}  I - II + III {result.einthoven_mv:.3f} mV"
    return f"{name}  {result.recording.verdict}  {strip}"


def _write(
    result: Digitization, out: Path, name: str, drawn: Image | None
) -> Digitization | Failure:
    try:
        write_csv(result.recording, out / f"{name}.csv")
        if drawn is not None:
            save_png(out / f"{name}{OVERLAY_SUFFIX}", drawn)
    except (OSError, InputError) as error:
        return Failure(result.source, "write", f"{error}; free space or name another folder")
    return result
