"""What is asked of a worker, a page, and what it answers, a row."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from ecg_digitize.engine.store import Stored
from ecg_digitize.engine.workers import Lost
from ecg_digitize.types import Failure, Float32

FAILED: Final = "failed"
_MEMORY_PLACE: Final = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class Task:
    """A page that is to be read."""

    number: int  # its place in the list, from 0
    path: str  # as the list names it
    source: str  # where it lies: a file or an address
    page_number: int | None = None  # of the file, from 1; None: the first


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
