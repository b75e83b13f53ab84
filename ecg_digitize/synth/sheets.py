"""Sheets of any layout: what hospitals and libraries print, whole leads in, a picture out.

`random_sheet` draws what is printed where, `draw_sheet` draws it, `make_sheet` takes a picture of
it. All labels are exact: the line of each row lies where the ink is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from ecg_digitize.frames import SQUARE_MM, TIME_ORIGIN_MM, TRACE_FS_HZ
from ecg_digitize.layout import LEADS, PULSE_S, Layout, Row, Segment
from ecg_digitize.layouts import FAMILIES, Family
from ecg_digitize.render.paper import blend_ink, draw_paper
from ecg_digitize.synth.canvas import Canvas
from ecg_digitize.synth.capture import on_paper
from ecg_digitize.synth.chance import Chance
from ecg_digitize.synth.dataset import KINDS
from ecg_digitize.synth.degrade import scribble
from ecg_digitize.synth.page import (
    FONTS,
    CleanPage,
    PageStyle,
    canvas_of,
    laser_print,
    paper_of,
    random_style,
)
from ecg_digitize.synth.signals import SignalSource, augment, to_twelve
from ecg_digitize.synth.text import DEFAULTS as TEXT
from ecg_digitize.synth.text import some_text
from ecg_digitize.synth.warp import SheetWarp
from ecg_digitize.types import Float32, Float64, Image


class SheetOptions(NamedTuple):
    """What sheets are like. Pairs are limits of a uniform draw."""

    families: tuple[float, ...] = (3, 1, 3, 0.7, 3, 0.7, 0.5, 1, 0.5, 0.4, 0.4)  # as in FAMILIES
    strips: tuple[float, ...] = (0.45, 0.35, 0.1, 0.1)  # none, one, two, three
    height_mm: tuple[float, float] = (110.0, 250.0)  # of all rows together
    apart_mm: tuple[float, float] = (14.0, 45.0)  # rows
    uneven_mm: float = 0.5
    gap: float = 0.25  # share of sheets with gaps between leads
    gap_mm: tuple[float, float] = (0.5, 8.0)
    marked: float = 0.35  # share of sheets with marks between leads
    speeds_mm_s: tuple[tuple[float, float], ...] = ((25.0, 0.86), (50.0, 0.1), (12.5, 0.04))
    gains_mm_mv: tuple[tuple[float, float], ...] = ((10.0, 0.8), (5.0, 0.1), (20.0, 0.1))
    wide_mm: float = 25.0  # rows nearer to each other than this are not printed at 20 mm/mV
    other_chest_gain: float = 0.08  # share of sheets whose chest leads have another gain
    taller: float = 0.3  # share of sheets whose signals are made up to twice as tall
    pulses: tuple[float, ...] = (0.45, 0.15, 0.4)  # left, right, none
    named: float = 0.95
    no_grid: float = 0.05
    inverted: float = 0.03  # white on black
    mislabelled: float = 0.0  # share of sheets with names that belong to other leads
    written_on: float = 0.0  # share of sheets with handwriting; what else is drawn stays the same


DEFAULTS: Final = SheetOptions()

KIND_SHARES: Final = {
    "render": 0.34, "scan": 0.24, "scan_bw": 0.1, "photo": 0.16, "screen": 0.05, "stained": 0.04,
    "damaged": 0.03, "mould": 0.03, "mould_bw": 0.01,
}  # fmt: skip
_PX_PER_MM: Final = (3.9, 4.7, 5.1, 5.9, 7.87, 7.87, 9.4, 11.8)
_MARKS: Final = ("bar", "tick", "dots")
_ASIDE: Final = TEXT._replace(told=0.0)
"""What else is written on a sheet: none of it speaks of another speed or gain."""


@dataclass(frozen=True)
class SheetStyle:
    """A page style, and what the competition's sheet has not."""

    look: PageStyle
    starts_mm: tuple[float, ...]  # sheet x where each column of leads begins
    pulses: str  # "left", "right" or ""
    mark: str  # between leads: one of _MARKS or ""
    names_mm: tuple[float, float] | None  # of a name's left end from its lead's begin
    texts: tuple[tuple[float, float, str], ...]  # sheet xy and what is written
    inverted: bool
    names: tuple[str, ...] = LEADS  # what is written at each of LEADS

    @property
    def layout(self) -> Layout:
        """What is printed, by time."""
        return self.look.layout


