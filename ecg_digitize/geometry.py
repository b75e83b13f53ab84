"""Homographies and grid meshes: every map has an inverse and a round-trip test.

Pixel centres are integers, said once, here: the centre of the first pixel is (0, 0), a picture of
width W spans [-0.5, W - 0.5], and a point of a picture resized by s moves as

    x_dst = (x_src + 0.5) * s - 0.5

This is what ``cv2.resize`` and torch's ``align_corners=False`` do (``grid_sample`` wants
(2 * x + 1) / W - 1); ``align_corners=True`` is used nowhere. A map is named ``dst_from_src``.

A *table* is the (44, 57, 2) xy of the 5 mm crossings in some pixel frame. Between crossings it is
read as the interpolating bicubic B-spline of its 44 x 57 nodes, beyond its edge as the straight
continuation; one or two squares of that are what the frames need.
"""

from functools import cache, lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline, make_interp_spline

from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, SQUARE_MM, Frame, crossings_mm
from ecg_digitize.types import Float32, Float64

MAX_CONSENSUS_POINTS = 16
"""All quadruples of 16 points are 1820 small systems, solved at once in about 5 ms."""


# --------------------------------------------------------------------------- homographies
def apply_homography(dst_from_src: Float64, xy: ArrayLike) -> Float64:
    """Map points.

    Args:
        dst_from_src: (3, 3), or (n, 3, 3) to map each of n homographies' points.
        xy: (..., 2) points of the source frame.

    Returns:
        (..., 2) float64 points of the target frame; for n homographies (n, m, 2) from (m, 2).
    """
    xy = np.asarray(xy, np.float64)
    h = np.asarray(dst_from_src, np.float64)
    projected = xy @ np.swapaxes(h[..., :2], -1, -2) + h[..., None, :, 2]
    if h.ndim == 2:
        projected = projected.reshape(*xy.shape[:-1], 3)
    mapped: Float64 = projected[..., :2] / projected[..., 2:]
    return mapped


def jacobian(dst_from_src: Float64, xy: ArrayLike) -> Float64:
    """Return the (2, 2) derivative of a homography at one point: columns d/dx and d/dy."""
    px, py = np.asarray(xy, np.float64)
    x, y, w = dst_from_src @ np.array([px, py, 1.0])
    outer = np.outer(np.array([x, y]) / w, dst_from_src[2, :2])
    derivative: Float64 = (dst_from_src[:2, :2] - outer) / w
    return derivative


def scaling(scale_xy: tuple[float, float]) -> Float64:
    """Return dst_from_src (3, 3) of a resize by (sx, sy), pixel centre to pixel centre."""
    sx, sy = scale_xy
    return np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1.0]])


def resizing(src_size_px: tuple[int, int], dst_size_px: tuple[int, int]) -> Float64:
    """Return dst_from_src (3, 3) of ``cv2.resize`` between two (width, height) sizes."""
    return scaling((dst_size_px[0] / src_size_px[0], dst_size_px[1] / src_size_px[1]))


def quarter_turning(turns: int, size_px: tuple[int, int]) -> Float64:
    """Return turned_from_page (3, 3) of ``np.rot90(page, turns)``.

    Args:
        turns: Counter-clockwise quarter turns; any integer.
        size_px: (width, height) of the page *before* turning.
    """
    right, bottom = size_px[0] - 1.0, size_px[1] - 1.0
    rows: dict[int, list[list[float]]] = {
        0: [[1, 0, 0], [0, 1, 0]],
        1: [[0, 1, 0], [-1, 0, right]],
        2: [[-1, 0, right], [0, -1, bottom]],
        3: [[0, -1, bottom], [1, 0, 0]],
    }
    return np.array([*rows[turns % 4], [0, 0, 1]])


def frame_from_sheet(frame: Frame) -> Float64:
    """Return the (3, 3) map from sheet mm to px of a frame."""
    (sx, sy), (x0, y0) = frame.px_per_mm_xy, frame.origin_mm_xy
    return np.array([[sx, 0, -x0 * sx], [0, sy, -y0 * sy], [0, 0, 1.0]])


