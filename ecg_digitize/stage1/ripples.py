"""Folds and wrinkles: how far the vertical lines bend between the crossings of the grid.

A surface through crossings 5 mm apart rounds off the edge of a fold, and crumpled paper bends
within a square. A QRS complex that runs over such a place is then read up to 20 ms off, and its
upstroke may even lead backwards. The vertical 5 mm lines, which most prints have, show at every
height how far the paper is off there. Each is followed down the sheet: first a path is chosen that
lies on dark pixels, bends little and agrees with the paths beside it (semi-global matching,
Hirschmueller, IEEE PAMI 30, 2008), then the line is measured along that path.

What a line is off as a whole is left as it is: plotters put lines on whole pixels, and
``timing.follow_lines`` has seen to the rest.
"""

from dataclasses import replace
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d, median_filter, minimum_filter1d

from ecg_digitize import geometry
from ecg_digitize.frames import GRID_COLUMNS, SQUARE_MM, Frame, crossings_mm
from ecg_digitize.jit import compiled
from ecg_digitize.stage1.lines import AMONG_TRACES
from ecg_digitize.stage1.sight import darkest, is_ink, seen_in
from ecg_digitize.types import Float32, Float64, GridMap, Image


class RippleOptions(NamedTuple):
    """Constants of the search for ripples.

    Eleven of the 25 real photos and five synthetic pages chose them. Half and twice each length
    change the mean of the photos by less than 0.2 dB.

    Attributes:
        bend_price: Price of a path that moves by 0.1 mm over 0.25 mm down the sheet, in contrasts
            of a line; it grows with the square of the move.
        beside_price: The same for two neighbouring lines.
        blur_mm: Sigma down the sheet of the windows in which a line is measured.
        blur_lines: Sigma across, in lines.
        smooth_mm: Sigma of the field down the sheet.
        smooth_lines: And across, in lines.
        fill_mm: Sigma down the sheet of the window that fills in what is unknown.
        fill_lines: And across, in lines.
        least_contrast: Share of a line's usual contrast below which it counts as unseen.
        rounds: How often a line is measured along the path found so far.
        noise_px: By how much straight lines seem to wind about the pixels of the picture. With 0.15
            five smooth synthetic pages lose nothing and seven photos gain 0.2 dB less; with 0 those
            lose 1.2 dB.
        noise_mm: Sigma down the sheet of the window in which a ripple must be more than that.
        noise_lines: And across, in lines.
    """

    bend_price: float = 0.4
    beside_price: float = 0.03
    blur_mm: float = 0.75
    blur_lines: float = 0.5
    smooth_mm: float = 0.4
    smooth_lines: float = 0.5
    fill_mm: float = 0.5
    fill_lines: float = 0.7
    least_contrast: float = 0.35
    rounds: int = 2
    noise_px: float = 0.1
    noise_mm: float = 3.0
    noise_lines: float = 1.0


DEFAULTS: Final = RippleOptions()

LOOK: Final = Frame(2801, 640, (10.0, 4.0), (0.0, 55.0))
"""All columns of the sheet, and the rows among which traces lie."""
REACH_PX: Final = 8  # a line is looked for less than a millimetre to either side
FARTHEST_MOVE: Final = 3  # px from one step to the next
CLEAR_PX: Final = 2  # of a line, on either side: nearer ink draws it
FLAT_MM: Final = 0.12
"""RMS distance from a plane below which nothing bends: paper on scanners leaves 0.05 to 0.08 mm,
what is photographed 0.2 to 1.2."""
OUTLIER_MM: Final = 0.1  # from the median of the places around
LINE_MM: Final = SQUARE_MM * np.arange(GRID_COLUMNS)

_POINTS: Final = 4096
_LINE_PX: Final = np.rint(LINE_MM * LOOK.px_per_mm_xy[0]).astype(np.int64)


