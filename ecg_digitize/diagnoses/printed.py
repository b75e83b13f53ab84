"""Print records as synthetic pages, digitize these, and keep what was read to train on."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg_digitize.diagnoses.inputs import N_SAMPLES, at_input_rate
from ecg_digitize.diagnoses.records import OneRecord, Record
from ecg_digitize.errors import InputError
from ecg_digitize.failures import attempt
from ecg_digitize.files import replacing
from ecg_digitize.layout import LEADS
from ecg_digitize.models import Models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.synth.dataset import make_page
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.types import Failure, Float64, Page

log = logging.getLogger(__name__)

SAVE_EVERY: Final = 20  # pages


@dataclass(frozen=True)
class Readings:
    """What was read of pages."""

    ids: tuple[str, ...]  # of the record on each page; "" where the page could not be read
    leads_mv: NDArray[np.float16]  # (pages, 12, 1000) mV at inputs.FS_HZ, NaN where nothing is

    @cached_property
    def _pages(self) -> dict[str, list[int]]:
        pages: dict[str, list[int]] = {}
        for page, name in enumerate(self.ids):
            pages.setdefault(name, []).append(page)
        return pages

    def of(self, record_id: str) -> tuple[Float64, ...]:
        """Return what was read of a record's pages, each (12, 1000) mV."""
        pages = self._pages.get(record_id, [])
        return tuple(self.leads_mv[page].astype(np.float64) for page in pages)


def read_readings(path: Path) -> Readings:
    """Read what ``print_and_read`` kept.

    Raises:
        InputError: The file is missing or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            return Readings(tuple(kept["ids"].tolist()), kept["leads_mv"])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: expected readings of printed records (npz with ids, leads_mv), but got "
            f"{error}; make them with `ecg-digitize print-and-read`"
        ) from error


def print_and_read(
    path: Path,
    source: SignalSource,
    records: tuple[Record, ...],
    models: Models,
    *,
    pages: int,
    seed: int,
    progress: Callable[[], None] | None = None,
) -> Readings:
    """Print records in a random order, each on a page of any kind, and read the pages.

    What an earlier call left in the file is taken as done.

    Args:
        path: The npz file.
        source: Of the records.
        records: Those to print, in turn; only such as may be learned from.
        models: What reads the pages.
        pages: How many there are to be in the file.
        seed: Family of the pages.
        progress: Called after each page.

    Raises:
        InputError: The file holds something else, or pages of another seed or other records.
    """
    known = read_readings(path) if path.is_file() else None
    ids = [] if known is None else list(known.ids)
    leads_mv = [] if known is None else list(known.leads_mv)
    for page in range(pages):
        order = np.random.default_rng([seed, page // len(records)]).permutation(len(records))
        record = records[int(order[page % len(records)])]
        if page < len(ids) and ids[page] not in ("", record.id):
            raise InputError(
                f"{path}: expected record {record.id} on page {page}, but it holds {ids[page]}, so "
                "it was made with another seed or of other records; name another file"
            )
        if page >= len(ids):
            read_mv = _read(source, record, models, seed=seed, page=page)
            ids.append("" if read_mv is None else record.id)
            nothing = np.full((len(LEADS), N_SAMPLES), np.nan)
            leads_mv.append((nothing if read_mv is None else read_mv).astype(np.float16))
            if len(ids) % SAVE_EVERY == 0 or page == pages - 1:
                _save(path, Readings(tuple(ids), np.stack(leads_mv)))
        if progress is not None:
            progress()
    return Readings(tuple(ids), np.stack(leads_mv))


def _read(
    source: SignalSource, record: Record, models: Models, *, seed: int, page: int
) -> Float64 | None:
    one = OneRecord(source, record)
    made = make_page(one, seed=seed, index=page, vary_signals=False, max_megapixels=4.0)
    picture = Page(made.image, f"{record.id}, a {made.kind}")
    result = attempt(partial(digitize_page, picture, models), picture.source)
    if isinstance(result, Failure):
        log.warning("%s: %s: %s", result.source, result.stage, result.error)
        return None
    signals_mv = result.recording.signals_mv.astype(np.float64)
    return at_input_rate(signals_mv, fs_hz=result.recording.fs_hz)


def _save(path: Path, readings: Readings) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial_file, partial_file.open("wb") as stream:
        np.savez_compressed(stream, ids=np.array(readings.ids), leads_mv=readings.leads_mv)
