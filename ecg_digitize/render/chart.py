"""Signals on ECG paper, drawn by matplotlib."""

from typing import Any, Final

import numpy as np

from ecg_digitize.extras import load
from ecg_digitize.frames import MM_PER_INCH
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.types import Recording

MM_PER_S: Final = COMPETITION.mm_per_s
MM_PER_MV: Final = COMPETITION.mm_per_mv
_ABOVE_MM: Final = 10.0  # of a row without a taller stroke, up from 0 mV
_BELOW_MM: Final = 8.0
_SPARE_MM: Final = 3.0
_MINOR_RGB: Final = "#f6d5d5"
_MAJOR_RGB: Final = "#e9a3a3"


def draw_chart(recording: Recording, axes: Any = None) -> Any:
    """Draw the rows of a recording as they were printed, at 25 mm/s and 10 mm/mV.

    Args:
        recording: What to draw; gaps where it is NaN.
        axes: Of matplotlib; None makes a figure of the size of the paper.

    Returns:
        The axes, whose units are millimetres.

    Raises:
        InputError: The package matplotlib is not installed.
    """
    layout, fs_hz = recording.layout, recording.fs_hz
    rows = [
        [
            (segment.lead, MM_PER_S * segment.start_s, _piece_mm(recording, segment))
            for segment in row.segments
        ]
        for row in layout.rows
    ]
    zeros_mm, height_mm = _stacked([[mm for _, _, mm in row] for row in rows])
    width_mm = MM_PER_S * layout.duration_s
    if axes is None:
        pyplot = load("matplotlib.pyplot", extra="plot")
        _, axes = pyplot.subplots(
            figsize=(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH), layout="constrained"
        )
    for every_mm, colour, width in ((1, _MINOR_RGB, 0.3), (5, _MAJOR_RGB, 0.6)):
        for x in np.arange(0, width_mm + every_mm, every_mm):
            axes.axvline(x, color=colour, linewidth=width, zorder=0)
        for y in np.arange(0, height_mm + every_mm, every_mm):
            axes.axhline(y, color=colour, linewidth=width, zorder=0)
    for row, zero_mm in zip(rows, zeros_mm, strict=True):
        for lead, start_mm, mm in row:
            x = start_mm + MM_PER_S * np.arange(len(mm)) / fs_hz
            axes.plot(x, zero_mm - mm, color="black", linewidth=0.8)
            axes.text(start_mm + 1, zero_mm - 6, lead, fontsize=8)
    axes.set(xlim=(0, width_mm), ylim=(height_mm, 0), aspect="equal", xticks=[], yticks=[])
    return axes


def _piece_mm(recording: Recording, segment: Any) -> Any:
    """Return what a segment shows, millimetres above its zero line."""
    first, last = (round(at_s * recording.fs_hz) for at_s in (segment.start_s, segment.stop_s))
    return MM_PER_MV * recording.signals_mv[LEADS.index(segment.lead), first:last]


def _stacked(rows_mm: list[list[Any]]) -> tuple[list[float], float]:
    """Return where the zero lines of rows lie that do not touch each other, and where all end."""
    zeros_mm, end_mm = [], 0.0
    for pieces in rows_mm:
        seen = np.concatenate([*pieces, [0.0]])
        seen = seen[np.isfinite(seen)]
        zero_mm = end_mm + max(_ABOVE_MM, float(seen.max()) + _SPARE_MM)
        zeros_mm.append(zero_mm)
        end_mm = zero_mm + max(_BELOW_MM, _SPARE_MM - float(seen.min()))
    return zeros_mm, end_mm
