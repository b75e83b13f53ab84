"""The crossings, refined on the original pixels by the phase of the printed 1 mm lines.

The network's crossings are good to 0.1 mm, and on paper whose lines all weigh the same it takes a
1 mm line for a 5 mm one. The paper tells more (phase.py): on flat renders its lines leave 0.005 mm.
They cannot tell a shift by a whole millimetre: the crossings decide that, and where those are wrong
in some part of the sheet, the way there from another (unwrap.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ecg_digitize import geometry
from ecg_digitize.frames import SQUARE_MM, crossings_mm
from ecg_digitize.runtime import side_by_side
from ecg_digitize.stage1.feed import find_feed
from ecg_digitize.stage1.phase import CHANCE_MM, Phases, measure_lines, residuals_mm
from ecg_digitize.stage1.surface import Bools, smooth_bend
from ecg_digitize.stage1.unwrap import right_part, unwrap
from ecg_digitize.types import Float32, Float64, GridMap, Image

TRUSTED_MM: Final = 0.25
"""Phases beyond this are near the half millimetre where they wrap round."""
LEAST_CONTRAST: Final = 0.05  # grey levels of the harmonic; scans of faint paper have 5
LEAST_SHARE: Final = 0.6
"""Share of the crossings among the traces with trusted phases that a surface needs; the true one
has as few as 0.7 where specks hide the lines, surfaces off by whole millimetres 0.3 to 0.6."""
SIMPLER: Final = 0.89
"""Share of a simpler surface's scatter that another must stay below; nets cast over the noise stay
at 0.9 to 1, true slips and creases at 0.4 to 0.885."""
SMOOTHER: Final = (10.0, 1.0)
"""Stiffnesses of surfaces through the crossings that take the place of the one found."""
LOCALLY: Final = 1.1
"""Square of the scatter about the best surface at a place that a simpler one may reach there."""
BLEND_NODES: Final = (2.0, 1.5)  # sigma of the scatter, and of the seams between surfaces
FLAT_BEND: Final = 0.3
"""Of the phases' scatter: a sheet that bends less is flat. Exactly flat renders seem to bend by
0.05 to 0.2 of it, paper on scanners by 0.35 to 4 times it."""
OUTLIER_MM: Final = 0.15
STIFFNESS: Final = 10.0
"""Of the soft surface through the phases, see ``surface.smooth_bend``."""
ROUNDS: Final = (3, 2)
"""Re-weightings of the phases, and of what their surface leaves."""
ALL_RIGHT: Final = 0.98
"""Share of the crossings that are right from which on a surface needs no more following."""
FED_STIFFNESS: Final = 1e3
FED_SHARE: Final = 0.8
"""Whole columns move together if that leaves less than this share of their offsets."""

Area = tuple[slice, slice]
"""Rows and columns of crossings."""
AMONG_TRACES: Final[Area] = (slice(12, 42), slice(3, 54))
"""Where the competition's sheet has its traces."""
SURE_SHARE: Final = 0.9
"""Share of the crossings with trusted phases that the homography of any sheet needs. Where panels
have paper without lines between them, wrong ones reach 0.77. Scans of whole sheets have 0.99."""


def refine_grid(
    image: Image, grid: GridMap, *, page_from_sheet: Float64, outward: bool = True
) -> GridMap:
    """Refine the crossings on the picture they were found in.

    Homographies are tried first, since most sheets are nearly flat and they need to be right only
    to a quarter of a millimetre: the one nearest to the grid, and the one that stage 0 read off
    the names, which is the better one where all lines look the same. Then come a homography with a
    slipping feed, and the surface as found. That one follows the noise of the crossings, so that
    smoother ones take its place wherever the lines allow it; and where it is wrong the lines are
    followed outward from where it is right.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        grid: What was found there.
        page_from_sheet: (3, 3) homography of stage 0, sheet mm to page px.
        outward: Follow the lines; what it is worth is in docs/ablation.md.

    Returns:
        The refined crossings, with the feed if there is one, and how far to trust them; the grid
        as it was if the paper shows no lines that agree with it.
    """
    if not np.isfinite(grid.residual_px):
        return grid
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    best: _Led | None = None
    for led, phases in _bases(grey, grid, page_from_sheet):
        if led.share < LEAST_SHARE or (best and led.scatter_mm >= SIMPLER * best.scatter_mm):
            continue
        if led.base is not grid and led.bend_mm < FLAT_BEND * led.scatter_mm:
            return _judged(led.base, phases)
        best = led
    if best is None:
        return grid
    bent = best.base is grid
    surface = _smoothest(grey, best) if bent else best.surface
    judged = _judged(surface, measure_lines(grey, surface))
    if bent and outward:
        judged = _followed_outward(grey, judged)
    return judged


