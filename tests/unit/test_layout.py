"""What is printed where, and what limb leads know of each other there."""

from dataclasses import replace

import numpy as np
import pytest

from ecg_digitize.layout import COMPETITION, LEADS, NAME_KEYS, Layout, Row, Segment, row_of
from ecg_digitize.limb import (
    EINTHOVEN,
    GOLDBERGER,
    REPEATED,
    relations,
    relations_by_window,
)
from ecg_digitize.signals import printed_recording, rows_from_signals, to_recording
from ecg_digitize.types import Trace

SIX_BY_TWO = Layout(
    "6x2",
    tuple(
        row_of(pair, zero_mm=70.0 + 20 * k)
        for k, pair in enumerate(zip(LEADS[:6], LEADS[6:], strict=True))
    ),
    mm_per_mv=5.0,
)
HALF_SECOND_APART = Layout("late", (Row(100.0, (Segment("I", 0.0, 2.0), Segment("II", 2.5, 5.0))),))


def test_the_competitions_sheet() -> None:
    assert COMPETITION.shape == (4, 5000)
    assert COMPETITION.rows[2].leads == ("III", "aVF", "V3", "V6")
    assert (COMPETITION.strip_row, COMPETITION.strip_lead) == (3, "II")
    # Measured on ECG-Image-Kit's renders at 200 dpi: zero rows at 708.33 and 1534.71 px.
    assert np.diff(COMPETITION.zero_mm)[0] / 25.4 * 200 == pytest.approx(991.67 - 708.33, abs=0.1)
    assert COMPETITION.zero_px == pytest.approx((280.5, 568.3, 856.2, 1120.1), abs=0.1)
    assert COMPETITION.names_mm.shape == (13, 2)
    assert COMPETITION.names_mm[NAME_KEYS.index("rhythm")] == pytest.approx(
        [14.94, 200.71], abs=0.01
    )


@pytest.mark.parametrize("n_total", [1000, 2500, 5000, 10250, 9999])
def test_windows_begin_at_quarters_rounded_down_as_in_the_competitions_truth(n_total: int) -> None:
    for lead in LEADS:
        quarter = next(row.leads.index(lead) for row in COMPETITION.rows if lead in row.leads)
        want = (
            (0, n_total) if lead == "II" else (quarter * n_total // 4, (quarter + 1) * n_total // 4)
        )
        assert COMPETITION.window(lead, n_total) == want


def test_a_strip_of_another_lead_or_of_an_unknown_one() -> None:
    v1 = COMPETITION.with_strip("V1")
    assert v1.place("V1") == (3, slice(0, 5000))
    assert v1.place("V1", short=True) == (0, slice(2500, 3750))
    assert v1.place("II") == (1, slice(0, 1250))
    unknown = COMPETITION.with_strip(None)
    assert unknown.strip_lead is None
    assert unknown.shape == COMPETITION.shape
    assert unknown.window("V1", 5000) == (2500, 3750)
    assert SIX_BY_TWO.with_strip("II") == SIX_BY_TWO  # there is no strip


def test_rows_elsewhere() -> None:
    moved = COMPETITION.with_zeros((80.0, 110.0, 140.0, 170.0))
    assert moved.zero_mm == (80.0, 110.0, 140.0, 170.0)
    assert moved.rows[0].segments == COMPETITION.rows[0].segments


def test_leads_that_are_none_and_leads_that_are_not_printed() -> None:
    with pytest.raises(ValueError, match=r"no leads are called V7, X"):
        Layout("odd", (row_of(("I", "X", "V7"), zero_mm=100.0),))
    with pytest.raises(ValueError, match="late does not show lead V1"):
        HALF_SECOND_APART.place("V1")


def test_sums_hold_where_all_their_leads_are_printed_at_once() -> None:
    first, second, third = relations(COMPETITION, (EINTHOVEN, GOLDBERGER, REPEATED))
    assert (first.window, first.weights.tolist()) == (slice(0, 1250), [1, -1, 1, 0])
    assert (second.window, second.weights.tolist()) == (slice(1250, 2500), [1, 1, 1, 0])
    assert (third.window, third.weights.tolist()) == (slice(0, 1250), [0, 1, 0, -1])
    assert len(relations(COMPETITION.with_strip("V1"), (EINTHOVEN, REPEATED))) == 1
    assert relations(HALF_SECOND_APART, (EINTHOVEN, {"I": 1.0, "II": 1.0})) == ()

    ((window, weights),) = relations_by_window(SIX_BY_TWO, (EINTHOVEN, GOLDBERGER, REPEATED))
    assert window == slice(0, 2500)
    assert weights.tolist() == [[1, -1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]


def test_another_layout_walks_from_rows_to_the_recording() -> None:
    signals_mv = np.random.default_rng(0).normal(size=(12, 5000))
    rows_mv = rows_from_signals(signals_mv, layout=SIX_BY_TWO)
    y_px = np.array(SIX_BY_TWO.zero_px)[:, None] - SIX_BY_TWO.px_per_mv * rows_mv
    trace = Trace(y_px.astype(np.float32), np.ones(SIX_BY_TWO.shape, np.float32), SIX_BY_TWO)

    recording = to_recording(trace, fs_hz=500)

    truth = printed_recording(signals_mv, fs_hz=500, layout=SIX_BY_TWO)
    np.testing.assert_allclose(recording.signals_mv, truth.signals_mv, atol=1e-4)
    assert set(np.isfinite(truth.signals_mv).sum(axis=1)) == {2500}
    with pytest.raises(ValueError, match=r"Trace.y_px must be \(4, 5000\)"):
        replace(trace, layout=COMPETITION)


def test_leads_of_one_row_may_have_gains_of_their_own() -> None:
    limb, chest = Segment("I", 0.0, 5.0), Segment("V1", 5.0, 10.0, mm_per_mv=5.0)
    turned = Segment("aVR", 0.0, 5.0, sign=-1)
    rows = Row(20.0, (limb, chest)), Row(40.0, (turned,), mm_per_mv=20.0)
    layout = Layout("mixed", rows)
    assert layout.mv_per_row_mv("I") == 1.0
    assert layout.mv_per_row_mv("V1") == 2.0
    assert layout.mv_per_row_mv("aVR") == -1.0
    y_px = np.repeat(np.array(layout.zero_px, np.float32)[:, None] - 80, layout.n_columns, axis=1)
    paper = Trace(y_px, np.ones(layout.shape, np.float32), layout)
    read_mv = to_recording(paper, fs_hz=500).signals_mv  # 80 px are 10 mm
    assert np.nanmedian(read_mv[LEADS.index("I")]) == pytest.approx(1.0)
    assert np.nanmedian(read_mv[LEADS.index("V1")]) == pytest.approx(2.0)
    assert np.nanmedian(read_mv[LEADS.index("aVR")]) == pytest.approx(-0.5)