def follow_ripples(image: Image, grid: GridMap, *, options: RippleOptions = DEFAULTS) -> GridMap:
    """Measure how far the vertical lines of the grid bend between the crossings.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        grid: Right to half a millimetre.
        options: See there.

    Returns:
        The grid with `ripple_mm`; as it was if there is no lattice, or if the sheet was pressed
        flat, as it is on scanners, or plotted: there is noise only.
    """
    if grid.feed_px is not None or not np.isfinite(grid.residual_px) or _is_flat(grid):
        return grid
    dark, free = _lines_of(seen_in(LOOK, image, grid.crossings_xy_px))
    path_px = _path_px(_along(dark, np.zeros((GRID_COLUMNS, LOOK.height_px))), options)
    down = options.blur_mm * LOOK.px_per_mm_xy[1]
    for _ in range(options.rounds):
        seen = gaussian_filter(_along(free, path_px)[..., REACH_PX], (options.blur_lines, down))
        line = gaussian_filter(_along(dark, path_px), (options.blur_lines, down, 0))
        off_px, contrast = _peak(line / np.maximum(seen, 0.3)[..., None])
        known = (contrast > options.least_contrast) & _is_clear(free, path_px)
        path_px = path_px + np.where(known, off_px, 0.0)
    off_mm = path_px / LOOK.px_per_mm_xy[0]
    off_mm -= [
        [np.median(line[seen])] if seen.any() else [0.0]
        for line, seen in zip(off_mm, known, strict=True)
    ]
    ripple_mm = _believed(_smoothed(off_mm, known, options), grid, options)
    return replace(grid, ripple_mm=ripple_mm.astype(np.float32))


