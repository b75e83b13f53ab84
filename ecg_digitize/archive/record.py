"""One picture -> one row; what a worker does for the command `digitize-many`."""

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ecg_digitize.archive.cloud import local_file
from ecg_digitize.archive.manifest import Task
from ecg_digitize.engine.seats import Seat
from ecg_digitize.engine.spare import WithSpare, load_on
from ecg_digitize.engine.store import Stored
from ecg_digitize.engine.workers import Lost
from ecg_digitize.errors import ImageError
from ecg_digitize.files import sha256_of
from ecg_digitize.image import read_image
from ecg_digitize.layout import LEADS
from ecg_digitize.many import NO_OVERRIDES, Overrides, attempt, digitize_told
from ecg_digitize.models import BEST
from ecg_digitize.types import Digitization, Failure, Float32

FAILED: Final = "failed"
_MEMORY_PLACE: Final = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class LeadSignal:
    """A lead's printed window."""

    start_s: float  # of the first sample, from the first of the page
    quality: float  # probability that it is right, see quality.py; NaN if that is not known
    mv: Float32  # (n,) NaN where the picture does not show it


@dataclass(frozen=True)
class Row:
    """What one page gave. All but the signals can be written as JSON."""

    status: str  # "ok", "check" or "reject" as the verdict of a Recording; or FAILED
    picture_sha256: str | None = None  # None if there is no such file
    doubts: tuple[str, ...] = ()
    layout: str | None = None  # what it was read as
    rhythm: str | None = None  # the lead that spans all of the page
    mm_per_s: float | None = None
    mm_per_mv: float | None = None
    fs_hz: float | None = None
    einthoven_mv: float | None = None  # see Digitization
    error_stage: str | None = None  # see Failure; "worker" if the process that read it died
    error: str | None = None
    leads: Mapping[str, LeadSignal] = field(default_factory=dict)  # those that are printed

    def to_meta(self) -> dict[str, Any]:
        """Return all but the samples, as what JSON can hold."""
        leads = {lead: (one.start_s, one.quality) for lead, one in self.leads.items()}
        return {**asdict(replace(self, leads={})), "leads": leads}

    @classmethod
    def from_stored(cls, stored: Stored) -> "Row":
        """Return a row that was kept by ``to_meta`` and its samples."""
        meta = dict(stored.meta)
        leads = {
            lead: LeadSignal(start_s, quality, stored.arrays[lead])
            for lead, (start_s, quality) in meta.pop("leads").items()
        }
        return cls(**{**meta, "doubts": tuple(meta["doubts"])}, leads=leads)


Read = Callable[[Task], Row]


@dataclass(frozen=True)
class Reading:
    """Prepares a worker, see ``engine.workers.Make``."""

    weights_dir: Path | None = None
    preset: str = BEST
    fs_hz: float = 500.0
    overrides: Overrides = NO_OVERRIDES

    def __call__(self, seat: Seat) -> Read:
        """Load the networks and return what reads one page.

        Raises:
            WeightsError: If the weights are missing or altered.
        """
        load = functools.partial(load_on, weights_dir=self.weights_dir, preset=self.preset)
        spare = WithSpare(load(seat.device), lambda: load("cpu"))
        return lambda task: self.read(task, spare)

    def read(self, task: Task, spare: WithSpare) -> Row:
        """Read a page and digitize it; what goes wrong is told in the row."""
        picture_sha256 = None
        try:
            with local_file(task.source) as path:
                if path.is_file():
                    picture_sha256 = sha256_of(path)
                page = attempt(lambda: read_image(path), str(path))
        except (ImageError, OSError) as error:
            return failed_row(Failure(task.source, "read", str(error)), task)
        if isinstance(page, Failure):
            return failed_row(page, task, picture_sha256=picture_sha256)
        result = attempt(
            lambda: spare(
                lambda models: digitize_told(
                    page, models, fs_hz=self.fs_hz, overrides=self.overrides
                )
            ),
            str(path),
        )
        if isinstance(result, Failure):
            return failed_row(result, task, picture_sha256=picture_sha256)
        return row_of(result, picture_sha256=picture_sha256)


def row_of(result: Digitization, *, picture_sha256: str | None) -> Row:
    """Return the row of a page that was digitized."""
    recording, apart_mv = result.recording, result.einthoven_mv
    layout = recording.layout
    leads = {}
    for lead in layout.leads:
        index = LEADS.index(lead)
        start, stop = layout.window(lead, recording.signals_mv.shape[1])
        quality = math.nan if recording.quality is None else float(recording.quality[index])
        mv = recording.signals_mv[index, start:stop]
        leads[lead] = LeadSignal(start / recording.fs_hz, quality, mv)
    return Row(
        status=recording.verdict,
        picture_sha256=picture_sha256,
        doubts=result.doubts,
        layout=layout.name,
        rhythm=recording.rhythm,
        mm_per_s=layout.mm_per_s,
        mm_per_mv=layout.mm_per_mv,
        fs_hz=recording.fs_hz,
        einthoven_mv=float(apart_mv) if math.isfinite(apart_mv) else None,
        leads=leads,
    )


def failed_row(failure: Failure, task: Task, *, picture_sha256: str | None = None) -> Row:
    """Return the row of a page that failed; equal pages give equal texts on all machines."""
    error = failure.error.replace(failure.source, task.path).replace(task.source, task.path)
    return Row(
        status=FAILED,
        picture_sha256=picture_sha256,
        error_stage=failure.stage,
        error=_MEMORY_PLACE.sub("", error),
    )


def row_from(result: Row | Lost, task: Task) -> Row:
    """Return a worker's row, or that of a page whose worker died."""
    if isinstance(result, Row):
        return result
    return failed_row(Failure(task.path, "worker", result.why), task)
