"""The calibration pulse at the left end of a row: it is 1 mV high, and the row begins after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Spans = NDArray[np.int64]
"""(W, 2) the first row of pixels of a line in each column, and that below its last."""


class PulseOptions(NamedTuple):
    """Constants of the search; lengths are px of the mask, where a page's 1 mm is at most 3.9 px.

    Attributes:
        share: Of a row, from its left end on, in which its pulse is.
        tall: Height of the pulse's edges, in strokes of the row.
        level_px: How far off each other the two edges may begin and end.
        level: Share of the columns between them that must be as high as they are.
        slim, stout: Least and greatest width of a pulse, as a share of its height.
        agree: By which share the heights of two pulses may differ.
    """

    share: float = 0.06
    tall: float = 5.0
    level_px: int = 3
    level: float = 0.7
    slim: float = 0.3
    stout: float = 0.7
    agree: float = 0.1


DEFAULTS: Final = PulseOptions()


@dataclass(frozen=True)
class Pulse:
    """A calibration pulse in the mask."""

    height_px: float  # 1 mV
    right_px: float  # x of the middle of its right edge, where the first lead begins


def find_pulse(
    span_px: Spans,
    *,
    first_px: int,
    last_px: int,
    stroke_px: float,
    options: PulseOptions = DEFAULTS,
) -> Pulse | None:
    """Find the pulse at the left end of a row: a tall edge, a level top, and a tall edge again.

    Args:
        span_px: (W, 2) the row's line, see ``Spans``.
        first_px: First column of the row.
        last_px: Last column.
        stroke_px: How wide the line is.
        options: Constants of the decoder.

    Returns:
        The pulse, or None.
    """
    part = span_px[first_px : first_px + round(options.share * (last_px - first_px))]
    tall = part[:, 1] - part[:, 0] >= options.tall * stroke_px
    tall[1:-1] |= tall[:-2] & tall[2:]
    changes = np.flatnonzero(np.diff(tall, prepend=False, append=False)).reshape(-1, 2)
    for (left, a), (b, _) in pairwise(changes):
        top, bottom = part[left:a, 0].min(), part[left:a, 1].max()
        is_level = np.abs(part[a:b, 0] - top) <= options.level_px
        # The first wave may begin in the right edge: it is as high as the left one, or higher.
        edge = part[b : b + a - left]
        reaches = min(top - edge[:, 0].min(), edge[:, 1].max() - bottom) >= -options.level_px
        height_px = float(bottom - top - stroke_px)
        is_pulse = is_level.mean() >= options.level and reaches
        if is_pulse and options.slim < (b - left) / height_px < options.stout:
            return Pulse(height_px, float(first_px + b + (a - left - 1) / 2))
    return None


def gain_of(
    pulses: Sequence[Pulse | None], *, options: PulseOptions = DEFAULTS
) -> tuple[float, int]:
    """Return the px of 1 mV, and how many pulses say so; two must agree, or it is 0 of none."""
    heights = np.array([pulse.height_px for pulse in pulses if pulse is not None])
    if len(heights) < 2:
        return 0.0, 0
    middle = np.median(heights)
    alike = heights[np.abs(heights - middle) <= options.agree * middle]
    return (float(alike.mean()), len(alike)) if len(alike) >= 2 else (0.0, 0)
