"""Synthetic pages: one sample is a pure function of (source, seed, index, kind)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from ecg_digitize.errors import InputError
from ecg_digitize.frames import crossings_mm
from ecg_digitize.stage1.rows import elsewhere
from ecg_digitize.synth import capture, degrade, monitor, wear
from ecg_digitize.synth.chance import Chance
from ecg_digitize.synth.page import (
    CleanPage,
    PageStyle,
    default_style,
    draw_page,
    laser_print,
    other_machine,
    random_style,
)
from ecg_digitize.synth.signals import SignalSource, augment, to_twelve
from ecg_digitize.synth.warp import SheetWarp
from ecg_digitize.types import Float32, Float64, GridMap, Image, Mask


@dataclass(frozen=True)
class Kind:
    """How one kind of picture comes about."""

    share: float  # of the pages, where no kind is asked for
    competition_type: str  # as in the names of Kaggle's files
    capture: Callable[[CleanPage, Chance, float], tuple[Image, SheetWarp]]
    wear: tuple[Callable[[CleanPage, Chance], CleanPage], ...] = ()  # what befell the sheet before
    margin_mm: float = 0.0  # white round the printed area; 0: never printed
    turns: bool = False  # may lie on its side or upside down


_scan_bw = partial(capture.scan, black_and_white=True)
_FILED = (wear.punch, wear.fold_away)
_photo_wet = partial(capture.photo, ripple_mm=3.5)

KINDS: Final = {
    "render": Kind(0.15, "0001", capture.plot),
    "scan": Kind(0.10, "0003", capture.scan, wear=_FILED, margin_mm=6.0),
    "scan_bw": Kind(0.14, "0004", _scan_bw, wear=_FILED, margin_mm=6.0),
    "photo": Kind(0.12, "0005", capture.photo, wear=(wear.fold_away,), margin_mm=9.0, turns=True),
    "screen": Kind(0.11, "0006", monitor.screen, turns=True),
    "stained": Kind(
        0.11,
        "0009",
        _photo_wet,
        wear=(wear.fold_away, wear.soak, wear.stains),
        margin_mm=9.0,
        turns=True,
    ),
    "damaged": Kind(
        0.10,
        "0010",
        _photo_wet,
        wear=(wear.soak, wear.mould, wear.fold, wear.tear),
        margin_mm=9.0,
        turns=True,
    ),
    "mould": Kind(0.07, "0011", capture.scan, wear=(wear.mould, wear.punch), margin_mm=6.0),
    "mould_bw": Kind(0.10, "0012", _scan_bw, wear=(wear.mould, wear.punch), margin_mm=6.0),
}
"""The competition's nine types by name."""


OTHER_MACHINES: Final = 0.2
"""Share of other machines' sheets in training, see ``other_machine``."""
LASER_PRINTS: Final = 0.6
"""Share of laser prints among the prints in training, see ``make_page``."""


@dataclass(frozen=True)
class SyntheticPage:
    """A picture with everything there is to know about it."""

    image: Image  # (H, W, 3) uint8 RGB, page frame
    kind: str  # one of KINDS
    signals_mv: Float32  # (12, 5000) float32 mV, whole leads at 500 Hz in LEADS order
    rows_mm: Float32  # (4, 5000) sheet y of the traces at the 500 Hz samples, mm
    crossings_xy_px: Float32  # (44, 57, 2) page px of the even lattice, may lie outside
    printed_xy_px: Float32  # (44, 57, 2) page px of the crossings as drawn, lines on whole pixels
    names_xy_px: Float32  # (13, 2) page px, NaN where names are not printed
    quarter_turns: int  # counter-clockwise quarter turns that set the page upright
    style: PageStyle

    @property
    def grid(self) -> GridMap:
        """What stage 1 should find."""
        confidence = np.ones(self.crossings_xy_px.shape[:2], np.float32)
        rows_mm = elsewhere(np.array(self.style.layout.zero_mm))
        return GridMap(self.crossings_xy_px, confidence, 0.0, rows_mm=rows_mm)


