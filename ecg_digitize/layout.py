"""What is printed where on a sheet: rows, leads, paper speed and gain. The only home of layouts.

A ``Layout`` walks with the page, from the rectified picture to the recording. Positions are sheet
millimetres, times count from a row's first sample; see ``frames.py``.

Source of ``COMPETITION``: measured on ECG-Image-Kit renders with plotted pixel positions (200 dpi
pages: first sample at 118.11 px or 78.74 px, zero rows at 708.33, 991.67, 1275.00 and 1534.71 px).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg_digitize.frames import RECT, TIME_ORIGIN_MM, TRACE_FS_HZ

LEADS: Final = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Order of columns in every table and of rows in every (12, n) array."""

NAME_KEYS: Final = (*LEADS, "rhythm")
"""The 13 printed lead names, "rhythm" being that of the strip."""


PULSE_S: Final = 0.2
"""Width of a calibration pulse; its height is 1 mV."""


@dataclass(frozen=True)
class Segment:
    """A lead's piece of a row."""

    lead: str  # one of LEADS
    start_s: float
    stop_s: float
    sign: int = 1  # -1 where it is printed upside down, as -aVR is
    mm_per_mv: float | None = None  # its own gain, where the leads of a row differ


@dataclass(frozen=True)
class Row:
    """A printed row."""

    zero_mm: float  # sheet y of 0 mV
    segments: tuple[Segment, ...]  # left to right
    name_below_mm: float = 5.6  # from 0 mV down to half the height of the names
    mm_per_mv: float | None = None  # its own gain, where rows differ
    is_strip: bool = False  # a rhythm strip: shows whole what another row shows in part

    @property
    def leads(self) -> tuple[str, ...]:
        """The leads, left to right."""
        return tuple(segment.lead for segment in self.segments)


