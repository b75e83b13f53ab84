"""A thousand small pages through `digitize-many`: nothing lost, memory flat, pages an hour.

    python tests/endurance/soak.py --work FOLDER [--pages 1000] [-- OPTIONS OF digitize-many]

Makes the pages once, mixed types and layouts, 3 % of them broken. Prints memory of the parent and
the workers at page 100 and at the end, the pace, and the counts. Exit code 1 if a bar is missed.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from small_pages import count_argument, write_small_pages

from ecg_digitize.layout import LEADS

BROKEN_EVERY: Final = 33
WARM_PAGES: Final = 100
WINDOW_PAGES: Final = 100
"""Memory is the median over so many pages: it rises and falls by a third within each page."""
GROWTH: Final = 0.10
LOOK_EVERY_S: Final = 2.0


@dataclass(frozen=True)
class Look:
    """Memory at a moment of the run."""

    pages: int  # done
    parent_mb: float
    workers_mb: tuple[float, ...]

    @property
    def total_mb(self) -> float:
        """Of all processes."""
        return self.parent_mb + sum(self.workers_mb)


def main() -> int:
    """Run and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for pages and outputs")
    parser.add_argument("--pages", type=count_argument, default=1000)
    parser.add_argument("options", nargs="*", help="of digitize-many, after --")
    arguments = parser.parse_args()
    pages, out = arguments.work / f"pages-{arguments.pages}", arguments.work / "out"
    pages.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    broken = write_small_pages(pages, count=arguments.pages, broken_every=BROKEN_EVERY)
    print(f"{arguments.pages} pages, {len(broken)} broken, in {time.monotonic() - began:.0f} s")
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "ecg_digitize", "digitize-many", str(pages), "-o", str(out)]
    process = subprocess.Popen([*command, *arguments.options])
    looks = list(_watch(process, out))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = (used.ru_utime + used.ru_stime) / arguments.pages
    print(f"{cpu_s:.2f} seconds of CPU a page, the start of the workers among them")
    bad = _bars(looks, out, broken, n_pages=arguments.pages, code=process.returncode)
    for line in bad:
        print(f"MISSED: {line}")
    return 1 if bad else 0


def _bars(looks: list[Look], out: Path, broken: list[str], *, n_pages: int, code: int) -> list[str]:
    """Print the figures and return what is not as it should be."""
    if code not in (0, 3):
        return [f"exit code {code}"]
    bad = []
    summary = json.loads((out / "_summary.json").read_text())
    times = json.loads((out / "_times.json").read_text())
    print(json.dumps(summary, indent=2))
    print(f"{times['pages_an_hour']} pages an hour")
    for first in range(0, n_pages, WINDOW_PAGES):
        _print_memory(looks, first)
    if n_pages < WARM_PAGES + 2 * WINDOW_PAGES:
        print("too few pages: growth of memory is not judged")
    else:
        warm_mb, end_mb = _total_mb(looks, WARM_PAGES), _total_mb(looks, n_pages - WINDOW_PAGES)
        print(f"memory: {warm_mb:.0f} MB from page {WARM_PAGES} on, {end_mb:.0f} MB at the end")
        if end_mb > (1 + GROWTH) * warm_mb:
            bad.append(f"memory grew by {end_mb / warm_mb - 1:.0%}")
    rows = [
        row for shard in sorted(out.glob("shard-*")) for row in pq.read_table(shard).to_pylist()
    ]
    if [row["number"] for row in rows] != list(range(n_pages)):
        bad.append("rows are missing, twice or out of order")
    failed = {row["path"] for row in rows if row["status"] == "failed"}
    if unnamed := set(broken) - failed:
        bad.append(f"broken, but not named: {sorted(unnamed)}")
    print(f"whole pages that were refused: {len(failed - set(broken))}")
    for row in rows:
        bad += _row_bars(row)
    return bad


def _within(looks: list[Look], first: int) -> list[Look]:
    return [look for look in looks if first <= look.pages < first + WINDOW_PAGES]


def _total_mb(looks: list[Look], first: int) -> float:
    return float(np.median([look.total_mb for look in _within(looks, first)]))


def _print_memory(looks: list[Look], first: int) -> None:
    if not (here := _within(looks, first)):
        return
    most = max(len(look.workers_mb) for look in here)
    full = [look for look in here if len(look.workers_mb) == most]
    workers_mb = np.median([look.workers_mb for look in full], axis=0)
    peaks_mb = np.max([look.workers_mb for look in full], axis=0)
    print(
        f"pages {first} to {first + WINDOW_PAGES}: parent "
        f"{np.median([look.parent_mb for look in full]):.0f} MB, workers "
        f"{', '.join(f'{mb:.0f}' for mb in workers_mb)} MB, at most "
        f"{', '.join(f'{mb:.0f}' for mb in peaks_mb)}"
    )


def _row_bars(row: dict) -> list[str]:
    """Return what is wrong with a row: samples are finite, or NaN where nothing is to be seen."""
    signals = [np.array(row[lead]["mv"], np.float32) for lead in LEADS if row[lead] is not None]
    if row["status"] == "failed":
        return [f"{row['path']}: failed, but has signals"] if signals else []
    if not signals or any(np.isinf(mv).any() or mv.size == 0 for mv in signals):
        return [f"{row['path']}: no signals, or infinite ones"]
    unseen = np.mean([np.isnan(mv).mean() for mv in signals])
    is_holed = row["status"] == "ok" and unseen > 0
    return [f"{row['path']}: ok, but {unseen:.2%} is NaN"] if is_holed else []


def _watch(process: "subprocess.Popen[bytes]", out: Path) -> Iterator[Look]:
    while process.poll() is None:
        time.sleep(LOOK_EVERY_S)
        closed = sum(pq.read_metadata(path).num_rows for path in out.glob("shard-*.parquet"))
        kept = sum(1 for _ in out.glob(".ecg_digitize/*/[!.]*.npz"))
        children = [_rss_mb(child) for child in _children(process.pid)]
        # The helper that multiprocessing starts beside the workers holds no networks.
        workers = tuple(sorted(mb for mb in children if mb > 50))
        if (parent_mb := _rss_mb(process.pid)) and workers:
            yield Look(closed + kept, parent_mb, workers)


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def _rss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith("VmRSS")), 0.0)


if __name__ == "__main__":
    sys.exit(main())
