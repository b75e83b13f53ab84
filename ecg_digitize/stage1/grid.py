"""From a heatmap of grid crossings to the whole mesh: find, index, smooth.

Peaks are found with float centroids, given their row and column by growing outward from the lead
names, where stage 0 is good to half a square, and smoothed by surface.py, which also fills holes
and goes on, nearly straight, where nothing was found.

Positions are norm px in xy order unless a name says otherwise; *squares* are lattice units in the
same order: (column, row).
"""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from ecg_digitize import geometry
from ecg_digitize.frames import GRID_COLUMNS, NORM, SQUARE_MM, crossings_mm
from ecg_digitize.stage1.surface import (
    LAST_NODE,
    MIN_CROSSINGS,
    SHAPE,
    Bools,
    Ints,
    Peaks,
    fit_flat,
    fit_sheet,
    fit_surface,
    is_chance,
    is_regular,
    spread_px,
)
from ecg_digitize.types import Float32, Float64, GridMap

NAMED_ROWS: Final = (17, 41)
"""Rows among the lead names: there the start homography is half a square off at most."""

MAX_ISLANDS: Final = 4
TRUSTED_SPREAD_PX: Final = 1.2
"""RMS distance of the crossings from their surface beyond which they are no crossings but a jumble
of 1 mm lines, 4 px apart: the grid has one weight for all lines. On others it is 0.3 px."""


def fit_grid(
    crossing_probability: Float32,
    *,
    page_from_norm: Callable[[Float64], Float64],
    threshold: float = 0.1,
    stiffness: float = 0.5,
) -> GridMap:
    """Find the 5 mm crossings of the sheet in the picture.

    Args:
        crossing_probability: (896, 1152) float32 in [0, 1], norm frame.
        page_from_norm: Maps (..., 2) norm px to page px.
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
            and spread_px(surface, peaks, kept) < TRUSTED_SPREAD_PX
        ):
            return _grid_map(surface, peaks, kept, page_from_norm)
        flat = fit_flat(peaks)
        if flat is not None:
            return _grid_map(*flat, page_from_norm)
    return _unseen(page_from_norm(NORM.px_from_mm(crossings_mm())))


def unseen_grid(page_from_sheet: Float64) -> GridMap:
    """Return the crossings where a homography puts them, of which nothing was seen."""
    return _unseen(geometry.apply_homography(page_from_sheet, crossings_mm()))


def _unseen(crossings_xy_px: Float64) -> GridMap:
    return GridMap(crossings_xy_px.astype(np.float32), np.zeros(SHAPE, np.float32), float("inf"))


def _grid_map(
    surface: Float64, peaks: Peaks, kept: Bools, page_from_norm: Callable[[Float64], Float64]
) -> GridMap:
    """Carry the surface to the page, with the confidence of the crossings it rests on."""
    crossings = page_from_norm(surface)
    columns, rows = peaks.node[kept].T
    confidence = np.zeros(SHAPE, np.float32)
    confidence[rows, columns] = peaks.weight[kept]
    seen = page_from_norm(peaks.xy_px[kept])
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
    free = np.ones(SHAPE, bool)
    free[peaks.node[peaks.indexed, 1], peaks.node[peaks.indexed, 0]] = False
    fits = (off < tolerance) & ((node >= 0) & (node <= LAST_NODE)).all(axis=1)
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
