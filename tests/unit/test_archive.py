"""Archives: a list of pages to parquet shards, whatever ends the run on the way."""

import csv
import hashlib
import importlib
import importlib.util
import json
import multiprocessing
import os
import signal
import sys
import textwrap
import time
from contextlib import nullcontext
from functools import partial

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecg_digitize.archive import record
from ecg_digitize.archive.cloud import TRIES, local_file
from ecg_digitize.archive.command import Lines
from ecg_digitize.archive.local import fill_locally
from ecg_digitize.archive.manifest import read_manifest
from ecg_digitize.archive.on_ray import crew_for
from ecg_digitize.archive.record import Reading
from ecg_digitize.archive.rows import LeadSignal, Row, Task
from ecg_digitize.archive.run import digitize_archive
from ecg_digitize.cli import main
from ecg_digitize.engine.seats import Seat
from ecg_digitize.engine.stop import Stop
from ecg_digitize.engine.store import open_store
from ecg_digitize.errors import EcgDigitizeError, ImageError, InputError
from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, crossings_mm
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.types import Digitization, GridMap, Recording, Trace

# A worker without networks: what it says of a page follows from the page's name.
CHORES = """
    import os, signal, time, zlib
    from pathlib import Path
    import numpy as np
    from ecg_digitize.archive.rows import LeadSignal, Row

    def make(seat):
        where = os.environ.get("ARCHIVE_CHORES")  # a folder for what is to be seen of workers
        if where:
            (Path(where) / f"pid-{os.getpid()}").write_text(str(os.getppid()))
        return read

    def read(task):
        time.sleep(float(os.environ.get("ARCHIVE_CHORES_S", 0)))
        if "die" in task.path:
            os.kill(os.getpid(), signal.SIGKILL)
        if "bad" in task.path:
            return Row("failed", error_stage="read", error=f"{task.path}: no picture")
        rng = np.random.default_rng(zlib.crc32(task.path.encode()))
        leads = {"II": LeadSignal(0.0, 0.9, rng.normal(size=100).astype(np.float32))}
        return Row("ok", "ab" * 32, ("a doubt",), layout="3x4+1", fs_hz=500.0, leads=leads)
"""


