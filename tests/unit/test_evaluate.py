import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ecg_digitize.errors import InputError, StageError
from ecg_digitize.formats.csv import read_csv, write_csv
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.metrics import image_snr
from ecg_digitize.signals import printed_recording
from ecg_digitize.training.evaluate import evaluate
from ecg_digitize.types import Recording

SHARED = Path(__file__).parents[2].parent / "shared"
FS_HZ = 100
NOISE_MV = {"clean/a.png": 0.0, "clean/b.png": 0.03, "photo/c.png": 0.1, "photo/d.png": 0.01}
KINDS = {"clean": "a render, as printed", "photo": "phone photo"}


@pytest.fixture
def paired_csv(tmp_path):
    """Four pictures in two folders; the pictures need not exist for a fake digitizer."""
    lines = ["image,truth,fs,kind,licence"]
    for seed, image in enumerate(NOISE_MV):
        rng = np.random.default_rng(seed)
        signals_mv = np.cumsum(rng.standard_normal((12, 10 * FS_HZ)), axis=1) / 50
        truth = Path(image).with_suffix(".csv")
        (tmp_path / truth).parent.mkdir(exist_ok=True)
        write_csv(printed_recording(signals_mv, fs_hz=FS_HZ), tmp_path / truth)
        lines.append(f'{image},{truth},{FS_HZ},"{KINDS[truth.parent.name]}",none')
    path = tmp_path / "paired.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def fake_digitizer(image, fs_hz):
    truth_mv = read_csv(image.with_suffix(".csv"), fs_hz=fs_hz).signals_mv
    noise = np.random.default_rng(9).standard_normal(truth_mv.shape)
    sigma_mv = NOISE_MV[f"{image.parent.name}/{image.name}"]
    return Recording((truth_mv + sigma_mv * noise).astype(np.float32), fs_hz)


def test_means_by_kind_and_folder(paired_csv):
    report = evaluate(paired_csv, fake_digitizer)

    assert [result.image for result in report.results] == list(NOISE_MV)
    assert [result.group for result in report.results] == ["clean", "clean", "photo", "photo"]
    assert [summary.name for summary in report.by_kind] == list(KINDS.values())
    assert [summary.name for summary in report.by_group] == ["clean", "photo"]
    assert report.failures == ()
    clean, photo = report.by_group
    assert clean.n_images == photo.n_images == 2
    a, b, c, d = (result.score for result in report.results)
    assert a.ratio == 384
    assert photo.snr_db == pytest.approx((c.snr_db + d.snr_db) / 2)
    assert photo.rmse_mv == pytest.approx((c.rmse_mv + d.rmse_mv) / 2)
    assert photo.score_db == pytest.approx(10 * np.log10((c.ratio + d.ratio) / 2))
    assert report.overall.snr_capped_db == pytest.approx(
        np.mean([s.snr_capped_db for s in (a, b, c, d)])
    )
    assert report.overall.n_failed == 0


@pytest.mark.parametrize("fault", ["raises", "wrong rate"])
def test_a_failed_picture_counts_as_zeros_and_is_listed(paired_csv, fault):
    def digitize(image, fs_hz):
        if image.name != "c.png":
            return fake_digitizer(image, fs_hz)
        if fault == "raises":
            raise StageError("stage0", "c.png: expected 13 lead names, but found 2")
        return Recording(np.zeros((12, 5000), np.float32), 500.0)

    report = evaluate(paired_csv, digitize)

    (failed,) = report.failures
    assert failed.image == "photo/c.png"
    assert failed.error.startswith("StageError: c.png" if fault == "raises" else "ValueError: ")
    truth_mv = read_csv(paired_csv.parent / "photo/c.csv").signals_mv
    assert failed.score == image_snr(truth_mv, np.zeros_like(truth_mv), fs_hz=FS_HZ)
    assert report.overall.n_images == 4
    assert report.overall.n_failed == 1
    assert f"FAILED photo/c.png: {failed.error}" in report.to_text()


