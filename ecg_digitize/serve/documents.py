"""What goes over the line, as JSON."""

from dataclasses import asdict
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ecg_digitize import __version__
from ecg_digitize.formats.writers import WRITERS
from ecg_digitize.layout import LEADS
from ecg_digitize.layouts import FAMILIES, single
from ecg_digitize.many import Overrides
from ecg_digitize.render.chart import MM_PER_MV, MM_PER_S
from ecg_digitize.report.view import shown_leads, shown_rows
from ecg_digitize.serve.desk import Item, State, Told
from ecg_digitize.sheet.marks import MOST_SQUARES, MOST_STRIPS, Marks, marks_from
from ecg_digitize.sheet.text import TOLD_MM_PER_MV, TOLD_MM_PER_S
from ecg_digitize.types import GridMap, Recording

Point = tuple[float, float]
"""x and y, pixels of the picture, turned as told."""


class MarksDocument(BaseModel):
    """Where somebody saw the grid, the rows and the columns of leads."""

    model_config = ConfigDict(extra="forbid")

    layout: str = Field(description="one of `layouts` of /api/about")
    corners_px: list[Point] = Field(
        description="four crossings of 5 mm lines, clockwise from the upper left one"
    )
    squares: tuple[int, int] = Field(description="5 mm squares between them, across and down")
    zeros_px: list[Point] = Field(
        description="a point on the baseline of each row, from the top, strips last"
    )
    borders_px: list[Point] = Field(
        description="where each column of leads begins, and where the last one ends"
    )
    strips: list[str | None] = Field(
        default=[], description="leads of the rhythm strips; null asks which lead one repeats"
    )

    @classmethod
    def of(cls, marks: Marks) -> Self:
        """Return the document of some marks."""
        return cls.model_validate(marks.to_json())

    def to_marks(self, grid: GridMap | None) -> Marks:
        """Return the marks; see ``marks.marks_from``."""
        return marks_from(self.model_dump(), grid=grid)


class Correction(BaseModel):
    """What somebody tells of a page. What is left out, the page is asked."""

    model_config = ConfigDict(extra="forbid")

    layout: str | None = Field(default=None, description="not asked where there are marks")
    mm_per_s: float | None = None
    mm_per_mv: float | None = None
    marks: MarksDocument | None = None
    turns: int = Field(default=0, ge=0, le=3, description="counter-clockwise quarter turns")
    is_mirrored: bool = False

    def to_told(self, item: Item) -> Told:
        """Return what was told; the grid that was found is kept where its corners are.

        Raises:
            InputError: There cannot be such marks, or such a speed or gain.
        """
        Overrides(None, self.mm_per_s, self.mm_per_mv)  # checks them
        marks = None
        if self.marks is not None:
            marks = self.marks.to_marks(self._grid_of(item))
        return Told(self.layout, self.mm_per_s, self.mm_per_mv, marks, self.turns, self.is_mirrored)

    def _grid_of(self, item: Item) -> GridMap | None:
        found, told = item.marks, item.told
        if found is None or self.marks is None or self.marks.squares != found.squares:
            return None
        lies_as_before = (self.turns, self.is_mirrored) == (told.turns, told.is_mirrored)
        corners_px = np.array(self.marks.corners_px)
        return (
            found.grid if lies_as_before and np.array_equal(corners_px, found.corners_px) else None
        )


class LeadDocument(BaseModel):
    """A printed lead."""

    lead: str
    start_s: float
    stop_s: float
    quality: float | None = Field(description="probability that it is right")
    unseen: float = Field(description="share of its window that was not seen")


class Reading(BaseModel):
    """What was read of a page."""

    verdict: str = Field(description='"ok", "check" or "reject"')
    doubts: list[str]
    layout: str
    mm_per_s: float
    mm_per_mv: float
    leads: list[LeadDocument]
    rows: list[list[tuple[str, float, float]]] = Field(
        description="what each printed row shows, from the left: lead, from, to, seconds"
    )

    @classmethod
    def of(cls, recording: Recording) -> Self:
        """Return the document of a recording."""
        layout = recording.layout
        return cls(
            verdict=recording.verdict,
            doubts=list(recording.doubts),
            layout=layout.name,
            mm_per_s=layout.mm_per_s,
            mm_per_mv=layout.mm_per_mv,
            leads=[LeadDocument(**asdict(lead)) for lead in shown_leads(recording)],
            rows=[list(row) for row in shown_rows(layout)],
        )


class PageDocument(BaseModel):
    """A page."""

    key: str
    name: str
    state: State
    times_read: int
    error: str | None
    size_px: tuple[int, int] | None
    reading: Reading | None
    told: Correction
    marks: MarksDocument | None = Field(description="where everything was found, or guessed")

    @classmethod
    def of(cls, item: Item) -> Self:
        """Return the document of a page."""
        told = item.told
        return cls(
            key=item.key,
            name=item.name,
            state=item.state,
            times_read=item.times_read,
            error=item.error,
            size_px=item.size_px,
            reading=None if item.recording is None else Reading.of(item.recording),
            told=Correction(
                layout=told.layout,
                mm_per_s=told.mm_per_s,
                mm_per_mv=told.mm_per_mv,
                marks=None if told.marks is None else MarksDocument.of(told.marks),
                turns=told.turns,
                is_mirrored=told.is_mirrored,
            ),
            marks=None if item.marks is None else MarksDocument.of(item.marks),
        )


class Signals(BaseModel):
    """The signals of a page."""

    fs_hz: float
    leads_mv: dict[str, list[float | None]] = Field(
        description="null where a lead is not printed or the picture does not show it"
    )

    @classmethod
    def of(cls, recording: Recording) -> Self:
        """Return the printed leads of a recording."""
        leads_mv: dict[str, list[float | None]] = {}
        for lead in recording.layout.leads:
            samples = recording.signals_mv[LEADS.index(lead)].astype(np.float64)
            leads_mv[lead] = [
                None if np.isnan(one) else one for one in np.round(samples, 4).tolist()
            ]
        return cls(fs_hz=recording.fs_hz, leads_mv=leads_mv)


class LayoutDocument(BaseModel):
    """An order of leads that sheets have."""

    name: str
    rows: list[list[str]]


class Paper(BaseModel):
    """Speed and gain of a drawing."""

    mm_per_s: float
    mm_per_mv: float


class About(BaseModel):
    """What this server can do."""

    version: str
    paper: Paper = Field(description="that signals are drawn on")
    most_squares: int = Field(description="of marks, across or down")
    most_strips: int
    layouts: list[LayoutDocument]
    leads: list[str]
    formats: list[str]
    speeds_mm_per_s: list[float]
    gains_mm_per_mv: list[float]


def about() -> About:
    """Return what this server can do."""
    families = (*FAMILIES, *(single(lead) for lead in LEADS))
    return About(
        version=__version__,
        paper=Paper(mm_per_s=MM_PER_S, mm_per_mv=MM_PER_MV),
        most_squares=MOST_SQUARES,
        most_strips=MOST_STRIPS,
        layouts=[
            LayoutDocument(name=family.full_name, rows=[list(row) for row in family.rows])
            for family in families
        ],
        leads=list(LEADS),
        formats=list(WRITERS),
        speeds_mm_per_s=list(TOLD_MM_PER_S),
        gains_mm_per_mv=list(TOLD_MM_PER_MV),
    )
