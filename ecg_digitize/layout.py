"""The printed page: its geometry, lead layout and the fixed frames. The only home of these numbers.

Frames used across the package (x to the right, y down, pixel centres are integers):

* **page**: pixels of the picture as read, EXIF orientation applied.
* **sheet**: millimetres on the paper. Its origin is crossing (0, 0) of the table of 5 mm grid
  crossings, and the table is anchored in *time*: the first sample of the ten seconds always lies
  on column 3 (x = 15 mm, less GRID_SNAP_MM). On pages without calibration pulses, whose traces
  start one square further left on the paper, column 0 therefore lies outside the picture.
* **norm**: the sheet at 4 px/mm, what stage 1 looks at.
* **rect**: the rectified page, 20 px/mm across (one column a sample at 500 Hz) and 8 px/mm down. A
  sheet whose rows lie elsewhere is stretched down first, see ``stage1/rows.py``.

Sources: measured on ECG-Image-Kit renders with plotted pixel positions (200 dpi pages: first
sample at 118.11 px or 78.74 px, zero rows at 708.33, 991.67, 1275.00 and 1534.71 px, lowest grid
row on the lower edge of the 1700 px page).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MM_PER_S: Final = 25.0
MM_PER_MV: Final = 10.0
SQUARE_MM: Final = 5.0
GRID_ROWS: Final = 44
GRID_COLUMNS: Final = 57
DURATION_S: Final = 10.0
PAGE_DPI: Final = 200
MM_PER_INCH: Final = 25.4
PX_PER_MM: Final = PAGE_DPI / MM_PER_INCH
GRID_SNAP_MM: Final = 0.5 / PX_PER_MM
"""How far right of its nominal place a printed grid line lies: the plotting library snaps lines to
whole pixels, which moves them by half a 200 dpi pixel (2.5 ms) on average, but never the traces."""
TIME_ORIGIN_MM: Final = 15.0 - GRID_SNAP_MM

LEADS: Final = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Order of columns in every table and of rows in every (12, n) array."""

ROW_LEADS: Final = (
    ("I", "aVR", "V1", "V4"),
    ("II", "aVL", "V2", "V5"),
    ("III", "aVF", "V3", "V6"),
    ("II",),
)
"""Leads printed in each row, left to right; the last row is the 10 s rhythm strip."""

N_ROWS: Final = len(ROW_LEADS)
RHYTHM_ROW: Final = 3
RHYTHM_LEAD: Final = "II"

ZERO_MM: Final = (89.06, 125.04, 161.03, 194.01)
"""Sheet y of 0 mV of each row, mm."""

PAGE_SIZE_PX: Final = (2200, 1700)
PAGE_GRID_TOP_PX: Final = 1700 - (GRID_ROWS - 1) * SQUARE_MM * PX_PER_MM
"""y of grid row 0 on a 1700 px render: rows are drawn from the lower edge upwards."""

NAME_KEYS: Final = (*LEADS, "rhythm")
"""The 13 printed lead names, the second II being the rhythm strip's."""


def _names_mm() -> NDArray[np.float64]:
    anchors = {}
    for row, leads in enumerate(ROW_LEADS):
        for k, lead in enumerate(leads):
            key = "rhythm" if row == RHYTHM_ROW else lead
            below_mm = 6.7 if row == RHYTHM_ROW else 5.6
            x_mm = TIME_ORIGIN_MM + k * DURATION_S / 4 * MM_PER_S
            anchors[key] = (x_mm, ZERO_MM[row] + below_mm)
    return np.array([anchors[key] for key in NAME_KEYS])


NAMES_MM: Final = _names_mm()
"""(13, 2) sheet xy of the left end, at half height, of each printed name in NAME_KEYS order, mm."""


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

TRACE_COLUMNS: Final = 5000
TRACE_FS_HZ: Final = 500.0
"""One rect column is one sample at 500 Hz: 25 mm/s * 20 px/mm."""
TRACE_X0_PX: Final = round((TIME_ORIGIN_MM - RECT.origin_mm_xy[0]) * RECT.px_per_mm_xy[0])
"""Rect column of the first sample: 300."""
PX_PER_MV: Final = MM_PER_MV * RECT.px_per_mm_xy[1]
ZERO_PX: Final = tuple((zero - RECT.origin_mm_xy[1]) * RECT.px_per_mm_xy[1] for zero in ZERO_MM)
"""Rect y of 0 mV of each row, px."""


def _lead_columns() -> tuple[tuple[int, slice], ...]:
    parts = []
    for row, leads in enumerate(ROW_LEADS):
        n = TRACE_COLUMNS // len(leads)
        parts += [(row, slice(start, start + n)) for start in range(0, TRACE_COLUMNS, n)]
    return tuple(parts)


LEAD_COLUMNS: Final = _lead_columns()
"""Row and trace columns of each of the thirteen printed leads, row by row."""


def lead_window(lead: str, n_total: int, *, rhythm: str | None = RHYTHM_LEAD) -> tuple[int, int]:
    """Return the [start, stop) samples of a lead's printed window in a 10 s record.

    Args:
        lead: One of LEADS.
        n_total: Samples in 10 s (10 * fs).
        rhythm: The lead of the rhythm strip, which spans everything; None if there is none.

    Returns:
        Start and stop index; windows start at int(k * n_total / 4), as in the competition's truth.
    """
    if lead == rhythm:
        return 0, n_total
    column = next(row.index(lead) for row in ROW_LEADS[:RHYTHM_ROW] if lead in row)
    return int(column * n_total / 4), int((column + 1) * n_total / 4)
