"""Calibration pulses: how high and how wide 1 mV and 0.2 s are printed.

Machines draw a rectangular pulse of 1 mV before or behind each row, 5 mm wide at 25 mm/s. Nothing
else on a sheet has a level top between two upright edges that reach down to a baseline. What the
pulses say is believed if two rows say the same and it is a gain and a speed that machines have.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg_digitize.frames import Frame
from ecg_digitize.layout import PULSE_S, Layout
from ecg_digitize.stage1.sight import ROW_MM, is_ink, seen_in
from ecg_digitize.types import GridMap, Image, Mask

GAINS_MM_PER_MV: Final = (5.0, 10.0, 20.0)
SPEEDS_MM_PER_S: Final = (25.0, 50.0, 100.0)


class PulseOptions(NamedTuple):
    """Constants of the search for pulses.

    Attributes:
        px_per_mm: Scale of what is looked at.
        left_mm, right_mm: Sheet x between which is looked.
        reach_mm: How far above and below a baseline is looked.
        foot_mm: How far from its row's baseline a pulse may stand.
        slack_mm: By how much the lengths of two edges may differ,
        led_on_mm: unless the shorter one ends this near to the baseline: the other then leads on.
        least_mm: Height and width of the smallest pulse; letters are smaller.
        most_mm: Width of the widest.
        gap_mm: Gaps in the ink that are closed.
        empty: Largest share of ink inside a pulse.
        agree: By which share a gain or a speed may be off what machines have, and one row's from
            another's.
        rows: Rows that must say the same; and they must be more than half of those with a pulse.
    """

    px_per_mm: float = 6.0
    left_mm: float = ROW_MM[0]
    right_mm: float = ROW_MM[1]
    reach_mm: float = 25.0
    foot_mm: float = 3.0
    slack_mm: float = 0.8
    led_on_mm: float = 1.2
    least_mm: float = 3.5
    most_mm: float = 22.0
    gap_mm: float = 0.35
    empty: float = 0.12
    agree: float = 0.15
    rows: int = 2


DEFAULTS: Final = PulseOptions()


@dataclass(frozen=True)
class Pulse:
    """A calibration pulse."""

    row: int
    left_mm: float  # sheet x of its left edge
    width_mm: float
    height_mm: float


def find_pulses(
    image: Image,
    grid: GridMap,
    layout: Layout,
    *,
    ink_of: Callable[[Image, Frame], Mask] = is_ink,
    options: PulseOptions = DEFAULTS,
) -> tuple[Pulse, ...]:
    """Find the pulses of the rows, at most one a row.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        grid: Its crossings, and the rows if they are elsewhere.
        layout: What is printed where.
        ink_of: Tells ink from paper and grid, see ``sight.is_ink``.
        options: See there.
    """
    zero_mm = grid.zero_mm(layout)
    scale, margin_mm = options.px_per_mm, 2 * options.reach_mm
    # All rows at once: edges of pulses, which often lie on lines of the grid, are then few there.
    top_mm, bottom_mm = zero_mm.min() - margin_mm, zero_mm.max() + margin_mm
    frame = Frame(
        round((options.right_mm - options.left_mm) * scale),
        round((bottom_mm - top_mm) * scale),
        (scale, scale),
        (options.left_mm, float(top_mm)),
    )
    ink = ink_of(seen_in(frame, image, grid.crossings_xy_px), frame)
    reach, found = round(options.reach_mm * scale), []
    for row, zero in enumerate(zero_mm):
        middle = round((zero - top_mm) * scale)
        pulse = _find_pulse(ink[middle - reach : middle + reach], row, options)
        if pulse is not None:
            found.append(pulse)
    return tuple(found)


def calibrated(
    layout: Layout, pulses: tuple[Pulse, ...], *, options: PulseOptions = DEFAULTS
) -> Layout | None:
    """Return a layout at the gain and the speed that its pulses tell; None if they tell none."""
    for pulse in pulses:
        alike = [
            other
            for other in pulses
            if abs(np.log(other.height_mm / pulse.height_mm)) < options.agree
            and abs(np.log(other.width_mm / pulse.width_mm)) < options.agree
        ]
        if len(alike) < options.rows or 2 * len(alike) <= len(pulses):
            continue
        gain = _nearest(GAINS_MM_PER_MV, float(np.median([one.height_mm for one in alike])))
        speed = _nearest(
            SPEEDS_MM_PER_S, float(np.median([one.width_mm for one in alike])) / PULSE_S
        )
        if max(gain[1], speed[1]) < options.agree:
            return layout.calibrated(mm_per_s=speed[0], mm_per_mv=gain[0])
    return None


def _nearest(values: tuple[float, ...], value: float) -> tuple[float, float]:
    """Return the nearest of some values, and by which share the value is off it."""
    off = np.abs(np.log(np.array(values) / value))
    return values[int(off.argmin())], float(off.min())


def _find_pulse(ink: Mask, row: int, options: PulseOptions) -> Pulse | None:
    """Return the best pulse of a row: a level top, two edges down to the baseline, no ink between.

    The edge beside which the trace begins may lead on into a QRS complex.
    """
    scale = options.px_per_mm
    gap = 2 * round(options.gap_mm * scale / 2) + 1
    closed: Image = ink.astype(np.uint8)
    level = cv2.morphologyEx(closed, cv2.MORPH_CLOSE, np.ones((1, gap), np.uint8))
    upright = cv2.morphologyEx(closed, cv2.MORPH_CLOSE, np.ones((gap, 1), np.uint8))
    down = _run_down(np.asarray(upright, np.uint8))
    least, most = options.least_mm * scale, options.most_mm * scale
    changes = np.diff(np.pad(level, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (y, start), (_, stop) = np.nonzero(changes == 1), np.nonzero(changes == -1)
    fits = (stop - start >= least) & (stop - start <= most)
    y, start, stop = y[fits], start[fits], stop[fits]
    zero = options.reach_mm * scale
    best: tuple[float, Pulse] | None = None
    near = max(round(0.4 * scale), 1)  # strokes are so wide: their longest run counts
    for top, left, right in zip(y, start, stop - 1, strict=True):
        edges = [
            down[top, max(left - 1, 0) : left + near], down[top, right - near + 1 : right + 2],
        ]  # fmt: skip
        heights = [int(edge.max(initial=0)) for edge in edges]
        height = min(heights)
        alike = max(heights) - height < options.slack_mm * scale
        foot_mm = options.foot_mm if alike else options.led_on_mm
        if height < least or abs(top + height - zero) > foot_mm * scale:
            continue
        inside = closed[top + near + 1 : top + height - near, left + near + 1 : right - near]
        if not inside.size or inside.mean() > options.empty:
            continue
        if best is None or height > best[0]:
            width = right - left - (near - 1)  # from the middle of one edge to that of the other
            left_mm = float(options.left_mm + left / scale)
            best = height, Pulse(row, left_mm, float(width / scale), height / scale)
    return None if best is None else best[1]


def _run_down(ink: Image) -> NDArray[np.int32]:
    """Return (H, W) how many pixels of ink follow each other downwards from every pixel."""
    run = np.zeros((ink.shape[0] + 1, ink.shape[1]), np.int32)
    for y in range(ink.shape[0] - 1, -1, -1):
        run[y] = (run[y + 1] + 1) * ink[y]
    return run[:-1]
