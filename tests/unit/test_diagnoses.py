"""Diagnoses: rules, inputs, training, thresholds, judging, and the command; research only."""

import csv
import functools
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_digitize.cli import main
from ecg_digitize.diagnoses import compare, imitate, inputs, judge, printed, thresholds
from ecg_digitize.diagnoses.classes import CLASSES, Labelled, classes_of, read_labels, targets_of
from ecg_digitize.diagnoses.classify import (
    COLUMNS,
    CSV_NAME,
    NETWORKS,
    NOTICE,
    UNKNOWABLE,
    classify,
    load_classifier,
    write_classes,
)
from ecg_digitize.diagnoses.judge import DecidedPage
from ecg_digitize.diagnoses.pictures import training as on_pictures
from ecg_digitize.diagnoses.pictures.net import SEEN, PictureNet, picture_input
from ecg_digitize.diagnoses.records import OneRecord, records_of
from ecg_digitize.diagnoses.signals.net import SignalNet
from ecg_digitize.diagnoses.signals.training import Samples
from ecg_digitize.diagnoses.thresholds import ScoredRecords
from ecg_digitize.errors import InputError
from ecg_digitize.formats.csv import read_csv, write_full
from ecg_digitize.formats.description import Provenance
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.manifest import read_manifest
from ecg_digitize.shipped import HOME
from ecg_digitize.signals import printed_recording
from ecg_digitize.synth.dataset import make_page
from ecg_digitize.synth.signals import JoinedSource, to_twelve
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.training.loop import TrainOptions
from ecg_digitize.training.pairs import Pair
from ecg_digitize.training.run import architecture_of, train_stage
from ecg_digitize.types import Recording
from ecg_digitize.weights import network_classes

TINY_BACKBONE = "test_efficientnet"  # timm's own, for tests
SHARED = Path(__file__).parents[3] / "shared"
SAMPLES = Path(__file__).parents[1] / "samples"
N_LEARNED, N_KEPT = 12, 4
TABLE = "id,bank,validation,scp_codes,classes\n"


class Named:
    """Records of the simulator with ids; notes which were asked for."""

    name = "named"

    def __init__(self):
        self.ids = tuple(f"{k:05d}_hr" for k in range(N_LEARNED + N_KEPT))
        self.asked = set()
        self._records = SimulatorSource()

    def __len__(self):
        return len(self.ids)

    def get(self, index):
        self.asked.add(index)
        return self._records.get(index)


@pytest.fixture
def source():
    return Named()


@pytest.fixture
def table(tmp_path, source):
    """Every third record is kept for judging, until there are enough."""
    kept = set(range(0, 3 * N_KEPT, 3))
    codes = itertools.cycle(["NORM SR", "IMI SBRAD", "AFIB", "LVH PVC PAC", "CLBBB STACH NDT"])
    rows = [f"{name},b,{int(k in kept)},{next(codes)},\n" for k, name in enumerate(source.ids)]
    path = tmp_path / "labels.csv"
    path.write_text(TABLE + "".join(rows))
    return path


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def recording():
    return printed_recording(to_twelve(SimulatorSource().get(3)), fs_hz=TRACE_FS_HZ)


# --- classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "classes"),
    [
        ("NORM SR", {"NORM"}),
        ("NORM SBRAD", {"NORM", "BRADY"}),
        ("IMI ABQRS SR", {"MI"}),
        ("INJAS", {"MI"}),  # injury counts as infarction
        ("ISCAL ANEUR", {"STTC"}),
        ("STD_ NT_ LOWT INVT QWAVE", set()),  # forms, no diagnoses
        ("1AVB WPW 3AVB", {"CD"}),
        ("VCLVH", set()),  # a voltage, no hypertrophy
        ("LAO/LAE RAO/RAE", {"HYP"}),
        ("AFLT", {"AFIB/AFL"}),
        ("AFIB PVC", {"AFIB/AFL", "PVC"}),
        ("STACH PAC", {"TACHY", "PAC"}),
        ("PSVT", {"TACHY"}),
        ("SVTAC LVH NDT CLBBB AMI", {"TACHY", "HYP", "STTC", "CD", "MI"}),
        ("SARRH PACE BIGU", set()),
        ("", set()),
    ],
)
def test_classes_follow_from_codes(codes, classes):
    assert classes_of(codes.split()) == classes


