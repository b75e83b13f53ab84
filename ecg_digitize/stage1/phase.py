"""How far the printed 1 mm lines lie from where a grid has them: the phase of their first harmonic.

Looked at through the crossings, the lines must repeat every millimetre. Their phase, taken in
windows of a few millimetres, tells how far they are off, but no whole millimetre.
"""

from functools import cache
from typing import Final, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ecg_digitize import geometry
from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, SQUARE_MM, Frame
from ecg_digitize.runtime import side_by_side
from ecg_digitize.types import Float32, Float64, GridMap, Image

_Number = TypeVar("_Number", np.float32, np.complex64)
Waves = tuple[NDArray[np.complex64], NDArray[np.complex64]]

FINE: Final = 8.0  # px/mm along the direction measured
COARSE: Final = 2.0  # px/mm across it
WINDOW_MM: Final = 1.8  # sigma of the windows
CLIP: Final = 60.0  # grey levels: what a line may stand out, so that a trace counts no more
STROKES: Final = 0.05
"""Share of the sheet that is darkest: traces and letters, which count no more than the rest."""
SPARSE: Final = 3
"""Every third pixel tells that share: no divisor of the lines' periods, so that none is missed."""
TOGETHER: Final = 16
"""Windows that are applied at once: fewer see less in vain, but each time costs something."""
FAINT: Final = 0.1
"""Share of the typical clearness below which lines count as unseen."""
CHANCE_MM: Final = float(np.sqrt(2 / 12))
"""RMS of phases that know nothing, even between -0.5 and 0.5 mm in both directions."""
RESIDUAL_NODES: Final = 1.5  # sigma of the windows in which phases tell how good a surface is
_PERIOD_PX: Final = round(FINE)  # of 1 mm
SHEET_MM: Final = ((GRID_COLUMNS - 1) * SQUARE_MM, (GRID_ROWS - 1) * SQUARE_MM)


class Phases(NamedTuple):
    """What the printed lines say of a grid.

    Attributes:
        offset_mm: (44, 57, 2) float64, sheet mm in xy order, -0.5 to 0.5: the crossing printed at
            node n lies at n + offset of the grid's sheet, but for whole millimetres.
        weight: (44, 57) float64, how clearly the lines are seen round each node, grey levels.
    """

    offset_mm: Float64
    weight: Float64

    def after(self, bend_mm: Float64) -> "Phases":
        """Return what lines say of the grid bent by (44, 57, 2) sheet mm, without another look.

        This holds for bends that change by less than a tenth of a millimetre over a window.
        """
        return Phases((self.offset_mm - bend_mm + 0.5) % 1.0 - 0.5, self.weight)


def line_waves(grey: Image, grid: GridMap, *, every_mm: float) -> Waves:
    """Measure the first harmonic of the printed lines on a lattice over the sheet.

    Args:
        grey: (H, W) uint8.
        grid: Right to less than half a millimetre where the phases are to tell it.
        every_mm: Pitch of the lattice, which begins in the sheet's corner; a multiple of 0.5.

    Returns:
        Those across (x) and down (y), both (rows, columns) complex64: their sizes are grey levels,
        their angles -2 pi a millimetre.
    """
    across, down = side_by_side(lambda axis: _waves(grey, grid, axis, every_mm), (1, 0))
    return across, down


def offsets_mm(waves: Waves) -> Float64:
    """Return (rows, columns, 2) sheet mm in xy order that lines lie further on, -0.5 to 0.5."""
    return np.stack([-np.angle(wave) / (2 * np.pi) for wave in waves], axis=-1).astype(np.float64)


def measure_lines(grey: Image, grid: GridMap) -> Phases:
    """Measure how far the printed lines lie from where a grid has them.

    Args:
        grey: (H, W) uint8.
        grid: Right to less than half a millimetre.
    """
    waves = line_waves(grey, grid, every_mm=SQUARE_MM)
    weight = np.minimum(np.abs(waves[0]), np.abs(waves[1]))
    return Phases(offsets_mm(waves), weight.astype(np.float64))


def residuals_mm(offset_mm: Float64, weight: Float64) -> Float32:
    """Return (44, 57) mm: what phases leave round each crossing, RMS; CHANCE_MM if unseen.

    Args:
        offset_mm: (44, 57, 2), as of ``measure_lines``.
        weight: (44, 57) of the same.
    """
    seen = are_seen(weight)
    near = np.maximum(gaussian_filter(seen.astype(np.float64), RESIDUAL_NODES), 1e-9)
    squared = gaussian_filter((offset_mm**2).sum(axis=-1) * seen, RESIDUAL_NODES) / near
    return np.where(seen, np.sqrt(squared), CHANCE_MM).astype(np.float32)


