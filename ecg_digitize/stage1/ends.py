"""Where the traces begin, by where the ink of the rows begins and ends.

Lead names stand where a machine likes them, so that they tell the beginning of the traces to a
square at best, and a square is 0.2 s. The ink of a row tells it to a fifth of a millimetre. It
begins with the first sample, unless a calibration pulse leads to it; then its end tells, less the
length of the row. The end of a rhythm strip tells best: many machines draw the leads of the other
rows some samples short. On photographs dirt and what lies beside the paper hide both; then nothing
is said.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np

from ecg_digitize.frames import TIME_ORIGIN_MM, Frame
from ecg_digitize.layout import Layout
from ecg_digitize.stage1.pulses import Pulse
from ecg_digitize.stage1.sight import ROW_MM, is_ink, seen_inside
from ecg_digitize.types import Float64, GridMap, Image


class EndOptions(NamedTuple):
    """Constants of the search for the ends of rows.

    Attributes:
        px_per_mm: Scale of what is looked at.
        left_mm, right_mm: Sheet x between which rows are looked for.
        reach_mm: How far above and below a baseline ink counts, if the next row is not nearer.
        gap_mm: Gaps in the ink of a row that are closed.
        tall: Share of ink from which on a column is a frame's line, or no paper.
        behind_mm: How much paper must be seen behind the end of a row,
        paper: and which share of it at least: frames have thin lines.
        beside_mm: How far beside its edges a pulse still has ink.
        foot_mm: By how much the ink may be longer than the row, a pulse leading to it.
        slack_mm: By how much it may be shorter, or longer without a pulse.
        agree_mm: By how much one row's end may be off the others'.
        rows: Rows that must agree.
        least_mm: Smaller moves are not worth it: the names are as good.
    """

    px_per_mm: float = 6.0
    left_mm: float = ROW_MM[0]
    right_mm: float = ROW_MM[1]
    reach_mm: float = 12.0
    gap_mm: float = 2.5
    tall: float = 0.85
    behind_mm: float = 2.5
    paper: float = 0.5
    beside_mm: float = 0.4
    foot_mm: float = 8.0
    slack_mm: float = 1.0
    agree_mm: float = 2.0
    rows: int = 3
    least_mm: float = 0.6


DEFAULTS: Final = EndOptions()


def find_ends(
    image: Image,
    grid: GridMap,
    layout: Layout,
    pulses: Sequence[Pulse] = (),
    *,
    options: EndOptions = DEFAULTS,
) -> Float64:
    """Return (rows, 2) sheet x between which the ink of each row goes on without a gap.

    NaN where there is no ink, or where no paper is seen behind its end: the row may go on there.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        grid: Its crossings, and the rows if they are elsewhere.
        layout: What is printed where.
        pulses: What stands before or behind the traces and is none of them.
        options: See there.
    """
    rows = range(layout.n_rows)
    return np.array([_row_ends(image, grid, layout, row, pulses, options) for row in rows])


def start_by_ink(
    ends_mm: Float64, layout: Layout, pulses: Sequence[Pulse] = (), *,
    options: EndOptions = DEFAULTS,
) -> float | None:  # fmt: skip
    """Return how much farther right than frames.TIME_ORIGIN_MM the traces begin, mm.

    Args:
        ends_mm: See ``find_ends``.
        layout: What is printed where.
        pulses: What stands before or behind the traces.
        options: See there.

    Returns:
        None if too few rows show both of their ends.
    """
    length_mm = layout.duration_s * layout.mm_per_s
    longer_mm = ends_mm[:, 1] - ends_mm[:, 0] - length_mm
    whole = (longer_mm > -options.slack_mm) & (longer_mm < options.foot_mm)
    if whole.sum() < options.rows:
        return None
    end_mm = np.median(ends_mm[whole, 1])
    if (np.abs(ends_mm[whole, 1] - end_mm) < options.agree_mm).sum() < options.rows:
        return None
    if layout.strip_row is not None and whole[layout.strip_row]:
        strip_mm = ends_mm[layout.strip_row, 1]
        if end_mm < strip_mm < end_mm + options.agree_mm:  # farther on it is dirt
            end_mm = strip_mm
    bare = whole & (longer_mm < options.slack_mm)
    led_to = any(pulse.left_mm < end_mm - 0.5 * length_mm for pulse in pulses)
    if led_to or bare.sum() < options.rows:
        start_mm = float(end_mm) - length_mm - TIME_ORIGIN_MM
    else:
        start_mm = float(ends_mm[bare, 0].min()) - TIME_ORIGIN_MM
    return start_mm if abs(start_mm) > options.least_mm else 0.0


def _row_ends(
    image: Image,
    grid: GridMap,
    layout: Layout,
    row: int,
    pulses: Sequence[Pulse],
    options: EndOptions,
) -> tuple[float, float]:
    zero_mm = grid.zero_mm(layout)
    reach_mm = options.reach_mm
    if len(zero_mm) > 1:
        reach_mm = min(reach_mm, 0.5 * float(np.diff(zero_mm).min()) - 1.5)
    scale = options.px_per_mm
    frame = Frame(
        round((options.right_mm - options.left_mm) * scale), round(2 * reach_mm * scale),
        (scale, scale), (options.left_mm, float(zero_mm[row]) - reach_mm),
    )  # fmt: skip
    seen, there = seen_inside(frame, image, grid.crossings_xy_px)
    ink = is_ink(seen, frame)
    upright = ((ink | ~there).mean(axis=0) > options.tall).astype(np.uint8)
    inked = ink.any(axis=0) & (cv2.dilate(upright[None], np.ones((1, 5), np.uint8))[0] == 0)
    x_mm = options.left_mm + np.arange(len(inked)) / scale
    for pulse in pulses:
        if pulse.row == row:
            left_mm = pulse.left_mm - options.beside_mm
            right_mm = pulse.left_mm + pulse.width_mm + options.beside_mm
            is_before = pulse.left_mm < x_mm.mean()
            inked &= (x_mm > right_mm) if is_before else (x_mm < left_mm)
    gap = 2 * round(options.gap_mm * scale) + 1
    closed = cv2.morphologyEx(
        inked.astype(np.uint8)[None], cv2.MORPH_CLOSE, np.ones((1, gap), np.uint8)
    )[0]
    change = np.diff(np.pad(closed, 1).astype(np.int8))
    starts, stops = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    if not starts.size:
        return float("nan"), float("nan")
    longest = int((stops - starts).argmax())
    behind_px = round(options.behind_mm * scale)
    behind = upright[stops[longest] : stops[longest] + behind_px]
    if (behind == 0).sum() < options.paper * behind_px:
        return float("nan"), float("nan")
    return float(x_mm[starts[longest]]), float(x_mm[stops[longest] - 1])
