"""Benchmark and validation measure what they say."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_digitize import pipeline
from ecg_digitize.cli import main
from ecg_digitize.synth.dataset import KINDS, make_page
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.training import validate
from ecg_digitize.training.bench import peak_memory_mb
from ecg_digitize.training.validate import (
    PageCheck,
    check_page,
    page_score,
    round_trip_db,
    validate_pages,
)
from ecg_digitize.types import GridMap


@pytest.fixture
def threads():
    """Restore the number of threads that bench sets."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("tiny_weights", "sheet_given", "threads")
def test_bench_tells_stages_floor_memory_and_starts(tmp_path, capsys):
    assert main(["synth", "-o", str(tmp_path), "--count", "1", "--kind", "render"]) == 0
    image, report_file = tmp_path / "page_000000.png", tmp_path / "bench.json"
    options = ["--repeat", "1", "--threads", "1", "--workers", "1", "--json", str(report_file)]

    assert main(["bench", str(image), *options]) == 0

    report = json.loads(report_file.read_text())
    stages = {
        *("read", "stage0", "stage1", "calibration"),
        *("rectify", "stage2", "decode", "refine", "signals"),
    }
    assert set(report["stages_ms"]) == stages
    assert sum(report["stages_ms"].values()) == pytest.approx(report["page_ms"])
    assert 0 < report["floor_ms"] < report["page_ms"]
    assert report["page_floors"] == pytest.approx(report["page_ms"] / report["floor_ms"])
    batch = report["batch"]
    assert (batch["workers"], batch["pages"]) == (1, 1)
    assert batch["pages_per_s"] > 0
    assert batch["start_s"] > 0
    assert 50 < batch["worker_memory_mb"] < 100_000
    assert report["threads"] == 1
    for start in (report["cold"], report["warm"]):
        assert 0 < start["ready_s"] < start["first_page_s"]
        assert start["cpu_s"] > 0
    assert "floor" in capsys.readouterr().out


def test_bench_counts_the_samples_that_training_would_get(tmp_path, capsys):
    report_file = tmp_path / "feed.json"
    options = ["--workers", "1", "--samples", "2", "--json", str(report_file)]

    assert main(["bench", "--feed", "stage1", *options]) == 0

    report = json.loads(report_file.read_text())
    assert (report["stage"], report["samples"], report["workers"]) == ("stage1", 2, 1)
    assert 0.01 < report["samples_per_s"] < 1000
    assert f"{report['samples_per_s']:.2f} samples/s" in capsys.readouterr().out


def test_peak_memory_is_in_megabytes():
    peak = peak_memory_mb()
    assert peak is None or 50 < peak < 100_000


def test_round_trip_of_true_masks_is_above_31_db():
    snr_db = round_trip_db(SimulatorSource(validation=True), windows=3)
    assert len(snr_db) == 3
    assert np.mean(snr_db) >= 31


def test_grid_and_orientation_are_compared_with_the_labels(monkeypatch, tiny_models, sheet_given):
    page = make_page(SimulatorSource(), seed=1, index=0, kind="render")
    shifted = page.crossings_xy_px + np.array([3, 4], np.float32)
    found = GridMap(shifted, np.ones((44, 57), np.float32), 0.1)
    monkeypatch.setattr(pipeline, "find_grid", lambda *_: found)

    check = check_page(0, page, tiny_models)

    assert check.turns_right
    assert check.grid_errors_px == pytest.approx(5, abs=1e-3)
    assert 1000 < check.grid_errors_px.size <= 44 * 57

    lost = GridMap(shifted, np.zeros((44, 57), np.float32), float("inf"))
    monkeypatch.setattr(pipeline, "find_grid", lambda *_: lost)
    assert check_page(0, page, tiny_models).grid_errors_px is None


@pytest.mark.usefixtures("tiny_weights", "sheet_given")
def test_validate_prints_a_line_a_kind(tmp_path, capsys):
    report_file = tmp_path / "v.json"

    assert main(["validate", "--pages", "2", "--json", str(report_file)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["kind", "pages", "failed"]
    assert lines[-1].split()[:2] == ["all", "2"]
    report = json.loads(report_file.read_text())
    assert len(report["pages"]) == 2
    assert report["kinds"][-1]["kind"] == "all"


def test_each_kind_shows_the_same_records_in_all_nine(monkeypatch, tiny_models):
    seen = []

    def check(index, page, models, *, passes):
        seen.append((index, page.kind, page.signals_mv))
        score = page_score(page, page.signals_mv)
        return PageCheck(index, page.kind, None, np.empty(0), np.empty(0), False, score, None)

    monkeypatch.setattr(validate, "check_stage2", check)

    report = validate_pages(
        SimulatorSource(), tiny_models, pages=2, each_kind=True, true_geometry=True
    )

    assert [(index, kind) for index, kind, _ in seen] == [(i, k) for k in KINDS for i in (0, 1)]
    for index, _, signals_mv in seen:
        np.testing.assert_array_equal(signals_mv, seen[index][2])
    lines = report.to_text().splitlines()
    assert [line.split()[0] for line in lines] == ["kind", *KINDS, "all"]
    assert all(line.split()[-2] == "25.84" for line in lines[1:])


@pytest.mark.usefixtures("tiny_weights", "sheet_given")
def test_kinds_may_be_named_and_printed_by_laser(monkeypatch, capsys):
    made = []

    def make(source, *, kind, laser_prints, **options):
        made.append((kind, laser_prints))
        return make_page(source, kind=kind, laser_prints=laser_prints, **options)

    monkeypatch.setattr(validate, "make_page", make)
    options = ["--pages", "1", "--laser-prints", "--true-geometry", "--megapixels", "1.6"]

    assert main(["validate", "--kind", "scan", "photo", *options]) == 0
    assert made == [("scan", 1.0), ("photo", 1.0)]
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    assert names[:4] == ["kind", "scan", "photo", "all"]

    assert main(["validate", "--kind", "poster", *options]) == 2
    assert "no kind 'poster'; there are render, scan" in capsys.readouterr().err


def test_true_geometry_asks_stage_2_alone(tiny_models):
    none = torch.nn.Identity()
    models = replace(tiny_models, stage0=none, stage1=none)

    report = validate_pages(SimulatorSource(), models, pages=1, true_geometry=True)

    (check,) = report.checks
    assert check.turns_right is None
    assert check.error is None
    assert report.summaries()[-1].n_without_grid == 0
