"""The fixed frames, and the lattice of the printed grid. The only home of these numbers.

Frames used across the package (x to the right, y down, pixel centres are integers):

* **page**: pixels of the picture as read, EXIF orientation applied.
* **sheet**: millimetres on the paper. Its origin is crossing (0, 0) of the table of 5 mm grid
  crossings, and the table is anchored in *time*: the first sample of the rows always lies
  on column 3 (x = 15 mm, less GRID_SNAP_MM). On pages without calibration pulses, whose traces
  start one square further left on the paper, column 0 therefore lies outside the picture.
* **norm**: the sheet at 4 px/mm, what stage 1 looks at.
* **rect**: the rectified page, 20 px/mm across (one column a sample at 500 Hz) and 8 px/mm down. A
  sheet whose rows lie elsewhere is stretched down first, see ``stage1/rows.py``.

Sources: measured on ECG-Image-Kit renders with plotted pixel positions (200 dpi pages: lowest grid
row on the lower edge of the 1700 px page).
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

SQUARE_MM: Final = 5.0
GRID_ROWS: Final = 44
GRID_COLUMNS: Final = 57
PAGE_DPI: Final = 200
MM_PER_INCH: Final = 25.4
PX_PER_MM: Final = PAGE_DPI / MM_PER_INCH
GRID_SNAP_MM: Final = 0.5 / PX_PER_MM
"""How far right of its nominal place a printed grid line lies: the plotting library snaps lines to
whole pixels, which moves them by half a 200 dpi pixel (2.5 ms) on average, but never the traces."""
TIME_ORIGIN_MM: Final = 15.0 - GRID_SNAP_MM
"""Sheet x of the rows' first samples."""

PAGE_SIZE_PX: Final = (2200, 1700)
PAGE_GRID_TOP_PX: Final = 1700 - (GRID_ROWS - 1) * SQUARE_MM * PX_PER_MM
"""y of grid row 0 on a 1700 px render: rows are drawn from the lower edge upwards."""


def crossings_mm() -> NDArray[np.float64]:
    """Return the (44, 57, 2) table of sheet xy of the 5 mm grid crossings, mm."""
    rows, columns = np.mgrid[0:GRID_ROWS, 0:GRID_COLUMNS]
    return SQUARE_MM * np.stack([columns, rows], axis=-1).astype(np.float64)


def snapped_mm(
    x_mm: NDArray[np.float64], *, edge_mm: float, px_per_mm: float = PX_PER_MM
) -> NDArray[np.float64]:
    """Return where vertical lines are printed that belong at some sheet x: on whole pixels.

    ECG-Image-Kit plots at 200 dpi, so its lines are up to 0.06 mm (2.5 ms) off, the traces never.
    Measured: 5 mm line k of 0001 and of all renders is pixel column round(39.37 k), to 0.01 px.

    Args:
        x_mm: Sheet x of the lines.
        edge_mm: Sheet x of column 0 of the raster: 0, without calibration pulses SQUARE_MM.
        px_per_mm: Of the raster, if another was plotted with.
    """
    return np.asarray(edge_mm + np.rint((x_mm - edge_mm) * px_per_mm) / px_per_mm)


@dataclass(frozen=True)
class Frame:
    """A raster laid on the sheet.

    Attributes:
        width_px: Columns.
        height_px: Rows.
        px_per_mm_xy: Scale across and down.
        origin_mm_xy: Sheet position of the centre of pixel (0, 0).
    """

    width_px: int
    height_px: int
    px_per_mm_xy: tuple[float, float]
    origin_mm_xy: tuple[float, float]

    def px_from_mm(self, xy_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (..., 2) sheet mm to (..., 2) px of this frame."""
        shifted = np.asarray(xy_mm, np.float64) - np.array(self.origin_mm_xy)
        return np.asarray(shifted * np.array(self.px_per_mm_xy))

    def mm_from_px(self, xy_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (..., 2) px of this frame to (..., 2) sheet mm."""
        scaled = np.asarray(xy_px, np.float64) / np.array(self.px_per_mm_xy)
        return np.asarray(scaled + np.array(self.origin_mm_xy))


NORM: Final = Frame(1152, 896, (4.0, 4.0), (-4.0, -4.0))
RECT: Final = Frame(5600, 1280, (20.0, 8.0), (-GRID_SNAP_MM, 54.0))

_RECT_STEP_PX: Final = 32
"""Widths of rectified pages are multiples of what the networks halve five times."""

TRACE_FS_HZ: Final = 500.0
"""One rect column is one sample at 500 Hz: 25 mm/s * 20 px/mm."""
TRACE_X0_PX: Final = round((TIME_ORIGIN_MM - RECT.origin_mm_xy[0]) * RECT.px_per_mm_xy[0])
"""Rect column of the first sample: 300."""


def rect_showing(n_columns: int) -> Frame:
    """Return the rect frame, wider if rows have more trace columns than the competition's."""
    beside_px = RECT.width_px - TRACE_X0_PX - round(10 * TRACE_FS_HZ)
    wanted_px = TRACE_X0_PX + n_columns + beside_px
    return replace(
        RECT, width_px=max(RECT.width_px, _RECT_STEP_PX * -(-wanted_px // _RECT_STEP_PX))
    )
