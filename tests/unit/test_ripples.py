"""Folds and wrinkles between the crossings: the vertical lines tell."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ecg_digitize import geometry
from ecg_digitize.frames import RECT, crossings_mm
from ecg_digitize.stage1.rectify import page_from_rect, rectify
from ecg_digitize.stage1.ripples import LINE_MM, LOOK, follow_ripples, ripple_at
from ecg_digitize.synth.page import default_style, draw_page
from ecg_digitize.synth.signals import to_twelve
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.types import Float64, GridMap, Image, Page

STYLE = default_style()
FOLD_MM = 132.3  # between two lines of the grid, among the traces
PAGE_FROM_SHEET = np.array(
    [
        [STYLE.px_per_mm, 0, -STYLE.left_mm * STYLE.px_per_mm - 0.5],
        [0, STYLE.px_per_mm, -STYLE.top_mm * STYLE.px_per_mm - 0.5],
        [0, 0, 1],
    ]
)


def moved_mm(y_mm: Float64, *, fold: float = 0.1) -> Float64:
    """Return how far paper that was bent and folded is moved to the right."""
    return 0.6 * np.sin(2 * np.pi * y_mm / 150) + fold * np.abs(y_mm - FOLD_MM)


def flat_grid() -> GridMap:
    crossings = geometry.apply_homography(PAGE_FROM_SHEET, crossings_mm()).astype(np.float32)
    return GridMap(crossings, np.ones(crossings.shape[:2], np.float32), 0.1)


def folded_sheet(*, fold: float = 0.1) -> tuple[Image, GridMap]:
    """Return a render on folded paper, and its true crossings."""
    signals_mv = to_twelve(SimulatorSource(seed=5).get(4))
    image = draw_page(signals_mv, STYLE, np.random.default_rng(0)).image
    height, width = image.shape[:2]
    y_px = np.arange(height, dtype=np.float64)
    moved_px = moved_mm((y_px + 0.5) / STYLE.px_per_mm + STYLE.top_mm, fold=fold) * STYLE.px_per_mm
    from_px = np.arange(width) - moved_px[:, None]
    rows = np.repeat(y_px[:, None], width, axis=1)
    seen = cv2.remap(
        image, from_px.astype(np.float32), rows.astype(np.float32), cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    mm = crossings_mm()
    mm[..., 0] += moved_mm(mm[..., 1], fold=fold)
    points = geometry.apply_homography(PAGE_FROM_SHEET, mm)
    return np.asarray(seen, np.uint8), replace(
        flat_grid(), crossings_xy_px=points.astype(np.float32)
    )


def errors_mm(grid: GridMap, y_mm: Float64, *, fold: float = 0.1) -> Float64:
    """Return (n, 200) how far along time the grid is off at heights of the sheet."""
    x_mm = np.linspace(20, 260, 200)
    mm = np.stack(np.meshgrid(x_mm, y_mm), axis=-1).reshape(-1, 2)
    found_px = page_from_rect(grid, RECT.px_from_mm(mm))
    true_mm = mm + np.column_stack([moved_mm(mm[:, 1], fold=fold), np.zeros(len(mm))])
    true_px = geometry.apply_homography(PAGE_FROM_SHEET, true_mm)
    return ((found_px - true_px)[:, 0] / STYLE.px_per_mm).reshape(len(y_mm), -1)


def test_a_fold_between_the_crossings_is_followed() -> None:
    image, grid = folded_sheet()
    at_the_fold = np.linspace(FOLD_MM - 1.5, FOLD_MM + 1.5, 13)

    found = follow_ripples(image, grid)

    before_mm, after_mm = (errors_mm(one, at_the_fold) for one in (grid, found))
    assert before_mm.std() > 0.03
    assert after_mm.std() < 0.5 * before_mm.std()
    elsewhere_mm = errors_mm(found, np.linspace(70, 115, 40))
    assert np.sqrt(np.mean(elsewhere_mm**2)) < 0.01  # 0.4 ms: traces and names draw no line


def test_a_sheet_that_only_bends_stays() -> None:
    image, grid = folded_sheet(fold=0.0)

    found = follow_ripples(image, grid)

    assert found.ripple_mm is not None
    assert np.sqrt(np.mean(errors_mm(found, np.linspace(70, 200, 60), fold=0.0) ** 2)) < 0.01


def test_flat_and_unseen_sheets_are_not_looked_at() -> None:
    image, grid = folded_sheet()
    assert follow_ripples(image, flat_grid()).ripple_mm is None
    unseen = replace(grid, residual_px=float("inf"))
    assert follow_ripples(image, unseen) is unseen


@pytest.mark.parametrize("start_mm", [0.0, 7.0])
def test_the_rectified_page_and_the_overlay_agree(start_mm: float) -> None:
    ripple_mm = np.zeros((len(LINE_MM), LOOK.height_px), np.float32)
    ripple_mm[20:40] = 0.4 * np.sin(np.arange(LOOK.height_px) / 40)
    rows_mm = np.array([90.0, 122.0, 154.0, 186.0])
    grid = replace(flat_grid(), ripple_mm=ripple_mm, start_mm=start_mm, rows_mm=rows_mm)
    ramp = np.tile((np.arange(2200) / 10).astype(np.uint8), (1700, 1))
    page = Page(np.repeat(ramp[..., None], 3, axis=2), "ramp")

    seen = rectify(page, grid).image[..., 0]

    x, y = (part.ravel() for part in np.meshgrid(np.arange(300, 5300, 7), np.arange(100, 1200, 9)))
    there_px = page_from_rect(grid, np.column_stack([x, y]).astype(np.float64))
    off_px = seen[y, x] * 10.0 + 4.5 - there_px[:, 0]
    assert np.abs(off_px).max() < 6.0
    straight_px = page_from_rect(replace(grid, ripple_mm=None), np.column_stack([x, y]))
    moved_px = there_px - straight_px
    assert np.abs(moved_px[:, 0]).max() > 2.5
    assert np.abs(moved_px[:, 1]).max() < 1e-6


def test_beyond_the_lines_the_last_ripple_holds() -> None:
    ripple_mm = np.zeros((len(LINE_MM), LOOK.height_px), np.float32)
    ripple_mm[:, -1] = 0.2
    x_mm, y_mm = np.array([[50.0, 52.5]]), np.array([[500.0, 500.0]])
    np.testing.assert_allclose(ripple_at(ripple_mm, x_mm, y_mm), 0.2, rtol=1e-6)
