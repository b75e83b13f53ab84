"""How far figures measured on what was read agree with those measured on the true signals."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ecg_digitize.layout import LEADS
from ecg_digitize.measures import FIGURES, NOTE, Measures

ST: Final = "st_mv"
_LIMIT_SD: Final = 1.96


@dataclass(frozen=True)
class MeasuredPair:
    """The figures of one page."""

    truth: Measures
    read: Measures  # empty if the page failed


@dataclass(frozen=True)
class Agreement:
    """How one figure agrees (Bland and Altman, Lancet 327:307, 1986): read minus truth.

    Attributes:
        figure: Its name, with its unit. ST counts each lead by itself.
        n: How many were measured on both.
        bias: Mean difference; None if n is 0.
        low: Lower limit of agreement, bias - 1.96 SD; None if n is below 2.
        high: Upper limit of agreement, bias + 1.96 SD; None if n is below 2.
        n_truth_only: How many were measured on the truth, but not on what was read,
        n_read_only: and the reverse.
    """

    figure: str
    n: int
    bias: float | None
    low: float | None
    high: float | None
    n_truth_only: int
    n_read_only: int


def agreements(pairs: Iterable[MeasuredPair]) -> tuple[Agreement, ...]:
    """Return the agreement of each figure, ST last."""
    pairs = list(pairs)
    of_figures = [
        agreement(name, [(getattr(p.truth, name), getattr(p.read, name)) for p in pairs])
        for name in FIGURES
    ]
    st = [(p.truth.st_mv.get(lead), p.read.st_mv.get(lead)) for p in pairs for lead in LEADS]
    return (*of_figures, agreement(ST, st))


def agreement(figure: str, values: Sequence[tuple[float | None, float | None]]) -> Agreement:
    """Return how a figure agrees.

    Args:
        figure: Its name; differences of ``axis_deg`` are taken the shorter way round.
        values: Truth and read of each page, None where it was not measured.
    """
    both = [(truth, read) for truth, read in values if truth is not None and read is not None]
    apart = np.array([read - truth for truth, read in both])
    if figure == "axis_deg":
        apart = (apart + 180) % 360 - 180
    bias = float(apart.mean()) if len(apart) else None
    sd = float(apart.std(ddof=1)) if len(apart) > 1 else None
    return Agreement(
        figure=figure,
        n=len(both),
        bias=bias,
        low=None if bias is None or sd is None else bias - _LIMIT_SD * sd,
        high=None if bias is None or sd is None else bias + _LIMIT_SD * sd,
        n_truth_only=sum(truth is not None and read is None for truth, read in values),
        n_read_only=sum(truth is None and read is not None for truth, read in values),
    )


def to_text(rows: Iterable[Agreement]) -> str:
    """Return the agreements as a table to read, one line a figure."""
    lines = [
        f"measures, read minus truth ({NOTE})",
        f"{'figure':<18} {'bias':>8} {'low':>8} {'high':>8} {'n':>4} {'truth only':>10} "
        f"{'read only':>9}",
    ]
    for row in rows:
        digits = 3 if row.figure == ST else 1
        told = (
            f"{'-' if value is None else format(value, f'.{digits}f'):>8}"
            for value in (row.bias, row.low, row.high)
        )
        lines.append(
            f"{row.figure:<18} {' '.join(told)} {row.n:4d} {row.n_truth_only:10d} "
            f"{row.n_read_only:9d}"
        )
    return "\n".join(lines) + "\n"