@dataclass(frozen=True)
class Sheet:
    """A flat sheet: its page, and the line of each row on the paper."""

    clean: CleanPage
    style: SheetStyle
    lines_mm: tuple[tuple[Float64, ...], ...]  # a row each: (n, 2) sheet xy of each of its leads


@dataclass(frozen=True)
class SyntheticSheet:
    """A picture of a sheet with everything there is to know about it."""

    image: Image  # (H, W, 3) uint8 RGB, page frame
    kind: str
    signals_mv: Float32  # (12, 5000)
    sheet: Sheet
    warp: SheetWarp  # page px from sheet mm

    @property
    def layout(self) -> Layout:
        """What is printed, by time."""
        return self.sheet.style.layout


def layout_of(
    family: Family,
    strips: Sequence[str],
    *,
    zero_mm: Sequence[float],
    duration_s: float,
    mm_per_s: float,
    mm_per_mv: float,
    chest_mm_per_mv: float | None = None,
) -> Layout:
    """Return the layout of a family with rhythm strips below, leads one after the other."""
    n_columns = family.n_columns
    each_s = duration_s / n_columns

    def segment(name: str, start_s: float, stop_s: float) -> Segment:
        lead = name.removeprefix("-")
        gain = chest_mm_per_mv if lead.startswith("V") else None
        return Segment(lead, start_s, stop_s, -1 if name.startswith("-") else 1, gain)

    rows = [
        Row(zero, tuple(segment(name, k * each_s, (k + 1) * each_s) for k, name in enumerate(row)))
        for zero, row in zip(zero_mm, family.rows, strict=False)
    ]
    for zero, lead in zip(zero_mm[len(rows) :], strips, strict=True):
        rows.append(Row(zero, (segment(lead, 0.0, duration_s),), is_strip=True))
    suffix = f"+{len(strips)}" if strips else ""
    return Layout(family.name + suffix, tuple(rows), mm_per_s, mm_per_mv)


