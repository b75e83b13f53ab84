"""The starter notebook's reading without a network."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from ecg_digitize.errors import StageError
from ecg_digitize.inputs import read_page
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.metrics import image_snr
from ecg_digitize.signals import printed_recording, rows_from_signals
from ecg_digitize.systems.classical.read import ink_of, lead_boxes, read
from ecg_digitize.systems.starter import (
    BAND_HZ,
    FIRST_PX,
    PX_PER_MV,
    PX_PER_S,
    SHEET,
    grey_sheet,
    smoothed,
)
from ecg_digitize.types import Page

SAMPLES = Path(__file__).parents[1] / "samples"
FS_HZ = 500


def _leads_mv():
    """Slow enough for a column to show a point, not a stroke; periodic, so that ends fit."""
    t = np.arange(10 * FS_HZ) / FS_HZ
    rhythm = [np.sin(2 * np.pi * (1.2 + 0.4 * (k % 4)) * t + k) for k in range(len(LEADS))]
    return 0.5 * np.array(rhythm) + 0.2 * np.sin(2 * np.pi * 6 * t)


def _drawn(leads_mv):
    """A black line on white, where the competition's renders have it: (1700, 2200, 3) uint8."""
    image = np.full((SHEET.height_px, SHEET.width_px, 3), 255, np.uint8)
    x_px = FIRST_PX + np.arange(10 * FS_HZ) * PX_PER_S / FS_HZ
    for row_mv, zero_mm in zip(rows_from_signals(leads_mv), COMPETITION.zero_mm, strict=True):
        y_px = SHEET.px_from_mm(np.array([0.0, zero_mm]))[1] - row_mv * PX_PER_MV
        points = np.rint(16 * np.stack([x_px, y_px], -1)).astype(np.int32)
        cv2.polylines(image, [points[:, None]], False, (0, 0, 0), 3, cv2.LINE_AA, 4)
    return image


def _snr_db(truth_mv, recording):
    return image_snr(truth_mv, recording.signals_mv, fs_hz=recording.fs_hz).snr_db


def _read(image, fs_hz=FS_HZ):
    return read(Page(image, "drawn"), None, None, fs_hz=fs_hz)


@pytest.fixture(scope="module")
def drawn():
    leads_mv = _leads_mv()
    return _drawn(leads_mv), printed_recording(leads_mv, fs_hz=FS_HZ).signals_mv


def test_boxes_lie_where_public_notebooks_have_the_leads():
    boxes = {box.lead: box for box in lead_boxes()}
    assert list(boxes) == list(LEADS)
    assert boxes["I"].left == boxes["II"].left == 118  # measured: 118.11 px
    assert [round(boxes[lead].zero_px) for lead in ("I", "aVL", "V3", "II")] == [
        708, 992, 1275, 1535,
    ]  # fmt: skip
    assert boxes["V4"].right == boxes["II"].right == 118 + 1968
    assert boxes["I"].right == boxes["aVR"].left


def test_lines_at_their_exact_places_are_read(drawn):
    image, truth_mv = drawn
    recording = _read(image)
    assert _snr_db(truth_mv, recording) > 12  # 13.9; the smoothing spoils the leads' ends
    assert np.array_equal(np.isfinite(recording.signals_mv), np.isfinite(truth_mv))


@pytest.mark.parametrize("fs_hz", [250, 1000, 1025])
def test_windows_are_those_of_the_layout(drawn, fs_hz):
    image, _ = drawn
    recording = _read(image, fs_hz)
    assert recording.signals_mv.shape == (12, 10 * fs_hz)
    for lead, values in zip(LEADS, recording.signals_mv, strict=True):
        start, stop = COMPETITION.window(lead, 10 * fs_hz)
        assert np.isfinite(values[start:stop]).all()
        assert np.isnan(values[:start]).all()
        assert np.isnan(values[stop:]).all()


def test_the_sample_render_is_read_in_part():
    truth = pd.read_csv(SAMPLES / "sample_render.csv")
    recording = read(read_page(SAMPLES / "sample_render.png"), None, None, fs_hz=FS_HZ)
    score = image_snr(truth[list(LEADS)].to_numpy().T, recording.signals_mv, fs_hz=FS_HZ)
    assert 3 < score.snr_db < 8  # 4.3: names of leads lie in the boxes, and tall waves leave them
    assert score.leads["V2"].snr_db > 7  # 9.0


def test_a_picture_that_stands_upright_is_turned(drawn):
    image, truth_mv = drawn
    turned = np.rot90(image, -1)
    assert _snr_db(truth_mv, _read(np.ascontiguousarray(turned))) > 12


def test_a_smaller_picture_is_scaled(drawn):
    image, truth_mv = drawn
    small = cv2.resize(image, (1650, 1275), interpolation=cv2.INTER_AREA)
    assert _snr_db(truth_mv, _read(small)) > 12


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_fails(level):
    with pytest.raises(StageError, match="drawn: expected lines"):
        _read(np.full((850, 1100, 3), level, np.uint8))


def test_noise_fails():
    noise = np.random.default_rng(1).normal(200, 8, (1700, 2200, 1)).astype(np.uint8)
    with pytest.raises(StageError, match="drawn: expected lines"):
        _read(np.repeat(noise, 3, axis=2))


def test_a_lead_that_is_not_printed_is_not_read(drawn):
    image, _ = drawn
    box = next(box for box in lead_boxes() if box.lead == "V5")
    image = image.copy()
    image[box.top : box.bottom, box.left : box.right] = 255
    lost = np.isnan(_read(image).signals_mv).all(axis=1)
    assert [lead for lead, is_lost in zip(LEADS, lost, strict=True) if is_lost] == ["V5"]


def test_the_grid_is_taken_off():
    page = read_page(SAMPLES / "sample_render.png")
    ink = ink_of(grey_sheet(page.image, (SHEET.width_px, SHEET.height_px)))
    above = ink[100:400]  # nothing but grid; without the opening 0.09 of it is ink
    assert above.mean() < 0.005  # 0.0013: where lines cross
    assert ink.mean() > 0.005


def test_the_smoothing_keeps_its_band_in_time():
    t = np.arange(10 * FS_HZ) / FS_HZ
    inside, outside = np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 120 * t)
    kept = smoothed(1.0 + inside + outside, FS_HZ)
    middle = slice(2 * FS_HZ, 8 * FS_HZ)
    assert np.abs(kept[middle] - inside[middle]).max() < 0.02
    assert BAND_HZ == (0.5, 40.0)
