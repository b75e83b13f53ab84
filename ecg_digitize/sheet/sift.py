"""What on a sheet is no row: text, edges of desks and pictures, and what lies far away."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from ecg_digitize.sheet.flat import FLAT_PX_PER_MM, FlatSheet, Strokes
from ecg_digitize.sheet.match import PlacedName
from ecg_digitize.sheet.places import ink_ends_mm
from ecg_digitize.sheet.text import Line
from ecg_digitize.types import Float64, Mask


class SiftOptions(NamedTuple):
    """Constants of what is a row.

    Attributes:
        enough_names: A side on which so many names are read is the upright one, and they tell
            where the rows are; else the other sides are looked at too.
        beyond_names_mm: How far above the first and below the last of enough names a row may lie:
            the name of a row may not have been read.
        beyond_mm: How far beyond where most rows begin and end it is asked whether a row goes on,
            from and to: no pulse, nor its foot, reaches there.
        goes_on: Share of ink there from which on it does; text has less.
        inked: Share of the columns between where most rows begin and end in which a row has ink;
            a line of text has less.
    """

    enough_names: int = 6
    beyond_names_mm: float = 65.0
    beyond_mm: tuple[float, float] = (12.0, 30.0)
    goes_on: float = 0.8
    inked: float = 0.25


DEFAULTS: Final = SiftOptions()


def has_enough(names: Sequence[PlacedName]) -> bool:
    """Say whether so many names were read that they tell where on the picture the rows are."""
    return len({name.lead for name in names}) >= DEFAULTS.enough_names


def without_text(strokes: Strokes, text: Sequence[Line]) -> Strokes:
    """Take from what may be traces what was read as text: whole lines of it look like rows."""
    lines = strokes.lines.copy()
    for line in text:
        if line.is_text:
            left, top, width, height = (round(mm * FLAT_PX_PER_MM) for mm in line.box_mm)
            lines[max(top, 0) : top + height, max(left, 0) : left + width] = False
    return replace(strokes, lines=lines)


def near_names(lines: Mask, names: Sequence[PlacedName]) -> Mask:
    """Take away what lies far above the first lead name or far below the last: it is no row."""
    if not has_enough(names):
        return lines
    y_mm = [name.y_mm for name in names]
    first, last = min(y_mm) - DEFAULTS.beyond_names_mm, max(y_mm) + DEFAULTS.beyond_names_mm
    near = lines.copy()
    near[: max(round(first * FLAT_PX_PER_MM), 0)] = False
    near[max(round(last * FLAT_PX_PER_MM), 0) :] = False
    return near


def are_alike(lines: Mask, rows_mm: Float64) -> Mask:
    """Return (rows,) bool: which are about as long as the others.

    Edges of monitors and desks go on beyond them, and lines of text are shorter.
    """
    inked, ends_mm = ink_ends_mm(lines, rows_mm, (), px_per_mm=FLAT_PX_PER_MM)
    alike = np.ones(len(rows_mm), np.bool_)
    if not np.isfinite(ends_mm).any():
        return alike
    begin_mm, end_mm = np.nanmedian(ends_mm, axis=0)
    least, most = DEFAULTS.beyond_mm
    for from_mm, to_mm in ((begin_mm - most, begin_mm - least), (end_mm + least, end_mm + most)):
        low, high = (max(round(mm * FLAT_PX_PER_MM), 0) for mm in (from_mm, to_mm))
        beyond = inked[:, low:high]
        if beyond.shape[1] > 0.5 * (most - least) * FLAT_PX_PER_MM:
            alike &= beyond.mean(axis=1) < DEFAULTS.goes_on
    first, last = (round(float(at_mm) * FLAT_PX_PER_MM) for at_mm in (begin_mm, end_mm))
    long = inked[:, first : last + 1].mean(axis=1) > DEFAULTS.inked
    return np.asarray(alike & long, np.bool_)


def on_picture(flat: FlatSheet, rows_mm: Float64) -> Mask:
    """Return (rows,) bool: which lie on the picture for the most part; its edge is no row."""
    at_px = np.clip(np.rint(rows_mm * FLAT_PX_PER_MM), 0, len(flat.inside) - 1).astype(np.int64)
    return np.asarray(flat.inside[at_px].mean(axis=1) > 0.5, np.bool_)