def random_sheet(
    rng: np.random.Generator, *, print_like: bool, options: SheetOptions = DEFAULTS
) -> SheetStyle:
    """Draw what is printed where, and what it looks like.

    Args:
        rng: Source of randomness.
        print_like: See ``random_style``.
        options: Shares and limits.
    """
    shares = np.array(options.families)
    family = FAMILIES[int(rng.choice(len(FAMILIES), p=shares / shares.sum()))]
    n_strips = int(rng.choice(len(options.strips), p=options.strips))
    if len(family.rows) > 6:
        n_strips = 0
    strips = [str(lead) for lead in rng.permutation(["II", "V1", "V5"])[:n_strips]]
    strips = ["II"] if n_strips == 1 and rng.random() < 0.6 else strips
    n_rows = len(family.rows) + n_strips
    apart_mm = rng.uniform(*options.height_mm) / n_rows
    apart_mm = float(np.clip(apart_mm, *options.apart_mm))
    top_mm = rng.uniform(10, 45) + 0.4 * apart_mm
    zero_mm = top_mm + apart_mm * np.arange(n_rows) + rng.normal(0, options.uneven_mm, n_rows)
    mm_per_s = _one_of(rng, options.speeds_mm_s)
    mm_per_mv = _one_of(rng, options.gains_mm_mv)
    if apart_mm < options.wide_mm:
        mm_per_mv = min(mm_per_mv, 10.0)
    chest = _one_of(rng, options.gains_mm_mv) if rng.random() < options.other_chest_gain else None
    longest_s = 5.0 if mm_per_s > 25 or (n_rows > 6 and rng.random() < 0.3) else 10.0
    layout = layout_of(
        family,
        strips,
        zero_mm=[float(zero) for zero in zero_mm],
        duration_s=longest_s,
        mm_per_s=mm_per_s,
        mm_per_mv=mm_per_mv,
        chest_mm_per_mv=chest,
    )
    gap_mm = float(rng.uniform(*options.gap_mm)) if rng.random() < options.gap else 0.0
    each_mm = longest_s / family.n_columns * mm_per_s + gap_mm
    starts_mm = TIME_ORIGIN_MM + each_mm * np.arange(family.n_columns)
    pulses = str(rng.choice(["left", "right", ""], p=options.pulses))
    look = random_style(rng, print_like=print_like)
    left_mm = TIME_ORIGIN_MM - float(rng.uniform(0.5, 12))
    left_mm -= PULSE_S * mm_per_s + 1.5 if pulses == "left" else 0.0
    right_mm = float(starts_mm[-1] + each_mm + rng.uniform(0.5, 12))
    right_mm += 6.5 if pulses == "right" else 0.0
    upper_mm = float(zero_mm[0] - rng.uniform(0.4, 1.6) * apart_mm - 4)
    lower_mm = float(zero_mm[-1] + rng.uniform(0.4, 1.0) * apart_mm + 4)
    look = replace(
        look,
        layout=layout,
        px_per_mm=float(rng.choice(_PX_PER_MM)),
        left_mm=left_mm,
        top_mm=upper_mm,
        width_mm=right_mm - left_mm,
        height_mm=lower_mm - upper_mm,
        font=str(rng.choice(FONTS, p=[0.6, 0.2, 0.1, 0.1])),
        font_mm=float(rng.uniform(2.0, 4.5)),
        qr_mm=0.0,
        header=False,
        frame_line=bool(rng.random() < 0.15),
        minor_grid=look.minor_grid and rng.random() < 0.95,
    )
    if rng.random() < options.no_grid:
        paper = replace(look.paper, minor_alpha=0.0, major_alpha=0.0)
        look = replace(look, paper=paper)
    names_mm = float(rng.uniform(-1, 4)), float(rng.uniform(-0.45, 0.3) * apart_mm)
    if gap_mm == 0 and family.n_columns == 1 and rng.random() < 0.3:  # beside the row
        pulse_mm = 2 + PULSE_S * mm_per_s if pulses == "left" else 0.0
        names_mm = -pulse_mm - float(rng.uniform(8, 10)), float(rng.uniform(-3, 3))
    lines_mm = rng.uniform((left_mm, upper_mm), (right_mm - 40, upper_mm + 8), (3, 2))
    texts = [
        (float(x), float(y) + 2, some_text(rng, options=_ASIDE))
        for x, y in lines_mm[: rng.integers(4)]
    ]
    told = f"{mm_per_s:g} mm/s   {mm_per_mv:g} mm/mV"
    if chest is not None:
        told = f"{mm_per_s:g} mm/s   Limb {mm_per_mv:g} mm/mV   Chest {chest:g} mm/mV"
    texts.append((left_mm + float(rng.uniform(1, 60)), lower_mm - float(rng.uniform(2, 5)), told))
    if names_mm[0] < -2:
        look = replace(
            look, left_mm=look.left_mm + names_mm[0], width_mm=look.width_mm - names_mm[0]
        )
    return SheetStyle(
        look,
        tuple(float(x) for x in starts_mm),
        pulses=pulses,
        mark=str(rng.choice(_MARKS)) if rng.random() < options.marked else "",
        names_mm=names_mm if rng.random() < options.named else None,
        texts=tuple(texts),
        inverted=bool(rng.random() < options.inverted),
        names=_shuffled(rng)
        if options.mislabelled and rng.random() < options.mislabelled
        else LEADS,
    )


