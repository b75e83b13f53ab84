"""submission.py on tiny pictures and a digitizer that only needs their name."""

import csv
import errno
import json
import signal
import time
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ecg_digitize.answers import answer, lead_values
from ecg_digitize.competition import (
    SLUG,
    Competition,
    find_competition,
    index_images,
)
from ecg_digitize.engine.seats import Seat
from ecg_digitize.engine.stop import Stop
from ecg_digitize.engine.store import PageStore
from ecg_digitize.errors import InputError, StageError
from ecg_digitize.files import INPUT_ROOT_VARIABLE
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.many import ordered_map
from ecg_digitize.submission import levels_from, main, submit
from ecg_digitize.types import Digitization, GridMap, Recording, Registration, Trace


def digitization(signals_mv, fs_hz):
    return Digitization(
        source="made",
        recording=Recording(signals_mv, fs_hz),
        trace=Trace(*np.zeros((2, *COMPETITION.shape), np.float32)),
        grid=GridMap(np.zeros((44, 57, 2), np.float32), np.zeros((44, 57), np.float32), 0.0),
        registration=Registration(
            np.eye(3), np.zeros((13, 2), np.float32), np.zeros(13, np.float32), 0, 13
        ),
        timings_s={"stage0": 0.5},
    )


def ramp_recording(fs_hz, n_total):
    """Lead k holds k + n / 1e5 at sample n of the ten seconds, NaN outside its window."""
    signals_mv = np.full((12, n_total), np.nan, np.float32)
    for k, lead in enumerate(LEADS):
        start, stop = COMPETITION.window(lead, n_total)
        signals_mv[k, start:stop] = k + np.arange(start, stop) / 1e5
    return Recording(signals_mv, fs_hz)


def fake_digitize(page, question):
    """Give ramps."""
    source, request = question.source, question.request
    if source.stem.startswith("hopeless"):
        raise StageError("stage1", "no grid found")
    if source.stem.startswith("buggy"):
        raise ZeroDivisionError("surprise")
    if source.stem.startswith("slow"):
        time.sleep(0.05)
    n_total = round(10 * request.fs_hz)
    return digitization(ramp_recording(request.fs_hz, n_total).signals_mv, request.fs_hz)


