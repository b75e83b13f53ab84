from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from ecg_digitize import geometry
from ecg_digitize.frames import (
    NORM,
    PAGE_GRID_TOP_PX,
    PX_PER_MM,
    RECT,
    TIME_ORIGIN_MM,
    Frame,
    crossings_mm,
)
from ecg_digitize.layout import COMPETITION
from ecg_digitize.stage0.normalize import registration_from_homography
from ecg_digitize.stage1.rectify import norm_image, page_from_norm, rectify
from ecg_digitize.types import GridMap, Page

SHARED = Path(__file__).parents[2].parent / "shared"


def pattern(xy_mm: np.ndarray) -> np.ndarray:
    """Return the grey value, 0..255, of a smooth drawing on the sheet."""
    x, y = xy_mm[..., 0], xy_mm[..., 1]
    return 128 + 60 * np.sin(2 * np.pi * x / 7) + 60 * np.sin(2 * np.pi * (y + 0.2 * x) / 5)


def scale_homography(px_per_mm: float) -> np.ndarray:
    return np.diag([px_per_mm, px_per_mm, 1]) @ [[1, 0.01, 1.3], [-0.01, 1, 3.7], [1e-5, 2e-5, 1]]


@cache
def photograph(px_per_mm: float) -> Page:
    """Return what a camera at ``scale_homography`` sees of the drawing."""
    width, height = round(285 * px_per_mm), round(220 * px_per_mm)
    rows, columns = np.mgrid[0:height, 0:width]
    page_xy = np.stack([columns, rows], axis=-1)
    sheet_from_page = np.linalg.inv(scale_homography(px_per_mm))
    grey = pattern(geometry.apply_homography(sheet_from_page, page_xy))
    return Page(np.repeat(np.rint(grey)[..., None], 3, axis=2).astype(np.uint8), "made")


def grid_of(page_from_sheet: np.ndarray) -> GridMap:
    crossings = geometry.apply_homography(page_from_sheet, crossings_mm()).astype(np.float32)
    return GridMap(crossings, np.ones((44, 57), np.float32), 0.0)


@cache
def expected(frame: Frame) -> np.ndarray:
    rows, columns = np.mgrid[0 : frame.height_px, 0 : frame.width_px]
    return pattern(frame.mm_from_px(np.stack([columns, rows], axis=-1)))


@pytest.mark.parametrize("px_per_mm", [4.5, 7.874, 13.0])
def test_rectify_shows_the_sheet_where_it_should(px_per_mm: float) -> None:
    page_from_sheet = scale_homography(px_per_mm)
    page = photograph(px_per_mm)

    rectified = rectify(page, grid_of(page_from_sheet))

    off = rectified.image[..., 0] - expected(RECT)
    inside = (slice(16, -16), slice(100, -100))
    # Rounding and bilinear look-ups give 0.5; a shift by 0.1 px down would add 0.6.
    assert abs(off[inside].mean()) < 0.1
    assert off[inside].std() < 0.8
    assert rectified.valid > 0.97


def test_a_turned_page_gives_the_same_picture() -> None:
    page_from_sheet = scale_homography(7.874)
    page = photograph(7.874)
    size = page.image.shape[1::-1]
    turned = Page(np.ascontiguousarray(np.rot90(page.image, 3)), "turned")
    turned_grid = grid_of(geometry.quarter_turning(3, size) @ page_from_sheet)

    upright = rectify(page, grid_of(page_from_sheet)).image

    assert np.abs(rectify(turned, turned_grid).image.astype(int) - upright).max() <= 4


def test_photos_finer_than_the_frame_are_averaged_not_skipped() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2900, 3700, 3), dtype=np.uint8)
    page_from_sheet = np.diag([13.0, 13.0, 1.0])

    rectified = rectify(Page(noise, "noise"), grid_of(page_from_sheet)).image
    small = norm_image(Page(noise, "noise"), registration_from_homography(page_from_sheet))

    # Looked up once, bilinear noise keeps a deviation of 49 of 74 grey levels.
    assert rectified[100:-100, 100:-100].std() < 42
    assert small[50:-50, 50:-50].std() < 30


