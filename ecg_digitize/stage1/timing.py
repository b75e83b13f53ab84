"""The printed 1 mm lines, one by one: what a smooth surface leaves of them is time gone wrong.

Printers and scanners feed paper unevenly, by 0.05 mm (2 ms) over a few centimetres, which no
surface that is stiff enough for its noise follows. The lines themselves do. They are not evenly
spaced either: plotting libraries snap them to whole pixels, in a pattern that prints show, so it is
looked for and taken out. On ECG-Image-Kit's renders this is worth 0.3 dB, on a print photographed
by phone 2 dB.
"""

import itertools
from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from ecg_digitize import geometry
from ecg_digitize.frames import (
    MM_PER_INCH,
    PX_PER_MM,
    RECT,
    SQUARE_MM,
    Frame,
    crossings_mm,
    snapped_mm,
)
from ecg_digitize.stage1.sight import darkest, is_ink, seen_in
from ecg_digitize.types import Float64, GridMap, Image

LOOK: Final = Frame(
    RECT.width_px,
    RECT.height_px // 2,
    (RECT.px_per_mm_xy[0], RECT.px_per_mm_xy[1] / 2),
    RECT.origin_mm_xy,
)
BAND_MM: Final = 20.0
REACH_PX: Final = 9  # a line is looked for just less than half a millimetre to either side
INK_REACH_PX: Final = (15, 9)
LEAST_PAPER: Final = 0.25  # share of a band's column that must be free of ink
FARTHEST_MM: Final = 0.2
LEAST_CONTRAST: Final = 0.5  # grey levels of a line, averaged over its band
LEAST_LINES: Final = 0.5  # share of the lines that must be found
OTHER_PX_PER_MM: Final = (150 / MM_PER_INCH, 300 / MM_PER_INCH)
"""Of pages that were not plotted at the competition's 200 dpi before they were printed."""
PHASES: Final = 8
"""Places within a pixel in which such a raster is taken to begin."""
SNAPPED_LIKE: Final = 0.3  # correlation with the pattern; 0.8 to 1 where it is there, else -0.4
SNAPPED_SHARE: Final = 0.5
"""Of the pattern's size: lines that are not snapped seem to be, by a fifth, if their raster is the
pattern's, because a peak between two pixels is drawn to the nearer one."""
SMOOTH_MM: Final = (8.0, 4.0)  # sigma down and across
MOST_CONTRAST: Final = 4.0
"""Grey levels: a bolder line counts no more. Laser printers put bold lines 0.02 mm off too."""
ROUNDS: Final = 5
LEAST_SCATTER_MM: Final = 0.004
MOST_SCATTER_MM: Final = 0.08
"""Lines leave 0.004 to 0.04; peaks of noise, anywhere within FARTHEST_MM, 0.14."""
OUTLIERS: Final = 2.0  # scatters away: counts half


def follow_lines(image: Image, grid: GridMap) -> GridMap:
    """Move the crossings along time to where the printed lines are.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        grid: Right to a quarter of a millimetre.

    Returns:
        The grid with its columns on the lines. It stays as it was if few lines are seen or they
        scatter as noise does, if there is no lattice, or if the paper was fed by jerks, which
        ``find_feed`` has followed by the lines already.
    """
    if grid.feed_px is not None or not np.isfinite(grid.residual_px):
        return grid
    seen = seen_in(LOOK, image, grid.crossings_xy_px)
    lines_mm = np.arange(1.0, np.floor(LOOK.mm_from_px(np.array([LOOK.width_px - 1, 0]))[0]))
    off_mm, contrast = _offsets(_darkness(seen), lines_mm)
    seen_at_all = np.isfinite(off_mm).any(axis=0)
    if np.isfinite(off_mm).mean() < LEAST_LINES:
        return grid
    middle_mm = np.full(len(lines_mm), np.nan)
    middle_mm[seen_at_all] = np.nanmedian(off_mm[:, seen_at_all], axis=0)
    off_mm -= _pattern(middle_mm, lines_mm, grid)
    field_mm, scatter_mm = _smooth(off_mm - np.nanmedian(off_mm), contrast)
    if scatter_mm > MOST_SCATTER_MM:
        return grid
    bands_mm = LOOK.origin_mm_xy[1] + BAND_MM * (np.arange(len(field_mm)) + 0.5)
    mm = crossings_mm()
    columns_mm, rows_mm = mm[0, :, 0], mm[:, 0, 1]
    across = np.array([np.interp(columns_mm, lines_mm, band) for band in field_mm])
    for column, moved in enumerate(across.T):
        mm[:, column, 0] += np.interp(rows_mm, bands_mm, moved)
    points = geometry.page_from_sheet(grid.crossings_xy_px, mm)
    return replace(grid, crossings_xy_px=points.astype(np.float32))


def _darkness(seen: Image) -> Float64:
    """Return (bands, W) grey levels a column is darker than those around it; NaN under ink."""
    rows = round(BAND_MM * LOOK.px_per_mm_xy[1])
    ink = is_ink(seen, LOOK).astype(np.uint8)
    width, height = INK_REACH_PX
    clear = cv2.dilate(ink, np.ones((height, width), np.uint8)) == 0
    clear = clear.reshape(-1, rows, seen.shape[1])
    grey = darkest(seen).reshape(clear.shape)
    free = clear.mean(axis=1)
    mean = (grey * clear).mean(axis=1, dtype=np.float64) / np.maximum(free, 1e-9)
    mean[free < LEAST_PAPER] = np.nan
    filled = np.where(np.isfinite(mean), mean, np.nanmean(mean) if np.isfinite(mean).any() else 255)
    period = round(1.05 * LOOK.px_per_mm_xy[0])
    darker = cv2.blur(filled, (period, 1)) - filled
    darker[np.isnan(mean)] = np.nan
    return np.asarray(darker, np.float64)