def write_inputs(folder, pages, *, lengths=None, leads=LEADS):
    """pages: {image id: fs}; returns the rows of test.csv as (id, lead, fs, n)."""
    (folder / "test").mkdir(parents=True)
    rows = []
    for name, fs in pages.items():
        if not name.startswith("missing"):
            noise = np.random.default_rng(0).integers(0, 255, (150, 200, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / "test" / f"{name}.png")
        if name.startswith("truncated"):
            path = folder / "test" / f"{name}.png"
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        for lead in leads:
            n_natural = 10 * fs if lead == "II" else 10 * fs // 4
            rows.append((name, lead, fs, (lengths or {}).get(lead, n_natural)))
    with (folder / "test.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "lead", "fs", "number_of_rows"), *rows])
    return rows


def fake_make(seat):
    return partial(answer, digitize=fake_digitize)


def run(folder, make=fake_make, **options):
    competition = Competition(folder / "test.csv", folder / "test")
    output, report = folder / "out" / "submission.parquet", folder / "out" / "run_report.json"
    submit(competition, make, output=output, report=report, **options)
    return pq.read_table(output), json.loads(report.read_text())


def expected_ids(rows):
    return [f"{name}_{k}_{lead}" for name, lead, _, n in rows for k in range(n)]


def test_every_row_in_order_and_bad_pages_are_listed(tmp_path):
    pages = {"slow": 250, "007": 256, "truncated": 500, "missing": 250, "hopeless": 250, "z": 500}
    rows = write_inputs(tmp_path, {**pages, "buggy": 250})

    table, report = run(tmp_path)

    assert table.schema.names == ["id", "value"]
    assert [str(kind) for kind in table.schema.types] == ["string", "float"]
    assert table["id"].to_pylist() == expected_ids(rows)
    assert np.isfinite(table["value"].to_numpy()).all()
    listed = {item["image"]: item["stage"] for item in report["failures"]}
    assert listed == {
        "truncated": "read",
        "missing": "read",
        "hopeless": "stage1",
        "buggy": "unexpected",
    }
    assert report["pages"] == 7
    assert report["digitized"] == 3
    assert report["rows"] == len(table)
    assert report["samples_filled"] == 0
    assert report["timings_s"]["stage0"] == 0.5
    assert set(report["presets"].values()) == {"best"}


def test_values_are_the_leads_windows_and_failed_pages_are_zero(tmp_path):
    rows = write_inputs(tmp_path, {"a": 1025, "missing": 1025})

    table, _ = run(tmp_path)

    values = dict(zip(table["id"].to_pylist(), table["value"].to_numpy(), strict=True))
    for name, lead, fs, n in rows:
        start, _ = COMPETITION.window(lead, 10 * fs)
        got = np.array([values[f"{name}_{k}_{lead}"] for k in range(n)])
        want = np.float32(LEADS.index(lead) + np.arange(start, start + n) / 1e5)
        np.testing.assert_array_equal(got, want if name == "a" else 0)


def test_odd_number_of_rows_is_respected(tmp_path):
    lengths = {"I": 0, "aVR": 1, "V1": 777, "V4": 2000, "II": 2503, "V6": 10000}
    rows = write_inputs(tmp_path, {"a": 250}, lengths=lengths)

    table, report = run(tmp_path)

    assert table["id"].to_pylist() == expected_ids(rows)
    assert np.isfinite(table["value"].to_numpy()).all()
    assert report["samples_filled"] > 0


def test_interleaved_pages_keep_the_tables_order_and_are_digitized_once(tmp_path):
    rows = write_inputs(tmp_path, {"a": 250, "b": 250})
    rows.sort(key=lambda row: (LEADS.index(row[1]), row[0]))
    with (tmp_path / "test.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "lead", "fs", "number_of_rows"), *rows])

    table, report = run(tmp_path)

    assert table["id"].to_pylist() == expected_ids(rows)
    assert report["pages"] == report["digitized"] == 2


def test_pages_not_begun_in_time_are_reported(tmp_path):
    rows = write_inputs(tmp_path, {"a": 250, "b": 250})

    table, report = run(tmp_path, time_budget_s=-1.0)

    assert table["id"].to_pylist() == expected_ids(rows)
    assert [item["stage"] for item in report["failures"]] == ["time", "time"]


def test_failed_write_leaves_the_old_submission(tmp_path):
    write_inputs(tmp_path, {"a": 250})
    run(tmp_path)
    before = (tmp_path / "out" / "submission.parquet").read_bytes()

    def interrupted(question):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, lambda seat: interrupted)
    assert (tmp_path / "out" / "submission.parquet").read_bytes() == before
    run(tmp_path)
    assert (tmp_path / "out" / "submission.parquet").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "run_report.json",
        "submission.parquet",
    ]


def test_a_stopped_run_reports_and_the_next_one_goes_on(tmp_path):
    rows = write_inputs(tmp_path, {"a": 250, "b": 256, "c": 500})
    whole, _ = run(tmp_path)
    (tmp_path / "out" / "submission.parquet").unlink()
    stop, asked = Stop(), []

    def make(seat):
        def ask(question):
            asked.append(question.request.image_id)
            if len(asked) == 2:
                stop.number = signal.SIGTERM
            return answer(question, digitize=fake_digitize)

        return ask

    competition = Competition(tmp_path / "test.csv", tmp_path / "test")
    out = tmp_path / "out"
    paths = {"output": out / "submission.parquet", "report": out / "run_report.json"}
    report = submit(competition, make, stop=stop, **paths)

    assert report.stopped == "stopped by SIGTERM: 2 of 3 pages are done; the same command goes on"
    assert stop.exit_code == 143
    assert json.loads(paths["report"].read_text())["digitized"] == 2
    assert not paths["output"].exists()

    table, document = run(tmp_path, make)
    assert asked == ["a", "b", "c"]
    assert document["resumed"] == 2
    assert table.equals(whole)
    assert table["id"].to_pylist() == expected_ids(rows)


@pytest.mark.parametrize("changed", ["picture", "settings", "lengths", "told", "nothing"])
def test_only_pages_that_agree_are_used_again(tmp_path, changed):
    write_inputs(tmp_path, {"a": 250, "b": 250})
    stop, options = Stop(), {}

    def first_only(seat):
        stop.number = signal.SIGINT
        return partial(answer, digitize=fake_digitize)

    out = tmp_path / "out"
    paths = {"output": out / "submission.parquet", "report": out / "run_report.json"}
    submit(Competition(tmp_path / "test.csv", tmp_path / "test"), first_only, stop=stop, **paths)

    if changed == "picture":
        with (tmp_path / "test" / "a.png").open("ab") as stream:
            stream.write(b"more")
    elif changed == "lengths":
        text = (tmp_path / "test.csv").read_text()
        (tmp_path / "test.csv").write_text(text.replace("a,I,250,625", "a,I,250,624"))
    elif changed == "settings":
        options = {"seats": [Seat("another device", 1)]}
    elif changed == "told":
        options = {"resume": False}
    _, report = run(tmp_path, **options)

    assert report["resumed"] == (1 if changed == "nothing" else 0)
    assert report["digitized"] == 2


def test_a_disk_that_does_not_take_pages_costs_none(tmp_path, monkeypatch):
    write_inputs(tmp_path, {"a": 250, "b": 250})
    whole, _ = run(tmp_path)

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PageStore, "put", full)
    table, report = run(tmp_path)
    assert table.equals(whole)
    assert report["failures"] == []


