"""Calibration pulses, and where the ink of rows begins and ends."""

from dataclasses import replace

import numpy as np
import pytest

from ecg_digitize import geometry
from ecg_digitize.frames import TIME_ORIGIN_MM, crossings_mm
from ecg_digitize.layout import COMPETITION, Layout
from ecg_digitize.stage1.ends import find_ends, start_by_ink
from ecg_digitize.stage1.pulses import Pulse, calibrated, find_pulses
from ecg_digitize.synth.page import default_style, draw_page
from ecg_digitize.synth.signals import to_twelve
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.types import GridMap, Image

SIGNALS_MV = np.roll(to_twelve(0.5 * SimulatorSource(seed=5).get(4)), 100, axis=1)  # no beat first


def printed(layout: Layout, *, moved_mm: float = 0.0, pulses: bool = True) -> tuple[Image, GridMap]:
    """Draw a page; the table of its crossings is counted from `moved_mm` farther left."""
    style = replace(default_style(), layout=layout, pulses=pulses)
    signals_mv = SIGNALS_MV[:, : layout.n_columns].astype(np.float32)
    clean = draw_page(signals_mv, style, np.random.default_rng(0))
    sheet_from_page = np.array(
        [[1 / clean.px_per_mm, 0, 0], [0, 1 / clean.px_per_mm, 0], [0, 0, 1.0]]
    )
    mm = crossings_mm() - np.array([moved_mm, 0.0]) - np.array(clean.origin_mm)
    px = geometry.apply_homography(np.linalg.inv(sheet_from_page), mm) - 0.5
    return clean.image, GridMap(px.astype(np.float32), np.ones((44, 57), np.float32), 0.1)


@pytest.mark.parametrize("gain", [5.0, 10.0, 20.0])
@pytest.mark.parametrize("speed", [25.0, 50.0])
def test_pulses_tell_the_gain_and_the_speed(gain: float, speed: float) -> None:
    layout = COMPETITION.calibrated(mm_per_s=speed, mm_per_mv=gain)
    image, grid = printed(layout)

    pulses = find_pulses(image, grid, COMPETITION)

    assert [pulse.row for pulse in pulses] == [0, 1, 2, 3]
    for pulse in pulses:
        assert pulse.left_mm == pytest.approx(TIME_ORIGIN_MM - 0.2 * speed, abs=0.5)
        assert pulse.width_mm == pytest.approx(0.2 * speed, abs=0.5)
        assert pulse.height_mm == pytest.approx(gain, abs=0.5)
    assert calibrated(COMPETITION, pulses) == layout


def test_a_slower_or_faster_paper_shows_more_or_less() -> None:
    faster = COMPETITION.calibrated(mm_per_s=50.0, mm_per_mv=5.0)
    assert (faster.duration_s, faster.n_columns, faster.px_per_mv) == (5.0, 2500, 40.0)
    assert faster.place("V1") == (0, slice(1250, 1875))
    assert faster.calibrated(mm_per_s=25.0, mm_per_mv=10.0) == COMPETITION


def test_pulses_that_are_not_there_or_say_nothing() -> None:
    image, grid = printed(COMPETITION)
    without = image.copy()
    first = round(float(grid.crossings_xy_px[0, 3, 0])) - 6
    without[:, :first] = 255
    assert find_pulses(without, grid, COMPETITION) == ()
    assert find_pulses(np.full_like(image, 255), grid, COMPETITION) == ()
    one = Pulse(row=0, left_mm=10.0, width_mm=5.0, height_mm=5.0)
    assert calibrated(COMPETITION, ()) is None
    assert calibrated(COMPETITION, (one, replace(one, row=1, height_mm=10.0))) is None
    two = (one, replace(one, row=1))
    assert calibrated(COMPETITION, two) is not None
    differ = tuple(replace(pulse, row=pulse.row + 2, height_mm=10.0) for pulse in two)
    assert calibrated(COMPETITION, (*two, *differ)) is None  # chest leads at another gain
    odd = replace(one, height_mm=14.0)  # no machine has such a gain
    assert calibrated(COMPETITION, (odd, replace(odd, row=1))) is None


@pytest.mark.parametrize("moved_mm", [-12.0, -5.0, 0.0, 7.5])
@pytest.mark.parametrize("pulses", [True, False])
def test_the_ink_tells_where_traces_begin(moved_mm: float, pulses: bool) -> None:
    image, grid = printed(COMPETITION, moved_mm=moved_mm, pulses=pulses)
    found = find_pulses(image, grid, COMPETITION)
    assert len(found) == (4 if pulses else 0)
    start_mm = start_by_ink(find_ends(image, grid, COMPETITION, found), COMPETITION, found)
    assert start_mm is not None
    assert start_mm == pytest.approx(moved_mm, abs=0.3)
    assert start_mm == 0.0 if moved_mm == 0 else start_mm != 0.0


def test_the_end_of_the_strip_tells_best_but_dirt_behind_it_does_not() -> None:
    ends_mm = np.tile([15.0, 265.0], (4, 1))
    pulses = (Pulse(row=0, left_mm=9.9, width_mm=5.0, height_mm=10.0),)
    for strip_mm, start_mm in ((265.0, 0.0), (266.4, 1.46), (272.0, 0.0)):
        ends_mm[3, 1] = strip_mm
        assert start_by_ink(ends_mm, COMPETITION, pulses) == pytest.approx(start_mm, abs=0.01)
    assert start_by_ink(ends_mm[[0, 1, 3, 3]] - [[0], [5], [9], [40]], COMPETITION) is None


def test_rows_elsewhere_have_their_pulses_and_ends_there() -> None:
    layout = COMPETITION.with_zeros((80.0, 110.0, 140.0, 170.0))
    image, grid = printed(layout)
    there = replace(grid, rows_mm=np.array(layout.zero_mm))
    pulses = find_pulses(image, there, COMPETITION)
    assert [round(pulse.height_mm) for pulse in pulses] == [10, 10, 10, 10]
    ends_mm = find_ends(image, there, COMPETITION, pulses)
    assert ends_mm[:, 1] == pytest.approx(np.full(4, TIME_ORIGIN_MM + 250), abs=0.5)


def test_ink_that_is_hidden_tells_nothing() -> None:
    image, grid = printed(COMPETITION)
    blank = np.full_like(image, 255)
    assert np.isnan(find_ends(blank, grid, COMPETITION)).all()
    assert start_by_ink(find_ends(blank, grid, COMPETITION), COMPETITION) is None
    height, width = image.shape[:2]
    cut = image[:, : width - 300]
    assert start_by_ink(find_ends(cut, grid, COMPETITION), COMPETITION) is None
    dirty = image.copy()
    dirty[height // 3 :, -140:] = 20
    assert start_by_ink(find_ends(dirty, grid, COMPETITION), COMPETITION) is None
    left_mm, right_mm = find_ends(image, grid, COMPETITION)[3]
    assert right_mm == pytest.approx(TIME_ORIGIN_MM + 250, abs=0.5)
    assert left_mm < TIME_ORIGIN_MM  # the pulse, of which nobody told
