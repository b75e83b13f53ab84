"""Where files lie on Kaggle, and writing a file whole or not at all."""

import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

INPUT_ROOT_VARIABLE = "ECG_DIGITIZE_INPUT_ROOT"
"""Environment variable that stands in for /kaggle/input."""

_MAX_NAME_BYTES = 255


def input_root() -> Path:
    """Return the folder below which Kaggle mounts what a notebook may read."""
    return Path(os.environ.get(INPUT_ROOT_VARIABLE) or "/kaggle/input")


def mounted_folders(
    slug: str, *, kind: Literal["datasets", "competitions"], root: Path | None = None
) -> list[Path]:
    """List the folders that can be the mount of one Kaggle input.

    Kaggle mounted everything at <root>/<slug> until 2026, then competitions at
    <root>/competitions/<slug> and data sets at <root>/datasets/<owner>/<slug>; both are alive.

    Args:
        slug: Last part of the input's address.
        kind: What the input is.
        root: Stands in for `input_root()`.

    Returns:
        The folders that exist, likeliest first.
    """
    root = input_root() if root is None else root
    forms = [root / slug, root / kind / slug, *sorted((root / kind).glob(f"*/{slug}"))]
    return [folder for folder in forms if folder.is_dir()]


def search_below(
    root: Path, names: Collection[str], *, max_depth: int = 5, max_folders: int = 4000
) -> Iterator[Path]:
    """Yield files of the given names below a folder, nearest first.

    Bounded because the competition's own mount holds a thousand folders of pictures on a slow
    network disk.

    Args:
        root: Where to begin; nothing is found where it does not exist.
        names: File names to report.
        max_depth: Levels of folders to enter below root.
        max_folders: Folders to open at most.
    """
    level = [root] if root.is_dir() else []
    opened = 0
    for _ in range(max_depth + 1):
        below = []
        for folder in level:
            if opened == max_folders:
                return
            opened += 1
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:  # a folder that may not be read holds nothing for us
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(Path(entry.path))
                elif entry.name in names:
                    yield Path(entry.path)
        level = below


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 lower-case hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def short_name(name: str, *, spare_bytes: int) -> str:
    """Return a file name to which so many bytes can be added, its end being a hash if need be.

    File systems hold names of 255 bytes.
    """
    content = name.encode("utf-8", "surrogateescape")
    room = _MAX_NAME_BYTES - spare_bytes
    if len(content) <= room:
        return name
    digest = hashlib.sha256(content).hexdigest()[:12]
    return f"{content[: room - 13].decode('utf-8', 'ignore')}-{digest}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; on success it becomes `path`, on an error it vanishes.

    A reader therefore sees the old file or the new one, never half of one.

    Args:
        path: File to make or replace; its folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{short_name(path.name, spare_bytes=32)}.partial-{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
