"""How the score falls as pages look worse: the same records and pages at several severities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecg_digitize.errors import InputError
from ecg_digitize.extras import load
from ecg_digitize.failures import attempt
from ecg_digitize.files import replacing
from ecg_digitize.metrics import CAP_RATIO
from ecg_digitize.synth.dataset import KINDS
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training import bootstrap
from ecg_digitize.training.validate import VALIDATION_SEED, page_score, pages_of_each_kind
from ecg_digitize.types import Failure, Float64, Page, Recording

SEVERITIES: Final = (0.0, 0.5, 1.0, 1.5, 2.0)
"""From as mild as a kind of page gets over usual to the worst."""
_ALL: Final = "all"
_APART: Final = 0.02  # of points of different kinds at one severity, so that none hides another
_CAP_DB: Final = 10 * float(np.log10(CAP_RATIO))


@dataclass(frozen=True)
class Point:
    """What the pages of one kind give at one severity; a failed page counts as zeros.

    Attributes:
        severity: 0 mild, 1 usual, 2 worst.
        capped_db: Mean of the capped SNR.
        low_db: Of its 95 % interval, see ``bootstrap.mean_interval``; NaN of one page.
        high_db: The same.
        n_failed: Pages that could not be read.
    """

    severity: float
    capped_db: float
    low_db: float
    high_db: float
    n_failed: int


@dataclass(frozen=True)
class SeverityCurves:
    """A curve a kind, and that of all kinds if there are several."""

    n_pages: int  # of each kind, at each severity
    curves: Mapping[str, tuple[Point, ...]]

    def to_text(self) -> str:
        """Return the table to read: mean capped dB and its interval, a column a severity."""
        width = max(map(len, (*self.curves, "capped dB")))
        first = next(iter(self.curves.values()))
        lines = [f"{'capped dB':<{width}}" + "".join(f"{p.severity:>20g}" for p in first)]
        for kind, points in self.curves.items():
            lines.append(f"{kind:<{width}}" + "".join(f"{_told(point):>20}" for point in points))
        for kind, points in self.curves.items():
            lines += [
                f"{kind} at {point.severity:g}: {point.n_failed} of {self.n_pages} pages failed"
                for point in points
                if point.n_failed and kind != _ALL
            ]
        return "\n".join(lines) + "\n"

    def draw(self, picture: Path) -> None:
        """Draw the curves as a PNG.

        Raises:
            InputError: The package matplotlib is not installed.
        """
        figure = new_figure()
        axes = figure.subplots()
        last = len(self.curves) - 1
        for k, (kind, points) in enumerate(self.curves.items()):
            mean_db = np.array([point.capped_db for point in points])
            bounds_db = np.array([(point.low_db, point.high_db) for point in points]).T
            reach_db = np.nan_to_num(np.abs(bounds_db - mean_db))  # one page has no interval
            axes.errorbar(
                [point.severity + _APART * (k - last / 2) for point in points],
                mean_db,
                yerr=reach_db,
                label=kind,
                color="black" if kind == _ALL else None,
                linewidth=2.2 if kind == _ALL else 1.4,
                marker="o",
                markersize=4,
                capsize=3,
            )
        axes.axhline(_CAP_DB, color="grey", linewidth=1, linestyle="--")
        axes.annotate(
            "most that a page can score",
            (1, _CAP_DB),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            color="grey",
            fontsize=8,
            horizontalalignment="right",
            verticalalignment="bottom",
        )
        axes.set_xticks([point.severity for point in next(iter(self.curves.values()))])
        axes.set_xlabel("artefact severity (0 mild, 1 usual, 2 worst)")
        axes.set_ylabel("capped SNR, dB")
        axes.set_title(
            f"Mean of {self.n_pages} pages a kind, with its 95 % bootstrap interval", fontsize=10
        )
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        with replacing(picture) as partial:
            figure.savefig(partial, format="png", dpi=150)


def new_figure() -> Any:
    """Return an empty figure of matplotlib.

    Raises:
        InputError: The package matplotlib is not installed.
    """
    figure = load("matplotlib.figure", extra="plot")
    return figure.Figure(figsize=(7.5, 4.5), layout="constrained", facecolor="white")


def compare_severity(
    source: SignalSource,
    digitize: Callable[[Page], Recording],
    *,
    pages: int,
    kinds: Sequence[str] = tuple(KINDS),
    severities: Sequence[float] = SEVERITIES,
    seed: int = VALIDATION_SEED,
    progress: Callable[[], None] | None = None,
) -> SeverityCurves:
    """Digitize the same pages at several severities.

    Args:
        source: Validation signals.
        digitize: Reads a page at 500 Hz. What it raises is the page's failure.
        pages: Of each kind, at each severity; all show the same records.
        kinds: Those wanted.
        severities: In the order of the curves.
        seed: Family of pages.
        progress: Called after each page.

    Raises:
        InputError: A kind is unknown, or a severity is out of range.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise InputError(f"no kind of page {unknown[0]!r}; there are {', '.join(KINDS)}")
    kinds = tuple(dict.fromkeys(kinds))
    shape = len(severities), pages
    capped_db = {kind: np.zeros(shape) for kind in kinds}
    failed = {kind: np.zeros(shape, np.bool_) for kind in kinds}
    for row, severity in enumerate(severities):
        made = pages_of_each_kind(source, pages=pages, kinds=kinds, seed=seed, severity=severity)
        for index, page in made:
            picture = Page(page.image, f"page {index} {page.kind} at severity {severity:g}")
            read = attempt(partial(digitize, picture), picture.source)
            if isinstance(read, Failure):
                failed[page.kind][row, index] = True
                signals_mv = np.zeros_like(page.signals_mv)
            else:
                signals_mv = read.signals_mv
            capped_db[page.kind][row, index] = page_score(page, signals_mv).snr_capped_db
            if progress is not None:
                progress()
    if len(kinds) > 1:
        # All kinds show the same records, so it is these that the interval of all is drawn from.
        capped_db[_ALL] = np.mean([capped_db[kind] for kind in kinds], axis=0)
        failed[_ALL] = np.any([failed[kind] for kind in kinds], axis=0)
    return SeverityCurves(
        pages,
        {
            kind: _points(severities, capped_db[kind], failed[kind].sum(axis=1))
            for kind in capped_db
        },
    )


def _points(
    severities: Sequence[float], capped_db: Float64, n_failed: Sequence[int]
) -> tuple[Point, ...]:
    rng = np.random.default_rng(bootstrap.SEED)
    return tuple(
        Point(severity, float(np.mean(of_pages)), *bootstrap.mean_interval(of_pages, rng), int(n))
        for severity, of_pages, n in zip(severities, capped_db, n_failed, strict=True)
    )


def _told(point: Point) -> str:
    if np.isnan(point.low_db):
        return f"{point.capped_db:.2f}"
    return f"{point.capped_db:.2f} {point.low_db:.2f}-{point.high_db:.2f}"