def fit_homography(src: ArrayLike, dst: ArrayLike, *, weights: ArrayLike | None = None) -> Float64:
    """Fit a homography to four or more pairs: direct linear transform, least squares.

    The points are normalised to zero mean and unit spread first, and one re-weighting turns the
    algebraic residual into (nearly) the distance in the target frame.

    Args:
        src: (n, 2) points, n >= 4.
        dst: (n, 2) where they go.
        weights: (n,) >= 0, on the squared distance; equal if None.

    Returns:
        dst_from_src (3, 3) with bottom right element 1.

    Raises:
        ValueError: Fewer than four pairs count, or the points are degenerate.
    """
    src, dst = np.asarray(src, np.float64), np.asarray(dst, np.float64)
    w = np.ones(len(src)) if weights is None else np.asarray(weights, np.float64)
    if np.count_nonzero(w > 0) < 4:
        raise ValueError(f"a homography needs 4 weighted pairs, but got {np.count_nonzero(w > 0)}")
    to_src, to_dst = _normalising(src, w), _normalising(dst, w)
    a, b = apply_homography(to_src, src), apply_homography(to_dst, dst)
    # A pair has the rows (p, 0, -bx p) and (0, p, -by p), p = (ax, ay, 1): the normal equations are
    # made of sums of products of p with itself, as they are and times bx, by and bx^2 + by^2.
    p = np.stack([*a.T, np.ones(len(a))])
    products = (p[:, None] * p).reshape(9, -1).T
    factors = np.stack([np.ones(len(a)), -b[:, 0], -b[:, 1], (b**2).sum(axis=1)])
    pull, nil = w, np.zeros((3, 3))
    for _ in range(2):
        plain, by_x, by_y, by_both = ((factors * pull) @ products).reshape(4, 3, 3)
        system = np.block([[plain, nil, by_x], [nil, plain, by_y], [by_x, by_y, by_both]])
        # Normalised points keep the 9 x 9 normal equations exact enough: 1e-8 of the picture.
        powers, vectors = np.linalg.eigh(system)
        h = vectors[:, 0].reshape(3, 3)
        depth = np.abs(h[2] @ p)
        pull = w / np.maximum(depth, 1e-3 * depth.max()) ** 2
    if powers[1] < 1e-12 * powers[-1]:
        raise ValueError("the points are degenerate (nearly all on one line): no homography")
    h = np.linalg.inv(to_dst) @ h @ to_src
    return np.asarray(h / h[2, 2])


def fit_affine(src: ArrayLike, dst: ArrayLike, *, weights: ArrayLike | None = None) -> Float64:
    """Fit an affine map to three or more pairs by least squares; a (3, 3) dst_from_src."""
    src, dst = np.asarray(src, np.float64), np.asarray(dst, np.float64)
    root = np.ones(len(src)) if weights is None else np.sqrt(np.asarray(weights, np.float64))
    design = np.column_stack([src, np.ones(len(src))]) * root[:, None]
    solution, *_ = np.linalg.lstsq(design, dst * root[:, None], rcond=None)
    return np.vstack([solution.T, [0, 0, 1]])


def fit_similarity(src: ArrayLike, dst: ArrayLike, *, weights: ArrayLike | None = None) -> Float64:
    """Fit scale, rotation and shift to two or more pairs (never mirrored); a (3, 3) map."""
    src, dst = np.asarray(src, np.float64), np.asarray(dst, np.float64)
    w = np.ones(len(src)) if weights is None else np.asarray(weights, np.float64)
    mean_src, mean_dst = np.average(src, 0, w), np.average(dst, 0, w)
    z, v = (src - mean_src) @ [1, 1j], (dst - mean_dst) @ [1, 1j]
    turn = np.sum(w * np.conj(z) * v) / np.sum(w * np.abs(z) ** 2)
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    shift = mean_dst - linear @ mean_src
    return np.array([[*linear[0], shift[0]], [*linear[1], shift[1]], [0, 0, 1]])


