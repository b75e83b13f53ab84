"""Lines are followed from crossings that are right to others, whose phases tell them not enough."""

from dataclasses import replace

import cv2
import numpy as np

from ecg_digitize import geometry
from ecg_digitize.frames import PX_PER_MM, crossings_mm
from ecg_digitize.stage1.lines import refine_grid
from ecg_digitize.stage1.phase import measure_lines, residuals_mm
from ecg_digitize.stage1.unwrap import right_part, unwrap
from ecg_digitize.synth.page import default_style, draw_page
from ecg_digitize.types import GridMap, Image

FADING = (slice(10, 42), slice(46, 55))
"""Rows and columns of the crossings that are wrong."""


def sheet() -> tuple[Image, GridMap]:
    """Return a grey page at 200 dpi whose lines are not snapped, and its true grid."""
    style = replace(default_style(), snapped=False)
    page = draw_page(np.zeros((12, 5000), np.float32), style, np.random.default_rng(0))
    table = (crossings_mm() - np.array(page.origin_mm)) * PX_PER_MM - 0.5
    grey = np.asarray(cv2.cvtColor(page.image, cv2.COLOR_RGB2GRAY), np.uint8)
    return grey, GridMap(table.astype(np.float32), np.ones((44, 57), np.float32), 0.1)


def gone_wrong(true: GridMap) -> GridMap:
    """Let columns go astray towards the right, by up to two millimetres."""
    astray_mm = 0.025 * np.clip(np.arange(57) - 46, 0, None) ** 2
    points = true.crossings_xy_px.copy()
    points[..., 0] += (astray_mm * PX_PER_MM).astype(np.float32)
    return replace(true, crossings_xy_px=points)


def off_mm(grid: GridMap, true: GridMap) -> np.ndarray:
    return np.linalg.norm(grid.crossings_xy_px - true.crossings_xy_px, axis=-1) / PX_PER_MM


def test_crossings_millimetres_off_come_back_to_their_lines() -> None:
    grey, true = sheet()
    wrong = gone_wrong(true)
    assert off_mm(wrong, true)[FADING].max() > 1.5

    found = unwrap(grey, wrong)

    assert off_mm(found, true)[FADING].max() < 0.1
    assert off_mm(found, true)[20:40, 5:40].max() < 0.1


def test_what_is_right_stays_right() -> None:
    grey, true = sheet()
    assert off_mm(unwrap(grey, true), true)[14:42, 3:54].max() < 0.05


def noise(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).normal(250, 2, shape).clip(0, 255).astype(np.uint8)


def test_where_no_lines_are_crossings_stay() -> None:
    grey, true = sheet()
    wrong = gone_wrong(true)
    left, right = (round(float(true.crossings_xy_px[0, c, 0])) for c in (43, 56))
    grey[:, left:right] = noise(grey[:, left:right].shape)

    found = unwrap(grey, wrong)

    moved = np.linalg.norm(found.crossings_xy_px - wrong.crossings_xy_px, axis=-1) / PX_PER_MM
    assert moved[:, 47:54].max() < 0.5


def test_on_blank_paper_nothing_is_right() -> None:
    _, true = sheet()
    for blank in (np.full((1700, 2200), 255, np.uint8), noise((1700, 2200))):
        assert right_part(residuals_mm(*measure_lines(blank, true))).mean() < 0.05


def test_beside_the_picture_nothing_is_right() -> None:
    grey, true = sheet()
    edge = round(float(true.crossings_xy_px[0, 49, 0]))
    residual_mm = residuals_mm(*measure_lines(np.ascontiguousarray(grey[:, :edge]), true))
    assert residual_mm[:, 52:].min() > 0.3
    assert residual_mm[16:40, 5:46].max() < 0.1


def test_how_clear_lines_are_hardly_depends_on_where_they_lie() -> None:
    grey, true = sheet()
    weights = []
    for off in (0.0, 0.125, 0.25, 0.375):
        points = true.crossings_xy_px + np.float32(off * PX_PER_MM)
        _, weight = measure_lines(grey, replace(true, crossings_xy_px=points))
        weights.append(float(np.median(weight)))
    assert min(weights) > 0.6 * max(weights)


def test_a_bent_sheet_is_refined_further_where_lines_are_followed() -> None:
    """Unless it is blank between what is right and what is not."""
    grey, true = sheet()
    x_px = np.arange(grey.shape[1], dtype=np.float32)
    moved = x_px - 10 * np.sin((x_px / PX_PER_MM) / 30).astype(np.float32)
    maps = np.tile(moved, (len(grey), 1)), np.mgrid[: len(grey), : len(x_px)][0].astype(np.float32)
    bent = np.asarray(cv2.remap(grey, *maps, cv2.INTER_CUBIC, borderValue=255), np.uint8)
    points = true.crossings_xy_px.astype(np.float64)
    there = np.interp(points[..., 0], moved, x_px)
    table = replace(true, crossings_xy_px=np.stack([there, points[..., 1]], -1).astype(np.float32))
    start = gone_wrong(table)
    mm, px = crossings_mm().reshape(-1, 2), points.reshape(-1, 2)
    homography = geometry.fit_homography(mm, px)

    def refined(picture: Image, *, outward: bool) -> float:
        rgb = np.repeat(picture[..., None], 3, axis=2)
        found = refine_grid(rgb, start, page_from_sheet=homography, outward=outward)
        return float(off_mm(found, table)[FADING].max())

    assert refined(bent, outward=True) < 0.15
    assert refined(bent, outward=False) > 0.5

    left, right = (round(float(table.crossings_xy_px[0, c, 0])) for c in (40, 56))
    bent[:, left:right] = noise(bent[:, left:right].shape)
    assert refined(bent, outward=True) < 1.1 * refined(bent, outward=False)


def test_parts_behind_wrong_crossings_are_not_right() -> None:
    """They may be off by whole millimetres, which phases do not tell."""
    grey, true = sheet()
    points = true.crossings_xy_px.copy()
    points[:, 40:, 0] += np.float32(PX_PER_MM)
    points[:, 39, 0] += np.float32(0.5 * PX_PER_MM)
    slipped = replace(true, crossings_xy_px=points)
    residual_mm = residuals_mm(*measure_lines(grey, slipped))

    right = right_part(residual_mm)

    assert residual_mm[20:40, 45:52].max() < 0.1
    assert right[20:40, 5:36].all()
    assert not right[:, 40:].any()
    assert off_mm(unwrap(grey, slipped), true)[20:40, 5:54].max() < 0.25
