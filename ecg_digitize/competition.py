"""What the competition asks for: test.csv, its pictures, and where Kaggle mounts them."""

import codecs
import csv
import math
import reprlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ecg_digitize.errors import InputError
from ecg_digitize.files import input_root, mounted_folders
from ecg_digitize.image import SUFFIXES
from ecg_digitize.layout import COMPETITION, LEADS

SLUG: Final = "physionet-ecg-image-digitization"
COLUMNS: Final = ("id", "lead", "fs", "number_of_rows")

MIN_FS_HZ: Final = 10.0
"""Below this a QRS complex, a tenth of a second, falls between two samples."""
MAX_FS_HZ: Final = 10_000.0
"""The most we know of a public collection: PTB's are 1 kHz, and up to 10 kHz on request. Resampling
takes memory that grows with the rate: 0.7 GB at 10 kHz, 3.3 GB at 50 kHz."""
MAX_ROWS: Final = round(COMPETITION.duration_s * MAX_FS_HZ)
"""Rows of one line at most: what the ten seconds of a page hold at the greatest rate."""
MAX_NAME_CHARS: Final = 255
"""Of an id, and of a lead: no file name is longer, and each row of the answer repeats both."""


@dataclass(frozen=True)
class TestRow:
    """One line of test.csv: a lead of a page and how many samples of it are wanted."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    image_id: str
    lead: str  # as the table has it: one of LEADS, unless there is a problem
    fs_hz: float  # NaN where the table has no number
    n_samples: int  # 0 to MAX_ROWS
    problem: str | None = None
    """Why the picture is not asked for it; its rows then hold the fallback value."""


@dataclass(frozen=True)
class TestTable:
    """What could be read of test.csv."""

    __test__ = False

    rows: tuple[TestRow, ...]  # in the order of the table; some have a problem
    problems: tuple[str, ...]
    """What is not told by a row: lines left out or changed, and bytes that are not UTF-8."""


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


def read_test_table(path: Path) -> TestTable:
    """Read test.csv, all ids as text: 007 stays 007.

    A bad line costs no other. Each line is read by itself, so that a stray quote does not swallow
    those below it. A row whose lead or fs cannot be asked of a picture is kept with its problem. A
    line that does not say which rows to write is left out and told.

    Args:
        path: Table with the columns id, lead, fs, number_of_rows; UTF-8, UTF-16 with a byte order
            mark, or Windows-1252.

    Returns:
        The rows, each image at one rate, and what else there is to tell.

    Raises:
        InputError: If the file cannot be read, a column is missing, or no line holds a row.
    """
    try:
        lines, problems = _text_lines(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); check --test-csv") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    names: list[str] = []
    if numbered:
        with suppress(csv.Error):
            names = [name.strip() for name in _fields(numbered[0][1])]
    if missing := [name for name in COLUMNS if name not in names]:
        raise InputError(f"{path}: no column {missing[0]!r}, expected {', '.join(COLUMNS)}")
    columns = [names.index(name) for name in COLUMNS]
    rows: list[TestRow] = []
    asked: set[tuple[str, str]] = set()
    for number, line in numbered[1:]:
        try:
            fields = _fields(line)
            row, note = _row(*(fields[at] if at < len(fields) else "" for at in columns))
        except (ValueError, csv.Error) as error:
            problems.append(f"line {number}: left out, {error}")
            continue
        if note is not None:
            problems.append(f"line {number}: {note}")
        if (row.image_id, row.lead) in asked:
            again = f"lead {row.lead} of image {row.image_id} is asked again, and answered again"
            problems.append(f"line {number}: {again}")
        asked.add((row.image_id, row.lead))
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: no line holds a row ({problems[-1] if problems else 'empty'})")
    return TestTable(_at_one_rate(rows), tuple(problems))


def page_requests(rows: Iterable[TestRow]) -> dict[str, PageRequest]:
    """Gather the rows of each picture, in order of first appearance; those with a problem are not.

    Of a lead that is asked twice the greater length counts, which holds the other.
    """
    requests: dict[str, PageRequest] = {}
    for row in rows:
        if row.problem is not None:
            continue
        known = requests.get(row.image_id) or PageRequest(row.image_id, row.fs_hz, {})
        n_samples = max(row.n_samples, known.lengths.get(row.lead, 0))
        requests[row.image_id] = replace(known, lengths={**known.lengths, row.lead: n_samples})
    return requests


def fitting_lengths(request: PageRequest) -> Mapping[str, int] | None:
    """Return the lengths if they are those of a page of ten seconds, else None: the natural ones.

    Where the leads begin follows from the strip's length. One that is not ten seconds long would
    move all the others.
    """
    n_total = request.lengths.get("II", 0)
    fits = abs(n_total - COMPETITION.duration_s * request.fs_hz) <= 1 and all(
        COMPETITION.window(lead, n_total)[0] + request.lengths.get(lead, n_total + 1) <= n_total
        for lead in LEADS
    )
    return request.lengths if fits else None


def index_images(folder: Path) -> dict[str, Path]:
    """Return the pictures of a folder by file name without suffix; PNG before other kinds."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    found.sort(key=lambda path: SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {path.stem: path for path in found}


