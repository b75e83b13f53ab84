"""Where the rectified page is blank, and which ink is not that of the lines.

No line leaps from one column to the next across blank paper, and none turns into handwriting. How
dark ink is depends on the picture, from black on white in a scan to a faint blue in the shadow of a
photo, and so does its colour. Both are measured where stage 2 is sure that a line runs.
"""

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg_digitize.frames import RECT, TRACE_X0_PX
from ecg_digitize.stage1.sight import against_paper, channels_against_paper
from ecg_digitize.stage2.whole import BIN_PX
from ecg_digitize.types import Float32, Float64, Image, Mask

Index = NDArray[np.int64]

SURE: Final = 0.8
"""Probability of a column's best ridge from which on ink is seen there."""
USUAL_DARKNESS: Final = 0.6
"""Of lines against paper, in a picture where none is sure."""
LEAST_DARKNESS: Final = 0.05
"""That lines are taken to have: paper is as uneven."""
INK: Final = (0.4, 0.8)
"""Shares of the lines' darkness at which ink begins to count, and at which it counts fully: a
steep stroke is seen fainter than a level line. With (0.3, 0.7) rows exchanged their lines on one of
100 pages, with (0.5, 0.9) strokes went unseen on another."""
STROKE_COLUMNS: Final = 6
"""How many columns wide ink is seen at least: half a pen."""
BLACKEST: Final = 0.02
"""Share of the paper's light that ink is taken to send back at least: black has no colour."""
SAME_COLOUR: Final = 0.05
"""Ink that far from the lines' colour is surely theirs, and as far again as three times what half
of the lines stray, who lie on grids of another colour."""
OTHER_COLOUR: Final = 0.1
"""And this much farther surely another's: a blue pen is 0.2 from black."""
OWN_COLUMNS: Final = 500
"""Sure columns from which on a row's colour is its own: it may have been drawn by another pen."""
GROUND_MM: Final = 1.5
"""Window in which the brightest pixel is taken for what ink of a colour lies on: paper, or the
broad stroke of a highlighter."""
COLOUR_WINDOW: Final = (9, 9)
"""Columns, two as one, and bins over which dark ink gives its colour: where a line crosses one of
the grid it takes on some of that one's."""
_COLUMNS: Final = 2
"""Averaged into one: a pen is eight wide."""
_LOOK: Final = replace(
    RECT,
    height_px=RECT.height_px // BIN_PX,
    px_per_mm_xy=(RECT.px_per_mm_xy[0] / _COLUMNS, RECT.px_per_mm_xy[1] / BIN_PX),
)


@dataclass(frozen=True)
class Ink:
    """What a page shows where a decoder looks for lines."""

    blank_above: Float32  # (641, 5000): how many of the bins above are blank, each between 0 and 1
    foreign: Float64  # (4, 5000, n): how foreign the ink of a ridge is, between 0 and 1


def see_ink(image: Image, centre: Float64, mass: Float64) -> Ink:
    """Measure blank paper in every bin of stage 2's map, and the colour of its ridges.

    Colour is what ink takes away: -log of the shares of the paper's light in red, green and blue
    (Beer-Lambert), divided by their sum. Black, however faint, takes a third of each.

    Args:
        image: (1280, 5600, 3) uint8 RGB, rect frame, or a strip of it.
        centre: (4, 5000, n) bins, the ridges of every column, the highest first.
        mass: (4, 5000, n) their probabilities.

    Returns:
        The difference of two values of a column of `blank_above` is the blank paper between them.
    """
    traces = image[:, TRACE_X0_PX : TRACE_X0_PX + centre.shape[1]]
    width_px, height_px = -(-centre.shape[1] // _COLUMNS), image.shape[0] // BIN_PX
    look = replace(_LOOK, width_px=width_px, height_px=height_px)
    size = (look.width_px, look.height_px)
    seen = np.asarray(cv2.resize(traces, size, interpolation=cv2.INTER_AREA), np.uint8)
    darkness = 1 - against_paper(seen, look)
    bins = np.clip(np.rint(centre), 0, look.height_px - 1).astype(np.int64)
    at = bins, np.arange(centre.shape[1])[:, None] // _COLUMNS
    sure = mass[..., 0] > SURE
    light = np.clip(channels_against_paper(seen, look, window_mm=GROUND_MM), BLACKEST, 1)
    return Ink(
        blank_above=_blank_above(darkness, darkness[at][..., 0][sure]),
        foreign=_foreign(-np.log(light), darkness, at, sure),
    )


def _blank_above(darkness: Float32, of_lines: Float32) -> Float32:
    """Count blank bins; darkness is (640, 2500), that of sure lines (n,)."""
    usual = float(np.median(of_lines)) if of_lines.size else USUAL_DARKNESS
    least, most = (max(usual, LEAST_DARKNESS) * share for share in INK)
    ink = np.clip((darkness - least) / (most - least), 0, 1)
    ink = cv2.dilate(ink, np.ones((1, STROKE_COLUMNS // _COLUMNS), np.uint8))
    above = np.zeros((len(ink) + 1, ink.shape[1]), np.float32)
    for row, blank in enumerate(1 - ink):  # np.cumsum down columns takes ten times as long
        np.add(above[row], blank, out=above[row + 1])
    return np.repeat(above, _COLUMNS, axis=1)


def _foreign(taken: Float32, darkness: Float32, at: tuple[Index, Index], sure: Mask) -> Float64:
    """Tell foreign ink from what is taken of the light, (640, 2500, 3), around each ridge."""
    foreign = np.zeros(at[0].shape)
    if not sure.any():
        return foreign
    mean = cv2.blur(taken * np.maximum(darkness, 0)[..., None], COLOUR_WINDOW)[at]
    colour = mean / np.maximum(mean.sum(axis=-1, keepdims=True), 1e-4)
    total = taken[at].sum(axis=-1)
    for row in range(len(sure)):
        of_row = sure & (np.arange(len(sure)) == row)[:, None]
        lines = of_row if of_row.sum() >= OWN_COLUMNS else sure
        usual = np.median(colour[..., 0, :][lines], axis=0)
        strays = np.linalg.norm(colour - usual, axis=-1)
        same = SAME_COLOUR + 3 * np.median(strays[..., 0][lines])
        seen = np.minimum(total[row] / max(float(np.median(total[..., 0][lines])), 1e-3), 1)
        foreign[row] = np.clip((strays[row] - same) / OTHER_COLOUR, 0, 1) * seen
    return foreign