@pytest.fixture
def chores(tmp_path, monkeypatch):
    """A module that worker processes can import."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "archive_chores.py").write_text(textwrap.dedent(CHORES))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path[1:]]))
    yield importlib.import_module("archive_chores")
    del sys.modules["archive_chores"]


def listed(tmp_path, names):
    """Write a list of pages."""
    place = tmp_path / "list.csv"
    with place.open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "ward"), *((name, "3") for name in names)])
    return str(place)


def run(place, out, make, *, seats=1, apart=False, **options):
    """Fill an archive with the made-up rows."""
    fill = partial(fill_locally, make=make, seats=[Seat("cpu", 1)] * seats, apart=apart)
    return digitize_archive(
        read_manifest(place), out, Reading(), fill, **{"shard_pages": 4, **options}
    )


def lasting(out):
    """Return the bytes of all that does not tell the time."""
    files = (path for path in sorted(out.iterdir()) if path.is_file())
    return {path.name: path.read_bytes() for path in files if path.name != "_times.json"}


PAGES = [f"{index}.png" for index in range(10)]


def test_rows_are_those_of_the_list_in_its_order(chores, tmp_path):
    out = tmp_path / "out"
    outcome = run(listed(tmp_path, [*PAGES, "bad.png"]), out, chores.make)

    assert (outcome.n_done, outcome.n_new) == (11, 11)
    names = ["_failures.csv", "_run.json", "_summary.json"]
    assert list(lasting(out)) == [*names, *(f"shard-{k:05d}.parquet" for k in range(3))]
    table = pd.read_parquet(out)  # the folder is one table
    assert table["number"].tolist() == list(range(11))
    assert table["path"].tolist() == table["id"].tolist() == [*PAGES, "bad.png"]
    assert set(table["ward"]) == {"3"}
    assert table["status"].tolist() == ["ok"] * 10 + ["failed"]
    assert table["error"][10] == "bad.png: no picture"
    expected = chores.read(Task(3, "3.png", "3.png")).leads["II"]
    np.testing.assert_array_equal(table["II"][3]["mv"], expected.mv)
    assert (table["II"][3]["start_s"], table["I"][3], table["II"][10]) == (0.0, None, None)
    summary = json.loads((out / "_summary.json").read_text())
    assert summary["by_status"] == {"failed": 1, "ok": 10}
    assert summary["by_error_stage"] == {"read": 1}
    assert pd.read_csv(out / "_failures.csv")["path"].tolist() == ["bad.png"]
    assert json.loads((out / "_times.json").read_text())["pages_of_the_last_run"] == 11
    assert [path.name for path in (out / ".ecg_digitize").iterdir()] == ["lock"]


def test_stops_and_damage_change_no_byte(chores, tmp_path):
    place = listed(tmp_path, PAGES)
    run(place, tmp_path / "whole", chores.make)

    def stopping(seat, after):
        count = 0

        def read(task):
            nonlocal count
            count += 1
            stop.number = signal.SIGTERM if count == after else None
            return chores.read(task)

        return read

    parts, done = tmp_path / "parts", 0
    for after in (1, 4, 3):
        stop = Stop()
        outcome = run(place, parts, partial(stopping, after=after), stop=stop)
        done += after
        assert (outcome.n_done, outcome.n_new, outcome.summary) == (done, after, None)
    assert len(list(parts.glob("shard-*"))) == 2
    assert run(place, parts, chores.make).n_new == 2
    assert lasting(parts) == lasting(tmp_path / "whole")
    assert run(place, parts, chores.make).n_new == 0
    (parts / "shard-00001.parquet").write_bytes(bytes(5000))  # as a power cut leaves it
    assert run(place, parts, chores.make).n_new == 4
    assert lasting(parts) == lasting(tmp_path / "whole")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_kills_cost_no_row_and_change_no_byte(chores, tmp_path, monkeypatch):
    place = listed(tmp_path, [f"{index}.png" for index in range(40)])
    run(place, tmp_path / "whole", chores.make)
    monkeypatch.setenv("ARCHIVE_CHORES_S", "0.02")
    out = tmp_path / "killed"
    fork = multiprocessing.get_context("fork")  # what is imported need not be imported anew

    for shard in (1, 4, 7):  # of ten
        process = fork.Process(target=run, args=(place, out, chores.make))
        process.start()
        while not (out / f"shard-{shard:05d}.parquet").exists():
            assert process.is_alive()
            time.sleep(0.003)
        process.kill()
        process.join()
    assert not (out / "_summary.json").exists()
    assert run(place, out, chores.make).n_new <= 11

    assert lasting(out) == lasting(tmp_path / "whole")


def test_a_page_that_kills_its_worker_is_a_row(chores, tmp_path):
    place = listed(tmp_path, ["a.png", "die.png", *PAGES])
    run(place, tmp_path / "out", chores.make, seats=2, apart=True)

    table = pd.read_parquet(tmp_path / "out")
    assert table["status"].tolist() == ["ok", "failed", *["ok"] * 10]
    assert table["error_stage"][1] == "worker"
    assert "died 2 times" in table["error"][1]
    run(listed(tmp_path, PAGES), tmp_path / "alone", chores.make)
    alone = pd.read_parquet(tmp_path / "alone")
    pd.testing.assert_series_equal(table["II"][2:], alone["II"], check_index=False)


def test_a_folder_of_other_settings_is_refused(chores, tmp_path):
    place, out = listed(tmp_path, PAGES), tmp_path / "out"
    run(place, out, chores.make)

    with pytest.raises(InputError, match=r"shard_pages was 4 and is 3\); name another folder"):
        run(place, out, chores.make, shard_pages=3)
    with pytest.raises(InputError, match="pages was 10 and is 2"):
        run(listed(tmp_path, PAGES[:2]), out, chores.make)
    place = listed(tmp_path, PAGES)
    with (
        open_store(out / ".ecg_digitize", settings=""),
        pytest.raises(InputError, match="another run"),
    ):
        run(place, out, chores.make)
    (out / "_run.json").write_text("")
    with pytest.raises(InputError, match=r"_run\.json: is damaged .* --no-resume"):
        run(place, out, chores.make)
    (out / "_run.json").unlink()
    with pytest.raises(InputError, match=r"but no _run\.json"):
        run(place, out, chores.make)
    assert run(place, out, chores.make, shard_pages=5, resume=False).n_new == 10
    assert len(list(out.glob("shard-*"))) == 2


def test_a_full_disk_ends_the_run_and_no_page_is_called_bad(chores, tmp_path, monkeypatch):
    place, out = listed(tmp_path, PAGES), tmp_path / "out"

    def full(path, table, *args, **options):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", full)
        with pytest.raises(OSError, match="No space"):
            run(place, out, chores.make)
    assert not list(out.glob("shard-*"))

    assert run(place, out, chores.make).n_new == 6  # four were kept
    assert set(pd.read_parquet(out)["status"]) == {"ok"}


def test_bad_lines_are_told_and_cost_no_other(tmp_path):
    place = tmp_path / "list.csv"
    place.write_bytes(
        b"\xef\xbb\xbfpath,id,status\n"
        b"a.png,1,x\n"
        b"b.png,2\n"
        b"\xff.png,3,x\n"
        b"\n"
        b" ,4,x\n"
        b"/c.png,1,x\n"
        b'"d,d.png",,y\n'
    )
    manifest = read_manifest(str(place))

    assert manifest.table["path"].to_pylist() == ["a.png", "/c.png", "d,d.png"]
    assert manifest.table["id"].to_pylist() == ["1", "1", "d,d.png"]
    assert manifest.table["status"].to_pylist() == ["x", "x", "y"]
    assert [manifest.task(n).source for n in (0, 1)] == [str(tmp_path / "a.png"), "/c.png"]
    assert manifest.notes == (
        "line 3: expected 3 fields, but got 2",
        "line 4: is not UTF-8",
        "1 lines have no path and are left out",
        "1 ids stand for several pages, all are read: 1",
    )


def test_a_list_can_be_parquet_or_a_folder(tmp_path):
    table = pa.table({"path": ["a.png", None], "year": [1999, 2000]})
    pq.write_table(table, tmp_path / "list.parquet")
    for name in ("b.png", "sub/a.jpg", "out/x.png", ".h/y.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    read = read_manifest(str(tmp_path / "list.parquet"))
    assert read.table.to_pylist() == [{"id": "a.png", "path": "a.png", "year": 1999}]
    folder = read_manifest(str(tmp_path), out=tmp_path / "out")
    assert folder.table["path"].to_pylist() == ["b.png", "sub/a.jpg"]
    assert folder.task(1).source == str(tmp_path / "sub/a.jpg")
    for place, text, why in (
        ("x.csv", "file\na.png\n", 'a column "path", but got file'),
        ("y.csv", "path,path\na,b\n", "the same name"),
        ("z.csv", "path\n", "names no pages"),
        ("w.parquet", "no table", "cannot be read as a table"),
        ("v.txt", "", "expected a folder, or a table"),
    ):
        (tmp_path / place).write_text(text)
        with pytest.raises(InputError, match=why):
            read_manifest(str(tmp_path / place))


def test_each_page_of_a_file_is_a_page_of_the_list(tmp_path):
    pages = [PIL.Image.new("RGB", (300 + 10 * k, 300)) for k in range(3)]
    (tmp_path / "in").mkdir()
    pages[0].save(tmp_path / "in" / "a.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "in" / "b.png")

    folder = read_manifest(str(tmp_path / "in"))
    assert folder.table["id"].to_pylist() == [
        *("a.tif#page=1", "a.tif#page=2", "a.tif#page=3", "b.png")
    ]
    assert folder.table["path"].to_pylist() == ["a.tif"] * 3 + ["b.png"]
    assert [folder.task(k).page_number for k in range(4)] == [1, 2, 3, None]
    assert folder.task(2).source == str(tmp_path / "in" / "a.tif")

    place = tmp_path / "list.csv"
    place.write_text("path,page_number\na.tif,2\na.tif,\na.tif,x\na.tif,0\na.tif,1.5\n")
    listed = read_manifest(str(place))
    assert [listed.task(k).page_number for k in range(len(listed))] == [2, None]
    assert listed.table["id"].to_pylist() == ["a.tif#page=2", "a.tif"]
    assert listed.notes == (
        "3 lines have a page_number that is no whole number from 1 on, and are left out: x, 0, 1.5",
    )
    pq.write_table(
        pa.table({"path": ["a.tif"] * 2, "page_number": [2.0, None]}), tmp_path / "l.parquet"
    )
    assert read_manifest(str(tmp_path / "l.parquet")).table["page_number"].to_pylist() == [2, None]


@pytest.mark.usefixtures("made_readings")
def test_a_page_of_a_file_becomes_a_row(tmp_path):
    pages = [PIL.Image.new("RGB", (300, height)) for height in (300, 400)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    read = Reading()(Seat("cpu", 1))

    first, second, third = (read(Task(k, "a.tif", str(tmp_path / "a.tif"), k)) for k in (1, 2, 3))

    assert (first.status, second.status) == ("ok", "ok")
    assert first.picture_sha256 == second.picture_sha256
    assert third.error == "a.tif#page=3: expected a page number from 1 to 2, but got 3"


def test_addresses_are_read_by_fsspec(tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is an extra")
    monkeypatch.setattr("ecg_digitize.archive.cloud.WAIT_S", 0.0)
    for name, content in (("in/list.csv", b"path\na.png\n"), ("in/a.png", b"picture")):
        with fsspec.open(f"memory://{name}", "wb") as stream:
            stream.write(content)

    manifest = read_manifest("memory://in/list.csv")
    assert manifest.task(0).source == "memory://in/a.png"
    with local_file("memory://in/a.png") as path:
        assert path.read_bytes() == b"picture"
    assert not path.exists()
    assert read_manifest("memory://in").table["path"].to_pylist() == ["a.png"]
    with pytest.raises(ImageError, match="no such file"), local_file("memory://in/b.png"):
        pass
    with pytest.raises(ImageError, match=f"tried {TRIES} times"), local_file("abacus://b.png"):
        pass


@pytest.fixture
def made_readings(monkeypatch, tiny_weights):
    """In place of reading pages: a flat line each."""

    def digitize_told(page, models, *, fs_hz, overrides):
        if page.image.shape[0] == 200:
            raise ValueError(f"{page.source}: <object at 0x7f00>")
        grid = GridMap(
            np.float32(crossings_mm() * 5), np.ones((GRID_ROWS, GRID_COLUMNS), np.float32), 0.1
        )
        signals_mv = np.zeros((len(LEADS), round(10 * fs_hz)), np.float32)
        trace = Trace(*np.ones((2, *COMPETITION.shape), np.float32))
        return Digitization(page.source, Recording(signals_mv, fs_hz), trace, grid, None, {})

    monkeypatch.setattr(record, "digitize_told", digitize_told)


@pytest.mark.usefixtures("made_readings")
def test_a_picture_becomes_a_row(tmp_path):
    for name, height in (("a.png", 300), ("odd.png", 200)):
        PIL.Image.new("RGB", (300, height)).save(tmp_path / name)
    (tmp_path / "bad.png").write_text("no picture")
    manifest = read_manifest(listed(tmp_path, ["a.png", "odd.png", "bad.png", "gone.png"]))
    read = Reading(fs_hz=250)(Seat("cpu", 1))

    good, odd, bad, gone = (read(manifest.task(number)) for number in range(4))

    assert (good.status, good.layout, good.rhythm, good.fs_hz) == ("ok", "3x4+1", "II", 250)
    assert good.picture_sha256 == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    assert {lead: (one.start_s, len(one.mv)) for lead, one in good.leads.items()} == {
        lead: (0.0, 2500) if lead == "II" else (2.5 * (k // 3), 625) for k, lead in enumerate(LEADS)
    }
    assert (odd.error_stage, odd.error) == ("unexpected", "ValueError: odd.png: <object>")
    assert (bad.error_stage, gone.error_stage) == ("read", "read")
    assert bad.error.startswith("bad.png: ")
    assert gone.error.startswith("gone.png: ")
    assert (bad.picture_sha256 is None, gone.picture_sha256) == (False, None)


@pytest.mark.usefixtures("made_readings")
def test_the_command_reads_a_folder_and_names_what_failed(tmp_path, monkeypatch, capsys):
    inside = partial(fill_locally, apart=False)
    monkeypatch.setattr("ecg_digitize.archive.command.fill_locally", inside)
    monkeypatch.setattr("ecg_digitize.archive.command.SAID_EVERY_S", 0.0)
    pictures, out = tmp_path / "in", tmp_path / "out"
    pictures.mkdir()
    for name in ("a.png", "b.png"):
        PIL.Image.new("RGB", (300, 300)).save(pictures / name)
    command = ["digitize-many", str(pictures), "-o", str(out), "--device", "cpu"]

    assert main([*command, "--fs", "100", "--shard-pages", "1"]) == 0
    assert "2 pages in 2 shards: 2 ok, " in capsys.readouterr().err
    (pictures / "c.png").touch()
    assert main(command) == 2
    assert "holds the shards of other settings (pages was 2 and is 3" in capsys.readouterr().err
    assert main([*command, "--no-resume", "--workers", "1"]) == 3
    assert "_failures.csv: names those that failed" in capsys.readouterr().err
    assert pd.read_parquet(out)["status"].tolist() == ["ok", "ok", "failed"]

    read, stop = Reading.read, Stop()

    def stopped(reading, task, spare):
        stop.number = signal.SIGINT
        return read(reading, task, spare)

    with monkeypatch.context() as patch:
        # In place of a real signal, which would reach the process that runs the tests.
        patch.setattr("ecg_digitize.archive.command.stop_on_signals", lambda: nullcontext(stop))
        patch.setattr(Reading, "read", stopped)
        assert main([*command, "--no-resume"]) == 130
    assert "stopped by SIGINT: 1 of 3 pages are done" in capsys.readouterr().err
    assert main(command) == 3


def test_lines_say_when_the_end_is_expected(capsys):
    lines = Lines(1000, every_s=0.0)
    lines(500, 0)
    lines.began_s -= 3600
    lines(500, 100)
    assert capsys.readouterr().err == "600 of 1000 pages, 100 an hour, 4.0 hours left\n"


def test_rows_and_their_kept_form_are_the_same(chores, tmp_path):
    leads = {"V1": LeadSignal(2.5, float("nan"), np.float32([1, np.nan]))}
    row = Row("check", None, ("a", "b"), "6x2", None, 25.0, None, 500.0, 0.25, leads=leads)
    with open_store(tmp_path, settings="s") as store:
        store.put("0", "", meta=row.to_meta(), arrays={"V1": leads["V1"].mv})
        again = Row.from_stored(store.get("0", None))
    assert repr(again) == repr(row)


def test_a_cluster_is_shared_out():
    assert crew_for(8, 0).n_actors == 8
    assert crew_for(8, 0, workers=3).seat == Seat("cpu", 2)
    assert crew_for(8, 2).seat.device == "cuda"
    assert (crew_for(8, 2).n_actors, crew_for(8, 2).gpus) == (8, 0.25)
    assert crew_for(64, 1).n_actors == 5  # so many have room on 16 GB
    assert crew_for(64, 1, device="cpu").gpus == 0
    for device in ("cuda", "mps"):
        with pytest.raises(InputError):
            crew_for(8, 0, device=device)


def test_a_row_that_was_taken_away_is_told(chores, tmp_path):
    place, out = listed(tmp_path, PAGES), tmp_path / "out"
    run(place, out, chores.make)
    pq.write_table(pq.read_table(out / "shard-00000.parquet").take([1, 0, 2, 3]), out / "x")
    (out / "x").replace(out / "shard-00000.parquet")
    with pytest.raises(EcgDigitizeError, match="does not hold its pages once each"):
        run(place, out, chores.make)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_without_ray_the_engine_says_how_to_get_it(tmp_path, capsys):
    (tmp_path / "a.png").touch()
    assert main(["digitize-many", str(tmp_path), "-o", str(tmp_path / "o"), "--engine=ray"]) == 2
    assert 'pip install "ecg-digitize[ray]"' in capsys.readouterr().err


def test_ray_loses_nothing_and_does_nothing_twice_if_an_actor_is_killed(
    chores, tmp_path, monkeypatch
):
    ray = pytest.importorskip("ray", reason="ray is an extra")
    from ecg_digitize.archive.on_ray import connect, fill_on_ray

    names = [*(f"{index}.png" for index in range(38)), "die.png", "bad.png"]
    place, seen = listed(tmp_path, names), tmp_path / "seen"
    seen.mkdir()
    run(place, tmp_path / "whole", chores.make, apart=True)
    monkeypatch.setenv("ARCHIVE_CHORES_S", "0.1")
    monkeypatch.setenv("ARCHIVE_CHORES", str(seen))
    killed = []

    def kill_one(n_before, n_new):
        if n_new and not killed:
            actors = [int(path.read_text()) for path in sorted(seen.glob("pid-*"))]
            killed.append(actors[-1])
            os.kill(actors[-1], signal.SIGKILL)

    def run_on_ray(**options):
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            return digitize_archive(
                read_manifest(place),
                tmp_path / "out",
                Reading(),
                partial(fill_on_ray, make=chores.make, crew=crew_for(*connect(None))),
                shard_pages=4,
                **options,
            )
        finally:
            ray.shutdown()

    stop = Stop()

    def ask(n_before, n_new):
        stop.number = signal.SIGTERM if n_new else None

    assert run_on_ray(stop=stop, progress=ask).summary is None
    for path in seen.iterdir():
        path.unlink()
    outcome = run_on_ray(progress=kill_one)

    assert killed
    assert outcome.n_new < 40
    assert outcome.summary.pages == 40
    assert lasting(tmp_path / "out") == lasting(tmp_path / "whole")
