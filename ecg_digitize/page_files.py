"""One picture -> its signals and its overlay; what a worker does for the command `digitize`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecg_digitize.engine.seats import Seat
from ecg_digitize.engine.spare import WithSpare
from ecg_digitize.errors import InputError
from ecg_digitize.failures import attempt
from ecg_digitize.files import sha256_of
from ecg_digitize.formats.description import Provenance, quality_of, windows_s
from ecg_digitize.formats.writers import CSV, WRITERS, files_of
from ecg_digitize.inputs import PageRef, read_page
from ecg_digitize.many import NO_OVERRIDES, Overrides, digitize_told
from ecg_digitize.measures import measure
from ecg_digitize.models import BEST, TORCH, Models
from ecg_digitize.openvino import spare_by
from ecg_digitize.render.overlay import draw_overlay, save_png
from ecg_digitize.render.sheet import thumbnail
from ecg_digitize.report.view import PageView, view_page
from ecg_digitize.runtime import Clock
from ecg_digitize.types import Digitization, Failure, Image

OVERLAY_SUFFIX: Final = ".overlay.png"
SHEET_THUMB_PX: Final = (700, 460)


@dataclass(frozen=True)
class Picture:
    """A page that is to be read."""

    source: Path
    name: str  # of its outputs below the folder, without suffix
    page_number: int | None = None  # of the file, from 1; None: it has one page
    called: str | None = None  # what messages call the file; None: its path

    @property
    def page(self) -> PageRef:
        """What ``read_page`` reads."""
        return PageRef(self.source, self.page_number, self.called)


@dataclass(frozen=True)
class PageOutput:
    """What a digitized page gave; all of it can be written as JSON."""

    files: Mapping[str, tuple[str, ...]]  # format -> what was written, see formats/writers.py
    layout: str  # what it was read as
    rhythm: str | None  # the lead that spans all of the page
    windows_s: Mapping[str, tuple[float, float]]  # where each lead begins and ends
    mm_per_s: float
    mm_per_mv: float
    einthoven_mv: float | None  # see Digitization
    verdict: str  # "ok", "check" or "reject", see Recording
    doubts: tuple[str, ...]
    quality: Mapping[str, float]  # lead -> probability that it is right, see quality.py
    measures: Mapping[str, Any] | None = None  # see Measures.to_json; None: nobody asked
    by_lines: float = 0.0  # share of the signals that was read from vector lines of a PDF


@dataclass(frozen=True)
class PageDone:
    """A page whose files are written."""

    output: PageOutput
    timings_s: Mapping[str, float]  # stage -> seconds
    picture_sha256: str
    thumb: Image | None  # the overlay, small, if a contact sheet is wanted
    view: PageView | None = None  # what report.html shows of it, if that is wanted


Write = Callable[[Picture], PageDone | Failure]


@dataclass(frozen=True)
class Writing:
    """Prepares a worker, see ``engine.workers.Make``."""

    out: Path
    weights_dir: Path | None = None
    preset: str = BEST
    backend: str = TORCH
    fs_hz: float = 500.0
    overrides: Overrides = NO_OVERRIDES
    formats: tuple[str, ...] = (CSV,)  # of WRITERS
    overlay: bool = True
    thumbs: bool = False
    views: bool = False  # for report.html
    measure: bool = False  # see measures; needs neurokit2

    def __call__(self, seat: Seat) -> Write:
        """Load the networks and return what writes the files of one picture.

        Raises:
            WeightsError: If the weights are missing or altered.
        """
        spare = spare_by(
            self.backend, seat.device, weights_dir=self.weights_dir, preset=self.preset
        )
        return lambda picture: self.write(picture, spare)

    def files(self, picture: Picture) -> dict[str, tuple[Path, ...]]:
        """Return the files of a picture's signals, format by format."""
        return files_of(self.formats, self.out / picture.name)

    def overlay_file(self, picture: Picture) -> Path:
        """Return the file of a picture's overlay."""
        return self.out / f"{picture.name}{OVERLAY_SUFFIX}"

    def write(self, picture: Picture, spare: WithSpare) -> PageDone | Failure:
        """Read a picture, digitize it and write its files; what goes wrong is told."""
        return attempt(lambda: self._write(picture, spare), picture.page.label)

    def _write(self, picture: Picture, spare: WithSpare) -> PageDone | Failure:
        clock = Clock()
        page = read_page(picture.page)
        picture_sha256 = sha256_of(picture.source)
        clock.lap("read")

        def work(models: Models) -> Digitization:
            return digitize_told(page, models, fs_hz=self.fs_hz, overrides=self.overrides)

        result = spare(work)
        clock.lap("digitize")
        is_drawn = self.overlay or self.thumbs or self.views
        drawn = draw_overlay(page, result) if is_drawn else None
        told = {"preset": self.preset, "backend": self.backend, "fs_hz": self.fs_hz}
        provenance = Provenance.of_now(
            picture.source,
            name=Path(picture.page.label).name,
            picture_sha256=picture_sha256,
            options={**told, **self.overrides.to_json()},
            weights_dir=self.weights_dir,
        )
        try:
            for name in self.formats:
                WRITERS[name].write(result.recording, self.out / picture.name, provenance)
            if self.overlay and drawn is not None:
                save_png(self.overlay_file(picture), drawn)
        except OSError as error:
            why = f"{error}; free space or name another folder"
            return Failure(picture.page.label, "write", why)
        except InputError as error:  # what a format cannot hold
            return Failure(picture.page.label, "write", str(error))
        view = None if drawn is None else self._view(picture, result, drawn)
        clock.lap("write")
        laps_s = clock.laps_s
        read_s, write_s = laps_s["read"], laps_s["write"]
        shown = drawn if self.thumbs else None
        return PageDone(
            output=_output(result, self.files(picture), measured=self.measure),
            timings_s={"read": read_s, **result.timings_s, "write": write_s},
            picture_sha256=picture_sha256,
            thumb=None if shown is None else thumbnail(shown, size_px=SHEET_THUMB_PX),
            view=view,
        )

    def _view(self, picture: Picture, result: Digitization, drawn: Image) -> PageView | None:
        if not self.views:
            return None
        files = [path for paths in self.files(picture).values() for path in paths]
        overlay = self.overlay_file(picture) if self.overlay else None
        beside = [*files, *([overlay] if overlay else [])]
        return view_page(
            picture.name,
            result,
            drawn,
            files=tuple(path.relative_to(self.out).as_posix() for path in beside),
            overlay_file=None if overlay is None else overlay.relative_to(self.out).as_posix(),
        )


def caption(name: str, output: PageOutput) -> str:
    """Return what stands below a page on a contact sheet."""
    apart_mv = np.nan if output.einthoven_mv is None else output.einthoven_mv
    return f"{name}  {output.verdict}  strip {output.rhythm}  I - II + III {apart_mv:.3f} mV"


def _output(
    result: Digitization, files: Mapping[str, tuple[Path, ...]], *, measured: bool
) -> PageOutput:
    recording, apart_mv = result.recording, result.einthoven_mv
    return PageOutput(
        files={name: tuple(map(str, paths)) for name, paths in files.items()},
        layout=recording.layout.name,
        rhythm=recording.rhythm,
        windows_s=windows_s(recording.layout),
        mm_per_s=recording.layout.mm_per_s,
        mm_per_mv=recording.layout.mm_per_mv,
        einthoven_mv=round(apart_mv, 4) if np.isfinite(apart_mv) else None,
        verdict=recording.verdict,
        doubts=result.doubts,
        quality=quality_of(recording),
        measures=measure(recording).to_json() if measured else None,
        by_lines=round(recording.by_lines, 4),
    )
