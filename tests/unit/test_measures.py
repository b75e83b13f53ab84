"""Figures on synthetic beats whose intervals are known, printed as the competition prints them."""

import csv
import importlib.util
import json
import sys

import numpy as np
import pytest

from ecg_digitize.batch import digitize_into, find_pages
from ecg_digitize.cli import main
from ecg_digitize.errors import InputError, StageError
from ecg_digitize.formats.csv import read_csv, write_csv
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.measures import FIGURES, NOTE, Measures, measure
from ecg_digitize.measures.figures import axis_deg, bazett_ms, fridericia_ms
from ecg_digitize.measures.table import MeasuredPage, write_table
from ecg_digitize.page_files import PageDone, PageOutput, Picture, Writing
from ecg_digitize.signals import printed_recording
from ecg_digitize.synth import simulator
from ecg_digitize.training.agreement import (
    Agreement,
    MeasuredPair,
    agreement,
    agreements,
    to_text,
)
from ecg_digitize.training.evaluate import evaluate
from ecg_digitize.types import Failure, Recording

FS_HZ = 500
TIME_S = np.arange(10 * FS_HZ) / FS_HZ
needs_neurokit = pytest.mark.skipif(
    importlib.util.find_spec("neurokit2") is None, reason="needs the extra measures (neurokit2)"
)

# Peak after R (s) and standard deviation (s) of each wave; waves end 2 SD from the peak for T and
# P, which is where the tangent at the flank meets the line, and 2.5 SD for QRS.
P, QRS, T = (-0.16, 0.02), (0.0, 0.014), (0.26, 0.035)
PR_MS = 1e3 * (P[1] * 2 - P[0] - QRS[1] * 2.5)
QRS_MS = 1e3 * QRS[1] * 5
V_LEADS = np.array([-0.6, 0.5, 0.9, 1.2, 1.1, 0.8])
TOLERANCE_MS = 20.0


def twelve(i_mv, avf_mv, v_mv):
    """The limb leads follow from I and aVF."""
    ii_mv = avf_mv + i_mv / 2
    iii_mv = ii_mv - i_mv
    limb = [i_mv, ii_mv, iii_mv, -(i_mv + ii_mv) / 2, i_mv - ii_mv / 2, avf_mv]
    return np.stack([*limb, *np.outer(V_LEADS, v_mv)])


def wave(r_s, at_s, sd_s):
    return np.exp(-0.5 * ((TIME_S[:, None] - r_s - at_s) / sd_s) ** 2).sum(axis=1)


def ecg_mv(
    *, rate_per_min=70.0, axis=40.0, r_s=None, p_mv=0.12, st_mv=None, noise_mv=0.004, seed=0
):
    rng = np.random.default_rng(seed)
    if r_s is None:
        r_s = np.arange(0.37, 11, 60 / rate_per_min)
    pace = np.sqrt(min(60 / rate_per_min, 1.0))  # T comes earlier at fast rates
    p, qrs, t = (wave(r_s, *one) for one in (P, QRS, (pace * T[0], pace * T[1])))
    # An augmented lead is sqrt(3)/2 as long as lead I.
    i, avf = np.cos(np.radians(axis)), np.sin(np.radians(axis)) * np.sqrt(3) / 2
    signals_mv = twelve(
        i * qrs + p_mv * p + 0.2 * t, avf * qrs + p_mv * p + 0.2 * t, qrs + 0.5 * p_mv * p + 0.3 * t
    )
    for lead, level_mv in (st_mv or {}).items():
        after = (TIME_S[:, None] - r_s - 0.03) / 0.01  # rises and falls within 10 ms or so
        until = (TIME_S[:, None] - r_s - 0.16) / 0.01
        plateau = (1 / (1 + np.exp(-np.clip(after, -50, 50)))) / (
            1 + np.exp(np.clip(until, -50, 50))
        )
        signals_mv[LEADS.index(lead)] += level_mv * plateau.sum(axis=1)
    return signals_mv + rng.normal(0, noise_mv, signals_mv.shape)


def qt_ms_at(rate_per_min):
    return 1e3 * (np.sqrt(min(60 / rate_per_min, 1)) * (T[0] + 2 * T[1]) + 2.5 * QRS[1])


def measured(signals_mv):
    return measure(printed_recording(signals_mv.astype(np.float32), fs_hz=FS_HZ))