def test_classes_are_those_of_the_table_that_was_made_from_ptbxl():
    path = SHARED / "data" / "signals" / "ptbxl_labels.csv"
    if not path.is_file():
        pytest.skip("the table of labels is not here")
    known = read_labels(path)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert known[row["id"]].classes == set(row["classes"].split()), row
            assert known[row["id"]].validation == (row["validation"] == "1")


def test_targets_stand_in_the_order_of_the_classes():
    assert CLASSES == (
        "NORM",
        "MI",
        "STTC",
        "CD",
        "HYP",
        "AFIB/AFL",
        "PVC",
        "TACHY",
        "BRADY",
        "PAC",
    )
    assert targets_of({"MI", "PAC"}).tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("text", ["id,scp_codes\n1,NORM\n", TABLE, TABLE + "1,b,maybe,NORM,\n"])
def test_a_table_that_cannot_be_used_says_what_is_expected(text, tmp_path):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(InputError, match=r"l\.csv: expected the columns id, scp_codes and valid"):
        read_labels(tmp_path / "l.csv")


def test_sides_of_the_split_do_not_mix(source, table):
    labels = read_labels(table)
    learned, kept = (records_of(source, labels, validation=side) for side in (False, True))
    assert len(learned) == N_LEARNED
    assert len(kept) == N_KEPT
    assert not {one.id for one in learned} & {one.id for one in kept}
    assert all(not labels[one.id].validation for one in learned)


def test_joined_sources_know_their_ids(source):
    joined = JoinedSource([Named(), source, SimulatorSource()])
    assert joined.ids == (*source.ids, *source.ids)
    assert JoinedSource([SimulatorSource(), source]).ids == ()  # what follows is never asked
    with pytest.raises(InputError, match="expected records with ids"):
        records_of(SimulatorSource(), {}, validation=False)


# --- inputs ---------------------------------------------------------------------------------------


def test_masks_are_the_printed_windows(recording):
    seen = inputs.input_of(recording)
    assert seen.shape == (24, 1000)
    assert seen.dtype == np.float32
    for k, lead in enumerate(LEADS):
        start, stop = COMPETITION.window(lead, 1000)
        expected = np.zeros(1000)
        expected[start:stop] = 1
        # Half of what is averaged at a window's first and last instant lies beyond it.
        assert np.abs(seen[12 + k] - expected).sum() <= 1
    assert not seen[:12][seen[12:] == 0].any()
    assert seen[12 + LEADS.index("II")].all()


def test_values_are_those_of_the_signal_but_for_a_level():
    t_s = np.arange(5000) / TRACE_FS_HZ
    mv = np.tile(0.7 + np.sin(2 * np.pi * 3 * t_s), (12, 1))
    seen = inputs.input_of(Recording(mv.astype(np.float32), TRACE_FS_HZ))
    expected = np.sin(2 * np.pi * 3 * np.arange(1000) / 100)
    assert np.abs(seen[0] - (expected - np.median(expected)))[1:-1].max() < 0.01


@pytest.mark.parametrize("fs_hz", [100.0, 250.0, 500.0, 1025.0])
def test_any_rate_gives_the_same(fs_hz):
    def at(rate):
        t_s = np.arange(round(10 * rate)) / rate
        mv = np.tile(np.sin(2 * np.pi * 2 * t_s), (12, 1)).astype(np.float32)
        return inputs.input_of(Recording(mv, rate))

    assert np.abs(at(fs_hz) - at(500.0))[:, 2:-2].max() < 0.03


def test_what_is_shorter_than_ten_seconds_ends_there():
    short = Recording(np.ones((12, 2500), np.float32), TRACE_FS_HZ)
    seen = inputs.input_of(short)
    assert seen[12:, :500].all()
    assert not seen[12:, 501:].any()


