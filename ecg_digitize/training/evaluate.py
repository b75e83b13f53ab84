"""Score a digitizer on pictures whose true signals are known."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecg_digitize.layout import LEADS
from ecg_digitize.measures import Measures, measure
from ecg_digitize.metrics import (
    CAP_RATIO,
    ImageScore,
    competition_score,
    image_snr,
    of_length,
)
from ecg_digitize.training import agreement, explain_table
from ecg_digitize.training.agreement import Agreement, MeasuredPair
from ecg_digitize.training.explain import Explanation, mean
from ecg_digitize.training.explain import explain as explain_page
from ecg_digitize.training.pairs import Pair, read_pairs, truths_of
from ecg_digitize.types import Float32, Recording

_NUMBERS = f"{'capped':>7} {'SNR':>7} {'pearson':>8} {'rmse':>7} {'time':>7}"
_UNITS = f"{'dB':>7} {'dB':>7} {'':>8} {'mV':>7} {'s':>7}"
_LEADS = f"{'check':>5} {'rej':>3} {'acc.':>6} {'good':>5} {'miss':>4} {'not':>3}"


GOOD_DB: Final = 10.0
"""A printed lead of less is of no use."""
_HALF: Final = 0.5
_LEAST_INVENTED_S: Final = 0.1


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
class ImageResult:
    """What one picture gave.

    Attributes:
        image: Path as the table has it.
        kind: Kind of picture, as the table has it.
        group: Name of the folder that the picture lies in.
        fs_hz: Sampling rate of the truth.
        score: A failed picture is scored as twelve leads of zeros, what a submission would hold.
        seconds: Time the digitizer took.
        error: Why it failed, None if it did not.
        explanation: What the score is lost to, None if nobody asked or the picture failed.
        leads: Which leads were found, None if the picture failed.
        layout: What the sheet was read as.
        verdict: "ok", "check", "reject", or "failed".
        doubts: Why it should be looked at, see ``doubts``.
        measures: Rate, intervals, axis and ST, None if nobody asked.
    """

    image: str
    kind: str
    group: str
    fs_hz: float
    score: ImageScore
    seconds: float
    error: str | None = None
    explanation: Explanation | None = None
    leads: LeadCount | None = None
    layout: str = ""
    verdict: str = "failed"
    doubts: tuple[str, ...] = ()
    measures: MeasuredPair | None = None

    @property
    def name(self) -> str:
        """The picture's folder and file name."""
        return f"{self.group}/{Path(self.image).name}"


@dataclass(frozen=True)
class Summary:
    """Means over a set of pictures, failed ones included.

    Attributes:
        name: What the pictures have in common.
        n_images: How many.
        n_failed: How many of them failed.
        score_db: The competition's score: mean of the capped linear ratios, in dB.
        snr_capped_db: Mean of the capped dB.
        snr_db: Mean of the dB without cap.
        pearson: Mean.
        rmse_mv: Mean.
        seconds: Mean.
        n_checked: Pictures that were read with doubts,
        n_rejected: and those whose reading is said to be wrong.
        accepted_db: Mean of the capped dB of those neither failed nor rejected.
        leads_good: Share of the printed leads above GOOD_DB.
        n_missed: Printed leads that were not found.
        n_invented: Leads that were read and are not printed.
    """

    name: str
    n_images: int
    n_failed: int
    score_db: float
    snr_capped_db: float
    snr_db: float
    pearson: float
    rmse_mv: float
    seconds: float
    n_checked: int = 0
    n_rejected: int = 0
    accepted_db: float = math.nan
    leads_good: float = math.nan
    n_missed: int = 0
    n_invented: int = 0


