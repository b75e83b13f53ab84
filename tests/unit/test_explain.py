"""What a page is lost to, on signals whose error was made by hand."""

import dataclasses

import numpy as np
import pytest

from ecg_digitize.layout import LEADS
from ecg_digitize.metrics import image_snr
from ecg_digitize.signals import printed_recording
from ecg_digitize.training.explain import DEFAULTS, Explanation, Worth, explain, mean

FS_HZ = 500.0
BEATS_S = np.array([0.4, 1.25, 2.05, 2.95, 3.8, 4.6, 5.45, 6.3, 7.2, 8.0, 8.85, 9.7])
WAVES = ((-0.16, 0.1, 0.03), (-0.025, -0.2, 0.008), (0.0, 1.0, 0.010), (0.28, 0.25, 0.05))
"""Where in a beat, how high and how wide: P, Q, R, T."""


def hearts_mv(at_s):
    """Return (12, n) leads at any moments, a row of moments for all or one for each."""
    since_s = np.broadcast_to(at_s, (len(LEADS), np.shape(at_s)[-1]))[..., None] - BEATS_S
    beat = sum(high * np.exp(-(((since_s - at) / wide) ** 2) / 2) for at, high, wide in WAVES)
    return np.linspace(0.5, 1.6, len(LEADS))[:, None] * beat.sum(-1)


def printed(signals_mv, fs_hz=FS_HZ):
    return printed_recording(signals_mv, fs_hz=fs_hz).signals_mv.astype(np.float64)


TIME_S = np.arange(5000) / FS_HZ
TRUTH_MV = printed(hearts_mv(TIME_S))


def noise_mv(sigma_mv=0.02):
    return sigma_mv * np.random.default_rng(0).standard_normal(TRUTH_MV.shape)


def figures(explanation):
    for value in dataclasses.asdict(explanation).values():
        yield from value.values() if isinstance(value, dict) else [value]


def worths(explanation):
    return {
        field.name: value.db
        for field in dataclasses.fields(Explanation)
        if isinstance(value := getattr(explanation, field.name), Worth)
    }


def test_scores_are_the_metrics():
    read_mv = TRUTH_MV + noise_mv()
    score = image_snr(TRUTH_MV, read_mv, fs_hz=FS_HZ)

    explanation = explain(TRUTH_MV, read_mv, fs_hz=FS_HZ)

    assert explanation.snr_db == score.snr_db
    assert explanation.snr_capped_db == score.snr_capped_db


def test_without_an_error_nothing_is_lost():
    explanation = explain(TRUTH_MV, TRUTH_MV, fs_hz=FS_HZ)

    assert np.isfinite(list(figures(explanation))).all()
    assert explanation.snr_db == DEFAULTS.most_db
    assert max(map(abs, worths(explanation).values())) < 1e-6
    assert explanation.gain == pytest.approx(1)
    assert explanation.qrs_share == 0
    assert explanation.late_ms == pytest.approx(0, abs=1e-9)
    assert explanation.second == pytest.approx(0, abs=1e-9)


def test_noise_can_hardly_be_undone():
    explanation = explain(TRUTH_MV, TRUTH_MV + noise_mv(), fs_hz=FS_HZ)

    rises = worths(explanation)
    assert rises.pop("own_worth") < 0.2  # fitted to the noise itself
    assert max(map(abs, rises.values())) < 0.1  # the best factor shrinks noise too


def test_gain():
    explanation = explain(TRUTH_MV, 1.1 * TRUTH_MV + noise_mv(), fs_hz=FS_HZ)

    ideal_db = image_snr(TRUTH_MV, TRUTH_MV + noise_mv() / 1.1, fs_hz=FS_HZ).snr_db
    assert explanation.gain == pytest.approx(1.1, abs=0.002)
    assert explanation.snr_db + explanation.gain_worth.db == pytest.approx(ideal_db, abs=0.1)
    assert explanation.snr_capped_db + explanation.gain_worth.capped_db <= 25.85


def test_slow_baseline():
    drift_mv = 0.1 * np.sin(2 * np.pi * 0.3 * TIME_S)

    explanation = explain(TRUTH_MV, TRUTH_MV + drift_mv + noise_mv(0.01), fs_hz=FS_HZ)

    ideal_db = image_snr(TRUTH_MV, TRUTH_MV + noise_mv(0.01), fs_hz=FS_HZ).snr_db
    assert explanation.slow_mv == pytest.approx(0.058, abs=0.015)  # less the leads' own means
    assert explanation.snr_db + explanation.slow_worth.db == pytest.approx(ideal_db, abs=0.8)
    assert explanation.slow_worth.db > 3
    assert explanation.qrs_share < 0.3


@pytest.mark.parametrize("late_ms", [0.9, -0.7])
def test_delay_of_less_than_half_a_sample(late_ms):
    read_mv = printed(hearts_mv(TIME_S - late_ms / 1e3)) + noise_mv(0.002)

    explanation = explain(TRUTH_MV, read_mv, fs_hz=FS_HZ)

    assert explanation.late_ms == pytest.approx(late_ms, abs=0.03)
    assert explanation.late_worth.db > 10
    assert explanation.first == pytest.approx(late_ms / 2, abs=0.05)  # a sample has 2 ms
    assert explanation.first_worth.db > 5
    assert explanation.shared_ms < 0.1
    assert explanation.qrs_share > 0.9