def lead_flat(image: Image, grid: GridMap, *, among: Area) -> GridMap:
    """Lead the homography of a sheet of any layout on to its lines.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        grid: Crossings by a homography that is right to a quarter of a millimetre.
        among: Crossings that are seen.

    Returns:
        The grid as it was if the lines do not agree better with another.
    """
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    before_mm = _scatter_mm(measure_lines(grey, grid).offset_mm, among)
    flat, phases = _flattened(grey, grid)
    is_sure = _trusted_share(*phases, among) >= SURE_SHARE
    return flat if is_sure and _scatter_mm(phases.offset_mm, among) < before_mm else grid


def trusted_share(image: Image, grid: GridMap, *, among: Area) -> float:
    """Return the share of the crossings round which the printed lines lie where the grid has them.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        grid: Its crossings.
        among: Those that are asked.
    """
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    return _trusted_share(*measure_lines(grey, grid), among)


def _smoothest(grey: Image, led: "_Led") -> GridMap:
    """Smooth a surface wherever the lines allow it."""

    def smoother(stiffness: float) -> _Led:
        base = _smoothed(led.base, stiffness)
        return _lead_on(base, measure_lines(grey, base))

    return _simplest([*side_by_side(smoother, SMOOTHER), led])


def _followed_outward(grey: Image, judged: GridMap) -> GridMap:
    """Follow the lines from the crossings that are right to the others.

    What is right was smoothed by then, while steep strokes of the traces draw what is followed:
    only what phases alone could not mend is moved, and a seam around it.
    """
    right, seen = _right(judged), _seen(judged)
    if not right.any() or right[seen].mean() >= ALL_RIGHT:
        return judged
    unwrapped = unwrap(grey, judged)
    phases = measure_lines(grey, unwrapped)
    smooth = _smoothest(grey, _lead_on(_judged(unwrapped, phases), phases))
    moved_px = np.linalg.norm(smooth.crossings_xy_px - judged.crossings_xy_px, axis=-1)
    wrong = ~right & (moved_px > TRUSTED_MM * _px_per_mm(judged))
    share = np.clip(2 * gaussian_filter(wrong.astype(np.float64), BLEND_NODES[1]), 0, 1)
    points = judged.crossings_xy_px.astype(np.float64)
    points += share[..., None] * (smooth.crossings_xy_px - points)
    moved = replace(judged, crossings_xy_px=points.astype(np.float32))
    again = _judged(moved, measure_lines(grey, moved))
    return again if _right(again).sum() > right.sum() else judged


def _right(judged: GridMap) -> Bools:
    assert judged.residual_mm is not None
    return right_part(judged.residual_mm)


def _seen(judged: GridMap) -> Bools:
    assert judged.residual_mm is not None
    return np.asarray(judged.residual_mm < CHANCE_MM, np.bool_)


def _judged(grid: GridMap, phases: Phases) -> GridMap:
    """Add what the lines leave round each crossing, and the confidence that follows from it."""
    residual_mm = residuals_mm(*phases)
    confidence = np.clip(1 - residual_mm / CHANCE_MM, 0, 1)
    residual_px = _scatter_mm(phases.offset_mm) * _px_per_mm(grid)
    return replace(grid, residual_mm=residual_mm, confidence=confidence, residual_px=residual_px)


