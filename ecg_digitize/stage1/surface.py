"""A surface through indexed crossings: a homography and a thin plate on top.

Positions are norm px in xy order; nodes are (column, row) of the lattice.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ecg_digitize import geometry
from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, NORM, SQUARE_MM, crossings_mm
from ecg_digitize.jit import compiled
from ecg_digitize.layout import COMPETITION
from ecg_digitize.types import Float64

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

MIN_CROSSINGS: Final = 60
PITCH_PX: Final = SQUARE_MM * NORM.px_per_mm_xy[0]
NAME_NODES: Final = np.rint(COMPETITION.names_mm / SQUARE_MM).astype(np.int64)
NAME_WEIGHT: Final = 0.05
"""The start homography at the names, off by 5 px, against a crossing, off by 0.3 px."""

TYPICAL_SPREAD_PX: Final = 0.3
"""Median distance of good crossings from the surface."""

TETHER: Final = 1e-4
"""Weight that draws the bend to zero where nothing was seen: it fades over ten squares or so."""

RIGID: Final = 5e4
"""Stiffness at which nothing bends: a homography is left."""

SHAPE: Final = (GRID_ROWS, GRID_COLUMNS)
LAST_NODE: Final = np.array([GRID_COLUMNS - 1, GRID_ROWS - 1])


@dataclass(frozen=True)
class Peaks:
    """Crossings seen in the heatmap, and where they belong."""

    xy_px: Float64  # (n, 2) norm px
    weight: Float64  # (n,) peak probability in (0, 1]
    node: Ints  # (n, 2) column and row; meaningless where not indexed
    indexed: Bools  # (n,)


def fit_sheet(peaks: Peaks, *, stiffness: float) -> tuple[Float64, Bools]:
    """Fit a soft surface, the stiffer the more it folds.

    Args:
        peaks: The indexed peaks.
        stiffness: Of the soft surface, see ``fit_grid``.

    Returns:
        As fit_surface.
    """
    fits = (fit_surface(peaks, stiffness=stiffness * stiffer) for stiffer in (1, 30, 1000))
    regular = next((fit for fit in fits if is_regular(fit[0])), None)
    return fit_surface(peaks, stiffness=RIGID) if regular is None else regular


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


def smooth_bend(bend: Float64, weight: Float64, *, stiffness: float, rounds: int = 4) -> Float64:
    """Smooth a field of bends over the lattice, leaving outliers out.

    Args:
        bend: (44, 57, 2) offsets of the nodes, any unit.
        weight: (44, 57) of the nodes, relative.
        stiffness: Weight of the squared second differences against a node of middling weight.
        rounds: Re-weightings.

    Returns:
        (44, 57, 2) smooth field.
    """
    pull, trust = weight / max(float(np.median(weight)), 1e-9), np.ones(weight.shape)
    for _ in range(rounds):
        smooth = bend_along(bend, pull * trust, stiffness=stiffness)
        off = np.linalg.norm(bend - smooth, axis=-1)
        trust = np.clip(1 - (off / (6 * max(float(np.median(off)), 1e-9))) ** 2, 0, 1) ** 2
    return smooth


def bend_along(bend: Float64, weight: Float64, *, stiffness: float, repeats: int = 1) -> Float64:
    """Smooth a field of bends over the lattice, outliers and all.

    Args:
        bend: (44, 57, 2) offsets of the nodes, any unit.
        weight: (44, 57) of the nodes.
        stiffness: Weight of the squared second differences against a node of weight 1.
        repeats: What a smooth field leaves is smoothed and added, so often in all.

    Returns:
        (44, 57, 2) smooth field.
    """
    rows, columns = np.mgrid[0:GRID_ROWS, 0:GRID_COLUMNS]
    node = np.column_stack([columns.ravel(), rows.ravel()])
    return _thin_plate(
        node, bend.reshape(-1, 2), weight.ravel(), stiffness=stiffness, repeats=repeats
    )


def spread_px(surface: Float64, peaks: Peaks, kept: Bools) -> float:
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
    near: Bools = np.all((node >= 0) & (node <= LAST_NODE) & (np.abs(squares - node) < 0.4), axis=1)
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


def _thin_plate(
    node: Ints, bend_px: Float64, weight: Float64, *, stiffness: float, repeats: int = 1
) -> Float64:
    """Return the (44, 57, 2) field that follows (n, 2) bends at nodes and itself bends little."""
    unknown = node[:, 0] * GRID_ROWS + node[:, 1]  # column by column, so that 88 bands suffice
    factor, n = stiffness * _bending_bands(), GRID_ROWS * GRID_COLUMNS
    factor[:, 0] += TETHER
    factor[:, 0] += np.bincount(unknown, weight, n)  # np.add.at takes 20 times as long
    factor_banded(factor)
    field = np.zeros((2, n))
    for _ in range(repeats):
        left_px = bend_px.T - field[:, unknown]
        pulled = np.array([np.bincount(unknown, weight * along, n) for along in left_px])
        solve_factored(factor, pulled)
        field += pulled
    return field.reshape(2, GRID_COLUMNS, GRID_ROWS).transpose(2, 1, 0)


@cache
def _bending_bands() -> Float64:
    """Return the lower bands of the sum of squared second differences: see ``factor_banded``."""
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


@compiled
def factor_banded(bands: Float64) -> None:
    """Replace a positive definite banded matrix by its Cholesky factor.

    LAPACK's ``pbtrf`` does the same in 1.5 ms on a quiet machine; but its BLAS threads fight with
    everybody else's, which cost 50 to 1000 ms on two busy cores. This takes 1.5 ms on one. Columns
    are taken off the rest by twos: each element is then read and written half as often.

    Args:
        bands: (n, w + 1) float64, element (j, k) is A[j + k, j].
    """
    n, width = bands.shape[0], bands.shape[1] - 1
    first, second = np.zeros(width + 2), np.zeros(width + 2)
    for j in range(0, n, 2):
        last = min(width + 1, n - 1 - j)  # rows below j that either column reaches
        pivot = np.sqrt(bands[j, 0])
        for k in range(min(width, last) + 1):
            bands[j, k] /= pivot
            first[k] = bands[j, k]
        if last == 0:
            break
        for k in range(min(width, last)):
            bands[j + 1, k] -= first[1] * first[k + 1]
        pivot = np.sqrt(bands[j + 1, 0])
        for k in range(last):
            bands[j + 1, k] /= pivot
            second[k + 1] = bands[j + 1, k]
        for k in range(2, last + 1):
            row, one, other = bands[j + k, : last - k + 1], first[k:], second[k:]
            of_one, of_other = one[0], other[0]
            for i in range(row.size):
                row[i] -= of_one * one[i] + of_other * other[i]


@compiled
def solve_factored(factor: Float64, right: Float64) -> None:
    """Solve a banded system in place, see ``factor_banded``.

    Args:
        factor: (n, w + 1) float64.
        right: (m, n) float64 right sides; overwritten by the solutions.
    """
    n, width = factor.shape[0], factor.shape[1] - 1
    for side in range(right.shape[0]):
        x = right[side]  # in one piece, as numba does not know of what it iterates over
        for j in range(n):
            x[j] /= factor[j, 0]
            for k in range(1, min(width, n - 1 - j) + 1):
                x[j + k] -= factor[j, k] * x[j]
        for j in range(n - 1, -1, -1):
            reach = min(width, n - 1 - j) + 1
            x[j] -= np.dot(factor[j, 1:reach], x[j + 1 : j + reach])
            x[j] /= factor[j, 0]


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
