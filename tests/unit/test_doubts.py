"""What speaks against a reading, and pages that used to come out wrong without a word."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecg_digitize.alignment import set_in_time
from ecg_digitize.doubts import (
    doubts_about,
    is_another_sheet,
    is_hopeless,
    layout_doubts,
    most_wrong,
    page_doubts,
    quality_doubts,
)
from ecg_digitize.errors import InputError
from ecg_digitize.formats.csv import read_csv
from ecg_digitize.frames import TIME_ORIGIN_MM, crossings_mm
from ecg_digitize.image import read_image
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.metrics import image_snr
from ecg_digitize.models import Models, load_models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.quality import DEFAULTS as QUALITY
from ecg_digitize.sheet.match import PlacedName
from ecg_digitize.stage1.pulses import Pulse
from ecg_digitize.synth.page import default_style, draw_page
from ecg_digitize.synth.signals import to_twelve
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.types import Digitization, GridMap, Page, Registration, Trace

ROOT = Path(__file__).parents[2]
CASES = ROOT.parent / "shared" / "data" / "cases"
SIGNALS_MV = np.roll(to_twelve(0.6 * SimulatorSource(seed=5).get(4)), 100, axis=1).astype(
    np.float32
)

IMAGE = np.full((215, 280, 3), 255, np.uint8)  # a pixel a millimetre
GRID = GridMap(crossings_mm().astype(np.float32), np.ones((44, 57), np.float32), 0.1)
REGISTRATION = Registration(
    np.eye(3), COMPETITION.names_mm.astype(np.float32), np.ones(13, np.float32), 0, 13
)
LEVEL = Trace(
    np.repeat(np.array(COMPETITION.zero_px, np.float32)[:, None], 5000, axis=1),
    np.ones((4, 5000), np.float32),
)
ENDS_MM = np.tile([TIME_ORIGIN_MM, TIME_ORIGIN_MM + 250.0], (4, 1))


def doubts(
    *,
    grid: GridMap = GRID,
    paper: Trace = LEVEL,
    names: int = 13,
    pulses: tuple[Pulse, ...] = (),
    ends_mm: np.ndarray = ENDS_MM,
    is_calibrated: bool = True,
    einthoven_mv: float = 0.02,
) -> str:
    registration = replace(REGISTRATION, n_inliers=names)
    found = doubts_about(
        IMAGE, registration, grid, paper, pulses=pulses, ends_mm=ends_mm,
        is_calibrated=is_calibrated, einthoven_mv=einthoven_mv,
    )  # fmt: skip
    return "; ".join(found)


def test_nothing_speaks_against_a_page_on_which_everything_is_where_it_belongs() -> None:
    assert doubts() == ""
    assert doubts(is_calibrated=False) == ""  # its sheet is known
    assert doubts(pulses=(Pulse(0, TIME_ORIGIN_MM - 5, 5.0, 10.0),)) == ""
    assert doubts(ends_mm=np.full((4, 2), np.nan)) == ""


def test_each_doubt_is_said_in_words() -> None:
    assert doubts(einthoven_mv=0.2) == "leads I, II and III disagree by 0.20 mV"
    assert doubts(names=6) == "6 of 13 lead names are where they belong"
    assert "no grid" in doubts(grid=replace(GRID, residual_px=float("inf")))
    faint = replace(GRID, confidence=np.full((44, 57), 0.3, np.float32))
    assert "hardly agree" in doubts(grid=faint)
    elsewhere = replace(GRID, rows_mm=np.array([80.0, 110.0, 140.0, 170.0]))
    assert "rows lie elsewhere" in doubts(grid=elsewhere)
    assert "taken for 25 mm/s and 10 mm/mV" in doubts(grid=elsewhere, is_calibrated=False)
    half = replace(LEVEL, layout=COMPETITION.calibrated(mm_per_s=25.0, mm_per_mv=5.0))
    assert doubts(paper=half) == "it is printed at 25 mm/s and 5 mm/mV"
    assert "20 mm behind" in doubts(pulses=(Pulse(0, TIME_ORIGIN_MM - 25, 5.0, 10.0),))
    gaps_mm = np.tile([2.0, 62.0], (4, 1))
    assert doubts(ends_mm=gaps_mm) == "there are gaps between the leads of a row"
    faint_mm = np.array([[15.0, 62.0], [15.0, 90.0], [100.0, 140.0], [15.0, 265.0]])
    assert doubts(ends_mm=faint_mm) == ""


def test_leads_that_are_hidden_unseen_or_astray_are_named() -> None:
    shown = np.ones((4, 5000), np.bool_)
    shown[:3, 2500:] = False
    hidden = doubts(paper=replace(LEVEL, shown=shown))
    assert hidden == "V1, V4, V2, V5, V3, V6 are outside the picture"
    confidence = LEVEL.confidence.copy()
    confidence[3] = 0
    blank = replace(LEVEL, confidence=confidence)
    assert doubts(paper=blank) == "the strip is without ink"
    unknown = set_in_time(GRID, blank, COMPETITION, None).upright
    assert unknown.layout.strip_lead is None
    assert doubts(paper=unknown) == "the strip is without ink"
    y_px = LEVEL.y_px.copy()
    y_px[0, 1250:2000] = COMPETITION.zero_px[1]
    assert doubts(paper=replace(LEVEL, y_px=y_px)) == "aVR is on another row"


needs_weights = pytest.mark.skipif(
    not json.loads((ROOT / "weights_manifest.json").read_text())["files"],
    reason="weights_manifest.json lists no weights yet",
)


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models(preset="fast")


@needs_weights
@pytest.mark.parametrize(("speed", "gain"), [(25.0, 5.0), (50.0, 10.0)])
def test_another_gain_or_speed_is_read_and_said(models: Models, speed: float, gain: float) -> None:
    layout = COMPETITION.calibrated(mm_per_s=speed, mm_per_mv=gain)
    style = replace(default_style(), layout=layout, pulses=True)
    signals_mv = SIGNALS_MV[:, : layout.n_columns]
    clean = draw_page(signals_mv, style, np.random.default_rng(0))

    read = digitize_page(Page(clean.image, "drawn"), models)

    assert (read.recording.layout.mm_per_s, read.recording.layout.mm_per_mv) == (speed, gain)
    assert read.recording.signals_mv.shape == (12, layout.n_columns)
    truth_mv = np.full(signals_mv.shape, np.nan)
    for lead in LEADS:
        window = slice(*layout.window(lead, layout.n_columns))
        truth_mv[LEADS.index(lead), window] = signals_mv[LEADS.index(lead), window]
    assert image_snr(truth_mv, read.recording.signals_mv, fs_hz=500).snr_db > 15
    assert f"it is printed at {speed:g} mm/s and {gain:g} mm/mV" in read.doubts


@needs_weights
def test_a_known_sheet_is_not_doubted_and_no_other_layout_is_read(models: Models) -> None:
    page = read_image(ROOT / "tests" / "samples" / "sample_render.png")
    with pytest.raises(InputError, match="only the layout 3x4"):
        digitize_page(page, models, layout=COMPETITION.with_zeros((80.0, 110.0, 140.0, 170.0)))
    known = digitize_page(page, models, layout=COMPETITION)
    half = digitize_page(page, models, mm_per_mv=5.0)
    assert known.doubts == ()
    assert half.doubts == (
        "it is printed at 25 mm/s and 5 mm/mV",
        "its text tells 10 mm/mV, but it is taken for 5",
    )
    twice = half.recording.signals_mv / known.recording.signals_mv
    assert np.nanmedian(twice) == pytest.approx(2.0, abs=1e-3)


@needs_weights
def test_a_lead_outside_the_picture_is_not_there(models: Models) -> None:
    page = read_image(ROOT / "tests" / "samples" / "sample_render.png")
    whole = digitize_page(page, models)
    assert whole.doubts == ()
    width = page.image.shape[1]
    left = Page(np.ascontiguousarray(page.image[:, : round(0.72 * width)]), "cut")

    read = digitize_page(left, models)

    known = np.isfinite(read.recording.signals_mv).any(axis=1)
    assert known.tolist() == [lead not in ("V4", "V5", "V6") for lead in LEADS]
    assert any("V4, V5, V6 are outside the picture" in doubt for doubt in read.doubts)


def case(name: str, models: Models) -> Digitization:
    if not CASES.is_dir():
        pytest.skip(f"{CASES.parent.name}/cases is not there")
    return digitize_page(read_image(CASES / name), models)


@needs_weights
@pytest.mark.parametrize("name", ["gain5", "gain20"])
def test_gains_of_others_pages(models: Models, name: str) -> None:
    read = case(f"{name}.png", models)
    truth = read_csv(CASES / f"{name}.truth.csv")
    assert image_snr(truth.signals_mv, read.recording.signals_mv, fs_hz=truth.fs_hz).snr_db > 22


@needs_weights
@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("l3x4_3strips", "3x4+3"),
        ("l6x2", "6x2"),
        ("bluegrid", "3x4+1"),
        ("nogrid", "3x4+1"),
        ("dark", "3x4+1"),
    ],
)
def test_sheets_of_other_layouts_are_read(models: Models, name: str, layout: str) -> None:
    read = case(f"{name}.png", models)
    truth = read_csv(CASES / f"{name}.truth.csv")
    assert read.recording.layout.name == layout
    assert image_snr(truth.signals_mv, read.recording.signals_mv, fs_hz=truth.fs_hz).snr_db > 18


def test_a_sheet_is_trusted_where_most_leads_are_likely_right_and_nothing_is_doubted() -> None:
    good = np.full(12, QUALITY.right + 0.05, np.float32)
    good[6:] = np.nan  # six leads are printed
    poor = good - 0.1
    assert not list(layout_doubts(COMPETITION, good, ()))
    assert len(list(layout_doubts(COMPETITION, good, ("there is ink left over",)))) == 1
    assert len(list(layout_doubts(COMPETITION, poor, ()))) == 1
    assert not most_wrong(good)
    assert most_wrong(np.full(12, QUALITY.rejected - 0.05, np.float32))
    assert list(quality_doubts(np.full(12, 0.1, np.float32))) == ["all leads are likely wrong"]


def test_further_pages_and_a_second_ecg_are_named() -> None:
    page = Page(np.zeros((32, 32, 3), np.uint8), "two.tif", n_pages=2)
    names = [
        PlacedName(lead, 20.0 + below_mm, 30.0 + 10.0 * k + below_mm, 0.9)
        for k, lead in enumerate(LEADS)
        for below_mm in (0.0, 150.0)
    ]
    assert list(page_doubts(page, names)) == [
        "the file has 2 pages, and only the first was read",
        "most lead names are seen twice, as of two ECGs on one picture; cut it in two",
    ]
    assert not list(page_doubts(Page(page.image, "one.png"), names[::2]))


@needs_weights
def test_names_that_no_layout_explains_are_no_competition_sheet(models: Models) -> None:
    renamed = {f"V{k}": f"V{7 - k}" for k in range(1, 7)}
    rows = tuple(
        replace(
            row,
            segments=tuple(replace(s, lead=renamed.get(s.lead, s.lead)) for s in row.segments),
        )
        for row in COMPETITION.rows
    )
    style = replace(default_style(), layout=replace(COMPETITION, rows=rows))
    clean = draw_page(SIGNALS_MV, style, np.random.default_rng(0))
    read = digitize_page(Page(clean.image, "renamed"), models, passes=0)
    assert read.recording.verdict == "reject"


@needs_weights
@pytest.mark.parametrize("name", ["speed50", "right_half_only"])
def test_pages_that_are_read_wrong_are_doubted(models: Models, name: str) -> None:
    assert case(f"{name}.png", models).doubts


def test_a_reading_that_contradicts_itself_is_rejected() -> None:
    assert not is_hopeless(GRID, LEVEL, 0.2)
    assert is_hopeless(GRID, LEVEL, 0.5)
    y_px = LEVEL.y_px.copy()
    y_px[1, :2500] += 250  # II and aVL follow the next row
    assert not is_hopeless(GRID, replace(LEVEL, y_px=y_px), 0.0)
    y_px[1] += 250
    assert is_hopeless(GRID, replace(LEVEL, y_px=y_px), 0.0)


def test_a_sheet_with_few_names_and_another_grid_is_another_one() -> None:
    faint = replace(GRID, confidence=np.full((44, 57), 0.3, np.float32))

    def rejected(names: int, grid: GridMap) -> bool:
        return is_another_sheet(IMAGE, replace(REGISTRATION, n_inliers=names), grid)

    assert [rejected(names, GRID) for names in (5, 6, 8, 9)] == [True, False, False, False]
    assert [rejected(names, faint) for names in (8, 9)] == [True, False]


@needs_weights
def test_text_on_the_competitions_sheet_is_compared_with_what_it_is_taken_for(
    models: Models,
) -> None:
    page = read_image(ROOT / "tests" / "samples" / "sample_render.png")
    read = digitize_page(page, models, mm_per_s=50.0, mm_per_mv=10.0)
    assert "its text tells 25 mm/s, but it is taken for 50" in read.doubts
    assert read.recording.verdict == "check"
