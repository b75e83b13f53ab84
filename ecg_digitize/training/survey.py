"""What a survey asks of a digitizer beside its SNR: which leads it finds, errors, synchrony.

A page that failed counts as twelve leads of zeros, as everywhere in `evaluate`: none of its leads
is found, and none is usable.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ecg_digitize.layout import LEADS
from ecg_digitize.metrics import MAX_LAG_S, ImageScore, align
from ecg_digitize.types import Float32, Float64

GOOD_DB: Final = 10.0
"""A printed lead of less is of no use."""
_HALF: Final = 0.5
_LEAST_INVENTED_S: Final = 0.1
_LEGEND: Final = """\
Survey. A page that failed counts as leads of zeros, not found and unusable.
found     share of the printed leads of which at least half was read
unusable  share of the printed leads that were not found or have less than 10 dB
apart     time between the earliest and the latest usable lead of a page, each against its truth:
          median and 95th percentile over the n pages with two such leads
"""


@dataclass(frozen=True)
class LeadCount:
    """Which leads of a sheet were found.

    Attributes:
        printed: Leads that the truth has.
        found: Those of them of which at least half was read.
        good: Those of them above GOOD_DB.
        missed: Names of the others that the truth has.
        invented: Names of leads that were read and are not printed.
    """

    printed: int
    found: int
    good: int
    missed: tuple[str, ...]
    invented: tuple[str, ...]


@dataclass(frozen=True)
class LeadSurvey:
    """How one printed lead came out.

    Attributes:
        mae_mv: Mean absolute error after the metric's alignment; samples not read count as 0 mV.
        pearson: As in ``LeadScore``.
        is_found: Whether at least half was read.
        is_usable: Whether it was found and has GOOD_DB.
        lag_ms: How late it was read against the truth; None if it is not usable, or flat.
    """

    mae_mv: float
    pearson: float
    is_found: bool
    is_usable: bool
    lag_ms: float | None


@dataclass(frozen=True)
class PageSurvey:
    """How the leads of one page came out.

    Attributes:
        leads: By name, those that the truth has.
        apart_ms: From the earliest to the latest usable lead; None if there are fewer than two.
    """

    leads: Mapping[str, LeadSurvey]
    apart_ms: float | None


@dataclass(frozen=True)
class Survey:
    """Means over the pages of one kind.

    Attributes:
        name: What the pages have in common.
        n_pages: How many.
        mae_mv: By lead, NaN where no page has it.
        pearson: The same.
        mean_mae_mv: Over the printed leads of all pages.
        mean_pearson: The same.
        found: Share of the printed leads that were found.
        unusable: Share of the printed leads that were not found or are below GOOD_DB.
        apart_ms: Median over pages of ``PageSurvey.apart_ms``; NaN if no page has it.
        apart_p95_ms: 95th percentile of the same.
        n_apart: How many pages have it.
    """

    name: str
    n_pages: int
    mae_mv: Mapping[str, float]
    pearson: Mapping[str, float]
    mean_mae_mv: float
    mean_pearson: float
    found: float
    unusable: float
    apart_ms: float
    apart_p95_ms: float
    n_apart: int


def count_leads(
    truth_mv: Float32, read_mv: Float32, score: ImageScore, *, fs_hz: float
) -> LeadCount:
    """Count the leads that were found, missed and invented.

    Args:
        truth_mv: (12, n) mV, NaN where nothing is printed.
        read_mv: (12, n) mV, NaN where nothing was read.
        score: Of the leads.
        fs_hz: Sampling rate of both.
    """
    printed, read = np.isfinite(truth_mv), np.isfinite(read_mv)
    is_printed = printed.any(axis=1)
    is_found = is_printed & ((printed & read).sum(axis=1) >= _HALF * printed.sum(axis=1))
    is_invented = ~is_printed & (read.sum(axis=1) > _LEAST_INVENTED_S * fs_hz)
    found = [lead for lead, is_here in zip(LEADS, is_found, strict=True) if is_here]
    return LeadCount(
        printed=int(is_printed.sum()),
        found=len(found),
        good=sum(score.leads[lead].snr_db >= GOOD_DB for lead in found),
        missed=tuple(np.array(LEADS)[is_printed & ~is_found].tolist()),
        invented=tuple(np.array(LEADS)[is_invented].tolist()),
    )


def survey_page(
    truth_mv: Float32,
    read_mv: Float32,
    score: ImageScore,
    counted: LeadCount | None,
    *,
    fs_hz: float,
) -> PageSurvey:
    """Look at each printed lead of a page.

    Args:
        truth_mv: (12, n) mV, NaN where nothing is printed.
        read_mv: (12, n) mV, NaN where nothing was read; zeros if the page failed.
        score: Of the leads.
        counted: Of the same leads; None if the page failed.
        fs_hz: Sampling rate of both.
    """
    max_lag = int(fs_hz * MAX_LAG_S)
    leads = {}
    for name, of_lead in score.leads.items():
        truth = truth_mv[LEADS.index(name)].astype(np.float64)
        window = np.isfinite(truth)
        read = read_mv[LEADS.index(name)].astype(np.float64)[window]
        truth = truth[window]
        aligned, lag = align(truth, read, max_lag)
        is_found = counted is not None and name not in counted.missed
        is_usable = is_found and of_lead.snr_db >= GOOD_DB
        late = _late_samples(truth, read, -lag, max_lag) if is_usable else None
        leads[name] = LeadSurvey(
            mae_mv=float(np.mean(np.abs(truth - np.nan_to_num(aligned, nan=0.0)))),
            pearson=of_lead.pearson,
            is_found=is_found,
            is_usable=is_usable,
            lag_ms=None if late is None else 1e3 * late / fs_hz,
        )
    lags_ms = [lead.lag_ms for lead in leads.values() if lead.lag_ms is not None]
    return PageSurvey(leads, max(lags_ms) - min(lags_ms) if len(lags_ms) > 1 else None)


def survey_kind(name: str, pages: Sequence[PageSurvey]) -> Survey:
    """Return the means over one page or more."""
    printed = [(lead, one) for page in pages for lead, one in page.leads.items()]
    apart_ms = [page.apart_ms for page in pages if page.apart_ms is not None]
    median_ms, p95_ms = np.percentile(apart_ms, [50, 95]) if apart_ms else (np.nan, np.nan)
    return Survey(
        name=name,
        n_pages=len(pages),
        mae_mv={lead: _mean(one.mae_mv for of, one in printed if of == lead) for lead in LEADS},
        pearson={lead: _mean(one.pearson for of, one in printed if of == lead) for lead in LEADS},
        mean_mae_mv=_mean(one.mae_mv for _, one in printed),
        mean_pearson=_mean(one.pearson for _, one in printed),
        found=_mean(one.is_found for _, one in printed),
        unusable=_mean(not one.is_usable for _, one in printed),
        apart_ms=float(median_ms),
        apart_p95_ms=float(p95_ms),
        n_apart=len(apart_ms),
    )


def to_text(surveys: Sequence[Survey]) -> str:
    """Return the surveys as tables to read, a row a kind."""
    names = "".join(f"{name:>7}" for name in (*LEADS, "all"))
    lines = [_LEGEND]
    for title, digits, rows in (
        ("mean absolute error, mV", 4, [(s.mae_mv, s.mean_mae_mv, s.name) for s in surveys]),
        ("Pearson", 4, [(s.pearson, s.mean_pearson, s.name) for s in surveys]),
    ):
        lines += [title, f"{names}  kind"]
        for by_lead, of_all, name in rows:
            figures = [*by_lead.values(), of_all]
            lines.append("".join(f"{_or_dash(x, digits):>7}" for x in figures) + f"  {name}")
        lines.append("")
    lines += [
        f"{'found':>7} {'unusable':>8} {'apart':>7} {'95th':>7} {'n':>4}  kind",
        f"{'':>7} {'':>8} {'ms':>7} {'ms':>7}",
    ]
    lines += [
        f"{one.found:7.1%} {one.unusable:8.1%} {_or_dash(one.apart_ms, 2):>7} "
        f"{_or_dash(one.apart_p95_ms, 2):>7} {one.n_apart:4d}  {one.name}"
        for one in surveys
    ]
    return "\n".join(lines) + "\n"


def _late_samples(truth: Float64, read: Float64, start: int, reach: int) -> float | None:
    """Return how late a lead was read, to a fraction of a sample; None if it is flat.

    The correlation is that of the overlap alone, so a wandering baseline that the window cuts off
    does not pull it. From the metric's own lag it is followed up to its next maximum; a parabola
    through that and its two neighbours gives the fraction.

    Args:
        truth: (n,) mV, finite.
        read: (n,) mV, NaN where nothing was read.
        start: Whole samples that the metric takes it to be late.
        reach: Farthest shift, samples.
    """
    seen: dict[int, float] = {}

    def correlation(late: int) -> float:
        if late not in seen:
            n = truth.size
            y = truth[max(-late, 0) : n - max(late, 0)]
            p = read[max(late, 0) : n + min(late, 0)]
            known = np.isfinite(p)
            seen[late] = float("nan")  # of what is flat
            if known.sum() > 1:
                with np.errstate(invalid="ignore"):
                    seen[late] = float(np.corrcoef(y[known], p[known])[0, 1])
        return seen[late]

    late = start
    if not np.isfinite(correlation(late)):
        return None
    for _ in range(reach):
        best = max((late, late - 1, late + 1), key=correlation)
        if best == late:
            break
        late = best
    below, at, above = (correlation(late + step) for step in (-1, 0, 1))
    bend = below - 2 * at + above
    return late + (0.5 * (below - above) / bend if bend < 0 else 0.0)


def _mean(values: Iterable[float]) -> float:
    taken = list(values)
    return float(np.mean(taken)) if taken else float("nan")


def _or_dash(value: float, digits: int) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"
