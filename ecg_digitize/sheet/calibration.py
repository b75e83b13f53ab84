"""Speed and gain of a sheet: what its text and its calibration pulses tell.

Text is believed before pulses: it says both in figures. Some machines print the chest leads at
another gain than the limb leads; text says so, and where each row has a pulse, the pulses do.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ecg_digitize.doubts import text_doubts
from ecg_digitize.layout import COMPETITION, LEADS, PULSE_S, Layout, Row
from ecg_digitize.sheet.find import FoundSheet
from ecg_digitize.sheet.read import in_time
from ecg_digitize.sheet.text import Told
from ecg_digitize.stage1.pulses import GAINS_MM_PER_MV, SPEEDS_MM_PER_S

AGREE: Final = 0.15
"""Share by which each of several pulses may be off what machines print."""
ALONE_AGREE: Final = 0.06
"""Share by which a lone pulse may be off it."""
_LIMB: Final = frozenset(LEADS[:6])


@dataclass(frozen=True)
class Calibration:
    """A sheet's layout at its speed and gain, and what speaks against these."""

    layout: Layout
    doubts: tuple[str, ...]
    is_told: bool  # whether anything told both


def calibrated_layout(
    found: FoundSheet, *, mm_per_s: float | None, mm_per_mv: float | None
) -> Calibration:
    """Return a sheet's layout at its speed and gain.

    Args:
        found: The sheet, its pulses and what its text tells.
        mm_per_s: Paper speed, whatever the sheet tells; None asks it.
        mm_per_mv: Gain, likewise.
    """
    told = found.told
    by_pulse_s, by_pulse_mv, of_rows_mv = _by_pulses(found)
    speed = mm_per_s or told.mm_per_s or by_pulse_s
    gain = mm_per_mv or told.mm_per_mv or told.limb_mm_per_mv or by_pulse_mv
    layout = in_time(
        found.sheet,
        mm_per_s=speed or COMPETITION.mm_per_s,
        mm_per_mv=gain or COMPETITION.mm_per_mv,
    )
    if mm_per_mv is None:
        if told.chest_mm_per_mv or told.limb_mm_per_mv:
            layout = _of_groups(layout, told)
        elif told.mm_per_mv in (None, by_pulse_mv):  # else the pulses are not believed
            rows = zip(layout.rows, of_rows_mv, strict=True)
            layout = replace(layout, rows=tuple(replace(row, mm_per_mv=one) for row, one in rows))
    doubts = _doubts(layout, speed, gain, told, by_pulse=(by_pulse_s, by_pulse_mv))
    return Calibration(layout, tuple(doubts), None not in (speed, gain))


def told_in_text(layout: Layout, told: Told) -> Layout | None:
    """Return a layout at the speed and gain that its text tells; None if it tells one or none."""
    if told.mm_per_s is None or told.mm_per_mv is None:
        return None
    return layout.calibrated(mm_per_s=told.mm_per_s, mm_per_mv=told.mm_per_mv)


def _doubts(
    layout: Layout,
    speed: float | None,
    gain: float | None,
    told: Told,
    *,
    by_pulse: tuple[float | None, float | None],
) -> Iterable[str]:
    taken = f"{layout.mm_per_s:g} mm/s and {layout.mm_per_mv:g} mm/mV"
    if speed is None or gain is None:
        what = " nor ".join(["the speed"] * (speed is None) + ["the gain"] * (gain is None))
        yield f"neither text nor pulses tell {what}, and it is taken for {taken}"
    if None not in by_pulse and by_pulse != (layout.mm_per_s, layout.mm_per_mv):
        yield f"it is taken for {taken}, but its pulses tell {by_pulse[0]:g} and {by_pulse[1]:g}"
    yield from text_doubts(told, layout)


def _of_groups(layout: Layout, told: Told) -> Layout:
    """Give limb and chest leads the gains that text tells of them."""

    def gain_of(lead: str) -> float:
        own = told.limb_mm_per_mv if lead in _LIMB else told.chest_mm_per_mv
        return own or layout.mm_per_mv

    def with_gains(row: Row) -> Row:
        segments = (replace(one, mm_per_mv=gain_of(one.lead)) for one in row.segments)
        return replace(row, segments=tuple(segments))

    return replace(layout, rows=tuple(with_gains(row) for row in layout.rows))


def _by_pulses(found: FoundSheet) -> tuple[float | None, float | None, list[float | None]]:
    """Return the speed and the gain that pulses tell, and the gains of rows that have their own."""
    pulses, n_rows = found.pulses, found.sheet.n_rows
    agree = AGREE if len(pulses) > 1 else ALONE_AGREE
    at_least = min(2, len(pulses))
    speeds = [_nearest(SPEEDS_MM_PER_S, one.width_mm / PULSE_S, agree) for one in pulses]
    gains = {one.row: _nearest(GAINS_MM_PER_MV, one.height_mm, agree) for one in pulses}
    speed, n_speed = _most([one for one in speeds if one is not None])
    gain, n_gain = _most([one for one in gains.values() if one is not None])
    nothing: list[float | None] = [None] * n_rows
    if not pulses or min(n_speed, n_gain) < at_least or 2 * n_speed <= len(pulses):
        return None, None, nothing
    of_rows = [gains.get(row) or gain for row in range(n_rows)]
    often = [one for one in of_rows if of_rows.count(one) >= min(2, n_rows)]
    return speed, gain, [one if one != gain and one in often else None for one in of_rows]


def _nearest(values: tuple[float, ...], value: float, agree: float) -> float | None:
    """Return the nearest of some values, None if it is not near."""
    nearest = min(values, key=lambda one: abs(np.log(value / one)))
    return nearest if abs(np.log(value / nearest)) < agree else None


def _most(values: list[float]) -> tuple[float, int]:
    """Return the commonest value, the smallest of equals, and how common it is."""
    if not values:
        return 0.0, 0
    best = max(sorted(set(values)), key=values.count)
    return best, values.count(best)