def draw_sheet(signals_mv: Float32, style: SheetStyle) -> Sheet:
    """Draw a sheet.

    Args:
        signals_mv: (12, n) float32 at 500 Hz in LEADS order, mV; n at least what is printed.
        style: What is printed where, and what it looks like.
    """
    look, layout = style.look, style.layout
    canvas = canvas_of(look)
    lines_mm = tuple(
        tuple(
            _line_mm(signals_mv, layout, row, segment, style.starts_mm[k])
            for k, segment in enumerate(row.segments)
        )
        for row in layout.rows
    )
    for row, lines in zip(layout.rows, lines_mm, strict=True):
        for line in lines:
            canvas.stroke(line[:, 0], line[:, 1], look.trace_width_mm)
        _draw_between(canvas, style, row, lines)
        if style.names_mm is not None:
            for line, segment in zip(lines, row.segments, strict=True):
                name = "-" * (segment.sign < 0) + style.names[LEADS.index(segment.lead)]
                x_mm, y_mm = line[0, 0] + style.names_mm[0], row.zero_mm + style.names_mm[1]
                canvas.write(name, x_mm, y_mm, font=look.font, font_mm=look.font_mm)
    for x_mm, y_mm, text in style.texts:
        canvas.write(text, x_mm, y_mm, font=look.font, font_mm=0.8 * look.font_mm)
    image = _paper(canvas, look)
    if look.frame_line:
        for edge in (canvas.coverage[0], canvas.coverage[-1]):
            edge[:] = 1.0
        canvas.coverage[:, [0, -1]] = 1.0
    blend_ink(image, canvas.coverage, np.array(look.ink, np.float32), look.ink_strength)
    clean = CleanPage(
        image=np.asarray(255 - image, np.uint8) if style.inverted else image,
        px_per_mm=look.px_per_mm,
        origin_mm=canvas.origin_mm,
        rows_mm=np.zeros((0, 0), np.float32),  # the competition's labels; see lines_mm
        rows_mv=np.zeros((0, 0), np.float32),
        names_mm=np.zeros((0, 2)),
        printed_mm=np.zeros((0, 0, 2)),
        style=look,
    )
    return Sheet(clean, style, lines_mm)


def make_sheet(
    source: SignalSource,
    *,
    seed: int,
    index: int,
    kind: str | None = None,
    max_megapixels: float = 4.0,
    laser_prints: float = 0.4,
    options: SheetOptions = DEFAULTS,
) -> SyntheticSheet:
    """Make a picture of a sheet; a pure function of its arguments.

    Args:
        source: Where the signals come from.
        seed: Family of samples.
        index: Which of them.
        kind: One of KINDS; None draws one by KIND_SHARES.
        max_megapixels: Size limit of photos.
        laser_prints: Share of the prints that a laser printer makes.
        options: What sheets are like.
    """
    rng = np.random.default_rng([seed, index, 20])
    chance = Chance(rng, np.random.default_rng([seed, index, 21]), 1.0)
    drawn = str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
    kind = drawn if kind is None else kind
    leads = augment(source.get(int(rng.integers(len(source)))), rng)
    if rng.random() < options.taller:
        leads = leads * np.float32(rng.uniform(1.2, 2.2))
    signals_mv = to_twelve(leads)
    how = KINDS[kind]
    style = random_sheet(rng, print_like=kind != "render", options=options)
    if how.margin_mm and chance.split().rng.random() < laser_prints:
        style = replace(style, look=replace(laser_print(style.look, rng), black_off_mm=()))
    sheet = draw_sheet(signals_mv, style)
    clean = sheet.clean
    writer = np.random.default_rng([seed, index, 22])
    if writer.random() < options.written_on:
        clean = replace(clean, image=scribble(clean.image, writer, px_per_mm=clean.px_per_mm))
    if how.margin_mm:
        clean = on_paper(clean, chance, margin_mm=how.margin_mm)
    for befall in how.wear:
        clean = befall(clean, chance)
    image, warp = how.capture(clean, chance, max_megapixels)
    return SyntheticSheet(np.ascontiguousarray(image), kind, signals_mv, sheet, warp)


