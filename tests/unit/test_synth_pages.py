from dataclasses import replace

import cv2
import numpy as np
import PIL.Image
import pytest

from ecg_digitize.errors import InputError
from ecg_digitize.frames import (
    GRID_COLUMNS,
    GRID_ROWS,
    PX_PER_MM,
    SQUARE_MM,
    crossings_mm,
    snapped_mm,
)
from ecg_digitize.image import read_image
from ecg_digitize.layout import COMPETITION
from ecg_digitize.synth import capture, desk, monitor, wear
from ecg_digitize.synth.capture import paint
from ecg_digitize.synth.chance import Chance
from ecg_digitize.synth.dataset import KINDS, make_page, turn
from ecg_digitize.synth.folder import write_pages
from ecg_digitize.synth.page import CleanPage, default_style, draw_page
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.synth.warp import Fold, SheetWarp, camera_warp, flat_warp, ripple

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

    for row, leads in enumerate(printed.leads for printed in COMPETITION.rows):
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
    waves = ripple(rng, box_mm=(-6, -8, 288, 222), height_mm=6)
    folds = (Fold(0.02, 140.0, 0.07, 1.0), Fold(1.6, 70.0, -0.05, 3.0))
    return [flat, photo, replace(photo, ripple=waves), replace(photo, folds=folds)]


WARP_NAMES = ("flat", "camera", "rippled", "folded")


@pytest.mark.parametrize("warp", _warps(), ids=WARP_NAMES)
def test_warps_invert(warp):
    mm = crossings_mm()

    back = warp.sheet_from_page(warp.page_from_sheet(mm))

    assert np.abs(back - mm).max() < 1e-3


def _marked_page(page: CleanPage) -> tuple[CleanPage, np.ndarray]:
    """Draw bell-shaped dots at some crossings in place of the page; return their sheet mm too."""
    mm = crossings_mm()[2:42:4, 2:55:4].reshape(-1, 2)
    origin, scale = np.array(page.origin_mm), page.px_per_mm
    height, width = page.image.shape[:2]
    sheet = np.zeros((height, width), np.float32)
    for cx, cy in (mm - origin) * scale - 0.5:
        rows, columns = np.mgrid[int(cy) - 12 : int(cy) + 13, int(cx) - 12 : int(cx) + 13]
        on = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        bell = 250 * np.exp(-((columns - cx) ** 2 + (rows - cy) ** 2) / (2 * 3.0**2))
        sheet[rows[on], columns[on]] += bell[on]
    image = np.repeat(sheet.astype(np.uint8)[..., None], 3, axis=2)
    return replace(page, image=image, gone=None), mm


def _marks_off_px(page: CleanPage, warp: SheetWarp, size_px: tuple[int, int]) -> np.ndarray:
    """Paint dots through a warp; return how far their centroids lie from where it says."""
    marked, mm = _marked_page(page)
    width, height = size_px
    picture = paint(np.zeros((height, width, 3), np.uint8), marked, warp.sheet_maps(size_px))
    errors = []
    for px, py in warp.page_from_sheet(mm):
        top, left = round(py) - 10, round(px) - 10
        if top < 0 or left < 0 or top + 21 > height or left + 21 > width:
            continue
        window = picture[top : top + 21, left : left + 21, 0].astype(float)
        rows, columns = np.mgrid[0:21, 0:21]
        cx = (window * columns).sum() / window.sum() + left
        cy = (window * rows).sum() / window.sum() + top
        errors.append(np.hypot(cx - px, cy - py))
    return np.array(errors)


@pytest.mark.parametrize("warp", _warps(), ids=WARP_NAMES)
def test_warped_labels_lie_on_warped_marks(warp):
    page = replace(_clean(), image=np.zeros((1840, 2360, 3), np.uint8), px_per_mm=8.0,
                   origin_mm=(-6.0, -8.0))  # fmt: skip

    errors = _marks_off_px(page, warp, (2100, 1700))

    assert len(errors) > 80
    assert max(errors) < 0.3
    assert np.median(errors) < 0.1


@pytest.mark.parametrize("slope", [-0.1, 0.1])
def test_a_fold_lifts_two_planes_and_stretches_no_paper(slope: float):
    fold = Fold(np.pi / 2, 100.0, slope, 2.0)
    down = np.stack([np.full(2001, 7.0), np.linspace(0, 200, 2001)], -1)

    flat, height = fold.lift(down)

    solid = np.column_stack([flat, height])
    length = np.linalg.norm(np.diff(solid, axis=0), axis=1)
    np.testing.assert_allclose(length, 0.1, rtol=1e-4)
    rise = np.diff(height) / 0.1
    np.testing.assert_allclose(rise[[200, -200]], [-slope, slope], atol=1e-3)
    np.testing.assert_allclose(flat[1000], down[1000], atol=1e-9)


