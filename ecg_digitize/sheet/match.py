"""Which layout a sheet has: the one that explains the lead names that were read, and the rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from ecg_digitize.frames import TIME_ORIGIN_MM
from ecg_digitize.layout import Layout
from ecg_digitize.layouts import FAMILIES, WITHOUT_NAMES, Family, single
from ecg_digitize.types import Float64


class MatchOptions(NamedTuple):
    """Constants of the match.

    Attributes:
        above_mm, below_mm: How far above and below its baseline a name may stand,
        above: or above it as a share of the distance of the rows.
        row_mm: By how much a name may be off the row, all names standing alike.
        column: By which share of the columns' distance a name may be off its column.
        single_mm: The same where there is one column.
        most_strips: Rhythm strips below the rows.
        alien: What a name counts that contradicts.
        missing: What a lead counts whose name was not read.
        idle: What a row counts that the layout leaves over, as often as its ink is the usual, once
            at most: edges of monitors have more than any row.
        beside_single: Ink of other rows, as often as the usual, that a sheet of one lead may have.
        unread: What a strip counts whose name was not read.
        sure_strip: Confidence of a strip's name below which the leads are asked which one it
            repeats. A faint II is read as I.
        crowded: Distance of a strip from the row above it, as a share of that of the rows, below
            which it is none.
        stretches: How much farther apart the names may stand than the rows,
        stretch: and what that counts: names stand like the rows as a rule.
        least: Share of the leads whose names must be read where they belong.
        contradict: Names that must be others than a layout's to speak against it,
        contradict_share: and which share of those that stand where it has names.
        margin: By how much, as a share of the leads, the best match must be better than the next.
    """

    above_mm: float = 18.0
    above: float = 0.55
    below_mm: float = 13.0
    row_mm: float = 3.0
    column: float = 0.2
    single_mm: float = 12.0
    most_strips: int = 3
    alien: float = 0.7
    missing: float = 0.3
    idle: float = 0.6
    beside_single: float = 1.0
    unread: float = 0.3
    sure_strip: float = 0.7
    crowded: float = 0.6
    stretches: tuple[float, ...] = (1.0, 0.93, 1.07, 0.87, 1.13)
    stretch: float = 0.5
    least: float = 0.5
    contradict: int = 3
    contradict_share: float = 0.3
    margin: float = 0.1


DEFAULTS: Final = MatchOptions()


@dataclass(frozen=True)
class PlacedName:
    """A lead name on the sheet."""

    lead: str  # "-aVR" if printed so
    x_mm: float
    y_mm: float
    confidence: float


@dataclass(frozen=True)
class Match:
    """A layout that explains a sheet."""

    family: Family
    rows_mm: Float64  # (rows + strips,) sheet y of the baselines
    weights: Float64  # (rows + strips,) how much ink each has
    strips: tuple[str | None, ...]  # their leads, None where unread
    names_mm: Float64  # (columns,) sheet x of the names; NaN without names
    score: float  # names read where they belong, less what contradicts
    named: int  # leads whose names were read where they belong
    n_leads: int


def match_layout(
    names: Sequence[PlacedName],
    rows_mm: Float64,
    weights: Float64,
    *,
    families: Sequence[Family] = FAMILIES,
    options: MatchOptions = DEFAULTS,
) -> Match | None:
    """Find the layout that explains names and rows best.

    Args:
        names: As read.
        rows_mm: (n,) sheet y of baselines, downwards.
        weights: (n,) how much ink each has, 1 the most.
        families: Those that it may be. One alone is what is printed, whatever the names say.
        options: See there.

    Returns:
        The best match; None if none explains enough, or if two do about as well.
    """
    if not len(rows_mm):
        return None
    on_row = rows_of(names, rows_mm, weights, options=options)
    found = sorted(
        _matches(names, on_row, rows_mm, weights, families, options), key=lambda m: -m.score
    )
    if len(families) == 1:
        alone = [one for one in found if one.family == families[0]]
        return alone[0] if alone else _without_names(families[0], rows_mm, weights)
    enough = max(options.least * found[0].n_leads, 1) if found else 0
    if found and found[0].named >= enough and found[0].score > 0:
        best = found[0]
        others = [m.score for m in found if m.family != best.family]
        if others and max(others) > best.score - options.margin * best.n_leads:
            return None
        return best
    dense = weights > options.unread / options.idle
    rows_mm, weights = rows_mm[dense], weights[dense]
    if len(names) < 3 and len(rows_mm) in WITHOUT_NAMES:
        name, _ = WITHOUT_NAMES[len(rows_mm)]
        family = next(one for one in families if one.name == name)
        return _without_names(family, rows_mm, weights)
    return None


def _without_names(family: Family, rows_mm: Float64, weights: Float64) -> Match | None:
    """Return a family at the uppermost rows, all others being strips; None with too few rows."""
    n_strips = len(rows_mm) - len(family.rows)
    if n_strips < 0:
        return None
    nowhere = np.full(family.n_columns, np.nan)
    n_leads = len(family.rows) * family.n_columns
    return Match(family, rows_mm, weights, (None,) * n_strips, nowhere, 0.0, 0, n_leads)


def contradicts(
    names: Sequence[PlacedName], layout: Layout, *, options: MatchOptions = DEFAULTS
) -> bool:
    """Say whether the names on a sheet speak against a layout whose rows lie where they should.

    Args:
        names: As read.
        layout: What the sheet is taken for.
        options: See there.
    """
    right = wrong = 0
    for name in names:
        for row in layout.rows:
            below_mm = name.y_mm - row.zero_mm - row.name_below_mm
            if abs(below_mm) > 2 * options.row_mm or row.is_strip:
                continue
            for segment in row.segments:
                x_mm = TIME_ORIGIN_MM + segment.start_s * layout.mm_per_s
                length_mm = (segment.stop_s - segment.start_s) * layout.mm_per_s
                if abs(name.x_mm - x_mm) < options.column * length_mm:
                    right, wrong = (
                        right + (name.lead == segment.lead),
                        wrong + (name.lead != segment.lead),
                    )
    return wrong >= max(options.contradict, options.contradict_share * (right + wrong))


def rows_of(
    names: Sequence[PlacedName],
    rows_mm: Float64,
    weights: Float64,
    *,
    options: MatchOptions = DEFAULTS,
) -> list[int | None]:
    """Say on which row each name stands, all of them about as far from their rows as the others."""
    if not names:
        return []
    y_mm = np.array([name.y_mm for name in names])
    confidence = np.array([name.confidence for name in names])
    apart_mm = float(np.median(np.diff(rows_mm))) if len(rows_mm) > 1 else 0.0
    above_mm = max(options.above_mm, options.above * apart_mm)
    tried = np.arange(-above_mm, options.below_mm, 0.5)
    best, most = np.empty(0), -1.0
    for stretch in options.stretches:
        named_mm = y_mm.mean() + (y_mm - y_mm.mean()) / stretch
        off = np.abs(named_mm[None, :, None] - tried[:, None, None] - rows_mm)
        near = (np.exp(-((off / (0.6 * options.row_mm)) ** 2)) * np.sqrt(weights)).max(axis=2)
        support = (near * confidence).sum(axis=1) * (1 - 0.003 * np.abs(tried))
        support *= 1 - options.stretch * abs(stretch - 1)
        if support.max() > most:
            best, most = off[int(np.argmax(support))], float(support.max())
    nearest = best.argmin(axis=1)
    return [
        int(row) if best[k, row] < options.row_mm else None for k, row in enumerate(nearest)
    ]  # fmt: skip


def _matches(
    names: Sequence[PlacedName],
    on_row: Sequence[int | None],
    rows_mm: Float64,
    weights: Float64,
    families: Sequence[Family],
    options: MatchOptions,
) -> Iterator[Match]:
    """Try every family at every row."""
    once = np.minimum(weights, 1.0)
    placed = [(n, row) for n, row in zip(names, on_row, strict=True) if row is not None]
    for family in families:
        n_rows = len(family.rows)
        for first in range(len(rows_mm) - n_rows + 1):
            most = min(options.most_strips, len(rows_mm) - first - n_rows)
            for n_strips in range(most + 1):
                last = first + n_rows + n_strips
                if _crowded(rows_mm[first:last], n_rows, options):
                    continue
                inside = [(n, row - first) for n, row in placed if first <= row < last]
                idle = float(once[:first].sum() + once[last:].sum())
                yield from _match(
                    family, inside, rows_mm[first:last], weights[first:last], idle, options
                )
    for row in range(len(rows_mm)):  # a single strip: whatever lead its first name says
        here = [n for n, at in placed if at == row]
        if here:
            first_name = min(here, key=lambda n: n.x_mm)
            idle = float(once[:row].sum() + once[row + 1 :].sum())
            if idle > options.beside_single:
                continue
            family = single(first_name.lead)
            one = [(n, 0) for n in here]
            yield from _match(
                family, one, rows_mm[row : row + 1], weights[row : row + 1], idle, options
            )


def _crowded(rows_mm: Float64, n_rows: int, options: MatchOptions) -> bool:
    """Say whether a strip is too near to the row above it to be one."""
    apart_mm = np.diff(rows_mm)
    if n_rows < 2 or len(apart_mm) < n_rows:
        return False
    usual_mm = float(np.median(apart_mm[: n_rows - 1]))
    return bool(apart_mm[n_rows - 1 :].min() < options.crowded * usual_mm)


def _match(
    family: Family,
    names: Sequence[tuple[PlacedName, int]],
    rows_mm: Float64,
    weights: Float64,
    idle: float,
    options: MatchOptions,
) -> Iterator[Match]:
    """Score a family at some rows, its columns where most names want them."""
    n_rows, n_columns = len(family.rows), family.n_columns
    n_leads = n_rows * n_columns
    at_home = [
        (name, family.rows[row].index(name.lead))
        for name, row in names
        if row < n_rows and name.lead in family.rows[row]
    ]
    best: tuple[float, Float64] | None = None
    for columns_mm, reach_mm in _columns(at_home, n_columns, options):
        told = sum(
            name.confidence for name, c in at_home if abs(name.x_mm - columns_mm[c]) < reach_mm
        )
        if best is None or told > best[0]:
            best = told, columns_mm
    if best is None:
        return
    columns_mm = best[1]
    reach_mm = _reach_mm(columns_mm, options)
    right, read = 0.0, set()
    strips: list[str | None] = []
    alien, unread = 0.0, 0
    for row in range(n_rows, len(rows_mm)):
        lead, sure, others = _strip_lead([n for n, at in names if at == row], columns_mm, options)
        strips.append(lead if sure >= options.sure_strip else None)
        right, alien, unread = right + 0.5 * min(sure, 1.0), alien + others, unread + (lead is None)
    for name, row in sorted(names, key=lambda pair: pair[0].x_mm):
        if row >= n_rows:
            continue
        leads = family.rows[row]
        column = leads.index(name.lead) if name.lead in leads else None
        if column is not None and abs(name.x_mm - columns_mm[column]) < reach_mm:
            if (row, column) not in read:
                read.add((row, column))
                right += name.confidence
        else:
            alien += name.confidence
    score = (
        right
        - options.unread * unread
        - options.alien * alien
        - options.missing * (n_leads - len(read))
        - options.idle * idle
    )
    yield Match(family, rows_mm, weights, tuple(strips), columns_mm, score, len(read), n_leads)


def _strip_lead(
    names: Sequence[PlacedName], columns_mm: Float64, options: MatchOptions
) -> tuple[str | None, float, float]:
    """Say what a strip is called, how sure that is, and how sure all other names on it are.

    Its name stands where it begins; some machines repeat it at every column.
    """
    reach_mm = _reach_mm(columns_mm, options)
    said: dict[str, float] = {}
    at_begin = set()
    for name in names:
        at_mm = np.abs(name.x_mm - columns_mm)
        begins = at_mm[0] < max(reach_mm, options.single_mm)
        if begins or at_mm.min() < reach_mm:
            said[name.lead] = said.get(name.lead, 0.0) + name.confidence
        if begins:
            at_begin.add(name.lead)
    repeated = {lead for lead in said if sum(name.lead == lead for name in names) > 1}
    lead = max(sorted(at_begin | repeated), key=said.__getitem__, default=None)
    everything = sum(name.confidence for name in names)
    sure = 0.0 if lead is None else said[lead]
    return lead, sure, everything - sure


def _columns(
    at_home: Sequence[tuple[PlacedName, int]], n_columns: int, options: MatchOptions
) -> Iterator[tuple[Float64, float]]:
    """Yield sheet x of evenly spaced columns through the names of every two columns."""
    if n_columns == 1:
        for name, _ in at_home:
            yield np.array([name.x_mm]), options.single_mm
        return
    for i, (one, c) in enumerate(at_home):
        for other, d in at_home[i + 1 :]:
            if c == d:
                continue
            apart_mm = (other.x_mm - one.x_mm) / (d - c)
            if apart_mm > options.single_mm:
                steps = np.arange(n_columns, dtype=np.float64) - c
                columns_mm = np.asarray(one.x_mm + apart_mm * steps, np.float64)
                yield columns_mm, _reach_mm(columns_mm, options)


def _reach_mm(columns_mm: Float64, options: MatchOptions) -> float:
    if len(columns_mm) == 1:
        return options.single_mm
    return float(options.column * (columns_mm[1] - columns_mm[0]))
