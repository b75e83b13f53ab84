"""The decoder on made maps: ambiguity, gaps, wide strokes, and the kernels against their twins."""

import json

import cv2
import numpy as np
import pytest

from ecg_digitize.frames import RECT, TRACE_X0_PX
from ecg_digitize.layout import COMPETITION
from ecg_digitize.stage2.decode import decode, decode_numpy, true_trace_map
from ecg_digitize.stage2.ink import see_ink
from ecg_digitize.stage2.ridges import DecodeOptions, best_path, best_path_numpy
from ecg_digitize.types import TraceMap

BINS = 200
COLUMNS = 5000


def _gaussian(centre_bin, sigma_bins=1.0):
    """Unit-mass columns (4, BINS, 5000) about a (5000,) or scalar centre."""
    k = np.arange(BINS)[:, None]
    density = np.exp(-0.5 * ((k - np.broadcast_to(centre_bin, COLUMNS)) / sigma_bins) ** 2)
    return np.tile(density / density.sum(0), (4, 1, 1))


def _map(probability):
    return TraceMap(np.ascontiguousarray(probability, np.float32), px_per_bin=2.0, first_px=0.5)


def _bins(y_px):
    return (y_px - 0.5) / 2


def test_true_map_sums_to_one_and_decodes_to_its_trace():
    about_px = np.random.default_rng(0).uniform(-120, 120, (4, COLUMNS))
    y_px = (np.array(COMPETITION.zero_px)[:, None] + about_px).astype(np.float32)
    trace_map = true_trace_map(y_px)
    assert trace_map.probability.shape == (4, 640, COLUMNS)
    np.testing.assert_allclose(trace_map.probability.sum(1), 1, rtol=1e-6)
    trace = decode(trace_map)
    np.testing.assert_allclose(trace.y_px, y_px, atol=0.01)
    np.testing.assert_allclose(trace.confidence, 1, rtol=1e-6)


def test_true_map_is_empty_where_there_is_no_trace():
    y_px = np.full((4, COLUMNS), 100.0, np.float32)
    y_px[0, :3] = np.nan, -1.0, 1279.0
    assert (true_trace_map(y_px).probability[0].sum(0)[:4] == [0, 0, 0, 1]).all()


def test_true_map_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(4, 5000\), but got \(4, 10\)"):
        true_trace_map(np.zeros((4, 10), np.float32))


def test_soft_columns_decode_to_their_mean():
    centre = 100 + 40 * np.sin(np.arange(COLUMNS) / 150)
    trace = decode(_map(_gaussian(centre)))
    np.testing.assert_allclose(_bins(trace.y_px[2]), centre, atol=0.02)
    assert trace.confidence.min() > 0.98


@pytest.mark.parametrize("decoder", [decode, decode_numpy])
def test_brighter_second_ridge_does_not_win_for_a_few_columns(decoder):
    probability = 0.95 * _gaussian(60)
    probability[:, :, 1000:1010] = (0.4 * _gaussian(60) + 0.5 * _gaussian(170))[:, :, 1000:1010]
    trace = decoder(_map(probability))
    np.testing.assert_allclose(_bins(trace.y_px), 60, atol=0.05)
    assert 0.35 < trace.confidence[0, 1005] <= 0.4


def test_qrs_slopes_of_tens_of_bins_a_column_are_followed():
    centre = np.full(COLUMNS, 150.0)
    centre[2000:2009] = [150, 120, 80, 40, 10, 50, 90, 130, 170]
    probability = 0.65 * _gaussian(centre)
    # A ghost of the base line beside it, but not in the columns of the complex.
    probability[:, :, :2001] += 0.25 * _gaussian(170)[:, :, :2001]
    probability[:, :, 2009:] += 0.25 * _gaussian(130)[:, :, 2009:]
    trace = decode(_map(probability))
    np.testing.assert_allclose(_bins(trace.y_px[0])[2000:2009], centre[2000:2009], atol=0.1)


def test_wide_stroke_gives_the_mean_of_its_plateau():
    probability = 0.9 * _gaussian(60)
    plateau = np.zeros(BINS)
    plateau[60:111] = np.linspace(1, 2, 51)  # highest at its end, mean at 87.8
    probability[:, :, 500] = 0.9 * plateau / plateau.sum()
    mean = (np.arange(BINS) * plateau).sum() / plateau.sum()
    trace = decode(_map(probability), options=DecodeOptions(max_reach=60))
    np.testing.assert_allclose(_bins(trace.y_px[:, 500]), mean, atol=0.01)
    np.testing.assert_allclose(trace.confidence[:, 500], 0.9, atol=1e-5)
    short = decode(_map(probability), options=DecodeOptions(max_reach=4, min_mass=0.1))
    assert np.all(_bins(short.y_px[:, 500]) > 107)


