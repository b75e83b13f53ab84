"""From lead names to where the sheet lies: sub-pixel names, then a consensus homography.

The thirteen names span rows 94..201 mm and columns 15..203 mm of the sheet, so the homography is
good to about half a square among them and to a square or two at the top edge, where it must
extrapolate (names off by 1 mm put the upper corners off by 3 mm in the median); stage 1 mends it.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ecg_digitize import geometry
from ecg_digitize.errors import StageError
from ecg_digitize.frames import TIME_ORIGIN_MM
from ecg_digitize.layout import COMPETITION, NAME_KEYS
from ecg_digitize.types import Float32, Float64, Registration

AGREE_MM: Final = 4.0
"""How far a name may lie from where the homography puts it: a curled page bends by half a square
(2.5 mm), printed names vary by 1 mm; the nearest wrong place is 36 mm away."""

MIN_NAMES: Final = 4
"""Three agree by chance on every second page of thirteen random peaks, four on one in 300; three
will do if no more than four are found (chance: 1 %) or if the orientation head agrees as well."""

TRUSTED_NAMES: Final = 6
"""From six agreeing names on, they outvote the orientation head."""

NAME_FLOOR: Final = 0.15
FAINT_FLOOR: Final = 0.01
FAINT_NAMES: Final = 5
"""A page on which too few names stand out is given a second look at fainter ones, most of which are
none: five of thirteen must agree. Of 1,500 sets of thirteen random peaks, 340 had three that do and
none had four."""

CONFIDENT_ORIENTATION: Final = 0.95
MAX_ANISOTROPY: Final = 1.6
MAX_SCALE_RATIO: Final = 2.5
"""Between the corners of the traces' area: beyond it the camera would look along the paper."""
MIN_PX_PER_MM: Final = 1.5
"""A page 420 px wide: a 0.5 mm trace is thinner than a pixel."""
LEAST_STRETCH: Final = 0.04
"""Logarithm of the stretch of a layout that stage 1 takes no notice of."""
NAME_SIGMA_MM: Final = 1.0
CAMERAS: Final = 8.0
"""Variances of a name by which a camera's map fits the names better than a scanner's: its four
freedoms more are worth four by chance, and more than eight once in ten times."""
LENS_SIGMA: Final = 0.1
"""Spread of stretch, shear and tilt over 100 mm that a camera is expected to show."""

_NAMES_MM: Final = COMPETITION.names_mm
# The part of the sheet that carries the traces, mm: where a homography must behave.
_LEFT, _RIGHT = 0.0, TIME_ORIGIN_MM + 250.0
_TOP, _BOTTOM = COMPETITION.zero_mm[0] - 20, COMPETITION.zero_mm[-1] + 10
_AREA_MM: Final = np.array([[_LEFT, _TOP], [_RIGHT, _TOP], [_RIGHT, _BOTTOM], [_LEFT, _BOTTOM]])
CENTRE_MM: Final = _AREA_MM.mean(axis=0)


def find_names(
    markers: Float32, *, floor: float = NAME_FLOOR, radius_px: int = 6
) -> tuple[Float32, Float32]:
    """Find the highest peak of each name's map and its probability-weighted centroid.

    Args:
        markers: (13, h, w) float32 in [0, 1], probability of each name's disc, map frame.
        floor: Peaks below this probability count as not found.
        radius_px: Half size of the window of the centroid, about the discs' radius, map px.

    Returns:
        xy_px: (13, 2) float32 map px, NaN where not found.
        confidence: (13,) float32 in [0, 1], the peak's probability, 0 where not found.
    """
    xy_px = np.full((len(NAME_KEYS), 2), np.nan, np.float32)
    confidence = np.zeros(len(NAME_KEYS), np.float32)
    for k, marker in enumerate(markers):
        row, column = np.unravel_index(np.argmax(marker), marker.shape)
        peak = float(marker[row, column])
        if not peak >= floor:
            continue
        centre = np.array([column, row], np.float64)
        for _ in range(2):  # a disc's highest pixel may lie on its rim: centre the window once more
            centre = _centroid(marker, centre, radius_px, level=0.5 * peak)
        xy_px[k], confidence[k] = centre, min(peak, 1.0)
    return xy_px, confidence