def test_report_as_text_and_json(paired_csv):
    report = evaluate(paired_csv, fake_digitizer)

    text = report.to_text()
    for expected in (*NOISE_MV, *KINDS.values(), "25.84", "pearson", "score"):
        assert expected in text
    assert max(map(len, text.splitlines())) < 120
    table = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [image["image"] for image in table["images"]] == list(NOISE_MV)
    assert set(table["images"][1]["score"]["leads"]) == set(LEADS)
    assert table["images"][0]["score"]["snr_db"] is None  # a perfect picture: infinite
    assert table["overall"]["score_db"] == pytest.approx(report.overall.score_db)


def test_progress_and_cap(paired_csv):
    calls = []
    report = evaluate(
        paired_csv,
        fake_digitizer,
        cap_ratio=10.0,
        progress=lambda report: calls.append(
            (len(report.results), report.n_pages, report.results[-1].image, report.complete)
        ),
    )
    assert calls == [(k + 1, 4, image, k == 3) for k, image in enumerate(NOISE_MV)]
    assert max(result.score.ratio for result in report.results) == 10


def test_unusable_tables_end_the_evaluation(paired_csv, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv: expected a table"):
        evaluate(tmp_path / "nowhere.csv", fake_digitizer)
    (tmp_path / "photo/d.csv").unlink()
    with pytest.raises(InputError, match=r"d\.csv"):
        evaluate(paired_csv, fake_digitizer)
    paired_csv.write_text("image,truth\na.png,a.csv\n")
    with pytest.raises(
        InputError, match=r"image, fs, kind, truth or reference.*got image, truth and 1"
    ):
        evaluate(paired_csv, fake_digitizer)


def test_partial_report_says_so(paired_csv):
    documents = []

    evaluate(paired_csv, fake_digitizer, progress=lambda r: documents.append(r.to_json()))

    assert [document["complete"] for document in documents] == [False, False, False, True]
    assert [len(document["images"]) for document in documents] == [1, 2, 3, 4]
    assert documents[1]["overall"]["n_images"] == 2


def test_explained_report(paired_csv):
    def digitize(image, fs_hz):
        if image.name == "d.png":
            raise StageError("stage0", "no page")
        return fake_digitizer(image, fs_hz)

    report = evaluate(paired_csv, digitize, explain=True)

    assert [result.explanation is None for result in report.results] == [False] * 3 + [True]
    assert {kind: len(pages) for kind, pages in report.explained.items()} == {
        "a render, as printed": 2,
        "phone photo": 1,
    }
    table = report.to_text().partition("What is lost to what")[2]
    assert "late " in table
    assert table.count("phone photo") == 2  # means without cap and capped
    assert table.count("clean/b.png") == 1
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [row["kind"] for row in document["explained_by_kind"]] == list(KINDS.values())
    assert document["images"][1]["explanation"]["gain"] == pytest.approx(1, abs=0.02)
    assert document["images"][3]["explanation"] is None
    assert "What is lost" not in evaluate(paired_csv, fake_digitizer).to_text()


def test_a_truth_of_another_length_is_compared_over_its_own_samples(paired_csv, caplog):
    """Five seconds of a sheet at 50 mm/s among pages of ten."""
    signals_mv = np.cumsum(np.random.default_rng(7).standard_normal((12, 5 * FS_HZ)), axis=1) / 50
    layout = COMPETITION.calibrated(mm_per_s=50, mm_per_mv=10)
    short = printed_recording(signals_mv, fs_hz=FS_HZ, layout=layout)
    write_csv(short, paired_csv.parent / "clean/b.csv")

    def digitize(image, fs_hz):
        if image.name != "b.png":
            return fake_digitizer(image, fs_hz)
        longer = np.full((12, 10 * FS_HZ), 5.0, np.float32)  # what lies beyond does not count
        longer[:, : 5 * FS_HZ] = 0.9 * short.signals_mv
        return Recording(longer, fs_hz)

    report = evaluate(paired_csv, digitize)

    assert report.failures == ()
    assert report.results[1].score == image_snr(
        read_csv(paired_csv.parent / "clean/b.csv", fs_hz=FS_HZ, any_length=True).signals_mv,
        np.float32(0.9) * short.signals_mv,
        fs_hz=FS_HZ,
    )
    assert 20 <= report.results[1].score.snr_db < 30  # a tenth is missing; offsets are forgiven
    assert "b.csv: 500 rows are 5 s at 100 Hz, not ten" in caplog.text


def test_a_shared_truth_of_five_seconds_is_read():
    truth = SHARED / "data" / "cases" / "speed50.truth.csv"
    if not truth.exists():
        pytest.skip("the shared cases are not here")

    recording = read_csv(truth, fs_hz=500, any_length=True)

    assert recording.layout.duration_s == 5
    assert recording.layout.mm_per_s == 50
    for lead in LEADS:
        start, stop = recording.layout.window(lead, recording.signals_mv.shape[1])
        assert np.isfinite(recording.signals_mv[LEADS.index(lead), start:stop]).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("I,II\n1,2\n", r"d\.csv: expected the columns .* are missing"),
        (",".join(LEADS) + "\n", r"d\.csv: expected 1000 rows, ten seconds at 100 Hz, but got 0"),
        (",".join(LEADS) + "\n" + 9 * ("," * 11 + "\n"), r"d\.csv: .* but all are empty"),
    ],
)
def test_a_truth_that_cannot_be_used_is_named_before_the_first_page(paired_csv, content, message):
    (paired_csv.parent / "photo/d.csv").write_text(content)

    with pytest.raises(InputError, match=message):
        evaluate(paired_csv, lambda image, fs_hz: pytest.fail("digitized before the check"))


