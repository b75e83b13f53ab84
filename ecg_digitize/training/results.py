"""What one picture gave, and means over several."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg_digitize.metrics import ImageScore, competition_score
from ecg_digitize.training import bootstrap
from ecg_digitize.training.agreement import MeasuredPair
from ecg_digitize.training.explain import Explanation
from ecg_digitize.training.survey import LeadCount, PageSurvey


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
        survey: Errors, correlation and lag of each lead.
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
    survey: PageSurvey
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
        snr_capped_db: Mean of the capped dB,
        low_db: and its 95 % interval, see ``bootstrap.mean_interval``;
        high_db: NaN of one picture.
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
    low_db: float = math.nan
    high_db: float = math.nan


def summarize(name: str, results: Iterable[ImageResult]) -> Summary:
    """Return the means over one picture or more."""
    members = list(results)
    accepted = [
        result.score.snr_capped_db
        for result in members
        if result.verdict not in ("failed", "reject")
    ]
    counted = [result.leads for result in members if result.leads is not None]

    def mean(value: Callable[[ImageResult], float]) -> float:
        return float(np.mean([value(result) for result in members]))

    capped_db = [result.score.snr_capped_db for result in members]
    low_db, high_db = bootstrap.mean_interval(capped_db, np.random.default_rng(bootstrap.SEED))
    return Summary(
        name=name,
        n_images=len(members),
        n_failed=sum(result.error is not None for result in members),
        score_db=competition_score(result.score.ratio for result in members),
        snr_capped_db=float(np.mean(capped_db)),
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
        low_db=low_db,
        high_db=high_db,
    )


def summarize_by(
    results: tuple[ImageResult, ...], key: Callable[[ImageResult], str]
) -> tuple[Summary, ...]:
    """Return the means of each group, in the order of their first picture."""
    groups = grouped(results, key)
    return tuple(summarize(name, members) for name, members in groups.items())


def grouped(
    results: Iterable[ImageResult], key: Callable[[ImageResult], str]
) -> dict[str, Sequence[ImageResult]]:
    """Return the pictures by what `key` gives of them."""
    groups: dict[str, list[ImageResult]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return dict(groups)