def _offsets(darker: Float64, lines_mm: Float64) -> tuple[Float64, Float64]:
    """Return (bands, lines) mm from where each line belongs, NaN if not seen, and its contrast."""
    scale = LOOK.px_per_mm_xy[0]
    at_px = (lines_mm - LOOK.origin_mm_xy[0]) * scale
    near = np.rint(at_px).astype(np.int64)
    unseen = np.isnan(darker)
    sharp = np.where(unseen, -np.inf, gaussian_filter1d(np.where(unseen, 0, darker), 1.0, axis=1))
    padded = np.pad(sharp, ((0, 0), (REACH_PX + 1,) * 2), constant_values=-np.inf)
    window = padded[:, near[:, None] + np.arange(1, 2 * REACH_PX + 2)]  # (bands, lines, 19)
    peak = np.clip(window.argmax(axis=-1), 1, 2 * REACH_PX - 1)[..., None]
    before, top, after = (np.take_along_axis(window, peak + k, axis=-1)[..., 0] for k in (-1, 0, 1))
    is_peak = (
        (top > LEAST_CONTRAST) & (top >= before) & (top >= after) & np.isfinite(before + after)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        parabola = 0.5 * (before - after) / (before - 2 * top + after)
    off_mm = (near - REACH_PX + peak[..., 0] + parabola - at_px) / scale
    off_mm[~is_peak | ~np.isfinite(off_mm)] = np.nan
    return off_mm, np.where(np.isfinite(off_mm), np.clip(top, 0, MOST_CONTRAST), 0.0)


def _pattern(off_mm: Float64, lines_mm: Float64, grid: GridMap) -> Float64:
    """Return (lines,) mm that lines are printed off their places: snapped to pixels, or not.

    The raster is the competition's, with or without pulses, another one of those that are printed,
    wherever it begins, or, on a picture as it was plotted, its own, whatever its scale.
    """
    known = np.isfinite(off_mm)

    def rough(values: Float64) -> Float64:
        return np.asarray(values - gaussian_filter1d(np.where(known, values, 0), 3.0))[known]

    rasters = [(PX_PER_MM, edge_mm) for edge_mm in (0.0, SQUARE_MM)]
    for scale, step in itertools.product(OTHER_PX_PER_MM, range(PHASES)):
        rasters.append((scale, step / (PHASES * scale)))
    patterns = [
        snapped_mm(lines_mm, edge_mm=edge_mm, px_per_mm=scale) - lines_mm
        for scale, edge_mm in rasters
    ]
    patterns.append(_own_raster(lines_mm, grid))
    seen, wanted = rough(off_mm), np.stack([rough(pattern) for pattern in patterns])
    size = np.maximum(np.linalg.norm(wanted, axis=1), 1e-9)
    like = wanted @ seen / size / max(float(np.linalg.norm(seen)), 1e-9)
    best = int(np.argmax(like))
    share = float(wanted[best] @ seen / size[best] ** 2)
    is_snapped = like[best] > SNAPPED_LIKE and share > SNAPPED_SHARE
    return patterns[best] if is_snapped else np.zeros(len(lines_mm))


def _own_raster(lines_mm: Float64, grid: GridMap) -> Float64:
    """Return (lines,) mm from where lines belong to the middle of the picture's nearest pixel."""
    middle_mm = LOOK.mm_from_px(np.array([0.0, LOOK.height_px / 2]))[1]
    at_mm = np.column_stack([lines_mm, np.full(len(lines_mm), middle_mm)])
    xy_px = geometry.page_from_sheet(grid.crossings_xy_px, at_mm)
    ends_px = xy_px[-1] - xy_px[0]
    along = int(np.abs(ends_px).argmax())  # a page on its side has its lines along y
    px_per_mm = ends_px[along] / (lines_mm[-1] - lines_mm[0])
    return np.asarray((np.rint(xy_px[:, along]) - xy_px[:, along]) / px_per_mm)


def _smooth(off_mm: Float64, contrast: Float64) -> tuple[Float64, float]:
    """Return the (bands, lines) offsets smoothed, outliers left out, and their scatter about it."""
    near = np.isfinite(off_mm) & (np.abs(off_mm) < FARTHEST_MM)
    values, trust = np.where(near, off_mm, 0.0), np.where(near, contrast, 0.0)
    sigma = SMOOTH_MM[0] / BAND_MM, SMOOTH_MM[1]
    weight = trust
    for _ in range(ROUNDS):
        share = np.maximum(gaussian_filter(weight, sigma), 1e-9)
        field = np.asarray(gaussian_filter(values * weight, sigma) / share)
        off = np.abs(values - field)
        scatter = max(1.48 * float(np.median(off[near])), LEAST_SCATTER_MM) if near.any() else 1.0
        weight = trust / (1 + (off / (OUTLIERS * scatter)) ** 2)
    return field, scatter