def test_neighbouring_ridges_are_parted_in_the_valley_between_them():
    probability = 0.55 * _gaussian(80, 2.0) + 0.4 * _gaussian(89, 2.0)
    column = probability[0, :, 0]
    assert column[80:90].min() > 0.08 * column.max()  # the edge alone would run into the other
    trace = decode(_map(probability))
    np.testing.assert_allclose(_bins(trace.y_px), 80, atol=0.3)


def test_gaps_are_interpolated_without_overshoot_and_ends_held():
    y_px = np.tile(np.linspace(100, 300, COLUMNS, dtype=np.float32), (4, 1))
    probability = true_trace_map(y_px, n_bins=BINS).probability.copy()
    gap = np.zeros(COLUMNS, bool)
    gap[:40] = gap[700:800] = gap[3000] = gap[-25:] = True
    probability[:, :, gap] = 0
    probability[:, :, 720] = np.nan
    probability[:, :, 730] = 1 / BINS / 4  # below any threshold everywhere
    trace = decode(_map(probability))
    assert np.array_equal(trace.confidence == 0, np.tile(gap, (4, 1)))
    np.testing.assert_allclose(trace.y_px[:, 40:-25], y_px[:, 40:-25], atol=0.01)
    np.testing.assert_allclose(trace.y_px[:, :40], y_px[0, 40], atol=0.01)
    np.testing.assert_allclose(trace.y_px[:, -25:], y_px[0, -26], atol=0.01)


def test_unsure_columns_are_gaps():
    probability = _gaussian(60)
    probability[:, :, 100:110] = 0.1 * _gaussian(120)[:, :, 100:110]
    trace = decode(_map(probability))
    assert (trace.confidence[:, 100:110] == 0).all()
    np.testing.assert_allclose(_bins(trace.y_px), 60, atol=0.01)


@pytest.mark.parametrize("fill", [0.0, np.nan, np.inf])
def test_empty_rows_lie_on_their_zero_line(fill):
    probability = _gaussian(60)
    probability[1] = fill
    trace = decode(_map(probability))
    assert (trace.y_px[1] == np.float32(COMPETITION.zero_px[1])).all()
    assert (trace.confidence[1] == 0).all()
    assert (trace.confidence[[0, 2, 3]] > 0.9).all()


def test_a_single_known_column_holds_throughout_its_lead():
    probability = np.zeros((4, BINS, COLUMNS))
    probability[:, 33, 4000] = 1
    trace = decode(_map(probability))
    np.testing.assert_allclose(_bins(trace.y_px[:, 3750:]), 33)
    np.testing.assert_allclose(_bins(trace.y_px[3]), 33)
    np.testing.assert_allclose(trace.y_px[0, :3750], COMPETITION.zero_px[0])
    assert (trace.confidence > 0).sum() == 4


_COMPARE = """
import json, numba, numpy as np
from ecg_digitize.stage2.decode import decode, decode_numpy
from ecg_digitize.types import TraceMap
p = np.random.default_rng(3).dirichlet(np.full(9, 0.2), (4, 5000)).swapaxes(1, 2)
p[:, :, 50:60] = np.nan
p[2, :, 1000:] = 0
m = TraceMap(np.ascontiguousarray(p, np.float32), 2.0, 0.5)
a, b = decode(m), decode_numpy(m)
np.testing.assert_allclose(a.y_px, b.y_px, rtol=1e-5)
np.testing.assert_allclose(a.confidence, b.confidence, rtol=1e-5)
print(json.dumps([bool(numba.config.DISABLE_JIT), float(a.y_px.sum())]))
"""


def test_jit_disabled_agrees(run_python):
    plain = json.loads(run_python(_COMPARE, NUMBA_DISABLE_JIT="1").stdout)
    compiled = json.loads(run_python(_COMPARE, NUMBA_DISABLE_JIT="0").stdout)
    assert (plain[0], compiled[0]) == (True, False)
    assert plain[1] == pytest.approx(compiled[1], rel=1e-6)


_THREADS = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from ecg_digitize.stage2.decode import decode, true_trace_map
m = true_trace_map(np.full((4, 5000), 300, np.float32), n_bins=320)
decode(m)
with ThreadPoolExecutor(4) as pool:
    for trace in pool.map(decode, [m] * 24):
        assert abs(trace.y_px - 300).max() < 0.01