def ripple_at(
    ripple_mm: Float32, x_mm: NDArray[np.floating], y_mm: NDArray[np.floating]
) -> Float32:
    """Return how far to the right of its place lies what is printed at points of the sheet.

    Args:
        ripple_mm: As in a GridMap.
        x_mm: Sheet x, any shape.
        y_mm: Sheet y, the same shape; beyond what was looked at, the last that was seen holds.

    Returns:
        float32 mm of that shape.
    """
    line = (np.asarray(x_mm) / SQUARE_MM).astype(np.float32)
    row = ((np.asarray(y_mm) - LOOK.origin_mm_xy[1]) * LOOK.px_per_mm_xy[1]).astype(np.float32)
    # OpenCV takes no picture wider than 32,766 pixels: any shape goes in lines of fewer.
    wrapped = -(-line.size // _POINTS), _POINTS
    there = cv2.remap(
        np.ascontiguousarray(ripple_mm.T), np.resize(line, wrapped), np.resize(row, wrapped),
        cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return np.asarray(there, np.float32).ravel()[: line.size].reshape(line.shape)


def _is_flat(grid: GridMap) -> bool:
    """Say whether the sheet hardly bends: no more than paper does on a scanner."""
    mm, points_px = (
        table[AMONG_TRACES].reshape(-1, 2)
        for table in (crossings_mm(), grid.crossings_xy_px.astype(np.float64))
    )
    flat = geometry.fit_homography(mm, points_px)
    off_px = np.linalg.norm(geometry.apply_homography(flat, mm) - points_px, axis=1)
    px_per_mm = np.sqrt(abs(np.linalg.det(geometry.jacobian(flat, mm.mean(axis=0)))))
    return bool(np.sqrt(np.mean(off_px**2)) < FLAT_MM * px_per_mm)


def _lines_of(seen: Image) -> tuple[Float32, Float32]:
    """Return (H, W) how dark pixels are, a typical 5 mm line being 1, and 1 where no ink is."""
    ink = is_ink(seen, LOOK)
    free = (cv2.dilate(ink.astype(np.uint8), np.ones((3, 5), np.uint8)) == 0).astype(np.float32)
    grey = darkest(seen).astype(np.float32)
    half_square = 2 * round(0.25 * SQUARE_MM * LOOK.px_per_mm_xy[0]) + 1
    dark = cv2.GaussianBlur(cv2.blur(grey, (half_square, 1)) - grey, (0, 0), 0.8).astype(np.float32)
    typical = float(np.median(_windows(dark)[..., REACH_PX - 2 : REACH_PX + 3].max(axis=-1)))
    return np.clip(dark / max(typical, 0.5), -0.5, 1.5) * free, free


def _windows(pixels: Float32) -> Float32:
    """Return (H, 57, 17) pixels around the lines."""
    padded = np.pad(pixels, ((0, 0), (REACH_PX, REACH_PX)), mode="edge")
    return padded[:, _LINE_PX[:, None] + np.arange(2 * REACH_PX + 1)]


def _along(pixels: Float32, path_px: Float64) -> Float32:
    """Return (57, H, 17) pixels around (57, H) paths beside the lines."""
    x = (_LINE_PX[:, None] + path_px)[..., None] + np.arange(-REACH_PX, REACH_PX + 1)
    y = np.broadcast_to(np.arange(path_px.shape[1])[:, None], x.shape)
    flat = (len(x), -1)
    there = cv2.remap(
        pixels, x.reshape(flat).astype(np.float32), y.reshape(flat).astype(np.float32),
        cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0.0,
    )  # fmt: skip
    return np.asarray(there, np.float32).reshape(x.shape)


def _path_px(dark: Float32, options: RippleOptions) -> Float64:
    """Choose (57, H) paths through (57, H, 17) darkness that bend little and agree."""
    gain = gaussian_filter1d(dark, 1.0, axis=1)
    total = np.zeros_like(gain)
    for axis, price in ((1, options.bend_price), (0, options.beside_price)):
        for step in (1, -1):
            ahead = np.ascontiguousarray(gain.swapaxes(0, axis)[::step])
            total += _gathered(ahead, price)[::step].swapaxes(0, axis)
    path_px = total.argmax(axis=-1).clip(1, 2 * REACH_PX - 1) - float(REACH_PX)
    around = median_filter(path_px, size=(5, 9))
    far = np.abs(path_px - around) > 1.5 * OUTLIER_MM * LOOK.px_per_mm_xy[0]
    return np.asarray(gaussian_filter(np.where(far, around, path_px), (0.3, 2.0)), np.float64)


@compiled
def _gathered(gain: Float32, price: float) -> Float32:
    """Add up the gain of the best path from the first of (n, m, 17) to each, moves paid for."""
    best = gain.copy()
    for here in range(1, len(gain)):
        for other in range(gain.shape[1]):
            before = best[here - 1, other]
            top = before.max()
            for to in range(len(before)):
                most = -price * (FARTHEST_MOVE + 1) ** 2  # a leap, from wherever the best is
                first, stop = max(to - FARTHEST_MOVE, 0), min(to + FARTHEST_MOVE + 1, len(before))
                for start in range(first, stop):
                    most = max(most, before[start] - top - price * (to - start) ** 2)
                best[here, other, to] += most
    return best


def _peak(line: Float32) -> tuple[Float64, Float32]:
    """Return (57, H) px from the middle of (57, H, 17) to the darkest near it, and how dark."""
    near = line[..., REACH_PX - 3 : REACH_PX + 4]
    at = near.argmax(axis=-1).clip(1, 5)[..., None]
    before, top, after = (np.take_along_axis(near, at + k, axis=-1)[..., 0] for k in (-1, 0, 1))
    bend = np.minimum(before - 2 * top + after, -1e-6)
    off_px = at[..., 0] - 3 + np.clip(0.5 * (before - after) / bend, -0.5, 0.5)
    return off_px.astype(np.float64), top


def _believed(ripple_mm: Float64, grid: GridMap, options: RippleOptions) -> Float64:
    """Shrink a field where it is hardly more than what pixels make of straight lines.

    A thin line that runs aslant over the pixels of a picture seems to wind about them. Wiener's
    filter, the noise being a share of a pixel.
    """
    pixels_mm = SQUARE_MM / np.linalg.norm(np.diff(grid.crossings_xy_px, axis=1), axis=-1)
    noise_mm = options.noise_px * float(np.median(pixels_mm))
    sigma = options.noise_lines, options.noise_mm * LOOK.px_per_mm_xy[1]
    power = np.maximum(gaussian_filter(ripple_mm**2, sigma), 1e-12)
    return np.asarray(ripple_mm * np.clip(1.0 - noise_mm**2 / power, 0.0, 1.0))


def _is_clear(free: Float32, path_px: Float64) -> NDArray[np.bool_]:
    """Return (57, H) bool: no ink lies beside the line there, or a little above or below."""
    near = _along(free, path_px)[..., REACH_PX - CLEAR_PX : REACH_PX + CLEAR_PX + 1].min(axis=-1)
    return np.asarray(minimum_filter1d(near, 3, axis=1) > 0.5, np.bool_)


def _smoothed(off_mm: Float64, known: NDArray[np.bool_], options: RippleOptions) -> Float64:
    """Smooth (57, H) offsets; what is unknown or far from its neighbours takes after them."""
    known = known & (np.abs(off_mm - median_filter(off_mm, size=(3, 7))) < OUTLIER_MM)
    wide, fine = (
        (lines, mm * LOOK.px_per_mm_xy[1])
        for lines, mm in (
            (options.fill_lines, options.fill_mm),
            (options.smooth_lines, options.smooth_mm),
        )
    )
    near = gaussian_filter(known.astype(np.float64), wide)
    around = gaussian_filter(np.where(known, off_mm, 0.0), wide) / np.maximum(near, 1e-6)
    return np.asarray(gaussian_filter(np.where(known, off_mm, around), fine))
