"""Pages from files, one or many: what goes wrong with one is told and never ends a batch."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from ecg_digitize.errors import InputError, StageError
from ecg_digitize.failures import attempt
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.inputs import Source, name_of, read_page
from ecg_digitize.layout import COMPETITION
from ecg_digitize.layouts import Family
from ecg_digitize.models import Models, load_models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.sheet.marked import marked_sheet
from ecg_digitize.sheet.marks import Marks
from ecg_digitize.types import Digitization, Failure, Page

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def digitize(
    source: Source,
    *,
    page_number: int | None = None,
    fs_hz: float = TRACE_FS_HZ,
    models: Models | None = None,
) -> Digitization:
    """Digitize one page.

        digitize("photo.heic")
        digitize("scans.pdf", page_number=2)
        digitize(response.content)
        digitize(sys.stdin.buffer)
        digitize(cv2.imread("page.png")[..., ::-1])

    Args:
        source: A file, its bytes, a binary stream of these, or an array of RGB; see
            ``inputs.read_page``.
        page_number: Which page of a PDF or TIFF, from 1; None: the first, and the doubts say if
            there are others.
        fs_hz: Samples a second wanted.
        models: See load_models; None loads them, which takes a second or two each time.

    Raises:
        ImageError: If it cannot be read.
        StageError: If it cannot be digitized.
        WeightsError: If no models are given and the weights cannot be loaded.
    """
    page = read_page(source, page_number=page_number)
    return digitize_page(page, models or load_models(), fs_hz=fs_hz)


def digitize_many(
    sources: Iterable[Source], models: Models, *, fs_hz: float = TRACE_FS_HZ, workers: int = 2
) -> Iterator[Digitization | Failure]:
    """Digitize pages in order; reading the next overlaps the networks. Failures are yielded.

        digitize_many(["a.png", "b.heic"], models)
        digitize_many(pages_of("scans.pdf"), models)

    Args:
        sources: As ``inputs.read_page`` takes them; ``inputs.pages_of`` lists the pages of a file.
        models: See load_models.
        fs_hz: Samples a second wanted.
        workers: Threads that read ahead.
    """

    def read(source: Source) -> Page | Failure:
        return attempt(lambda: read_page(source), name_of(source))

    for page in ordered_map(read, sources, workers=workers):
        if isinstance(page, Failure):
            yield page
        else:
            work = partial(digitize_told, page, models, fs_hz=fs_hz)
            yield attempt(work, page.source)


SPEED_RANGE_MM_PER_S: Final = (1, 500)
"""The slowest and the fastest paper speed that may be told. Slower, a row would be minutes long."""
GAIN_RANGE_MM_PER_MV: Final = (0.5, 200)
"""The smallest and the largest gain that may be told."""


@dataclass(frozen=True)
class Overrides:
    """What somebody tells of a page, or of all pages of a batch; None asks each page."""

    sheet: Family | Marks | None = None
    mm_per_s: float | None = None
    mm_per_mv: float | None = None

    def __post_init__(self) -> None:
        """Check that a sheet can be so.

        Raises:
            InputError: No machine prints so.
        """
        for value, (least, most), what in (
            (self.mm_per_s, SPEED_RANGE_MM_PER_S, "a paper speed of {} to {} mm/s"),
            (self.mm_per_mv, GAIN_RANGE_MM_PER_MV, "a gain of {} to {} mm/mV"),
        ):
            if value is not None and not least <= value <= most:
                raise InputError(f"expected {what.format(least, most)}, but got {value:g}")

    def to_json(self) -> dict[str, Any]:
        """Return those that are given."""
        told = {"mm_per_s": self.mm_per_s, "mm_per_mv": self.mm_per_mv}
        given: dict[str, Any] = {k: v for k, v in told.items() if v is not None}
        if isinstance(self.sheet, Marks):
            given["marks"] = self.sheet.to_json()
        elif self.sheet is not None:
            given["layout"] = self.sheet.full_name
        return given


NO_OVERRIDES: Final = Overrides()
_LIKE_THE_COMPETITIONS: Final = COMPETITION.name.partition("+")[0]


def digitize_told(
    page: Page, models: Models, *, fs_hz: float, overrides: Overrides = NO_OVERRIDES
) -> Digitization:
    """Digitize a page of which somebody told something, see ``digitize_page``.

    The competition's sheet is a 3x4, too, and is read best as what it is: a page of which 3x4 is
    told is read as if nothing were, if that gives a 3x4.
    """
    read = partial(
        digitize_page,
        page,
        models,
        fs_hz=fs_hz,
        mm_per_s=overrides.mm_per_s,
        mm_per_mv=overrides.mm_per_mv,
    )
    told = overrides.sheet
    if isinstance(told, Marks):
        return read(layout=marked_sheet(page, told, models))
    if told is not None and told.name == _LIKE_THE_COMPETITIONS:
        with suppress(StageError):
            asked = read(layout=None)
            if asked.recording.layout.name.partition("+")[0] == told.name:
                return asked
    return read(layout=told)


def ordered_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int
) -> Iterator[_Result]:
    """Map over a thread pool, in order, at most 2 * workers items begun and not yet taken."""
    source = iter(items)
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = deque(pool.submit(function, i) for i in itertools.islice(source, 2 * workers))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, i) for i in itertools.islice(source, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