def test_imitation_keeps_the_signal_and_loses_pieces():
    rng = np.random.default_rng(0)
    whole = inputs.at_input_rate(
        to_twelve(SimulatorSource().get(1)).astype(np.float64), fs_hz=TRACE_FS_HZ
    )
    in_time = imitate.DEFAULTS._replace(shift_s=0, start_s=0)
    many = [imitate.with_errors(whole, rng, in_time) for _ in range(20)]
    assert any(np.isnan(one).any() for one in many)
    r = [
        np.corrcoef(one[1][np.isfinite(one[1])], whole[1][np.isfinite(one[1])])[0, 1]
        for one in many
    ]
    assert 0.7 < min(r) <= max(r) < 1 - 1e-6
    nothing = imitate.DEFAULTS._replace(
        gain=0, size=0, shift_s=0, start_s=0, noise_mv=0, blur_s=0, wander_mv=0, lost=0
    )
    np.testing.assert_allclose(imitate.with_errors(whole, rng, nothing), whole, atol=1e-9)


def test_other_sheets_show_other_windows():
    whole = np.ones((12, 1000))
    plain = imitate.printed_as(whole, np.random.default_rng(0), otherwise=0.0)
    np.testing.assert_array_equal(np.isfinite(plain[0]), np.arange(1000) < 250)
    some = [imitate.printed_as(whole, np.random.default_rng(k), otherwise=1.0) for k in range(20)]
    assert len({np.isfinite(one).tobytes() for one in some}) > 5


# --- training -------------------------------------------------------------------------------------


def _trained(stage, source, table, out, **options):
    limits = TrainOptions(out=out, minutes=60, batch=2, workers=0, seed=3, max_steps=2)
    return train_stage(stage, source, limits, labels=table, **options)


def test_two_steps_on_signals_of_records_to_learn_from(source, table, tmp_path):
    network, figures = _trained("diagnose-signals", source, table, tmp_path / "run")
    assert figures["steps"] == 2
    assert np.isfinite(figures["loss"])
    assert isinstance(network, SignalNet)
    size = sum(p.numel() * 2 for p in network.state_dict().values())
    assert size < 1_000_000
    labels = read_labels(table)
    assert all(not labels[source.ids[index]].validation for index in source.asked)


@pytest.mark.parametrize("backbone", [None, "resnet50"])
def test_two_steps_on_pictures(backbone, source, table, tmp_path, monkeypatch):
    tiny = SEEN.__class__(96, 64, (0.35, 0.4), SEEN.origin_mm_xy)
    monkeypatch.setattr(on_pictures, "Samples", functools.partial(on_pictures.Samples, frame=tiny))
    made = on_pictures.make_page
    monkeypatch.setattr(
        on_pictures, "make_page", lambda *a, **k: made(*a, **{**k, "kind": "render"})
    )
    architecture = architecture_of("diagnose-pictures", backbone=backbone)
    network, figures = _trained(
        "diagnose-pictures", source, table, tmp_path / "run", architecture=architecture
    )
    assert figures["steps"] == 2
    assert np.isfinite(figures["loss"])
    assert network.head.out_features == len(CLASSES)
    labels = read_labels(table)
    assert all(not labels[source.ids[index]].validation for index in source.asked)


def test_training_asks_for_labels(source, tmp_path):
    limits = TrainOptions(out=tmp_path, minutes=1, workers=1)
    for stage in ("diagnose-signals", "diagnose-pictures"):
        with pytest.raises(InputError, match="--labels CSV"):
            train_stage(stage, source, limits)
    with pytest.raises(InputError, match="expected no --digitized"):
        train_stage("stage0", source, limits, digitized=tmp_path / "d.npz")
    with pytest.raises(InputError, match="expected no --labels"):
        train_stage("stage0", source, limits, labels=tmp_path / "l.csv")