def _centroid(marker: Float32, centre_xy: Float64, radius_px: int, *, level: float) -> Float64:
    """Return the mean xy of what rises above a level in the window round a point."""
    column, row = np.rint(centre_xy).astype(int)
    top, left = max(row - radius_px, 0), max(column - radius_px, 0)
    window = marker[top : row + radius_px + 1, left : column + radius_px + 1]
    weight = np.where(window >= level, window, 0).astype(np.float64)
    rows, columns = np.indices(window.shape)
    total = weight.sum()
    return np.array([left + (weight * columns).sum() / total, top + (weight * rows).sum() / total])


def register(
    markers: Float32,
    orientation: Float32,
    *,
    page_from_map: Float64,
    source: str = "page",
    faint: bool = False,
) -> Registration:
    """Find where the sheet lies in the picture.

    Args:
        markers: (13, h, w) float32 in [0, 1], probability of each name's disc in NAME_KEYS order.
        orientation: (4,) float32, probability that ``np.rot90(page, k)`` sets the page upright.
        page_from_map: (3, 3) homography, map px to page px.
        source: Name of the page, for the message.
        faint: Look at names that hardly stand out, but ask for more of them.

    Returns:
        The registration; with few names the homography stays near a similarity map.

    Raises:
        StageError: Too few names agree on any plausible page.
    """
    names_xy, confidence = find_names(markers, floor=FAINT_FLOOR if faint else NAME_FLOOR)
    names_xy = geometry.apply_homography(page_from_map, names_xy).astype(np.float32)
    least = FAINT_NAMES if faint else 0
    return registration_from_names(names_xy, confidence, orientation, source=source, least=least)


def registration_from_names(
    names_xy_px: Float32,
    confidence: Float32,
    orientation: Float32,
    *,
    source: str = "page",
    least: int = 0,
) -> Registration:
    """Fit the sheet to lead names: see ``register``.

    Args:
        names_xy_px: (13, 2) page px in NAME_KEYS order, NaN if not found.
        confidence: (13,) in [0, 1].
        orientation: (4,) probability that each number of quarter turns sets the page upright.
        source: Name of the page, for the message.
        least: Names that must agree at least.

    Returns:
        The registration.

    Raises:
        StageError: Too few names agree on any plausible page.
    """
    found = np.isfinite(names_xy_px).all(axis=1)
    page_from_sheet, agree = _consensus(names_xy_px, confidence * found, is_plausible)
    head = int(np.argmax(orientation))
    confident = orientation[head] >= CONFIDENT_ORIENTATION
    if confident and agree.sum() < TRUSTED_NAMES and quarter_turns(page_from_sheet) != head:
        # A few names alone may agree by chance, even upside down: ask for the page the head sees.
        page_from_sheet, agree = _consensus(
            names_xy_px,
            confidence * found,
            lambda h: is_plausible(h) and quarter_turns(h) == head,
        )
    needed = MIN_NAMES
    if found.sum() <= MIN_NAMES or (confident and quarter_turns(page_from_sheet) == head):
        needed = MIN_NAMES - 1
    needed = max(needed, least)
    if agree.sum() < needed:
        names = ", ".join(np.array(NAME_KEYS)[found]) or "none"
        raise StageError(
            "stage0",
            f"{source}: expected 13 lead names in the 4x3+1 layout, found {found.sum()} ({names}), "
            f"of which {agree.sum()} agree on a page and {needed} must; it is not an ECG page "
            "in this layout, or too small or blurred: retake the picture with the whole sheet in "
            "view and in focus",
        )
    return Registration(
        page_from_sheet=page_from_sheet,
        names_xy_px=np.asarray(names_xy_px, np.float32),
        names_confidence=np.asarray(confidence * found, np.float32),
        quarter_turns=quarter_turns(page_from_sheet),
        n_inliers=int(agree.sum()),
    )


def registration_from_homography(page_from_sheet: Float64) -> Registration:
    """Return the registration of a page whose place is known, say from its corners or its maker.

    Args:
        page_from_sheet: (3, 3) homography, sheet mm to page px.

    Returns:
        A registration with all thirteen names where the homography puts them.

    Raises:
        StageError: No camera takes such a picture of a page.
    """
    if not is_plausible(page_from_sheet):
        raise StageError(
            "stage0",
            f"the homography {page_from_sheet.tolist()} mirrors, folds or squeezes the sheet; give "
            "the corners in the order top left, top right, bottom right, bottom left",
        )
    return Registration(
        page_from_sheet=page_from_sheet / page_from_sheet[2, 2],
        names_xy_px=geometry.apply_homography(page_from_sheet, _NAMES_MM).astype(np.float32),
        names_confidence=np.ones(len(NAME_KEYS), np.float32),
        quarter_turns=quarter_turns(page_from_sheet),
        n_inliers=len(NAME_KEYS),
    )