def candidate_homographies(src: ArrayLike, dst: ArrayLike) -> Float64:
    """Return the homographies through every quadruple of few points, for a consensus search.

    With at most 16 points all quadruples are cheaper than sampling, and nothing is random. A
    quadruple counts if none of its four triangles is flat and all keep their sense of rotation,
    which leaves out mirrored maps and those with the horizon between the points.

    Args:
        src: (n, 2) points, n <= 16.
        dst: (n, 2) where they go.

    Returns:
        (m, 3, 3) dst_from_src; m may be 0.

    Raises:
        ValueError: More than 16 points.
    """
    src, dst = np.asarray(src, np.float64), np.asarray(dst, np.float64)
    if len(src) > MAX_CONSENSUS_POINTS:
        raise ValueError(f"at most {MAX_CONSENSUS_POINTS} points, but got {len(src)}")
    if len(src) < 4:
        return np.empty((0, 3, 3))
    to_src, to_dst = _normalising(src), _normalising(dst)
    four = np.array(list(combinations(range(len(src)), 4)))
    a, b = apply_homography(to_src, src)[four], apply_homography(to_dst, dst)[four]
    area_a, area_b = _triangle_areas(a), _triangle_areas(b)
    flat = np.minimum(np.abs(area_a), np.abs(area_b)).min(axis=1) < 0.02
    sound = ~flat & (area_a * area_b > 0).all(axis=1)
    a, b = a[sound], b[sound]
    system = np.zeros((len(a), 8, 8))
    for axis in (0, 1):
        rows = slice(4 * axis, 4 * axis + 4)
        system[:, rows, 3 * axis : 3 * axis + 2] = a
        system[:, rows, 3 * axis + 2] = 1
        system[:, rows, 6:] = -b[..., axis, None] * a
    right = np.concatenate([b[..., 0], b[..., 1]], axis=1)[..., None]
    solution = np.linalg.solve(system, right)[..., 0]
    h = np.concatenate([solution, np.ones((len(a), 1))], axis=1).reshape(-1, 3, 3)
    h = np.linalg.inv(to_dst) @ h @ to_src
    return np.asarray(h / h[:, 2:, 2:])


def _normalising(xy: Float64, weights: Float64 | None = None) -> Float64:
    """Return the (3, 3) map that gives weighted points zero mean and unit spread."""
    mean = np.average(xy, axis=0, weights=weights)
    spread = np.sqrt(np.average(((xy - mean) ** 2).sum(1), weights=weights) / 2)
    s = 1 / max(float(spread), 1e-12)
    x0, y0 = s * np.asarray(mean)
    return np.array([[s, 0, -x0], [0, s, -y0], [0, 0, 1]])


def _triangle_areas(four_xy: Float64) -> Float64:
    """Return twice the signed areas (n, 4) of the triangles of (n, 4, 2) quadruples."""
    p, q, r = (four_xy[:, list(k)] for k in ((0, 0, 0, 1), (1, 1, 2, 2), (2, 3, 3, 3)))
    u, v = q - p, r - p
    return np.asarray(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])


# ------------------------------------------------------------------------------- meshes
def mesh_maps(table_xy_px: NDArray[np.floating], frame: Frame) -> tuple[Float32, Float32]:
    """Say for every pixel of a frame where it lies in the picture, ready for ``cv2.remap``.

    Args:
        table_xy_px: (44, 57, 2) page px of the crossings.
        frame: What to rasterise, H x W.

    Returns:
        map_x, map_y: (H, W) float32, page px.
    """
    (scale_x, scale_y), (x0, y0) = frame.px_per_mm_xy, frame.origin_mm_xy
    across = _pixels_matrix(GRID_COLUMNS, frame.width_px, scale_x, x0).T.astype(np.float32)
    down = _pixels_matrix(GRID_ROWS, frame.height_px, scale_y, y0)
    centre = table_xy_px.reshape(-1, 2).mean(axis=0)  # keeps float32 products exact to 1e-3 px
    left = [(down @ (table_xy_px[..., k] - centre[k])).astype(np.float32) for k in (0, 1)]
    map_x, map_y = (one @ across for one in left)
    map_x += np.float32(centre[0])
    map_y += np.float32(centre[1])
    return map_x, map_y


