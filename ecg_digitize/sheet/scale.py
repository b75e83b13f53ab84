"""Where the squares of a printed grid lie in a picture, whatever is printed on them.

Tiles of the picture are looked at through the Fourier transform: a grid gives pairs of sharp peaks
at right angles. What most tiles agree on is one period of the grid; a homography is fitted to how
it changes over the picture. Looked at through that map, longer periods (every fifth line stronger)
and shorter ones (fine lines between) tell which period is 5 mm, and the phases of the lines tell
the map to a fraction of a millimetre.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np

from ecg_digitize.geometry import apply_homography, jacobian, scaling
from ecg_digitize.sheet.line_view import LineView, extent_of, lay_on_lines, straighten, view_lines
from ecg_digitize.sheet.tiles import DEFAULTS as TILES
from ecg_digitize.sheet.tiles import find_lattices, fit_through, ink_of
from ecg_digitize.types import Float32, Float64, Image


class ScaleOptions(NamedTuple):
    """Constants of what periods are taken for.

    Attributes:
        work_px: Pictures of more pixels are shrunk to as many.
        sure: Confidence from which no other is tried.
        none: And below which there is no grid.
        doubted: How alike neighbouring strips are where confidence is nil, and where it is full.
        super_peak: As ``peak``, for averaged spectra: when a longer period counts.
        few: How much more is asked of twice and three times the period.
        fifth: How far the fifth harmonic stands out where there are fine lines, log of power.
        torn: How much more alike neighbouring strips must be for a grid to count as patches.
        slope: Change of scale from which that is looked at.
        sides_mm: Grids with both sides below or above these are doubted.
        width_mm: Usual width of a grid.
        width_spread: Standard deviation of its natural logarithm.
        density: Usual px/mm of a picture.
        density_spread: Standard deviation of its natural logarithm.
    """

    work_px: int = 2_200_000
    sure: float = 0.5
    none: float = 0.1
    doubted: tuple[float, float] = (0.5, 0.7)
    super_peak: float = 0.9
    few: float = 0.25
    fifth: float = 0.45
    torn: float = 0.025
    slope: float = 0.003
    sides_mm: tuple[float, float] = (60.0, 330.0)
    width_mm: float = 230.0
    width_spread: float = 0.4
    density: float = 6.0
    density_spread: float = 0.7


DEFAULTS: Final = ScaleOptions()


@dataclass(frozen=True)
class Squares:
    """Where the squares of a printed grid lie in the picture.

    Attributes:
        page_from_sheet: (3, 3) homography, sheet mm -> page px. A crossing of 5 mm lines is at the
            origin, x is within 45 degrees of the picture's x, and nothing is mirrored.
        confidence: In [0, 1]; below 0.5 the period taken for 5 mm may well be another.
        box_mm: Left, top, right, bottom of what carries grid, sheet mm.
    """

    page_from_sheet: Float64
    confidence: float
    box_mm: tuple[float, float, float, float]


def find_squares(image: Image, *, options: ScaleOptions = DEFAULTS) -> Squares | None:
    """Find the printed grid in a picture of a sheet.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        options: What can be tuned.

    Returns:
        Where its squares lie; None where no grid is seen.
    """
    height, width = image.shape[:2]
    shrink = min(1.0, float(np.sqrt(options.work_px / (height * width))))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    ink = ink_of(small)
    best = None
    for tiles in find_lattices(ink):
        work_from_lattice, seen = fit_through(tiles)
        if np.count_nonzero(seen) < TILES.tiles:
            continue
        found = _settle(ink, work_from_lattice, tiles.xy[seen], options)
        if best is None or found[1] > best[1]:
            best = found
        if best[1] >= options.sure:
            break
    if best is None or best[1] < options.none:
        return None
    work_from_sheet, confidence, box = best
    page_from_work = scaling((width / size[0], height / size[1]))
    return Squares(page_from_work @ work_from_sheet, confidence, box)


def _settle(
    ink: Float32, work_from_lattice: Float64, xy: Float64, options: ScaleOptions
) -> tuple[Float64, float, tuple[float, float, float, float]]:
    """Tell which period is 5 mm, and lay the map on the lines.

    Args:
        ink: (H, W) grey levels.
        work_from_lattice: (3, 3) some period -> work px.
        xy: (n, 2) work px, the tiles in which that period is seen.
        options: What can be tuned.

    Returns:
        work_from_sheet (3, 3), the confidence and the box of what carries grid, mm.
    """
    half = TILES.tile_px / 2
    xy = np.concatenate([xy + np.array(d) * half for d in ((-1, -1), (-1, 1), (1, -1), (1, 1))])
    xy = np.clip(xy, 0, [ink.shape[1] - 1, ink.shape[0] - 1])
    lattice, confidence, repeat = _squared(ink, work_from_lattice, xy, options)
    for _ in range(2):
        view = view_lines(ink, lattice, xy)
        change, together = straighten(view)
        lattice = lattice @ change
    low, high = options.doubted
    if together < 0.6 * low:
        return lattice @ np.diag([0.2, 0.2, 1.0]), 0.0, (0.0, 0.0, 0.0, 0.0)
    for _ in range(2):
        view = view_lines(ink, lattice, xy)
        lattice = lattice @ lay_on_lines(view, 0.45 * repeat, repeat)
    view = view_lines(ink, lattice, xy)
    change, together = straighten(view)
    if np.abs(change[:2, :2] - np.eye(2)).max() > options.slope:
        size = np.array([len(view.columns), len(view.rows)], np.float64)
        middle = np.asarray(view.corner + 0.5 * size, np.float64)
        parted = np.eye(3)  # flat, as patches say nothing of what lies between them
        parted[:2, :2] = jacobian(lattice, middle)
        parted[:2, 2] = apply_homography(lattice, middle) - parted[:2, :2] @ middle
        for _ in range(3):
            patches = view_lines(ink, parted, xy)
            change, united = straighten(patches)
            parted = parted @ change
        if united > together + options.torn:
            lattice = parted @ lay_on_lines(patches, 0.0, repeat)
            view, together = view_lines(ink, lattice, xy), united
    box = extent_of(view)
    confidence *= float(np.clip((together - low) / (high - low), 0, 1))
    sides = box[2] - box[0], box[3] - box[1]
    if min(sides) > options.sides_mm[1] or max(sides) < options.sides_mm[0]:
        confidence *= 0.4
    return lattice @ np.diag([0.2, 0.2, 1.0]), confidence, box


def _squared(
    ink: Float32, lattice: Float64, xy: Float64, options: ScaleOptions
) -> tuple[Float64, float, float]:
    """Make the period of a map 5 mm.

    Returns:
        work_from_lattice (3, 3); how sure that is; and after how many periods lines are alike:
        0.2 where all that is seen is 1 mm apart.
    """
    factor = 1
    for _ in range(3):
        view = view_lines(ink, lattice, xy)
        fifth = _boost(view, 5) > options.fifth
        m = _multiple(view, options)
        wider = lattice @ np.diag([m, m, 1.0])
        doubled = m == 2 and _boost(view_lines(ink, wider, xy), 5) > options.fifth
        if m == 1 or (fifth and not doubled):
            break
        factor, lattice = factor * m, wider
    if fifth or factor == 5:
        return lattice, 0.95, 1.0
    fine, confidence = _all_fine(lattice, view, xy, options)
    if not fine:
        return lattice, confidence, 1.0
    lattice = lattice @ np.diag([5.0, 5.0, 1.0])
    strong = view_lines(ink, lattice, xy).raised(np.arange(1.0, 5.0), 0.5, 6).mean()
    return lattice, 0.95 if strong > options.fifth else confidence, 0.2


def _multiple(view: LineView, options: ScaleOptions) -> int:
    """Return after how many periods the lines repeat, strong and faint; 1 if all are alike."""
    heights = {}
    shape = len(view.rows), len(view.columns)
    for m in (2, 3, 5):
        if min(shape) >= 3 * m or (max(shape) >= 3 * m and min(shape) >= 4):
            at = np.array([j / m for j in range(1, m)])
            axes = [k for k in (0, 1) if shape[1 - k] >= 3 * m]
            raised = view.raised(at, 0.5 / m, min(12 if m == 2 else 4 * m, max(shape)))[axes].mean(
                axis=1
            )
            heights[m] = float(raised.min()) - (m < 5) * options.few
    best = max(heights, key=lambda m: heights[m], default=1)
    return best if heights and heights[best] > options.super_peak else 1


def _boost(view: LineView, n: int) -> float:
    """Return how far every n-th harmonic stands out from those beside it, log of power."""
    if view.px < 2 * n + 2:
        return 0.0
    comb = view.raised(np.array([n - 1.0, n, n + 1.0]), 0.5, 6)
    stands = comb[:, 1] - 0.5 * np.maximum(comb[:, 0], 0) - 0.5 * np.maximum(comb[:, 2], 0)
    return float(np.minimum(stands, comb[:, 1]).mean())


def _all_fine(
    work_from_lattice: Float64, view: LineView, xy: Float64, options: ScaleOptions
) -> tuple[bool, float]:
    """Say whether a lone period is 1 mm, not 5, by what sheets are like; and how sure that is."""
    width = max(view.rows.shape[1], view.columns.shape[1]) / view.px
    lattice_from_work = np.asarray(np.linalg.inv(work_from_lattice), np.float64)
    middle = apply_homography(lattice_from_work, xy).mean(axis=0)
    period = float(np.sqrt(abs(np.linalg.det(jacobian(work_from_lattice, middle)))))
    odds = [
        -0.5 * (np.log(width * mm / options.width_mm) / options.width_spread) ** 2
        - 0.5 * (np.log(period / mm / options.density) / options.density_spread) ** 2
        for mm in (1, 5)
    ]
    fine = 1 / (1 + np.exp(np.clip(odds[1] - odds[0], -30, 30)))
    plausible = 0.9 * max(fine, 1 - fine) * np.exp(min(0.0, max(odds) + 0.7))
    return bool(fine > 0.5), float(plausible)
