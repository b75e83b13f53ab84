"""Run the built notebook as Kaggle would: clean process, no network, both mount layouts.

`build_kernel.py --smoke DIR` calls `smoke`. The notebook's cells run one after the other in a
process that cannot import the repository's package, on a mock of /kaggle/input that holds the
pages of DIR and two bad ones. In the new layout it has two devices, each of them the CPU, one core
fewer than there are, and is killed after its first page: the next run must go on.
"""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

BAD_PAGES = ("zz_missing", "zz_truncated")
KEPT = ".submission.parquet.pages/*.npz"
TIMEOUT_S = 1800
_DIALS = (
    (socket.socket, "connect"),
    (socket.socket, "connect_ex"),
    (socket, "create_connection"),
    (socket, "getaddrinfo"),
)


class SmokeError(Exception):
    """The notebook did not do what it must."""


# --- in the clean process -----------------------------------------------------------------------


def execute(notebook: Path) -> None:
    """Run a notebook's code cells in the working folder, as Jupyter would, without network.

    Raises:
        SmokeError: If a module of the package was imported from anywhere but the working folder.
    """
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with ExitStack() as stack:
        for owner, name in _DIALS:
            stack.enter_context(mock.patch.object(owner, name, _refuse))
        for cell in cells:
            source = "".join(cell["source"])
            if cell["cell_type"] != "code":
                continue
            if source.startswith("%%writefile "):
                first, _, body = source.partition("\n")
                Path(first.split(maxsplit=1)[1]).write_text(body.rstrip("\n") + "\n", "utf-8")
            else:
                exec(compile(source, f"<cell {cell['id']}>", "exec"), namespace)
    here = str(Path.cwd().resolve())
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] == "ecg_digitize" and not str(file).startswith(here):
            raise SmokeError(f"{name} came from {file}, not from the notebook's own files")


def _refuse(*_: object, **__: object) -> NoReturn:
    raise OSError("the smoke run has no network")


# --- in the calling process -----------------------------------------------------------------------


def smoke(samples: Path, *, notebook: Path, root: Path) -> None:
    """Run the notebook on the pages of a folder, in Kaggle's old and new mount layout.

    Args:
        samples: Folder with sample_*.png and, beside them, sample_*.csv of the true signals, whose
            length tells fs; 500 Hz without.
        notebook: The built notebook.
        root: The repository, for its manifest and weights.

    Raises:
        SmokeError: If the notebook fails, a row is missing, out of order or not finite, a good
            page is blank, or the report does not list exactly the two bad pages.
    """
    from ecg_digitize.competition import SLUG
    from ecg_digitize.manifest import DATASET_SLUG

    pages = sorted(samples.glob("sample_*.png"))
    if not pages:
        raise SmokeError(f"{samples}: holds no sample_*.png")
    layouts = {
        "old": (SLUG, DATASET_SLUG),
        "new": (f"competitions/{SLUG}", f"datasets/somebody/{DATASET_SLUG}"),
    }
    written: list[bytes] = []
    for name, (competition, dataset) in layouts.items():
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="ecg-digitize-smoke-") as folder:
            home = Path(folder).resolve()
            rows = _mock_competition(home / "input" / competition, pages)
            _mock_dataset(home / "input" / dataset, root)
            (home / "working").mkdir()
            killed = ""
            if name == "new":
                n_kept = _run_until_killed(notebook.resolve(), home)
                killed = f", killed after {n_kept} and resumed on two devices"
            _run(notebook.resolve(), home)
            _verify(home / "working", rows, resumed=bool(killed))
            written.append((home / "working" / "submission.parquet").read_bytes())
        seconds = time.monotonic() - began
        print(
            f"smoke: {name} mounts: {len(pages)} pages and {len(BAD_PAGES)} bad{killed}, "
            f"{seconds:.0f} s"
        )
    if len(set(written)) > 1:
        raise SmokeError("submission.parquet: devices, cores or the kill changed its bytes")