def unstretched(registration: Registration) -> Registration | None:
    """Return the registration of a sheet whose rows lie closer or farther apart than usual.

    Names of another layout agree on a homography that stretches the sheet down; a scanner or a
    camera from above does not, so the stretch is that of the layout.

    Args:
        registration: As the thirteen names' usual places have it.

    Returns:
        The same with squares that are square, or None if they are so already.
    """
    across, down = geometry.jacobian(registration.page_from_sheet, CENTRE_MM).T
    if abs(np.log(np.linalg.norm(down) / np.linalg.norm(across))) < LEAST_STRETCH:
        return None
    linear = np.array([across, [-across[1], across[0]]]).T
    middle_px = geometry.apply_homography(registration.page_from_sheet, CENTRE_MM)
    shift = middle_px - linear @ CENTRE_MM
    page_from_sheet = np.array([[*linear[0], shift[0]], [*linear[1], shift[1]], [0, 0, 1]])
    return replace(registration, page_from_sheet=page_from_sheet)


def as_scanned(registration: Registration) -> Registration | None:
    """Return the registration of a sheet that lies flat before a scanner, if the names allow it.

    Where nothing but the names tells where the sheet lies, the four freedoms of a scanner are found
    better than the eight of a camera: names printed a millimetre off tilt no sheet.

    Args:
        registration: As the names that agree have it.

    Returns:
        The same with a similarity map, or None if the names fit it clearly worse.
    """
    found = registration.names_confidence > 0
    px = registration.names_xy_px.astype(np.float64)
    found[found] = (
        _distance_mm(registration.page_from_sheet[None], _NAMES_MM[found], px[found])[0] < AGREE_MM
    )
    weights = registration.names_confidence[found]
    page_from_sheet = geometry.fit_similarity(_NAMES_MM[found], px[found], weights=weights)
    maps = np.stack([page_from_sheet, registration.page_from_sheet])
    flat_mm2, tilted_mm2 = _distance_mm(maps, _NAMES_MM[found], px[found]) ** 2 @ weights
    if flat_mm2 - tilted_mm2 > CAMERAS * NAME_SIGMA_MM**2:
        return None
    return replace(registration, page_from_sheet=page_from_sheet)


def quarter_turns(page_from_sheet: Float64) -> int:
    """Return how many counter-clockwise quarter turns (``np.rot90``) set the page upright."""
    along_x = geometry.jacobian(page_from_sheet, CENTRE_MM)[:, 0]
    # y points down: a sheet whose x axis points down the picture needs one turn.
    return int(np.rint(np.arctan2(along_x[1], along_x[0]) / (np.pi / 2))) % 4


def is_plausible(page_from_sheet: Float64) -> bool:
    """Say whether a camera or scanner could have taken a page so: not mirrored, folded, squeezed.

    Args:
        page_from_sheet: (3, 3) homography, sheet mm to page px.
    """
    if not np.isfinite(page_from_sheet).all():
        return False
    h = page_from_sheet / page_from_sheet[2, 2]
    depth = _AREA_MM @ h[2, :2] + 1.0
    if depth.min() <= 0:  # the horizon crosses the traces
        return False
    slopes = np.stack([geometry.jacobian(h, corner) for corner in (*_AREA_MM, CENTRE_MM)])
    determinants = np.linalg.det(slopes)
    if determinants.min() <= MIN_PX_PER_MM**2:
        return False
    stretch = np.linalg.svd(slopes[-1], compute_uv=False)
    return bool(
        stretch[0] < MAX_ANISOTROPY * stretch[1]
        and determinants.max() < MAX_SCALE_RATIO**2 * determinants.min()
    )