def page_from_sheet(table_xy_px: NDArray[np.floating], xy_mm: ArrayLike) -> Float64:
    """Map sheet points to the picture through the table.

    Args:
        table_xy_px: (44, 57, 2) page px of the crossings.
        xy_mm: (..., 2) sheet points, mm; best fewer than 100,000.

    Returns:
        (..., 2) float64 page px.
    """
    xy_mm = np.asarray(xy_mm, np.float64)
    return _evaluate(table_xy_px, xy_mm.reshape(-1, 2)).reshape(xy_mm.shape)


def sheet_from_page(
    table_xy_px: NDArray[np.floating], xy_px: ArrayLike, *, tolerance_px: float = 1e-3
) -> Float64:
    """Invert ``page_from_sheet`` by Newton's method from the best homography.

    Args:
        table_xy_px: (44, 57, 2) page px of the crossings.
        xy_px: (..., 2) page points, px.
        tolerance_px: How exactly ``page_from_sheet`` of the answer must meet the point.

    Returns:
        (..., 2) float64 sheet mm; NaN where no answer was found, far outside the sheet.
    """
    xy_px = np.asarray(xy_px, np.float64)
    goal = xy_px.reshape(-1, 2)
    start = fit_homography(table_xy_px.reshape(-1, 2), crossings_mm().reshape(-1, 2))
    xy_mm = apply_homography(start, goal)
    for _ in range(12):
        off = goal - _evaluate(table_xy_px, xy_mm)
        if np.abs(off).max(initial=0) < 0.1 * tolerance_px:
            break
        slope = np.stack([_evaluate(table_xy_px, xy_mm, along=k) for k in (0, 1)], axis=-1)
        determinant = np.linalg.det(slope)
        slope[np.abs(determinant) < 1e-9] = np.eye(2)
        step = np.linalg.solve(slope, off[..., None])[..., 0]
        xy_mm += np.clip(step, -4 * SQUARE_MM, 4 * SQUARE_MM)
    off = np.abs(goal - _evaluate(table_xy_px, xy_mm)).max(axis=-1)
    xy_mm[~(off < tolerance_px)] = np.nan
    return xy_mm.reshape(xy_px.shape)


def _evaluate(
    table_xy_px: NDArray[np.floating], xy_mm: Float64, *, along: int | None = None
) -> Float64:
    """Evaluate the spline at (n, 2) mm, or its derivative along x (0) or y (1), px per mm."""
    u = xy_mm / SQUARE_MM
    across = _spline_matrix(GRID_COLUMNS, u[:, 0], slope=along == 0)
    down = _spline_matrix(GRID_ROWS, u[:, 1], slope=along == 1)
    rows = (down @ table_xy_px.reshape(GRID_ROWS, -1)).reshape(-1, GRID_COLUMNS, 2)
    value: Float64 = np.einsum("nj,njc->nc", across, rows)
    return value if along is None else value / SQUARE_MM


@cache
def _cardinal_splines(n: int) -> tuple[BSpline, BSpline]:
    """Return the cubic spline through n unit vectors at 0..n-1 (not-a-knot) and its slope."""
    spline = make_interp_spline(np.arange(n), np.eye(n), k=3)
    return spline, spline.derivative()


@lru_cache(maxsize=64)  # a page looks through some frames ten times, and the next page again
def _pixels_matrix(n: int, n_px: int, px_per_mm: float, origin_mm: float) -> Float64:
    """Return the spline matrix of the pixels along one side of a frame."""
    return _spline_matrix(n, (np.arange(n_px) / px_per_mm + origin_mm) / SQUARE_MM)


def _spline_matrix(n: int, at: Float64, *, slope: bool = False) -> Float64:
    """Return the (len(at), n) matrix from n node values to the spline (or its slope) there."""
    value_of, slope_of = _cardinal_splines(n)
    inside = np.clip(at, 0, n - 1)
    if slope:
        return np.asarray(slope_of(inside))
    beyond = (at - inside)[:, None]
    matrix = value_of(inside)
    if np.any(beyond):
        matrix = matrix + beyond * slope_of(inside)
    return np.asarray(matrix)
