"""Lines are followed from crossings that are right to others, whose phases tell them not enough."""

from dataclasses import replace

import cv2
import numpy as np

from ecg_digitize.layout import PX_PER_MM, crossings_mm
from ecg_digitize.stage1.phase import measure_lines
from ecg_digitize.stage1.unwrap import residual, right_part, unwrap
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


def test_where_no_lines_are_crossings_stay() -> None:
    grey, true = sheet()
    wrong = gone_wrong(true)
    left, right = (round(float(true.crossings_xy_px[0, c, 0])) for c in (43, 56))
    grey[:, left:right] = 255

    found = unwrap(grey, wrong)

    moved = np.linalg.norm(found.crossings_xy_px - wrong.crossings_xy_px, axis=-1) / PX_PER_MM
    assert moved[:, 47:54].max() < 0.3


def test_on_blank_paper_nothing_moves_far() -> None:
    _, true = sheet()
    blank = np.full((1700, 2200), 255, np.uint8)
    assert off_mm(unwrap(blank, true), true).max() < 0.1


def test_parts_behind_wrong_crossings_are_not_right() -> None:
    """They may be off by whole millimetres, which phases do not tell."""
    grey, true = sheet()
    points = true.crossings_xy_px.copy()
    points[:, 40:, 0] += np.float32(PX_PER_MM)
    points[:, 39, 0] += np.float32(0.5 * PX_PER_MM)
    slipped = replace(true, crossings_xy_px=points)
    offset_mm, _ = measure_lines(grey, slipped)

    right = right_part(residual(offset_mm))

    assert residual(offset_mm)[20:40, 45:54].max() < 0.1
    assert right[20:40, 5:36].all()
    assert not right[:, 40:].any()
    assert off_mm(unwrap(grey, slipped), true)[20:40, 5:54].max() < 0.25
