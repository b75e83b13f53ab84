"""Every map has an inverse: round trips stay below 0.05 px."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_digitize import geometry
from ecg_digitize.frames import NORM, RECT, crossings_mm

LIMIT_PX = 0.05


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high)


@st.composite
def cameras(draw: st.DrawFn) -> np.ndarray:
    """Draw page_from_sheet of a page held at any turn, tilted moderately."""
    scale, angle = draw(numbers(4, 15)), draw(numbers(-np.pi, np.pi))
    stretch = draw(numbers(0.8, 1.25))
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    tilt_x, tilt_y = draw(numbers(-5e-4, 5e-4)), draw(numbers(-5e-4, 5e-4))
    return np.array(
        [[cos, -sin * stretch, 2000], [sin, cos * stretch, 1500], [tilt_x, tilt_y, 1.0]]
    )


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Draw a crossing table: a camera and a bend of up to two squares."""
    mm = crossings_mm()
    table = geometry.apply_homography(draw(cameras()), mm + 0.0)
    pitch = np.linalg.norm(table[22, 28] - table[22, 27])
    for axis in (0, 1):
        height, length = draw(numbers(-1.5, 1.5)), draw(numbers(120, 400))
        table[..., axis] += height * pitch * np.sin(mm[..., 1 - axis] / length * np.pi)
    return table


@given(cameras())
def test_homography_there_and_back(camera: np.ndarray) -> None:
    mm = crossings_mm()

    back = geometry.apply_homography(np.linalg.inv(camera), geometry.apply_homography(camera, mm))

    assert np.abs(back - mm).max() * 15 < LIMIT_PX


@given(cameras())
def test_fit_undoes_apply(camera: np.ndarray) -> None:
    mm = crossings_mm()[::7, ::8].reshape(-1, 2)
    seen = geometry.apply_homography(camera, mm)

    fitted = geometry.fit_homography(mm, seen)

    assert np.abs(geometry.apply_homography(fitted, mm) - seen).max() < LIMIT_PX


@given(st.integers(0, 3), st.integers(2, 4000), st.integers(2, 4000), numbers(0.1, 4))
def test_turning_and_scaling_there_and_back(turns: int, width: int, height: int, s: float) -> None:
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]])
    turned_size = (width, height) if turns % 2 == 0 else (height, width)
    there = geometry.scaling((s, s)) @ geometry.quarter_turning(turns, (width, height))
    back = geometry.quarter_turning(-turns, turned_size) @ geometry.scaling((1 / s, 1 / s))

    assert np.abs(geometry.apply_homography(back @ there, corners) - corners).max() < LIMIT_PX


@settings(max_examples=30, deadline=None)
@given(tables(), st.integers(0, 2**32 - 1))
def test_mesh_there_and_back(table: np.ndarray, seed: int) -> None:
    mm = np.random.default_rng(seed).uniform([-5, -5], [285, 220], (40, 2))
    px = geometry.page_from_sheet(table, mm)

    again = geometry.page_from_sheet(table, geometry.sheet_from_page(table, px))

    assert np.abs(again - px).max() < LIMIT_PX


@settings(max_examples=30, deadline=None)
@given(tables(), st.integers(0, 2**32 - 1))
def test_sheet_points_survive_the_picture(table: np.ndarray, seed: int) -> None:
    mm = np.random.default_rng(seed).uniform([0, 0], [280, 215], (40, 2))

    again = geometry.sheet_from_page(table, geometry.page_from_sheet(table, mm))

    assert np.abs(again - mm).max() * RECT.px_per_mm_xy[0] < LIMIT_PX


@given(numbers(-10, 290), numbers(-10, 230))
def test_frames_there_and_back(x_mm: float, y_mm: float) -> None:
    for frame in (NORM, RECT):
        px = frame.px_from_mm(np.array([x_mm, y_mm]))
        by_homography = geometry.apply_homography(geometry.frame_from_sheet(frame), [x_mm, y_mm])
        assert np.abs(px - by_homography).max() < LIMIT_PX
        assert np.abs(frame.px_from_mm(frame.mm_from_px(px)) - px).max() < LIMIT_PX
