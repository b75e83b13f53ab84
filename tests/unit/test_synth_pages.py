from dataclasses import replace

import cv2
import numpy as np
import pytest

from ecg_digitize.layout import (
    GRID_COLUMNS,
    GRID_ROWS,
    PX_PER_MM,
    ROW_LEADS,
    SQUARE_MM,
    crossings_mm,
    snapped_mm,
)
from ecg_digitize.synth import capture, wear
from ecg_digitize.synth.capture import paint
from ecg_digitize.synth.dataset import KINDS, make_page, turn
from ecg_digitize.synth.page import CleanPage, default_style, draw_page
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.synth.warp import camera_warp, flat_warp

SOURCE = SimulatorSource(seed=5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_a_pure_function_of_seed_and_index(kind: str):
    first = make_page(SOURCE, seed=3, index=11, kind=kind, max_megapixels=2.0)
    again = make_page(SOURCE, seed=3, index=11, kind=kind, max_megapixels=2.0)
    other = make_page(SOURCE, seed=3, index=12, kind=kind, max_megapixels=2.0)

    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.crossings_xy_px, again.crossings_xy_px)
    assert first.image.shape != other.image.shape or (first.image != other.image).any()
    assert first.crossings_xy_px.shape == (GRID_ROWS, GRID_COLUMNS, 2)


def test_rows_carry_the_leads_in_layout_order():
    page = make_page(SOURCE, seed=1, index=0, kind="render", vary_signals=False)
    from ecg_digitize.layout import LEADS

    for row, leads in enumerate(ROW_LEADS):
        n = 5000 // len(leads)
        for k, lead in enumerate(leads):
            plotted_mm = page.rows_mm[row, k * n : (k + 1) * n]
            signal_mv = page.signals_mv[LEADS.index(lead), k * n : (k + 1) * n]
            np.testing.assert_allclose(plotted_mm[0] - plotted_mm, 10 * (signal_mv - signal_mv[0]),
                                       atol=1e-3)  # fmt: skip


def test_the_trace_is_drawn_where_the_labels_say():
    rng = np.random.default_rng(0)
    from ecg_digitize.synth.signals import to_twelve

    style = default_style()
    clean = draw_page(to_twelve(SOURCE.get(4)), style, rng)
    grey = clean.image.min(axis=2)
    column = np.arange(0, 5000, 7)
    x = (15.0 + column * 0.05 - style.left_mm) * style.px_per_mm - 0.5
    y = (clean.rows_mm[3, column] - style.top_mm) * style.px_per_mm - 0.5
    ink = grey[np.rint(y).astype(int), np.rint(x).astype(int)]

    assert (ink < 60).mean() > 0.97


def _warps() -> list:
    rng = np.random.default_rng(2)
    flat = flat_warp(rng, px_per_mm=7.0, origin_mm=(-5, -5), turn_deg=1.5, anisotropy=0.01,
                     shear=0.01, wave_mm=0.4)  # fmt: skip
    photo = camera_warp(rng, size_px=(2000, 1500), box_mm=(-6, -8, 288, 222), fill=0.9,
                        tilt_deg=6, turn_deg=3, bend_mm=5)  # fmt: skip
    return [flat, photo]


@pytest.mark.parametrize("warp", _warps(), ids=["flat", "camera"])
def test_warps_invert(warp):
    mm = crossings_mm()

    back = warp.sheet_from_page(warp.page_from_sheet(mm))

    assert np.abs(back - mm).max() < 1e-3


@pytest.mark.parametrize("warp", _warps(), ids=["flat", "camera"])
def test_warped_labels_lie_on_warped_marks(warp):
    scale, origin = 8.0, (-6.0, -8.0)
    mm = crossings_mm()[2:42:4, 2:55:4].reshape(-1, 2)
    y, x = np.mgrid[0:1840, 0:2360].astype(np.float32)
    sheet = np.zeros((1840, 2360), np.float32)
    for cx, cy in (mm - origin) * scale - 0.5:
        box = np.s_[int(cy) - 12 : int(cy) + 13, int(cx) - 12 : int(cx) + 13]
        sheet[box] += np.exp(-((x[box] - cx) ** 2 + (y[box] - cy) ** 2) / (2 * 3.0**2)) * 250
    image = np.repeat(sheet.astype(np.uint8)[..., None], 3, axis=2)

    page = replace(_clean(), image=image, px_per_mm=scale, origin_mm=origin)
    black = np.zeros((1700, 2100, 3), np.uint8)
    picture = paint(black, page, warp.sheet_maps((2100, 1700)))[..., 0].astype(float)

    errors = []
    for px, py in warp.page_from_sheet(mm):
        top, left = round(py) - 10, round(px) - 10
        if top < 0 or left < 0 or top + 21 > 1700 or left + 21 > 2100:
            continue
        window = picture[top : top + 21, left : left + 21]
        rows, columns = np.mgrid[0:21, 0:21]
        cx = (window * columns).sum() / window.sum() + left
        cy = (window * rows).sum() / window.sum() + top
        errors.append(np.hypot(cx - px, cy - py))
    assert len(errors) > 80
    assert max(errors) < 0.3
    assert np.median(errors) < 0.1


def test_turning_carries_points_along():
    image = np.zeros((30, 50, 3), np.uint8)
    image[4, 9] = 255

    for turns in range(4):
        turned, (points,) = turn(image, [np.array([[9.0, 4.0]])], turns)
        x, y = points[0].astype(int)
        assert turned[y, x].max() == 255
        np.testing.assert_array_equal(np.rot90(turned, turns), image)


