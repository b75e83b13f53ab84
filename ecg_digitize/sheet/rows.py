"""Where the rows of a sheet lie: ink is densest along their baselines."""

from typing import NamedTuple

import cv2
import numpy as np
from scipy.signal import find_peaks

from ecg_digitize.types import Float64, Mask


class RowOptions(NamedTuple):
    """Constants of the search.

    Attributes:
        sigma_mm: Blur of the density; traces wander about their baselines.
        apart_mm: Rows are at least so far apart.
        least: Density of a row, as a share of the median one's.
        rises: How far it rises above what lies between it and denser rows, likewise.
        name_mm: From how far above its row to how far below it a name may stand.
        off_mm: By how much a name may be off, all standing alike.
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
    name_mm: tuple[float, float] = (18.0, 13.0)
    off_mm: float = 3.0
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
    names_mm: Float64,
    sure: Float64,
    *,
    options: RowOptions = DEFAULTS,
) -> tuple[Float64, Float64]:
    """Add rows whose names were read, but whose ink was not told from that of their neighbours.

    Faint rows between others that have names, and without any themselves, are taken away.

    Args:
        rows_mm: (n,) sheet y of baselines, see ``find_rows``.
        weights: (n,) how dense their ink is.
        names_mm: (names, 2) sheet xy of lead names.
        sure: (names,) how sure each was read.
        options: See there.

    Returns:
        As ``find_rows``, with the further rows where they belong.
    """
    if len(rows_mm) < options.least_named or len(names_mm) < options.least_named:
        return rows_mm, weights
    above_mm, below_mm = options.name_mm
    tried_mm = np.arange(-above_mm, below_mm, 0.5)
    at_mm = names_mm[:, 1] - tried_mm[:, None]  # (tried, names) where their rows would be
    off_mm = np.abs(at_mm[..., None] - rows_mm)
    support = (sure * np.exp(-((off_mm.min(axis=2) / options.off_mm) ** 2))).sum(axis=1)
    best = int(np.argmax(support * (1 - 0.003 * np.abs(tried_mm))))
    has_row = off_mm[best].min(axis=1) < options.off_mm
    found = np.unique(off_mm[best].argmin(axis=1)[has_row])
    if has_row.mean() < options.most_named or len(found) < options.least_named:
        return rows_mm, weights
    row_of = off_mm[best].argmin(axis=1)[has_row]
    below_mm = float(np.median(names_mm[has_row, 1] - rows_mm[row_of]))
    columns_mm = names_mm[has_row, 0]
    in_column = [(np.abs(columns_mm - x_mm) < options.column_mm).sum() > 1 for x_mm, _ in names_mm]
    new_mm: list[float] = []
    for index in np.argsort(-sure):
        row_mm = float(names_mm[index, 1] - below_mm)
        known = np.append(rows_mm, new_mm)
        if has_row[index] or not in_column[index] or sure[index] < options.sure:
            continue
        if np.abs(known - row_mm).min() > options.apart_mm:
            new_mm.append(row_mm)
    named = np.isin(np.arange(len(rows_mm)), found)
    between = (rows_mm > rows_mm[found[0]]) & (rows_mm < rows_mm[found[-1]])
    kept = named | ~between | (weights >= options.named)
    rows_mm = np.append(rows_mm[kept], new_mm)
    weights = np.append(weights[kept], np.full(len(new_mm), options.named))
    order = np.argsort(rows_mm)
    return rows_mm[order], weights[order]