@pytest.mark.parametrize("befall", [wear.fold, wear.fold_away])
def test_folds_bend_a_photo_where_they_are_drawn_and_no_scan(befall):
    page = _clean()
    worn = next(w for seed in range(20) if (w := befall(page, _chance(seed))).folds)
    fold = worn.folds[0]
    axis = np.array([np.cos(fold.across_rad), np.sin(fold.across_rad)])
    changed = np.abs(worn.image.astype(int) - page.image).max(axis=2) > 12
    at_mm = np.argwhere(changed)[:, ::-1] / page.px_per_mm + np.array(page.origin_mm)
    away_mm = np.min([np.abs(at_mm @ [np.cos(f.across_rad), np.sin(f.across_rad)] - f.at_mm)
                      for f in worn.folds], axis=0)  # fmt: skip

    assert np.percentile(away_mm, 90) < 2.5
    assert (np.abs(at_mm @ axis - fold.at_mm) < 2.5).mean() > 0.1
    assert capture.photo(worn, _chance(1), 1.0)[1].folds == worn.folds
    assert capture.scan(worn, _chance(1), 1.0)[1].folds == ()


def test_photos_on_disk_are_turned_as_phones_turn_them(tmp_path):
    write_pages(SOURCE, tmp_path, count=4, seed=2, kind="photo")

    for index in range(4):
        page = make_page(SOURCE, seed=2, index=index, kind="photo")
        path = tmp_path / f"page_{index:06d}.png"
        with PIL.Image.open(path) as stored:
            assert stored.getexif().get(0x0112, 1) == (1, 6, 3, 8)[index]
            assert (stored.size == page.image.shape[1::-1]) == (index % 2 == 0)
        np.testing.assert_array_equal(read_image(path).image, page.image)


def _captured(kind: str, severity: float, monkeypatch, *, laser: float = 0.0) -> tuple:
    """Make a page; return it with the clean page and the warp that its capture had."""
    seen = []
    how = KINDS[kind]

    def watched(clean, chance, max_megapixels):
        image, warp = how.capture(clean, chance, max_megapixels)
        seen.append((clean, warp))
        return image, warp

    monkeypatch.setitem(KINDS, kind, replace(how, capture=watched))
    page = make_page(
        SOURCE, seed=6, index=3, kind=kind, max_megapixels=2.5, turns=False, severity=severity,
        laser_prints=laser,
    )  # fmt: skip
    monkeypatch.setitem(KINDS, kind, how)
    return (page, *seen[0])


def test_renders_and_screens_are_no_prints():
    for kind in ("render", "screen"):
        page = make_page(SOURCE, seed=6, index=3, kind=kind, max_megapixels=1.0, laser_prints=1.0)
        assert not page.style.laser


