"""From a heatmap of grid crossings to the whole mesh: find, index, smooth.

Peaks are found with float centroids, given their row and column by growing outward from the lead
names, where stage 0 is good to half a square, and smoothed by a thin plate on the lattice, which
also fills holes and goes on, nearly straight, where nothing was found.

Positions are norm px in xy order unless a name says otherwise; *squares* are lattice units in the
same order: (column, row).
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from ecg_digitize import geometry
from ecg_digitize.layout import GRID_COLUMNS, GRID_ROWS, NAMES_MM, NORM, SQUARE_MM, crossings_mm
from ecg_digitize.types import Float32, Float64, GridMap

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

MIN_CROSSINGS: Final = 60
PITCH_PX: Final = SQUARE_MM * NORM.px_per_mm_xy[0]
NAMED_ROWS: Final = (17, 41)
"""Rows among the lead names: there the start homography is half a square off at most."""

MAX_ISLANDS: Final = 4
NAME_NODES: Final = np.rint(NAMES_MM / SQUARE_MM).astype(np.int64)
NAME_WEIGHT: Final = 0.05
"""The start homography at the names, off by 5 px, against a crossing, off by 0.3 px."""

TYPICAL_SPREAD_PX: Final = 0.3
"""Median distance of good crossings from the surface."""

TETHER: Final = 1e-4
"""Weight that draws the bend to zero where nothing was seen: it fades over ten squares or so."""

TRUSTED_SPREAD_PX: Final = 1.2
"""RMS distance of the crossings from their surface beyond which they are no crossings but a jumble
of 1 mm lines, 4 px apart: the grid has one weight for all lines. On others it is 0.3 px."""

FLAT_STIFFNESS: Final = 1e5
"""Times that of the soft surface: nothing bends, a homography is left."""

FLAT_EXCESS: Final = 1.85
"""How much more mean square distance a homography may leave than the soft surface. On renders,
which are exactly flat, it leaves 1.66-1.80 times as much: the soft one follows how lines were
snapped to pixels. On a real scan with a slipped feed it leaves 3.7 times, on a curled photo 4.7."""

_SHAPE: Final = (GRID_ROWS, GRID_COLUMNS)
_LAST: Final = np.array([GRID_COLUMNS - 1, GRID_ROWS - 1])


@dataclass(frozen=True)
class Peaks:
    """Crossings seen in the heatmap, and where they belong."""

    xy_px: Float64  # (n, 2) norm px
    weight: Float64  # (n,) peak probability in (0, 1]
    node: Ints  # (n, 2) column and row; meaningless where not indexed
    indexed: Bools  # (n,)


def fit_grid(
    crossing_probability: Float32,
    *,
    page_from_norm: Float64,
    threshold: float = 0.1,
    stiffness: float = 0.5,
) -> GridMap:
    """Find the 5 mm crossings of the sheet in the picture.

    Args:
        crossing_probability: (896, 1152) float32 in [0, 1], norm frame.
        page_from_norm: (3, 3) homography, norm px to page px.
        threshold: Lowest (slightly blurred) probability of a peak.
        stiffness: Weight of the surface's bending against a crossing seen with certainty. With
            centroids off by 0.24 px (median) the default left 0.07 px on flat and 0.09 px on
            creased pages; 0.1 left 0.11 and 0.12, 3 left 0.05 and 0.19, 10 left 0.04 and 1.0.

    Returns:
        The crossings. If fewer than 60 were found, or only few rows or columns, or a lattice fits
        them by chance only, they are those of the homography alone, with confidence 0 everywhere
        and residual_px infinite: a page that stage 0 has placed is never lost here.

    Raises:
        ValueError: The heatmap has another shape than the norm frame.
    """
    if crossing_probability.shape != (NORM.height_px, NORM.width_px):
        raise ValueError(
            f"crossing_probability must be ({NORM.height_px}, {NORM.width_px}) in the norm frame, "
            f"but got {crossing_probability.shape}"
        )
    xy_px, weight = find_peaks(crossing_probability, threshold=threshold)
    peaks = index_peaks(xy_px, weight)
    if is_enough(peaks):
        surface, kept = fit_sheet(peaks, stiffness=stiffness)
        if (
            is_regular(surface)
            and not is_chance(surface, peaks, kept)
            and _spread_px(surface, peaks, kept) < TRUSTED_SPREAD_PX
        ):
            return _grid_map(surface, peaks, kept, page_from_norm)
        flat = fit_flat(peaks)
        if flat is not None:
            return _grid_map(*flat, page_from_norm)
    nominal = geometry.apply_homography(page_from_norm, NORM.px_from_mm(crossings_mm()))
    return GridMap(nominal.astype(np.float32), np.zeros(_SHAPE, np.float32), float("inf"))


def _grid_map(surface: Float64, peaks: Peaks, kept: Bools, page_from_norm: Float64) -> GridMap:
    """Carry the surface to the page, with the confidence of the crossings it rests on."""
    crossings = geometry.apply_homography(page_from_norm, surface)
    columns, rows = peaks.node[kept].T
    confidence = np.zeros(_SHAPE, np.float32)
    confidence[rows, columns] = peaks.weight[kept]
    seen = geometry.apply_homography(page_from_norm, peaks.xy_px[kept])
    off = np.linalg.norm(seen - crossings[rows, columns], axis=1)
    return GridMap(crossings.astype(np.float32), confidence, float(np.sqrt(np.mean(off**2))))


def find_peaks(probability: Float32, *, threshold: float) -> tuple[Float64, Float64]:
    """Find local maxima and their probability-weighted centroids.

    Args:
        probability: (h, w) float32 in [0, 1].
        threshold: Lowest blurred probability of a peak.

    Returns:
        xy_px: (n, 2) float64, best first, at most 6000.
        weight: (n,) float64, the probability at the peak.
    """
    margin = 3  # the centroid's window is 7 x 7 px; a disc's sigma is about 1.5 px
    heat = np.pad(probability, margin)
    blurred = cv2.GaussianBlur(heat, (5, 5), 1.0)
    highest = cv2.dilate(blurred, np.ones((11, 11), np.uint8))
    rows, columns = np.nonzero((blurred == highest) & (blurred >= threshold))
    inside = (rows >= margin) & (rows < heat.shape[0] - margin)
    inside &= (columns >= margin) & (columns < heat.shape[1] - margin)
    rows, columns = rows[inside], columns[inside]
    best = np.argsort(-blurred[rows, columns], kind="stable")[:6000]
    rows, columns = rows[best], columns[best]
    step = np.arange(-margin, margin + 1)
    windows = heat[rows[:, None, None] + step[:, None], columns[:, None, None] + step]
    weight = windows.max(axis=(1, 2)).astype(np.float64)
    # Squared, a disc fits into the window: the pull towards its middle falls from 0.07 to 0.01 px.
    mass = windows.astype(np.float64) ** 2
    total = mass.sum(axis=(1, 2))
    x = columns + (mass.sum(axis=1) @ step) / total - margin
    y = rows + (mass.sum(axis=2) @ step) / total - margin
    return np.column_stack([x, y]), np.minimum(weight, 1.0)


# ------------------------------------------------------------------------------- indexing
def index_peaks(xy_px: Float64, weight: Float64) -> Peaks:
    """Give peaks their column and row by growing outward from the lead names.

    Args:
        xy_px: (n, 2) norm px.
        weight: (n,) in (0, 1].

    Returns:
        The peaks; those that fit no node, or a node better met by another, are not indexed.
    """
    peaks = Peaks(xy_px, weight, np.zeros(xy_px.shape, np.int64), np.zeros(len(xy_px), bool))
    expected = NORM.mm_from_px(xy_px) / SQUARE_MM
    named = (expected[:, 1] >= NAMED_ROWS[0]) & (expected[:, 1] <= NAMED_ROWS[1])
    # Each island, cut off from the others by a blank stripe, starts anew among the names.
    for _ in range(MAX_ISLANDS):
        seeded = _seed(peaks, expected, named)
        if seeded is peaks:
            break
        grown = _grow(seeded, expected)
        peaks = _unslipped(peaks, grown, expected, named)
    # What is left and holds no name starts where the surface of the others expects it.
    for _ in range(MAX_ISLANDS):
        if len(xy_px) - peaks.indexed.sum() < 12 or not is_enough(peaks):
            break
        surface, _ = fit_surface(peaks, stiffness=100.0, rounds=2)
        expected = _squares_of(surface, xy_px)
        seeded = _seed(peaks, expected, ~peaks.indexed)
        if seeded is peaks:
            break
        peaks = _grow(seeded, expected)
    return peaks


def _unslipped(before: Peaks, grown: Peaks, expected: Float64, named: Bools) -> Peaks:
    """Move a new island by whole squares to where stage 0 wants it in the middle of its names.

    Its seed may have stood where stage 0 is more than half a square off.
    """
    new = grown.indexed & ~before.indexed
    slip = np.rint(np.median((grown.node - expected)[new & named], axis=0)).astype(np.int64)
    which = np.flatnonzero(new)
    return _accept(before, which, (grown.node[which] - slip).astype(np.float64), tolerance=0.5)


def _seed(peaks: Peaks, expected: Float64, among: Bools) -> Peaks:
    """Index the patch of not yet indexed peaks whose offsets from whole squares agree best."""
    candidates = np.flatnonzero(among & ~peaks.indexed)
    if len(candidates) < 8:
        return peaks
    at = expected[candidates]
    distance, near = cKDTree(at).query(at, k=20, distance_upper_bound=3.0)
    there = np.isfinite(distance)
    phase = np.exp(2j * np.pi * np.concatenate([at, np.zeros((1, 2))]))[near]
    mean = (phase * there[..., None]).sum(axis=1) / 20  # few neighbours also count as disagreement
    offset = np.angle(mean) / (2 * np.pi)
    score = np.abs(mean).prod(axis=1) * np.cos(np.pi * offset).prod(axis=1)
    best = int(np.argmax(score))
    if score[best] < 0.15:
        return peaks
    patch = candidates[near[best][there[best]]]
    seeded = _accept(peaks, patch, expected[patch] - offset[best], tolerance=0.2)
    return seeded if seeded.indexed.sum() >= peaks.indexed.sum() + 8 else peaks


def _grow(peaks: Peaks, expected: Float64, *, tolerance: float = 0.25) -> Peaks:
    """Index peaks next to indexed ones, ring by ring, by a local affine map of their offsets."""
    for _ in range(GRID_COLUMNS):
        inside, outside = np.flatnonzero(peaks.indexed), np.flatnonzero(~peaks.indexed)
        if len(inside) < 3 or len(outside) == 0:
            break
        tree = cKDTree(expected[inside])
        distance, near = tree.query(expected[outside], k=12, distance_upper_bound=4.0)
        reached = (distance[:, 0] < 2.6) & np.isfinite(distance[:, 3])
        outside, distance, near = outside[reached], distance[reached], near[reached]
        there = np.isfinite(distance)
        neighbours = inside[np.where(there, near, 0)]
        away = expected[neighbours] - expected[outside][:, None]
        pull = there * peaks.weight[neighbours] * np.exp(-((np.where(there, distance, 0) / 2) ** 2))
        offsets = peaks.node[neighbours] - expected[neighbours]
        design = np.concatenate([np.ones((*away.shape[:2], 1)), away], axis=2)
        weighted = design * pull[..., None]
        normal = np.swapaxes(design, 1, 2) @ weighted + np.diag([1e-6, 0.05, 0.05])
        local = np.linalg.solve(normal, np.swapaxes(weighted, 1, 2) @ offsets)
        grown = _accept(peaks, outside, expected[outside] + local[:, 0], tolerance=tolerance)
        if grown.indexed.sum() == peaks.indexed.sum():
            break
        peaks = grown
    return peaks


def _accept(peaks: Peaks, which: Ints, squares: Float64, *, tolerance: float) -> Peaks:
    """Index those peaks that lie near a free node: the nearest one if several do."""
    node = np.rint(squares).astype(np.int64)
    off = np.abs(squares - node).max(axis=1)
    free = np.ones(_SHAPE, bool)
    free[peaks.node[peaks.indexed, 1], peaks.node[peaks.indexed, 0]] = False
    fits = (off < tolerance) & ((node >= 0) & (node <= _LAST)).all(axis=1)
    fits[fits] = free[node[fits, 1], node[fits, 0]]
    order = np.flatnonzero(fits)[np.argsort(off[fits], kind="stable")]
    _, first = np.unique(node[order] @ [1, GRID_COLUMNS], return_index=True)
    chosen = order[first]
    nodes, indexed = peaks.node.copy(), peaks.indexed.copy()
    nodes[which[chosen]], indexed[which[chosen]] = node[chosen], True
    return Peaks(peaks.xy_px, peaks.weight, nodes, indexed)


def is_enough(peaks: Peaks) -> bool:
    """Say whether the indexed peaks are 60 or more and span six rows and columns."""
    if peaks.indexed.sum() < MIN_CROSSINGS:
        return False
    return bool(
        (np.ptp(np.percentile(peaks.node[peaks.indexed], [5, 95], axis=0), axis=0) > 5).all()
    )


def _squares_of(surface: Float64, xy_px: Float64) -> Float64:
    """Invert a surface roughly: the lattice position of points, extended past its edge."""
    nominal = NORM.mm_from_px(surface) / SQUARE_MM
    start = NORM.mm_from_px(xy_px) / SQUARE_MM
    bend = nominal - crossings_mm() / SQUARE_MM
    squares = start
    for _ in range(4):
        at = squares[:, ::-1].T
        bent = [map_coordinates(bend[..., k], at, order=1, mode="nearest") for k in (0, 1)]
        squares = start - np.stack(bent, axis=1)
    return squares


# -------------------------------------------------------------------------------- surface
def fit_sheet(peaks: Peaks, *, stiffness: float) -> tuple[Float64, Bools]:
    """Fit a homography if the sheet may be flat, else a soft surface.

    What a soft surface adds on renders and good scans is noise: 0.25 px of it cost a render 3 dB,
    since a lead can be shifted by whole samples only.

    Args:
        peaks: The indexed peaks.
        stiffness: Of the soft surface, see ``fit_grid``; more if it folds.

    Returns:
        As fit_surface.
    """
    fits = (fit_surface(peaks, stiffness=stiffness * stiffer) for stiffer in (1, 30, 1000))
    soft = next((fit for fit in fits if is_regular(fit[0])), None)
    flat = fit_surface(peaks, stiffness=stiffness * FLAT_STIFFNESS)
    if soft is None:
        return flat
    columns, rows = peaks.node[peaks.indexed].T
    soft_off, flat_off = (
        np.linalg.norm(peaks.xy_px[peaks.indexed] - surface[rows, columns], axis=1)
        for surface, _ in (soft, flat)
    )
    limit = 3 * np.median(soft_off)
    excess = np.mean(np.minimum(flat_off, limit) ** 2) / np.mean(np.minimum(soft_off, limit) ** 2)
    return flat if excess < FLAT_EXCESS else soft


def fit_surface(peaks: Peaks, *, stiffness: float, rounds: int = 4) -> tuple[Float64, Bools]:
    """Fit a homography and, on top, a thin plate to the indexed peaks, leaving outliers out.

    Args:
        peaks: The indexed peaks.
        stiffness: Weight of the squared second differences, see ``fit_grid``.
        rounds: Re-weightings.

    Returns:
        surface: (44, 57, 2) norm px, complete.
        kept: (n,) bool, the indexed peaks the surface rests on.
    """
    node, xy = peaks.node[peaks.indexed], peaks.xy_px[peaks.indexed]
    weight = peaks.weight[peaks.indexed]
    # Where no crossing was found, say beyond a blank stripe, the names hold the surface.
    nodes = np.concatenate([node, NAME_NODES])
    seen = np.concatenate([xy, NORM.px_from_mm(SQUARE_MM * NAME_NODES.astype(np.float64))])
    trust, spread = np.ones(len(node)), TYPICAL_SPREAD_PX
    for _ in range(rounds):
        pull = np.append(weight * trust, np.full(len(NAME_NODES), NAME_WEIGHT))
        base = geometry.fit_homography(SQUARE_MM * nodes, seen, weights=pull)
        flat = geometry.apply_homography(base, crossings_mm())
        bend = seen - flat[nodes[:, 1], nodes[:, 0]]
        noise = max(spread / TYPICAL_SPREAD_PX, 1.0)  # the worse the crossings, the stiffer
        surface = flat + _thin_plate(nodes, bend, pull, stiffness=noise * stiffness)
        off = np.linalg.norm(xy - surface[node[:, 1], node[:, 0]], axis=1)
        spread = max(float(np.median(off)), 0.05)
        trust = np.clip(1 - (off / (6 * spread)) ** 2, 0, 1) ** 2  # Tukey's weights
    kept = np.zeros(len(peaks.indexed), bool)
    kept[np.flatnonzero(peaks.indexed)[trust > 0]] = True
    return surface, kept


def _spread_px(surface: Float64, peaks: Peaks, kept: Bools) -> float:
    """Return the RMS distance of the crossings kept from the surface, norm px."""
    columns, rows = peaks.node[kept].T
    off = peaks.xy_px[kept] - surface[rows, columns]
    return float(np.sqrt((off**2).sum(axis=1).mean()))


def fit_flat(peaks: Peaks, *, scale_px: float = 1.0) -> tuple[Float64, Peaks, Bools] | None:
    """Fit nothing but a homography, to the peaks nearest the places stage 0 expects.

    For sheets whose 5 mm lines do not stand out: many peaks are then off by a line of the 1 mm
    grid, to either side, but those that agree outvote them, and such pages are mostly renders.

    Args:
        peaks: Peaks, indexed or not.
        scale_px: Distance from which a peak counts little (Cauchy's weights), norm px.

    Returns:
        surface (44, 57, 2) norm px, the peaks indexed anew, (n,) those within 2 px of it; None if
        those are fewer than 60.
    """
    squares = NORM.mm_from_px(peaks.xy_px) / SQUARE_MM
    node = np.rint(squares).astype(np.int64)
    near: Bools = np.all((node >= 0) & (node <= _LAST) & (np.abs(squares - node) < 0.4), axis=1)
    if near.sum() < MIN_CROSSINGS:
        return None
    nodes, seen = node[near], peaks.xy_px[near]
    trust = np.ones(len(nodes))
    for _ in range(8):
        fit = geometry.fit_homography(SQUARE_MM * nodes, seen, weights=peaks.weight[near] * trust)
        off = np.linalg.norm(seen - geometry.apply_homography(fit, SQUARE_MM * nodes), axis=1)
        trust = 1 / (1 + (off / scale_px) ** 2)
    kept: Bools = np.zeros(len(near), np.bool_)
    kept[np.flatnonzero(near)[off < 2.0]] = True
    if kept.sum() < MIN_CROSSINGS:
        return None
    surface = geometry.apply_homography(fit, crossings_mm())
    return surface, Peaks(peaks.xy_px, peaks.weight, node, kept), kept


def _thin_plate(node: Ints, bend_px: Float64, weight: Float64, *, stiffness: float) -> Float64:
    """Return the (44, 57, 2) field that follows (n, 2) bends at nodes and itself bends little."""
    unknown = node[:, 0] * GRID_ROWS + node[:, 1]  # column by column, so that 88 bands suffice
    bands = stiffness * _bending_bands()
    field = np.zeros((GRID_ROWS * GRID_COLUMNS, 2))
    bands[:, 0] += TETHER
    np.add.at(bands[:, 0], unknown, weight)
    np.add.at(field, unknown, weight[:, None] * bend_px)
    solve_banded(bands, field)
    return field.reshape(GRID_COLUMNS, GRID_ROWS, 2).swapaxes(0, 1)


@cache
def _bending_bands() -> Float64:
    """Return the lower bands of the sum of squared second differences: see ``solve_banded``."""
    along = {}
    for n in (GRID_ROWS, GRID_COLUMNS):
        first = sparse.diags([-1.0, 1.0], [0, 1], shape=(n - 1, n))
        second = sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(n - 2, n))
        along[n] = (sparse.identity(n), first.T @ first, second.T @ second)
    across, down = along[GRID_COLUMNS], along[GRID_ROWS]
    energy = sparse.kron(across[0], down[2]) + sparse.kron(across[2], down[0])
    energy += 2 * sparse.kron(across[1], down[1])
    bands = np.zeros((energy.shape[0], 2 * GRID_ROWS + 1))
    for k in range(bands.shape[1]):
        bands[: len(bands) - k, k] = energy.diagonal(-k)
    return bands


@njit(nogil=True, cache=True)
def solve_banded(bands: Float64, right: Float64) -> None:
    """Solve a positive definite banded system in place by Cholesky factors.

    LAPACK's ``pbsv`` does the same in 2 ms on a quiet machine; but its BLAS threads fight with
    everybody else's, which cost 50 to 1000 ms on two busy cores. This takes 2 ms on one.

    Args:
        bands: (n, w + 1) float64, element (j, k) is A[j + k, j]; overwritten by the factor.
        right: (n, m) float64 right sides; overwritten by the solutions.
    """
    n, width = bands.shape[0], bands.shape[1] - 1
    for j in range(n):
        reach = min(width, n - 1 - j)
        pivot = np.sqrt(bands[j, 0])
        for k in range(reach + 1):
            bands[j, k] /= pivot
        for k in range(1, reach + 1):
            factor = bands[j, k]
            if factor != 0.0:
                for i in range(reach - k + 1):
                    bands[j + k, i] -= factor * bands[j, k + i]
        for c in range(right.shape[1]):
            right[j, c] /= pivot
            for k in range(1, reach + 1):
                right[j + k, c] -= bands[j, k] * right[j, c]
    for j in range(n - 1, -1, -1):
        for c in range(right.shape[1]):
            for k in range(1, min(width, n - 1 - j) + 1):
                right[j, c] -= bands[j, k] * right[j + k, c]
            right[j, c] /= bands[j, 0]


def is_regular(surface: Float64) -> bool:
    """Say whether every square is roughly a square: no folds, half to double the nominal pitch."""
    across = np.diff(surface, axis=1)[..., 0] / PITCH_PX
    down = np.diff(surface, axis=0)[..., 1] / PITCH_PX
    return bool(min(across.min(), down.min()) > 0.5 and max(across.max(), down.max()) < 2)


def is_chance(surface: Float64, peaks: Peaks, kept: Bools) -> bool:
    """Say whether the surface rests on too few peaks, or on peaks that fit it only by chance.

    Peaks strewn at random, as on paper with a plain 1 mm grid, scatter by 3 px (median) about the
    nodes that take them in, and most fit no node at all.
    """
    if kept.sum() < MIN_CROSSINGS:
        return True
    columns, rows = peaks.node[kept].T
    off = np.linalg.norm(peaks.xy_px[kept] - surface[rows, columns], axis=1)
    return bool(np.median(off) > 2.0 and kept.sum() < 0.5 * len(kept))
