"""Addresses such as s3://bucket/page.png are read by fsspec, all other paths from the disk."""

import posixpath
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from ecg_digitize.errors import ImageError, InputError
from ecg_digitize.files import short_name

TRIES: Final = 3
"""A network fails now and then; what is not there at all is not asked for again."""
WAIT_S: Final = 1.0
"""Before the second try; twice that before the third."""


def is_address(path: str) -> bool:
    """Say whether a path is one that fsspec reads."""
    return "://" in path


def need_fsspec() -> Any:
    """Return the module.

    Raises:
        InputError: It is not installed.
    """
    try:
        import fsspec
    except ImportError as error:
        raise InputError(
            'addresses such as s3:// need fsspec: pip install "ecg-digitize[cloud]", and s3fs, '
            "gcsfs or adlfs for the store that they name"
        ) from error
    return fsspec


def resolved(path: str, root: str) -> str:
    """Return where a path of a list lies; a relative one begins at the list's own folder."""
    if is_address(path) or Path(path).is_absolute():
        return path
    return f"{root.rstrip('/')}/{path}" if is_address(root) else str(Path(root) / path)


def files_below(address: str) -> list[str]:
    """Return the files below an address, sorted, relative to it.

    Raises:
        InputError: It cannot be listed.
    """
    try:
        system, root = need_fsspec().core.url_to_fs(address)
        return sorted(posixpath.relpath(one, root) for one in system.find(root))
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{address}: cannot be listed ({error})") from error


@contextmanager
def local_file(source: str) -> Iterator[Path]:
    """Give a file on the disk: the one named, or a copy of what lies at an address.

    Raises:
        ImageError: Nothing can be read at the address.
    """
    if not is_address(source):
        yield Path(source)
        return
    with TemporaryDirectory(prefix="ecg-digitize-") as folder:
        path = Path(folder) / short_name(posixpath.basename(source) or "page", spare_bytes=0)
        _fetch(source, path)
        yield path


def _fetch(source: str, path: Path) -> None:
    for attempt in range(TRIES):
        try:
            with need_fsspec().open(source, "rb") as stream:
                path.write_bytes(stream.read())
            return
        except FileNotFoundError as error:
            raise ImageError(f"{source}: there is no such file; check the address") from error
        except Exception as error:  # each store has errors of its own
            if attempt == TRIES - 1:
                raise ImageError(
                    f"{source}: cannot be fetched, tried {TRIES} times "
                    f"({type(error).__name__}: {error})"
                ) from error
            time.sleep(WAIT_S * 2**attempt)
