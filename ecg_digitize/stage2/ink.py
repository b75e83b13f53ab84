"""Where the rectified page is blank: no line leaps from one column to the next across that.

How dark ink is depends on the picture, from black on white in a scan to a faint blue in the
shadow of a photo, so it is measured where stage 2 is sure that a line runs.
"""

from dataclasses import replace
from typing import Final

import cv2
import numpy as np

from ecg_digitize.layout import RECT, TRACE_COLUMNS, TRACE_X0_PX
from ecg_digitize.stage1.sight import against_paper
from ecg_digitize.stage2.whole import BIN_PX
from ecg_digitize.types import Float32, Float64, Image

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
_COLUMNS: Final = 2
"""Averaged into one: a pen is eight wide."""
_LOOK: Final = replace(
    RECT,
    width_px=TRACE_COLUMNS // _COLUMNS,
    height_px=RECT.height_px // BIN_PX,
    px_per_mm_xy=(RECT.px_per_mm_xy[0] / _COLUMNS, RECT.px_per_mm_xy[1] / BIN_PX),
)


def blank_above(image: Image, centre: Float64, mass: Float64) -> Float32:
    """Measure how much blank paper lies above every bin of stage 2's map.

    Args:
        image: (1280, 5600, 3) uint8 RGB, rect frame.
        centre: (4, 5000) bins, of the highest ridge of every column.
        mass: (4, 5000) its probability.

    Returns:
        (641, 5000): how many of the bins above are blank, each between 0 and 1. The difference of
        two values of a column is the blank paper between them.
    """
    traces = image[:, TRACE_X0_PX : TRACE_X0_PX + TRACE_COLUMNS]
    size = (_LOOK.width_px, _LOOK.height_px)
    seen = np.asarray(cv2.resize(traces, size, interpolation=cv2.INTER_AREA), np.uint8)
    darkness = 1 - against_paper(seen, _LOOK)
    row, column = np.nonzero(mass > SURE)
    bins = np.rint(centre[row, column]).astype(np.int64)
    usual = np.median(darkness[bins, column // _COLUMNS]) if column.size else USUAL_DARKNESS
    least, most = (max(float(usual), LEAST_DARKNESS) * share for share in INK)
    ink = np.clip((darkness - least) / (most - least), 0, 1)
    ink = cv2.dilate(ink, np.ones((1, STROKE_COLUMNS // _COLUMNS), np.uint8))
    blank = np.repeat(1 - ink, _COLUMNS, axis=1)
    return np.asarray(np.cumsum(np.pad(blank, ((1, 0), (0, 0))), axis=0), np.float32)
