"""Finished pages on disk, so that a run that was stopped or killed goes on; one run a folder.

Each page is one file, made by an atomic rename: it is there whole or not at all. It says which
picture, options, code and weights it came from; what does not agree is not used.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ecg_digitize.errors import InputError
from ecg_digitize.files import replacing, sha256_of
from ecg_digitize.manifest import read_manifest

log = logging.getLogger(__name__)

_META: Final = "meta"
_LOCK: Final = "lock"
_PACKAGE: Final = Path(__file__).parent.parent


@dataclass(frozen=True)
class Stored:
    """What is kept of a page."""

    meta: Mapping[str, Any]  # what JSON can hold
    arrays: Mapping[str, NDArray[Any]]


class PageStore:
    """The finished pages of a run; made by ``open_store``."""

    def __init__(self, folder: Path, settings: str) -> None:
        """Use a folder that is there.

        Args:
            folder: Where the files are.
            settings: What the pages depend on besides their pictures, see ``settings_hash``.
        """
        self.folder, self.settings = folder, settings

    def get(self, key: str, picture: Path | None) -> Stored | None:
        """Return what is kept of a page if it is of this picture, as it is now; None: of any."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                meta = json.loads(str(file[_META]))
                arrays = {name: file[name] for name in file.files if name != _META}
            if meta.pop("settings") != self.settings or meta.pop("key") != key:
                return None
            known = meta.pop("picture")
            is_same = picture is None or known == sha256_of(picture)
            return Stored(meta, arrays) if is_same else None
        except Exception as error:  # a power cut can leave a file of zeros
            log.info("%s: not usable (%s), the page is read again", path, error)
            return None

    def put(
        self, key: str, picture_sha256: str, *, meta: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:  # fmt: skip
        """Keep a page.

        Raises:
            OSError: The disk is full, or not writable.
        """
        told = {**meta, "settings": self.settings, "key": key, "picture": picture_sha256}
        with replacing(self._path(key)) as partial, partial.open("wb") as stream:
            np.savez(stream, **{_META: np.array(json.dumps(told))}, **(arrays or {}))  # type: ignore[arg-type]

    def clear(self) -> None:
        """Forget all pages."""
        for path in self.folder.glob("*.npz"):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder: the run is at its end and nobody will go on with it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


@contextmanager
def open_store(folder: Path, *, settings: str) -> Iterator[PageStore]:
    """Open the store of a run, alone, and sweep what killed runs left half written.

    Args:
        folder: Made if need be.
        settings: See ``settings_hash``.

    Raises:
        InputError: The folder cannot be made, or another run is using it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error}); name another folder") from error
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError) as error:
        raise InputError(
            f"{folder}: another run is writing there ({error}); wait for it or name another folder"
        ) from error
    try:
        for place in (folder, folder.parent):
            for partial in place.glob(".*.partial-*"):
                _remove_if_stale(partial)
        yield PageStore(folder, settings)
    finally:
        lock.release()


def settings_hash(options: Mapping[str, Any], *, weights_dir: Path | None = None) -> str:
    """Return 64 hexadecimal digits that change with options, weights and code.

    Args:
        options: What JSON can hold.
        weights_dir: See ``weights.locate_weights``.

    Raises:
        WeightsError: There is no usable manifest.
    """
    code = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        code.update(path.read_bytes())
    weights = {entry.file: entry.sha256 for entry in read_manifest(weights_dir=weights_dir)}
    parts = {"code": code.hexdigest(), "weights": weights, "options": options}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _remove_if_stale(partial: Path) -> None:
    """Remove a half-written file whose process is gone."""
    number = partial.name.rpartition("-")[2]
    if not number.isdigit() or int(number) == os.getpid() or _is_running(int(number)):
        return
    partial.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name == "nt":  # there, os.kill would end it
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
