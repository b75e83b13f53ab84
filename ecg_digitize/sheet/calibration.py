"""Speed and gain of a sheet: what its calibration pulses tell, row by row.

Some machines print the chest leads at half the gain of the limb leads, so that each row's pulse
tells the row's gain. The speed is one for all rows.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from ecg_digitize.layout import PULSE_S, Layout
from ecg_digitize.sheet.find import FoundSheet
from ecg_digitize.sheet.read import in_time
from ecg_digitize.stage1.pulses import GAINS_MM_PER_MV, SPEEDS_MM_PER_S

AGREE: Final = 0.15
"""Share by which a pulse may be off what machines print."""
USUAL_MM_PER_S: Final = 25.0
USUAL_MM_PER_MV: Final = 10.0


def calibrated_layout(
    found: FoundSheet, *, mm_per_s: float | None, mm_per_mv: float | None
) -> tuple[Layout, bool]:
    """Return a sheet's layout at its speed and gain, and whether somebody or something told them.

    Args:
        found: The sheet and its pulses.
        mm_per_s: Paper speed, whatever the pulses say; None asks them.
        mm_per_mv: Gain, likewise.
    """
    pulses = found.pulses
    at_least = min(2, found.sheet.n_rows)
    speeds = [_nearest(SPEEDS_MM_PER_S, pulse.width_mm / PULSE_S) for pulse in pulses]
    gains = {pulse.row: _nearest(GAINS_MM_PER_MV, pulse.height_mm) for pulse in pulses}
    speed, n_speed = _most([one for one in speeds if one is not None])
    gain, n_gain = _most([one for one in gains.values() if one is not None])
    tells = min(n_speed, n_gain) >= at_least and 2 * n_speed > len(pulses)
    layout = in_time(
        found.sheet,
        mm_per_s=mm_per_s or (speed if tells else USUAL_MM_PER_S),
        mm_per_mv=mm_per_mv or (gain if tells else USUAL_MM_PER_MV),
    )
    if tells and mm_per_mv is None:
        of_rows = [gains.get(row) or gain for row in range(layout.n_rows)]
        seldom = [one for one in set(of_rows) if of_rows.count(one) < at_least]
        of_rows = [gain if one in seldom else one for one in of_rows]
        rows = tuple(
            replace(row, mm_per_mv=None if one == gain else one)
            for row, one in zip(layout.rows, of_rows, strict=True)
        )
        layout = replace(layout, rows=rows)
    return layout, tells or None not in (mm_per_s, mm_per_mv)


def _nearest(values: tuple[float, ...], value: float) -> float | None:
    """Return the nearest of some values, None if it is not near."""
    nearest = min(values, key=lambda one: abs(np.log(value / one)))
    return nearest if abs(np.log(value / nearest)) < AGREE else None


def _most(values: list[float]) -> tuple[float, int]:
    """Return the commonest value, the smallest of equals, and how common it is."""
    if not values:
        return 0.0, 0
    best = max(sorted(set(values)), key=values.count)
    return best, values.count(best)
