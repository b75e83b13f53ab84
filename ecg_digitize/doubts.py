"""Why a page should be looked at before it is used: what speaks against its reading, in words.

Nothing here changes what was read. A page without doubts is the competition's sheet, with its grid,
its names and its rows where they belong, ink along every lead, and limb leads that agree.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from ecg_digitize.frames import RECT, TIME_ORIGIN_MM
from ecg_digitize.layout import COMPETITION, LEADS, NAME_KEYS, Layout
from ecg_digitize.quality import DEFAULTS as QUALITY
from ecg_digitize.quality import QualityOptions
from ecg_digitize.sheet.find import DEFAULTS as FIND
from ecg_digitize.sheet.find import FoundSheet
from ecg_digitize.sheet.match import PlacedName
from ecg_digitize.sheet.text import NOTHING_TOLD, Told
from ecg_digitize.stage1.pulses import Pulse
from ecg_digitize.types import Float32, Float64, GridMap, Image, Mask, Page, Registration, Trace


class DoubtOptions(NamedTuple):
    """From where on something is doubtful.

    Attributes:
        einthoven_mv: RMS of I - II + III; lines 0.4 mm thick leave 0.02.
        edge_mm: From its rows to the edge of the picture.
        named: Share of its lead names that are read.
        grid: Mean confidence of the crossings in the picture. Real photos of the competition's
            sheet have 0.75 and more; where lines were taken for others, it is 0.1 to 0.55.
        names: Lead names that agree with the layout, of 13; those photos have 11 and more.
        missing: Share of a lead that is not seen.
        pulse_mm: From a pulse to where the traces begin; machines leave 0 to 7.5.
        row_mm: What the ink of rows goes on for that have gaps between their leads; it is 250 mm
            where they have none.
        gap_mm: By how much those gaps may be off each other; where ink is faint it breaks off
            anywhere.
        gap_rows: Rows that must have a gap at the same place.
        astray: Share of the distance of two rows, from where on a line lies on another row,
        astray_share: and share of a lead that does.
        rejected_mv: RMS of I - II + III from which on a reading is wrong,
        rejected_leads: and how many leads may not lie on other rows.
        rejected_names: Names that agree with the layout below which it is another one.
        twice: Leads that must be named twice for a second ECG,
        twice_mm: so far apart.
    """

    einthoven_mv: float = 0.1
    edge_mm: float = 2.0
    named: float = 0.75
    grid: float = 0.6
    names: int = 9
    missing: float = 0.5
    pulse_mm: float = 9.0
    row_mm: tuple[float, float] = (30.0, 100.0)
    gap_mm: float = 1.5
    gap_rows: int = 3
    astray: float = 0.55
    astray_share: float = 0.15
    rejected_mv: float = 0.4
    rejected_leads: int = 3
    rejected_names: int = 6
    twice: int = 6
    twice_mm: float = 60.0


DEFAULTS: Final = DoubtOptions()


def doubts_about(
    image: Image,
    registration: Registration,
    grid: GridMap,
    paper: Trace,
    *,
    pulses: Sequence[Pulse],
    ends_mm: Float64,
    is_calibrated: bool,
    einthoven_mv: float,
    text: Told = NOTHING_TOLD,
    options: DoubtOptions = DEFAULTS,
) -> tuple[str, ...]:
    """Say what speaks against the reading of a page.

    Args:
        image: (H, W, 3) uint8, the picture.
        registration: Where the sheet lies in it.
        grid: Its grid, and where the rows lie and begin.
        paper: The traces as on the paper, their layout at the printed speed and gain.
        pulses: Calibration pulses that were seen.
        ends_mm: (rows, 2) sheet x between which the ink of each row goes on, NaN if unknown.
        is_calibrated: Whether these, or somebody, told the speed and the gain.
        einthoven_mv: See Digitization.
        text: What the text on the sheet tells of its speed and gain.
        options: See there.

    Returns:
        Sentences without a full stop; none if nothing speaks against it.
    """
    found = [*grid_doubts(image, registration, grid, options=options)]
    found += _about_print(grid, paper, pulses, is_calibrated, options)
    found += text_doubts(text, paper.layout)
    if has_gaps(ends_mm, options=options):
        found.append("there are gaps between the leads of a row")
    found += _about_leads(grid, paper, options)
    if einthoven_mv > options.einthoven_mv:
        found.append(f"leads I, II and III disagree by {einthoven_mv:.2f} mV")
    return tuple(found)


def has_gaps(ends_mm: Float64, *, options: DoubtOptions = DEFAULTS) -> bool:
    """Say whether there are gaps between the leads of the rows, by (rows, 2) ends of their ink."""
    least_mm, most_mm = options.row_mm
    length_mm = np.diff(ends_mm).ravel()
    short = ends_mm[(length_mm > least_mm) & (length_mm < most_mm), 1]
    if not short.size:
        return False
    alike = np.abs(short - np.median(short)) < options.gap_mm
    return bool(alike.sum() >= options.gap_rows)


def doubts_about_sheet(
    found: FoundSheet,
    paper: Trace,
    left_mm: Mapping[tuple[int, str], float],
    *,
    about_scale: tuple[str, ...],
    einthoven_mv: float,
    options: DoubtOptions = DEFAULTS,
) -> tuple[str, ...]:
    """Say what speaks against the reading of a sheet of any layout, see ``doubts_about``.

    Args:
        found: The sheet, and what it was found by.
        paper: The traces, their layout at the printed speed and gain.
        left_mm: Ink that no row was led through, see ``sheet.leftover``.
        about_scale: What speaks against the speed and the gain.
        einthoven_mv: See Digitization.
        options: See there.
    """
    match, layout = found.sheet.match, paper.layout
    said = []
    if not found.confidence:
        said.append("no grid was seen, and its scale is told by its rows or its file alone")
    elif found.confidence < FIND.sure_grid:
        said.append("the grid is hardly seen, so that all lengths are doubtful")
    if match.named < options.named * match.n_leads:
        said.append(
            f"{match.named} of {match.n_leads} lead names were read, and it is taken for "
            f"{layout.name}"
        )
    if any(row.is_strip and not row.segments for row in layout.rows):
        said.append("a strip repeats none of the leads, and is left out")
    strips = [row for row in layout.rows if row.is_strip]
    guessed = [
        row.leads[0]
        for row, name in zip(strips, match.strips, strict=True)
        if name is None and row.segments
    ]
    if guessed:
        said.append(f"a strip's name was not read, and it is taken for {' and '.join(guessed)}")
    said += about_scale
    places = found.sheet.places
    if not places.is_usual():
        said.append(f"the rows are {places.length_mm:.0f} mm long, where machines print 250 or 125")
    begin_mm = float(places.starts_mm[0])
    width_mm = found.flat.frame.width_px / found.flat.frame.px_per_mm_xy[0]
    end_mm = max(begin_mm + places.strip_mm, places.end_mm)
    if begin_mm < options.edge_mm or end_mm > width_mm - options.edge_mm:
        said.append("the rows reach the edge of the picture, and may be cut there")
    if left := {lead for _, lead in left_mm}:
        names = ", ".join(lead for lead in LEADS if lead in left)
        said.append(f"ink near {names} was left over: strokes may be missing, or be another row's")
    said += _about_leads(found.sheet.grid, paper, options)
    if einthoven_mv > options.einthoven_mv:
        said.append(f"leads I, II and III disagree by {einthoven_mv:.2f} mV")
    return tuple(said)


def page_doubts(
    page: Page, names: Sequence[PlacedName], *, options: DoubtOptions = DEFAULTS
) -> Iterator[str]:
    """Say that a file has further pages that nobody asked for, and a picture further sheets.

    Args:
        page: The picture.
        names: Lead names on it.
        options: See there.
    """
    if page.n_pages > 1 and page.page_number is None:
        yield f"the file has {page.n_pages} pages, and only the first was read"
    twice = [lead for lead in LEADS if _is_apart(names, lead, options.twice_mm)]
    if len(twice) >= options.twice:
        yield "most lead names are seen twice, as of two ECGs on one picture; cut it in two"


def _is_apart(names: Sequence[PlacedName], lead: str, apart_mm: float) -> bool:
    xy_mm = np.array([(name.x_mm, name.y_mm) for name in names if name.lead == lead])
    return len(xy_mm) > 1 and bool((np.ptp(xy_mm, axis=0) > apart_mm).any())


def grid_doubts(
    image: Image,
    registration: Registration,
    grid: GridMap,
    *,
    options: DoubtOptions = DEFAULTS,
) -> Iterator[str]:
    """Say what speaks against a grid and the lead names on it, see ``doubts_about``."""
    if not np.isfinite(grid.residual_px):
        yield "no grid was found, so that lengths are those of the lead names"
    elif grid_confidence(image, grid) < options.grid:
        yield "the printed lines hardly agree with the grid that was found"
    if registration.n_inliers < options.names:
        yield f"{registration.n_inliers} of {len(NAME_KEYS)} lead names are where they belong"


def grid_confidence(image: Image, grid: GridMap) -> float:
    """Return the mean confidence of the crossings that lie in the picture; 0 if none does."""
    size_px = np.array(image.shape[1::-1])
    points_px = grid.crossings_xy_px
    inside = ((points_px >= 0) & (points_px <= size_px - 1)).all(axis=-1)
    return float(grid.confidence[inside].mean()) if inside.any() else 0.0


def quality_doubts(quality: Float32, *, options: QualityOptions = QUALITY) -> Iterator[str]:
    """Name the leads that are likely wrong, by (12,) probabilities that they are right."""
    with np.errstate(invalid="ignore"):
        low = quality < options.wrong
    if low.sum() == np.isfinite(quality).sum() > 1:
        yield "all leads are likely wrong"
    elif low.any():
        yield f"{', '.join(lead for lead, is_low in zip(LEADS, low, strict=True) if is_low)} " + (
            "is likely wrong" if low.sum() == 1 else "are likely wrong"
        )


def layout_doubts(
    layout: Layout, quality: Float32, others: Sequence[str], *, options: QualityOptions = QUALITY
) -> Iterator[str]:
    """Say what a sheet was read as, unless its leads are likely right and nothing else is doubted.

    Args:
        layout: Of the sheet.
        quality: (12,) probabilities that the leads are right.
        others: What else speaks against its reading.
        options: See there.
    """
    known = quality[np.isfinite(quality)]
    if others or not known.size or np.median(known) < options.right:
        yield f"it is another sheet than the competition's, and was read as {layout.name}"


def most_wrong(quality: Float32, *, options: QualityOptions = QUALITY) -> bool:
    """Say whether most leads are likely wrong, by (12,) probabilities that they are right."""
    known = quality[np.isfinite(quality)]
    return bool(known.size) and bool(np.median(known) < options.rejected)


def text_doubts(text: Told, layout: Layout) -> Iterator[str]:
    """Say where the text on a sheet tells another speed or gain than it is taken for."""
    for taken, told, unit in (
        (layout.mm_per_s, text.speeds_mm_per_s, "mm/s"),
        (layout.mm_per_mv, text.gains_mm_per_mv, "mm/mV"),
    ):
        others = sorted(set(told) - {taken})
        if others:
            values = " and ".join(f"{one:g}" for one in others)
            yield f"its text tells {values} {unit}, but it is taken for {taken:g}"
    if (text.limb_mm_per_mv is None) != (text.chest_mm_per_mv is None) and not text.gains_mm_per_mv:
        known, other = ("limb", "chest") if text.limb_mm_per_mv else ("chest", "limb")
        yield f"its text tells the gain of {known} leads, and none was read of {other} leads"
    groups = {text.limb_mm_per_mv, text.chest_mm_per_mv} - {None, layout.mm_per_mv}
    if groups and all(s.mm_per_mv is None for row in layout.rows for s in row.segments):
        yield "its text tells limb and chest leads different gains"


def _about_print(
    grid: GridMap,
    paper: Trace,
    pulses: Sequence[Pulse],
    is_calibrated: bool,
    options: DoubtOptions,
) -> Iterator[str]:
    layout = paper.layout
    printed_at = f"{layout.mm_per_s:g} mm/s and {layout.mm_per_mv:g} mm/mV"
    if grid.rows_mm is not None:
        yield (
            "the rows lie elsewhere than on the competition's sheet, "
            "and it is taken for three rows of four leads and a strip"
        )
        if not is_calibrated:
            yield f"no two calibration pulses agree, and it is taken for {printed_at}"
    elif (layout.mm_per_s, layout.mm_per_mv) != (COMPETITION.mm_per_s, COMPETITION.mm_per_mv):
        yield f"it is printed at {printed_at}"
    begin_mm = TIME_ORIGIN_MM + grid.start_mm
    behind_mm = [begin_mm - one.left_mm - one.width_mm for one in pulses if one.left_mm < begin_mm]
    if behind_mm and np.median(behind_mm) > options.pulse_mm:
        yield f"the traces are taken to begin {np.median(behind_mm):.0f} mm behind the pulses"


def is_hopeless(
    grid: GridMap, paper: Trace, einthoven_mv: float, *, options: DoubtOptions = DEFAULTS
) -> bool:
    """Say whether a reading is wrong: the limb leads contradict each other, or rows were mixed up.

    Args:
        grid: See ``doubts_about``.
        paper: Likewise.
        einthoven_mv: See Digitization.
        options: See there.
    """
    astray = _leads(paper, is_astray(grid, paper, options), options.astray_share)
    return einthoven_mv > options.rejected_mv or len(astray) >= options.rejected_leads


def is_another_sheet(
    image: Image,
    registration: Registration,
    grid: GridMap,
    *,
    options: DoubtOptions = DEFAULTS,
) -> bool:
    """Say whether a sheet that was taken for the competition's is surely another one.

    Few of its names are where they belong, or not all of them and the grid does not fit either.
    """
    few = registration.n_inliers < options.names
    doubtful = np.isfinite(grid.residual_px) and grid_confidence(image, grid) < options.grid
    return registration.n_inliers < options.rejected_names or (few and bool(doubtful))


def is_astray(grid: GridMap, paper: Trace, options: DoubtOptions = DEFAULTS) -> Mask:
    """Return (rows, columns) where a line lies on another row.

    Of lines that were read exactly that is known for each as a whole: their tall strokes may well
    reach there.
    """
    zero_mm = grid.zero_mm(paper.layout)
    apart_mm = float(np.diff(zero_mm).min()) if len(zero_mm) > 1 else np.inf
    off_px = np.abs(paper.y_px - np.array(paper.layout.zero_px)[:, None])
    if paper.is_exact:
        for row, columns in paper.layout.pieces:
            off_px[row, columns] = np.median(off_px[row, columns])
    astray = off_px > options.astray * apart_mm * RECT.px_per_mm_xy[1]
    return np.asarray(astray if paper.shown is None else astray & paper.shown, np.bool_)


def _about_leads(grid: GridMap, paper: Trace, options: DoubtOptions) -> Iterator[str]:
    everywhere = np.ones(paper.layout.shape, np.bool_)
    shown = everywhere if paper.shown is None else paper.shown
    for missing, least, what in (
        (~shown, options.missing, "outside the picture"),
        (shown & (paper.confidence <= 0), options.missing, "without ink"),
        (is_astray(grid, paper, options), options.astray_share, "on another row"),
    ):
        if names := _leads(paper, missing, least):
            yield f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} {what}"


def _leads(paper: Trace, missing: Mask, least: float) -> list[str]:
    """Name the printed segments of which more than a share is missing."""
    layout = paper.layout
    names = []
    for index, row in enumerate(layout.rows):
        if row.is_strip:  # its lead may be unknown, and then it has no segment
            names += ["the strip"] if missing[index].mean() > least else []
            continue
        for segment in row.segments:
            if missing[index, layout.columns(segment)].mean() > least:
                names.append(segment.lead)
    return names
