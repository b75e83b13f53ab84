"""What the two systems of the starter notebook share: the page, the band, and the windows.

Neither looks for the sheet. The whole picture is taken for it, whatever lies round it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import signal

from ecg_digitize.frames import (
    PAGE_GRID_TOP_PX,
    PAGE_SIZE_PX,
    PX_PER_MM,
    TIME_ORIGIN_MM,
    Frame,
)
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.signals import resample_window
from ecg_digitize.types import Float64, Image, Recording

GreyImage = NDArray[np.uint8]

SHEET: Final = Frame(*PAGE_SIZE_PX, (PX_PER_MM, PX_PER_MM), (0.0, -PAGE_GRID_TOP_PX / PX_PER_MM))
"""Where the competition's renders have their sheet; column 0 and the lowest row are grid lines."""
PX_PER_S: Final = COMPETITION.mm_per_s * PX_PER_MM
PX_PER_MV: Final = COMPETITION.mm_per_mv * PX_PER_MM
FIRST_PX: Final = float(SHEET.px_from_mm(np.array([TIME_ORIGIN_MM, 0.0]))[0])
"""x of the rows' first samples, px of SHEET."""

BAND_HZ: Final = (0.5, 40.0)
"""What the smoothing keeps."""
ORDER: Final = 2
"""Of the Butterworth filter, which runs forwards and backwards."""


def grey_sheet(image: Image, size_px: tuple[int, int]) -> GreyImage:
    """Take a picture for the sheet: turned if it stands upright, and scaled.

    Nobody looks which way a sheet lies: half of those that are turned end up on their heads.

    Args:
        image: (H, W, 3) uint8 RGB.
        size_px: Width and height wanted.

    Returns:
        (height, width) uint8.
    """
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if height > width:
        grey = np.ascontiguousarray(np.rot90(grey))
    shrinks = grey.shape[1] > size_px[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, size_px, interpolation=how), np.uint8)


def smoothed(values: Float64, fs_hz: float) -> Float64:
    """Keep BAND_HZ of a signal, without a shift in time.

    The filter spoils the ends of leads that are 2.5 s long: of true signals 13 dB are left. It is
    8 dB if the ends are continued as scipy does by default; here they are mirrored.

    Args:
        values: (n,) float64.
        fs_hz: Its sampling rate, above twice the upper end of the band.
    """
    beyond = min(round(fs_hz / BAND_HZ[0]), len(values) - 1)
    kept: Float64 = signal.sosfiltfilt(_band(fs_hz), values, padtype="even", padlen=beyond)
    return kept


@cache
def _band(fs_hz: float) -> Float64:
    sections: Float64 = signal.butter(ORDER, BAND_HZ, "bandpass", fs=fs_hz, output="sos")
    return sections


@dataclass(frozen=True)
class Piece:
    """What was read of a lead."""

    values_mv: Float64  # (n,)
    start_s: float  # time of the first one, from the first sample of its row
    fs_hz: float


def recording_of(pieces: Mapping[str, Piece], *, fs_hz: float) -> Recording:
    """Resample the leads that were read to their printed windows.

    Args:
        pieces: By lead; those that lack stay NaN.
        fs_hz: Samples a second wanted.
    """
    n_total = round(COMPETITION.duration_s * fs_hz)
    signals_mv = np.full((len(LEADS), n_total), np.nan, np.float32)
    for lead, piece in pieces.items():
        start, stop = COMPETITION.window(lead, n_total)
        signals_mv[LEADS.index(lead), start:stop] = resample_window(
            piece.values_mv,
            first=(start / fs_hz - piece.start_s) * piece.fs_hz,
            step=piece.fs_hz / fs_hz,
            count=stop - start,
        )
    return Recording(signals_mv, float(fs_hz))