@dataclass(frozen=True)
class _Led:
    """Where the phases led a surface."""

    base: GridMap
    surface: GridMap
    bend_mm: float  # RMS of what led there
    left_mm: Float64  # (44, 57, 2) phases about the surface
    scatter_mm: float  # their RMS among the traces
    share: float  # of the phases that are small about it


def _lead_on(base: GridMap, phases: Phases) -> _Led:
    """Lead a surface on to the lines by its phases, smoothed, and again by what they leave."""
    led_mm = np.zeros_like(phases.offset_mm)
    for rounds in ROUNDS:
        bend_mm = smooth_bend(*phases, stiffness=STIFFNESS, rounds=rounds)
        if base.feed_px is not None:  # what moves whole columns is in the feed, to a millimetre
            stiff_mm = smooth_bend(*phases, stiffness=FED_STIFFNESS, rounds=rounds)
            bend_mm[..., 0] = stiff_mm[..., 0]
        led_mm += bend_mm
        phases = phases.after(bend_mm)
    points = geometry.page_from_sheet(base.crossings_xy_px, crossings_mm() + led_mm)
    return _Led(
        base,
        replace(base, crossings_xy_px=points.astype(np.float32)),
        bend_mm=_scatter_mm(led_mm - np.median(led_mm, axis=(0, 1))),
        left_mm=phases.offset_mm,
        scatter_mm=_scatter_mm(phases.offset_mm),
        share=_trusted_share(*phases),
    )


def _smoothed(grid: GridMap, stiffness: float) -> GridMap:
    """Return a smoother surface through the crossings of a grid."""
    trust = grid.confidence.astype(np.float64) + 1e-3
    flat = _crossings(_homography(grid.crossings_xy_px, trust))
    bend_px = (grid.crossings_xy_px - flat).astype(np.float64)
    smooth = flat + smooth_bend(bend_px, trust, stiffness=stiffness)
    return replace(grid, crossings_xy_px=smooth.astype(np.float32))


def _simplest(led: Sequence[_Led]) -> GridMap:
    """Take at each place the first surface about which phases scatter hardly more than the least.

    Args:
        led: The simplest first; none is taken where it lies on another line than the last.
    """
    squared = [np.minimum((one.left_mm**2).sum(axis=-1), OUTLIER_MM**2) for one in led]
    scatter = np.array([gaussian_filter(field, BLEND_NODES[0]) for field in squared])
    softest = led[-1].surface
    for field, one in zip(scatter, led, strict=True):
        apart_px = np.linalg.norm(one.surface.crossings_xy_px - softest.crossings_xy_px, axis=-1)
        field[apart_px > TRUSTED_MM * _px_per_mm(softest)] = np.inf  # on another line
    chosen = (scatter <= LOCALLY * scatter.min(axis=0)).argmax(axis=0)
    points = np.zeros((*chosen.shape, 2))
    for k, one in enumerate(led):
        share = gaussian_filter((chosen == k).astype(np.float64), BLEND_NODES[1])
        points += share[..., None] * one.surface.crossings_xy_px
    return replace(softest, crossings_xy_px=points.astype(np.float32))


def _trusted_share(offset_mm: Float64, weight: Float64, among: Area = AMONG_TRACES) -> float:
    """Return how many of the phases among the traces, where lines are seen, are small."""
    typical = float(np.median(weight[among]))
    if typical < LEAST_CONTRAST:
        return 0.0
    seen = weight[among] > 0.2 * typical
    small = np.abs(offset_mm[among]).max(axis=-1) < TRUSTED_MM
    return float(small[seen].mean())


def _scatter_mm(offset_mm: Float64, among: Area = AMONG_TRACES) -> float:
    """Return the RMS length of the offsets among the traces, each counted to OUTLIER_MM at most."""
    length = np.linalg.norm(offset_mm[among], axis=-1)
    return float(np.sqrt(np.mean(np.minimum(length, OUTLIER_MM) ** 2)))