def _shuffled(rng: np.random.Generator) -> tuple[str, ...]:
    """Exchange two to four names, as cables are."""
    names = list(LEADS)
    which = rng.permutation(len(names))[: rng.integers(2, 5)]
    for k, other in zip(which, np.roll(which, 1), strict=True):
        names[k] = LEADS[other]
    return tuple(names)


def _one_of(rng: np.random.Generator, shares: Sequence[tuple[float, float]]) -> float:
    values, likely = zip(*shares, strict=True)
    return float(rng.choice(values, p=likely))


def _line_mm(
    signals_mv: Float32, layout: Layout, row: Row, segment: Segment, start_mm: float
) -> Float64:
    """Return the (n, 2) sheet xy of a lead."""
    part = layout.columns(segment)
    gain = segment.mm_per_mv or row.mm_per_mv or layout.mm_per_mv
    lead_mv = segment.sign * signals_mv[LEADS.index(segment.lead), part].astype(np.float64)
    x_mm = start_mm + np.arange(len(lead_mv)) / TRACE_FS_HZ * layout.mm_per_s
    return np.stack([x_mm, row.zero_mm - gain * lead_mv], axis=1)


def _draw_between(canvas: Canvas, style: SheetStyle, row: Row, lines: tuple[Float64, ...]) -> None:
    """Draw the marks between the leads of a row, and its pulse."""
    look, layout = style.look, style.layout
    half = look.bar_height_mm / 2
    for line in lines[1:]:
        x_mm = line[0, 0]
        if style.mark == "bar":
            ends = np.array([-half, half])
        elif style.mark == "tick":
            ends = np.array([-1.5 * half, -half])
        elif style.mark == "dots":
            for k in range(-2, 3):
                dot = row.zero_mm + half * k / 2 + np.array([0.0, 0.3])
                canvas.stroke(np.full(2, x_mm), dot, look.trace_width_mm)
            continue
        else:
            continue
        canvas.stroke(np.full(2, x_mm), row.zero_mm + ends, max(look.bar_width_mm, 0.3))
    if style.pulses:
        gain = row.mm_per_mv or layout.mm_per_mv
        wide_mm = PULSE_S * layout.mm_per_s
        foot_mm = 1.0
        x_mm = np.array([-wide_mm - foot_mm, -wide_mm, -wide_mm, 0, 0])
        if style.pulses == "right":
            x_mm = x_mm + lines[-1][-1, 0] - lines[0][0, 0] + wide_mm + 2 * foot_mm
        y_mm = row.zero_mm - gain * np.array([0.0, 0, 1, 1, 0])
        canvas.stroke(lines[0][0, 0] + x_mm, y_mm, look.trace_width_mm)


def _paper(canvas: Canvas, look: PageStyle) -> Image:
    """Draw the paper: lines at multiples of 1 and 5 mm of the sheet."""
    height_px, width_px = canvas.coverage.shape

    def lines(origin_mm: float, size_px: int, every_mm: float) -> Float64:
        first = np.ceil(origin_mm / every_mm)
        last = np.floor((origin_mm + size_px / look.px_per_mm) / every_mm)
        at_mm = every_mm * np.arange(first, last + 1)
        at_px = (at_mm - origin_mm) * look.px_per_mm - 0.5
        return np.asarray(np.rint(at_px) if look.snapped else at_px)

    return draw_paper(
        (width_px, height_px),
        paper_of(look),
        lines_x_px=(
            lines(canvas.origin_mm[0], width_px, 1.0),
            lines(canvas.origin_mm[0], width_px, SQUARE_MM),
        ),
        lines_y_px=(
            lines(canvas.origin_mm[1], height_px, 1.0),
            lines(canvas.origin_mm[1], height_px, SQUARE_MM),
        ),
    )
