"""`ecg-digitize digitize-many`: parsed arguments in, shards out, an exit code back."""

import argparse
import functools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from ecg_digitize.archive.local import fill_locally
from ecg_digitize.archive.manifest import Manifest, read_manifest
from ecg_digitize.archive.on_ray import connect, crew_for, fill_on_ray
from ecg_digitize.archive.record import Reading
from ecg_digitize.archive.run import Fill, digitize_archive
from ecg_digitize.archive.summary import FAILURES_NAME
from ecg_digitize.engine.seats import device_kinds, devices_named, seats_for
from ecg_digitize.engine.stop import stop_on_signals
from ecg_digitize.many import Overrides
from ecg_digitize.openvino import device_for

SAID_EVERY_S: Final = 60.0
"""How often a line is printed where there is no terminal for a bar."""


class Progress(Protocol):
    """Takes the pages that earlier runs and this one have done."""

    def __call__(self, n_before: int, n_new: int) -> None:
        """Show them."""


def digitize_many(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Digitize a list of pages into parquet files; see ``cli``."""
    manifest = read_manifest(arguments.manifest, out=arguments.out)
    for note in manifest.notes:
        print(f"{arguments.manifest}: {note}", file=sys.stderr)
    reading = Reading(
        weights_dir=arguments.weights,
        preset=arguments.preset,
        backend=arguments.backend,
        fs_hz=arguments.fs,
        overrides=overrides,
    )
    fill, devices = _engine(arguments, reading, manifest)
    with _shown(len(manifest)) as progress, stop_on_signals() as stop:
        outcome = digitize_archive(
            manifest,
            arguments.out.resolve(),
            reading,
            fill,
            devices=devices,
            shard_pages=arguments.shard_pages,
            resume=not arguments.no_resume,
            stop=stop,
            progress=progress,
        )
    if outcome.summary is None:
        text = stop.to_text(n_done=outcome.n_done, n_pages=len(manifest))
        print(f"ecg-digitize: {text}", file=sys.stderr)
        return stop.exit_code
    pace = f", {outcome.pages_an_hour:.0f} pages an hour" if outcome.n_new else ""
    print(f"{arguments.out}: {outcome.summary.to_text()}{pace}", file=sys.stderr)
    if outcome.summary.n_failed:
        print(f"{arguments.out / FAILURES_NAME}: names those that failed", file=sys.stderr)
    return 3 if outcome.summary.n_failed else 0


def _engine(
    arguments: argparse.Namespace, reading: Reading, manifest: Manifest
) -> tuple[Fill, list[str]]:
    """Return who does the work, and on which kinds of device."""
    if arguments.engine == "ray":
        cores, gpus = connect(arguments.address)
        crew = crew_for(cores, gpus, device=arguments.device, workers=arguments.workers)
        return functools.partial(fill_on_ray, make=reading, crew=crew), [crew.seat.device]
    names = devices_named(device_for(arguments.backend, arguments.device))
    seats = seats_for(names, workers=arguments.workers, n_pages=len(manifest))
    return functools.partial(fill_locally, make=reading, seats=seats), device_kinds(seats)


@contextmanager
def _shown(n_pages: int) -> Iterator[Progress]:
    """Show a bar in a terminal, else a line a minute; both say when the end is expected."""
    from tqdm import tqdm

    if not sys.stderr.isatty():
        yield Lines(n_pages)
        return
    with tqdm(total=n_pages, unit="page") as bar:

        def move(n_before: int, n_new: int) -> None:
            if not n_new:
                bar.initial = n_before
            bar.update(n_before + n_new - bar.n)

        yield move


class Lines:
    """Progress as lines of text."""

    def __init__(self, n_pages: int, *, every_s: float = SAID_EVERY_S) -> None:
        """Start the clock."""
        self.n_pages, self.every_s = n_pages, every_s
        self.began_s = self.said_s = time.monotonic()

    def __call__(self, n_before: int, n_new: int) -> None:
        """Print a line if the last one is old enough."""
        now_s = time.monotonic()
        if not n_new:
            self.began_s = self.said_s = now_s
        if not n_new or now_s - self.said_s < self.every_s:
            return
        self.said_s = now_s
        a_second = n_new / (now_s - self.began_s)
        left_h = (self.n_pages - n_before - n_new) / a_second / 3600
        print(
            f"{n_before + n_new} of {self.n_pages} pages, {3600 * a_second:.0f} an hour, "
            f"{left_h:.1f} hours left",
            file=sys.stderr,
            flush=True,
        )