@pytest.mark.parametrize("stage", ["diagnose-signals", "diagnose-pictures"])
def test_files_that_cannot_be_used_are_named_before_workers_start(stage, source, table, tmp_path):
    limits = TrainOptions(out=tmp_path, minutes=1, workers=1)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"^\S*bad\.csv: expected the columns"):
        train_stage(stage, source, limits, labels=tmp_path / "bad.csv")
    if stage == "diagnose-signals":
        with pytest.raises(InputError, match=r"^\S*bad\.csv: expected readings"):
            train_stage(stage, source, limits, labels=table, digitized=tmp_path / "bad.csv")


def test_readings_of_pages_are_mixed_in(source, table, tmp_path):
    labels = read_labels(table)
    learned = records_of(source, labels, validation=False)
    marked = np.full((len(learned), 12, 1000), np.nan, np.float16)
    marked[:, 1, 300:] = np.sin(np.arange(700) / 5)  # II alone, and not from its beginning
    path = tmp_path / "read.npz"
    np.savez(path, ids=np.array([one.id for one in learned]), leads_mv=marked)
    samples = Samples(source, 1, table, path)
    from_pages = [not samples(k)[0]["signals"][12].any() for k in range(40)]
    assert 8 < sum(from_pages) < 30
    with pytest.raises(InputError, match="print-and-read"):
        printed.read_readings(table)


def test_print_and_read_goes_on_where_it_was(source, table, tmp_path, monkeypatch):
    made = []

    def read(source, record, models, *, seed, page):
        made.append((page, record.id))
        return None if page == 1 else np.full((12, 1000), float(page))

    monkeypatch.setattr(printed, "_read", read)
    records = records_of(source, read_labels(table), validation=False)
    run = {"seed": 5, "pages": 3}
    first = printed.print_and_read(tmp_path / "a.npz", source, records, None, **run)
    more = printed.print_and_read(tmp_path / "a.npz", source, records, None, **{**run, "pages": 5})
    whole = printed.print_and_read(tmp_path / "b.npz", source, records, None, **{**run, "pages": 5})
    assert [page for page, _ in made] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert first.ids == whole.ids[:3]
    assert more.ids == whole.ids == printed.read_readings(tmp_path / "a.npz").ids
    assert whole.ids[1] == ""
    np.testing.assert_array_equal(more.leads_mv, whole.leads_mv)
    assert len(whole.of(whole.ids[2])) == 1
    with pytest.raises(InputError, match="another seed"):
        printed.print_and_read(tmp_path / "a.npz", source, records, None, seed=6, pages=5)


def test_pages_show_the_record_that_is_asked_for(source, table):
    record = records_of(source, read_labels(table), validation=False)[2]
    one = OneRecord(source, record)
    assert len(one) == 1
    np.testing.assert_array_equal(one.get(0), source.get(record.index))


# --- thresholds -----------------------------------------------------------------------------------


class ByHeight(torch.nn.Module):
    """Its logits are the height of lead II; a record's own is put there by ``Heights``."""

    def forward(self, signals):
        height = signals[:, 1].amax(1) - signals[:, 1].amin(1)
        return torch.logit((height / 10).clamp(0.01, 0.99))[:, None].repeat(1, len(CLASSES))