"""


def test_threads_may_decode_at_once_on_the_least_threading_layer(run_python):
    run_python(_THREADS, NUMBA_THREADING_LAYER="workqueue", NUMBA_NUM_THREADS="2")


@pytest.mark.parametrize("way", [decode, decode_numpy])
def test_the_trace_may_stand_anywhere_where_a_lead_begins(way):
    probability = _gaussian(60.0)
    excursion = _gaussian(140.0)
    for start in (1250, 1700):  # the first column of aVR, and one in the middle of it
        columns = slice(start, start + 3)
        probability[:, :, columns] = (0.99 * excursion + 0.01 * _gaussian(60.0))[:, :, columns]
    y = _bins(way(_map(probability)).y_px)
    np.testing.assert_allclose(y[0, 1250:1253], 140, atol=0.1)
    np.testing.assert_allclose(y[0, 1700:1703], 60, atol=0.1)
    np.testing.assert_allclose(y[3, 1250:1253], 60, atol=0.1)  # no lead begins in the strip


def test_gaps_do_not_reach_over_into_the_next_lead():
    probability = _gaussian(np.where(np.arange(COLUMNS) < 1250, 60.0, 140.0))
    probability[:, :, 1240:1260] = 0
    y = _bins(decode(_map(probability)).y_px)
    np.testing.assert_allclose(y[0, 1240:1250], 60, atol=0.1)
    np.testing.assert_allclose(y[0, 1250:1260], 140, atol=0.1)


def _page(*lines_px, ink=(40, 40, 40)):
    """A white page (1280, 5600, 3) with (5000,) lines of a pen of 0.5 mm."""
    image = np.full((RECT.height_px, RECT.width_px, 3), 255, np.uint8)
    for y_px in lines_px:
        points = np.stack([np.arange(COLUMNS) + TRACE_X0_PX, np.broadcast_to(y_px, COLUMNS)], 1)
        cv2.polylines(image, [np.rint(points).astype(np.int32)], False, ink, 4)
    return image


@pytest.mark.parametrize("way", [decode, decode_numpy])
def test_a_row_does_not_end_on_its_neighbours_line(way):
    probability = np.concatenate([_gaussian(b)[:1] for b in (30.0, 80.0, 150.0, 190.0)])
    tail = slice(4960, 5000)  # the second row's own line fades, the third's shines through
    probability[1, :, tail] = 0.1 * _gaussian(80.0)[0, :, tail] + 0.9 * _gaussian(150.0)[0, :, tail]
    trace = way(_map(probability), _page(60, 160, 300, 380))
    y = _bins(trace.y_px)
    np.testing.assert_allclose(y[1], 80, atol=0.1)
    np.testing.assert_allclose(y[2], 150, atol=0.1)
    assert (trace.confidence[1, 4960:] == 0).all()
    assert (trace.confidence[2] > 0.9).all()


@pytest.mark.parametrize("way", [decode, decode_numpy])
def test_rows_do_not_exchange_their_lines(way):
    probability = np.concatenate([_gaussian(b)[:1] for b in (30.0, 80.0, 150.0, 190.0)])
    piece = slice(4100, 4130)
    own, other = probability[1:3, :, piece].copy(), probability[2:0:-1, :, piece].copy()
    probability[1:3, :, piece] = 0.01 * own + 0.95 * other
    y = _bins(way(_map(probability), _page(60, 160, 300, 380)).y_px)
    np.testing.assert_allclose(y, np.broadcast_to([[30], [80], [150], [190]], y.shape), atol=0.5)


@pytest.mark.parametrize("way", [decode, decode_numpy])
def test_a_row_unseen_for_a_few_columns_does_not_leap_to_its_neighbour(way):
    rows = np.stack([_gaussian(20.0)[0], *[_gaussian(170.0)[0]] * 3])
    rows[0, :, 700:704] = rows[1, :, 700:704]
    trace = way(_map(rows), _page(40, 340))
    np.testing.assert_allclose(_bins(trace.y_px[0]), 20, atol=0.02)
    np.testing.assert_array_equal(trace.confidence[0, 700:704], 0)


def test_traces_that_touch_are_left_alone():
    bump = np.clip(60 - np.abs(np.arange(COLUMNS) - 2000) / 4.0, 0, None)
    probability = _gaussian(90.0)
    probability[0] = _gaussian(30.0 + bump)[0]  # comes down to the second row's line, and goes
    trace = decode(_map(probability))
    np.testing.assert_allclose(_bins(trace.y_px[0]), 30 + bump, atol=0.5)
    np.testing.assert_allclose(_bins(trace.y_px[1]), 90, atol=0.5)


@pytest.mark.parametrize("decoder", [decode, decode_numpy])
@pytest.mark.parametrize("width", [3, 20])
@pytest.mark.parametrize("ink", [40, 200])
@pytest.mark.parametrize("drawn", [True, False])
def test_a_line_leaps_only_where_ink_is_seen(decoder, width: int, ink: int, drawn: bool) -> None:
    """Whatever stage 2 says, and however faint the ink is."""
    y_px = np.repeat(np.array(COMPETITION.zero_px, np.float32)[:, None], COLUMNS, axis=1)
    leaping = y_px[0].copy()
    piece = slice(400, 400 + width)
    leaping[piece] = 60.5  # 2.7 mV above it
    image = _page(leaping if drawn else y_px[0], *y_px[1:], ink=(ink,) * 3)
    probability = true_trace_map(y_px).probability.copy()
    probability[0, :, piece] *= 1e-4
    probability[0, 30, piece] = 0.99

    trace = decoder(TraceMap(probability, px_per_bin=2.0, first_px=0.5), image)

    expected = leaping if drawn else y_px[0]
    np.testing.assert_allclose(trace.y_px[0], expected, atol=1)
    np.testing.assert_allclose(trace.y_px[1:], y_px[1:], atol=0.01)
    assert (trace.confidence[0, piece] > 0.9).all() == drawn


def test_a_page_without_ink_is_blank():
    ink = see_ink(_page(), np.zeros((4, COLUMNS, 1)), np.zeros((4, COLUMNS, 1)))
    expected = np.broadcast_to(np.arange(641.0)[:, None], (641, COLUMNS))
    np.testing.assert_array_equal(ink.blank_above, expected)


def test_blank_paper_has_no_colour():
    centre = np.broadcast_to([200.0, 400.0], (4, COLUMNS, 2))
    ink = see_ink(_page(400), centre, np.broadcast_to([0.9, 0.1], centre.shape))
    np.testing.assert_array_equal(ink.foreign, 0)


@pytest.mark.parametrize("pen", [(20, 25, 160), (190, 20, 30)])
def test_a_row_may_have_a_pen_of_its_own(pen):
    trace = decode(*_drawn([(20, 20, 20)] * 3 + [pen]))
    assert trace.confidence[3].min() > 0.9


@pytest.mark.parametrize("wide_mm", [4, 8, 16])
def test_a_highlighter_makes_no_line_foreign(wide_mm: int):
    trace_map, image = _drawn([(20, 20, 20)] * 4)
    top = round(COMPETITION.zero_px[3] - 8 * wide_mm) - 10
    marked = image[top : top + 8 * wide_mm + 20, TRACE_X0_PX + 2000 : TRACE_X0_PX + 3000]
    marked[:] = (marked * (np.array([255, 240, 90]) / 255)).astype(np.uint8)
    assert decode(trace_map, image).confidence[3].min() > 0.9


def _drawn(pens):
    """Four rows of beats of 1 mV, the map that sees them, and the page."""
    beats_px = 80 * np.exp(-((((np.arange(COLUMNS) % 400) - 200) / 12) ** 2))
    lines_px = np.array(COMPETITION.zero_px)[:, None] - beats_px
    image = np.min([_page(y_px, ink=pen) for y_px, pen in zip(lines_px, pens, strict=True)], axis=0)
    return true_trace_map(lines_px.astype(np.float32)), image


def test_ink_is_what_is_as_dark_as_the_lines():
    """A level line 4 px high hides two of 640 bins, as black ink and as faint."""
    for darkness in (0, 220):
        centre, mass = np.full((4, COLUMNS, 1), 200.0), np.ones((4, COLUMNS, 1))
        ink = see_ink(_page(400, ink=(darkness,) * 3), centre, mass)
        assert ink.blank_above[190].min() == 190
        assert 636 < ink.blank_above[-1].min() <= ink.blank_above[-1].max() < 639


@pytest.mark.parametrize("other", [(20, 25, 120), (150, 20, 30), (60, 60, 60), (140, 150, 150)])
def test_ink_of_another_colour_is_foreign_and_fainter_is_not(other):
    image = _page(200)
    image[300:] = _page(400, ink=other)[300:]
    centre = np.broadcast_to([100.0, 200.0], (4, COLUMNS, 2))
    foreign = see_ink(image, centre, np.broadcast_to([0.9, 0.1], centre.shape)).foreign
    assert foreign[..., 0].max() == 0
    coloured = max(other) - min(other) > 50
    assert (foreign[..., 1] > 0.8).all() if coloured else foreign[..., 1].max() < 0.1


@pytest.mark.parametrize("way", [decode, decode_numpy])
@pytest.mark.parametrize(("pen", "highest_px"), [((20, 25, 120), 400), ((40, 40, 40), 300)])
def test_a_line_turns_into_handwriting_only_in_its_own_colour(way, pen, highest_px):
    """Where stage 2 takes a stroke 1.25 mV high for the line below it, which is black."""
    written = slice(2000, 2400)
    stroke_px = np.full(COLUMNS, 400.0)
    stroke_px[written] -= 100 * np.sin(np.linspace(0, np.pi, 400))
    image, on_page = _page(400), slice(TRACE_X0_PX + 2000, TRACE_X0_PX + 2400)
    image[:, on_page] = np.minimum(image, _page(stroke_px, ink=pen))[:, on_page]
    probability = 0.1 * _gaussian(200.0) + 0.9 * _gaussian(stroke_px / 2)

    y_px = way(_map(probability), image).y_px[1]

    np.testing.assert_allclose(y_px.min(), highest_px, atol=10)


def test_gaps_are_filled_along_the_ink():
    """Within a pen's width: 12 px on a slope of 4 px a column."""
    gap = slice(620, 780)
    line_px = np.full(COLUMNS, 400.0)
    line_px[gap] -= 200 * np.hanning(160)
    probability = _gaussian(200.0)
    probability[:, :, gap] = 0

    trace = decode(_map(probability), _page(line_px))

    np.testing.assert_allclose(trace.y_px[0], line_px, atol=15)
    np.testing.assert_array_equal(trace.confidence[:, gap], 0)


