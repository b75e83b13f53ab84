"""Sheets whose rows lie elsewhere than the competition's."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecg_digitize import geometry, stages
from ecg_digitize.frames import NORM, RECT, crossings_mm
from ecg_digitize.layout import COMPETITION
from ecg_digitize.metrics import image_snr
from ecg_digitize.models import load_models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.signals import printed_recording, rows_from_trace
from ecg_digitize.stage0.normalize import registration_from_homography
from ecg_digitize.stage1 import rows
from ecg_digitize.stage1.rectify import page_from_rect, rectify
from ecg_digitize.stage1.rows import (
    as_laid_out,
    as_printed,
    counted_from,
    laid_out,
    levelled,
    place_rows,
)
from ecg_digitize.synth.dataset import make_page
from ecg_digitize.synth.page import CleanPage, default_style, draw_page
from ecg_digitize.synth.signals import to_twelve
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.training.stage2 import rectified_crop
from ecg_digitize.training.validate import grid_errors_px
from ecg_digitize.types import Digitization, GridMap, Page, Recording, Registration, Trace

SOURCE = SimulatorSource(seed=5)
SIGNALS_MV = to_twelve(0.6 * SOURCE.get(4))  # rows that do not reach each other
CLOSE_MM = (100.0, 130.0, 160.0, 190.0)
UNEVEN_MM = (97.0, 133.0, 168.0, 205.0)
WIDE_MM = (70.0, 110.0, 150.0, 190.0)
MANIFEST = Path(__file__).parents[2] / "weights_manifest.json"


def sheet(zero_mm: tuple[float, ...]) -> CleanPage:
    style = replace(default_style(), layout=COMPETITION.with_zeros(zero_mm))
    return draw_page(SIGNALS_MV, style, np.random.default_rng(0))


def seen(clean: CleanPage) -> tuple[Page, GridMap, Registration]:
    """Return the picture with its true crossings and the true places of its names."""
    scale = clean.px_per_mm
    x0, y0 = clean.origin_mm
    page_from_sheet = np.array(
        [[scale, 0, -x0 * scale - 0.5], [0, scale, -y0 * scale - 0.5], [0, 0, 1]]
    )
    crossings = geometry.apply_homography(page_from_sheet, crossings_mm()).astype(np.float32)
    names = geometry.apply_homography(page_from_sheet, clean.names_mm).astype(np.float32)
    registration = replace(registration_from_homography(page_from_sheet), names_xy_px=names)
    grid = GridMap(crossings, np.ones(crossings.shape[:2], np.float32), 0.1)
    return Page(clean.image, "made"), grid, registration


@pytest.mark.parametrize("zero_mm", [CLOSE_MM, WIDE_MM, UNEVEN_MM])
@pytest.mark.parametrize("below_mm", [-14.0, -9.0, 0.0, 6.0])
def test_rows_are_found_wherever_the_names_stand(
    zero_mm: tuple[float, ...], below_mm: float
) -> None:
    page, grid, registration = seen(sheet(zero_mm))
    names = registration.names_xy_px + np.array([0, below_mm * 7.874], np.float32)

    placed = place_rows(page, grid, replace(registration, names_xy_px=names))

    assert placed.rows_mm is not None
    # Half of a lead lies above its zero line or below: the densest ink is within a millimetre.
    assert np.abs(placed.rows_mm - zero_mm).max() < 1.0


def test_rows_are_found_where_the_names_stand_as_usual_and_the_rows_do_not() -> None:
    page, grid, registration = seen(sheet(UNEVEN_MM))
    usual = geometry.page_from_sheet(grid.crossings_xy_px, COMPETITION.names_mm).astype(np.float32)

    placed = place_rows(page, grid, replace(registration, names_xy_px=usual))

    assert placed.rows_mm is not None
    assert np.abs(placed.rows_mm - UNEVEN_MM).max() < 1.0


def test_every_baseline_comes_where_it_is_expected_and_goes_back() -> None:
    uneven = np.array(UNEVEN_MM)
    y_mm = np.linspace(0, 215, 100)
    np.testing.assert_allclose(as_printed(np.array(COMPETITION.zero_mm), uneven), uneven)
    np.testing.assert_allclose(as_laid_out(as_printed(y_mm, uneven), uneven), y_mm, atol=1e-3)
    assert (np.diff(as_printed(y_mm, uneven)) > 0).all()
    np.testing.assert_array_equal(as_printed(y_mm, None), y_mm)


def test_traces_that_begin_elsewhere_are_read_from_there() -> None:
    page, grid, _ = seen(sheet(COMPETITION.zero_mm))
    late = replace(grid, start_mm=3.0)

    there = page_from_rect(late, np.array([[300.0, 400.0]]))
    usual = page_from_rect(grid, np.array([[300.0, 400.0]]))

    np.testing.assert_allclose(there - usual, [[3 * 7.874, 0.0]], atol=1e-3)
    assert rectify(page, late).image.shape == rectify(page, grid).image.shape
    assert laid_out(late).start_mm == 0.0


def test_the_usual_sheet_stays_as_it_is() -> None:
    page, grid, registration = seen(sheet(COMPETITION.zero_mm))
    jitter = np.random.default_rng(1).normal(0, 0.7 * 7.874, registration.names_xy_px.shape)
    names = (registration.names_xy_px + jitter).astype(np.float32)

    assert place_rows(page, grid, replace(registration, names_xy_px=names)) is grid


@pytest.mark.parametrize("squares", [-1, 1])
def test_a_grid_counted_from_a_wrong_line_is_counted_anew(squares: int) -> None:
    page, grid, registration = seen(sheet(COMPETITION.zero_mm))
    wrong = counted_from(grid, squares)

    placed = place_rows(page, wrong, registration)

    assert placed.rows_mm is None
    np.testing.assert_allclose(placed.crossings_xy_px, grid.crossings_xy_px, atol=0.1)
    inside = slice(1, -1)  # of the outermost rows one went out of sight
    np.testing.assert_array_equal(placed.confidence[inside], 1)
    assert (placed.confidence == 0).sum() == placed.confidence.shape[1]


def test_a_monitors_edge_is_no_row(monkeypatch) -> None:
    page, grid, registration = seen(sheet(COMPETITION.zero_mm))
    ink_density = rows._ink_density

    def with_edge(image: np.ndarray, grid: GridMap) -> np.ndarray:
        density = ink_density(image, grid)
        edge = round((213.0 - NORM.origin_mm_xy[1]) * NORM.px_per_mm_xy[1])
        density[edge : edge + 4] = 1.0
        return density

    monkeypatch.setattr(rows, "_ink_density", with_edge)

    assert place_rows(page, grid, registration).rows_mm is None


@pytest.mark.parametrize("seed", range(20))
def test_names_of_two_rows_alone_do_not_move_the_usual_rows(seed: int) -> None:
    page, grid, registration = seen(sheet(COMPETITION.zero_mm))
    jitter = np.random.default_rng(seed).normal(0, 0.7 * 7.874, registration.names_xy_px.shape)
    names = (registration.names_xy_px + jitter).astype(np.float32)
    names[[k for k in range(13) if k not in (0, 3, 1, 4)]] = np.nan  # I aVR, II aVL

    assert place_rows(page, grid, replace(registration, names_xy_px=names)).rows_mm is None


def test_a_row_without_ink_is_taken_to_lie_like_the_others() -> None:
    page, grid, registration = seen(sheet(CLOSE_MM))
    strip = slice(round((CLOSE_MM[3] - 14 + 1) * 7.874), None)
    image = page.image.copy()
    image[strip] = 255

    placed = place_rows(Page(image, "cut"), grid, registration)

    assert placed.rows_mm is not None
    assert np.abs(placed.rows_mm[:3] - CLOSE_MM[:3]).max() < 1.0
    assert abs(placed.rows_mm[3] - CLOSE_MM[3]) < 6.0


def test_a_sheet_without_a_lattice_or_with_few_names_stays_as_it_is() -> None:
    page, grid, registration = seen(sheet(CLOSE_MM))
    few = registration.names_xy_px.copy()
    few[3:] = np.nan

    assert place_rows(page, replace(grid, residual_px=np.inf), registration).rows_mm is None
    assert place_rows(page, grid, replace(registration, names_xy_px=few)).rows_mm is None


def test_the_rectified_page_has_its_rows_where_stage_2_looks_and_millivolts_are_kept() -> None:
    clean = sheet(CLOSE_MM)
    page, grid, _ = seen(clean)
    grid = replace(grid, rows_mm=np.array(CLOSE_MM))
    y_mm = as_laid_out(clean.rows_mm.astype(np.float64), np.array(CLOSE_MM))
    y_px = ((y_mm - RECT.origin_mm_xy[1]) * RECT.px_per_mm_xy[1]).astype(np.float32)
    trace = Trace(y_px, np.ones(COMPETITION.shape, np.float32))

    rectified = rectify(page, grid)
    level = levelled(trace, grid)

    assert np.abs(np.median(y_px, axis=1) - COMPETITION.zero_px).max() < 16
    columns = np.arange(100, 4900, 7)
    quiet = np.abs(np.gradient(y_px, axis=1))[:, columns] < 1
    ink = rectified.image.max(axis=2)[np.rint(y_px[:, columns]).astype(int), 300 + columns]
    assert np.median(ink[quiet]) < 60
    np.testing.assert_allclose(rows_from_trace(level), clean.rows_mv, atol=1e-3)
    # The same points of the picture, whether by the sheet as it is or as it is laid out.
    on_page = page_from_rect(grid, np.column_stack([300 + columns, y_px[1, columns]]))
    mm = np.column_stack([15 + columns / 20 - 0.5 / 7.874, clean.rows_mm[1, columns]])
    np.testing.assert_allclose(
        on_page, geometry.page_from_sheet(grid.crossings_xy_px, mm), atol=0.02
    )
    assert laid_out(grid).rows_mm is None


@pytest.mark.parametrize("index", range(4))
def test_pages_of_other_machines_carry_their_labels(index: int) -> None:
    page = make_page(SOURCE, seed=1, index=index, kind="render", other_machines=1.0)
    usual = make_page(SOURCE, seed=1, index=index, kind="render")

    crop = rectified_crop(page, x0_px=1400, width_px=1280)

    assert page.grid.rows_mm is not None
    assert usual.grid.rows_mm is None
    column = np.arange(0, 1280, 3)
    y_px = crop.y_px[:, column]
    assert np.isfinite(y_px).all()
    quiet = (np.abs(np.gradient(y_px, axis=1)) < 1) & (y_px > 2) & (y_px < 1270)
    at = np.clip(np.rint(y_px).astype(int), 0, 1279)
    on_line, beside = (crop.image.max(axis=2)[np.clip(at + d, 0, 1279), column] for d in (0, 14))
    assert np.median(on_line[quiet]) < np.median(beside[quiet]) - 60
    stretch, offset_mm = np.polyfit(COMPETITION.zero_mm, page.grid.rows_mm, 1)
    assert 0.6 < stretch < 1.3
    assert abs(offset_mm) < 60


def test_the_lattice_is_looked_for_again_without_the_stretch(monkeypatch, tiny_models) -> None:
    page, grid, registration = seen(sheet(CLOSE_MM))
    stretched = registration.page_from_sheet @ np.diag([1.0, 0.8, 1.0])
    asked = []

    def find_crossings(page: Page, registration: Registration, models: object) -> GridMap:
        asked.append(registration.page_from_sheet)
        linear = registration.page_from_sheet[:2, :2]
        seen_well = abs(linear[1, 1] / linear[0, 0] - 1) < 0.02
        return replace(grid, confidence=np.full((44, 57), 0.6 * seen_well, np.float32))

    monkeypatch.setattr(stages, "find_crossings", find_crossings)

    found = stages.find_grid(page, replace(registration, page_from_sheet=stretched), tiny_models)

    assert len(asked) == 2
    assert found.confidence.mean() > 0.5
    asked.clear()
    stages.find_grid(page, registration, tiny_models)
    assert len(asked) == 1


def test_whole_squares_are_told_from_errors() -> None:
    page = make_page(SOURCE, seed=1, index=0, kind="scan")
    grid = page.grid
    one_right = geometry.page_from_sheet(
        grid.crossings_xy_px, crossings_mm() + np.array([5.0, 0.0])
    )
    found = replace(grid, crossings_xy_px=(one_right + np.array([0.3, 0.4])).astype(np.float32))
    nothing = np.zeros((12, 5000), np.float32)
    blank = Trace(np.zeros((4, 5000), np.float32), np.zeros((4, 5000), np.float32))
    registration = registration_from_homography(np.diag([7.0, 7.0, 1.0]))

    def errors_px(grid: GridMap) -> tuple[np.ndarray | None, bool]:
        result = Digitization("made", Recording(nothing, 500.0), blank, grid, registration)
        return grid_errors_px(page, result)

    off_px, slipped = errors_px(found)
    assert off_px is not None
    assert slipped
    assert np.median(off_px) == pytest.approx(0.5, abs=0.02)
    off_px, slipped = errors_px(grid)
    assert off_px is not None
    assert not slipped
    assert off_px.max() < 1e-3
    assert errors_px(replace(grid, residual_px=np.inf)) == (None, False)


@pytest.mark.skipif(
    not json.loads(MANIFEST.read_text())["files"], reason="weights_manifest.json lists no weights"
)
@pytest.mark.parametrize("zero_mm", [CLOSE_MM, WIDE_MM])
def test_other_layouts_are_digitized(zero_mm: tuple[float, ...]) -> None:
    page, _, _ = seen(sheet(zero_mm))

    found = digitize_page(page, load_models(preset="fast"))

    truth = printed_recording(SIGNALS_MV, fs_hz=500)
    assert any("was read as 3x4+1" in doubt for doubt in found.doubts)
    assert found.recording.rhythm == "II"
    score = image_snr(truth.signals_mv, found.recording.signals_mv, fs_hz=500)
    assert score.snr_db > 15
