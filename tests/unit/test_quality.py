"""How likely a lead is right."""

import numpy as np
import pytest

from ecg_digitize.doubts import quality_doubts
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.quality import (
    Evidence,
    PageEvidence,
    evidence_of,
    fit,
    quality_of,
)
from ecg_digitize.training.validate_sheets import area_under_curve
from ecg_digitize.types import Trace

NOTHING = Evidence(*[0.0] * len(Evidence._fields))
PAGE = PageEvidence(einthoven_mv=0.02, named=1.0, grid=1.0, is_calibrated=True, px_per_mm=8.0)


def trace() -> Trace:
    y_px = np.repeat(np.array(COMPETITION.zero_px, np.float32)[:, None], 5000, axis=1)
    y_px[:, ::100] -= 80
    return Trace(y_px, np.ones((4, 5000), np.float32))


def test_a_faultless_reading_has_no_evidence_against_it() -> None:
    found = evidence_of(trace(), np.zeros((4, 5000), np.bool_), PAGE, {})
    assert set(found) == set(LEADS)
    assert all(
        value == pytest.approx(0)
        for one in found.values()
        for name, value in one._asdict().items()
        if name != "low"
    )


def test_each_fault_is_evidence_of_its_lead() -> None:
    one = trace()
    one.confidence[0, :500] = 0
    astray = np.zeros((4, 5000), np.bool_)
    astray[1, :1250] = True
    page = PAGE._replace(named=0.5, is_calibrated=False, einthoven_mv=0.2)
    found = evidence_of(one, astray, page, {(2, "III"): 10.0})
    assert found["I"].unseen == pytest.approx(0.4)
    assert found["I"].unsure_tenth == 1.0
    assert found["aVL"].astray == 0.0
    assert found["III"].leftover == pytest.approx(np.log(11))
    assert found["V6"].contradicted == pytest.approx(np.log(10))
    assert (found["V6"].unnamed, found["V6"].uncalibrated) == (0.5, 1.0)


def test_absent_leads_have_no_quality() -> None:
    quality = quality_of({"V2": NOTHING})
    assert np.isfinite(quality).sum() == 1
    assert np.isfinite(quality[LEADS.index("V2")])


def test_a_fit_finds_what_tells_right_from_wrong() -> None:
    rng = np.random.default_rng(1)
    evidence = rng.uniform(0, 1, (400, len(Evidence._fields)))
    likely = 1 / (1 + np.exp(-(4 - 8 * evidence[:, 5])))
    is_right = rng.random(400) < likely
    options = fit(evidence, is_right)
    weights = dict(zip(Evidence._fields, options.weights, strict=True))
    assert min(weights, key=weights.__getitem__) == "astray"
    quality = np.array(
        [quality_of({"I": Evidence(*row)}, options=options)[0] for row in evidence], np.float64
    )
    assert abs(quality.mean() - is_right.mean()) < 0.03
    assert area_under_curve(quality, is_right) > 0.9


def test_the_area_counts_pairs() -> None:
    right = np.array([True, True, False, False])
    assert area_under_curve(np.array([4.0, 3.0, 2.0, 1.0]), right) == 1.0
    assert area_under_curve(np.array([4.0, 1.0, 2.0, 3.0]), right) == 0.5
    assert np.isnan(area_under_curve(np.array([1.0, 2.0]), np.array([True, True])))


def test_what_ships_tells_a_faultless_lead_from_a_lost_one() -> None:
    lost = NOTHING._replace(unsure=0.9, unsure_steep=0.9, unsure_tenth=1.0, astray=0.4)
    quality = quality_of({"I": NOTHING._replace(low=-1.0), "V5": lost})
    assert quality[0] > 0.65
    assert quality[LEADS.index("V5")] < 0.05
    assert list(quality_doubts(quality)) == ["V5 is likely wrong"]
    assert not list(quality_doubts(quality[:1].repeat(12)))
