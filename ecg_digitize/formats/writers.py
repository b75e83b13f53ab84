"""The formats that `digitize` writes, by name. A new one is a module and a line here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecg_digitize.errors import InputError
from ecg_digitize.extras import load
from ecg_digitize.formats import csv, dicom, edf, fhir, parquet, wfdb
from ecg_digitize.formats.description import Provenance
from ecg_digitize.types import Recording


def _any_fs(fs_hz: float) -> None:
    """Allow all sampling rates."""


@dataclass(frozen=True)
class Writer:
    """A format.

    Attributes:
        files: Gives the files that it writes for a stem, which is a path without suffix.
        write: Writes a recording to these files; the same arguments give the same bytes. Raises
            InputError for what the format cannot hold, OSError if the folder is not writable.
        package: What it needs besides the core installation.
        check_fs: Raises an InputError for sampling rates that it cannot hold.
    """

    files: Callable[[Path], tuple[Path, ...]]
    write: Callable[[Recording, Path, Provenance], None]
    package: str | None = None
    check_fs: Callable[[float], None] = _any_fs


CSV: Final = "csv"
WRITERS: Final = {
    CSV: Writer(csv.full_files, csv.write_full),
    "csv-plain": Writer(csv.plain_files, csv.write_plain),
    "parquet": Writer(parquet.files, parquet.write),
    "wfdb": Writer(wfdb.files, wfdb.write, wfdb.PACKAGE),
    "edf": Writer(edf.files, edf.write, edf.PACKAGE, edf.check_fs),
    "dicom": Writer(dicom.files, dicom.write, dicom.PACKAGE, dicom.check_fs),
    "fhir": Writer(fhir.files, fhir.write),
}


def formats_named(text: str, *, fs_hz: float) -> tuple[str, ...]:
    """Return the formats of a list such as "csv,wfdb", ready to be written.

    Args:
        text: Names of WRITERS, joined by commas.
        fs_hz: Sampling rate of what will be written.

    Raises:
        InputError: A name is unknown, two formats would write the same file, a package is missing,
            or a format cannot hold the sampling rate.
    """
    names = tuple(dict.fromkeys(part.strip().casefold() for part in text.split(",")))
    for name in names:
        if name not in WRITERS:
            known = ", ".join(WRITERS)
            raise InputError(f'--format: expected one or several of {known}, but got "{name}"')
    _check_apart(names)
    for name in names:
        writer = WRITERS[name]
        try:
            writer.check_fs(fs_hz)
            if writer.package is not None:
                load(writer.package)
        except InputError as error:
            raise InputError(f"--format {name}: {error}") from error
    return names


def files_of(names: Sequence[str], stem: Path) -> dict[str, tuple[Path, ...]]:
    """Return the files of formats for a stem, format by format."""
    return {name: WRITERS[name].files(stem) for name in names}


def _check_apart(names: Sequence[str]) -> None:
    owners: dict[Path, str] = {}
    for name, paths in files_of(names, Path("NAME")).items():
        for path in paths:
            other = owners.setdefault(path, name)
            if other != name:
                raise InputError(
                    f"--format: {other} and {name} both write {path}; choose one, or run twice, "
                    "into two folders"
                )