def _text_lines(data: bytes) -> tuple[list[str], list[str]]:
    """Return the lines of a table, and what is to tell of its bytes.

    Each line has its own encoding: one that is not UTF-8 must not spoil the ids of the others.
    """
    notes = []
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", errors="replace").encode()
        notes.append("the table is UTF-16, expected UTF-8")
    if b"\0" in data:
        data = data.replace(b"\0", b"")
        notes.append("zero bytes were taken out")
    lines, others = [], []
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).splitlines(), 1):
        for encoding in ("utf-8", "cp1252", "latin-1"):  # the last knows every byte
            with suppress(UnicodeDecodeError):
                lines.append(line.decode(encoding))
                break
        if encoding != "utf-8":
            others.append(number)
    if others:
        first = f"line {others[0]}" if len(others) == 1 else f"{len(others)} from line {others[0]}"
        notes.append(f"lines that are not UTF-8 were taken for Windows-1252: {first}")
    return lines, notes


def _fields(line: str) -> list[str]:
    """Split one line.

    Raises:
        csv.Error: If a field is larger than csv allows.
    """
    return next(csv.reader([line]))


def _row(image_id: str, lead: str, fs: str, number_of_rows: str) -> tuple[TestRow, str | None]:
    """Make a row, and a note if fewer rows are made than wanted.

    Raises:
        ValueError: If its rows cannot be written.
    """
    for name, value in (("an id", image_id), ("a lead", lead)):
        if not 0 < len(value) <= MAX_NAME_CHARS:
            raise ValueError(f"expected {name}, but got {reprlib.repr(value)}")
    n_samples, fs_hz = _number(number_of_rows), _number(fs)
    if not (n_samples >= 0 and n_samples % 1 == 0):  # NaN and infinity fail, too
        raise ValueError(f"expected a whole number_of_rows, but got {reprlib.repr(number_of_rows)}")
    problem = note = None
    if n_samples > MAX_ROWS:
        note = f"number_of_rows {n_samples:g} was cut to {MAX_ROWS}"
    if lead not in LEADS:
        problem = f"expected a lead of {' '.join(LEADS)}, but got {reprlib.repr(lead)}"
    elif not MIN_FS_HZ <= fs_hz <= MAX_FS_HZ:
        problem = f"expected an fs of {MIN_FS_HZ:g} to {MAX_FS_HZ:g} Hz, but got {reprlib.repr(fs)}"
    return TestRow(image_id, lead, fs_hz, int(min(n_samples, MAX_ROWS)), problem), note


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _at_one_rate(rows: Sequence[TestRow]) -> tuple[TestRow, ...]:
    """Give a problem to the rows that want another rate than most of their image's rows do.

    A picture is read at one rate; the most usual is the least likely to be the wrong one.
    """
    rates: defaultdict[str, Counter[float]] = defaultdict(Counter)
    for row in rows:
        if row.problem is None:
            rates[row.image_id][row.fs_hz] += 1
    usual = {image_id: counts.most_common(1)[0][0] for image_id, counts in rates.items()}
    return tuple(
        row
        if row.problem is not None or row.fs_hz == usual[row.image_id]
        else replace(
            row, problem=f"fs {row.fs_hz:g} Hz, but the image is read at {usual[row.image_id]:g} Hz"
        )
        for row in rows
    )
