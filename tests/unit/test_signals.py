from dataclasses import replace

import numpy as np
import pytest

from ecg_digitize.alignment import einthoven_residual_mv
from ecg_digitize.errors import InputError
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.metrics import image_snr
from ecg_digitize.signals import (
    find_rhythm,
    fuse_rows,
    printed_recording,
    resample_window,
    rows_from_signals,
    rows_from_trace,
    to_recording,
)
from ecg_digitize.synth.signals import to_twelve
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.types import Recording, Trace

STRIP_ROW = 3
RATES_HZ = (100, 250, 256, 500, 512, 1000, 1025)


def trace_of(rows_mv, confidence=None):
    y_px = np.array(COMPETITION.zero_px)[:, None] - COMPETITION.px_per_mv * rows_mv
    if confidence is None:
        confidence = np.ones(rows_mv.shape)
    return Trace(y_px.astype(np.float32), confidence.astype(np.float32))


def twelve_leads(seed=0, low_hz=1.0, high_hz=30.0):
    """Twelve full-length leads at 500 Hz that obey Einthoven and Goldberger, 0.3 mV RMS or so."""
    rng = np.random.default_rng(seed)
    spectrum = rng.standard_normal((8, 2501)) + 1j * rng.standard_normal((8, 2501))
    frequency_hz = np.fft.rfftfreq(5000, 1 / 500)
    spectrum *= (frequency_hz >= low_hz) & (frequency_hz <= high_hz)
    free = np.fft.irfft(spectrum, 5000)
    free *= 0.3 / free.std()
    i, ii = free[:2]
    return np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2, *free[2:]])


def test_500_hz_is_the_identity():
    signals_mv = twelve_leads()
    trace = trace_of(rows_from_signals(signals_mv))
    recording = to_recording(trace, fs_hz=500)
    truth = printed_recording(signals_mv, fs_hz=500)
    np.testing.assert_array_equal(np.isfinite(recording.signals_mv), np.isfinite(truth.signals_mv))
    np.testing.assert_allclose(recording.signals_mv, truth.signals_mv, atol=2e-6)
    rows_mv = rows_from_trace(trace).astype(np.float32)
    np.testing.assert_array_equal(recording.signals_mv[LEADS.index("II")], rows_mv[STRIP_ROW])
    np.testing.assert_array_equal(
        recording.signals_mv[LEADS.index("aVL"), 1250:2500], rows_mv[1, 1250:2500]
    )


