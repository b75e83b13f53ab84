"""Score a digitizer on pictures whose true signals are known."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ecg_digitize.errors import InputError
from ecg_digitize.formats.csv import read_csv
from ecg_digitize.metrics import CAP_RATIO, ImageScore, competition_score, image_snr
from ecg_digitize.types import Recording

_COLUMNS = ("image", "truth", "fs", "kind")
_NUMBERS = f"{'capped':>7} {'SNR':>7} {'pearson':>8} {'rmse':>7} {'time':>7}"
_UNITS = f"{'dB':>7} {'dB':>7} {'':>8} {'mV':>7} {'s':>7}"


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
    """

    image: str
    kind: str
    group: str
    fs_hz: float
    score: ImageScore
    seconds: float
    error: str | None = None


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


@dataclass(frozen=True)
class EvaluationReport:
    """Every picture's result, in the table's order, and the means over them."""

    results: tuple[ImageResult, ...]

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

    def to_text(self) -> str:
        """Return the report as a table to read."""
        names = [f"{result.group}/{Path(result.image).name}" for result in self.results]
        width = max(len(name) for name in [*names, "image"])
        lines = [f"{'image':<{width}} {_NUMBERS}", f"{'':<{width}} {_UNITS}"]
        for name, result in zip(names, self.results, strict=True):
            score = result.score
            numbers = _row(
                score.snr_capped_db, score.snr_db, score.pearson, score.rmse_mv, result.seconds
            )
            lines.append(f"{name:<{width}} {numbers}{'' if result.error is None else '  FAILED'}")
        for title, summaries in (("folder", self.by_group), ("kind", self.by_kind)):
            lines += ["", f"{_NUMBERS} {'score':>7}   n  {title}"]
            lines += [_summary_row(summary) for summary in (*summaries, self.overall)]
        for result in self.failures:
            lines += ["", f"FAILED {result.image}: {result.error}"]
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return the report as a dict that `json.dumps` takes; inf and NaN become None."""
        report = {
            "overall": asdict(self.overall),
            "by_kind": [asdict(summary) for summary in self.by_kind],
            "by_group": [asdict(summary) for summary in self.by_group],
            "images": [asdict(result) for result in self.results],
        }
        cleaned: dict[str, Any] = _finite_or_none(report)
        return cleaned


def evaluate(
    paired_csv: Path,
    digitize: Callable[[Path, float], Recording],
    *,
    cap_ratio: float | None = CAP_RATIO,
    progress: Callable[[int, int, ImageResult], None] | None = None,
) -> EvaluationReport:
    """Digitize every picture of a table and compare it with its truth.

    Args:
        paired_csv: Table with the columns image, truth (both paths relative to the table's
            folder), fs (Hz) and kind. A truth is a csv in mV, empty outside the leads' windows.
        digitize: Called with a picture's path and the wanted sampling rate. Whatever it raises
            is the picture's failure, never the end of the evaluation.
        cap_ratio: Largest linear ratio an image can score; None for no cap.
        progress: Called after each picture with the number done, the number in all, and what the
            picture gave.

    Returns:
        The report.

    Raises:
        InputError: The table or a truth is missing or cannot be used.
    """
    paired_csv = Path(paired_csv)
    table = _read_table(paired_csv)
    results: list[ImageResult] = []
    for entry in table.itertuples(index=False):
        image = paired_csv.parent / str(entry.image)
        fs_hz = float(entry.fs)
        truth = read_csv(paired_csv.parent / str(entry.truth), fs_hz=fs_hz)
        error: str | None = None
        start = time.perf_counter()
        try:
            recording = digitize(image, fs_hz)
            seconds = time.perf_counter() - start
            score = image_snr(
                truth.signals_mv, recording.signals_mv, fs_hz=fs_hz, cap_ratio=cap_ratio
            )
        except Exception as caught:  # a batch survives any page, and the report names the page
            seconds = time.perf_counter() - start
            error = f"{type(caught).__name__}: {caught}"
            zeros = np.zeros_like(truth.signals_mv)
            score = image_snr(truth.signals_mv, zeros, fs_hz=fs_hz, cap_ratio=cap_ratio)
        results.append(
            ImageResult(
                str(entry.image), str(entry.kind), image.parent.name, fs_hz, score, seconds, error
            )
        )
        if progress is not None:
            progress(len(results), len(table), results[-1])
    return EvaluationReport(tuple(results))


def _read_table(paired_csv: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(paired_csv, dtype={"image": str, "truth": str, "kind": str})
    except (OSError, ValueError) as error:
        raise InputError(f"{paired_csv}: expected a table of pictures: {error}") from error
    missing = [column for column in _COLUMNS if column not in table.columns]
    if missing or len(table) == 0:
        raise InputError(
            f"{paired_csv}: expected the columns {', '.join(_COLUMNS)} and at least one row, "
            f"but got {', '.join(map(str, table.columns))} and {len(table)} rows"
        )
    return table


def _summarize(name: str, results: Iterable[ImageResult]) -> Summary:
    members = list(results)

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
    return f"{numbers} {summary.score_db:7.2f} {summary.n_images:3d}  {summary.name}{failed}"


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_none(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
