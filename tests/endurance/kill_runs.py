"""kill -9 of `submit` and `digitize-many` at random moments, with the real networks.

    python tests/endurance/kill_runs.py --work FOLDER [--pages 12] [--kills 10]

An uninterrupted run says how long a page takes and what its files are. Then the same command is
killed again and again, and run to its end: all files must be equal byte for byte, but for what
tells the time. A moment is drawn as a number of pages, which the run has read, and a part of the
time of another one: so other programs on the machine cannot move all kills to the start or behind
the end. Prints a line a kill; exit code 1 if a byte differs.
"""

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from small_pages import count_argument, write_small_pages

from ecg_digitize.layout import LEADS

TIMED: Final = ("_times.json", "run_report.json")
"""Files that tell how long a run took."""
MOST_NEW: Final = 3
"""Pages that a run may read before it is killed."""


@dataclass(frozen=True)
class Case:
    """A command that must survive."""

    name: str
    command: Callable[[Path], list[str]]  # for a folder of outputs


def main() -> int:
    """Try both commands and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for pages and outputs")
    parser.add_argument("--pages", type=count_argument, default=12)
    parser.add_argument("--kills", type=count_argument, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", choices=("submit", "digitize-many"))
    arguments = parser.parse_args()
    pages = arguments.work / "pages"
    pages.mkdir(parents=True, exist_ok=True)
    write_small_pages(pages, count=arguments.pages)
    table = arguments.work / "test.csv"
    _write_test_csv(table, pages)
    program = [sys.executable, "-m", "ecg_digitize"]

    def submit(out: Path) -> list[str]:
        files = ["--output", str(out / "submission.parquet"), "--report", f"{out}/run_report.json"]
        return [*program, "submit", "--test-csv", str(table), "--images", str(pages), *files]

    def digitize_many(out: Path) -> list[str]:
        return [*program, "digitize-many", str(pages), "-o", str(out), "--shard-pages", "3"]

    cases = [Case("submit", submit), Case("digitize-many", digitize_many)]
    rng = np.random.default_rng(arguments.seed)
    wanted = [case for case in cases if arguments.only in (None, case.name)]
    equal = [
        _survives(case, arguments.work, rng, n_pages=arguments.pages, n_kills=arguments.kills)
        for case in wanted
    ]
    return 0 if all(equal) else 1


def _survives(
    case: Case, work: Path, rng: np.random.Generator, *, n_pages: int, n_kills: int
) -> bool:
    """Kill a command again and again; say whether its files are those of a run in peace."""
    whole, killed = work / f"{case.name}-whole", work / f"{case.name}-killed"
    for folder in (whole, killed):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    first_s, whole_s = _finish(case, whole)
    page_s = (whole_s - first_s) / n_pages
    print(f"{case.name}: {whole_s:.1f} s in peace, {page_s:.1f} s a page", flush=True)
    for count in range(n_kills):
        n_new, more_s = int(rng.integers(0, MOST_NEW + 1)), float(rng.uniform(0, page_s))
        state = _killed_after(case.command(killed), killed, n_new=n_new, more_s=more_s)
        done = sorted(path.name for path in killed.glob("*.parquet"))
        kept = len(_kept(killed))
        print(
            f"{case.name}: kill {count + 1} {more_s:.1f} s after {n_new} new pages, {state}; "
            f"files: {len(done)}, "
            f"pages kept: {kept}",
            flush=True,
        )
        if state == "it had ended" and count + 1 < n_kills:  # begin anew: the next must hit too
            same = _compare(whole, killed)
            print(f"{case.name}: {'equal' if same else 'DIFFERENT'} so far; begun anew", flush=True)
            if not same:
                return False
            shutil.rmtree(killed)
            killed.mkdir()
    _finish(case, killed)
    same = _compare(whole, killed)
    print(f"{case.name}: after {n_kills} kills {'equal' if same else 'DIFFERENT'}", flush=True)
    return same


def _finish(case: Case, out: Path) -> tuple[float, float]:
    """Run a command to its end; return when the first page was kept, and how long it took, s."""
    began, first_s = time.monotonic(), None
    process = subprocess.Popen(
        case.command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None:
        time.sleep(0.05)
        if first_s is None and _kept(out):
            first_s = time.monotonic() - began
    if process.returncode not in (0, 3):  # 3: pages that no run can read
        raise SystemExit(f"{case.name}: exit code {process.returncode}; try it by hand")
    whole_s = time.monotonic() - began
    return whole_s if first_s is None else first_s, whole_s


def _killed_after(command: list[str], out: Path, *, n_new: int, more_s: float) -> str:
    """Kill a command so long after so many new pages, unless it ends before."""
    before, new = _kept(out), set[str]()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(new) < n_new:
        time.sleep(0.05)
        new |= _kept(out) - before
    try:
        process.wait(timeout=more_s)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return "killed"
    return "it had ended"


def _kept(out: Path) -> set[str]:
    """Return the pages that wait on the disk, as both commands keep them."""
    return {str(path) for path in out.rglob("[!.]*.npz")}


def _compare(whole: Path, killed: Path) -> bool:
    """Compare all files that a user sees, and name those that differ."""
    seen = [{path.name for path in folder.glob("[!.]*")} for folder in (whole, killed)]
    if seen[0] != seen[1]:
        print(f"files of one run only: {sorted(seen[0] ^ seen[1])}")
        return False
    names = sorted(seen[0] - set(TIMED))
    unlike = [n for n in names if (whole / n).read_bytes() != (killed / n).read_bytes()]
    for name in unlike:
        print(f"{name}: differs")
    return not unlike


def _write_test_csv(path: Path, pages: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "lead", "fs", "number_of_rows"])
        for page in sorted(pages.glob("page_*")):
            for lead in LEADS:
                table.writerow([page.stem, lead, 500, 5000 if lead == "II" else 1250])


if __name__ == "__main__":
    sys.exit(main())