@needs_neurokit
@pytest.mark.parametrize("rate_per_min", [40, 55, 70, 90, 110, 140, 180])
def test_rates_from_40_to_180(rate_per_min):
    found = measured(ecg_mv(rate_per_min=rate_per_min))

    assert found.rate_per_min == pytest.approx(rate_per_min, abs=1)
    assert found.leads["rate_per_min"] == ("II",)
    qt_ms = qt_ms_at(rate_per_min)
    for value, true_ms in ((found.pr_ms, PR_MS), (found.qrs_ms, QRS_MS), (found.qt_ms, qt_ms)):
        assert value is None or value == pytest.approx(true_ms, abs=TOLERANCE_MS)


@needs_neurokit
@pytest.mark.parametrize("rate_per_min", [50, 70, 90])
def test_intervals_are_found_at_usual_rates(rate_per_min):
    found = measured(ecg_mv(rate_per_min=rate_per_min))

    assert found.pr_ms == pytest.approx(PR_MS, abs=TOLERANCE_MS)
    assert found.qrs_ms == pytest.approx(QRS_MS, abs=TOLERANCE_MS)
    assert found.qt_ms == pytest.approx(qt_ms_at(rate_per_min), abs=TOLERANCE_MS)
    rr_s = 60 / rate_per_min
    assert found.qtc_bazett_ms == pytest.approx(found.qt_ms / rr_s**0.5, rel=0.01)
    assert found.qtc_fridericia_ms == pytest.approx(found.qt_ms / rr_s ** (1 / 3), rel=0.01)


@needs_neurokit
@pytest.mark.parametrize("axis", [-150, -60, -20, 15, 60, 105, 170])
def test_axis_of_rotated_hearts(axis):
    found = measured(ecg_mv(axis=axis))

    assert found.axis_deg == pytest.approx(axis, abs=5)
    assert found.leads["axis_deg"] == ("I", "aVF")


@needs_neurokit
@pytest.mark.parametrize("level_mv", [-0.2, 0.1, 0.3])
def test_an_added_st_level_is_found_again(level_mv):
    before = measured(ecg_mv())
    shifted = {"V2": level_mv, "V5": level_mv, "aVL": level_mv}
    after = measured(ecg_mv(st_mv=shifted))

    for lead in LEADS:
        moved_mv = after.st_mv[lead] - before.st_mv[lead]
        assert moved_mv == pytest.approx(shifted.get(lead, 0.0), abs=0.02), lead


@needs_neurokit
def test_no_p_wave_no_pr():
    assert measured(ecg_mv(p_mv=0.0)).pr_ms is None


@needs_neurokit
@pytest.mark.parametrize("seed", range(4))
def test_atrial_fibrillation_has_a_rate_but_neither_pr_nor_qtc(seed):
    rng = np.random.default_rng(seed)
    r_s = 0.4 + np.cumsum(0.75 * np.exp(rng.uniform(-0.45, 0.45, 16)))
    r_s = r_s[r_s < 9.8]
    fibrillation_mv = 0.05 * np.sin(2 * np.pi * 6.3 * TIME_S + np.cumsum(rng.normal(0, 0.1, 5000)))
    found = measured(ecg_mv(r_s=r_s, p_mv=0.0, seed=seed) + fibrillation_mv)

    assert found.rate_per_min == pytest.approx(60 * (len(r_s) - 1) / np.ptp(r_s), abs=1)
    assert found.pr_ms is None
    assert found.qtc_bazett_ms is None


@needs_neurokit
@pytest.mark.parametrize(
    "signals_mv",
    [
        np.full((12, 5000), np.nan),
        np.zeros((12, 5000)),
        np.random.default_rng(0).normal(0, 0.1, (12, 5000)),
        np.cumsum(np.random.default_rng(1).normal(0, 0.02, (12, 5000)), axis=1),
        np.tile(np.sin(2 * np.pi * 50 * TIME_S), (12, 1)),
        np.tile(np.where(TIME_S < 5, 1.0, -1.0), (12, 1)),
    ],
    ids=["empty", "flat", "noise", "drift", "hum", "step"],
)
def test_what_is_no_ecg_gives_nothing_and_says_so(signals_mv):
    found = measured(signals_mv)

    assert [getattr(found, name) for name in FIGURES] == [None] * len(FIGURES)
    assert found.st_mv == {}
    assert found.notes


@needs_neurokit
@pytest.mark.parametrize("seed", range(12))
def test_the_simulators_hearts_never_raise_and_their_figures_can_be(seed):
    """Ectopics, bundle branch blocks, pacing, fibrillation."""
    eight = simulator.simulate(np.random.default_rng(seed))
    limb = twelve(eight[0], eight[1] - eight[0] / 2, np.zeros(5000))[:6]
    found = measured(np.concatenate([limb, eight[2:]]))

    assert found.rate_per_min is None or 30 < found.rate_per_min < 200
    assert found.qrs_ms is None or 50 < found.qrs_ms < 260


