"""What the competition asks for: test.csv, its pictures, and where Kaggle mounts them."""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecg_digitize.errors import InputError
from ecg_digitize.files import input_root, mounted_folders
from ecg_digitize.image import SUFFIXES
from ecg_digitize.layout import LEADS

SLUG: Final = "physionet-ecg-image-digitization"


@dataclass(frozen=True)
class TestRow:
    """One line of test.csv: a lead of a page and how many samples of it are wanted."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    image_id: str
    lead: str
    fs_hz: float
    n_samples: int


@dataclass(frozen=True)
class PageRequest:
    """What test.csv wants of one picture."""

    image_id: str
    fs_hz: float
    lengths: Mapping[str, int]  # samples a lead


@dataclass(frozen=True)
class Competition:
    """Where the competition's files lie."""

    test_csv: Path
    images: Path  # folder of the pictures


def find_competition(*, test_csv: Path | None = None, images: Path | None = None) -> Competition:
    """Return where test.csv and the pictures are: the arguments, or Kaggle's mounts.

    Args:
        test_csv: The table; None looks in the old and the new mount of the competition.
        images: Folder of the pictures; None is the folder `test` beside the table.

    Raises:
        InputError: If either is not there.
    """
    if test_csv is None:
        folders = mounted_folders(SLUG, kind="competitions")
        tables = [path for folder in folders if (path := folder / "test.csv").is_file()]
        if not tables:
            raise InputError(
                f"test.csv: not found in a mount of {SLUG} below {input_root()}; add the "
                "competition to the notebook's input or give --test-csv"
            )
        test_csv = tables[0]
    images = images or test_csv.parent / "test"
    for path, there in ((test_csv, test_csv.is_file()), (images, images.is_dir())):
        if not there:
            raise InputError(f"{path}: does not exist; check --test-csv and --images")
    return Competition(test_csv, images)


def read_test_table(path: Path) -> list[TestRow]:
    """Read test.csv, all ids as text: 007 stays 007.

    Args:
        path: Table with the columns id, lead, fs, number_of_rows.

    Raises:
        InputError: If a column or value is missing or makes no sense, naming the line.
    """
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        wanted = ("id", "lead", "fs", "number_of_rows")
        if missing := [name for name in wanted if name not in (reader.fieldnames or ())]:
            raise InputError(f"{path}: no column {missing[0]!r}, expected {', '.join(wanted)}")
        rows = []
        for record in reader:
            try:
                fs_hz, n_samples = float(record["fs"]), float(record["number_of_rows"])
                if not (
                    math.isfinite(fs_hz) and fs_hz > 0 and n_samples >= 0 and n_samples % 1 == 0
                ):
                    raise ValueError(f"fs {fs_hz}, number_of_rows {n_samples}")
                if record["lead"] not in LEADS or not record["id"]:
                    raise ValueError(f"id {record['id']!r}, lead {record['lead']!r}")
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"{path}: line {reader.line_num}: expected an id, a lead of "
                    f"{' '.join(LEADS)}, fs > 0 and a whole number_of_rows, but got {error}"
                ) from error
            rows.append(TestRow(record["id"], record["lead"], fs_hz, int(n_samples)))
    return rows


def page_requests(rows: Iterable[TestRow]) -> dict[str, PageRequest]:
    """Gather the rows of each picture, in order of first appearance.

    Raises:
        InputError: If a lead is asked twice of a picture, or with two sampling rates.
    """
    requests: dict[str, PageRequest] = {}
    for row in rows:
        known = requests.get(row.image_id) or PageRequest(row.image_id, row.fs_hz, {})
        if row.lead in known.lengths or row.fs_hz != known.fs_hz:
            raise InputError(
                f"test.csv: image {row.image_id}: lead {row.lead} is repeated or its fs "
                f"{row.fs_hz} differs from {known.fs_hz}; expected each lead once, at one fs"
            )
        lengths = {**known.lengths, row.lead: row.n_samples}
        requests[row.image_id] = PageRequest(row.image_id, row.fs_hz, lengths)
    return requests


def index_images(folder: Path) -> dict[str, Path]:
    """Return the pictures of a folder by file name without suffix; PNG before other kinds."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    found.sort(key=lambda path: SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {path.stem: path for path in found}
