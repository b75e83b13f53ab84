import numpy as np
import pytest

from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.metrics import competition_score, image_snr, of_length

FS_HZ = 250


def ecg_like(seed=0, n=10 * FS_HZ):
    """Twelve band-limited leads with a beat's power, about 0.3 mV RMS, NaN outside windows."""
    rng = np.random.default_rng(seed)
    spectrum = rng.standard_normal((12, n // 2 + 1)) + 1j * rng.standard_normal((12, n // 2 + 1))
    frequency_hz = np.fft.rfftfreq(n, 1 / FS_HZ)
    spectrum *= frequency_hz * np.exp(-frequency_hz / 6)
    signals_mv = np.fft.irfft(spectrum, n)
    signals_mv *= 0.3 / signals_mv.std()
    for index, lead in enumerate(LEADS):
        start, stop = COMPETITION.window(lead, n)
        signals_mv[index, :start] = np.nan
        signals_mv[index, stop:] = np.nan
    return signals_mv


def moved_right(signals_mv, lag):
    """Shift each lead inside its window, holding its end."""
    moved = signals_mv.copy()
    for row in moved:
        window = np.flatnonzero(np.isfinite(row))
        row[window] = row[np.clip(window - lag, window[0], window[-1])]
    return moved


def noisy(truth, sigma_mv, seed=1):
    return truth + sigma_mv * np.random.default_rng(seed).standard_normal(truth.shape)


# The values of the public metric's own example: one image at 1 Hz, II twelve samples, others three.
REFERENCE = {
    "I": (0.1, 0.3, 0.4),
    "III": (0.6, 0.6, 0.4),
    "aVR": (0.2, 0.3, 0.4),
    "aVL": (0.5, 0.2, 0.7),
    "aVF": (0.2, 0.3, 0.4),
    "V1": (0.8, 0.6, 0.7),
    "V2": (0.2, 0.3, -0.1),
    "V3": (0.5, 0.6, 0.7),
    "V4": (0.2, 0.9, 0.4),
    "V5": (0.5, 0.6, 0.7),
    "V6": (0.1, 0.3, 0.4),
    "II": (0.6, 0.6, 0.4, 0.2, 0.3, 0.4, 0.5, 0.2, 0.7, 0.2, 0.3, 0.4),
}


def reference_image():
    table = np.full((12, 12), np.nan)
    for lead, values in REFERENCE.items():
        table[LEADS.index(lead), : len(values)] = values
    return table


def score_at_1_hz(truth, predicted):
    return round(competition_score([image_snr(truth, predicted, fs_hz=1).ratio]), 4)


def test_regression_values_of_the_public_metric():
    truth = reference_image()
    predicted = reference_image()
    assert score_at_1_hz(truth, predicted) == 25.8433
    predicted[LEADS.index("I"), 0] = 0.9
    assert score_at_1_hz(truth, predicted) == 13.6291
    predicted[LEADS.index("III"), 1] = 0.3
    assert score_at_1_hz(truth, predicted) == 13.0576
    flat = np.where(np.isfinite(truth), 0.0, np.nan)
    assert score_at_1_hz(flat, predicted) == -384
    assert score_at_1_hz(flat, flat) == 25.8433


def test_a_constant_offset_of_each_lead_is_free():
    truth = ecg_like()
    offsets_mv = np.linspace(-2, 2, 12)[:, None]
    score = image_snr(truth, truth + offsets_mv, fs_hz=FS_HZ)
    assert score.ratio == 384
    assert score.snr_db > 200
    assert score.rmse_mv < 1e-9
    assert all(lead.lag_samples == 0 for lead in score.leads.values())


def test_gain_is_not_free():
    truth = ecg_like()
    score = image_snr(truth, 0.98 * truth, fs_hz=FS_HZ)
    assert score.snr_db == pytest.approx(-20 * np.log10(0.02), abs=0.05)  # 33.98 dB
    assert score.pearson == pytest.approx(1.0)


def ratio_by_definition(truth, predicted, reach):
    """The metric as its definition reads: every lag by hand, the offset by least squares."""
    signal = noise = 0.0
    for y_all, p_all in zip(truth, predicted, strict=True):
        y, p = (row[np.isfinite(y_all)] for row in (y_all, p_all))
        samples = range(len(y))

        def pairs(lag, samples=samples):
            return [(n, n - lag) for n in samples if n - lag in samples]

        def agreement(lag, y=y, p=p, pairs=pairs):
            return sum((y[n] - y.mean()) * (p[m] - p.mean()) for n, m in pairs(lag))

        overlap = pairs(max(range(-reach, reach + 1), key=agreement))
        offset = np.mean([p[m] - y[n] for n, m in overlap])
        aligned = dict.fromkeys(samples, 0.0) | {n: p[m] - offset for n, m in overlap}
        signal += sum(value**2 for value in y)
        noise += sum((y[n] - aligned[n]) ** 2 for n in samples)
    return min(signal / noise, 384)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_definition_written_out(seed):
    rng = np.random.default_rng(seed)
    truth = np.cumsum(rng.standard_normal((12, 40)), axis=1)
    truth[:6, 13:] = np.nan
    predicted = np.roll(truth, seed - 2, axis=1) + 0.5 * rng.standard_normal((12, 40)) + 3
    predicted = np.where(np.isfinite(predicted), predicted, 1.0)
    expected = ratio_by_definition(truth, predicted, reach=3)
    assert image_snr(truth, predicted, fs_hz=15).ratio == pytest.approx(expected)


@pytest.mark.parametrize("lag", [-50, -7, 1, 50])
def test_a_shift_of_up_to_a_fifth_of_a_second_is_found(lag):
    truth = ecg_like()
    score = image_snr(truth, moved_right(truth, lag), fs_hz=FS_HZ)
    assert {lead.lag_samples for lead in score.leads.values()} == {-lag}
    assert score.pearson > 0.999  # over the overlap
    # The samples that the shift brought in cost their power.
    lost = sum(
        np.nansum(
            row[np.isfinite(row)][-lag:] ** 2 if lag > 0 else row[np.isfinite(row)][:-lag] ** 2
        )
        for row in truth
    )
    assert score.snr_db == pytest.approx(10 * np.log10(np.nansum(truth**2) / lost), abs=0.05)


def test_a_larger_shift_is_not_found():
    truth = ecg_like()
    score = image_snr(truth, moved_right(truth, 60), fs_hz=FS_HZ)
    assert score.snr_db < 5


def test_all_zeros_score_what_removing_the_mean_gains():
    truth = ecg_like() + 0.05
    score = image_snr(truth, np.zeros_like(truth), fs_hz=FS_HZ)
    means = np.nanmean(truth, axis=1, keepdims=True)
    expected = np.nansum(truth**2) / np.nansum((truth - means) ** 2)
    assert score.ratio == pytest.approx(expected)
    assert score.pearson == 0


def test_noise_of_known_power_and_the_cap():
    truth = ecg_like()
    loud = image_snr(truth, noisy(truth, 0.03), fs_hz=FS_HZ)
    assert loud.snr_db == pytest.approx(20, abs=0.6)
    assert loud.snr_capped_db == loud.snr_db
    assert loud.rmse_mv == pytest.approx(0.03, rel=0.05)
    quiet = image_snr(truth, noisy(truth, 0.003), fs_hz=FS_HZ)
    assert quiet.snr_db == pytest.approx(40, abs=0.6)
    assert quiet.snr_capped_db == pytest.approx(25.8433, abs=1e-4)
    uncapped = image_snr(truth, noisy(truth, 0.003), fs_hz=FS_HZ, cap_ratio=None)
    assert uncapped.snr_capped_db == uncapped.snr_db == quiet.snr_db
    assert image_snr(truth, truth, fs_hz=FS_HZ, cap_ratio=None).ratio == np.inf


def test_only_the_samples_in_the_windows_of_the_truth_count():
    truth = ecg_like()
    predicted = noisy(truth, 0.03)
    everywhere = np.where(np.isfinite(truth), predicted, 1e6)
    assert image_snr(truth, everywhere, fs_hz=FS_HZ) == image_snr(truth, predicted, fs_hz=FS_HZ)


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_lost_samples_count_as_zero(lost):
    truth = ecg_like()
    predicted = truth.copy()
    predicted[LEADS.index("V1")] = lost
    gap = slice(100, 200)
    predicted[LEADS.index("II"), gap] = lost
    score = image_snr(truth, predicted, fs_hz=FS_HZ)
    noise = np.nansum(truth[LEADS.index("V1")] ** 2) + np.sum(truth[LEADS.index("II"), gap] ** 2)
    assert score.snr_db == pytest.approx(10 * np.log10(np.nansum(truth**2) / noise))
    assert score.leads["V1"].pearson == 0
    assert score.leads["V1"].snr_db == 0


def test_leads_without_truth_are_left_out():
    truth = ecg_like()
    truth[LEADS.index("aVF")] = np.nan
    score = image_snr(truth, ecg_like(), fs_hz=FS_HZ)
    assert set(score.leads) == set(LEADS) - {"aVF"}
    with pytest.raises(ValueError, match="at least one lead"):
        image_snr(np.full((12, 100), np.nan), np.zeros((12, 100)), fs_hz=10)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(12, n\).*\(12, 2500\) and \(12, 5000\)"):
        image_snr(ecg_like(), np.zeros((12, 5000)), fs_hz=FS_HZ)


def test_images_are_averaged_as_linear_ratios():
    assert competition_score([1.0, 199.0]) == pytest.approx(20.0)
    assert competition_score([0.0]) == -384
    assert competition_score([float("inf"), 1.0]) == float("inf")
    with pytest.raises(ValueError, match="at least one"):
        competition_score([])


def test_signals_are_cut_or_continued_with_nothing():
    signals_mv = np.ones((12, 4), np.float32)
    np.testing.assert_array_equal(of_length(signals_mv, 3), np.ones((12, 3)))
    longer = of_length(signals_mv, 6)
    assert np.isfinite(longer).sum(axis=1).tolist() == [4] * 12
    assert np.isnan(longer[:, 4:]).all()
