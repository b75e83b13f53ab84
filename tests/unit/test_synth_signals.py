import pickle
from pathlib import Path

import numpy as np
import pytest

from ecg_digitize.errors import InputError
from ecg_digitize.layout import LEADS
from ecg_digitize.synth.signals import (
    LEADS_8,
    BankSource,
    SignalSource,
    WfdbSource,
    augment,
    open_source,
    to_twelve,
)
from ecg_digitize.synth.simulator import SimulatorSource

BANK = Path(__file__).parents[2].parent / "shared" / "data" / "signals" / "bank_500hz_8lead.npz"
needs_bank = pytest.mark.skipif(not BANK.is_file(), reason=f"signal bank not found at {BANK}")
N_SIMULATED = 40


@pytest.fixture(scope="module")
def simulated() -> np.ndarray:
    source = SimulatorSource(seed=7)
    return np.stack([source.get(k) for k in range(N_SIMULATED)])


@pytest.fixture
def small_bank(tmp_path: Path) -> Path:
    """Five windows, the last two held out; large swings make the int16 deltas wrap around."""
    uv = np.random.default_rng(0).integers(-30000, 30000, (5, 8, 5000)).astype(np.int16)
    path = tmp_path / "bank.npz"
    np.savez(
        path,
        delta_uv=np.diff(uv, axis=2, prepend=np.int16(0)),
        uv=uv,
        ids=np.array([f"r{k}" for k in range(5)]),
        validation=np.array([False, False, False, True, True]),
    )
    return path


def beats_per_minute(lead_mv: np.ndarray) -> float:
    """Rate from the autocorrelation of the slope, for regular rhythms."""
    slope = np.convolve(np.abs(np.diff(lead_mv)), np.ones(40), mode="same")
    slope -= slope.mean()
    spectrum = np.abs(np.fft.rfft(slope, 2 * len(slope))) ** 2
    lags = np.fft.irfft(spectrum)[150:800]
    return float(60 * 500 / (150 + np.argmax(lags)))


def test_to_twelve_obeys_einthoven_and_goldberger(simulated: np.ndarray) -> None:
    twelve = to_twelve(simulated[0])
    lead = dict(zip(LEADS, twelve, strict=True))
    assert twelve.shape == (12, 5000)
    assert twelve.dtype == np.float32
    np.testing.assert_array_equal(lead["III"], lead["II"] - lead["I"])
    np.testing.assert_allclose(lead["aVR"] + lead["aVL"] + lead["aVF"], 0, atol=2e-6)
    np.testing.assert_allclose(lead["aVL"], (lead["I"] - lead["III"]) / 2, atol=2e-6)
    np.testing.assert_allclose(lead["aVF"], (lead["II"] + lead["III"]) / 2, atol=2e-6)
    for k, name in enumerate(LEADS_8):
        np.testing.assert_array_equal(lead[name], simulated[0, k])


def test_simulator_is_a_pure_function_of_seed_stream_and_index(simulated: np.ndarray) -> None:
    again = pickle.loads(pickle.dumps(SimulatorSource(seed=7)))
    np.testing.assert_array_equal(again.get(5), simulated[5])
    assert not np.array_equal(again.get(6), simulated[5])
    assert not np.array_equal(SimulatorSource(seed=8).get(5), simulated[5])
    assert not np.array_equal(SimulatorSource(seed=7, validation=True).get(5), simulated[5])


def test_simulator_looks_like_real_records(simulated: np.ndarray) -> None:
    assert simulated.shape == (N_SIMULATED, 8, 5000)
    assert simulated.dtype == np.float32
    assert np.isfinite(simulated).all()
    assert np.abs(simulated).max() < 6
    # Medians of 1,088 real windows: sd 0.16-0.34 mV a lead, steepest slope 90-180 mV/s.
    sd_mv = np.median(simulated.std(axis=2), axis=0)
    assert ((sd_mv > 0.06) & (sd_mv < 0.5)).all()
    slope_mv_s = np.median(np.abs(np.diff(simulated)).max(axis=2) * 500, axis=0)
    assert ((slope_mv_s > 40) & (slope_mv_s < 300)).all()
    # V1 goes down and V5 goes up in most people.
    assert (
        np.median(simulated[:, 2].min(axis=1)) < -0.5 < 0.7 < np.median(simulated[:, 6].max(axis=1))
    )