class Heights(Named):
    """A record k is a square wave; the higher, the likelier all classes."""

    def __init__(self, heights_mv):
        super().__init__()
        self.heights_mv = heights_mv

    def get(self, index):
        self.asked.add(index)
        wave = self.heights_mv[index] * (np.arange(5000) // 500 % 2)
        return np.tile(wave, (8, 1)).astype(np.float32)


def test_thresholds_are_of_training_records_alone():
    """Those kept for judging would pull the threshold from 0.3 to 0.7, were they looked at."""
    is_kept = [k >= N_LEARNED for k in range(N_LEARNED + N_KEPT)]
    has = [k % 2 == 0 for k in range(N_LEARNED)] + [k % 2 == 0 for k in range(N_KEPT)]
    heights = [4.5 if one else 1.2 for one in has[:N_LEARNED]]
    heights += [9.0 if one else 6.0 for one in has[N_LEARNED:]]
    source = Heights(np.array(heights))
    labels = {
        name: Labelled(frozenset(CLASSES) if there else frozenset(), kept)
        for name, kept, there in zip(source.ids, is_kept, has, strict=True)
    }
    found = thresholds.fitted_thresholds(ByHeight(), source, labels)
    assert source.asked == set(range(N_LEARNED))
    assert all(0.15 < one < 0.45 for one in found)
    turned = {name: Labelled(one.classes, not one.validation) for name, one in labels.items()}
    others = thresholds.fitted_thresholds(ByHeight(), source, turned)
    assert all(one > 0.6 for one in others)


def test_a_threshold_stands_in_the_middle_of_where_f_is_best():
    p = np.tile(np.array([0.1, 0.2, 0.6, 0.8])[:, None], (1, 2))
    targets = np.array([[0, 0], [0, 1], [1, 1], [1, 1]], np.float32)
    (high, low) = thresholds.thresholds_of(ScoredRecords(p, targets))
    assert 0.2 < high < 0.6
    assert 0.1 < low <= 0.2


# --- judging --------------------------------------------------------------------------------------


def test_flips_are_counted():
    none, one, two = (np.arange(10) < k for k in range(3))
    pages = [
        DecidedPage("scan", one, one),  # none
        DecidedPage("scan", two, none),  # two lost
        DecidedPage("photo", none, one),  # one gained
        DecidedPage("photo", one, ~one),  # one lost, nine gained
        DecidedPage("photo", one, None),
    ]
    scan, photo, everything = judge.flips_of(pages)
    assert (scan.kind, scan.n_pages, scan.lost, scan.gained) == ("scan", 2, 2, 0)
    assert scan.share == pytest.approx(2 / 20)
    assert (scan.n_for, photo.n_for) == (3, 1)
    assert (photo.n_pages, photo.n_failed, photo.lost, photo.gained) == (3, 1, 1, 10)
    assert photo.share == pytest.approx(11 / 20)
    assert everything.share == pytest.approx(13 / 40)
    assert "photo" in judge.flips_to_text([scan, photo, everything])


def test_auroc_and_f_are_right_and_lie_in_their_intervals():
    rng = np.random.default_rng(0)
    targets = (rng.random((200, 10)) < 0.3).astype(np.float32)
    p = np.clip(0.3 * targets + rng.random((200, 10)) * 0.7, 0, 1)
    judged = judge.judge(ScoredRecords(p, targets), [0.5] * 10)
    for k, one in enumerate(judged.classes):
        there, not_there = p[targets[:, k] > 0, k], p[targets[:, k] == 0, k]
        pairs = (there[:, None] > not_there[None]).mean()
        assert one.auroc.value == pytest.approx(pairs)
        assert one.auroc.low < one.auroc.value < one.auroc.high
        decided = p[:, k] >= 0.5
        precision, recall = (targets[decided, k]).mean(), (decided[targets[:, k] > 0]).mean()
        assert one.f == pytest.approx(2 * precision * recall / (precision + recall))
    assert judged.macro_f.value == pytest.approx(np.mean([one.f for one in judged.classes]))
    assert judged.macro_f.low < judged.macro_f.value < judged.macro_f.high
    assert "AFIB/AFL" in judged.to_text()


def test_a_class_that_no_record_has_has_no_auroc():
    targets = np.zeros((20, 10), np.float32)
    targets[:5, 0] = 1
    judged = judge.judge(
        ScoredRecords(np.random.default_rng(1).random((20, 10)), targets), [0.5] * 10
    )
    assert np.isnan(judged.classes[1].auroc.value)
    assert judged.macro_auroc == judged.classes[0].auroc.value


def test_pictures_of_learned_records_are_left_out_by_name():
    def pair(name):
        return Pair(name, f"photos/{name}", Path(name), Path("t.csv"), False, 500.0, "photo")

    labels = {
        "01630_hr": Labelled(frozenset(), False),
        "02292_hr": Labelled(frozenset(), True),
        "00841_hr": Labelled(frozenset(), False),
    }
    names = ["01630_hr-0.jpg", "02292_hr-0.jpg", "99999_hr-0.jpg", "scan9_00841_lr.png", "x.png"]
    kept, left_out = compare.without_learned(tuple(map(pair, names)), labels)
    assert left_out == ("photos/01630_hr-0.jpg", "photos/scan9_00841_lr.png")
    assert len(kept) == 3


def test_what_is_read_and_what_is_true_are_compared(source, table, monkeypatch, tiny_models):
    network = SignalNet(thresholds=(0.5,) * 10).eval()
    page = make_page(SimulatorSource(), seed=1, index=0, kind="render")
    page = replace(page, image=page.image[:60, :80].copy())
    pages = [(0, page), (1, replace(page, kind="scan"))]
    monkeypatch.setattr(compare, "pages_of_each_kind", lambda *_, **__: iter(pages))
    compared = compare.compare_diagnoses(
        network, source, read_labels(table), tiny_models, pages=1, seed=1
    )
    # Random networks read nothing: the pages fail, and are counted so.
    assert [row.n_failed for row in compared.synthetic] == [1, 1, 2]
    assert compared.judged.n == N_KEPT
    assert NOTICE in compared.to_text()


def test_a_network_of_pictures_is_judged_on_pages_of_kept_records(source, table, monkeypatch):
    made, shown, tiny = compare.make_page, [], replace(SEEN, width_px=96, height_px=64)

    def page_of(one, **options):
        shown.append(one.name)
        return made(one, **{**options, "kind": "render"})

    monkeypatch.setattr(compare, "make_page", page_of)
    monkeypatch.setattr(compare, "picture_input", functools.partial(picture_input, frame=tiny))
    labels = read_labels(table)
    network = PictureNet(backbone=TINY_BACKBONE)
    judged = compare.compare_pictures(network, source, source, labels, pages=2, seed=1)
    assert judged.n == 2
    assert [labels[name].validation for name in shown] == [False, False, True, True]


# --- classify -------------------------------------------------------------------------------------


def test_what_ships_is_small_and_names_its_classes():
    (entry,) = (
        entry
        for entry in read_manifest(HOME / "weights_manifest.json")
        if entry.stage == "diagnose"
    )
    assert entry.bytes < 1_000_000
    assert entry.architecture.options["classes"] == CLASSES
    assert len(entry.architecture.options["thresholds"]) == len(CLASSES)
    assert entry.architecture.name not in network_classes()  # the notebook has none of it
    assert load_classifier().thresholds == entry.architecture.options["thresholds"]


def test_classify_says_that_it_is_research_only(recording):
    found = classify(recording, SignalNet(thresholds=(0.0, *[1.0] * 9)).eval())
    assert found.decided == ("NORM",)
    assert NOTICE in found.to_line()
    assert any("acute" in words and "old" in words for words in UNKNOWABLE)
    empty = Recording(np.full((12, 5000), np.nan, np.float32), 500.0)
    with pytest.raises(InputError, match="nothing is seen"):
        classify(empty, SignalNet().eval())


def test_nothing_is_decided_of_a_rejected_reading(recording, tmp_path):
    wrong = replace(recording, doubts=("the rows are mixed up",), is_rejected=True)
    found = classify(wrong, SignalNet(thresholds=(0.0, *[1.0] * 9)).eval())

    assert found.decided == ()
    assert "rejected" in found.to_line()
    assert NOTICE in found.to_line()
    write_classes(tmp_path / CSV_NAME, [("page", found)])
    with (tmp_path / CSV_NAME).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["verdict"], row["decision"]) for row in rows} == {("reject", "")}


