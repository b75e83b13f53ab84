"""A sheet is read by where somebody marked its grid, its rows and its leads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecg_digitize import Digitizer, read_page
from ecg_digitize.errors import InputError, StageError
from ecg_digitize.frames import PAGE_GRID_TOP_PX, PX_PER_MM
from ecg_digitize.layout import COMPETITION
from ecg_digitize.layouts import family_named
from ecg_digitize.sheet.marks import Marks, guessed_marks, marks_from

SAMPLES = Path(__file__).parent / "samples"


@pytest.fixture(scope="module")
def digitizer():
    with Digitizer(preset="quick") as opened:
        yield opened


@pytest.fixture(scope="module")
def render(digitizer):
    """A reading of a flat page."""
    return digitizer.digitize(SAMPLES / "sample_render.png")


def likeness_db(one_mv, true_mv):
    """Signal over difference of two leads, offsets aside, dB."""
    known = np.isfinite(one_mv) & np.isfinite(true_mv)
    assert known.mean() > 0.2
    one_mv, true_mv = (mv[known] - mv[known].mean() for mv in (one_mv, true_mv))
    return 10 * np.log10((true_mv**2).sum() / ((one_mv - true_mv) ** 2).sum())


def least_likeness_db(reading, other):
    """The same of the least alike leads of two readings."""
    pairs = zip(reading.recording.signals_mv, other.recording.signals_mv, strict=True)
    return min(likeness_db(*pair) for pair in pairs)


def test_marks_of_a_reading_read_it_again(digitizer, render):
    again = digitizer.digitize(render.page, marks=render.marks())
    assert again.recording.layout.name == "3x4+1"
    assert least_likeness_db(again, render) > 14
    assert again.provenance.options["marks"]["layout"] == "3x4"


@pytest.mark.parametrize("sample", ["sample_render.png", "sample_photo.png"])
def test_four_corners_tell_the_grid_of_flat_and_of_bent_paper(digitizer, sample):
    first = digitizer.digitize(SAMPLES / sample)
    marks = replace(first.marks(), grid=None)
    again = digitizer.digitize(first.page, marks=marks)
    assert least_likeness_db(again, first) > 14
    off = replace(
        marks, corners_px=marks.corners_px + np.array([[1, 1], [-1, 1], [1, -1], [-1, -1]])
    )
    assert least_likeness_db(digitizer.digitize(first.page, marks=off), first) > 14


def test_rows_and_borders_lie_where_they_are_marked(digitizer, render):
    marks = render.marks()
    upper = Marks(
        family_named("3x2 limb"),
        marks.corners_px,
        marks.squares,
        marks.zeros_px[:3],
        marks.borders_px[:3],
        grid=marks.grid,
    )
    part = digitizer.digitize(render.page, marks=upper).recording
    assert part.layout.leads == ("I", "II", "III", "aVR", "aVL", "aVF")
    assert part.signals_mv.shape == (12, 2500)
    whole = render.recording.signals_mv
    assert likeness_db(part.signals_mv[3, 1250:], whole[3, 1250:2500]) > 14
    eighth_s_px = np.array([0.125 * 25 * 7.874, 0])
    moved = replace(upper, borders_px=upper.borders_px + eighth_s_px)
    late = digitizer.digitize(render.page, marks=moved).recording
    assert likeness_db(late.signals_mv[1, :1000], whole[1, 62:1062]) > 14
    assert likeness_db(late.signals_mv[1, :1000], whole[1, :1000]) < 3


def test_what_is_told_of_strips_is_kept(digitizer, render):
    named = replace(render.marks(), strips=("V1",))
    assert digitizer.digitize(render.page, marks=named).recording.rhythm == "V1"
    asked = replace(render.marks(), strips=(None,))
    assert digitizer.digitize(render.page, marks=asked).recording.rhythm == "II"


def test_marks_travel_as_json(render):
    marks = render.marks()
    again = marks_from(marks.to_json(), grid=marks.grid)
    assert again.to_json() == marks.to_json()
    assert again.grid is marks.grid
    single = Marks(family_named("1x1 aVL"), marks.corners_px, (9, 9), np.ones((1, 2)), np.eye(2))
    assert marks_from(single.to_json()).family == single.family


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"squares": [0, 4]}, "expected 1 to 180 squares"),
        ({"zeros_px": [[1, 2]]}, "expected 4 points as baselines of 3x4 with 1 strips"),
        ({"corners_px": [[0, 0], [1, 1], [2, 2], [3, float("nan")]]}, "corners near the picture"),
        ({"corners_px": [[0, 0], [100, 100], [200, 200], [300, 300]]}, "clockwise"),
        ({"corners_px": [[0, 0], [0, 100], [100, 100], [100, 0]]}, "clockwise"),
        ({"strips": ["II"] * 4, "zeros_px": [[9, k] for k in range(7)]}, "at most 3 strips"),
        ({"strips": ["X"]}, 'expected a lead as a strip, but got "X"'),
        ({"layout": "7x7"}, "layout: expected one of"),
        ({"borders_px": "wide"}, r"expected what Marks\.to_json gives"),
    ],
)
def test_marks_that_cannot_be_are_told(render, change, told):
    with pytest.raises(InputError, match=told):
        marks_from({**render.marks().to_json(), **change})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: {"zeros_px": m.zeros_px[::-1]}, "one below the other"),
        (lambda m: {"borders_px": m.borders_px[::-1]}, "expected the borders of leads from the"),
        (lambda m: {"corners_px": m.corners_px / 50 + 500, "squares": (50, 50)}, "900 mm"),
    ],
)
def test_marks_that_make_no_sheet_are_told(digitizer, render, change, told):
    marks = replace(render.marks(), grid=None)
    with pytest.raises(StageError, match=told):
        digitizer.digitize(render.page, marks=replace(marks, **change(marks)))


def test_a_picture_on_which_nothing_was_found_gets_marks_to_move():
    page = read_page(SAMPLES / "sample_render.png")
    marks = guessed_marks(page, family=family_named("3x4"))
    rows_px = [PAGE_GRID_TOP_PX + PX_PER_MM * zero_mm for zero_mm in COMPETITION.zero_mm]
    np.testing.assert_allclose(marks.zeros_px[:, 1], rows_px, atol=12)
    np.testing.assert_allclose(marks.borders_px[[0, -1], 0], [118, 2086], atol=80)
    sides_px = np.linalg.norm(np.diff(marks.corners_px, axis=0), axis=1)[:2]
    np.testing.assert_allclose(sides_px / np.array(marks.squares), 5 * PX_PER_MM, rtol=0.01)
    spread = guessed_marks(page, family=family_named("12x1"))
    assert len(spread.zeros_px) == 12
    for points_px in (spread.corners_px, spread.zeros_px, spread.borders_px):
        assert (points_px >= 0).all()
        assert (points_px <= np.array(page.image.shape[1::-1])).all()
    blank = read_page(np.full((300, 400, 3), 255, np.uint8))
    assert guessed_marks(blank, family=family_named("3x4")).squares[0] > 40


def test_a_layout_that_a_page_has_anyway_changes_nothing(digitizer):
    page = read_page(SAMPLES / "sample_scan.png")
    asked, told = (digitizer.digitize(page, layout=layout).recording for layout in (None, "3x4"))
    np.testing.assert_array_equal(asked.signals_mv, told.signals_mv)
    other = digitizer.digitize(page, layout="3x2 limb").recording
    assert other.layout.name != asked.layout.name


def test_a_grid_that_was_counted_wrong_is_doubted(digitizer, render):
    marks = render.marks()
    assert not any("grid" in doubt for doubt in digitizer.digitize(render.page, marks=marks).doubts)
    across, down = marks.squares
    half = replace(marks, grid=None, squares=(across // 2, down // 2))
    wrong = digitizer.digitize(render.page, marks=half)
    assert wrong.verdict != "ok"
    assert any("grid" in doubt for doubt in wrong.doubts)
