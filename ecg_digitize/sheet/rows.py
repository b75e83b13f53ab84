"""Where the rows of a sheet lie: ink is densest along their baselines."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy.signal import find_peaks

from ecg_digitize.sheet.match import PlacedName, rows_of
from ecg_digitize.types import Float64, Mask


class RowOptions(NamedTuple):
    """Constants of the search.

    Attributes:
        sigma_mm: Blur of the density; traces wander about their baselines.
        apart_mm: Rows are at least so far apart.
        least: Density of a row, as a share of the median one's.
        rises: How far it rises above what lies between it and denser rows, likewise.
        most_named: Share of the names that must stand by rows that were found,
        least_named: and how many of these rows there must be, for names to tell further ones.
        sure: Confidence of a name that tells a row alone.
        column_mm: By how much a name may be off its column.
        named: Density of a row that was not found by its ink.
    """

    sigma_mm: float = 1.0
    apart_mm: float = 7.0
    least: float = 0.25
    rises: float = 0.1
    most_named: float = 0.6
    least_named: int = 3
    sure: float = 0.8
    column_mm: float = 4.0
    named: float = 0.5


DEFAULTS = RowOptions()


def find_rows(
    lines: Mask, *, px_per_mm: float, options: RowOptions = DEFAULTS
) -> tuple[Float64, Float64]:
    """Find the baselines of all rows.

    Args:
        lines: (H, W) bool, what may be traces, see ``flat.strokes_of``.
        px_per_mm: Its scale.
        options: See there.

    Returns:
        (n,) sheet y of baselines, downwards, and (n,) how dense their ink is, 1 the median.
    """
    per_column = lines.sum(axis=0) + 1.0  # a steep stroke counts no more than a level line
    density = (lines / per_column).mean(axis=1)
    density = cv2.GaussianBlur(density[None], (0, 0), options.sigma_mm * px_per_mm)[0]
    most = density.max(initial=0.0)
    if most <= 0:
        return np.empty(0), np.empty(0)
    density = np.pad(density / most, 1)  # a row on the picture's edge is one too
    peaks, _ = find_peaks(
        density,
        height=0.5 * options.least,
        prominence=options.rises,
        distance=options.apart_mm * px_per_mm,
    )
    usual = np.median(density[peaks]) if peaks.size else 1.0
    peaks = peaks[density[peaks] > options.least * usual]
    return (peaks - 1) / px_per_mm, density[peaks] / usual


def with_named_rows(
    rows_mm: Float64,
    weights: Float64,
    names: Sequence[PlacedName],
    *,
    options: RowOptions = DEFAULTS,
) -> tuple[Float64, Float64]:
    """Add rows whose names were read, but whose ink was not told from that of their neighbours.

    Faint rows between others that have names, and without any themselves, are taken away.

    Args:
        rows_mm: (n,) sheet y of baselines, see ``find_rows``.
        weights: (n,) how dense their ink is.
        names: Lead names, as read.
        options: See there.

    Returns:
        As ``find_rows``, with the further rows where they belong.
    """
    if len(rows_mm) < options.least_named:
        return rows_mm, weights
    on_row = rows_of(names, rows_mm, weights)
    at_row = [(name, row) for name, row in zip(names, on_row, strict=True) if row is not None]
    found = sorted({row for _, row in at_row})
    if len(at_row) < options.most_named * len(names) or len(found) < options.least_named:
        return rows_mm, weights
    below_mm = float(np.median([name.y_mm - rows_mm[row] for name, row in at_row]))
    columns_mm = np.array([name.x_mm for name, _ in at_row])
    new_mm: list[float] = []
    for name in sorted(names, key=lambda name: -name.confidence):
        row_mm = name.y_mm - below_mm
        in_column = (np.abs(columns_mm - name.x_mm) < options.column_mm).sum() > 1
        if name.confidence < options.sure or not in_column:
            continue
        if np.abs(np.append(rows_mm, new_mm) - row_mm).min() > options.apart_mm:
            new_mm.append(row_mm)
    named = np.isin(np.arange(len(rows_mm)), found)
    between = (rows_mm > rows_mm[found[0]]) & (rows_mm < rows_mm[found[-1]])
    kept = named | ~between | (weights >= options.named)
    rows_mm = np.append(rows_mm[kept], new_mm)
    weights = np.append(weights[kept], np.full(len(new_mm), options.named))
    order = np.argsort(rows_mm)
    return rows_mm[order], weights[order]