@pytest.mark.parametrize("fs_hz", RATES_HZ)
@pytest.mark.parametrize("frequency_hz", [1.3, 11.0, 39.0])
def test_sinusoids_keep_phase_and_amplitude(fs_hz, frequency_hz):
    omega = 2 * np.pi * frequency_hz
    t_s = np.arange(5000) / 500
    rows_mv = np.tile(np.sin(omega * t_s + 0.4), (4, 1))
    recording = to_recording(trace_of(rows_mv), fs_hz=fs_hz)
    n_total = 10 * fs_hz
    assert recording.signals_mv.shape == (12, n_total)
    for lead in LEADS:
        start, stop = COMPETITION.window(lead, n_total)
        got = recording.signals_mv[LEADS.index(lead)]
        assert np.isfinite(got[start:stop]).all()
        assert np.isnan(got[:start]).all()
        assert np.isnan(got[stop:]).all()
        at_s = np.arange(start, stop) / fs_hz
        error = got[start:stop] - np.sin(omega * at_s + 0.4)
        inner = slice(fs_hz // 4, -(fs_hz // 4))
        assert np.abs(error[inner]).max() < 2e-3
        # Nothing is known of what follows the end; the odd reflection is off by little.
        assert np.abs(error).max() < 0.06
        basis = np.stack([np.sin(omega * at_s + 0.4), np.cos(omega * at_s + 0.4)], axis=1)
        in_phase, quadrature = np.linalg.lstsq(basis, got[start:stop], rcond=None)[0]
        delay_samples = np.arctan2(quadrature, in_phase) / omega * fs_hz
        assert abs(delay_samples) < 0.02
        assert in_phase == pytest.approx(1, abs=2e-3)


def test_nothing_rings_at_the_jump_between_leads():
    rows_mv = np.repeat(np.array([[0.0, 1.0, -2.0, 3.0]]), 1250, axis=1).repeat(4, axis=0)
    recording = to_recording(trace_of(rows_mv), fs_hz=1025)
    for lead, level in (("I", 0), ("aVR", 1), ("V1", -2), ("V4", 3), ("V6", 3)):
        start, stop = COMPETITION.window(lead, 10250)
        np.testing.assert_allclose(
            recording.signals_mv[LEADS.index(lead), start:stop], level, atol=1e-6
        )


def test_1025_hz_windows_follow_the_competition():
    trace = trace_of(rows_from_signals(twelve_leads()))
    known = np.isfinite(to_recording(trace, fs_hz=1025).signals_mv)
    windows = {(int(row.argmax()), int(row.sum())) for row in known}
    assert windows == {(0, 10250), (0, 2562), (2562, 2563), (5125, 2562), (7687, 2563)}

    lengths = dict.fromkeys(LEADS, 10 * 1025 // 4) | {"II": 10250}
    asked = to_recording(trace, fs_hz=1025, lengths=lengths)
    counts = dict(zip(LEADS, np.isfinite(asked.signals_mv).sum(axis=1), strict=True))
    assert counts == lengths


@pytest.mark.parametrize("fs_hz", [100, 250])
def test_a_page_drawn_from_samples_gives_the_samples_back(fs_hz):
    """Corners and all: the trace columns lie on straight lines from sample to sample."""
    samples_mv = np.random.default_rng(0).normal(size=10 * fs_hz)
    drawn_mv = np.interp(np.arange(5000) / 500, np.arange(10 * fs_hz) / fs_hz, samples_mv)
    signals_mv = to_recording(trace_of(np.tile(drawn_mv, (4, 1))), fs_hz=fs_hz).signals_mv
    np.testing.assert_allclose(signals_mv[LEADS.index("II")], samples_mv, atol=1e-5)


@pytest.mark.parametrize("fs_hz", RATES_HZ)
def test_round_trip_scores_far_above_the_cap(fs_hz):
    signals_mv = twelve_leads()
    n_total = 10 * fs_hz
    # The sum of sines is periodic in 10 s, so that its spectrum gives any rate exactly.
    spectrum = np.fft.rfft(signals_mv) * (n_total / 5000)
    truth = printed_recording(np.fft.irfft(spectrum[:, : n_total // 2 + 1], n_total), fs_hz=fs_hz)
    recording = to_recording(trace_of(rows_from_signals(signals_mv)), fs_hz=fs_hz)
    score = image_snr(truth.signals_mv, recording.signals_mv, fs_hz=fs_hz)
    assert score.snr_db > 45
    assert {lead.lag_samples for lead in score.leads.values()} == {0}


def test_resampling_reaches_a_little_beyond_the_ends():
    ramp = np.arange(100.0)
    got = resample_window(ramp, first=-0.5, step=0.5, count=201)
    np.testing.assert_allclose(got, np.arange(-0.5, 100, 0.5), atol=1e-6)


def test_unusable_requests_say_what_to_do():
    trace = trace_of(np.zeros((4, 5000)))
    with pytest.raises(InputError, match=r"lead V6.*test\.csv"):
        to_recording(trace, fs_hz=500, lengths=dict.fromkeys(LEADS[:-1], 1250) | {"II": 5000})
    with pytest.raises(InputError, match=r"lead aVR starts at sample 1250.*at most 3750"):
        to_recording(trace, fs_hz=500, lengths=dict.fromkeys(LEADS, 5000))
    with pytest.raises(InputError, match="fs_hz must be a positive number"):
        to_recording(trace, fs_hz=0)


def test_rows_and_windows_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(12, 5000\), but got \(12, 2500\)"):
        rows_from_signals(np.zeros((12, 2500)))
    with pytest.raises(ValueError, match="finite"):
        rows_from_signals(printed_recording(np.full((12, 5000), np.nan), fs_hz=500).signals_mv)
    with pytest.raises(ValueError, match=r"\(12, 2500\)"):
        printed_recording(np.zeros((12, 5000)), fs_hz=250)


def with_strip(signals_mv, lead):
    """Return the printed rows with another lead in the rhythm strip."""
    rows_mv = rows_from_signals(signals_mv)
    rows_mv[STRIP_ROW] = signals_mv[LEADS.index(lead)]
    return rows_mv + 0.03 * np.random.default_rng(2).standard_normal(rows_mv.shape)


@pytest.mark.parametrize("lead", ["II", "V1", "V5"])
def test_the_strip_is_the_lead_that_it_repeats(lead):
    signals_mv = twelve_leads()
    trace = trace_of(with_strip(signals_mv, lead))

    assert find_rhythm(trace) == lead
    known = replace(trace, layout=COMPETITION.with_strip(lead))
    recording = to_recording(known, fs_hz=500, fusion=True)

    assert recording.rhythm == lead
    finite = np.isfinite(recording.signals_mv).sum(axis=1)
    assert dict(zip(LEADS, finite, strict=True)) == dict.fromkeys(LEADS, 1250) | {lead: 5000}
    off_mv = recording.signals_mv - signals_mv
    assert np.nanstd(off_mv) == pytest.approx(0.03, rel=0.2)


def test_the_strip_is_ii_where_the_short_ii_or_the_strip_was_not_seen():
    signals_mv = twelve_leads()
    signals_mv[LEADS.index("V5")] = 1.1 * signals_mv[LEADS.index("II")]  # as like as they may be
    rows_mv = with_strip(signals_mv, "II")
    rows_mv[1, :1250] = 0.0
    lost = np.ones(rows_mv.shape)
    lost[1, :1250] = 0.0
    assert find_rhythm(trace_of(rows_mv, lost)) == "II"

    rows_mv = with_strip(signals_mv, "II")
    rows_mv[3] = rows_mv[0, 2500:3750] = 0.0  # no strip, and an electrode was off
    assert find_rhythm(trace_of(rows_mv)) == "II"

    lost = np.ones(rows_mv.shape)
    lost[STRIP_ROW, 400:] = 0.0
    assert find_rhythm(trace_of(rows_mv, lost)) is None


def test_the_strip_may_be_a_lead_that_looks_like_ii():
    signals_mv = 4 * twelve_leads()
    second = signals_mv[LEADS.index("II")]
    signals_mv[LEADS.index("III")] = 0.5 * second
    rows_mv = with_strip(signals_mv, "III")
    assert find_rhythm(trace_of(rows_mv)) == "III"
    rows_mv[STRIP_ROW] = 0.7 * second  # nearer to II and to III than to any other
    assert find_rhythm(trace_of(rows_mv)) == "II"


def test_the_strip_may_be_printed_askew():
    rows_mv = with_strip(twelve_leads(), "V1")
    rows_mv[STRIP_ROW] = np.roll(rows_mv[STRIP_ROW], 12)
    assert find_rhythm(trace_of(rows_mv)) == "V1"


def test_a_sheet_without_a_strip_has_twelve_short_leads():
    signals_mv = twelve_leads()
    trace = trace_of(with_strip(signals_mv, "V1"))
    trace = replace(trace, layout=COMPETITION.with_strip(None))

    recording = to_recording(trace, fs_hz=250, fusion=True)

    assert recording.rhythm is None
    assert recording.signals_mv.shape == (12, 2500)
    assert set(np.isfinite(recording.signals_mv).sum(axis=1)) == {625}


@pytest.mark.parametrize("fs_hz", [250, 500, 1000])
def test_what_the_picture_does_not_show_is_not_there(fs_hz):
    trace = trace_of(rows_from_signals(twelve_leads()))
    shown = np.ones((4, 5000), bool)
    shown[0, 3000:] = shown[3, 4000:] = False  # within V1, and the end of the strip

    signals_mv = to_recording(replace(trace, shown=shown), fs_hz=fs_hz).signals_mv

    seconds = dict(zip(LEADS, np.isfinite(signals_mv).sum(axis=1) / fs_hz, strict=True))
    want = dict.fromkeys(LEADS, 2.5) | {"II": 8.0, "V1": 1.0, "V4": 0.0}
    assert seconds == pytest.approx(want, abs=0.0011)


def test_limb_leads_are_not_blended_with_a_strip_of_another_lead():
    signals_mv = to_twelve(SimulatorSource(seed=5).get(4))
    layout = COMPETITION.with_strip("V1")
    trace = replace(trace_of(rows_from_signals(signals_mv, layout=layout)), layout=layout)

    fused = to_recording(trace, fs_hz=500, fusion=True)

    truth = printed_recording(signals_mv, fs_hz=500, layout=layout)
    np.testing.assert_allclose(fused.signals_mv, truth.signals_mv, atol=1e-5)


def test_a_strip_that_repeats_nothing_is_what_the_layout_says():
    rows_mv = rows_from_signals(twelve_leads())
    rows_mv[STRIP_ROW] = twelve_leads(seed=9)[4]
    assert find_rhythm(trace_of(rows_mv)) == "II"
    assert find_rhythm(trace_of(rows_mv), otherwise=None) is None
    assert find_rhythm(trace_of(np.zeros((4, 5000)))) == "II"


def test_a_recording_names_a_lead_as_its_strip():
    recording = Recording(np.zeros((12, 10), np.float32), 1.0, COMPETITION.with_strip("V5"))
    assert recording.rhythm == "V5"
    with pytest.raises(ValueError, match="no leads are called V7"):
        COMPETITION.with_strip("V7")


def error_power(rows_mv, true_mv):
    """Squared error by row and window, offsets removed."""
    error = (rows_mv - true_mv).reshape(4, 4, 1250)
    return np.sum((error - error.mean(axis=2, keepdims=True)) ** 2, axis=2)


def test_fusion_improves_noisy_leads_that_agree():
    true_mv = rows_from_signals(twelve_leads())
    rng = np.random.default_rng(5)
    offsets_mv = np.repeat(rng.uniform(-0.2, 0.2, (4, 4)), 1250, axis=1)
    noisy_mv = true_mv + offsets_mv + 0.02 * rng.standard_normal(true_mv.shape)
    fused_mv = fuse_rows(noisy_mv, np.ones((4, 5000), np.float32))
    gain = error_power(noisy_mv, true_mv) / error_power(fused_mv, true_mv)
    assert gain.shape == (4, 4)
    # Four rows carry two free leads: half of the noise power goes.
    np.testing.assert_allclose(gain[[0, 2, 3], 0], [1 / 0.6, 1 / 0.6, 1 / 0.4], rtol=0.1)
    assert (gain[:, 1] > 1.3).all()
    np.testing.assert_array_equal(fused_mv[:, 2500:], noisy_mv[:, 2500:])
    np.testing.assert_allclose((fused_mv - noisy_mv).reshape(4, 4, 1250).mean(axis=2), 0, atol=2e-3)


def test_fusion_leaves_consistent_leads_and_disagreeing_ones_alone():
    confidence = np.ones((4, 5000), np.float32)
    true_mv = rows_from_signals(twelve_leads())
    np.testing.assert_allclose(fuse_rows(true_mv, confidence), true_mv, atol=1e-12)
    wrong_mv = true_mv.copy()
    wrong_mv[2, :1250] = np.roll(wrong_mv[2, :1250], 300)  # III lost its trace, aVF did not
    noisy_mv = wrong_mv + 0.02 * np.random.default_rng(6).standard_normal(wrong_mv.shape)
    fused_mv = fuse_rows(noisy_mv, confidence)
    np.testing.assert_array_equal(fused_mv[:, :1250], noisy_mv[:, :1250])
    assert (fused_mv[:, 1250:2500] != noisy_mv[:, 1250:2500]).any()


def test_fusion_fills_a_gap_from_the_leads_that_are_sure():
    true_mv = rows_from_signals(twelve_leads())
    confidence = np.ones((4, 5000), np.float32)
    rows_mv = true_mv.copy()
    rows_mv[0, 400:600] = rows_mv[0, 400]  # I is covered by a stain
    confidence[0, 400:600] = 0
    fused_mv = fuse_rows(rows_mv, confidence)
    before, after = error_power(rows_mv, true_mv)[:, 0], error_power(fused_mv, true_mv)[:, 0]
    assert after[0] < before[0] / 1000
    assert (after[1:] < before[0] / 1000).all()


def test_one_lost_beat_stays_where_it_was_lost():
    true_mv = rows_from_signals(twelve_leads())
    noisy_mv = true_mv + 0.01 * np.random.default_rng(8).standard_normal(true_mv.shape)
    noisy_mv[2, 300:400] += 1.0  # III followed another line, and looked sure
    fused_mv = fuse_rows(noisy_mv, np.ones((4, 5000), np.float32))
    np.testing.assert_array_equal(fused_mv[:, 310:390], noisy_mv[:, 310:390])
    calm = np.r_[0:200, 500:1250]
    before, after = ((rows - true_mv)[0, calm].var() for rows in (noisy_mv, fused_mv))
    assert after < 0.75 * before


def test_fusion_does_not_judge_by_what_was_filled_in():
    rows_mv = rows_from_signals(twelve_leads())
    confidence = np.ones((4, 5000), np.float32)
    confidence[3, :800] = 0
    np.testing.assert_array_equal(fuse_rows(rows_mv, confidence)[:, :1250], rows_mv[:, :1250])


def test_fusion_is_a_switch():
    signals_mv = twelve_leads()
    rows_mv = rows_from_signals(signals_mv)
    noisy_mv = rows_mv + 0.02 * np.random.default_rng(7).standard_normal(rows_mv.shape)
    truth_mv = printed_recording(signals_mv, fs_hz=500).signals_mv
    plain = to_recording(trace_of(noisy_mv), fs_hz=500).signals_mv
    fused = to_recording(trace_of(noisy_mv), fs_hz=500, fusion=True).signals_mv
    assert einthoven_residual_mv(plain, remove_offset=True) > 0.02
    assert einthoven_residual_mv(fused, remove_offset=True) < 1e-5
    gain_db = (
        image_snr(truth_mv, fused, fs_hz=500).snr_db - image_snr(truth_mv, plain, fs_hz=500).snr_db
    )
    assert gain_db > 0.5