@needs_neurokit
@pytest.mark.parametrize("fs_hz", [100, 250, 1000])
def test_other_sampling_rates(fs_hz):
    mv = ecg_mv(noise_mv=0.0)
    at = np.arange(10 * fs_hz) / fs_hz
    resampled = np.stack([np.interp(at, TIME_S, row) for row in mv]).astype(np.float32)
    found = measure(printed_recording(resampled, fs_hz=fs_hz))

    assert found.rate_per_min == pytest.approx(70, abs=1)
    assert found.qrs_ms == pytest.approx(QRS_MS, abs=TOLERANCE_MS)


@needs_neurokit
def test_a_hole_in_the_strip_is_not_bridged():
    recording = printed_recording(ecg_mv().astype(np.float32), fs_hz=FS_HZ)
    holed_mv = recording.signals_mv.copy()
    holed_mv[LEADS.index("II"), 2000:2600] = np.nan
    holed = measure(Recording(holed_mv, FS_HZ, recording.layout))
    holed_mv[:, ::600] = np.nan
    short = measure(Recording(holed_mv, FS_HZ, recording.layout))

    assert holed.rate_per_min == pytest.approx(70, abs=1)
    assert holed.n_beats < 7
    assert short.rate_per_min == pytest.approx(70, abs=1)  # single samples are bridged


@needs_neurokit
@pytest.mark.parametrize(("shift_ms", "is_measured"), [(0, True), (60, False), (-60, False)])
def test_columns_that_lag_behind_the_strip_have_no_intervals(shift_ms, is_measured):
    """Some programs print them so: the QRS complex of all leads together would be too long."""
    signals_mv = ecg_mv()
    above = [lead != "II" for lead in LEADS]
    signals_mv[above] = np.roll(signals_mv[above], round(shift_ms * FS_HZ / 1000), axis=1)
    found = measured(signals_mv)

    assert found.rate_per_min == pytest.approx(70, abs=1)
    assert (found.qrs_ms is not None) == is_measured
    assert any("not of the same moments" in note for note in found.notes) != is_measured


@needs_neurokit
def test_rejected_readings_and_leads_that_are_probably_wrong_are_left_out():
    recording = printed_recording(ecg_mv().astype(np.float32), fs_hz=FS_HZ)
    quality = np.ones(12, np.float32)
    quality[LEADS.index("V3")] = 0.2
    quality[LEADS.index("I")] = 0.2
    doubted = measure(Recording(recording.signals_mv, FS_HZ, recording.layout, quality=quality))
    rejected = measure(Recording(recording.signals_mv, FS_HZ, recording.layout, is_rejected=True))

    assert "V3" not in doubted.st_mv
    assert doubted.axis_deg is None
    assert doubted.rate_per_min is not None
    assert "V3" not in doubted.leads["qrs_ms"]
    assert rejected.rate_per_min is None
    assert rejected.notes == ("nothing: the reading is rejected",)


def test_the_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "neurokit2", None)
    with pytest.raises(InputError, match=r'pip install "ecg-digitize\[measures\]"'):
        measure(Recording(np.zeros((12, 5000), np.float32), 500.0, COMPETITION))


def test_formulas():
    assert axis_deg(1.0, 0.0) == 0
    assert axis_deg(0.0, 1.0) == 90
    assert axis_deg(1.0, np.sqrt(3) / 2) == pytest.approx(45)
    assert bazett_ms(0.4, 0.64) == pytest.approx(500)
    assert fridericia_ms(0.4, 0.512) == pytest.approx(500)


def test_the_table_has_a_row_a_page_and_says_what_it_is_for(tmp_path):
    known = Measures(rate_per_min=61.24, axis_deg=12.6, st_mv={"V2": 0.1236}, notes=("no PR: x",))
    write_table(
        tmp_path / "measures.csv",
        [
            MeasuredPage("a.png", "check", known.to_json()),
            MeasuredPage("b.png", "failed", None, "b.png: truncated"),
        ],
    )
    with (tmp_path / "measures.csv").open(encoding="utf-8", newline="") as file:
        a, b = csv.DictReader(file)

    assert (a["picture"], a["verdict"], a["rate_per_min"]) == ("a.png", "check", "61.2")
    assert (a["axis_deg"], a["st_V2_mv"], a["pr_ms"]) == ("13", "0.124", "")
    assert a["note"] == f"{NOTE}; no PR: x"
    assert (b["verdict"], b["rate_per_min"], b["note"]) == (
        "failed",
        "",
        f"{NOTE}; b.png: truncated",
    )