def _consensus(
    names_xy_px: Float32, weights: Float32, accept: Callable[[Float64], bool]
) -> tuple[Float64, NDArray[np.bool_]]:
    """Return the acceptable map that most names agree with, and which names do; none if none."""
    use = np.flatnonzero(weights > 0)
    src, dst, w = _NAMES_MM[use], names_xy_px[use].astype(np.float64), weights[use]
    agree = np.zeros(len(NAME_KEYS), bool)
    best = np.eye(3)
    pairs = [list(pair) for pair in combinations(range(len(use)), 2)]
    similar = [geometry.fit_similarity(src[pair], dst[pair]) for pair in pairs]
    candidates = [*similar, *geometry.candidate_homographies(src, dst)]
    if not candidates:
        return best, agree
    close = _distance_mm(np.stack(candidates), src, dst) < AGREE_MM
    # What counts is agreement beyond the pairs or quadruples that any such map goes through.
    excess = close.sum(axis=1) - np.where(np.arange(len(candidates)) < len(similar), 2, 4)
    score = excess + 0.5 * (close @ w) / len(NAME_KEYS)
    for k in np.argsort(-score, kind="stable"):
        if excess[k] < 1:
            break
        if accept(candidates[k]):
            settled, inside = _settle(candidates[k], close[k], src, dst, w)
            if accept(settled) and inside.sum() > agree.sum():
                best, agree[use] = settled, inside
                break
    return best, agree


def _settle(
    h: Float64, inside: NDArray[np.bool_], src: Float64, dst: Float64, w: Float32
) -> tuple[Float64, NDArray[np.bool_]]:
    """Alternate between fitting those who agree and asking who agrees, until nothing changes."""
    for _ in range(4):
        h = fit_stiff_homography(src[inside], dst[inside], weights=w[inside])
        was, inside = inside, _distance_mm(h[None], src, dst)[0] < AGREE_MM
        if inside.sum() < 2 or np.array_equal(was, inside):
            break
    return h, inside


def _distance_mm(page_from_sheet: Float64, mm: Float64, px: Float64) -> Float64:
    """Return (m, n) distances, on the sheet, of n points from where m homographies want them."""
    sheet_from_page = np.asarray(np.linalg.inv(page_from_sheet))
    on_sheet = geometry.apply_homography(sheet_from_page, px)
    return np.asarray(np.linalg.norm(on_sheet - mm, axis=-1))


def fit_stiff_homography(mm: Float64, px: Float64, *, weights: Float32) -> Float64:
    """Fit a homography that stays near a similarity map unless the points say otherwise.

    A similarity map has four freedoms; stretch, shear and the two tilts, the other four, carry a
    price of one standard deviation a 10 % change over 100 mm, against names exact to 1 mm. Three
    names give nearly a similarity map, and with ten the price is not felt. Simulated (names off by
    0.7 mm, tilt 0.04 over 100 mm), median error of the worst corner of the traces' area, mm:

        names           3     4     5     6    13
        homography      -   276   5.9   4.2   1.8
        affine         15    12    11    12   9.8
        this           13    10   4.9   3.8   1.8

    Args:
        mm: (n, 2) sheet points, n >= 2.
        px: (n, 2) page px.
        weights: (n,) in (0, 1].

    Returns:
        page_from_sheet (3, 3).
    """
    x0, y0 = CENTRE_MM / 100
    unit = np.array([[0.01, 0, -x0], [0, 0.01, -y0], [0, 0, 1]])
    uv = geometry.apply_homography(unit, mm)
    similar = geometry.fit_similarity(uv, px, weights=weights)
    px_per_mm = 0.01 * np.hypot(similar[0, 0], similar[1, 0])
    root = np.sqrt(weights)[:, None] / NAME_SIGMA_MM

    def bent(p: Float64) -> Float64:
        """Return px from unit coordinates: the similarity map changed by eight small numbers."""
        change = np.array([[1 + p[0], -p[1], p[2]], [p[1], 1 + p[0], p[3]], [0, 0, 1]])
        lens = np.array([[1 + p[4], p[5], 0], [p[5], 1 - p[4], 0], [p[6], p[7], 1]])
        return np.asarray(similar @ change @ lens)

    def cost(p: Float64) -> Float64:
        off_mm = (geometry.apply_homography(bent(p), uv) - px) / px_per_mm
        return np.concatenate([(root * off_mm).ravel(), p[4:] / LENS_SIGMA])

    h = bent(least_squares(cost, np.zeros(8), method="lm").x) @ unit
    return np.asarray(h / h[2, 2])