def make_page(
    source: SignalSource, *, seed: int, index: int, kind: str | None = None,
    vary_signals: bool = True, turns: bool = True, max_megapixels: float = 5.0,
    other_machines: float = 0.0, laser_prints: float = 0.0, severity: float = 1.0,
) -> SyntheticPage:  # fmt: skip
    """Make one page.

    Args:
        source: Where the signals come from.
        seed: Family of samples.
        index: Which of them.
        kind: One of KINDS; None draws one by their shares.
        vary_signals: Augment the record; False prints it as it is.
        turns: Let photos lie on their side or upside down.
        max_megapixels: Size limit of photos; cameras have 12, training does with fewer.
        other_machines: Share of the sheets that are laid out otherwise than the competition's.
        laser_prints: Share of the prints that a laser printer makes and, where they are photos, a
            phone develops, see ``printing.py``; of the others the ink only spreads.
        severity: 0 as mild as the kind gets, 1 as usual, 2 at worst. The page printed is the same.

    Returns:
        The picture and its labels.

    Raises:
        InputError: If the kind is unknown or the severity out of range.
    """
    rng = np.random.default_rng([seed, index])
    chance = Chance(rng, np.random.default_rng([seed, index, 1]), severity)
    drawn = str(rng.choice(list(KINDS), p=[one.share for one in KINDS.values()]))
    kind = drawn if kind is None else kind
    if kind not in KINDS:
        raise InputError(f'unknown kind of page "{kind}"; known are {", ".join(KINDS)}')
    leads = source.get(int(rng.integers(len(source))))
    if vary_signals:
        leads = augment(leads, rng)
    signals_mv = to_twelve(leads)

    how = KINDS[kind]
    # Monitors too show the page that was printed, with its code.
    style = random_style(rng, print_like=kind != "render")
    if kind == "render" and rng.random() < 0.3:
        style = replace(default_style(), pulses=style.pulses, left_mm=style.left_mm)
    if kind != "render":
        style = replace(style, px_per_mm=float(rng.choice([7.874, 7.874, 9.0, 11.811])))
    elif rng.random() < 0.25:
        style = replace(style, px_per_mm=float(rng.uniform(5.5, 11.8)))
    if other_machines and rng.random() < other_machines:
        style = other_machine(style, rng)
    if laser_prints and how.margin_mm:
        printer = chance.split().rng
        style = laser_print(style, printer) if printer.random() < laser_prints else style
    clean = draw_page(signals_mv, style, rng)
    if rng.random() < 0.2:
        clean = replace(clean, image=degrade.scribble(clean.image, rng, px_per_mm=clean.px_per_mm))

    if how.margin_mm:
        clean = capture.on_paper(clean, chance, margin_mm=how.margin_mm)
    for befall in how.wear:
        clean = befall(clean, chance)
    image, warp = how.capture(clean, chance, max_megapixels)
    crossings = warp.page_from_sheet(crossings_mm())
    printed = warp.page_from_sheet(clean.printed_mm)
    names = warp.page_from_sheet(clean.names_mm)
    names[_torn_off(clean) if style.names else slice(None)] = np.nan

    quarter_turns = 0
    if turns and how.turns and rng.random() < 0.3:
        quarter_turns = int(rng.integers(1, 4))
        image, points = turn(image, [crossings, printed, names], quarter_turns)
        crossings, printed, names = points
    return SyntheticPage(
        image=np.ascontiguousarray(image),
        kind=kind,
        signals_mv=signals_mv,
        rows_mm=clean.rows_mm,
        crossings_xy_px=crossings.astype(np.float32),
        printed_xy_px=printed.astype(np.float32),
        names_xy_px=names.astype(np.float32),
        quarter_turns=quarter_turns,
        style=style,
    )


def _torn_off(clean: CleanPage) -> Mask:
    """Return (13,) bool: which names begin where paper is missing."""
    if clean.gone is None:
        return np.zeros(len(clean.names_mm), np.bool_)
    xy_px = np.rint((clean.names_mm - np.array(clean.origin_mm)) * clean.px_per_mm).astype(int)
    return np.asarray(clean.gone[xy_px[:, 1], xy_px[:, 0]], np.bool_)


def turn(image: Image, points: list[Float64], upright_turns: int) -> tuple[Image, list[Float64]]:
    """Turn a picture clockwise so that `upright_turns` counter-clockwise turns undo it."""
    for _ in range(upright_turns):
        height = image.shape[0]
        image = np.rot90(image, -1)
        points = [np.stack([height - 1 - p[..., 1], p[..., 0]], -1) for p in points]
    return image, points
