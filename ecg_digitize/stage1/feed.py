"""Slips of a scanner's feed: page columns shifted, all rows alike, by a step function of page x.

A sheet-fed scanner moves the paper in jerks. What it shifts is a column of the *picture*, so no
surface over the sheet describes it: steps of 0.1 to 0.4 mm (15 ms) lie between two grid lines and,
the sheet being turned a little, at another time in every row. The 1 mm lines tell where: they are
looked for, row band by row band, to both sides of where a homography expects them.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg_digitize import geometry
from ecg_digitize.frames import SQUARE_MM, Frame, snapped_mm
from ecg_digitize.jit import compiled
from ecg_digitize.types import Float32, Float64, Image

LOOK_MM: Final = (2.0, 55.0, 278.0, 215.0)
"""x0, y0, x1, y1 of the part of the sheet that is looked at: where the traces are."""
BAND_MM: Final = 5.0
FINE: Final = 20.0  # px/mm across when looking for lines
COARSE: Final = 4.0  # px/mm down
STEP_MM: Final = 0.02  # of the shifts tried
REACH_MM: Final = 1.2  # largest shift
MAJOR_WEIGHT: Final = 3.0  # of a 5 mm line against a 1 mm line: no shift may be off by a whole mm
PRICE_PER_MM: Final = 6.0
"""Price of a step of the shift, in fully seen 1 mm lines."""
LEAST_CONTRAST: Final = 6.0  # grey levels: fainter lines count less
CLIP: Final = 40.0  # grey levels: what a line may stand out, so that a trace counts no more


def find_feed(grey: Image, page_from_sheet: Float64) -> Float32:
    """Find how far the feed shifted every column of a page.

    Args:
        grey: (H, W) uint8, page frame, the sheet upright in it.
        page_from_sheet: (3, 3) homography, sheet mm to page px, the best there is for all the page.

    Returns:
        (W,) float32, see ``GridMap.feed_px``.
    """
    x0, y0, x1, y1 = LOOK_MM
    frame = Frame(round((x1 - x0) * FINE), round((y1 - y0) * COARSE), (FINE, COARSE), (x0, y0))
    bands = _line_contrast(grey, page_from_sheet, frame)
    even_mm = np.arange(x0 + 2, x1 - 2)
    price = PRICE_PER_MM * STEP_MM * (0.5 + _likeness(grey))
    best_px, most = np.zeros(grey.shape[1]), -np.inf
    for lines_mm in (even_mm, *(snapped_mm(even_mm, edge_mm=edge) for edge in (0.0, SQUARE_MM))):
        reward, shifts_px = _reward(bands, even_mm, lines_mm, page_from_sheet, grey.shape[1])
        path, gain = _steadiest(reward, price)
        if gain > most:
            best_px, most = shifts_px[path], gain
    x_px = np.arange(grey.shape[1])
    even_px = np.maximum.accumulate(x_px - best_px)  # what was fed twice counts once
    return (np.interp(x_px, even_px, x_px) - x_px).astype(np.float32)


def _reward(
    bands: Float32, even_mm: Float64, lines_mm: Float64, page_from_sheet: Float64, width_px: int
) -> tuple[Float64, Float64]:
    """Say what every shift of every page column explains.

    Args:
        bands: See _line_contrast.
        even_mm: Sheet x of the 1 mm lines, whole millimetres.
        lines_mm: Where they are printed.
        page_from_sheet: (3, 3) homography.
        width_px: Columns of the page.

    Returns:
        reward (width_px, shifts), in fully seen 1 mm lines, and the shifts, page px.
    """
    x0, y0, _, _ = LOOK_MM
    shifts_mm = np.arange(-REACH_MM, REACH_MM + STEP_MM / 2, STEP_MM)
    index = np.rint((lines_mm[:, None] + shifts_mm - x0) * FINE).astype(np.int64)
    contrast = bands[:, np.clip(index, 0, bands.shape[1] - 1)]  # (bands, lines, shifts)
    seen = np.clip(contrast.mean(axis=0).max(axis=-1), LEAST_CONTRAST, CLIP)
    weight = np.where(even_mm % SQUARE_MM == 0, MAJOR_WEIGHT, 1.0) / seen / len(bands)
    evidence = np.clip(contrast, -CLIP, CLIP) * weight[:, None]

    y_mm = y0 + BAND_MM * (np.arange(len(bands)) + 0.5)
    sheet = np.stack(np.meshgrid(lines_mm, y_mm), axis=-1)
    page_x = geometry.apply_homography(page_from_sheet, sheet)[..., 0]  # (bands, lines)
    px_per_mm = np.ptp(page_x, axis=1).mean() / np.ptp(lines_mm)
    shifts_px = shifts_mm * px_per_mm
    column = np.rint(page_x[..., None] + shifts_px).astype(np.int64)
    inside = (column >= 0) & (column < width_px)
    place = column * len(shifts_px) + np.arange(len(shifts_px))
    reward = np.bincount(place[inside], evidence[inside], width_px * len(shifts_px))
    return np.asarray(reward.reshape(width_px, -1), np.float64), shifts_px


def fed(xy_px: Float64, feed_px: Float32) -> Float64:
    """Move (..., 2) page px from where they would be without slips to where they are."""
    x = xy_px[..., 0] + np.interp(xy_px[..., 0], np.arange(len(feed_px)), feed_px)
    return np.stack([x, xy_px[..., 1]], axis=-1)


def _likeness(grey: Image) -> Float64:
    """Return (W,): how each column correlates with the one before. A slip cuts strokes in two."""
    ink = grey.astype(np.float32)
    ink -= ink.mean(axis=0)
    norm = np.sqrt((ink**2).mean(axis=0)) + 1.0
    likeness = np.ones(grey.shape[1])
    likeness[1:] = (ink[:, 1:] * ink[:, :-1]).mean(axis=0) / (norm[1:] * norm[:-1])
    return likeness


def _line_contrast(grey: Image, page_from_sheet: Float64, frame: Frame) -> Float32:
    """Return (bands, W): how much darker each place is than its surroundings, grey levels."""
    page_from_px = page_from_sheet @ np.linalg.inv(geometry.frame_from_sheet(frame))
    flat = cv2.warpPerspective(
        grey, page_from_px, (frame.width_px, frame.height_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    rows = round(BAND_MM * frame.px_per_mm_xy[1])
    mean = flat.reshape(-1, rows, frame.width_px).mean(axis=1, dtype=np.float32)
    around = cv2.blur(mean, (round(1.05 * FINE), 1))
    return np.asarray(around - mean, np.float32)


@compiled
def _steadiest(reward: Float64, price: Float64) -> tuple[NDArray[np.int64], float]:
    """Return the (n,) path of most reward minus price[i] a state moved at i, and its gain.

    Args:
        reward: (n, states).
        price: (n,).
    """
    # Plain loops: numba compiles them in a fifth of the time that array expressions take.
    n, states = reward.shape
    came_from = np.empty((n, states), np.int32)
    best = np.empty(states)
    for s in range(states):
        best[s] = reward[0, s]
    for i in range(1, n):
        # The best origin of each state at price |move|: two sweeps.
        origin = came_from[i]
        for s in range(states):
            origin[s] = s
            if s > 0 and best[s - 1] - price[i] > best[s]:
                best[s] = best[s - 1] - price[i]
                origin[s] = origin[s - 1]
        for s in range(states - 2, -1, -1):
            if best[s + 1] - price[i] > best[s]:
                best[s] = best[s + 1] - price[i]
                origin[s] = origin[s + 1]
        for s in range(states):
            best[s] += reward[i, s]
    last = 0
    for s in range(1, states):
        if best[s] > best[last]:
            last = s
    gain = best[last]
    path = np.empty(n, np.int64)
    for i in range(n - 1, -1, -1):
        path[i] = last
        last = came_from[i, last]
    return path, gain
