"""What `evaluate` found, as tables to read."""

import math
from collections.abc import Sequence
from typing import Final

from ecg_digitize.training.results import ImageResult, Summary

_CAPPED: Final = f"{'capped':>7}"
_INTERVAL: Final = f"{'low':>6} {'high':>5}"
_OTHERS: Final = f"{'SNR':>7} {'pearson':>8} {'rmse':>7} {'time':>7}"
_UNITS: Final = f"{'dB':>7} {'dB':>7} {'':>8} {'mV':>7} {'s':>7}"
_LEADS: Final = f"{'check':>5} {'rej':>3} {'acc.':>6} {'good':>5} {'miss':>4} {'not':>3}"


def pages_to_text(results: Sequence[ImageResult]) -> list[str]:
    """Return the lines of the table of pages."""
    names = [result.name for result in results]
    width = max(len(name) for name in [*names, "image"])
    lines = [f"{'image':<{width}} {_CAPPED} {_OTHERS}", f"{'':<{width}} {_UNITS}"]
    for name, result in zip(names, results, strict=True):
        score = result.score
        others = _others(score.snr_db, score.pearson, score.rmse_mv, result.seconds)
        lines.append(f"{name:<{width}} {score.snr_capped_db:7.2f} {others}  {_read_as(result)}")
    return lines


def means_to_text(title: str, summaries: Sequence[Summary]) -> list[str]:
    """Return the lines of a table of means; low and high bound the mean of the capped dB."""
    head = f"{_CAPPED} {_INTERVAL} {_OTHERS} {'score':>7} {_LEADS}   n  {title}"
    return [head, *map(_summary_row, summaries)]


def _summary_row(summary: Summary) -> str:
    others = _others(summary.snr_db, summary.pearson, summary.rmse_mv, summary.seconds)
    failed = f" ({summary.n_failed} failed)" if summary.n_failed else ""
    low, high = (
        "-" if math.isnan(bound_db) else f"{bound_db:.2f}"
        for bound_db in (summary.low_db, summary.high_db)
    )
    leads = (
        f"{summary.n_checked:5d} {summary.n_rejected:3d} {summary.accepted_db:6.2f} "
        f"{summary.leads_good:5.0%} {summary.n_missed:4d} "
        f"{summary.n_invented:3d}"
    )
    return (
        f"{summary.snr_capped_db:7.2f} {low:>6} {high:>5} {others} {summary.score_db:7.2f} {leads} "
        f"{summary.n_images:3d}  {summary.name}{failed}"
    )


def _others(snr_db: float, pearson: float, rmse_mv: float, seconds: float) -> str:
    return f"{snr_db:7.2f} {pearson:8.4f} {rmse_mv:7.4f} {seconds:7.2f}"


def _read_as(result: ImageResult) -> str:
    if result.leads is None:
        return "FAILED"
    told = f"{result.layout} {result.verdict}"
    for what, leads in (("missed", result.leads.missed), ("invented", result.leads.invented)):
        told += f", {what} {' '.join(leads)}" if leads else ""
    return told