def test_the_command_writes_classes_of_pictures_and_tables(tmp_path, capsys):
    paths = [SAMPLES / "sample_render.csv", SAMPLES / "sample_render.png"]
    code = main(["classify", *map(str, paths), "-o", str(tmp_path), "--preset", "quick"])
    told = capsys.readouterr()
    assert code == 0
    with (tmp_path / CSV_NAME).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 2 * len(CLASSES)
    assert all(row["note"] == NOTICE for row in rows)
    by_page = {page: [r for r in rows if r["page"] == str(page)] for page in paths}
    for of_truth, of_picture in zip(*by_page.values(), strict=True):
        assert abs(float(of_truth["probability"]) - float(of_picture["probability"])) < 0.2
        assert int(of_truth["decision"]) == (
            float(of_truth["probability"]) >= float(of_truth["threshold"])
        )
    lines = told.out.splitlines()
    assert len(lines) == 2
    assert all(NOTICE in line for line in lines)
    assert all(words in told.err for words in UNKNOWABLE)


def test_a_page_that_fails_costs_no_other(tmp_path, capsys):
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    empty = (",".join(LEADS), *["," * 11] * 1000)
    (tmp_path / "empty.csv").write_text("\n".join(empty) + "\n")
    paths = [tmp_path / "bad.csv", tmp_path / "empty.csv", SAMPLES / "sample_render.csv"]
    code = main(["classify", *map(str, paths), "-o", str(tmp_path / "out")])
    assert code == 3
    told = capsys.readouterr().err
    assert "bad.csv: expected the columns" in told
    assert "empty.csv: nothing is seen" in told
    assert "Traceback" not in told
    assert "unexpected" not in told
    assert (tmp_path / "out" / CSV_NAME).read_text().count("\n") == 1 + len(CLASSES)