@pytest.mark.parametrize("pulses", [True, False])
def test_plotted_lines_lie_on_whole_pixels_and_printed_says_where(pulses: bool):
    left_mm = default_style().left_mm + (0 if pulses else SQUARE_MM)
    style = replace(default_style(), pulses=pulses, left_mm=left_mm, frame_line=False)
    page = draw_page(np.zeros((12, 5000), np.float32), style, np.random.default_rng(0))

    px = (page.printed_mm - np.array(page.origin_mm)) * PX_PER_MM - 0.5
    np.testing.assert_allclose(px, np.rint(px), atol=1e-6)
    first = 2  # the two columns before are off the raster on pages without pulses
    columns = np.rint(px[20, first:55, 0]).astype(int)
    redness = page.image[..., 0].astype(int) - page.image[..., 1]
    across = np.median(redness[120:400], axis=0)
    assert (across[columns] > across[columns - 2] + 50).all()
    assert (across[columns] > across[columns + 2] + 50).all()
    even = snapped_mm(crossings_mm()[0, :, 0], edge_mm=0.0 if pulses else SQUARE_MM)
    np.testing.assert_allclose(page.printed_mm[20, :, 0], even, atol=1e-9)
    assert 0.02 < np.abs(page.printed_mm - crossings_mm()).max() <= 0.5 / PX_PER_MM + 1e-9


def _clean(signals_mv: np.ndarray | None = None) -> CleanPage:
    flat = np.zeros((12, 5000), np.float32) if signals_mv is None else signals_mv
    return draw_page(flat, default_style(), np.random.default_rng(0))


@pytest.mark.parametrize("befall", [wear.stains, wear.soak, wear.mould, wear.fold])
def test_wear_darkens_some_of_the_paper_and_leaves_the_rest(befall):
    page = _clean()
    changed, darker = [], []
    for seed in range(6):
        worn = befall(page, np.random.default_rng(seed))
        difference = worn.image.astype(int) - page.image
        changed.append((np.abs(difference).max(axis=2) > 12).mean())
        darker.append(difference.mean())
        np.testing.assert_array_equal(worn.rows_mm, page.rows_mm)

    assert 0.003 < np.mean(changed) < 0.7
    assert np.mean(darker) < 0


def test_torn_paper_shows_what_lies_beneath():
    page = _clean()
    torn = next(
        worn for seed in range(9)
        if (worn := wear.tear(page, np.random.default_rng(seed))).gone.any()
    )  # fmt: skip
    height, width = page.image.shape[:2]
    warp = flat_warp(np.random.default_rng(0), px_per_mm=page.px_per_mm, origin_mm=page.origin_mm)
    beneath = np.full((height, width, 3), (1, 2, 3), np.uint8)

    picture = paint(beneath, torn, warp.sheet_maps((width, height)))

    inner = np.s_[2:-2, 2:-2]
    shown = (picture == (1, 2, 3)).all(axis=2)
    np.testing.assert_array_equal(shown[inner], torn.gone[inner])
    assert 0.0003 < torn.gone.mean() < 0.2


def test_a_monitor_beats_against_the_camera():
    """Most near two camera pixels a monitor pixel, as red and blue have every second pixel."""
    size = (600, 400)
    grey = np.full((size[1], size[0], 3), 128, np.uint8)

    def beat(monitor_px_a_pixel: float) -> float:
        x, y = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in size))
        maps = (x * np.float32(monitor_px_a_pixel), y * np.float32(monitor_px_a_pixel))
        lit = np.ones(x.shape, bool)
        image = capture._moire(grey, maps, np.random.default_rng(1), monitor_px_per_mm=1.0, lit=lit)
        return float(cv2.GaussianBlur(image[..., 0].astype(np.float32), (0, 0), 3).std())

    assert beat(0.51) > 10
    assert beat(0.51) > 5 * beat(0.3)
    assert beat(0.51) > 5 * beat(1.4)


def test_every_second_pixel_is_kept_where_it_was():
    value = np.tile(np.arange(60, dtype=np.uint8), (40, 1)) * 4

    for first in (0, 1):
        inner = np.s_[2:-2, 2:-2]
        kept = capture._every_second(value, first=first)
        np.testing.assert_allclose(kept[inner].astype(int), value[inner], atol=1)


@pytest.mark.parametrize("take", [capture.plot, capture.screen])
def test_only_paper_can_be_torn(take):
    torn = replace(_clean(), gone=np.zeros((1700, 2200), bool))

    with pytest.raises(ValueError, match="torn"):
        take(torn, np.random.default_rng(0), 2.0)


def test_names_on_missing_paper_are_no_labels(monkeypatch):
    def tear_first_name(page, rng):
        x, y = np.rint((page.names_mm[0] - np.array(page.origin_mm)) * page.px_per_mm).astype(int)
        gone = np.zeros(page.image.shape[:2], bool)
        gone[y - 9 : y + 9, x - 9 : x + 9] = True
        return replace(page, gone=gone)

    monkeypatch.setitem(KINDS, "photo", replace(KINDS["photo"], wear=(tear_first_name,)))

    page = make_page(SOURCE, seed=3, index=11, kind="photo", max_megapixels=2.0)

    assert np.isnan(page.names_xy_px[0]).all()
    assert np.isfinite(page.names_xy_px[1:]).all()
