import json

import numpy as np
import pytest

from ecg_digitize.errors import StageError
from ecg_digitize.formats.csv import read_csv, write_csv
from ecg_digitize.layout import LEADS
from ecg_digitize.metrics import image_snr
from ecg_digitize.signals import printed_recording
from ecg_digitize.synth.signals import to_twelve
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.training.bootstrap import mean_interval
from ecg_digitize.training.evaluate import evaluate
from ecg_digitize.training.survey import count_leads, survey_page
from ecg_digitize.types import Recording

FS_HZ = 500


@pytest.fixture(scope="module")
def record_mv():
    """A whole simulated record, (12, 5000) mV."""
    return to_twelve(SimulatorSource(validation=True).get(0))


def printed_mv(signals_mv):
    return printed_recording(signals_mv, fs_hz=FS_HZ).signals_mv


def surveyed(truth_mv, read_mv):
    score = image_snr(truth_mv, read_mv, fs_hz=FS_HZ)
    counted = count_leads(truth_mv, read_mv, score, fs_hz=FS_HZ)
    return survey_page(truth_mv, read_mv, score, counted, fs_hz=FS_HZ)


def late(signals_mv, late_s):
    """Return the signals as they are read `late_s` late: a shift by any fraction of a sample."""
    n = signals_mv.shape[-1]
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(n, 1 / FS_HZ) * late_s)
    return np.fft.irfft(np.fft.rfft(signals_mv) * turn, n).astype(np.float32)


@pytest.mark.parametrize("late_s", [0.006, -0.006, 0.0007, 0.0453])
def test_a_lead_that_is_late_sets_the_leads_of_its_page_apart(record_mv, late_s):
    read_mv = record_mv.copy()
    read_mv[LEADS.index("V2")] = late(record_mv[LEADS.index("V2")], late_s)

    page = surveyed(printed_mv(record_mv), printed_mv(read_mv))

    lags_ms = {lead: one.lag_ms for lead, one in page.leads.items()}
    assert lags_ms.pop("V2") == pytest.approx(1e3 * late_s, abs=0.3)
    assert list(lags_ms.values()) == pytest.approx([0] * 11, abs=0.05)
    assert page.apart_ms == pytest.approx(1e3 * abs(late_s), abs=0.3)


def test_a_page_that_is_late_as_a_whole_is_in_synchrony(record_mv):
    page = surveyed(printed_mv(record_mv), printed_mv(late(record_mv, 0.013)))

    assert page.leads["II"].lag_ms == pytest.approx(13, abs=0.3)
    assert page.apart_ms < 0.3


def test_noise_and_gaps_do_not_set_leads_apart(record_mv):
    rng = np.random.default_rng(1)
    read_mv = printed_mv(late(record_mv, 0.004) + 0.01 * rng.standard_normal(record_mv.shape))
    read_mv[:, 300:330] = np.nan

    page = surveyed(printed_mv(record_mv), read_mv)

    assert page.apart_ms < 1
    assert page.leads["V5"].lag_ms == pytest.approx(4, abs=0.6)


def test_the_mean_absolute_error_is_that_by_hand(record_mv):
    read_mv = record_mv.copy()
    read_mv[:, ::2] += 0.3 + 0.02  # the constant is forgiven
    read_mv[:, 1::2] += 0.3 - 0.02
    read_mv[LEADS.index("aVF")] = 0.0

    page = surveyed(printed_mv(record_mv), printed_mv(read_mv))

    by_hand_mv = dict.fromkeys(LEADS, 0.02)
    truth_mv = printed_mv(record_mv)[LEADS.index("aVF")]
    truth_mv = truth_mv[np.isfinite(truth_mv)]
    by_hand_mv["aVF"] = np.mean(np.abs(truth_mv - truth_mv.mean()))
    assert {lead: one.mae_mv for lead, one in page.leads.items()} == pytest.approx(
        by_hand_mv, abs=1e-4
    )
    assert page.leads["aVF"].pearson == 0
    assert page.leads["aVL"].pearson > 0.9


def test_unusable_leads_have_no_lag(record_mv):
    read_mv = printed_mv(record_mv)
    read_mv[LEADS.index("V6")] = np.nan
    read_mv[LEADS.index("V1")] = printed_mv(-record_mv)[LEADS.index("V1")]

    page = surveyed(printed_mv(record_mv), read_mv)

    assert [lead for lead, one in page.leads.items() if not one.is_found] == ["V6"]
    assert [lead for lead, one in page.leads.items() if not one.is_usable] == ["V1", "V6"]
    assert [lead for lead, one in page.leads.items() if one.lag_ms is None] == ["V1", "V6"]


