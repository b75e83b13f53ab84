"""Sheets of other layouts from end to end: drawn here, read with the shipped weights."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from ecg_digitize.errors import StageError
from ecg_digitize.image import read_image
from ecg_digitize.layout import LEADS
from ecg_digitize.layouts import FAMILIES, Family
from ecg_digitize.metrics import image_snr
from ecg_digitize.models import Models, load_models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.synth.signals import to_twelve
from ecg_digitize.synth.simulator import simulate
from ecg_digitize.types import Digitization, Float64, Image, Page

SHARED = Path(__file__).parents[2] / "shared" / "data"
PX_PER_MM = 6.0
LEFT_MM, TOP_MM = 20.0, 30.0


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models(preset="fast")


@dataclass(frozen=True)
class Sheet:
    """A drawn sheet and what it shows."""

    image: Image
    truth_mv: Float64  # (12, 5000) NaN where a lead is not printed


def drawn(
    family: Family,
    *,
    apart_mm: float,
    gain: float = 10.0,
    pulses: bool = True,
    named: bool = True,
    grid: bool = True,
    words: str = "",
) -> Sheet:
    """Draw a sheet as a plotting library would: grid, names above the rows, pulses before them."""
    signals_mv = heart()
    height_mm = TOP_MM + apart_mm * len(family.rows) + 10
    shape = round(height_mm * PX_PER_MM), round(290 * PX_PER_MM), 3
    image = np.full(shape, 255, np.uint8)
    for step, colour in ((1, (255, 225, 225)), (5, (245, 170, 170))) if grid else ():
        for axis in (0, 1):
            at = np.rint(np.arange(0, shape[axis] / PX_PER_MM, step) * PX_PER_MM).astype(int)
            lines: list[slice | np.ndarray] = [slice(None), slice(None)]
            lines[axis] = at[at < shape[axis]]
            image[tuple(lines)] = colour
    truth_mv = np.full((12, 5000), np.nan)
    n = 5000 // family.n_columns
    for index, leads in enumerate(family.rows):
        zero_mm = TOP_MM + apart_mm * index
        if pulses:
            pulse = np.array([[8, 0], [10, 0], [10, gain], [15, gain], [15, 0], [17, 0]])
            stroke(image, pulse[:, 0], zero_mm - pulse[:, 1])
        for column, name in enumerate(leads):
            lead, sign = name.removeprefix("-"), -1 if name.startswith("-") else 1
            window = slice(column * n, (column + 1) * n)
            values_mv = signals_mv[LEADS.index(lead), window]
            truth_mv[LEADS.index(lead), window] = values_mv
            x_mm = LEFT_MM + np.arange(window.start, window.stop) / 20
            stroke(image, x_mm, zero_mm - gain * sign * values_mv)
            at = round((x_mm[0] + 1) * PX_PER_MM), round((zero_mm - 7.5) * PX_PER_MM)
            if not named:
                continue
            cv2.putText(image, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.75, (0, 0, 0), 2, cv2.LINE_AA)
    if words:
        at = round(LEFT_MM * PX_PER_MM), round((height_mm - 2.5) * PX_PER_MM)
        cv2.putText(image, words, at, cv2.FONT_HERSHEY_DUPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    return Sheet(image, truth_mv)


def heart() -> Float64:
    """Twelve leads over ten seconds, mV."""
    return np.asarray(to_twelve(simulate(np.random.default_rng(11))), np.float64)


def stroke(image: Image, x_mm: Float64, y_mm: Float64) -> None:
    xy_px = np.rint(np.column_stack([x_mm, y_mm]) * PX_PER_MM * 16).astype(np.int32)
    cv2.polylines(image, [xy_px[:, None]], False, (20, 20, 20), 2, cv2.LINE_AA, 4)


def family(name: str) -> Family:
    return next(one for one in FAMILIES if one.name == name)


def printed(read: Digitization) -> list[str]:
    return [
        lead
        for lead, mv in zip(LEADS, read.recording.signals_mv, strict=True)
        if np.isfinite(mv).any()
    ]


def test_a_cabrera_sheet_is_read_under_its_own_names(models: Models) -> None:
    sheet = drawn(family("3x4 Cabrera"), apart_mm=36.0)
    read = digitize_page(Page(sheet.image, "cabrera"), models, passes=0)
    assert read.recording.layout.name == "3x4 Cabrera"
    assert image_snr(sheet.truth_mv, read.recording.signals_mv, fs_hz=500).snr_db > 15


def test_a_sheet_without_pulses_is_read_and_doubted(models: Models) -> None:
    sheet = drawn(family("6x2"), apart_mm=27.0, pulses=False)
    read = digitize_page(Page(sheet.image, "bare"), models, passes=0)
    assert read.recording.layout.name == "6x2"
    assert image_snr(sheet.truth_mv, read.recording.signals_mv, fs_hz=500).snr_db > 15
    assert any("neither text nor pulses tell" in doubt for doubt in read.doubts)


def test_rows_tell_the_scale_of_a_sheet_without_a_grid(models: Models) -> None:
    sheet = drawn(family("6x2"), apart_mm=27.0, pulses=False, grid=False)
    smaller = cv2.resize(sheet.image, None, fx=0.85, fy=0.85, interpolation=cv2.INTER_AREA)
    read = digitize_page(Page(np.asarray(smaller, np.uint8), "plain"), models, passes=0)
    assert read.recording.layout.name == "6x2"
    assert image_snr(sheet.truth_mv, read.recording.signals_mv, fs_hz=500).snr_db > 15
    assert "no grid was seen, and its scale is told by its rows or its file alone" in read.doubts


def test_white_on_black_is_read_as_its_negative(models: Models) -> None:
    sheet = drawn(family("6x1 limb"), apart_mm=27.0)
    read = digitize_page(Page(255 - sheet.image, "negative"), models, passes=0)
    assert printed(read) == list(LEADS[:6])
    assert image_snr(sheet.truth_mv, read.recording.signals_mv, fs_hz=500).snr_db > 15


def test_limb_leads_alone_bring_no_chest_leads_and_pulses_tell_the_gain(models: Models) -> None:
    sheet = drawn(family("6x1 limb"), apart_mm=27.0, gain=5.0)
    read = digitize_page(Page(sheet.image, "limb"), models, passes=0)
    assert printed(read) == list(LEADS[:6])
    assert read.recording.layout.mm_per_mv == 5.0
    assert not any("pulses" in doubt for doubt in read.doubts)


def test_text_tells_the_gain_where_no_pulse_does(models: Models) -> None:
    words = "25 mm/s   5 mm/mV   0.05-40 Hz"
    sheet = drawn(family("6x2"), apart_mm=27.0, gain=5.0, pulses=False, words=words)
    read = digitize_page(Page(sheet.image, "told"), models, passes=0)
    assert (read.recording.layout.mm_per_s, read.recording.layout.mm_per_mv) == (25.0, 5.0)
    assert image_snr(sheet.truth_mv, read.recording.signals_mv, fs_hz=500).snr_db > 15
    assert not any("pulses" in doubt or "text" in doubt for doubt in read.doubts)


def test_text_and_pulses_that_disagree_are_doubted(models: Models) -> None:
    sheet = drawn(family("6x1 limb"), apart_mm=27.0, words="25 mm/s   20 mm/mV")
    read = digitize_page(Page(sheet.image, "torn"), models, passes=0)
    assert "it is taken for 25 mm/s and 20 mm/mV, but its pulses tell 25 and 10" in read.doubts


def test_somebody_may_say_what_is_printed_where_names_do_not(models: Models) -> None:
    sheet = drawn(family("6x2"), apart_mm=27.0, named=False)
    read = digitize_page(Page(sheet.image, "told"), models, layout=family("6x2"), passes=0)
    assert read.recording.layout.name == "6x2"
    assert image_snr(sheet.truth_mv, read.recording.signals_mv, fs_hz=500).snr_db > 15
    with pytest.raises(StageError, match="expected a grid and 12 rows of 1 leads, but saw none"):
        digitize_page(Page(sheet.image, "told wrong"), models, layout=family("12x1"))


def test_a_strip_without_a_name_is_said_to_be_guessed(models: Models) -> None:
    page = SHARED / "machine_pdfs" / "ecgtizer_00009_hr_clean.png"
    if not page.is_file():
        pytest.skip(f"{page.parent.name} is not there")
    read = digitize_page(read_image(page), models, passes=0)
    assert read.recording.layout.strip_lead == "II"
    assert "a strip's name was not read, and it is taken for II" in read.doubts


def test_a_mirrored_picture_is_named(models: Models) -> None:
    sheet = drawn(family("6x2"), apart_mm=27.0)
    with pytest.raises(StageError, match="mirrored; flip it"):
        digitize_page(Page(np.ascontiguousarray(sheet.image[:, ::-1]), "mirrored"), models)
