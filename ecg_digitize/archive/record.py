"""One picture -> one row; what a worker does for the command `digitize-many`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ecg_digitize.archive.cloud import local_file
from ecg_digitize.archive.rows import LeadSignal, Row, Task, failed_row
from ecg_digitize.engine.seats import Seat
from ecg_digitize.engine.spare import WithSpare
from ecg_digitize.errors import ImageError
from ecg_digitize.failures import attempt
from ecg_digitize.files import sha256_of
from ecg_digitize.inputs import read_page
from ecg_digitize.layout import LEADS
from ecg_digitize.many import NO_OVERRIDES, Overrides, digitize_told
from ecg_digitize.models import BEST, TORCH
from ecg_digitize.openvino import spare_by
from ecg_digitize.types import Digitization, Failure

Read = Callable[[Task], Row]


@dataclass(frozen=True)
class Reading:
    """Prepares a worker, see ``engine.workers.Make``."""

    weights_dir: Path | None = None
    preset: str = BEST
    backend: str = TORCH
    fs_hz: float = 500.0
    overrides: Overrides = NO_OVERRIDES

    def __call__(self, seat: Seat) -> Read:
        """Load the networks and return what reads one page.

        Raises:
            WeightsError: If the weights are missing or altered.
        """
        spare = spare_by(
            self.backend, seat.device, weights_dir=self.weights_dir, preset=self.preset
        )
        return lambda task: self.read(task, spare)

    def read(self, task: Task, spare: WithSpare) -> Row:
        """Read a page and digitize it; what goes wrong is told in the row."""
        picture_sha256 = None
        try:
            with local_file(task.source) as path:
                if path.is_file():
                    picture_sha256 = sha256_of(path)
                page = attempt(lambda: read_page(path, page_number=task.page_number), str(path))
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