def test_gaps_across_blank_paper_are_filled_smoothly():
    line_px = np.where(np.arange(COLUMNS) < 700, 400.0, 300.0)
    gap = slice(620, 780)
    image, probability = _page(line_px), _gaussian(line_px / 2)
    image[:, TRACE_X0_PX + gap.start : TRACE_X0_PX + gap.stop] = 255
    probability[:, :, gap] = 0
    y_px = decode(_map(probability), image).y_px[0, gap]
    assert -3 < np.diff(y_px).min() <= np.diff(y_px).max() <= 0


@pytest.mark.parametrize("columns", [40, 78, 200, 620])
def test_no_gap_is_filled_along_another_line(columns: int):
    gap = slice(1500, 1500 + columns)
    rows_px = np.array([120.0, 150.0, 260.0, 340.0])
    image, probability = _page(*rows_px), np.stack([_gaussian(y / 2)[0] for y in rows_px])
    image[:135, TRACE_X0_PX + gap.start : TRACE_X0_PX + gap.stop] = 255
    probability[0, :, gap] = 0
    np.testing.assert_allclose(decode(_map(probability), image).y_px[0], 120, atol=3)


@pytest.mark.parametrize("pen", [(20, 25, 90), (15, 20, 80), (60, 10, 10)])
def test_no_gap_is_filled_along_a_pen_of_another_colour(pen):
    gap = slice(2000, 2070)
    stroke_px = np.full(COLUMNS, 400.0)
    stroke_px[gap] -= 100 * np.sin(np.linspace(0, np.pi, 70))
    image, probability = _page(400, ink=(20, 20, 20)), _gaussian(stroke_px / 2)
    on_page = slice(TRACE_X0_PX + gap.start, TRACE_X0_PX + gap.stop)
    image[:, on_page] = _page(stroke_px, ink=pen)[:, on_page]
    np.testing.assert_allclose(decode(_map(probability), image).y_px[1], 400, atol=12)


@pytest.mark.parametrize("max_gap", [0, 1, 7])
def test_paths_equal_their_twin_on_any_paper(max_gap: int) -> None:
    rng = np.random.default_rng(max_gap)
    centre = rng.uniform(0, 60, (4, 500, 3))
    mass = np.sort(rng.uniform(0, 1, (4, 500, 3)) ** 3)[..., ::-1]
    mass[rng.random((4, 500)) < 0.1] = 0  # columns without ridges
    mass[rng.random((4, 500)) < 0.3, 1:] = 0
    blank = np.cumsum(rng.random((65, 500)) ** 3, axis=0).astype(np.float32)
    begins = rng.random((4, 500)) < 0.02
    options = DecodeOptions(gap_cost=2.0, gap_column_cost=1.0, max_gap=max_gap)

    fast = best_path(centre, mass, blank, begins, options)
    slow = best_path_numpy(centre, mass, blank, begins, options)

    np.testing.assert_array_equal(fast, slow)
    left_out = (fast < 0) & (mass[..., 0] > 0)
    assert left_out.any() == (max_gap > 0)
