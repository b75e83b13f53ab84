"""Refining crossings on pages whose truth is known: flat, bent, uniform grids, slipped feeds."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ecg_digitize import geometry
from ecg_digitize.frames import PX_PER_MM, crossings_mm
from ecg_digitize.stage1 import lines
from ecg_digitize.stage1.feed import fed
from ecg_digitize.stage1.lines import refine_grid
from ecg_digitize.stage1.rectify import page_from_rect, rectify
from ecg_digitize.synth.dataset import SyntheticPage, make_page
from ecg_digitize.synth.page import default_style, draw_page
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.types import GridMap, Image, Page

AMONG_TRACES = (slice(12, 42), slice(3, 54))
LEADS_MV = np.zeros((12, 5000), np.float32)


def refined_from(image: Image, grid: GridMap) -> GridMap:
    """Refine, with the homography nearest to the grid in the place of stage 0's."""
    mm, px = crossings_mm().reshape(-1, 2), grid.crossings_xy_px.reshape(-1, 2)
    return refine_grid(image, grid, page_from_sheet=geometry.fit_homography(mm, px))


def rough(table_px: np.ndarray, *, off_mm: float = 0.12, seed: int = 0) -> GridMap:
    """Return a grid as the network leaves it: bent by a tenth of a millimetre, and noisy."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:44, 0:57]
    wave = np.stack([np.sin(columns / 7 + 1), np.cos(rows / 6)], axis=-1) * off_mm
    moved = crossings_mm() + wave + rng.normal(0, 0.02, (44, 57, 2))
    points = geometry.page_from_sheet(table_px, moved.reshape(-1, 2)).reshape(44, 57, 2)
    return GridMap(points.astype(np.float32), np.ones((44, 57), np.float32), 1.0)


def errors_mm(grid: GridMap, page: SyntheticPage) -> np.ndarray:
    """Return the distances of crossings amid the traces from the truth."""
    px_per_mm = np.linalg.norm(page.crossings_xy_px[30, 40] - page.crossings_xy_px[30, 20]) / 100
    off = np.linalg.norm(grid.crossings_xy_px - page.crossings_xy_px, axis=-1)
    return off[AMONG_TRACES] / px_per_mm


@pytest.mark.parametrize(
    ("kind", "limit_mm", "pages"),
    # A third of the black-and-white scans keep no 1 mm lines and are left as they are.
    [("render", 0.02, 4), ("scan", 0.06, 4), ("scan_bw", 0.06, 9), ("photo", 0.06, 4)],
)
def test_refined_crossings_are_nearer_to_the_truth(kind: str, limit_mm: float, pages: int) -> None:
    before, after = [], []
    for index in range(pages):
        page = make_page(SimulatorSource(), seed=5, index=index, kind=kind, turns=False)
        start = rough(page.crossings_xy_px, seed=index)
        before.append(np.median(errors_mm(start, page)))
        after.append(np.median(errors_mm(refined_from(page.image, start), page)))
    assert np.median(after) < limit_mm < np.median(before)
    assert max(after) < max(before)


def flat_page() -> tuple[Image, np.ndarray]:
    """Return a 0001 look-alike and its crossings, page px."""
    page = draw_page(LEADS_MV, default_style(), np.random.default_rng(0))
    table = (crossings_mm() - np.array(page.origin_mm)) * PX_PER_MM - 0.5
    return page.image, table


def test_a_flat_page_gets_a_homography() -> None:
    image, table = flat_page()
    refined = refined_from(image, rough(table))
    assert refined.feed_px is None
    off = np.linalg.norm(refined.crossings_xy_px - table, axis=-1)[AMONG_TRACES]
    assert off.max() < 0.2
    mm, px = crossings_mm().reshape(-1, 2), refined.crossings_xy_px.reshape(-1, 2)
    fit = geometry.apply_homography(geometry.fit_homography(mm, px), mm)
    np.testing.assert_allclose(fit, px, atol=1e-2)


def test_specks_of_lines_are_followed() -> None:
    """A scanner left one pixel in ten of them, and that a pale one."""
    image, table = flat_page()
    left = np.random.default_rng(0).random(image.shape[:2]) < 0.1
    specks = np.where((left & (image.min(axis=2) < 230))[..., None], 235, 255)
    image = np.repeat(specks, 3, axis=2).astype(np.uint8)
    start = rough(table)

    refined = refined_from(image, start)

    before, after = (
        np.linalg.norm(grid.crossings_xy_px - table, axis=-1)[AMONG_TRACES]
        for grid in (start, refined)
    )
    assert np.median(after) < 0.5 * np.median(before)


def bent_page() -> tuple[Image, np.ndarray]:
    """Return the same on paper that is bent a little, and at its right end rippled."""
    image, table = flat_page()

    def from_flat(xy_px: np.ndarray) -> np.ndarray:
        x, y = xy_px[..., 0], xy_px[..., 1]
        ripple = 7 * np.exp(-(((x - 1800) / 200) ** 2)) * np.sin(y / 50)
        return np.stack([20 * np.sin(x / 300 + y / 900) + ripple, 15 * np.cos(x / 500)], axis=-1)

    seen = np.stack(np.meshgrid(np.arange(2200.0), np.arange(1700.0)), axis=-1)
    maps = (seen - from_flat(seen)).astype(np.float32)
    bent = cv2.remap(image, maps[..., 0], maps[..., 1], cv2.INTER_CUBIC, borderValue=(255,) * 3)
    there = table.copy()
    for _ in range(20):
        there = table + from_flat(there)
    return np.asarray(bent, np.uint8), there


def test_smoother_surfaces_help_where_they_fit_and_do_no_harm_elsewhere(monkeypatch) -> None:
    image, table = bent_page()
    start = rough(table, off_mm=0.0)
    noise = np.random.default_rng(1).normal(0, 0.06 * PX_PER_MM, table.shape)
    start = replace(start, crossings_xy_px=(table + noise).astype(np.float32))

    def off_px() -> tuple[float, float]:
        off = np.linalg.norm(refined_from(image, start).crossings_xy_px - table, axis=-1)
        rippled = np.zeros(off.shape, bool)
        rippled[12:42, 42:52] = True
        gentle = np.zeros(off.shape, bool)
        gentle[12:42, 5:35] = True
        return float(np.sqrt((off[gentle] ** 2).mean())), float(np.sqrt((off[rippled] ** 2).mean()))

    blended = off_px()
    monkeypatch.setattr(lines, "SMOOTHER", ())
    found = off_px()
    assert blended[0] < 0.7 * found[0]
    assert blended[1] < 1.1 * found[1]


def test_confidence_tells_where_the_lines_are_missed() -> None:
    image, table = flat_page()
    clear = refined_from(image, rough(table))
    assert clear.residual_mm is not None
    assert np.median(clear.residual_mm[AMONG_TRACES]) < 0.1
    assert np.median(clear.confidence[AMONG_TRACES]) > 0.8

    torn = image.copy()
    part = (slice(900, 1300), slice(1200, 1800))
    torn[part] = np.random.default_rng(0).integers(0, 255, torn[part].shape, np.uint8)
    refined = refined_from(torn, rough(table))
    inside = (table[..., 0] > 1250) & (table[..., 0] < 1750)
    inside &= (table[..., 1] > 950) & (table[..., 1] < 1250)
    assert np.median(refined.confidence[inside]) < 0.5 < np.median(refined.confidence[~inside])


def test_slips_of_the_feed_are_found_and_undone() -> None:
    image, table = flat_page()
    # Four columns are swallowed at 900 px, three come twice at 1500 px.
    lies_at = np.r_[0:900, 904:1500, 1497 : image.shape[1]]
    slipped = np.ascontiguousarray(image[:, lies_at])
    refined = refined_from(slipped, rough(table, off_mm=0.05))

    assert refined.feed_px is not None
    at_px = np.array([[x, 1000.0] for x in (300, 800, 1000, 1400, 1600, 2000)])
    want = at_px[:, 0] + np.array([0, 0, -4, -4, -1, -1])
    sheet = geometry.sheet_from_page(table, at_px)
    rect = page_from_rect(
        refined, np.column_stack([(sheet[:, 0] + 0.5 / PX_PER_MM) * 20, (sheet[:, 1] - 54) * 8])
    )
    np.testing.assert_allclose(rect[:, 0], want, atol=0.6)

    even = rectify(Page(image, "even"), GridMap(table.astype(np.float32), refined.confidence, 0.1))
    mended = rectify(Page(slipped, "slipped"), refined)
    difference = np.abs(even.image.astype(int) - mended.image).mean(axis=(0, 2))
    unmended = GridMap(refined.crossings_xy_px, refined.confidence, 0.1)
    untouched = rectify(Page(slipped, "slipped"), unmended)
    worse = np.abs(even.image.astype(int) - untouched.image).mean(axis=(0, 2))
    assert np.median(difference[2600:3600]) < 0.5 * np.median(worse[2600:3600])


def test_an_even_feed_is_left_alone() -> None:
    feed = np.zeros(2200, np.float32)
    points = np.random.default_rng(0).uniform(0, 2200, (5, 2))
    np.testing.assert_array_equal(fed(points, feed), points)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_paper_without_lines_leaves_the_grid_as_it_is(grey: int) -> None:
    _, table = flat_page()
    start = rough(table)
    image = np.full((1700, 2200, 3), grey, np.uint8)
    assert refined_from(image, start) is start


def test_noise_leaves_the_grid_as_it_is() -> None:
    _, table = flat_page()
    start = rough(table)
    image = np.random.default_rng(0).integers(0, 255, (1700, 2200, 3), np.uint8)
    assert refined_from(image, start) is start
