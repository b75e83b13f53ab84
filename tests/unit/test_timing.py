"""Sheets whose paper was fed unevenly: the printed lines tell."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ecg_digitize import geometry
from ecg_digitize.frames import crossings_mm
from ecg_digitize.stage1.timing import follow_lines
from ecg_digitize.synth.page import default_style, draw_page
from ecg_digitize.synth.signals import to_twelve
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.types import GridMap, Image

AMONG_TRACES = (slice(13, 42), slice(3, 54))


def jerked_mm(x_mm: np.ndarray) -> np.ndarray:
    return 0.07 * np.sin(2 * np.pi * x_mm / 60)


def sheet(*, snapped: bool = True, pulses: bool = True, strength: float = 1.0) -> Image:
    """Return a render at 200 dpi, the paper fed unevenly along time."""
    style = replace(default_style(), snapped=snapped, pulses=pulses)
    if not pulses:
        style = replace(style, left_mm=style.left_mm + 5)
    signals_mv = to_twelve(SimulatorSource(seed=5).get(4))
    image = draw_page(signals_mv, style, np.random.default_rng(0)).image
    height, width = image.shape[:2]
    x_px = np.arange(width, dtype=np.float32)
    from_px = x_px - (strength * jerked_mm(x_px / 7.874) * 7.874).astype(np.float32)
    rows = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, axis=1)
    moved = cv2.remap(image, np.tile(from_px, (height, 1)), rows, cv2.INTER_CUBIC,
                      borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    return np.asarray(moved, np.uint8)


def even_grid(*, pulses: bool = True) -> GridMap:
    style = default_style()
    left = style.left_mm + (0 if pulses else 5)
    scale = style.px_per_mm
    page_from_sheet = np.array(
        [[scale, 0, -left * scale - 0.5], [0, scale, -style.top_mm * scale - 0.5], [0, 0, 1]]
    )
    crossings = geometry.apply_homography(page_from_sheet, crossings_mm()).astype(np.float32)
    return GridMap(crossings, np.ones(crossings.shape[:2], np.float32), 0.1)


def time_errors_mm(found: GridMap, grid: GridMap, *, strength: float) -> np.ndarray:
    """Return how far columns are off, apart from a shift of the whole sheet, which is no error."""
    x_px = grid.crossings_xy_px[..., 0].astype(np.float64)
    true_px = x_px + strength * jerked_mm(x_px / 7.874) * 7.874
    off_mm = (found.crossings_xy_px[..., 0] - true_px)[AMONG_TRACES] / 7.874
    return off_mm - np.median(off_mm)


@pytest.mark.parametrize(("snapped", "pulses"), [(True, True), (True, False), (False, True)])
def test_columns_follow_the_lines(snapped: bool, pulses: bool) -> None:
    grid = even_grid(pulses=pulses)

    found = follow_lines(sheet(snapped=snapped, pulses=pulses), grid)

    before_mm = time_errors_mm(grid, grid, strength=1.0)
    after_mm = time_errors_mm(found, grid, strength=1.0)
    assert after_mm.std() < 0.3 * before_mm.std()
    np.testing.assert_allclose(
        found.crossings_xy_px[..., 1], grid.crossings_xy_px[..., 1], atol=1e-3
    )


def test_a_sheet_fed_evenly_stays() -> None:
    grid = even_grid()

    found = follow_lines(sheet(strength=0.0), grid)

    assert np.abs(time_errors_mm(found, grid, strength=0.0)).max() < 0.008


@pytest.mark.parametrize("px_per_mm", [5.7, 9.49])
def test_a_picture_of_another_raster_stays(px_per_mm: float) -> None:
    """Lines snapped to the picture's own pixels are known, whatever its scale."""
    style = replace(default_style(), snapped=True, px_per_mm=px_per_mm)
    signals_mv = to_twelve(SimulatorSource(seed=5).get(4))
    image = draw_page(signals_mv, style, np.random.default_rng(0)).image
    corner = np.array([style.left_mm, style.top_mm])
    xy_px = ((crossings_mm() - corner) * px_per_mm - 0.5).astype(np.float32)
    grid = GridMap(xy_px, np.ones(xy_px.shape[:2], np.float32), 0.1)

    found = follow_lines(image, grid)

    off_mm = (found.crossings_xy_px - xy_px)[AMONG_TRACES][..., 0] / px_per_mm
    assert np.abs(off_mm - np.median(off_mm)).max() < 0.008


@pytest.mark.parametrize("dpi", [150, 300])
def test_a_print_of_another_raster_stays(dpi: int) -> None:
    """Nor are lines that were snapped before the page was printed and scanned by other pixels."""
    style = default_style()
    style = replace(style, snapped=True, px_per_mm=dpi / 25.4, left_mm=style.left_mm - 0.02)
    signals_mv = to_twelve(SimulatorSource(seed=5).get(4))
    plotted = draw_page(signals_mv, style, np.random.default_rng(0)).image
    size = (2231, round(2231 * plotted.shape[0] / plotted.shape[1]))
    image = np.asarray(cv2.resize(plotted, size, interpolation=cv2.INTER_AREA), np.uint8)
    px_per_mm = np.array(size) / np.array(plotted.shape[1::-1]) * style.px_per_mm
    corner = np.array([style.left_mm, style.top_mm])
    xy_px = ((crossings_mm() - corner) * px_per_mm - 0.5).astype(np.float32)
    grid = GridMap(xy_px, np.ones(xy_px.shape[:2], np.float32), 0.1)

    found = follow_lines(image, grid)

    off_mm = (found.crossings_xy_px - xy_px)[AMONG_TRACES][..., 0] / px_per_mm[0]
    assert np.abs(off_mm - np.median(off_mm)).max() < 0.012


def test_without_lines_the_grid_stays() -> None:
    grid = even_grid()
    white = np.full((1700, 2200, 3), 255, np.uint8)
    black = np.zeros((1700, 2200, 3), np.uint8)
    for image in (white, black):
        np.testing.assert_array_equal(
            follow_lines(image, grid).crossings_xy_px, grid.crossings_xy_px
        )
    noise = np.random.default_rng(3).normal(200, 25, (1700, 2200, 1)).clip(0, 255)
    paper = np.repeat(noise, 3, axis=2).astype(np.uint8)
    np.testing.assert_array_equal(follow_lines(paper, grid).crossings_xy_px, grid.crossings_xy_px)
    image = sheet()
    fed = replace(grid, feed_px=np.zeros(image.shape[1], np.float32))
    assert follow_lines(image, fed) is fed
    lost = replace(grid, residual_px=np.inf)
    assert follow_lines(image, lost) is lost
