"""What crosses a border between stages: frozen dataclasses, checked when made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS
from ecg_digitize.layout import COMPETITION, LEADS, Layout

if TYPE_CHECKING:
    from ecg_digitize.quality import Evidence
    from ecg_digitize.vector import VectorLines

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def _check(name: str, array: NDArray[Any], shape: tuple[int | None, ...], dtype: type) -> None:
    fits = array.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, array.shape, strict=False)
    )
    if not fits or array.dtype != dtype:
        want = tuple("n" if n is None else n for n in shape)
        raise ValueError(
            f"{name} must be {want} {np.dtype(dtype).name}, but got {array.shape} {array.dtype}"
        )


@dataclass(frozen=True)
class Page:
    """A picture as read."""

    image: Image  # (H, W, 3) uint8 RGB, page frame
    source: str  # where it came from, for messages
    n_pages: int = 1  # of its file
    px_per_mm: float | None = None  # as the file says, for what that is worth
    page_number: int | None = None
    """Which page of its file was asked for, from 1; None: nobody said, and it is the first."""
    is_vector: bool | None = None
    """Whether a page of a PDF draws traces as lines, see ``pdf_lines.TRACE_SEGMENTS``; None: it is
    no PDF."""
    lines: "VectorLines | None" = None
    """These lines; None where there are none."""

    def __post_init__(self) -> None:
        """Check shapes."""
        _check("Page.image", self.image, (None, None, 3), np.uint8)


@dataclass(frozen=True)
class Registration:
    """Stage 0: where the sheet lies in the picture, to about half a square."""

    page_from_sheet: Float64  # (3, 3) homography, sheet mm -> page px
    names_xy_px: Float32  # (13, 2) page px of the lead names in NAME_KEYS order, NaN if not found
    names_confidence: Float32  # (13,) in [0, 1]
    quarter_turns: int  # 0..3 counter-clockwise quarter turns (np.rot90) that set the page upright
    n_inliers: int  # names that agree with the homography

    def __post_init__(self) -> None:
        """Check shapes."""
        _check("Registration.page_from_sheet", self.page_from_sheet, (3, 3), np.float64)
        _check("Registration.names_xy_px", self.names_xy_px, (13, 2), np.float32)
        _check("Registration.names_confidence", self.names_confidence, (13,), np.float32)


@dataclass(frozen=True)
class GridMap:
    """Stage 1: the 5 mm grid crossings of the sheet in the picture, sub-pixel, without holes."""

    crossings_xy_px: Float32  # (44, 57, 2) page px, may lie outside the picture
    confidence: Float32  # (44, 57) in [0, 1]: by residual_mm, or as the network saw them
    residual_px: float  # RMS about the smooth surface, page px; inf if no grid was found
    feed_px: Float32 | None = None
    """(W,) what a scanner's feed slipped: the point that the crossings put at page x = i lies at
    i + feed_px[i]. None where the paper was not fed."""
    rows_mm: Float64 | None = None
    """(rows,) sheet y of the rows' baselines, where these are not where the layout has them."""
    residual_mm: Float32 | None = None
    """(44, 57) RMS, round each crossing, from the surface to the printed 1 mm lines; None where
    these were not to be seen."""
    ripple_mm: Float32 | None = None
    """(57, n) how far right of its place each vertical line lies at heights of the sheet, see
    ``stage1.ripples``; None where nobody looked."""
    start_mm: float = 0.0
    """How much farther right than frames.TIME_ORIGIN_MM the traces begin."""

    def __post_init__(self) -> None:
        """Check shapes."""
        shape = (GRID_ROWS, GRID_COLUMNS)
        if self.feed_px is not None:
            _check("GridMap.feed_px", self.feed_px, (None,), np.float32)
        if self.rows_mm is not None:
            _check("GridMap.rows_mm", self.rows_mm, (None,), np.float64)
        _check("GridMap.crossings_xy_px", self.crossings_xy_px, (*shape, 2), np.float32)
        _check("GridMap.confidence", self.confidence, shape, np.float32)
        if self.residual_mm is not None:
            _check("GridMap.residual_mm", self.residual_mm, shape, np.float32)
        if not np.isfinite(self.crossings_xy_px).all():
            raise ValueError("GridMap.crossings_xy_px must be finite everywhere")

    def zero_mm(self, layout: Layout) -> Float64:
        """Return (rows,) sheet y of 0 mV: where the rows are, or where the layout has them."""
        return np.array(layout.zero_mm) if self.rows_mm is None else self.rows_mm


