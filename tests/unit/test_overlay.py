"""The overlay lies on the ink it was decoded from, and files are written whole."""

import cv2
import numpy as np
import pytest

from ecg_digitize import geometry
from ecg_digitize.errors import InputError
from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, RECT, TRACE_X0_PX, crossings_mm
from ecg_digitize.image import read_image
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.render.overlay import FILLED_RGB, ROW_RGB, draw_overlay, save_png
from ecg_digitize.types import Digitization, GridMap, Page, Recording, Registration, Trace

WIDTH, HEIGHT = 1400, 1100
PAGE_FROM_SHEET = np.array([[4.7, 0.25, 30.0], [-0.2, 4.6, 60.0], [1e-4, -5e-5, 1.0]])


@pytest.fixture
def trace():
    t = np.arange(COMPETITION.n_columns)
    y_px = np.array(COMPETITION.zero_px)[:, None] + 60 * np.sin(t / 170 + np.arange(4)[:, None])
    return Trace(y_px.astype(np.float32), np.ones((4, COMPETITION.n_columns), np.float32))


def _digitization(trace):
    table = geometry.apply_homography(PAGE_FROM_SHEET, crossings_mm()).astype(np.float32)
    return Digitization(
        source="made",
        recording=Recording(np.zeros((len(LEADS), 5000), np.float32), 500.0),
        trace=trace,
        grid=GridMap(table, np.ones((GRID_ROWS, GRID_COLUMNS), np.float32), 0.0),
        registration=Registration(
            PAGE_FROM_SHEET, np.zeros((13, 2), np.float32), np.ones(13, np.float32), 0, 13
        ),
    )


def _points(trace, row):
    """Where the row lies in the picture, by the homography alone."""
    rect = np.column_stack([TRACE_X0_PX + np.arange(COMPETITION.n_columns), trace.y_px[row]])
    return geometry.apply_homography(PAGE_FROM_SHEET, RECT.mm_from_px(rect))


@pytest.fixture
def page():
    return Page(np.full((HEIGHT, WIDTH, 3), 255, np.uint8), "made")


def _hue_pixels(image, rgb):
    """xy of pixels whose colour is the given one mixed with white, strongly."""
    ink = 255.0 - image
    want = 255.0 - np.array(rgb)
    cosine = (ink @ want) / (np.linalg.norm(ink, axis=-1) * np.linalg.norm(want) + 1e-9)
    y, x = np.nonzero((cosine > 0.995) & (np.linalg.norm(ink, axis=-1) > 100))
    return np.column_stack([x, y])


def _distance(xy, line):
    return np.linalg.norm(xy[::4, None] - line[None, ::4], axis=-1).min(1)


@pytest.mark.parametrize("max_side_px", [2200, 700])
def test_each_row_is_drawn_where_it_lies(page, trace, max_side_px):
    image = draw_overlay(page, _digitization(trace), max_side_px=max_side_px, grid=False)
    scale = min(1, max_side_px / WIDTH)
    assert image.shape == (round(HEIGHT * scale), round(WIDTH * scale), 3)
    for row, rgb in enumerate(ROW_RGB):
        line = (_points(trace, row) + 0.5) * scale - 0.5
        found = _hue_pixels(image, rgb)
        assert len(found) > 500 * scale
        assert _distance(found, line).max() < 3  # half the width of an anti-aliased line
        offset = found[:, 1] - np.interp(found[:, 0], line[:, 0], line[:, 1])
        assert abs(offset.mean()) < 0.1
    assert (page.image == 255).all()


def test_filled_spans_have_their_own_colour(page, trace):
    trace.confidence[2, 1000:1500] = 0
    image = draw_overlay(page, _digitization(trace), grid=False)
    line = _points(trace, 2)
    red = _hue_pixels(image, FILLED_RGB)
    assert len(red) > 100
    assert _distance(red, line[1000:1500]).max() < 3
    assert _distance(_hue_pixels(image, ROW_RGB[2]), line[1020:1480]).min() > 1


def test_grid_dots_and_ticks(page, trace):
    plain = draw_overlay(page, _digitization(trace), grid=False)
    dotted = draw_overlay(page, _digitization(trace))
    inside = crossings_mm()[1:10, 1:40].reshape(-1, 2)  # above all traces
    xy = np.rint(geometry.apply_homography(PAGE_FROM_SHEET, inside)).astype(int)
    on_page = xy[((xy > 0) & (xy < [WIDTH, HEIGHT])).all(1)]
    assert (dotted[on_page[:, 1], on_page[:, 0]] < 255).any(-1).all()
    assert (plain[on_page[:, 1], on_page[:, 0]] == 255).all()
    for start in (0, 1250, 2500, 3750):  # 3 mm above the zero line
        rect = np.array([TRACE_X0_PX + start, COMPETITION.zero_px[1] - 24.0])
        x, y = np.rint(geometry.apply_homography(PAGE_FROM_SHEET, RECT.mm_from_px(rect))).astype(
            int
        )
        assert plain[y - 1 : y + 2, x - 1 : x + 2].min() < 120


def test_traces_far_outside_the_picture_are_no_fault(trace):
    small = Page(np.full((200, 200, 3), 255, np.uint8), "made")
    digitization = _digitization(trace)
    table = digitization.grid.crossings_xy_px
    table *= 1e4
    assert draw_overlay(small, digitization).shape == (200, 200, 3)


def test_save_png_round_trip_and_no_leftovers(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (160, 180, 3), np.uint8)
    path = tmp_path / "new" / "overlay.png"
    save_png(path, image)
    save_png(str(path), image)
    np.testing.assert_array_equal(read_image(path).image, image)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], image)
    assert [file.name for file in path.parent.iterdir()] == ["overlay.png"]


def test_save_png_names_what_it_cannot_write(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"overlay\.png: cannot write"):
        save_png(tmp_path / "file" / "overlay.png", np.zeros((4, 4, 3), np.uint8))
