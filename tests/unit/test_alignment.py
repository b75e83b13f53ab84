"""What the limb leads know of when they were recorded."""

from dataclasses import replace

import numpy as np
import pytest

from ecg_digitize.alignment import (
    einthoven_residual_mv,
    find_skew,
    find_start,
    on_paper,
    set_upright,
    without_pulses,
)
from ecg_digitize.frames import TRACE_FS_HZ, crossings_mm
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.signals import rows_from_signals, rows_from_trace
from ecg_digitize.synth.signals import to_twelve
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.types import Float32, Float64, GridMap, Trace

ROWS_MV = rows_from_signals(to_twelve(SimulatorSource(seed=5).get(4)))
SEEN = np.ones(ROWS_MV.shape, np.float32)
GRID = GridMap(crossings_mm().astype(np.float32), np.ones((44, 57), np.float32), 0.1)


def noisy(rows_mv: Float64, seed: int = 0) -> Float64:
    return np.asarray(rows_mv + 0.01 * np.random.default_rng(seed).standard_normal(rows_mv.shape))


def trace_of(rows_mv: Float64, confidence: Float32 = SEEN) -> Trace:
    y_px = np.array(COMPETITION.zero_px)[:, None] - rows_mv * COMPETITION.px_per_mv
    return Trace(y_px.astype(np.float32), confidence)


def askew(skew: float, rows_mm: tuple[float, ...] = COMPETITION.zero_mm) -> Float64:
    """Return the rows as they stand on paper that was pulled in crooked."""
    y_mm = np.array(rows_mm)
    late = skew * (y_mm - y_mm.mean()) / COMPETITION.mm_per_s * TRACE_FS_HZ
    columns = np.arange(5000)
    return np.stack(
        [np.interp(columns - k, columns, row) for k, row in zip(late, ROWS_MV, strict=True)]
    )


@pytest.mark.parametrize("skew", [-0.013, 0.006])
@pytest.mark.parametrize("rows_mm", [None, (97.0, 133.0, 168.0, 205.0)])
def test_skew_is_found_and_undone(skew: float, rows_mm: tuple[float, ...] | None) -> None:
    grid = replace(GRID, rows_mm=None if rows_mm is None else np.array(rows_mm))
    rows_mv = noisy(askew(skew, rows_mm or COMPETITION.zero_mm))

    found = find_skew(trace_of(rows_mv), grid)
    upright = rows_from_trace(set_upright(trace_of(rows_mv), grid, found))

    assert found == pytest.approx(skew, abs=1e-3)
    inner = slice(100, 4900)
    off_mv = (upright - ROWS_MV)[:, inner]
    assert np.std(off_mv) < 0.5 * np.std((rows_mv - ROWS_MV)[:, inner])


@pytest.mark.parametrize("seed", range(5))
def test_upright_and_unreadable_rows_stay(seed: int) -> None:
    trace = trace_of(ROWS_MV)
    rng = np.random.default_rng(seed)
    assert find_skew(trace_of(noisy(ROWS_MV, seed)), GRID) == 0.0
    assert find_skew(trace_of(rng.normal(0, 0.3, ROWS_MV.shape)), GRID) == 0.0
    assert find_skew(trace_of(ROWS_MV, 0 * SEEN), GRID) == 0.0
    assert set_upright(trace, GRID, 0.0) is trace


@pytest.mark.parametrize("columns", [-80, 60])
def test_the_beginning_is_found_where_leads_change(columns: int) -> None:
    rows_mv = noisy(np.roll(ROWS_MV, columns, axis=1))
    start_mm = find_start(trace_of(rows_mv))
    # Between two beats the leads agree with everything: it may be a little before or behind.
    assert start_mm == pytest.approx(columns / 20, abs=1.5)


def test_a_beginning_that_is_right_or_cannot_be_told_stays() -> None:
    assert find_start(trace_of(noisy(ROWS_MV))) == 0.0
    noise = np.random.default_rng(0).normal(0, 0.3, ROWS_MV.shape)
    assert find_start(trace_of(noise)) == 0.0
    assert find_start(trace_of(noisy(np.roll(ROWS_MV, 60, axis=1)), 0 * SEEN)) == 0.0


def test_faster_paper_is_read_at_its_own_speed() -> None:
    trace = replace(trace_of(ROWS_MV), shown=np.arange(5000) < np.array([[5000]] * 3 + [[4000]]))
    faster = COMPETITION.calibrated(mm_per_s=50.0, mm_per_mv=5.0)

    paper = on_paper(GRID, trace, faster)

    assert paper.layout == faster
    np.testing.assert_allclose(rows_from_trace(paper), 2 * ROWS_MV[:, ::2], atol=1e-4)
    assert paper.shown is not None
    assert paper.shown.sum(axis=1).tolist() == [2500, 2500, 2500, 2000]
    assert on_paper(GRID, trace, COMPETITION).y_px is trace.y_px
    fastest = COMPETITION.calibrated(mm_per_s=200.0, mm_per_mv=10.0)
    assert find_start(on_paper(GRID, trace, fastest)) == 0.0


def test_what_is_shown_moves_with_the_rows() -> None:
    shown = np.ones(ROWS_MV.shape, np.bool_)
    shown[0, 3000:] = False
    upright = set_upright(replace(trace_of(ROWS_MV), shown=shown), GRID, 0.013)
    assert upright.shown is not None
    assert upright.shown[1:].all()
    assert upright.shown[0].sum() == pytest.approx(3000 + 0.013 * 53.2 * 20, abs=2)


def test_pulses_are_taken_off_the_beginning_and_beats_are_not() -> None:
    beat = np.zeros(ROWS_MV.shape)
    beat[:3, 10:30] = [[0.6], [1.0], [0.4]]
    plain = trace_of(noisy(ROWS_MV * (np.arange(5000) > 75) + beat))
    pulse = np.where(np.arange(5000) < 8, 1.0, 0.0)
    printed = trace_of(rows_from_trace(plain) + pulse)

    cleaned = without_pulses(printed)

    assert without_pulses(plain) is plain
    assert (cleaned.confidence[:, :8] == 0).all()
    assert (cleaned.confidence[:, 12:] == 1).all()
    np.testing.assert_array_equal(cleaned.y_px[:, 12:], plain.y_px[:, 12:])
    assert np.abs(rows_from_trace(cleaned)[:, :8]).max() < 0.1


def test_a_first_beat_whose_rows_are_apart_in_time_stays() -> None:
    columns = np.arange(5000)
    r_wave = np.exp(-0.5 * ((columns - 66) / 6) ** 2)
    rows_mv = noisy(ROWS_MV * (columns > 200))
    for row, (height_mv, late) in enumerate([(1.4, 0), (0.9, 5), (-0.5, 9)]):
        rows_mv[row] += height_mv * np.roll(r_wave, late)
    trace = trace_of(rows_mv)
    assert without_pulses(trace) is trace


def test_einthoven_residual() -> None:
    signals_mv = np.random.default_rng(0).normal(size=(12, 100))
    i, ii, iii = (LEADS.index(lead) for lead in ("I", "II", "III"))
    signals_mv[iii] = signals_mv[ii] - signals_mv[i]
    assert einthoven_residual_mv(signals_mv) < 1e-12
    signals_mv[iii] += 0.25
    assert einthoven_residual_mv(signals_mv) == pytest.approx(0.25)
    assert einthoven_residual_mv(signals_mv, remove_offset=True) < 1e-12
    assert np.isnan(einthoven_residual_mv(np.full((12, 10), np.nan)))