def test_a_folder_that_digitize_wrote_is_read_by_its_tables(tmp_path, capsys):
    out = tmp_path / "digitized"
    (out / "ward").mkdir(parents=True)
    origin = Provenance("p.png", "0" * 64, "1", datetime.now(UTC), {}, {})
    for stem in (out / "a", out / "ward" / "b.c"):
        write_full(read_csv(SAMPLES / "sample_render.csv"), stem, origin)
    (out / "run_report.json").write_text("{}")
    (out / "measures.csv").write_text("page,rate\n")
    assert main(["classify", str(out), "-o", str(tmp_path / "classes")]) == 0
    assert [line.split(":")[0].split(" ", 1)[1].strip() for line in _lines(capsys)] == [
        str(out / "a.csv"),
        str(out / "ward" / "b.c.csv"),
    ]
    failed = {"source": "scans/c.png", "stage": "stage0", "error": "scans/c.png: no grid"}
    (out / "run_report.json").write_text(json.dumps({"failures": [failed]}))
    assert main(["classify", str(out), "-o", str(tmp_path / "classes")]) == 3
    assert "failed  scans/c.png: scans/c.png: no grid (stage0)" in capsys.readouterr().err
    (out / "run_report.json").write_text("[]")
    assert main(["classify", str(out), "-o", str(tmp_path / "classes")]) == 2
    assert "expected the report of digitize" in capsys.readouterr().err
    (out / "run_report.json").write_text("{}")
    for table in out.rglob("*.csv"):
        table.unlink()
    assert main(["classify", str(out), "-o", str(tmp_path / "classes")]) == 2
    assert "no NAME.csv with NAME.json beside it" in capsys.readouterr().err


def _lines(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_folder_that_cannot_be_made_is_told_before_the_first_page(tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert main(["classify", str(SAMPLES / "sample_render.csv"), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().out == ""


def test_a_training_ships_with_its_thresholds(source, table, tmp_path, monkeypatch, capsys):
    _trained("diagnose-signals", source, table, tmp_path / "run")
    monkeypatch.setattr("ecg_digitize.synth.signals.open_source", lambda *_, **__: source)
    arguments = ["export", "diagnose", str(tmp_path / "run" / "checkpoint.pt"), "--minutes", "1"]
    arguments += ["--command", "c", "--data", "d", "--weights", str(tmp_path / "w")]
    arguments += ["--manifest", str(tmp_path / "m.json")]
    assert main(arguments) == 2
    assert "--labels" in capsys.readouterr().err
    assert main([*arguments, "--member", "whole"]) == 2
    assert "expected no --member" in capsys.readouterr().err
    assert main([*arguments, "--source", "bank:b.npz", "--labels", str(table)]) == 0
    (entry,) = read_manifest(tmp_path / "m.json")
    assert (entry.stage, entry.file) == ("diagnose", "diagnose.safetensors")
    assert set(entry.architecture.options["thresholds"]) != {0.5}
    assert NETWORKS.keys() == {entry.architecture.name}