def test_bank_undoes_the_deltas_and_splits(small_bank: Path) -> None:
    uv = np.load(small_bank)["uv"]
    train, held_out = BankSource(small_bank), BankSource(small_bank, validation=True)
    assert (len(train), len(held_out)) == (3, 2)
    np.testing.assert_array_equal(train.get(1), uv[1].astype(np.float32) / np.float32(1000))
    np.testing.assert_array_equal(held_out.get(0), uv[3].astype(np.float32) / np.float32(1000))
    assert held_out.ids == ("r3", "r4")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(train)).get(2), train.get(2))
    with pytest.raises(IndexError):
        train.get(3)


def test_a_bank_goes_to_other_processes_as_its_name(small_bank: Path) -> None:
    held_out = BankSource(small_bank, validation=True)

    sent = pickle.dumps(held_out)
    there = pickle.loads(sent)

    assert len(sent) < 1000
    assert there.name == held_out.name
    assert there.ids == held_out.ids
    np.testing.assert_array_equal(there.get(0), held_out.get(0))


def test_bank_names_the_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz: expected a signal bank"):
        BankSource(tmp_path / "none.npz")
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, delta_uv=np.zeros((1, 8, 10), np.int16), ids=["a"], validation=[False])
    with pytest.raises(InputError, match=r"must be \(n, 8, 5000\), but got \(1, 8, 10\)"):
        BankSource(wrong)


@needs_bank
def test_real_bank_never_mixes_training_and_validation() -> None:
    train, held_out = (open_source(f"bank:{BANK}", validation=v) for v in (False, True))
    assert isinstance(train, BankSource)
    assert isinstance(held_out, BankSource)
    assert not set(train.ids) & set(held_out.ids)
    assert (len(train), len(held_out)) == (1015, 73)
    assert np.isfinite(train.get(0)).all()
    assert 0.02 < train.get(0).std() < 1


def test_augment_is_a_pure_function_of_the_generator(simulated: np.ndarray) -> None:
    before = simulated.copy()
    for seed in range(60):
        x = simulated[seed % N_SIMULATED]
        y = augment(x, np.random.default_rng(seed))
        assert y.shape == (8, 5000)
        assert y.dtype == np.float32
        assert np.isfinite(y).all()
        assert np.abs(y).max() < 3 * np.abs(x).max() + 1
        np.testing.assert_array_equal(y, augment(x, np.random.default_rng(seed)))
    np.testing.assert_array_equal(simulated, before)


def test_augment_varies_rate_and_gain() -> None:
    spike = np.exp(-0.5 * ((np.arange(5000) % 400 - 200) / 5) ** 2).astype(np.float32)
    x = np.tile(spike, (8, 1))
    varied = [augment(x, np.random.default_rng(seed)) for seed in range(40)]
    rates = [beats_per_minute(y[1]) for y in varied]
    assert min(rates) < 65 < 90 < max(rates) < 110
    gains = [np.abs(y[0] - np.median(y[0])).max() for y in varied]
    assert min(gains) < 0.8 < 1.25 < max(gains)


def test_augment_leaves_no_step_in_a_smooth_record() -> None:
    seconds = np.arange(5000) / 500
    x = np.stack([np.sin(2 * np.pi * 1.1 * seconds + k) for k in range(8)]).astype(np.float32)
    steepest = np.abs(np.diff(x)).max()
    for seed in range(60):
        y = augment(x, np.random.default_rng(seed))
        # 1.35 times as fast, 2.24 times as large, and 0.03 mV RMS of muscle noise on top.
        assert np.abs(np.diff(y)).max() < 4 * steepest + 0.2


