"""Score floors of the shipped weights: on the samples, and on real pages where they are present.

All floors are capped as the competition caps them: beyond the cap the last digit of a raster moves
decibels. They lie half a dB below what the shipped weights reach with the versions in
constraints.txt, and by so much other versions may differ. Raise them when better weights ship;
never lower them to let a change pass.
"""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from ecg_digitize.formats.csv import read_csv
from ecg_digitize.image import read_image
from ecg_digitize.layout import COMPETITION
from ecg_digitize.metrics import image_snr
from ecg_digitize.models import load_models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.stage1.rectify import page_from_rect
from ecg_digitize.synth.dataset import KINDS
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.training.evaluate import evaluate
from ecg_digitize.training.validate import validate_pages
from ecg_digitize.types import Page

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "samples"
PAIRED = ROOT.parent / "shared" / "data" / "paired.csv"

SAMPLE_FLOORS_DB = {
    "sample_render": 24.6,
    "sample_scan": 20.6,
    "sample_scan_bw": 19.7,
    "sample_photo": 18.7,
}

GROUP_FLOORS_DB = {"render": 25.1, "scan_bw": 21.3, "kit": 24.3}
IMAGE_FLOORS_DB = {"0001": 25.3, "0004": 14.6, "0010": 14.3}
"""Of the competition's record, by the type of page in the file's name."""

KIND_FLOORS_DB = {
    "render": 25.3,
    "scan": 25.3,
    "scan_bw": 25.3,
    "photo": 25.3,
    "screen": 25.3,
    "stained": 24.2,
    "damaged": 24.5,
    "mould": 25.3,
}
"""Of one page of each kind, rectified by its labels: what stage 2 and the refinement are worth."""
MOULD_BW_FLOOR_DB = 22.4
"""The same of four pages of that kind, in the mean. Its first page is made of diffused dots, and
the last bit of a processor's arithmetic lays all of them anew: it alone reaches 21.6 to 23.3 dB."""

pytestmark = pytest.mark.skipif(
    not json.loads((ROOT / "weights_manifest.json").read_text())["files"],
    reason="weights_manifest.json lists no weights yet",
)


@pytest.fixture(scope="module")
def models():
    return load_models()


@pytest.mark.parametrize("name", SAMPLE_FLOORS_DB)
def test_samples(name, models):
    truth = read_csv(SAMPLES / f"{name}.csv")

    result = digitize_page(read_image(SAMPLES / f"{name}.png"), models, fs_hz=truth.fs_hz)

    got = result.recording.signals_mv
    score = image_snr(truth.signals_mv, got, fs_hz=truth.fs_hz)
    print(f"{name}: {score.snr_capped_db:.2f} dB")
    assert score.snr_capped_db >= SAMPLE_FLOORS_DB[name]
    # Calibration: a trace may be off here and there, but not all the voltages.
    assert np.nanmax(np.abs(got)) == pytest.approx(np.nanmax(np.abs(truth.signals_mv)), rel=0.3)


def test_what_lies_outside_the_picture_is_not_read_from_another_row(models):
    page = read_image(SAMPLES / "sample_render.png")
    whole = digitize_page(page, models)
    height, width = page.image.shape[:2]
    about = cv2.getRotationMatrix2D((width / 2, height / 2), -4.0, 1.0)  # rows run down
    turned = cv2.warpAffine(page.image, about, (width, height), borderValue=(255, 255, 255))
    end_px = page_from_rect(whole.grid, np.array([[3500.0, COMPETITION.zero_px[3]]]))
    lowest = round(float((about @ [*end_px[0], 1.0])[1]))

    cut = digitize_page(Page(np.ascontiguousarray(turned[:lowest]), "cut off below"), models).trace

    assert (cut.confidence[3, 3300:] == 0).all()
    assert np.ptp(cut.y_px[3, 3400:]) < 0.1 * COMPETITION.px_per_mv
    assert np.abs(cut.y_px[:3] - whole.trace.y_px[:3]).mean() < 0.05 * COMPETITION.px_per_mv
    assert (
        np.abs(cut.y_px[3, :2500] - whole.trace.y_px[3, :2500]).mean()
        < 0.05 * COMPETITION.px_per_mv
    )


def test_kinds(models):
    source = SimulatorSource(validation=True)

    report = validate_pages(
        source, models, pages=1, each_kind=True, kinds=tuple(KIND_FLOORS_DB), true_geometry=True
    )

    print(report.to_text())
    missed = [
        f"{check.kind}: {check.score.snr_capped_db:.2f} dB, floor {KIND_FLOORS_DB[check.kind]}"
        for check in report.checks
        if check.score.snr_capped_db < KIND_FLOORS_DB[check.kind]
    ]
    assert sorted([*KIND_FLOORS_DB, "mould_bw"]) == sorted(KINDS)
    assert not missed


def test_mould_in_black_and_white(models):
    source = SimulatorSource(validation=True)

    report = validate_pages(
        source, models, pages=4, each_kind=True, kinds=("mould_bw",), true_geometry=True
    )

    print(report.to_text())
    scores_db = [check.score.snr_capped_db for check in report.checks]
    assert np.mean(scores_db) >= MOULD_BW_FLOOR_DB


def test_real_pages(models):
    if not PAIRED.is_file():
        pytest.skip(f"{PAIRED.parent.parent.name}/data/paired.csv is not there")

    report = evaluate(
        PAIRED,
        lambda path, fs_hz: digitize_page(read_image(path), models, fs_hz=fs_hz).recording,
    )

    print(report.to_text())
    assert not report.failures
    groups = {summary.name: summary.snr_capped_db for summary in report.by_group}
    by_type = {
        match[1]: result.score.snr_capped_db
        for result in report.results
        if (match := re.search(r"kaggle_.*-(\d{4})", result.image))
    }
    missed = [
        f"{name}: {scores[name]:.2f} dB, floor {floor}"
        for scores, floors in ((groups, GROUP_FLOORS_DB), (by_type, IMAGE_FLOORS_DB))
        for name, floor in floors.items()
        if scores[name] < floor
    ]
    assert not missed