@dataclass(frozen=True)
class EvaluationReport:
    """Every picture's result so far, in the table's order, and the means over them."""

    results: tuple[ImageResult, ...]
    n_pages: int  # of the table

    @property
    def complete(self) -> bool:
        """Whether every picture of the table has its result."""
        return len(self.results) == self.n_pages

    @property
    def overall(self) -> Summary:
        """Means over all pictures."""
        return _summarize("all", self.results)

    @property
    def by_kind(self) -> tuple[Summary, ...]:
        """Means of each kind, in the order of their first picture."""
        return _summarize_by(self.results, lambda result: result.kind)

    @property
    def by_group(self) -> tuple[Summary, ...]:
        """Means of each folder, in the order of their first picture."""
        return _summarize_by(self.results, lambda result: result.group)

    @property
    def failures(self) -> tuple[ImageResult, ...]:
        """The pictures that failed; they count as zeros in every mean."""
        return tuple(result for result in self.results if result.error is not None)

    @property
    def explained(self) -> dict[str, list[Explanation]]:
        """What the pages are lost to, by kind; empty if nobody asked."""
        kinds: dict[str, list[Explanation]] = {}
        for result in self.results:
            if result.explanation is not None:
                kinds.setdefault(result.kind, []).append(result.explanation)
        return kinds

    @property
    def agreements(self) -> tuple[Agreement, ...]:
        """How measures on what was read agree with those on the truth; empty if nobody asked."""
        pairs = [result.measures for result in self.results if result.measures is not None]
        return agreement.agreements(pairs) if pairs else ()

    def to_text(self) -> str:
        """Return the report as a table to read."""
        names = [result.name for result in self.results]
        width = max(len(name) for name in [*names, "image"])
        lines = [f"{'image':<{width}} {_NUMBERS}", f"{'':<{width}} {_UNITS}"]
        for name, result in zip(names, self.results, strict=True):
            score = result.score
            numbers = _row(
                score.snr_capped_db, score.snr_db, score.pearson, score.rmse_mv, result.seconds
            )
            lines.append(f"{name:<{width}} {numbers}  {_read_as(result)}")
        for title, summaries in (("folder", self.by_group), ("kind", self.by_kind)):
            lines += ["", f"{_NUMBERS} {'score':>7} {_LEADS}   n  {title}"]
            lines += [_summary_row(summary) for summary in (*summaries, self.overall)]
        if self.explained:
            pages = [(r.name, r.explanation) for r in self.results if r.explanation is not None]
            lines += ["", explain_table.to_text(pages, self.explained).rstrip("\n")]
        if self.agreements:
            lines += ["", agreement.to_text(self.agreements).rstrip("\n")]
        for result in self.failures:
            lines += ["", f"FAILED {result.image}: {result.error}"]
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return the report as a dict that `json.dumps` takes; inf and NaN become None."""
        report = {
            "complete": self.complete,
            "overall": asdict(self.overall),
            "by_kind": [asdict(summary) for summary in self.by_kind],
            "by_group": [asdict(summary) for summary in self.by_group],
            "explained_by_kind": [
                {"kind": kind, **asdict(mean(members))} for kind, members in self.explained.items()
            ],
            "agreements": [asdict(one) for one in self.agreements],
            "images": [asdict(result) for result in self.results],
        }
        cleaned: dict[str, Any] = _finite_or_none(report)
        return cleaned


def evaluate(
    paired_csv: Path,
    digitize: Callable[[Path, float], Recording],
    *,
    cap_ratio: float | None = CAP_RATIO,
    explain: bool = False,
    measured: bool = False,
    progress: Callable[[EvaluationReport], None] | None = None,
) -> EvaluationReport:
    """Digitize every picture of a table and compare it with its truth.

    Args:
        paired_csv: Table with the columns image, fs (Hz), kind, and truth or reference; paths are
            relative to the table's folder. A truth is a csv in mV, empty outside the leads'
            windows. A reference is a clean picture of the same record: what `digitize` reads
            of it, once, is the truth.
        digitize: Called with a picture's path and the wanted sampling rate. Whatever it raises
            is the picture's failure, never the end of the evaluation.
        cap_ratio: Largest linear ratio an image can score; None for no cap.
        explain: Say of each picture what its score is lost to.
        measured: Compare rate, intervals, axis and ST of the reading with those of the truth.
        progress: Called after each picture with the report of those done.

    Returns:
        The report.

    Raises:
        InputError: The table, a truth or a reference is missing or cannot be used; or neurokit2
            is not installed, and measures are wanted.
    """
    pairs = read_pairs(Path(paired_csv))
    report = EvaluationReport((), len(pairs))
    for pair, truth in zip(pairs, truths_of(pairs, digitize), strict=True):
        result = _judge(
            pair, truth, digitize, cap_ratio=cap_ratio, explain=explain, measured=measured
        )
        report = EvaluationReport((*report.results, result), len(pairs))
        if progress is not None:
            progress(report)
    return report


def _judge(
    pair: Pair,
    truth: Recording,
    digitize: Callable[[Path, float], Recording],
    *,
    cap_ratio: float | None,
    explain: bool,
    measured: bool,
) -> ImageResult:
    truth_mv, fs_hz = truth.signals_mv, pair.fs_hz
    read_mv, error, recording = np.zeros_like(truth_mv), None, None
    start = time.perf_counter()
    try:
        recording = digitize(pair.image_path, fs_hz)
        seconds = time.perf_counter() - start
        if recording.fs_hz != fs_hz:
            raise ValueError(f"signals are wanted at {fs_hz:g} Hz, but got {recording.fs_hz:g}")
        read_mv = of_length(recording.signals_mv, truth_mv.shape[1])
        score = image_snr(truth_mv, read_mv, fs_hz=fs_hz, cap_ratio=cap_ratio)
    except Exception as caught:  # a batch survives any page, and the report names the page
        recording = None
        seconds = time.perf_counter() - start
        error = f"{type(caught).__name__}: {caught}"
        score = image_snr(truth_mv, read_mv, fs_hz=fs_hz, cap_ratio=cap_ratio)
    return ImageResult(
        image=pair.image,
        kind=pair.kind,
        group=pair.image_path.parent.name,
        fs_hz=fs_hz,
        score=score,
        seconds=seconds,
        error=error,
        explanation=explain_page(truth_mv, read_mv, fs_hz=fs_hz) if explain and not error else None,
        leads=None if recording is None else count_leads(truth_mv, read_mv, score, fs_hz=fs_hz),
        layout="" if recording is None else recording.layout.name,
        verdict="failed" if recording is None else recording.verdict,
        doubts=() if recording is None else recording.doubts,
        measures=_measured(truth, recording) if measured else None,
    )


def _measured(truth: Recording, read: Recording | None) -> MeasuredPair:
    failed = Measures(notes=("the page failed",))
    return MeasuredPair(measure(truth), failed if read is None else measure(read))


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
    good = [lead for lead, found in zip(LEADS, is_found, strict=True) if found]
    return LeadCount(
        printed=int(is_printed.sum()),
        found=int(is_found.sum()),
        good=sum(score.leads[lead].snr_db >= GOOD_DB for lead in good),
        missed=tuple(np.array(LEADS)[is_printed & ~is_found].tolist()),
        invented=tuple(np.array(LEADS)[is_invented].tolist()),
    )


def _summarize(name: str, results: Iterable[ImageResult]) -> Summary:
    members = list(results)
    accepted = [
        result.score.snr_capped_db
        for result in members
        if result.verdict not in ("failed", "reject")
    ]
    counted = [result.leads for result in members if result.leads is not None]

    def mean(value: Callable[[ImageResult], float]) -> float:
        return float(np.mean([value(result) for result in members]))

    return Summary(
        name=name,
        n_images=len(members),
        n_failed=sum(result.error is not None for result in members),
        score_db=competition_score(result.score.ratio for result in members),
        snr_capped_db=mean(lambda result: result.score.snr_capped_db),
        snr_db=mean(lambda result: result.score.snr_db),
        pearson=mean(lambda result: result.score.pearson),
        rmse_mv=mean(lambda result: result.score.rmse_mv),
        seconds=mean(lambda result: result.seconds),
        n_checked=sum(result.verdict == "check" for result in members),
        n_rejected=sum(result.verdict == "reject" for result in members),
        accepted_db=float(np.mean(accepted)) if accepted else math.nan,
        leads_good=sum(one.good for one in counted) / max(sum(one.printed for one in counted), 1),
        n_missed=sum(len(one.missed) for one in counted),
        n_invented=sum(len(one.invented) for one in counted),
    )


def _summarize_by(
    results: tuple[ImageResult, ...], key: Callable[[ImageResult], str]
) -> tuple[Summary, ...]:
    groups: dict[str, list[ImageResult]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return tuple(_summarize(name, members) for name, members in groups.items())


def _row(capped_db: float, snr_db: float, pearson: float, rmse_mv: float, seconds: float) -> str:
    return f"{capped_db:7.2f} {snr_db:7.2f} {pearson:8.4f} {rmse_mv:7.4f} {seconds:7.2f}"


def _summary_row(summary: Summary) -> str:
    numbers = _row(
        summary.snr_capped_db, summary.snr_db, summary.pearson, summary.rmse_mv, summary.seconds
    )
    failed = f" ({summary.n_failed} failed)" if summary.n_failed else ""
    leads = (
        f"{summary.n_checked:5d} {summary.n_rejected:3d} {summary.accepted_db:6.2f} "
        f"{summary.leads_good:5.0%} {summary.n_missed:4d} "
        f"{summary.n_invented:3d}"
    )
    return (
        f"{numbers} {summary.score_db:7.2f} {leads} {summary.n_images:3d}  {summary.name}{failed}"
    )


def _read_as(result: ImageResult) -> str:
    if result.leads is None:
        return "FAILED"
    told = f"{result.layout} {result.verdict}"
    for what, leads in (("missed", result.leads.missed), ("invented", result.leads.invented)):
        told += f", {what} {' '.join(leads)}" if leads else ""
    return told


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