@pytest.mark.filterwarnings("error")
def test_flat_leads_have_no_lag():
    flat_mv = printed_mv(np.full((12, 5000), 0.5, np.float32))

    page = surveyed(flat_mv, flat_mv)

    assert page.apart_ms is None
    assert all(one.is_usable for one in page.leads.values())


def test_the_interval_of_equal_values_is_that_value():
    assert mean_interval([17.5] * 4, np.random.default_rng(0)) == (17.5, 17.5)
    assert np.isnan(mean_interval([17.5], np.random.default_rng(0))).all()


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(3)
    drawn = rng.normal(20, 3, size=(300, 40))
    covered = [low < 20 < high for low, high in (mean_interval(of, rng) for of in drawn)]
    assert 0.90 < np.mean(covered) < 0.98


@pytest.fixture
def paired_csv(tmp_path, record_mv):
    """Two scans and a photo of one record."""
    write_csv(printed_recording(record_mv, fs_hz=FS_HZ), tmp_path / "truth.csv")
    kinds = {"scan1.png": "scan", "scan2.png": "scan", "photo1.png": "photo"}
    rows = [f"{name},truth.csv,{FS_HZ},{kind}" for name, kind in kinds.items()]
    (tmp_path / "paired.csv").write_text("\n".join(["image,truth,fs,kind", *rows]) + "\n")
    return tmp_path / "paired.csv"


def digitize(image, fs_hz):
    if image.name == "photo1.png":
        raise StageError("stage1", "no grid")
    read_mv = read_csv(image.parent / "truth.csv", fs_hz=fs_hz).signals_mv.copy()
    if image.name == "scan2.png":
        read_mv[[LEADS.index("V5"), LEADS.index("V6")]] = np.nan
        read_mv[LEADS.index("V1")] *= -1
    return Recording(read_mv, fs_hz)


def test_a_survey_of_each_kind_and_of_all(paired_csv):
    report = evaluate(paired_csv, digitize)

    scan, photo, everything = report.surveys
    assert [one.name for one in report.surveys] == ["scan", "photo", "all"]
    assert scan.found == pytest.approx(22 / 24)
    assert scan.unusable == pytest.approx(3 / 24)
    assert (photo.found, photo.unusable, photo.n_apart) == (0, 1, 0)
    assert everything.found == pytest.approx(22 / 36)
    assert everything.unusable == pytest.approx(15 / 36)
    assert everything.n_apart == 2
    assert everything.apart_ms == pytest.approx(0, abs=0.01)
    assert scan.mae_mv["I"] == pytest.approx(0, abs=1e-6)
    assert scan.pearson["V6"] == pytest.approx(0.5)  # one of two is missing


def test_the_survey_is_printed_where_it_is_asked_for_and_always_in_the_json(paired_csv):
    report = evaluate(paired_csv, digitize)

    assert "Survey" not in report.to_text()
    text = report.to_text(surveyed=True)
    assert "mean absolute error, mV" in text
    assert max(map(len, text.partition("Survey")[2].splitlines())) < 120
    rows = [line.split() for line in text.splitlines() if line.endswith("  scan")]
    assert ["91.7%", "12.5%", "0.00", "0.00", "2", "scan"] in rows
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [one["name"] for one in document["surveys"]] == ["scan", "photo", "all"]
    assert document["surveys"][1]["apart_ms"] is None
    assert document["images"][1]["survey"]["leads"]["V6"]["is_usable"] is False


def test_means_have_an_interval_where_there_are_two_pages(paired_csv):
    report = evaluate(paired_csv, digitize)

    scan, photo = report.by_kind
    values_db = [result.score.snr_capped_db for result in report.results]
    assert min(values_db[:2]) <= scan.low_db < scan.snr_capped_db < scan.high_db
    assert scan.high_db <= max(values_db[:2])
    assert np.isnan(photo.low_db)
    (row,) = (line for line in report.to_text().splitlines() if line.endswith("  photo (1 failed)"))
    assert row.split()[1:3] == ["-", "-"]
    head = next(line for line in report.to_text().splitlines() if line.endswith("n  kind"))
    assert head.split()[:3] == ["capped", "low", "high"]