def _mock_competition(folder: Path, pages: list[Path]) -> list[tuple[str, str, int, int]]:
    from ecg_digitize.layout import COMPETITION, LEADS

    (folder / "test").mkdir(parents=True)
    for page in pages:
        shutil.copyfile(page, folder / "test" / page.name)
    content = pages[0].read_bytes()
    (folder / "test" / f"{BAD_PAGES[1]}.png").write_bytes(content[: len(content) // 2])
    rates = {page.stem: _fs_hz(page.with_suffix(".csv")) for page in pages}
    rows = [
        (name, lead, fs, 10 * fs if lead == COMPETITION.strip_lead else 10 * fs // 4)
        for name, fs in (rates | dict.fromkeys(BAD_PAGES, 500)).items()
        for lead in LEADS
    ]
    with (folder / "test.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "lead", "fs", "number_of_rows"), *rows])
    return rows


def _fs_hz(truth: Path) -> int:
    if not truth.is_file():
        return 500
    with truth.open() as stream:
        return (sum(1 for _ in stream) - 1) // 10


def _mock_dataset(folder: Path, root: Path) -> None:
    folder.mkdir(parents=True)
    for path in (root / "weights").glob("*.safetensors"):
        shutil.copyfile(path, folder / path.name)


def _run(notebook: Path, home: Path) -> None:
    with _started(notebook, home) as process:
        try:
            said, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise SmokeError(f"the notebook took longer than {TIMEOUT_S} s") from None
    if process.returncode:
        raise SmokeError(f"the notebook failed:\n{said}")


def _run_until_killed(notebook: Path, home: Path) -> int:
    """Run the notebook, kill it once it has kept a page, and return how many it has kept."""
    devices = {"ECG_DIGITIZE_DEVICE": "cpu,cpu"}
    with _started(notebook, home, one_core_fewer=True, more=devices) as process:
        until = time.monotonic() + TIMEOUT_S
        while process.poll() is None and time.monotonic() < until:
            if kept := list((home / "working").glob(KEPT)):
                process.kill()
                process.communicate()
                return len(kept)
            time.sleep(0.05)
        process.kill()
        raise SmokeError(
            f"the notebook ended before it could be killed:\n{process.communicate()[0]}"
        )


def _started(
    notebook: Path, home: Path, *, one_core_fewer: bool = False, more: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "ECG_DIGITIZE", "KAGGLE"))
    }
    # A strange home keeps caches of downloaded models, which Kaggle does not have, out of reach.
    made = {"HOME": str(home), "MPLBACKEND": "agg", "ECG_DIGITIZE_INPUT_ROOT": str(home / "input")}
    command = [sys.executable, "-I", str(Path(__file__).resolve()), str(notebook)]
    return subprocess.Popen(
        [*_without_network(), *command, *(["one core fewer"] if one_core_fewer else [])],
        cwd=home / "working",
        env=kept | made | (more or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _without_network() -> list[str]:
    """Return the command prefix that takes the network away, if this system allows one."""
    for prefix in (["unshare", "-n"], ["unshare", "-rn"]):
        if shutil.which(prefix[0]) and _succeeds([*prefix, "true"]):
            return prefix
    return []


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _verify(working: Path, rows: list[tuple[str, str, int, int]], *, resumed: bool) -> None:
    import numpy as np
    import pyarrow.parquet as pq

    report = json.loads((working / "run_report.json").read_text("utf-8"))
    listed = sorted(failure["image"] for failure in report["failures"])
    if listed != sorted(BAD_PAGES):
        raise SmokeError(f"run_report.json lists {report['failures']}, must list {BAD_PAGES}")
    if bool(report["resumed"]) != resumed:
        raise SmokeError(f"run_report.json: {report['resumed']} pages are from an earlier run")
    if left := list(working.glob(KEPT)):
        raise SmokeError(f"{left[0]}: left behind")
    table = pq.read_table(working / "submission.parquet")
    want = [f"{name}_{k}_{lead}" for name, lead, _, count in rows for k in range(count)]
    if table["id"].to_pylist() != want:
        raise SmokeError(f"submission.parquet: {len(table)} ids are not the {len(want)} asked for")
    values = table["value"].to_numpy()
    if values.dtype != np.float32 or not np.isfinite(values).all():
        raise SmokeError(f"submission.parquet: value is {values.dtype}, must be finite float32")
    leads = np.split(values, np.cumsum([count for *_, count in rows])[:-1])
    for (name, lead, *_), lead_mv in zip(rows, leads, strict=True):
        if (name in BAD_PAGES) != (np.ptp(lead_mv) == 0):
            raise SmokeError(f"{name}: lead {lead} spans {np.ptp(lead_mv)} mV")


def _leave_one_core() -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:-1] or cores)


if __name__ == "__main__":
    if sys.argv[2:] and hasattr(os, "sched_setaffinity"):
        _leave_one_core()
    execute(Path(sys.argv[1]))
elif __name__ == "__mp_main__":  # in a process that the notebook starts to read pages
    for owner, name in _DIALS:
        setattr(owner, name, _refuse)