@dataclass(frozen=True)
class RectifiedPage:
    """The page, or a strip of it, in the rect frame, remapped once from the original pixels."""

    image: Image  # (1280, 5600 or more, 3) uint8 RGB, rect frame; of a strip the upper rows of it
    valid: float  # share of the rect frame that lies inside the picture
    shown: Mask | None = None
    """(rows, columns) where the baselines of the rows lie inside the picture; None: everywhere."""
    layout: Layout = COMPETITION

    def __post_init__(self) -> None:
        """Check shapes."""
        _check("RectifiedPage.image", self.image, (None, None, 3), np.uint8)
        if self.shown is not None:
            _check("RectifiedPage.shown", self.shown, self.layout.shape, np.bool_)


@dataclass(frozen=True)
class TraceMap:
    """Stage 2: where the centre line of each row's trace is, column by column."""

    probability: Float32  # (rows, H, columns) in [0, 1], each column sums to <= 1 over H
    px_per_bin: float  # rect px a bin is high: bin k is centred at k * px_per_bin + first_px
    first_px: float  # rect y of the centre of bin 0, px
    layout: Layout = COMPETITION

    def __post_init__(self) -> None:
        """Check shapes."""
        shape = (self.layout.n_rows, None, self.layout.n_columns)
        _check("TraceMap.probability", self.probability, shape, np.float32)


@dataclass(frozen=True)
class Trace:
    """The decoded centre lines."""

    y_px: Float32  # (rows, columns) rect px from the top, never NaN; filled where confidence is 0
    confidence: Float32  # (rows, columns) in [0, 1], 0 where filled
    layout: Layout = COMPETITION
    shown: Mask | None = None  # (rows, columns) where the picture shows the rows; None: everywhere
    by_lines: float = 0.0
    """Share of the columns that were read from vector lines, exactly, see vector.py."""

    @property
    def is_exact(self) -> bool:
        """Whether most of it was read from vector lines."""
        return self.by_lines > 0.5

    def __post_init__(self) -> None:
        """Check shapes."""
        _check("Trace.y_px", self.y_px, self.layout.shape, np.float32)
        _check("Trace.confidence", self.confidence, self.layout.shape, np.float32)
        if self.shown is not None:
            _check("Trace.shown", self.shown, self.layout.shape, np.bool_)


@dataclass(frozen=True)
class Recording:
    """Twelve leads in millivolts."""

    signals_mv: Float32  # (12, n) in LEADS order, NaN outside a lead's printed window
    fs_hz: float  # samples a second; n = round(layout.duration_s * fs_hz)
    layout: Layout = COMPETITION  # what is printed where, at which speed and gain
    doubts: tuple[str, ...] = ()
    """Why it should be looked at before it is used, see doubts.py."""
    is_rejected: bool = False
    """Whether what speaks against it says that it is wrong, see doubts.is_hopeless."""
    quality: Float32 | None = None
    """(12,) probability that each lead is right, see quality.py; NaN for absent leads."""
    by_lines: float = 0.0
    """Share of the signals that was read from vector lines, see Trace."""

    def __post_init__(self) -> None:
        """Check shapes."""
        _check("Recording.signals_mv", self.signals_mv, (len(LEADS), None), np.float32)

    @property
    def verdict(self) -> str:
        """Return "ok", "check" if there are doubts, or "reject"."""
        return "reject" if self.is_rejected else "check" if self.doubts else "ok"

    @property
    def rhythm(self) -> str | None:
        """The lead that spans all of it; None if none does."""
        return self.layout.strip_lead


@dataclass(frozen=True)
class Digitization:
    """Everything one page gave."""

    source: str
    recording: Recording
    trace: Trace  # as rectified; of a sheet with rows_mm, see stage1.rows.levelled
    grid: GridMap
    registration: Registration | None  # None of a sheet of another layout
    timings_s: dict[str, float] = field(default_factory=dict)  # stage name -> seconds
    einthoven_mv: float = float("nan")
    """RMS of II - I - III, their offsets aside, before leads are blended: what needs no truth to be
    checked. Lines 0.4 mm thick leave 0.02 mV; beyond 0.1 mV something is wrong."""
    evidence: Mapping[str, "Evidence"] = field(default_factory=dict)
    """What the reading shows of each lead, see quality.py."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the page should be looked at before it is used, see doubts.py."""
        return self.recording.doubts


@dataclass(frozen=True)
class Failure:
    """A page that could not be digitized."""

    source: str
    stage: str  # "read", "stage0", "stage1", "stage2", "signals", "write", "time", "unexpected"
    error: str  # what happened, what was expected, what to do