def are_seen(weight: Float64) -> NDArray[np.bool_]:
    """Return (44, 57) bool: the crossings round which lines are seen."""
    return np.asarray(weight > FAINT * np.median(weight), np.bool_)


def _waves(grey: Image, grid: GridMap, axis: int, every_mm: float) -> NDArray[np.complex64]:
    """Demodulate the lines across (axis 1) or down (0)."""
    scale = (FINE, COARSE) if axis == 1 else (COARSE, FINE)
    width, height = (round(mm * s) + 1 for mm, s in zip(SHEET_MM, scale, strict=True))
    map_x, map_y = geometry.mesh_maps(grid.crossings_xy_px, Frame(width, height, scale, (0.0, 0.0)))
    if grid.feed_px is not None:
        at = np.arange(len(grid.feed_px))
        map_x = map_x + np.interp(map_x, at, grid.feed_px).astype(np.float32)
    seen = cv2.remap(grey, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    darker = _standing_out(np.asarray(seen, np.uint8), axis)
    (height, width), steps = seen.shape, [round(every_mm * s) for s in scale]
    across = _windows(width, step=steps[0], sigma=WINDOW_MM * scale[0])
    down = _windows(height, step=steps[1], sigma=WINDOW_MM * scale[1])
    if axis == 1:
        return _seen_through(across * _turn(width), _seen_through(down, darker).T).T
    return _seen_through(down * _turn(height), _seen_through(across, darker.T).T)


def _standing_out(seen: Image, axis: int) -> Float32:
    """Return (H, W) grey levels that pixels are darker than 1 mm around them, strokes clipped."""
    period = (_PERIOD_PX, 1) if axis == 1 else (1, _PERIOD_PX)
    around = cv2.boxFilter(seen, cv2.CV_16S, period, normalize=False)
    darker = around - np.int16(_PERIOD_PX) * seen  # whole numbers, which are quickly counted
    most = 255 * _PERIOD_PX
    values = darker[::SPARSE, ::SPARSE].ravel() + most
    at = (1 - STROKES) * (values.size - 1)
    upto = np.cumsum(np.bincount(values))
    below, above = np.searchsorted(upto, (np.floor(at), np.ceil(at)), side="right") - most
    clip = (below + (above - below) * (at % 1.0)) / _PERIOD_PX
    clip = np.float32(np.clip(clip, 1.0, CLIP))
    out = darker.astype(np.float32)
    out /= _PERIOD_PX
    return np.clip(out, -clip, clip, out=out)


def _turn(n: int) -> NDArray[np.complex64]:
    """Return (n,) complex64: the conjugate of a wave of 1 mm, FINE pixels long."""
    return np.asarray(np.exp(-2j * np.pi * np.arange(n) / FINE), np.complex64)


def _seen_through(windows: NDArray[_Number], pixels: Float32) -> NDArray[_Number]:
    """Return windows @ pixels; windows that follow each other see nothing of most of them."""
    seen = np.empty((len(windows), pixels.shape[1]), windows.dtype)
    for first in range(0, len(windows), TOGETHER):
        some = windows[first : first + TOGETHER]
        start, stop = np.flatnonzero(some.any(axis=0))[[0, -1]]
        seen[first : first + TOGETHER] = some[:, start : stop + 1] @ pixels[start : stop + 1]
    return seen


@cache
def _windows(n: int, *, step: int, sigma: float) -> Float32:
    """Return (m, n) float32 weights of n pixels in a Gaussian window round every step-th of them.

    Windows that reach over an end see the pixels mirrored about it.
    """
    reach = round(4 * sigma)
    away = np.arange(-reach, reach + 1)
    weight = np.exp(-0.5 * (away / sigma) ** 2)
    weight /= weight.sum()
    centre = np.arange(0, n, step)
    seen = np.abs(centre[:, None] + away)
    seen = n - 1 - np.abs(n - 1 - seen)
    windows = np.zeros((len(centre), n))
    np.add.at(windows, (np.arange(len(centre))[:, None], seen), weight)
    return windows.astype(np.float32)
