"""A list of pages into a folder, from the first page on or from where a run was ended."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from ecg_digitize import __version__
from ecg_digitize.archive.manifest import Manifest
from ecg_digitize.archive.record import Reading
from ecg_digitize.archive.shards import SHARD_PAGES, STORE_NAME, Archive
from ecg_digitize.archive.summary import FAILURES_NAME, SUMMARY_NAME, Summary, summarize
from ecg_digitize.engine.stop import Stop
from ecg_digitize.engine.store import PageStore, open_store, settings_hash
from ecg_digitize.errors import InputError
from ecg_digitize.files import replacing
from ecg_digitize.manifest import read_manifest as read_weights_manifest

log = logging.getLogger(__name__)

RUN_NAME: Final = "_run.json"
TIMES_NAME: Final = "_times.json"
_HASH: Final = "settings_sha256"


class Fill(Protocol):
    """An engine: ``fill_locally`` or ``fill_on_ray``, with their own arguments given."""

    def __call__(
        self, archive: Archive, left: Mapping[int, Sequence[int]], *,
        stop: Stop, told: Callable[[int], None],
    ) -> None:  # fmt: skip
        """Read the pages that are left and close their shards."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    n_done: int  # pages, those of earlier runs too
    n_new: int  # pages that this run read
    elapsed_s: float
    summary: Summary | None  # None if it was stopped

    @property
    def pages_an_hour(self) -> float:
        """The pace of this run."""
        return 3600 * self.n_new / max(self.elapsed_s, 1e-9)


def digitize_archive(
    manifest: Manifest,
    out: Path,
    reading: Reading,
    fill: Fill,
    *,
    devices: Sequence[str] = ("cpu",),
    shard_pages: int = SHARD_PAGES,
    resume: bool = True,
    stop: Stop | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Digitize all pages of a list into parquet files; pages that fail are rows too.

    Args:
        manifest: The pages.
        out: Folder for the shards, _summary.json, _failures.csv and _times.json, made if need be.
        reading: How pages are read.
        fill: Who does the work.
        devices: Kinds of device that do it; what they compute differs in the last digits.
        shard_pages: Pages a shard.
        resume: Go on with what is there; False begins anew.
        stop: Once it is wanted, the pages under way are finished and kept.
        progress: Called with the pages that are done: by earlier runs, and by this one.

    Raises:
        InputError: The folder cannot be made, another run is writing there, or it holds shards of
            other pages or settings.
        EcgDigitizeError: No worker can be made.
        OSError: The disk is full, or not writable.
    """
    began, stop = time.monotonic(), stop or Stop()
    weights = read_weights_manifest(weights_dir=reading.weights_dir)
    hashes = sorted(f"{entry.file} {entry.sha256}" for entry in weights)
    settings: dict[str, Any] = {
        "pages": len(manifest),
        "pages_sha256": manifest.sha256,
        "shard_pages": shard_pages,
        "fs_hz": reading.fs_hz,
        "preset": reading.preset,
        "backend": reading.backend,
        "overrides": reading.overrides.to_json(),
        "devices": sorted(set(devices)),
        "package_version": __version__,
        "weights_sha256": hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
    }
    settings[_HASH] = settings_hash(settings, weights_dir=reading.weights_dir)
    archive = Archive(
        out=out,
        manifest=manifest,
        settings=settings[_HASH],
        package_version=__version__,
        weights_sha256=settings["weights_sha256"],
        shard_pages=shard_pages,
    )
    with open_store(out / STORE_NAME, settings=archive.settings) as store:
        _claim(archive, settings, resume=resume)
        shards = [shard for shard in range(archive.n_shards) if not archive.is_closed(shard)]
        left = {shard: archive.left(shard) for shard in shards}
        n_before = len(manifest) - sum(map(len, left.values()))
        n_new = 0

        def told(count: int) -> None:
            nonlocal n_new
            n_new += count
            if progress is not None:
                progress(n_before, n_new)

        told(0)
        fill(archive, left, stop=stop, told=told)
        elapsed_s = time.monotonic() - began
        # A signal may come after the last page: then there is nothing to stop.
        is_done = all(archive.is_closed(shard) for shard in shards)
        summary = summarize(archive) if is_done else None
        outcome = Outcome(n_before + n_new, n_new, elapsed_s, summary)
        if n_new:  # else those of the run that read them stay
            _write_times(out, outcome)
        _sweep(store, archive)
    return outcome


def _claim(archive: Archive, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Make the folder one of these settings, or go on if it is one.

    Raises:
        InputError: It belongs to others.
    """
    path = archive.out / RUN_NAME
    if not resume:
        _begin_anew(archive.out)
    if path.is_file():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            is_same = there[_HASH] == settings[_HASH]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: is damaged ({error}); {_REMEDY}") from error
        if is_same:
            return
        changed = [
            f"{name} was {there.get(name)} and is {value}"
            for name, value in settings.items()
            if name != _HASH and there.get(name) != value
        ]
        why = "; ".join(changed) or "the code of the package has changed"
        raise InputError(f"{archive.out}: holds the shards of other settings ({why}); {_REMEDY}")
    if any(archive.out.glob("shard-*.parquet")):
        raise InputError(f"{archive.out}: holds shards, but no {RUN_NAME}; {_REMEDY}")
    with replacing(path) as partial:
        partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


_REMEDY: Final = "name another folder, or say --no-resume to remove them and begin anew"


def _begin_anew(out: Path) -> None:
    for name in (RUN_NAME, SUMMARY_NAME, FAILURES_NAME, TIMES_NAME):
        (out / name).unlink(missing_ok=True)
    for shard in out.glob("shard-*.parquet"):
        shard.unlink(missing_ok=True)
    for folder in (out / STORE_NAME).glob("shard-*"):
        PageStore(folder, "").remove()


def _sweep(store: PageStore, archive: Archive) -> None:
    """Remove what waited for shards that are closed: a kill can come between the two."""
    for folder in store.folder.glob("shard-*"):
        if archive.is_closed(int(folder.name.removeprefix("shard-"))):
            PageStore(folder, store.settings).remove()


def _write_times(out: Path, outcome: Outcome) -> None:
    """Write the pace: by itself, since it is all that differs between two runs of a list."""
    document = {
        "pages_of_the_last_run": outcome.n_new,
        "elapsed_s": round(outcome.elapsed_s, 3),
        "pages_an_hour": round(outcome.pages_an_hour, 1),
    }
    with replacing(out / TIMES_NAME) as partial:
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
