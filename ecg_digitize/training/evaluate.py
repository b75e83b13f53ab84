"""Score a digitizer on pictures whose true signals are known."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_digitize.measures import Measures, measure
from ecg_digitize.metrics import CAP_RATIO, image_snr, of_length
from ecg_digitize.training import agreement, evaluate_table, explain_table, survey
from ecg_digitize.training.agreement import Agreement, MeasuredPair
from ecg_digitize.training.explain import Explanation, mean
from ecg_digitize.training.explain import explain as explain_page
from ecg_digitize.training.pairs import Pair, check_truths, read_pairs, truths_of
from ecg_digitize.training.results import ImageResult, Summary, grouped, summarize, summarize_by
from ecg_digitize.types import Recording


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
        return summarize("all", self.results)

    @property
    def by_kind(self) -> tuple[Summary, ...]:
        """Means of each kind, in the order of their first picture."""
        return summarize_by(self.results, lambda result: result.kind)

    @property
    def by_group(self) -> tuple[Summary, ...]:
        """Means of each folder, in the order of their first picture."""
        return summarize_by(self.results, lambda result: result.group)

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

    @property
    def surveys(self) -> tuple[survey.Survey, ...]:
        """Errors and leads of each kind, in the order of their first picture, and of all."""
        kinds = grouped(self.results, lambda result: result.kind)
        return tuple(
            survey.survey_kind(name, [result.survey for result in members])
            for name, members in {**kinds, "all": self.results}.items()
        )

    def to_text(self, *, surveyed: bool = False) -> str:
        """Return the report as tables to read.

        Args:
            surveyed: Add those of ``surveys``.
        """
        lines = evaluate_table.pages_to_text(self.results)
        for title, summaries in (("folder", self.by_group), ("kind", self.by_kind)):
            lines += ["", *evaluate_table.means_to_text(title, (*summaries, self.overall))]
        if surveyed:
            lines += ["", survey.to_text(self.surveys).rstrip("\n")]
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
            "surveys": [asdict(one) for one in self.surveys],
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
    check_truths(pairs)
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
    leads = None if recording is None else survey.count_leads(truth_mv, read_mv, score, fs_hz=fs_hz)
    return ImageResult(
        image=pair.image,
        kind=pair.kind,
        group=pair.image_path.parent.name,
        fs_hz=fs_hz,
        score=score,
        seconds=seconds,
        error=error,
        explanation=explain_page(truth_mv, read_mv, fs_hz=fs_hz) if explain and not error else None,
        survey=survey.survey_page(truth_mv, read_mv, score, leads, fs_hz=fs_hz),
        leads=leads,
        layout="" if recording is None else recording.layout.name,
        verdict="failed" if recording is None else recording.verdict,
        doubts=() if recording is None else recording.doubts,
        measures=_measured(truth, recording) if measured else None,
    )


def _measured(truth: Recording, read: Recording | None) -> MeasuredPair:
    failed = Measures(notes=("the page failed",))
    return MeasuredPair(measure(truth), failed if read is None else measure(read))


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
