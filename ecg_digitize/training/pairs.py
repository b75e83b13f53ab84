"""The table of pictures to score: each beside its true signals or a clean picture of the record."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecg_digitize.errors import InputError
from ecg_digitize.formats.csv import read_csv
from ecg_digitize.layout import COMPETITION
from ecg_digitize.types import Recording

log = logging.getLogger(__name__)
_COLUMNS = ("image", "fs", "kind")
_TRUTHS = ("truth", "reference")


@dataclass(frozen=True)
class Pair:
    """A picture and what tells its true signals."""

    where: str  # for messages
    image: str  # as the table has it
    image_path: Path
    truth_path: Path
    is_reference: bool  # the truth is a picture
    fs_hz: float
    kind: str


def read_pairs(paired_csv: Path) -> list[Pair]:
    """Read the table of pictures that `evaluate` takes.

    Args:
        paired_csv: Table with the columns image, fs (Hz), kind, and truth or reference or both;
            paths are relative to its folder. Each row has either a truth or a reference.

    Returns:
        The rows, at least one. Their truths and references exist.

    Raises:
        InputError: There is no such table, or a row cannot be used.
    """
    names = {"image": str, "kind": str, **dict.fromkeys(_TRUTHS, str)}
    try:
        table = pd.read_csv(paired_csv, dtype=names)
    except (OSError, ValueError) as error:
        raise InputError(f"{paired_csv}: expected a table of pictures: {error}") from error
    missing = [column for column in _COLUMNS if column not in table.columns]
    if missing or len(table) == 0 or not set(_TRUTHS) & set(table.columns):
        raise InputError(
            f"{paired_csv}: expected the columns {', '.join(_COLUMNS)}, {' or '.join(_TRUTHS)}, "
            f"and at least one row, but got {', '.join(map(str, table.columns))} "
            f"and {len(table)} rows"
        )
    return [_pair_of(paired_csv, n, row) for n, row in enumerate(table.to_dict("records"), 1)]


def _pair_of(paired_csv: Path, number: int, row: Mapping[str, Any]) -> Pair:
    where = f"{paired_csv}, row {number} ({row['image']})"
    given = [name for name in _TRUTHS if isinstance(row.get(name), str)]  # an empty cell is NaN
    if len(given) != 1:
        raise InputError(
            f"{where}: expected either a truth or a reference, but got "
            f"{' and '.join(given) or 'neither'}; give the csv of its signals as truth, or a clean "
            f"picture of the same record as reference"
        )
    truth_path = paired_csv.parent / row[given[0]]
    if not truth_path.is_file():
        raise InputError(
            f"{where}: expected the {given[0]} {truth_path}, but there is no such file; "
            f"paths are relative to the table"
        )
    return Pair(
        where=where,
        image=str(row["image"]),
        image_path=paired_csv.parent / str(row["image"]),
        truth_path=truth_path,
        is_reference=given == ["reference"],
        fs_hz=float(row["fs"]),
        kind=str(row["kind"]),
    )


def check_truths(pairs: Iterable[Pair]) -> None:
    """Read each csv of true signals once, so that one that cannot be used is named at once.

    Raises:
        InputError: A truth cannot be read, or has no sample in any lead.
    """
    truths = ((pair.truth_path, pair.fs_hz) for pair in pairs if not pair.is_reference)
    for path, fs_hz in dict.fromkeys(truths):
        truth = read_csv(path, fs_hz=fs_hz, any_length=True)
        if not np.isfinite(truth.signals_mv).any():
            raise InputError(f"{path}: expected samples in one lead at least, but all are empty")
        duration_s = truth.layout.duration_s
        if duration_s != COMPETITION.duration_s:
            log.warning(
                "%s: %d rows are %g s at %g Hz, not ten; pages are compared over these",
                path, truth.signals_mv.shape[1], duration_s, fs_hz,
            )  # fmt: skip


def truths_of(
    pairs: Iterable[Pair], digitize: Callable[[Path, float], Recording]
) -> Iterator[Recording]:
    """Read each pair's truth when its turn comes; digitize each reference once.

    Args:
        pairs: Whose truths.
        digitize: Called with a reference's path and the wanted sampling rate.

    Raises:
        InputError: A truth cannot be used, or a reference cannot be digitized.
    """
    references: dict[tuple[Path, float], Recording] = {}
    for pair in pairs:
        if not pair.is_reference:
            yield read_csv(pair.truth_path, fs_hz=pair.fs_hz, any_length=True)
            continue
        key = (pair.truth_path, pair.fs_hz)
        if key not in references:
            try:
                references[key] = digitize(*key)
            except Exception as error:  # whatever it is, the row must be named
                raise InputError(
                    f"{pair.where}: expected a reference that can be digitized, but "
                    f"{pair.truth_path} gave {type(error).__name__}: {error}; "
                    "give a cleaner picture, or a truth"
                ) from error
        yield references[key]