@pytest.fixture
def reference_csv(paired_csv):
    """Two pages of one record against its clean picture, and one with a truth."""
    (paired_csv.parent / "clean/a.png").write_text("a fake digitizer needs none")
    path = paired_csv.parent / "references.csv"
    path.write_text(
        "image,reference,truth,fs,kind\n"
        f"scan/a.png,clean/a.png,,{FS_HZ},scan\n"
        f"photo/a.png,{paired_csv.parent}/clean/a.png,,{FS_HZ},photo\n"
        f"photo/c.png,,photo/c.csv,{FS_HZ},photo\n"
    )
    return path


def test_a_reference_stands_in_for_the_truth(reference_csv):
    asked = []

    def digitize(image, fs_hz):
        asked.append(f"{image.parent.name}/{image.name}")
        if image.name == "c.png" or image.parent.name == "clean":
            return fake_digitizer(image, fs_hz)
        clean = fake_digitizer(reference_csv.parent / "clean/a.png", fs_hz)
        return Recording(clean.signals_mv * np.float32(0.9), fs_hz)

    report = evaluate(reference_csv, digitize)

    assert asked == ["clean/a.png", "scan/a.png", "photo/a.png", "photo/c.png"]
    scan, photo, with_truth = report.results
    assert scan.score == photo.score
    clean_mv = fake_digitizer(reference_csv.parent / "clean/a.png", FS_HZ).signals_mv
    assert scan.score == image_snr(clean_mv, np.float32(0.9) * clean_mv, fs_hz=FS_HZ)
    assert with_truth.score.snr_db < 60  # against the csv
    assert report.failures == ()


def test_a_reference_that_fails_ends_the_evaluation(reference_csv):
    def digitize(image, fs_hz):
        raise StageError("stage0", "no page")

    with pytest.raises(InputError, match=r"row 1 \(scan/a\.png\).*a\.png gave StageError.*give a"):
        evaluate(reference_csv, digitize)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("scan/b.png,,", r"row 4 \(scan/b\.png\): expected either.*got neither; give the csv"),
        ("scan/b.png,clean/a.png,clean/a.csv", r"row 4 .*but got truth and reference; give"),
        ("scan/b.png,gone.png,", r"row 4 .*expected the reference .*gone\.png, but there is no"),
    ],
)
def test_rows_that_cannot_be_used(reference_csv, row, message):
    reference_csv.write_text(reference_csv.read_text() + f"{row},{FS_HZ},scan\n")

    with pytest.raises(InputError, match=message):
        evaluate(reference_csv, lambda image, fs_hz: pytest.fail("digitized before the check"))