def _linear(grid: GridMap) -> Float64:
    """Return the (2, 2) derivative of page px by sheet mm in the middle of the traces."""
    middle = grid.crossings_xy_px[27, 28].astype(np.float64)
    across = (grid.crossings_xy_px[27, 29] - middle) / SQUARE_MM
    down = (grid.crossings_xy_px[28, 28] - middle) / SQUARE_MM
    return np.column_stack([across, down])


def _px_per_mm(grid: GridMap) -> float:
    """Return the scale in the middle of the traces."""
    return float(np.sqrt(abs(np.linalg.det(_linear(grid)))))


def _bases(grey: Image, grid: GridMap, page_from_sheet: Float64) -> Iterator[tuple[_Led, Phases]]:
    """Lead the surfaces to start from, the simplest first, and say what lines say of these."""
    flat, phases = _flattened(grey, grid)
    yield _lead_on(flat, phases), phases

    def look(is_named: bool) -> tuple[_Led, Phases]:
        if is_named:
            base, seen = _flattened(
                grey, replace(grid, crossings_xy_px=_crossings(page_from_sheet))
            )
        else:
            base, seen = grid, measure_lines(grey, grid)
        return _lead_on(base, seen), seen

    # Sheets that are not flat need both, and most that are have been led by now.
    by_names, as_found = side_by_side(look, (True, False))
    yield by_names
    across = phases.offset_mm[AMONG_TRACES][..., 0]
    apart = np.abs(across - np.median(across, axis=0)).mean()
    slope = _linear(flat)[:, 0]
    if apart < FED_SHARE * np.abs(across).mean() and abs(slope[1]) < 0.05 * slope[0]:
        even = geometry.fit_homography(
            crossings_mm().reshape(-1, 2), flat.crossings_xy_px.reshape(-1, 2)
        )
        fed, phases = _flattened(grey, replace(flat, feed_px=find_feed(grey, even)))
        yield _lead_on(fed, phases), phases
    yield as_found


def _flattened(grey: Image, grid: GridMap) -> tuple[GridMap, Phases]:
    """Return the homography nearest to a grid, led on to the lines by two rounds of phases."""
    mm = crossings_mm()
    trust = grid.confidence.astype(np.float64) + 1e-3
    page_from_flat = _homography(grid.crossings_xy_px, trust)
    flat = replace(grid, crossings_xy_px=_crossings(page_from_flat))
    phases = measure_lines(grey, flat)
    for _ in range(2):
        points_px = geometry.apply_homography(page_from_flat, mm + phases.offset_mm)
        led_on = _homography(points_px, phases.weight)
        bend_mm = geometry.apply_homography(np.linalg.inv(page_from_flat) @ led_on, mm) - mm
        page_from_flat, phases = led_on, phases.after(bend_mm)
    return replace(grid, crossings_xy_px=_crossings(page_from_flat)), phases


def _homography(points_px: NDArray[np.floating], weight: Float64) -> Float64:
    """Return the homography, sheet mm to page px, that most of (44, 57, 2) points agree with."""
    mm, points, pull = (
        crossings_mm().reshape(-1, 2),
        points_px.astype(np.float64).reshape(-1, 2),
        weight.ravel() + 1e-6,
    )
    trust = np.ones(len(mm))
    for _ in range(6):
        fit = geometry.fit_homography(mm, points, weights=pull * trust)
        off = np.linalg.norm(geometry.apply_homography(fit, mm) - points, axis=1)
        spread = max(float(np.median(off[pull > 0.1 * pull.max()])), 0.05)
        trust = np.clip(1 - (off / (6 * spread)) ** 2, 0, 1) ** 2  # Tukey's weights
    return fit


def _crossings(page_from_sheet: Float64) -> Float32:
    """Return the (44, 57, 2) page px of the crossings of a flat sheet."""
    return geometry.apply_homography(page_from_sheet, crossings_mm()).astype(np.float32)
