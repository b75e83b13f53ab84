"""The list of pages: a csv or parquet table with a column `path`, or a folder of pictures."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ecg_digitize.archive.cloud import files_below, is_address, local_file, need_fsspec, resolved
from ecg_digitize.archive.rows import Task
from ecg_digitize.batch import find_pages
from ecg_digitize.errors import ImageError, InputError
from ecg_digitize.image import page_label
from ecg_digitize.inputs import SUFFIXES
from ecg_digitize.page_files import OVERLAY_SUFFIX

PATH: Final = "path"
ID: Final = "id"
PAGE_NUMBER: Final = "page_number"
"""Column for the page of a file with several, from 1; where it is empty, the first is read."""
TABLES: Final = (".csv", ".parquet")
_SHOWN: Final = 5  # ids that are named where many are meant


@dataclass(frozen=True)
class Manifest:
    """The pages of an archive, in their order."""

    table: pa.Table  # id, path, and the further columns of the list
    root: str  # where relative paths begin
    notes: tuple[str, ...] = ()  # what is odd about the list, a line each

    def __len__(self) -> int:
        """Return how many pages there are."""
        return int(self.table.num_rows)

    def task(self, number: int) -> Task:
        """Return one page."""
        path = self.table[PATH][number].as_py()
        has_pages = PAGE_NUMBER in self.table.column_names
        page_number = self.table[PAGE_NUMBER][number].as_py() if has_pages else None
        return Task(number, path, resolved(path, self.root), page_number)

    @cached_property
    def sha256(self) -> str:
        """What changes with any value of the list, and not with where it lies."""
        digest = hashlib.sha256()
        for name in self.table.column_names:
            values = self.table[name].to_pylist()
            digest.update(json.dumps([name, values], default=str).encode())
        return digest.hexdigest()


def read_manifest(place: str, *, out: Path | None = None) -> Manifest:
    """Read the list of pages. A line that is no page is noted and left out.

    Args:
        place: A csv or parquet file, or a folder; a path or an address.
        out: A folder that is not looked into.

    Raises:
        InputError: It is no such list, or it is empty.
    """
    suffix = Path(place).suffix.lower()
    if suffix not in TABLES:
        manifest = _of_folder(place, out)
    else:
        root = place.rpartition("/")[0] if is_address(place) else str(Path(place).parent)
        try:
            with local_file(place) as path:
                read = _read_csv if suffix == ".csv" else _read_parquet
                manifest = _of_table(*read(path), place=place, root=root)
        except (OSError, ImageError, pa.ArrowException) as error:
            raise InputError(f"{place}: cannot be read as a table ({error})") from error
    if not len(manifest):
        raise InputError(f"{place}: names no pages{''.join(f'; {n}' for n in manifest.notes[:1])}")
    if any(is_address(path) for path in manifest.table[PATH].to_pylist()):
        need_fsspec()
    return manifest


def _of_folder(place: str, out: Path | None) -> Manifest:
    """Return the pages below a folder, named by the paths of their files in it.

    At an address, of each file the first: to count them all files would have to be fetched.
    """
    numbers: list[int | None] = []
    if is_address(place):
        found = [name for name in files_below(place) if _is_picture(name)]
    elif Path(place).is_dir():
        pictures = find_pages([place], out=out).pictures
        found = [one.source.relative_to(place).as_posix() for one in pictures]
        numbers = [one.page_number for one in pictures]
    else:
        raise InputError(
            f"{place}: expected a folder, or a table with the suffix {' or '.join(TABLES)}"
        )
    if not any(numbers):
        return Manifest(pa.table({ID: pa.array(found, pa.string()), PATH: found}), place)
    ids = [page_label(path, number) for path, number in zip(found, numbers, strict=True)]
    columns = {ID: ids, PATH: found, PAGE_NUMBER: pa.array(numbers, pa.int64())}
    return Manifest(pa.table(columns), place)


def _is_picture(name: str) -> bool:
    hidden = any(part.startswith(".") for part in name.split("/"))
    return Path(name).suffix.lower() in SUFFIXES and not (hidden or name.endswith(OVERLAY_SUFFIX))


def _read_parquet(path: Path) -> tuple[pa.Table, list[str]]:
    return pq.read_table(path), []


def _read_csv(path: Path) -> tuple[pa.Table, list[str]]:
    """Return the lines as columns of text, and what is wrong with those that are left out."""
    rows: list[list[str]] = []
    notes: list[str] = []
    # Bytes that are no UTF-8 must cost their own line only; so they are kept aside as surrogates.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.reader(stream)
        header = [name.strip() for name in next(reader, [])]
        for fields in _lines(reader, notes):
            if not fields:
                continue
            if len(fields) != len(header):
                notes.append(
                    f"line {reader.line_num}: expected {len(header)} fields, but got {len(fields)}"
                )
            elif not "".join(fields).isascii() and not _is_text("".join(fields)):
                notes.append(f"line {reader.line_num}: is not UTF-8")
            else:
                rows.append(fields)
    if len(set(header)) < len(header):
        raise InputError(f"{path.name}: two columns have the same name: {', '.join(header)}")
    columns = zip(*rows, strict=True) if rows else ([] for _ in header)
    arrays = [pa.array(column, pa.string()) for column in columns]
    return pa.table(arrays, names=header), notes


def _lines(reader: Any, notes: list[str]) -> Iterator[list[str]]:
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            notes.append(f"line {reader.line_num}: {error}")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_table(table: pa.Table, notes: list[str], *, place: str, root: str) -> Manifest:
    """Return the pages of a table: those that have a path."""
    if PATH not in table.column_names:
        raise InputError(
            f'{place}: expected a column "{PATH}", but got {", ".join(table.column_names)}'
        )
    paths = [str(path or "").strip() for path in table[PATH].to_pylist()]
    named = [index for index, path in enumerate(paths) if path]
    if len(named) < len(paths):
        notes = [*notes, f"{len(paths) - len(named)} lines have no path and are left out"]
        table, paths = table.take(named), [paths[index] for index in named]
    if PAGE_NUMBER in table.column_names:
        table, paths, notes = _with_page_numbers(table, paths, notes)
    given = table[ID].to_pylist() if ID in table.column_names else [None] * len(paths)
    numbers = (
        table[PAGE_NUMBER].to_pylist() if PAGE_NUMBER in table.column_names else [None] * len(paths)
    )
    labels = [page_label(path, number) for path, number in zip(paths, numbers, strict=True)]
    ids = [name if one in (None, "") else str(one) for one, name in zip(given, labels, strict=True)]
    again = [one for one, count in Counter(ids).items() if count > 1]
    if again:
        shown = ", ".join(again[:_SHOWN]) + (", ..." if len(again) > _SHOWN else "")
        notes = [*notes, f"{len(again)} ids stand for several pages, all are read: {shown}"]
    more = {name: table[name] for name in table.column_names if name not in (ID, PATH)}
    columns = {ID: pa.array(ids, pa.string()), PATH: pa.array(paths, pa.string()), **more}
    return Manifest(pa.table(columns), root, tuple(notes))


def _with_page_numbers(
    table: pa.Table, paths: list[str], notes: list[str]
) -> tuple[pa.Table, list[str], list[str]]:
    """Make the page numbers whole numbers; leave lines out that have something else there."""
    values = table[PAGE_NUMBER].to_pylist()
    numbers = [_page_number(value) for value in values]
    good = [index for index, number in enumerate(numbers) if number != 0]
    if len(good) < len(values):
        odd = [str(value) for value, number in zip(values, numbers, strict=True) if number == 0]
        notes = [
            *notes,
            f"{len(odd)} lines have a {PAGE_NUMBER} that is no whole number from 1 on, and are "
            f"left out: {', '.join(odd[:_SHOWN])}{', ...' if len(odd) > _SHOWN else ''}",
        ]
        table, paths = table.take(good), [paths[index] for index in good]
    kept = pa.array([numbers[index] for index in good], pa.int64())
    place = table.column_names.index(PAGE_NUMBER)
    return table.set_column(place, PAGE_NUMBER, kept), paths, notes


def _page_number(value: Any) -> int | None:
    """Return a page number; None if none is given, 0 if it is no such number."""
    text = "" if value is None else str(value).strip()
    if text in ("", "nan"):
        return None
    try:
        number = float(text)
    except ValueError:
        return 0
    return int(number) if number.is_integer() and 1 <= number < 2**31 else 0