def test_shared_competition_pairs_are_digitized_once_each(tmp_path):
    folder = (SHARED / "data" / "competition_pairs").resolve()
    references = sorted(folder.glob("*-0001.png"))
    if not references:
        pytest.skip("the shared competition pairs are not here")
    table = pd.DataFrame({"reference": map(str, references)})
    table["image"] = table["reference"].str.replace("-0001", "-0004")
    table.assign(fs=500, kind="scan").to_csv(tmp_path / "pairs.csv", index=False)
    asked = []

    def digitize(image, fs_hz):
        assert image.is_file()
        asked.append(image.name)
        signals_mv = np.random.default_rng(len(asked)).standard_normal((12, 5000))
        return printed_recording(signals_mv, fs_hz=fs_hz)

    report = evaluate(tmp_path / "pairs.csv", digitize)

    assert report.complete
    assert report.failures == ()
    assert len(asked) == 2 * len(references)


def test_shared_pairs_load_and_score():
    paired_csv = SHARED / "data" / "paired.csv"
    if not paired_csv.exists():
        pytest.skip("the shared pairs are not here")

    def truth_times_098(image, fs_hz):
        # Three pictures share one record's truth, so go by the table.
        return Recording((0.98 * truths[image.name]).astype(np.float32), fs_hz)

    truths = {
        Path(entry.image).name: read_csv(paired_csv.parent / entry.truth, fs_hz=entry.fs).signals_mv
        for entry in pd.read_csv(paired_csv).itertuples()
    }
    report = evaluate(paired_csv, truth_times_098)
    assert report.failures == ()
    # 20 log10(1 / 0.02) = 33.98 dB; a little more, because offsets are free.
    assert 33.97 < report.overall.snr_db < 34.6
    assert report.overall.score_db == pytest.approx(25.8433, abs=1e-4)


def test_leads_are_counted_as_found_missed_and_invented(paired_csv):
    def digitize(image, fs_hz):
        read = fake_digitizer(image, fs_hz)
        signals_mv = read.signals_mv.copy()
        if image.name == "a.png":
            signals_mv[LEADS.index("V6")] = np.nan
            signals_mv[LEADS.index("V1")] = 0.0
        return Recording(signals_mv, fs_hz, read.layout, doubts=("dark",) * (image.name == "a.png"))

    truth = read_csv(paired_csv.parent / "clean/b.csv")
    without = truth.signals_mv.copy()
    without[LEADS.index("aVL")] = np.nan
    write_csv(Recording(without, FS_HZ), paired_csv.parent / "clean/b.csv")
    b_mv = truth.signals_mv

    def with_avl(image, fs_hz):
        return Recording(b_mv, fs_hz) if image.name == "b.png" else digitize(image, fs_hz)

    report = evaluate(paired_csv, with_avl)

    a, b = report.results[:2]
    assert (a.verdict, a.leads.printed, a.leads.found) == ("check", 12, 11)
    assert a.leads.good == 10
    assert (a.leads.missed, a.leads.invented) == (("V6",), ())
    assert (b.verdict, b.leads.printed, b.leads.missed, b.leads.invented) == (
        "ok",
        11,
        (),
        ("aVL",),
    )
    clean, photo = report.by_group
    assert (clean.n_checked, clean.n_missed, clean.n_invented) == (1, 1, 1)
    assert clean.leads_good == pytest.approx(21 / 23)
    assert photo.n_checked == 0
    assert "check, missed V6" in report.to_text()
    assert "ok, invented aVL" in report.to_text()