def test_sources_are_joined_by_commas(small_bank: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    stored = dict(np.load(small_bank))
    np.savez(other, **{**stored, "delta_uv": stored["delta_uv"][::-1]})
    first, second = BankSource(small_bank), BankSource(other)

    both = open_source(f"bank:{small_bank},bank:{other}")

    assert len(both) == len(first) + len(second) == 6
    for k in range(3):
        np.testing.assert_array_equal(both.get(k), first.get(k))
        np.testing.assert_array_equal(both.get(3 + k), second.get(k))
    with pytest.raises(InputError, match="signal source ''"):
        open_source(f"bank:{small_bank},")


def test_open_source_understands_and_refuses() -> None:
    source: SignalSource = open_source("simulator")
    assert source.name == "simulator"
    assert source.get(0).shape == (8, 5000)
    with pytest.raises(InputError, match="signal source 'bank:'"):
        open_source("bank:")


def test_wfdb_windows_units_names_and_rate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wfdb = pytest.importorskip("wfdb")
    seconds = np.arange(0, 25, 1 / 250)
    mv = np.stack([np.sin(2 * np.pi * (1 + k / 4) * seconds) for k in range(8)], axis=1)
    names = ["V6", "v1", "V2", "V3", "V4", "V5", "i", "II"]
    rows = [LEADS_8.index(name.upper()) for name in names]

    def write(record: str, signals: np.ndarray, units: str, sig_name: list[str]) -> None:
        n = len(sig_name)
        wfdb.wrsamp(
            record,
            fs=250,
            units=[units] * n,
            sig_name=sig_name,
            p_signal=signals,
            fmt=["16"] * n,
            adc_gain=[1000.0 if units == "mV" else 1.0] * n,
            baseline=[0] * n,
            write_dir=str(tmp_path),
        )

    write("whole", mv, "mV", names)
    write("micro", mv * 1000, "uV", names)
    write("lacking", mv[:, :7], "mV", names[:7])
    write("short", mv[:2000], "mV", names)
    with caplog.at_level("INFO"):
        source = WfdbSource(tmp_path)

    assert "lacking: skipped, lacks II" in caplog.text
    assert "short: skipped, 2000 samples" in caplog.text
    assert len(source) == 4  # two windows of each usable record
    t = np.arange(5000) / 500
    for index in range(4):
        got = pickle.loads(pickle.dumps(source)).get(index)
        assert got.dtype == np.float32
        start_s = 10 * (index % 2)
        for k, row in enumerate(rows):
            want = np.sin(2 * np.pi * (1 + k / 4) * (t + start_s))
            np.testing.assert_allclose(got[row, 100:-100], want[100:-100], atol=0.02)


def test_wfdb_holds_out_whole_records(tmp_path: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    for k in range(64):
        header = wfdb.Record(
            record_name=f"r{k:02}",
            n_sig=8,
            fs=500,
            sig_len=10000,
            file_name=["none.dat"] * 8,
            fmt=["16"] * 8,
            adc_gain=[1000.0] * 8,
            baseline=[0] * 8,
            units=["mV"] * 8,
            sig_name=list(LEADS_8),
            adc_res=[16] * 8,
            adc_zero=[0] * 8,
            init_value=[0] * 8,
            checksum=[0] * 8,
            block_size=[0] * 8,
        )
        header.wrheader(write_dir=str(tmp_path))
    train, held_out = (WfdbSource(tmp_path, validation=v) for v in (False, True))
    assert len(train) + len(held_out) == 128
    assert 2 <= len(held_out) <= 20
    assert len(held_out) % 2 == 0


def test_wfdb_folder_without_records(tmp_path: Path) -> None:
    pytest.importorskip("wfdb")
    with pytest.raises(InputError, match="none of 0 headers"):
        WfdbSource(tmp_path)
