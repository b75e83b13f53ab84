"""How good decisions are on records that nothing was learned from, and how many of them flip."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from scipy.stats import rankdata

from ecg_digitize.diagnoses.classes import CLASSES
from ecg_digitize.diagnoses.thresholds import ScoredRecords, f_measure
from ecg_digitize.training.bootstrap import COVERED_PERCENT
from ecg_digitize.types import Float64, Mask

BOOTSTRAPS: Final = 1000
_SEED: Final = 5


class Estimate(NamedTuple):
    """A figure and the interval in which it lies for 95 % of the records drawn anew."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassJudged:
    """How well one class is told."""

    name: str
    n: int  # records that have it
    auroc: Estimate  # NaN where no record has it, or all have
    f: float
    threshold: float


@dataclass(frozen=True)
class Judged:
    """How good decisions are."""

    n: int  # records
    classes: tuple[ClassJudged, ...]
    macro_f: Estimate

    @property
    def macro_auroc(self) -> float:
        """Mean over the classes that have one."""
        return float(np.nanmean([one.auroc.value for one in self.classes]))

    def to_text(self) -> str:
        """Return the table to read, one line a class."""
        lines = [f"{'class':<10} {'n':>5} {'F':>6} {'AUROC':>6}  {'95 %':<14} {'threshold':>9}"]
        for one in self.classes:
            value, low, high = one.auroc
            lines.append(
                f"{one.name:<10} {one.n:5d} {one.f:6.3f} {value:6.3f}  "
                f"{f'{low:.3f} to {high:.3f}':<14} {one.threshold:9.2f}"
            )
        value, low, high = self.macro_f
        lines.append(
            f"{'macro':<10} {self.n:5d} {value:6.3f} {self.macro_auroc:6.3f}  "
            f"F {low:.3f} to {high:.3f}"
        )
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class DecidedPage:
    """The decisions on a page, once by its true signals and once by those that were read."""

    kind: str
    truth: Mask  # (classes,)
    read: Mask | None  # None: the page could not be read


@dataclass(frozen=True)
class Flips:
    """Decisions that are another when a page is digitized."""

    kind: str
    n_pages: int
    n_failed: int  # pages that could not be read: no decision is made
    n_decisions: int  # on those that were read, one a class
    n_for: int  # of these, those for a class on the true signals
    lost: int  # decided for on the true signals alone
    gained: int  # decided for on those that were read alone

    @property
    def share(self) -> float:
        """Of the decisions, those that flip; NaN if there are none."""
        return (self.lost + self.gained) / self.n_decisions if self.n_decisions else float("nan")


def judge(
    seen: ScoredRecords, thresholds: Sequence[float], *, names: Sequence[str] = CLASSES
) -> Judged:
    """Judge decisions.

    Args:
        seen: What a network says of records that nothing was learned from.
        thresholds: One a class.
        names: Of the classes.
    """
    rng = np.random.default_rng(_SEED)
    n = len(seen.targets)
    draws = [rng.integers(n, size=n) for _ in range(BOOTSTRAPS)]
    decided = (seen.probabilities >= np.array(thresholds)).astype(np.float64)
    targets = seen.targets.astype(np.float64)
    f, area = f_measure(decided, targets), aurocs(seen.probabilities, targets)
    f_again = np.array([f_measure(decided[draw], targets[draw]).mean() for draw in draws])
    area_again = np.array([aurocs(seen.probabilities[draw], targets[draw]) for draw in draws])
    judged = [
        ClassJudged(
            name,
            int(targets[:, k].sum()),
            _estimate(float(area[k]), area_again[:, k]),
            float(f[k]),
            float(thresholds[k]),
        )
        for k, name in enumerate(names)
    ]
    return Judged(n, tuple(judged), _estimate(float(f.mean()), f_again))


def aurocs(probabilities: Float64, targets: Float64) -> Float64:
    """Return the areas under the ROC curves of classes, by ranks; NaN where one side is missing.

    Args:
        probabilities: (records, classes).
        targets: (records, classes) 0 or 1.
    """
    n_there = targets.sum(axis=0)
    pairs = n_there * (len(targets) - n_there)
    above = (rankdata(probabilities, axis=0) * targets).sum(axis=0) - n_there * (n_there + 1) / 2
    none = np.full(len(pairs), np.nan)
    return np.asarray(np.divide(above, pairs, out=none, where=pairs > 0))


def flips_of(pages: Iterable[DecidedPage]) -> tuple[Flips, ...]:
    """Count the decisions that flip, by kind of page in the order of their first, and over all."""
    kinds: dict[str, list[DecidedPage]] = {}
    pages = list(pages)
    for page in pages:
        kinds.setdefault(page.kind, []).append(page)
    return (*(_count(kind, members) for kind, members in kinds.items()), _count("all", pages))


def flips_to_text(rows: Iterable[Flips]) -> str:
    """Return the table of flips to read, one line a kind of page."""
    lines = [
        f"{'kind of page':<16} {'pages':>5} {'failed':>6} {'decisions':>9} {'for':>4} {'lost':>5} "
        f"{'gained':>6} {'flips':>6}"
    ]
    lines += [
        f"{row.kind:<16} {row.n_pages:5d} {row.n_failed:6d} {row.n_decisions:9d} {row.n_for:4d} "
        f"{row.lost:5d} {row.gained:6d} {row.share:6.1%}"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _count(kind: str, pages: Sequence[DecidedPage]) -> Flips:
    both = [(page.truth, page.read) for page in pages if page.read is not None]
    return Flips(
        kind=kind,
        n_pages=len(pages),
        n_failed=len(pages) - len(both),
        n_decisions=sum(len(truth) for truth, _ in both),
        n_for=sum(int(truth.sum()) for truth, _ in both),
        lost=sum(int((truth & ~read).sum()) for truth, read in both),
        gained=sum(int((~truth & read).sum()) for truth, read in both),
    )


def _estimate(value: float, again: Float64) -> Estimate:
    finite = again[np.isfinite(again)]
    if not len(finite):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.percentile(finite, COVERED_PERCENT)
    return Estimate(value, float(low), float(high))
