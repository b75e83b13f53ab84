"""How likely each lead is right: what a reading shows of itself, and what that is worth.

The evidence of a lead is a few numbers. Their weights are those of a logistic regression on sheets
of all layouts that were digitized with the shipped weights and compared with their truth:
`ecg-digitize validate --layout any --fit`.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from ecg_digitize.frames import RECT
from ecg_digitize.layout import LEADS
from ecg_digitize.types import Float32, Float64, Mask, Trace

RIGHT_DB: Final = 15.0
"""A lead is called right whose error is a sixth of its signal."""

NAME_REACH_MM: Final = 10.0
"""How far from where its lead begins a name may stand."""


class Evidence(NamedTuple):
    """What a reading shows of one lead. All are 0 where nothing speaks against it.

    Attributes:
        unseen: Share of its columns without ink.
        unsure: How far the network's confidence lacks from 1, in the mean,
        unsure_steep: in the mean over steep strokes, which decide the error,
        unsure_tenth: and of the least sure tenth of the columns.
        low: How small its waves are: logarithm of 1 mm over their standard deviation.
        astray: Share of its columns that lie on another row.
        leftover: Logarithm of the height of ink near it that no row was led through, mm.
        contradicted: Logarithm of what leads I, II and III disagree by, over 0.02 mV.
        unnamed: Share of the sheet's names that were not read where they belong.
        gridless: How far the confidence in the grid lacks from 1.
        uncalibrated: 1 where nothing tells the speed or the gain,
        disputed: and where what tells them does not agree.
        unlike: How far the score of the layout lacks from 1 a lead, see ``sheet.match``.
        unusual: 1 where the rows are longer or shorter than machines print them.
        displaced: Logarithm of how far its name stands from where the leads begin, mm, beyond what
            is usual.
        coarse: Logarithm of 8 px/mm over the picture's scale.
    """

    unseen: float
    unsure: float
    unsure_steep: float
    unsure_tenth: float
    low: float
    astray: float
    leftover: float
    contradicted: float
    unnamed: float
    gridless: float
    uncalibrated: float
    disputed: float
    unlike: float
    unusual: float
    displaced: float
    coarse: float


class QualityOptions(NamedTuple):
    """Weights of the evidence, in its order; see the module."""

    bias: float = 1.515
    weights: tuple[float, ...] = (
        *(0.0, -0.928, -6.158, 0.0, -0.279, -3.274, -0.234, -0.961),
        *(-0.76, -1.128, -0.6, -0.722, -0.178, -0.868, -0.268, -0.203),
    )
    right: float = 0.8  # leads of at least this probability are called ok, and sheets without
    # doubts of which half the leads are
    wrong: float = 0.3  # below this one they are said to be wrong
    rejected: float = 0.15  # and below this one, in the median of its leads, a sheet is rejected


DEFAULTS: Final = QualityOptions()


class PageEvidence(NamedTuple):
    """What a reading shows of the whole page; see Evidence."""

    einthoven_mv: float
    named: float  # share
    grid: float
    is_calibrated: bool
    px_per_mm: float
    is_disputed: bool = False
    score: float = 1.0  # of the layout, a lead
    has_usual_length: bool = True
    names_off_mm: float = 0.0  # of the leads' begin


def evidence_of(
    paper: Trace,
    astray: Mask,
    page: PageEvidence,
    leftover_mm: Mapping[tuple[int, str], float],
) -> dict[str, Evidence]:
    """Gather what a reading shows of each of its leads.

    Args:
        paper: The traces by time, their layout at the printed speed and gain.
        astray: (rows, columns) where a line lies on another row, see ``doubts``.
        page: What it shows of the page.
        leftover_mm: By row and lead, see ``sheet.leftover``.
    """
    layout = paper.layout
    found = {}
    for lead in layout.leads:
        row, columns = layout.place(lead)
        sure = paper.confidence[row, columns].astype(np.float64)
        off_mm = (paper.y_px[row, columns] - layout.zero_px[row]) / RECT.px_per_mm_xy[1]
        steep = np.abs(np.gradient(off_mm)) if off_mm.size > 1 else np.ones(off_mm.size)
        found[lead] = Evidence(
            unseen=float(np.mean(sure <= 0)),
            unsure=float(1 - sure.mean()),
            unsure_steep=float(1 - np.average(sure, weights=steep + 1e-6)),
            unsure_tenth=float(1 - np.quantile(sure, 0.1)),
            low=float(-np.log(off_mm.std() + 0.05)),
            astray=float(astray[row, columns].mean()),
            leftover=float(np.log1p(leftover_mm.get((row, lead), 0.0))),
            contradicted=float(np.log(max(_known(page.einthoven_mv, 0.06), 0.02) / 0.02)),
            unnamed=1 - page.named,
            gridless=1 - page.grid,
            uncalibrated=float(not page.is_calibrated),
            disputed=float(page.is_disputed),
            unlike=min(max(1 - page.score, 0.0), 1.0),
            unusual=float(not page.has_usual_length),
            displaced=float(np.log1p(max(abs(page.names_off_mm) - NAME_REACH_MM, 0.0))),
            coarse=float(np.log(8.0 / page.px_per_mm)),
        )
    return found


def quality_of(evidence: Mapping[str, Evidence], *, options: QualityOptions = DEFAULTS) -> Float32:
    """Return (12,) in LEADS order: the probability that a lead is right; NaN where it is absent."""
    quality = np.full(len(LEADS), np.nan, np.float32)
    for lead, one in evidence.items():
        logit = options.bias + float(np.dot(options.weights, one))
        quality[LEADS.index(lead)] = 1 / (1 + np.exp(-np.clip(logit, -30, 30)))
    return quality


def fit(evidence: Float64, is_right: Mask, *, ridge: float = 3e-2) -> QualityOptions:
    """Fit the weights.

    Args:
        evidence: (n, evidences) of leads.
        is_right: (n,) whether their error is small.
        ridge: Weight of the squared weights of standardized evidence, so that none runs off.

    Returns:
        The options with the most likely weights.
    """
    from scipy.optimize import minimize

    mean, deviation = evidence.mean(axis=0), evidence.std(axis=0) + 1e-6
    x = np.column_stack([np.ones(len(evidence)), (evidence - mean) / deviation])
    sign = np.where(is_right, 1.0, -1.0)

    def loss(w: Float64) -> tuple[float, Float64]:
        margin = sign * (x @ w)
        slope = -sign / (1 + np.exp(np.clip(margin, -30, 30)))
        value = np.logaddexp(0, -margin).mean() + ridge * float(w[1:] @ w[1:])
        return float(value), x.T @ slope / len(x) + 2 * ridge * np.append(0.0, w[1:])

    bounds = [(None, None)] + [(None, 0.0)] * evidence.shape[1]  # none speaks for a lead
    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds)
    w = np.asarray(found.x, np.float64)
    weights = w[1:] / deviation
    bias = float(w[0] - weights @ mean)
    rounded = tuple(round(float(one), 3) for one in weights)
    return DEFAULTS._replace(bias=round(bias, 3), weights=rounded)


def _known(value: float, otherwise: float) -> float:
    return value if np.isfinite(value) else otherwise