def test_valid_is_the_share_inside_the_picture() -> None:
    page_from_sheet = np.diag([8.0, 8.0, 1.0])
    half = Page(np.zeros((1720, 1120, 3), np.uint8), "left half")

    rectified = rectify(half, grid_of(page_from_sheet))

    assert rectified.valid == pytest.approx(0.5, abs=0.01)
    assert (rectified.image[:, 2900:] == 255).all()
    assert (rectified.image[:, 2:2700] == 0).all()  # column 0 lies GRID_SNAP_MM left of the page


@pytest.mark.parametrize("interpolation", [cv2.INTER_CUBIC, cv2.INTER_LANCZOS4])
def test_sharper_interpolation_is_allowed(interpolation: int) -> None:
    page_from_sheet = scale_homography(4.5)
    page = photograph(4.5)

    rectified = rectify(page, grid_of(page_from_sheet), interpolation=interpolation)

    off = rectified.image[16:-16, 100:-100, 0] - expected(RECT)[16:-16, 100:-100]
    assert off.std() < 0.8


@pytest.mark.parametrize("px_per_mm", [4.5, 7.874, 13.0])
def test_norm_image_shows_the_sheet_where_it_should(px_per_mm: float) -> None:
    page_from_sheet = scale_homography(px_per_mm)
    page = photograph(px_per_mm)

    image = norm_image(page, registration_from_homography(page_from_sheet))

    off = (image[..., 0] - expected(NORM))[60:-60, 60:-60]
    slope = np.gradient(expected(NORM))[0][60:-60, 60:-60]
    shift_px = (off * slope).sum() / (slope**2).sum()
    assert image.shape == (NORM.height_px, NORM.width_px, 3)
    assert abs(off.mean()) < 0.5
    assert abs(shift_px) < 0.03


def test_page_from_norm_puts_sheet_points_on_the_page() -> None:
    page_from_sheet = scale_homography(8.0)
    mm = crossings_mm()[::9, ::9]

    px = geometry.apply_homography(
        page_from_norm(registration_from_homography(page_from_sheet)), NORM.px_from_mm(mm)
    )

    assert px == pytest.approx(geometry.apply_homography(page_from_sheet, mm))


def test_a_render_has_its_grid_lines_on_the_crossings() -> None:
    path = SHARED / "data/paired/render/render_00841_hr.png"
    if not path.exists():
        pytest.skip("needs the shared renders, which are not part of the repository")
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    render = np.array([[PX_PER_MM, 0, 0], [0, PX_PER_MM, PAGE_GRID_TOP_PX], [0, 0, 1]])

    rectified = rectify(Page(image, path.name), grid_of(render)).image

    ink = 255.0 - rectified.mean(axis=2)
    assert np.argmax(ink[:400].mean(axis=0)[:5500].reshape(-1, 100).mean(axis=0)) in (99, 0, 1)
    assert np.argmax(ink.mean(axis=1).reshape(-1, 40).mean(axis=0)) in (7, 8, 9)  # 55 mm: row 8


def test_a_row_is_shown_where_its_baseline_lies_on_the_picture() -> None:
    page_from_sheet = np.array([[6.0, -0.6, 160.0], [0.6, 6.0, 0.0], [0.0, 0.0, 1.0]])
    height = (
        round(geometry.apply_homography(page_from_sheet, [150.0, COMPETITION.zero_mm[3]])[1]) + 1
    )
    page = Page(np.full((height, 1900, 3), 255, np.uint8), "cut off below")

    shown = rectify(page, grid_of(page_from_sheet)).shown

    assert shown is not None
    assert shown[:3].all()
    # Rows run down to the right, 0.1 mm a mm, and 1 mm of paper below the baseline must be there.
    ends_mm = TIME_ORIGIN_MM + shown[3].sum() / RECT.px_per_mm_xy[0]
    assert ends_mm == pytest.approx(140.0, abs=1.0)
    assert shown[3, : shown[3].sum()].all()