@dataclass(frozen=True)
class Layout:
    """What is printed where.

    Attributes:
        name: What it is called.
        rows: From the top.
        mm_per_s: Paper speed.
        mm_per_mv: Gain.
    """

    name: str
    rows: tuple[Row, ...]
    mm_per_s: float = 25.0
    mm_per_mv: float = 10.0

    def __post_init__(self) -> None:
        """Check that the leads are leads."""
        unknown = {lead for row in self.rows for lead in row.leads} - set(LEADS)
        if unknown:
            raise ValueError(
                f"layout {self.name}: no leads are called {', '.join(sorted(unknown))}"
            )

    @cached_property
    def leads(self) -> tuple[str, ...]:
        """The leads that are printed, in LEADS order."""
        printed = {lead for row in self.rows for lead in row.leads}
        return tuple(lead for lead in LEADS if lead in printed)

    @property
    def n_rows(self) -> int:
        """How many rows are printed."""
        return len(self.rows)

    @cached_property
    def zero_mm(self) -> tuple[float, ...]:
        """Sheet y of 0 mV of each row."""
        return tuple(row.zero_mm for row in self.rows)

    @cached_property
    def zero_px(self) -> tuple[float, ...]:
        """Rect y of 0 mV of each row."""
        return tuple((zero - RECT.origin_mm_xy[1]) * RECT.px_per_mm_xy[1] for zero in self.zero_mm)

    @property
    def px_per_mv(self) -> float:
        """Rect px of 1 mV, in rows without a gain of their own."""
        return self.mm_per_mv * RECT.px_per_mm_xy[1]

    @cached_property
    def rows_px_per_mv(self) -> NDArray[np.float64]:
        """(rows,) rect px of 1 mV."""
        gains = [row.mm_per_mv or self.mm_per_mv for row in self.rows]
        return np.array(gains) * RECT.px_per_mm_xy[1]

    def mv_per_row_mv(self, lead: str) -> float:
        """Return by what the mV of its row are to be multiplied for those of a lead."""
        index, segment = self._segment(lead)
        of_row = self.rows[index].mm_per_mv or self.mm_per_mv
        return segment.sign * of_row / (segment.mm_per_mv or of_row)

    @cached_property
    def duration_s(self) -> float:
        """From the first sample to the end of the longest row."""
        return max(segment.stop_s for row in self.rows for segment in row.segments)

    @property
    def n_columns(self) -> int:
        """Trace columns of a row, TRACE_FS_HZ a second."""
        return round(self.duration_s * TRACE_FS_HZ)

    @cached_property
    def strip_row(self) -> int | None:
        """The rhythm strip's row, the first one's if there are several; None if there is none."""
        return next((index for index, row in enumerate(self.rows) if row.is_strip), None)

    @property
    def strip_lead(self) -> str | None:
        """The lead of the rhythm strip; None if there is none, or if its lead is unknown."""
        return next((lead for row in self.rows if row.is_strip for lead in row.leads), None)

    @cached_property
    def pieces(self) -> tuple[tuple[int, slice], ...]:
        """Row and trace columns of each segment, row by row."""
        return tuple(
            (index, self.columns(segment))
            for index, row in enumerate(self.rows)
            for segment in row.segments
        )

    @cached_property
    def names_mm(self) -> NDArray[np.float64]:
        """(13, 2) sheet xy of the left end, at half height, of each name in NAME_KEYS order."""
        anchors = {
            segment.lead: (
                TIME_ORIGIN_MM + segment.start_s * self.mm_per_s,
                row.zero_mm + row.name_below_mm,
            )
            for row in self.rows
            for segment in row.segments
            if not row.is_strip
        }
        for row in self.rows:
            if row.is_strip:
                anchors["rhythm"] = (TIME_ORIGIN_MM, row.zero_mm + row.name_below_mm)
        names_mm = np.array([anchors[key] for key in NAME_KEYS])
        names_mm.setflags(write=False)
        return names_mm

    def place(self, lead: str, *, short: bool = False) -> tuple[int, slice]:
        """Return the row and the trace columns of a lead: the longest of its segments.

        Args:
            lead: One of LEADS.
            short: Leave rhythm strips aside.
        """
        row, segment = self._segment(lead, short=short)
        return row, self.columns(segment)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and trace columns."""
        return self.n_rows, self.n_columns

    def window(self, lead: str, n_total: int) -> tuple[int, int]:
        """Return the [start, stop) samples of a lead's printed window in a whole record.

        Args:
            lead: One of LEADS.
            n_total: Samples in duration_s.

        Returns:
            Start and stop index; windows start at int(k * n_total / 4), as in the competition's
            truth.
        """
        segment = self.segment(lead)
        share = segment.start_s / self.duration_s, segment.stop_s / self.duration_s
        return int(share[0] * n_total), int(share[1] * n_total)

    def with_zeros(self, zero_mm: Sequence[float]) -> "Layout":
        """Return the layout with its rows at other heights, sheet y of 0 mV."""
        rows = zip(self.rows, zero_mm, strict=True)
        return replace(self, rows=tuple(replace(row, zero_mm=zero) for row, zero in rows))

    def calibrated(self, *, mm_per_s: float, mm_per_mv: float) -> "Layout":
        """Return the same print at another paper speed, and so of another length, and gain."""
        slower = self.mm_per_s / mm_per_s
        rows = (
            replace(
                row,
                segments=tuple(
                    replace(s, start_s=slower * s.start_s, stop_s=slower * s.stop_s)
                    for s in row.segments
                ),
            )
            for row in self.rows
        )
        return replace(self, rows=tuple(rows), mm_per_s=mm_per_s, mm_per_mv=mm_per_mv)

    def with_strip(self, lead: str | None) -> "Layout":
        """Return the layout with another lead in the rhythm strip; None: it is unknown."""
        whole = () if lead is None else (Segment(lead, 0.0, self.duration_s),)
        rows = (replace(row, segments=whole) if row.is_strip else row for row in self.rows)
        return replace(self, rows=tuple(rows))

    def shows(self, lead: str, *, short: bool = False) -> bool:
        """Say whether a lead is printed; short leaves rhythm strips aside."""
        return any(lead in row.leads for row in self.rows if not (short and row.is_strip))

    def segment(self, lead: str) -> Segment:
        """Return the longest of a lead's segments."""
        return self._segment(lead)[1]

    def _segment(self, lead: str, *, short: bool = False) -> tuple[int, Segment]:
        places = [
            (index, segment)
            for index, row in enumerate(self.rows)
            for segment in row.segments
            if segment.lead == lead and not (short and row.is_strip)
        ]
        if not places:
            raise ValueError(f"layout {self.name} does not show lead {lead}")
        return max(places, key=lambda place: place[1].stop_s - place[1].start_s)

    def columns(self, segment: Segment) -> slice:
        """Return the trace columns of a segment."""
        return slice(round(segment.start_s * TRACE_FS_HZ), round(segment.stop_s * TRACE_FS_HZ))


def row_of(leads: Sequence[str], *, zero_mm: float, duration_s: float = 10.0) -> Row:
    """Return a row in which leads follow each other, each as long as the others."""
    each_s = duration_s / len(leads)
    segments = (Segment(lead, k * each_s, (k + 1) * each_s) for k, lead in enumerate(leads))
    return Row(zero_mm, tuple(segments))


COMPETITION: Final = Layout(
    "3x4+1",
    (
        row_of(("I", "aVR", "V1", "V4"), zero_mm=89.06),
        row_of(("II", "aVL", "V2", "V5"), zero_mm=125.04),
        row_of(("III", "aVF", "V3", "V6"), zero_mm=161.03),
        replace(row_of(("II",), zero_mm=194.01), name_below_mm=6.7, is_strip=True),
    ),
)
"""The sheet of "PhysioNet - Digitization of ECG Images": three rows of four, and II as a strip."""
