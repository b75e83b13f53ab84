"""Grid fitting on made heatmaps of curled pages: missing, false and displaced crossings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_digitize import geometry
from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, NORM, SQUARE_MM, crossings_mm
from ecg_digitize.stage1 import grid
from ecg_digitize.stage1.surface import bend_along, factor_banded, fit_surface, solve_factored
from ecg_digitize.stages import look_again
from ecg_digitize.types import GridMap, Page

ROWS, COLUMNS = np.mgrid[0:GRID_ROWS, 0:GRID_COLUMNS]
LOWER = slice(11, None)  # rows of the rect frame
PAGE_FROM_NORM = np.array([[2.1, 0.05, 30], [-0.04, 2.0, 50], [1e-5, 2e-5, 1]])
STEP = np.arange(-6, 7)


def to_page(norm_px: np.ndarray) -> np.ndarray:
    return geometry.apply_homography(PAGE_FROM_NORM, norm_px)


def curled_table(rng: np.random.Generator, *, crease: float = 0.15) -> np.ndarray:
    """Return true crossings, norm px, where stage 0 is off by 0.4 squares amid the names.

    Towards one upper corner it is off by about 1.5 squares; creases bend the page besides.
    """
    x, y = (COLUMNS - 22) / 30, (ROWS - 29) / 29
    table = NORM.px_from_mm(crossings_mm())
    for axis in (0, 1):
        middle, corner, fold = rng.choice([-1, 1], 3)
        bend = 0.4 * middle * np.cos(1.5 * x + rng.uniform(-0.5, 0.5)) * np.cos(y)
        bend += 0.75 * corner * np.minimum(y, 0) ** 2 * (1 + 0.8 * x)
        bend += crease * fold * np.sin(9 * x + rng.uniform(-np.pi, np.pi))
        table[..., axis] += NORM.px_per_mm_xy[0] * SQUARE_MM * bend
    return table


def heatmap(
    table: np.ndarray,
    rng: np.random.Generator,
    *,
    jitter_px: float = 0.2,
    missing: float = 0.2,
    false: float = 0.05,
    blank: np.ndarray | None = None,
    height: tuple[float, float] = (0.4, 1.0),
) -> np.ndarray:
    """Return discs of sigma 1.5 px round jittered crossings, with noise and false peaks."""
    keep = rng.random(table.shape[:2]) > missing
    if blank is not None:
        keep &= ~blank
    points = table[keep] + rng.normal(0, jitter_px, (keep.sum(), 2))
    strays = rng.uniform([0, 0], [NORM.width_px, NORM.height_px], (int(false * len(points)), 2))
    heat = np.zeros((NORM.height_px, NORM.width_px), np.float32)
    for x, y in np.concatenate([points, strays]):
        column, row = round(x), round(y)
        if 6 <= column < NORM.width_px - 6 and 6 <= row < NORM.height_px - 6:
            across = np.exp(-((STEP + column - x) ** 2) / (2 * 1.5**2))
            down = np.exp(-((STEP + row - y) ** 2) / (2 * 1.5**2))
            window = heat[row - 6 : row + 7, column - 6 : column + 7]
            np.maximum(window, rng.uniform(*height) * np.outer(down, across), out=window)
    return np.clip(heat + 0.05 * rng.random(heat.shape, np.float32), 0, 1)


def errors_px(fitted: grid.GridMap, table: np.ndarray) -> np.ndarray:
    """Return (44, 57) distances from the truth, norm px, of a fit made with the identity map."""
    return np.linalg.norm(fitted.crossings_xy_px - table, axis=-1)


@pytest.mark.parametrize(
    "blank",
    [None, COLUMNS < 19, COLUMNS > 38, ROWS < 15, (ROWS > 19) & (ROWS < 32), ROWS > 30],
    ids=["whole", "left blank", "right blank", "top blank", "stripe blank", "bottom blank"],
)
def test_curled_pages_are_followed_without_slips(blank: np.ndarray | None) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        table = curled_table(rng)

        fitted = grid.fit_grid(heatmap(table, rng, blank=blank), page_from_norm=np.asarray)

        found = fitted.confidence > 0
        off = errors_px(fitted, table)
        shown = np.count_nonzero(found) / np.count_nonzero(ROWS >= 0 if blank is None else ~blank)
        assert shown > 0.7
        assert np.median(off[found]) < 0.15
        assert off[found].max() < 2.0  # a slip would be 20 px
        holes = ~found if blank is None else ~found & ~blank
        holes &= (np.abs(COLUMNS - 28) < 26) & (np.abs(ROWS - 24) < 18)
        assert np.median(off[holes]) < 0.4
        assert 0.1 < fitted.residual_px < 0.6


def test_a_stripe_between_two_halves_does_not_slip() -> None:
    rng = np.random.default_rng(7)
    table = NORM.px_from_mm(crossings_mm()) + 6 * np.sin(COLUMNS / 9)[..., None]

    heat = heatmap(table, rng, blank=(COLUMNS > 20) & (COLUMNS < 36))
    fitted = grid.fit_grid(heat, page_from_norm=np.asarray)

    off = errors_px(fitted, table)
    assert off[fitted.confidence > 0].max() < 2.0
    assert np.count_nonzero(fitted.confidence[:, 36:]) > 500
    assert np.percentile(off[LOWER], 99) < 10


def test_crossings_are_carried_to_the_page() -> None:
    rng = np.random.default_rng(1)
    table = curled_table(rng)

    fitted = grid.fit_grid(heatmap(table, rng), page_from_norm=to_page)

    truth = geometry.apply_homography(PAGE_FROM_NORM, table)
    off = np.linalg.norm(fitted.crossings_xy_px - truth, axis=-1)
    assert np.median(off) < 0.3  # page px, twice as fine as norm px
    assert 0.2 < fitted.residual_px < 1.2


def test_the_default_stiffness_is_near_the_best_on_flat_and_creased_pages() -> None:
    rng = np.random.default_rng(2)
    candidates = (0.01, 0.5, 20.0)
    median = {stiffness: [] for stiffness in candidates}
    raw = []
    for crease in (0.0, 0.15):
        table = curled_table(rng, crease=crease)
        peaks = grid.index_peaks(*grid.find_peaks(heatmap(table, rng), threshold=0.1))
        columns, rows = peaks.node[peaks.indexed].T
        seen = peaks.xy_px[peaks.indexed] - table[rows, columns]
        raw.append(np.median(np.linalg.norm(seen, axis=1)))
        for stiffness in candidates:
            surface, _ = fit_surface(peaks, stiffness=stiffness)
            off = np.linalg.norm(surface - table, axis=-1)[LOWER]
            median[stiffness].append(np.median(off))

    # Measured: raw centroids 0.24, stiffness 0.01 0.18, 0.5 0.08, 20 0.7 px on the creased page.
    assert max(median[0.5]) < 0.5 * min(raw)
    assert max(median[0.5]) < 0.7 * max(median[0.01])
    assert max(median[0.5]) < 0.5 * max(median[20.0])


def test_centroids_are_unbiased_within_a_pixel() -> None:
    shift = np.linspace(-0.5, 0.5, 11)
    table = np.stack([100 + 25 * np.arange(11) + shift, np.full(11, 200.3)], axis=-1)[None]
    rng = np.random.default_rng(0)
    heat = heatmap(table, rng, jitter_px=0, missing=-1, false=0, height=(1, 1))

    xy_px, weight = grid.find_peaks(heat, threshold=0.1)

    assert np.abs(xy_px[np.argsort(xy_px[:, 0])] - table[0]).max() < 0.05
    assert weight.min() > 0.9


def test_false_peaks_and_many_holes_are_survived() -> None:
    rng = np.random.default_rng(3)
    table = curled_table(rng, crease=0.05)

    heat = heatmap(table, rng, missing=0.65, false=0.5)
    fitted = grid.fit_grid(heat, page_from_norm=np.asarray)

    off = errors_px(fitted, table)[LOWER]
    assert np.median(off) < 0.3
    assert np.percentile(off, 99) < 4


def test_peaks_one_millimetre_off_do_not_bend_the_page() -> None:
    rng = np.random.default_rng(4)
    table = curled_table(rng, crease=0.05)
    wrong = rng.random((GRID_ROWS, GRID_COLUMNS, 1)) < 0.3
    jumped = table + 4 * rng.integers(-1, 2, table.shape) * wrong

    fitted = grid.fit_grid(heatmap(jumped, rng, height=(0.15, 0.4)), page_from_norm=np.asarray)

    assert np.median(errors_px(fitted, table)[LOWER]) < 0.3


def empty(rng: np.random.Generator) -> np.ndarray:
    return np.zeros((NORM.height_px, NORM.width_px), np.float32)


def white_noise(rng: np.random.Generator) -> np.ndarray:
    return rng.random((NORM.height_px, NORM.width_px), np.float32)


def saturated(rng: np.random.Generator) -> np.ndarray:
    return np.ones((NORM.height_px, NORM.width_px), np.float32)


def few(rng: np.random.Generator) -> np.ndarray:
    return heatmap(curled_table(rng), rng, missing=0.98)


def strewn(rng: np.random.Generator) -> np.ndarray:
    points = rng.uniform([0, 0], [NORM.width_px, NORM.height_px], (60, 60, 2))
    return heatmap(points, rng, missing=0)


@pytest.mark.parametrize("make", [empty, white_noise, saturated, few, strewn])
def test_without_a_lattice_stage_0_stands(make) -> None:
    heat = make(np.random.default_rng(5))

    fitted = grid.fit_grid(heat, page_from_norm=to_page)

    nominal = geometry.apply_homography(PAGE_FROM_NORM, NORM.px_from_mm(crossings_mm()))
    assert fitted.residual_px == float("inf")
    assert not fitted.confidence.any()
    assert np.abs(fitted.crossings_xy_px - nominal).max() < 1e-3


def test_a_heatmap_of_another_frame_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(896, 1152\).*got \(10, 10\)"):
        grid.fit_grid(np.zeros((10, 10), np.float32), page_from_norm=np.asarray)


@pytest.mark.parametrize("width", [0, 1, 3, 12])
@pytest.mark.parametrize("n", [1, 2, 29, 30])
def test_the_banded_solution_equals_the_dense_one(width: int, n: int) -> None:
    rng = np.random.default_rng(width)
    factor = np.tril(rng.normal(size=(n, n)))
    factor[np.subtract.outer(np.arange(n), np.arange(n)) > width] = 0
    factor[np.diag_indices(n)] = 2 + rng.random(n)
    dense = factor @ factor.T
    bands = np.zeros((n, width + 1))
    for k in range(min(width + 1, n)):
        bands[: n - k, k] = np.diagonal(dense, -k)
    right = rng.normal(size=(2, n))
    expected = np.linalg.solve(dense, right.T).T

    kernels = factor_banded, solve_factored
    for factorize, solve in (kernels, (kernel.py_func for kernel in kernels)):
        factored, solution = bands.copy(), right.copy()
        factorize(factored)
        solve(factored, solution)
        assert np.allclose(solution, expected)


def test_repeats_smooth_what_a_smooth_field_leaves() -> None:
    rng = np.random.default_rng(0)
    bend, weight = rng.normal(size=(44, 57, 2)), rng.random((44, 57))

    once = bend_along(bend, weight, stiffness=1.0)
    twice = bend_along(bend, weight, stiffness=1.0, repeats=2)

    assert np.allclose(twice, once + bend_along(bend - once, weight, stiffness=1.0))


class _Dots(torch.nn.Module):
    """Takes what is dark for crossings."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (200 - image.float().mean(dim=1)) / 12


def test_a_second_look_through_the_crossings_found_finds_them_better(tiny_models) -> None:
    rng = np.random.default_rng(4)
    table = curled_table(rng)
    image = np.repeat(
        (255 - 255 * heatmap(table, rng).clip(0, 1)).astype(np.uint8)[..., None], 3, axis=2
    )
    off = 3 * np.stack([np.sin(COLUMNS / 8 + ROWS / 9), np.cos(ROWS / 7)], axis=-1)
    found = GridMap((table + off).astype(np.float32), np.ones(ROWS.shape, np.float32), 1.0)

    again = look_again(Page(image, "page"), found, replace(tiny_models, stage1=_Dots()))

    left = np.linalg.norm(again.crossings_xy_px - table, axis=-1)[LOWER]
    assert np.median(left) < 0.3
    assert np.percentile(left, 95) < 1.0
