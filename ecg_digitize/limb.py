"""What the limb leads know of each other: sums that are zero wherever all their leads are printed.

Six leads are measured between three electrodes, so that two of them give the others (Einthoven,
Goldberger): II = I + III, aVR + aVL + aVF = 0, and II = 2/3 (aVF - aVR).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ecg_digitize.layout import Layout
from ecg_digitize.types import Float64

STRIP: Final = "rhythm"
"""Stands for lead II where a rhythm strip shows it."""

Sum = Mapping[str, float]
"""Weights of the leads of a sum that is zero."""

EINTHOVEN: Final[Sum] = {"I": 1.0, "II": -1.0, "III": 1.0}
GOLDBERGER: Final[Sum] = {"aVR": 1.0, "aVL": 1.0, "aVF": 1.0}
REPEATED: Final[Sum] = {"II": 1.0, STRIP: -1.0}


@dataclass(frozen=True)
class Relation:
    """A sum of rows that is zero in a window."""

    window: slice  # trace columns
    weights: Float64  # (rows,) 0 for rows that do not count


def relations(layout: Layout, sums: Sequence[Sum]) -> tuple[Relation, ...]:
    """Return those of some sums whose leads a layout prints at the same time, in their order."""
    found = (_relation(layout, weight_of) for weight_of in sums)
    return tuple(relation for relation in found if relation is not None)


def relations_by_window(layout: Layout, sums: Sequence[Sum]) -> list[tuple[slice, Float64]]:
    """Return the windows in which some of the sums hold, and their (n, rows) weights there."""
    weights: dict[tuple[int, int], list[Float64]] = {}
    for relation in relations(layout, sums):
        window = relation.window.start, relation.window.stop
        weights.setdefault(window, []).append(relation.weights)
    return [(slice(*window), np.stack(rows)) for window, rows in weights.items()]


def _relation(layout: Layout, weight_of: Sum) -> Relation | None:
    weights, start, stop = np.zeros(layout.n_rows), 0, layout.n_columns
    for key, weight in weight_of.items():
        place = _place(layout, key)
        if place is None:
            return None
        row, columns, sign = place
        weights[row] = sign * weight
        start, stop = max(start, columns.start), min(stop, columns.stop)
    return Relation(slice(start, stop), weights) if start < stop else None


def _place(layout: Layout, key: str) -> tuple[int, slice, int] | None:
    lead, on_strip = ("II", True) if key == STRIP else (key, False)
    for index, row in enumerate(layout.rows):
        for segment in row.segments:
            if segment.lead == lead and row.is_strip == on_strip:
                return index, layout.columns(segment), segment.sign
    return None