def test_where_no_process_can_be_started_one_goes_on_by_itself(tmp_path):
    write_inputs(tmp_path, {"a": 250, "b": 250})
    whole, _ = run(tmp_path)

    table, report = run(tmp_path, lambda seat: fake_make(seat), apart=True)  # cannot be pickled

    assert table.equals(whole)
    assert report["failures"] == []


def test_two_runs_do_not_write_the_same_submission(tmp_path):
    write_inputs(tmp_path, {"a": 250})

    def make(seat):
        with pytest.raises(InputError, match="another run"):
            run(tmp_path)
        return partial(answer, digitize=fake_digitize)

    assert run(tmp_path, make)[1]["digitized"] == 1


def test_lead_values_bridge_gaps_and_never_leak_nan():
    recording = ramp_recording(100.0, 1000)
    lead = LEADS.index("V1")
    start, _ = COMPETITION.window("V1", 1000)
    recording.signals_mv[lead, start + 10 : start + 20] = np.nan

    values, n_filled = lead_values(recording, "V1", 260)

    assert n_filled == 20  # the gap and ten samples past the window
    np.testing.assert_allclose(values[:250], lead + np.arange(start, start + 250) / 1e5, atol=1e-6)
    np.testing.assert_array_equal(values[250:], values[249])
    recording.signals_mv[lead] = np.inf
    assert (lead_values(recording, "V1", 5)[0] == 0).all()


@pytest.mark.parametrize("mount", [SLUG, f"competitions/{SLUG}"])
def test_both_mounts_are_found(tmp_path, monkeypatch, mount):
    write_inputs(tmp_path / mount, {"a": 250})
    monkeypatch.setenv(INPUT_ROOT_VARIABLE, str(tmp_path))

    assert find_competition() == Competition(
        tmp_path / mount / "test.csv", tmp_path / mount / "test"
    )


def test_missing_competition_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv(INPUT_ROOT_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"--test-csv"):
        find_competition()
    assert main(["--images", str(tmp_path)]) == 2


def test_bad_rows_of_the_table_cost_no_others(tmp_path):
    write_inputs(tmp_path, {"a": 250, "b": 250})
    with (tmp_path / "test.csv").open("a", newline="") as stream:
        stream.write('a,X,250,3\nlost,I,1e6,4\nb,II,250,-1\n"b,I,250,5\nb,I,250,2\n')

    table, report = run(tmp_path)

    values = table["value"].to_numpy()
    assert len(values) == 2 * (11 * 625 + 2500) + 3 + 4 + 2
    assert table["id"].to_pylist()[-9:] == [
        *("a_0_X", "a_1_X", "a_2_X", "lost_0_I", "lost_1_I", "lost_2_I", "lost_3_I"),
        *("b_0_I", "b_1_I"),
    ]
    assert (values[-9:-2] == 0).all()
    assert values[-1] != 0
    assert report["pages"] == report["digitized"] == 2
    told = [(item["image"], item["stage"]) for item in report["failures"]]
    assert told == [(name, "table") for name in ("test.csv",) * 3 + ("a", "lost")]


def test_ids_keep_zeros_and_other_kinds_of_pictures_are_found(tmp_path):
    for name in ("007.png", "007.JPG", "8.jpeg", "notes.txt"):
        (tmp_path / name).touch()
    assert index_images(tmp_path) == {"007": tmp_path / "007.png", "8": tmp_path / "8.jpeg"}


def test_ordered_map_keeps_order_and_reads_ahead_boundedly():
    begun = []

    def note(item):
        begun.append(item)
        time.sleep(0.001 * (item % 3))
        return item

    results = ordered_map(note, range(20), workers=2)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(begun) <= 5
    assert list(results) == list(range(1, 20))


@pytest.mark.parametrize(
    ("preset", "names"),
    [("ensemble", ["ensemble", "best", "fast", "quick"]), ("fast", ["fast", "quick"])],
)
def test_members_go_before_looks_and_these_before_the_refinement(preset, names):
    assert [level.name for level in levels_from(preset)] == names
    costs = [level.cost for level in levels_from(preset)]
    assert costs == sorted(costs, reverse=True)