@pytest.mark.parametrize("late_ms", [1.0, 7.0])
def test_delay_counts_what_the_metric_forgives(late_ms):
    read_mv = printed(hearts_mv(TIME_S - late_ms / 1e3)) + noise_mv(0.002)

    explanation = explain(TRUTH_MV, read_mv, fs_hz=FS_HZ)

    assert explanation.late_ms == pytest.approx(late_ms, abs=0.03)
    assert explanation.late_worth.db > 3  # what left the windows at 7 ms does not come back


def wander_ms(at_s):
    return 1.5 * np.sin(2 * np.pi * at_s / 5)


def test_wander_of_all_rows_is_found_from_the_others():
    read_mv = printed(hearts_mv(TIME_S - wander_ms(TIME_S) / 1e3)) + noise_mv(0.01)

    explanation = explain(TRUTH_MV, read_mv, fs_hz=FS_HZ)

    assert explanation.shared_ms == pytest.approx(1.06, abs=0.15)
    assert explanation.own_ms == pytest.approx(1.06, abs=0.15)
    assert explanation.shared_worth.db > 3
    assert explanation.own_worth.db > explanation.shared_worth.db - 0.1
    assert abs(explanation.late_ms) < 0.5  # the mean at the beats


def test_wander_of_one_row_is_no_others():
    of_row = [LEADS.index(lead) for lead in ("I", "aVR", "V1", "V4")]
    shifts_ms = np.zeros((len(LEADS), TIME_S.size))
    shifts_ms[of_row] = wander_ms(TIME_S)
    read_mv = printed(hearts_mv(TIME_S - shifts_ms / 1e3)) + noise_mv(0.01)

    explanation = explain(TRUTH_MV, read_mv, fs_hz=FS_HZ)

    assert explanation.own_worth.db > 1
    assert explanation.shared_worth.db < 0


@pytest.mark.parametrize(("fs_hz", "tolerance"), [(500, 0.1), (250, 0.1)])
def test_blur_has_a_negative_second_coefficient(fs_hz, tolerance):
    sigma_s = 0.002  # one sample at 500 Hz
    narrow = hearts_mv(np.arange(round(10 * fs_hz)) / fs_hz)
    fine_s = np.arange(50_000) / 5000
    kernel = np.exp(-((np.arange(-60, 61) / 5000 / sigma_s) ** 2) / 2)
    kernel /= kernel.sum()
    blurred = np.array([np.convolve(lead, kernel, "same") for lead in hearts_mv(fine_s)])
    read_mv = printed(blurred[:, :: 5000 // fs_hz], fs_hz)

    explanation = explain(printed(narrow, fs_hz), read_mv, fs_hz=fs_hz)

    assert explanation.second == pytest.approx(-0.5, abs=tolerance)
    assert explanation.second_worth.db > 10
    assert explanation.first == pytest.approx(0, abs=0.02)
    assert explanation.gain < 1  # tips come short


def test_what_was_not_read_stays_lost():
    read_mv = 1.05 * TRUTH_MV + noise_mv()
    read_mv[LEADS.index("V1"), 2500:3000] = np.nan
    read_mv[LEADS.index("V6")] = np.nan

    explanation = explain(TRUTH_MV, read_mv, fs_hz=FS_HZ)

    assert np.isfinite(list(figures(explanation))).all()
    assert explanation.snr_db == image_snr(TRUTH_MV, read_mv, fs_hz=FS_HZ).snr_db
    assert 0 <= explanation.gain_worth.db < 0.2
    assert explanation.gain == pytest.approx(1.05, abs=0.01)


@pytest.mark.parametrize("read_mv", [np.full_like(TRUTH_MV, np.nan), np.zeros_like(TRUTH_MV)])
def test_an_empty_page(read_mv):
    explanation = explain(TRUTH_MV, read_mv, fs_hz=FS_HZ)

    assert np.isfinite(list(figures(explanation))).all()
    assert explanation.late_worth.db == pytest.approx(0, abs=0.01)


def test_a_flat_or_partial_truth():
    alone_mv = np.full_like(TRUTH_MV, np.nan)
    alone_mv[LEADS.index("V2"), 10:400] = TRUTH_MV[LEADS.index("II"), 10:400]
    for truth_mv in (0 * TRUTH_MV, alone_mv):
        explanation = explain(truth_mv, truth_mv + noise_mv(), fs_hz=FS_HZ)
        assert np.isfinite(list(figures(explanation))).all()


def test_unusable_arrays():
    with pytest.raises(ValueError, match="same sampling rate"):
        explain(TRUTH_MV, TRUTH_MV[:, ::2], fs_hz=FS_HZ)
    with pytest.raises(ValueError, match="finite samples"):
        explain(np.nan * TRUTH_MV, TRUTH_MV, fs_hz=FS_HZ)


def test_mean():
    one = explain(TRUTH_MV, TRUTH_MV + noise_mv(), fs_hz=FS_HZ)
    other = explain(TRUTH_MV, 1.1 * TRUTH_MV, fs_hz=FS_HZ)

    both = mean([one, other])

    assert both.gain == pytest.approx((one.gain + other.gain) / 2)
    assert both.gain_worth.db == pytest.approx((one.gain_worth.db + other.gain_worth.db) / 2)
    assert mean([one]) == one
