"""Grids drawn at known scale, turn and perspective must be found; blank pages have none."""

import cv2
import numpy as np
import pytest

from ecg_digitize.geometry import apply_homography, jacobian
from ecg_digitize.sheet.scale import find_squares
from ecg_digitize.types import Float64, Image

RED, PALE = (214, 96, 96), (244, 190, 190)
SHEET = (250.0, 180.0)  # mm


def _lines(image: Image, page_from_sheet: Float64, every: float, colour, width: int) -> None:
    """Draw the lines that lie ``every`` mm apart."""
    (right, bottom), shift = SHEET, 4
    ends = [((x, 0), (x, bottom)) for x in np.arange(0, right + 0.1, every)]
    ends += [((0, y), (right, y)) for y in np.arange(0, bottom + 0.1, every)]
    for pair in apply_homography(page_from_sheet, np.array(ends)):
        a, b = (tuple(int(v) for v in np.round(p * 2**shift)) for p in pair)
        cv2.line(image, a, b, colour, width, cv2.LINE_AA, shift)


def _page(
    page_from_sheet: Float64,
    size: tuple[int, int],
    *,
    coarse: bool = True,
    fine: bool = True,
) -> Image:
    """Draw a sheet with a trace and some noise on a grey desk."""
    image = np.full((size[1], size[0], 3), 255, np.uint8)
    if fine:
        _lines(image, page_from_sheet, 1.0, PALE, 1)
    if coarse:
        _lines(image, page_from_sheet, 5.0, RED, 2)
    x = np.linspace(5, SHEET[0] - 5, 2000)
    for row in (40.0, 80.0, 120.0):
        y = row - 12 * np.exp(-0.5 * (((x % 21) - 10) / 0.8) ** 2) - np.sin(x / 4)
        trace = apply_homography(page_from_sheet, np.stack([x, y], axis=1))
        cv2.polylines(image, [np.round(trace).astype(np.int32)], False, (20, 20, 20), 2)
    noise = np.random.default_rng(0).normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _map(scale: float, turn_deg: float, size: tuple[int, int], lean: float = 0.0) -> Float64:
    """Return a page_from_sheet (3, 3) that sets the sheet's middle in the picture's."""
    c, s = np.cos(np.deg2rad(turn_deg)) * scale, np.sin(np.deg2rad(turn_deg)) * scale
    to_middle = np.array([[1, 0, -SHEET[0] / 2], [0, 1, -SHEET[1] / 2], [0, 0, 1]])
    lay = np.array([[c, -s, 0], [s, c, 0], [lean, 0.5 * lean, 1]])
    return np.array([[1, 0, size[0] / 2], [0, 1, size[1] / 2], [0, 0, 1]]) @ lay @ to_middle


def _off_mm(found: Float64, truth: Float64, *, period: float = 5.0) -> float:
    """Return how far crossings of the true map lie from those of the found one, mm."""
    x, y = np.meshgrid(np.arange(10, 241, 10.0), np.arange(10, 171, 10.0))
    at = apply_homography(np.linalg.inv(found), apply_homography(truth, np.stack([x, y], axis=-1)))
    return float(np.abs(at - period * np.round(at / period)).max())


@pytest.mark.parametrize(
    ("scale", "turn_deg"), [(3.6, 0.0), (6.0, 0.7), (4.0, -20.0), (4.5, 44.0), (4.0, 100.0)]
)
def test_scale_and_turn(scale: float, turn_deg: float) -> None:
    size = (round(260 * scale), round(260 * scale))
    truth = _map(scale, turn_deg, size)
    squares = find_squares(_page(truth, size))
    assert squares is not None
    assert squares.confidence > 0.9
    x, y = jacobian(squares.page_from_sheet, [0.0, 0.0]).T
    assert np.hypot(*x) == pytest.approx(scale, rel=2e-3)
    assert np.hypot(*y) == pytest.approx(scale, rel=2e-3)
    assert x[0] >= abs(x[1]) * 0.99  # within 45 degrees
    assert x[0] * y[1] - x[1] * y[0] > 0  # not mirrored
    assert _off_mm(squares.page_from_sheet, truth) < 0.2


def test_perspective() -> None:
    size = (1700, 1300)
    truth = _map(5.5, 6.0, size, lean=6e-4)
    squares = find_squares(_page(truth, size))
    assert squares is not None
    assert squares.confidence > 0.9
    assert _off_mm(squares.page_from_sheet, truth) < 0.3
    left, top, right, bottom = squares.box_mm
    assert right - left == pytest.approx(SHEET[0], abs=20)
    assert bottom - top == pytest.approx(SHEET[1], abs=20)


@pytest.mark.parametrize("fine", [True, False])
def test_one_kind_of_lines(fine: bool) -> None:
    size = (1600, 1200)
    truth = _map(6.0, 2.0, size)
    squares = find_squares(_page(truth, size, coarse=not fine, fine=fine))
    assert squares is not None
    assert 0.5 < squares.confidence < 0.95
    assert _off_mm(squares.page_from_sheet, truth, period=1.0 if fine else 5.0) < 0.2
    assert np.linalg.norm(jacobian(squares.page_from_sheet, [0.0, 0.0])[:, 0]) == pytest.approx(
        6.0, rel=2e-3
    )


def test_patches() -> None:
    """A grid of its own for every lead, each beginning anywhere."""
    sheet = _page(_map(6.0, 0.0, (1600, 1200)), (1600, 1200))
    page = np.full((900, 1640, 3), 255, np.uint8)
    for row in range(3):
        for column in range(4):
            y, x = 20 + 293 * row, 25 + 397 * column
            page[y : y + 250, x : x + 370] = sheet[70 + 201 * row :, 60 + 377 * column :][
                :250, :370
            ]
    squares = find_squares(page)
    assert squares is not None
    for side in jacobian(squares.page_from_sheet, [0.0, 0.0]).T:
        assert np.linalg.norm(side) == pytest.approx(6.0, rel=0.01)


def test_none() -> None:
    assert find_squares(np.full((600, 900, 3), 255, np.uint8)) is None
    assert find_squares(np.zeros((3, 5, 3), np.uint8)) is None
    size = (1100, 800)
    squares = find_squares(_page(_map(4.0, 0.0, size), size, coarse=False, fine=False))
    assert squares is None or squares.confidence < 0.5
