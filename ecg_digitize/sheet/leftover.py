"""Ink that may be trace, and that no row was led through: what was missed, or cut short."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import cv2
import numpy as np

from ecg_digitize.frames import RECT
from ecg_digitize.sheet.flat import FLAT_PX_PER_MM
from ecg_digitize.sheet.read import Sheet
from ecg_digitize.types import Float64, Mask, Trace


class LeftoverOptions(NamedTuple):
    """What is left over.

    Attributes:
        beside_mm: How far beside the middle of a line its ink may lie.
        tall_mm: Height of the smallest piece of ink that counts.
        reach_mm: How far above the first row and below the last one ink may be a trace.
        margin_mm: Ink so near to where the rows begin and end does not count.
    """

    beside_mm: float = 1.2
    tall_mm: float = 2.0
    reach_mm: float = 15.0
    margin_mm: float = 2.0


DEFAULTS: Final = LeftoverOptions()


def leftover_mm(
    lines: Mask, sheet: Sheet, trace: Trace, *, options: LeftoverOptions = DEFAULTS
) -> Mapping[tuple[int, str], float]:
    """Measure the ink that no row was led through, lead by lead.

    Args:
        lines: (H, W) what may be traces, at FLAT_PX_PER_MM, see ``flat.strokes_of``.
        sheet: What is printed where.
        trace: By place, see ``read.read_rows``.
        options: See there.

    Returns:
        Height of the pieces left over, mm, by row and lead; the lead whose zero line is nearest.
    """
    scale, rows_mm = FLAT_PX_PER_MM, sheet.match.rows_mm
    begin_mm = float(sheet.places.starts_mm[0])
    covered = np.zeros(lines.shape, np.uint8)
    x_mm = begin_mm + np.arange(trace.layout.n_columns) / RECT.px_per_mm_xy[0]
    zero_px = np.array(trace.layout.zero_px)[:, None]
    y_mm = rows_mm[:, None] + (trace.y_px - zero_px) / RECT.px_per_mm_xy[1]
    for row_mm in y_mm:
        line_px = np.rint(scale * np.column_stack([x_mm, row_mm])).astype(np.int32)
        thickness = 2 * round(options.beside_mm * scale) + 1
        cv2.polylines(covered, [line_px[:, None]], False, 1, thickness)
    left = lines & (covered == 0)
    first, last = (
        max(round((at_mm + side) * scale), 0)
        for at_mm, side in (
            (rows_mm[0], -options.reach_mm), (rows_mm[-1], options.reach_mm)
        )
    )  # fmt: skip
    left[:first], left[last:] = False, False
    _, _, stats, centres = cv2.connectedComponentsWithStats(left.astype(np.uint8), connectivity=8)
    found: dict[tuple[int, str], float] = {}
    for (_, _, _, height, _), centre in zip(stats[1:], centres[1:], strict=True):
        if height >= options.tall_mm * scale:
            where = _lead_at(sheet, trace, np.asarray(centre) / scale, options)
            if where is not None:
                found[where] = found.get(where, 0.0) + float(height) / scale
    return found


def _lead_at(
    sheet: Sheet, trace: Trace, at_mm: Float64, options: LeftoverOptions
) -> tuple[int, str] | None:
    """Return the row and the lead at a place on the sheet."""
    row = int(np.abs(sheet.match.rows_mm - at_mm[1]).argmin())
    at_s = (at_mm[0] - sheet.places.starts_mm[0]) / trace.layout.mm_per_s
    margin_s = options.margin_mm / trace.layout.mm_per_s
    for segment in trace.layout.rows[row].segments:
        if segment.start_s + margin_s < at_s < segment.stop_s - margin_s:
            return row, segment.lead
    return None