@pytest.mark.parametrize(("severity", "laser"), [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (1.0, 1.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_exact_at_each_severity(kind: str, severity: float, laser: float, monkeypatch):
    page, clean, warp = _captured(kind, severity, monkeypatch, laser=laser)

    errors = _marks_off_px(clean, warp, (page.image.shape[1], page.image.shape[0]))

    np.testing.assert_allclose(
        page.crossings_xy_px, warp.page_from_sheet(crossings_mm()), atol=1e-3
    )
    assert len(errors) > 60
    assert max(errors) < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_severity_orders_pages_and_leaves_the_print_alone(kind: str):
    off_mild = {1.0: 0.0, 2.0: 0.0}
    for index in range(4):
        mild, usual, worst = (
            make_page(SOURCE, seed=8, index=index, kind=kind, max_megapixels=1.0, turns=False,
                      severity=severity) for severity in (0.0, 1.0, 2.0)
        )  # fmt: skip
        np.testing.assert_array_equal(mild.rows_mm, worst.rows_mm)
        assert mild.style == usual.style == worst.style
        assert mild.image.shape == worst.image.shape
        for severity, page in ((1.0, usual), (2.0, worst)):
            off_mild[severity] += np.abs(page.image.astype(int) - mild.image).mean()

    assert 0 < off_mild[1.0] < off_mild[2.0]


@pytest.mark.parametrize("kind", ["scan", "photo", "screen", "stained"])
def test_severity_turns_and_bends_more(kind: str):
    def bow_px(severity: float) -> float:
        """How far the crossings are from a straight, upright lattice."""
        xy = make_page(SOURCE, seed=8, index=1, kind=kind, max_megapixels=1.0, turns=False,
                       severity=severity).crossings_xy_px  # fmt: skip
        return float(np.ptp(xy[..., 0], axis=0).mean() + np.ptp(xy[..., 1], axis=1).mean())

    mild, usual, worst = (bow_px(severity) for severity in (0.0, 1.0, 2.0))

    assert mild < 0.7 * usual
    assert usual < 0.8 * worst


@pytest.mark.parametrize("severity", [-0.1, 2.1, float("nan")])
def test_severities_that_nothing_was_made_for_are_refused(severity: float):
    with pytest.raises(InputError, match="from 0"):
        make_page(SOURCE, seed=1, index=0, severity=severity)


@pytest.mark.parametrize("material", desk.MATERIALS, ids=lambda material: material.__name__)
def test_desks_are_textured_and_none_is_garish(material):
    texture = material(np.random.default_rng(3)).astype(int)

    assert texture.shape == (desk.SIDE_PX, desk.SIDE_PX, 3)
    assert 1 < texture.mean(axis=2).std() < 60
    assert np.ptp(texture.mean(axis=(0, 1))) < 110


def test_a_desk_lies_beneath_its_sheet():
    """What lay draws moves with the camera: the same desk seen from twice as far is half as big."""
    near = flat_warp(np.random.default_rng(0), px_per_mm=2.0, origin_mm=(0, 0))
    far = flat_warp(np.random.default_rng(0), px_per_mm=1.0, origin_mm=(0, 0))
    middle = np.array([140.0, 100.0])

    large = desk.lay(np.random.default_rng(7), near, middle_mm=middle, size_px=(560, 400))
    small = desk.lay(np.random.default_rng(7), far, middle_mm=middle, size_px=(280, 200))

    shrunk = cv2.resize(large, (280, 200), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(*(cv2.blur(i, (5, 5)).ravel() for i in (shrunk, small)))[0, 1] > 0.9


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


def _chance(seed: int) -> Chance:
    return Chance(np.random.default_rng(seed), np.random.default_rng([seed, 1]))


def _clean(signals_mv: np.ndarray | None = None) -> CleanPage:
    flat = np.zeros((12, 5000), np.float32) if signals_mv is None else signals_mv
    return draw_page(flat, default_style(), np.random.default_rng(0))


@pytest.mark.parametrize("befall", [wear.stains, wear.soak, wear.mould, wear.fold])
def test_wear_darkens_some_of_the_paper_and_leaves_the_rest(befall):
    page = _clean()
    changed, darker = [], []
    for seed in range(6):
        worn = befall(page, _chance(seed))
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
        if (worn := wear.tear(page, _chance(seed))).gone.any()
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
        image = monitor._moire(grey, maps, _chance(1), monitor_px_per_mm=1.0, lit=lit)
        return float(cv2.GaussianBlur(image[..., 0].astype(np.float32), (0, 0), 3).std())

    assert beat(0.51) > 10
    assert beat(0.51) > 5 * beat(0.3)
    assert beat(0.51) > 5 * beat(1.4)


def test_every_second_pixel_is_kept_where_it_was():
    value = np.tile(np.arange(60, dtype=np.uint8), (40, 1)) * 4

    for first in (0, 1):
        inner = np.s_[2:-2, 2:-2]
        kept = monitor._every_second(value, first=first)
        np.testing.assert_allclose(kept[inner].astype(int), value[inner], atol=1)


@pytest.mark.parametrize("take", [capture.plot, monitor.screen])
def test_only_paper_can_be_torn(take):
    torn = replace(_clean(), gone=np.zeros((1700, 2200), bool))

    with pytest.raises(ValueError, match="torn"):
        take(torn, _chance(0), 2.0)


def test_names_on_missing_paper_are_no_labels(monkeypatch):
    def tear_first_name(page, chance):
        x, y = np.rint((page.names_mm[0] - np.array(page.origin_mm)) * page.px_per_mm).astype(int)
        gone = np.zeros(page.image.shape[:2], bool)
        gone[y - 9 : y + 9, x - 9 : x + 9] = True
        return replace(page, gone=gone)

    monkeypatch.setitem(KINDS, "photo", replace(KINDS["photo"], wear=(tear_first_name,)))

    page = make_page(SOURCE, seed=3, index=11, kind="photo", max_megapixels=2.0)

    assert np.isnan(page.names_xy_px[0]).all()
    assert np.isfinite(page.names_xy_px[1:]).all()


def test_punched_sheets_show_the_lid_and_keep_their_traces():
    page = _clean()
    punched = [wear.punch(page, _chance(seed)) for seed in range(60)]
    holes = [worn.gone for worn in punched if worn.gone is not None]

    assert 2 <= len(holes) <= 20
    left_px = round((15 - page.origin_mm[0]) * page.px_per_mm)  # where the traces begin
    above_px = round((45 - page.origin_mm[1]) * page.px_per_mm)
    for gone in holes:
        assert gone.any()
        assert not gone[above_px:, left_px:].any()
