"""Find out what is printed where on a sheet of any layout: the story of this package.

picture -> scale -> the sheet laid flat -> names, text, rows -> match -> pulses, places
        -> the grid led on to its lines -> FoundSheet

A sheet without a grid has its scale from its rows: 250 mm long on most sheets, and half as
long at half the speed. Where nothing is found on a dark picture, its negative is looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

import numpy as np

from ecg_digitize.layout import COMPETITION, PULSE_S, Layout, Row, Segment
from ecg_digitize.layouts import FAMILIES, Family
from ecg_digitize.sheet.flat import (
    FLAT_PX_PER_MM,
    FlatSheet,
    Strokes,
    find_ink,
    lay_flat,
    strokes_of,
)
from ecg_digitize.sheet.lattice import refined
from ecg_digitize.sheet.match import Match, PlacedName, match_layout
from ecg_digitize.sheet.names import Name
from ecg_digitize.sheet.places import DEFAULTS as PLACES
from ecg_digitize.sheet.places import PlaceOptions, find_places, ink_ends_mm
from ecg_digitize.sheet.read import Sheet, start_mm
from ecg_digitize.sheet.rows import find_rows, with_named_rows
from ecg_digitize.sheet.scale import find_squares
from ecg_digitize.sheet.sift import DEFAULTS as SIFT
from ecg_digitize.sheet.sift import (
    are_alike,
    has_enough,
    near_names,
    on_picture,
    without_text,
)
from ecg_digitize.sheet.text import Cut, Line, Told, cut_lines, told_by
from ecg_digitize.stage1.pulses import DEFAULTS as PULSES
from ecg_digitize.stage1.pulses import Pulse, find_pulses
from ecg_digitize.types import Float64, GridMap, Image, Page


class FindOptions(NamedTuple):
    """Constants of the search.

    Attributes:
        least_names: Fewer names may be read by chance: they do not tell which side is up.
        trusted_name: Confidence from which a name counts.
        sure_grid: Confidence in a grid below which rows and pulses may tell the scale better.
        scales_apart: Logarithm of a scale that pulses say is wrong, at least: where the grid is
            sure, by whole squares, and where it is not,
        pulses_agree: and by how much, likewise, their height and width may disagree about it.
        plain_width_mm: Width of a sheet without a grid, before its rows tell it.
        plain_looks: How often it is looked at, at most, until
        plain_agree: its scale changes by no more than this share.
        resolution_px_per_mm: Between which what a file states may be the resolution of a sheet.
        dark: Median brightness, of 255, below which a picture may be white on black.
    """

    least_names: int = 3
    trusted_name: float = 0.5
    sure_grid: float = 0.8
    scales_apart: tuple[float, float] = (0.3, 0.08)
    pulses_agree: float = 0.15
    plain_width_mm: float = 280.0
    plain_looks: int = 4
    plain_agree: float = 0.003
    resolution_px_per_mm: tuple[float, float] = (2.0, 50.0)
    dark: float = 100.0


DEFAULTS: Final = FindOptions()
_ANY_FOOT: Final = PULSES._replace(foot_mm=8.0)
"""Some machines draw the pulse about the height of the row, not on its baseline."""

_AS_SEEN: Final = PLACES._replace(usual_mm=())
"""Rows are as long as their ink is, where the scale is still to be found."""


class Reader(Protocol):
    """What reads print: names as the sheet lies at FLAT_PX_PER_MM, and lines cut out of it."""

    def names(self, seen: Image) -> Sequence[Name]:
        """Read lead names, see ``names.find_names``."""
        ...

    def lines(self, cuts: Sequence[Cut]) -> Sequence[Line]:
        """Read lines of text, see ``text.read_lines``."""
        ...


@dataclass(frozen=True)
class FoundSheet:
    """A sheet, and what it was found by."""

    sheet: Sheet
    flat: FlatSheet
    strokes: Strokes  # what its ink is
    pulses: tuple[Pulse, ...]
    names: tuple[PlacedName, ...]
    told: Told  # what text says of speed and gain
    confidence: float  # of the grid, in [0, 1]; 0: there is none, and rows tell the scale
    image: Image  # the picture that it was found in: the page's, or its negative
    is_marked: bool = False  # whether somebody marked it, see ``marked``


def find_sheet(
    page: Page, reader: Reader, *, families: Sequence[Family] = FAMILIES
) -> FoundSheet | None:
    """Find what is printed where.

    Args:
        page: The picture.
        reader: Reads what is printed.
        families: See ``match.match_layout``.

    Returns:
        None if no grid is seen, or no layout explains names and rows.
    """
    found = _find(page, reader, families)
    if found is None and np.median(page.image[::4, ::4]) < DEFAULTS.dark:
        negative = np.asarray(255 - page.image, np.uint8)
        return _find(replace(page, image=negative), reader, families)
    return found


def _find(page: Page, reader: Reader, families: Sequence[Family]) -> FoundSheet | None:
    """Find a sheet by its grid, else by its rows."""
    image = page.image
    found, confidence = None, 0.0
    squares = find_squares(image)
    if squares is not None:
        confidence = squares.confidence
        page_from_sheet = squares.page_from_sheet
        for _ in range(2):
            laid = _upright(image, page_from_sheet, reader)
            if laid is None:
                break
            flat, names = laid
            found = sheet_of(image, flat, names, reader, families=families, confidence=confidence)
            if found is None or (times := times_too_large(found)) is None:
                break
            page_from_sheet = page_from_sheet @ np.diag([times, times, 1.0])
    doubted = found is None or not has_enough(found.names) or not found.sheet.places.is_usual()
    if confidence < DEFAULTS.sure_grid and doubted:
        return _without_grid(page, reader, families) or found
    return found


def is_mirrored(image: Image, found: FoundSheet | None, reader: Reader) -> bool:
    """Say whether lead names are read on a picture's mirror image, and hardly any on itself.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        found: What was found on it, if anything.
        reader: Reads what is printed.
    """
    squares = find_squares(image)
    if squares is None or (found is not None and has_enough(found.names)):
        return False
    mirrored = np.ascontiguousarray(image[:, ::-1])
    to_mirrored = np.array([[-1.0, 0, image.shape[1] - 1], [0, 1, 0], [0, 0, 1]])
    unmirror = np.diag([-1.0, 1.0, 1.0])  # of the sheet, so that its x is the picture's again
    laid = _upright(mirrored, to_mirrored @ squares.page_from_sheet @ unmirror, reader)
    return laid is not None and has_enough(laid[1])


def _upright(
    image: Image, page_from_sheet: Float64, reader: Reader
) -> tuple[FlatSheet, tuple[PlacedName, ...]] | None:
    """Lay a sheet flat, the side up on which names are read; None if it is too large for one."""
    best: tuple[int, FlatSheet, tuple[PlacedName, ...]] | None = None
    for turns in (0, 2, 1, 3):
        flat = lay_flat(image, page_from_sheet, turns=turns)
        if flat is None:
            return None
        names = placed_names(reader.names(flat.seen), flat)
        n_leads = len({name.lead for name in names})  # upright strokes are many an I
        if best is None or n_leads > max(best[0], DEFAULTS.least_names - 1):
            best = n_leads, flat, names
        if n_leads >= SIFT.enough_names:
            break
    assert best is not None
    return best[1], best[2]


def times_too_large(found: FoundSheet) -> float | None:
    """Return how many times as large as they should be the pulses are: so wrong is the scale.

    None if they agree with what text tells, or if they are not as much too high as too wide. Where
    the grid is sure, text must tell one of speed and gain; else the usual ones are believed.

    Pulses are measured to a few hundredths. A sure grid is wrong by whole squares; any other is so
    wrong as makes the rows as long as machines print them, if that is near.
    """
    told, is_sure = found.told, found.confidence >= DEFAULTS.sure_grid
    if len(found.pulses) < 2 or (is_sure and told.mm_per_s is None and told.mm_per_mv is None):
        return None
    width_mm = float(np.median([one.width_mm for one in found.pulses]))
    height_mm = float(np.median([one.height_mm for one in found.pulses]))
    wider = width_mm / (PULSE_S * (told.mm_per_s or COMPETITION.mm_per_s))
    higher = height_mm / (told.mm_per_mv or COMPETITION.mm_per_mv)
    least = DEFAULTS.scales_apart[0 if is_sure else 1]
    if abs(np.log(higher)) < least or abs(np.log(wider / higher)) > DEFAULTS.pulses_agree:
        return None
    exact = [float(round(higher)) if higher > 1 else 1 / round(1 / higher)]
    if not is_sure:
        exact += [found.sheet.places.length_mm / usual_mm for usual_mm in PLACES.usual_mm]
    nearest = min(exact, key=lambda one: abs(np.log(one / higher)))
    return nearest if abs(np.log(nearest / higher)) < DEFAULTS.pulses_agree else higher


def _without_grid(page: Page, reader: Reader, families: Sequence[Family]) -> FoundSheet | None:
    """Find a sheet whose rows tell its scale; None without enough names, they might be anything.

    The resolution that a file states is taken where the rows have a usual length by it.
    """

    def look(px_per_mm: float, options: PlaceOptions) -> FoundSheet | None:
        laid = _upright(page.image, np.diag([px_per_mm, px_per_mm, 1.0]), reader)
        if laid is None or not has_enough(laid[1]):
            return None
        flat, names = laid
        return sheet_of(
            page.image,
            flat,
            names,
            reader,
            families=families,
            confidence=0.0,
            places_options=options,
        )

    low, high = DEFAULTS.resolution_px_per_mm
    if page.px_per_mm is not None and low < page.px_per_mm < high:
        found = look(page.px_per_mm, PLACES)
        if found is not None and found.sheet.places.is_usual() and _names_agree(found.sheet):
            return found
    px_per_mm = page.image.shape[1] / DEFAULTS.plain_width_mm
    for _ in range(DEFAULTS.plain_looks):
        found = look(px_per_mm, _AS_SEEN)
        if found is None:
            return None
        slow = found.told.mm_per_s is not None and found.told.mm_per_s < COMPETITION.mm_per_s
        longer = found.sheet.places.length_mm / PLACES.usual_mm[1 if slow else 0]
        px_per_mm *= longer
        if abs(longer - 1) < DEFAULTS.plain_agree:
            break
    found = look(px_per_mm, PLACES)
    if found is not None and (times := times_too_large(found)) is not None:
        found = look(px_per_mm * times, PLACES)
    return found if found is None or _names_agree(found.sheet) else None


def _names_agree(sheet: Sheet) -> bool:
    """Say whether the columns of names are as far apart as those of leads, if there are several."""
    apart_mm, leads_mm = np.diff(sheet.match.names_mm), np.diff(sheet.places.starts_mm)
    return not apart_mm.size or bool(abs(apart_mm.mean() / leads_mm.mean() - 1) < PLACES.pitch)


def placed_names(names: Sequence[Name], flat: FlatSheet) -> tuple[PlacedName, ...]:
    """Return the trusted of some names, where they stand on the sheet."""
    placed = []
    for name in names:
        if name.confidence >= DEFAULTS.trusted_name:
            x_mm, y_mm = flat.mm_from_px(np.array(name.xy_px))
            lead = name.lead if name.sign > 0 else "-" + name.lead
            placed.append(PlacedName(lead, float(x_mm), float(y_mm), name.confidence))
    return tuple(placed)


def sheet_of(
    image: Image,
    flat: FlatSheet,
    names: tuple[PlacedName, ...],
    reader: Reader,
    *,
    families: Sequence[Family],
    confidence: float,
    places_options: PlaceOptions = PLACES,
) -> FoundSheet | None:
    """Find what is printed where on a sheet that lies flat; None if no layout explains it."""
    text = reader.lines(cut_lines(image, flat))
    strokes = without_text(strokes_of(flat.ink, px_per_mm=FLAT_PX_PER_MM), text)
    rows_mm, weights = find_rows(near_names(strokes.lines, names), px_per_mm=FLAT_PX_PER_MM)
    if has_enough(names):
        alike = are_alike(strokes.lines, rows_mm)
        rows_mm, weights = rows_mm[alike], weights[alike]
    rows_mm, weights = with_named_rows(rows_mm, weights, names)
    seen = on_picture(flat, rows_mm)
    rows_mm, weights = rows_mm[seen], weights[seen]
    match = match_layout(names, rows_mm, weights, families=families)
    if match is None or (confidence < DEFAULTS.sure_grid and len(names) < DEFAULTS.least_names):
        return None  # rows alone, by a scale that is doubtful, tell nothing
    pulses = pulses_of(image, flat, match)
    inked, ends_mm = ink_ends_mm(strokes.lines, match.rows_mm, pulses, px_per_mm=FLAT_PX_PER_MM)
    places = find_places(
        inked,
        ends_mm,
        pulses,
        n_columns=match.family.n_columns,
        n_rows=len(match.family.rows),
        upright=np.asarray(strokes.upright.any(axis=0), np.bool_),
        px_per_mm=FLAT_PX_PER_MM,
        names_mm=match.names_mm,
        options=places_options,
    )
    if places is None:
        return None
    told = told_by(text)
    reach_mm = places.end_mm, float(match.rows_mm[-1])
    # Where leads have gaps between them each may have a grid of its own.
    is_led_on = confidence > 0 and not places.has_gaps
    led_on = refined(image, flat.grid, reach_mm=reach_mm) if is_led_on else flat.grid
    grid: GridMap = replace(led_on, start_mm=start_mm(places))
    sheet = Sheet(grid, match, places)
    return FoundSheet(sheet, flat, strokes, pulses, names, told, confidence, image)


def pulses_of(image: Image, flat: FlatSheet, match: Match) -> tuple[Pulse, ...]:
    """Find the calibration pulses beside the rows of a sheet."""
    rows = (Row(float(zero_mm), (Segment("I", 0.0, 10.0),)) for zero_mm in match.rows_mm)
    layout = Layout("rows", tuple(rows))
    return find_pulses(image, flat.grid, layout, ink_of=find_ink, options=_ANY_FOOT)