def test_bias_and_limits_by_hand():
    # Differences 1, 3, 5: mean 3, SD 2, limits 3 +/- 3.92.
    found = agreement(
        "qrs_ms", [(90, 91), (100, 103), (80, 85), (70, None), (None, 9), (None,) * 2]
    )

    assert found == Agreement("qrs_ms", 3, 3.0, pytest.approx(-0.92), pytest.approx(6.92), 1, 1)


def test_axes_differ_the_shorter_way_round():
    assert agreement("axis_deg", [(175, -175), (-170, 170)]).bias == pytest.approx(-5)


def test_one_line_a_figure_with_st_of_all_leads_together():
    pairs = [
        MeasuredPair(Measures(rate_per_min=60, st_mv={"I": 0.1, "V1": 0.2}), Measures()),
        MeasuredPair(
            Measures(rate_per_min=60, st_mv={"I": 0.1, "V1": 0.2}),
            Measures(rate_per_min=61, st_mv={"I": 0.11, "V2": 0.0}),
        ),
    ]
    rows = agreements(pairs)

    assert [row.figure for row in rows] == [*FIGURES, "st_mv"]
    assert (rows[0].n, rows[0].bias, rows[0].low, rows[0].n_truth_only) == (1, 1, None, 1)
    st = rows[-1]
    assert (st.n, st.n_truth_only, st.n_read_only) == (1, 3, 1)
    assert st.bias == pytest.approx(0.01)
    text = to_text(rows)
    assert NOTE in text
    assert len(text.splitlines()) == 2 + len(rows)


@needs_neurokit
def test_evaluate_compares_what_was_read_with_the_truth(tmp_path):
    lines = ["image,truth,fs,kind"]
    for seed in range(3):
        recording = printed_recording(
            ecg_mv(rate_per_min=60 + 10 * seed, seed=seed).astype(np.float32), fs_hz=FS_HZ
        )
        write_csv(recording, tmp_path / f"{seed}.csv")
        lines.append(f"{seed}.png,{seed}.csv,{FS_HZ},render")
    (tmp_path / "paired.csv").write_text("\n".join(lines) + "\n")

    def digitize(path, fs_hz):
        if path.stem == "2":
            raise StageError("stage0", "2.png: nothing found")
        truth = read_csv(path.with_suffix(".csv"), fs_hz=fs_hz)
        noise_mv = np.random.default_rng(7).normal(0, 0.01, truth.signals_mv.shape)
        return Recording((truth.signals_mv + noise_mv).astype(np.float32), fs_hz)

    report = evaluate(tmp_path / "paired.csv", digitize, measured=True)
    document = json.loads(json.dumps(report.to_json()))
    rate, *_, st = document["agreements"]

    assert (rate["figure"], rate["n"], rate["n_truth_only"]) == ("rate_per_min", 2, 1)
    assert rate["bias"] == pytest.approx(0, abs=0.5)
    assert (st["n"], st["n_truth_only"]) == (24, 12)
    assert document["images"][2]["measures"]["read"]["rate_per_min"] is None
    assert "truth only" in report.to_text()
    assert evaluate(tmp_path / "paired.csv", digitize).agreements == ()


def test_a_run_writes_the_table_and_the_report(tmp_path):
    def done(picture):
        if picture.name == "b":
            return Failure(str(picture.source), "read", "b.png: no picture")
        told = {"files": {}, "windows_s": {}, "quality": {}}
        output = PageOutput(
            **told,
            layout="3x4+1",
            rhythm="II",
            mm_per_s=25,
            mm_per_mv=10,
            einthoven_mv=None,
            verdict="ok",
            doubts=(),
            measures=Measures(rate_per_min=70, pr_ms=150).to_json(),
        )
        return PageDone(output, {}, "", None)

    pictures = [Picture(tmp_path / f"{name}.png", name) for name in "ab"]
    writing = Writing(tmp_path / "out", measure=True)
    digitize_into(writing.out, pictures, writing, make=lambda seat: done)

    with (writing.out / "measures.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["verdict"], row["pr_ms"]) for row in rows] == [("ok", "150"), ("failed", "")]
    report = json.loads((writing.out / "run_report.json").read_text())
    (output,) = report["outputs"].values()
    assert output["measures"]["note"] == NOTE
    assert output["measures"]["rate_per_min"] == 70


@pytest.mark.parametrize("command", [["digitize", "x.png", "-o", "out"], ["evaluate", "x.csv"]])
def test_the_commands_say_what_is_missing_before_they_begin(command, tmp_path, monkeypatch, capsys):
    def missing():
        raise InputError("the measures need the package neurokit2")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ecg_digitize.measures.beats.neurokit", missing)

    assert main([*command, "--measure"]) == 2
    assert "neurokit2" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_picture_called_measures_leaves_the_table_its_name():
    assert find_pages(["measures.png"]).pictures[0].name != "measures"
