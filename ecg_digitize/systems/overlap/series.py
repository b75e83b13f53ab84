"""From a mask to a signal: the mean of each marked column, and its millivolts."""

from typing import Final, NamedTuple

import cv2
import numpy as np

from ecg_digitize.types import Float32, Float64, Mask


class SeriesOptions(NamedTuple):
    """What counts as marked."""

    least: float = 0.3  # of a mask's pixels; edges of a thin trace are marked by half and less
    specks: float = 0.02  # share of the crop's columns; what spans fewer is not the trace


DEFAULTS: Final = SeriesOptions()


def centre_px(mask: Float32, *, options: SeriesOptions = DEFAULTS) -> Float64:
    """Find the line in a mask: the mean height of the marked pixels of each column.

    Args:
        mask: (H, W) in [0, 1]: how much of each pixel is trace.
        options: What counts as marked.

    Returns:
        (W,) px from the upper edge, NaN in columns without a mark.
    """
    marked = np.where(_without_specks(mask >= options.least, options), mask, 0.0)
    weight = marked.sum(axis=0)
    heights = np.arange(len(mask), dtype=np.float64)[:, None]
    mean = (heights * marked).sum(axis=0) / np.maximum(weight, 1e-9)
    return np.where(weight > 0, mean, np.nan)


def filled(line: Float64) -> Float64 | None:
    """Go straight over columns without a mark, and hold the line at its ends; None if all are."""
    known = np.isfinite(line)
    if not known.any():
        return None
    at = np.arange(len(line))
    return np.interp(at, at[known], line[known])


def series_mv(line_px: Float64, *, zero_px: float, px_per_mv: float) -> Float64:
    """Return the (n,) mV of a line.

    Args:
        line_px: (n,) px from the top.
        zero_px: Where 0 mV lies.
        px_per_mv: Height of 1 mV.
    """
    return (zero_px - line_px) / px_per_mv


def _without_specks(marked: Mask, options: SeriesOptions) -> Mask:
    """Leave out what is too narrow to be a piece of the trace; nothing, if all of it is narrow."""
    n, labels, figures, _ = cv2.connectedComponentsWithStats(marked.astype(np.uint8))
    wide = figures[:, cv2.CC_STAT_WIDTH] >= options.specks * marked.shape[1]
    wide[0] = False  # what is not marked
    return np.asarray(wide[labels] if wide.any() and n > 2 else marked, np.bool_)
