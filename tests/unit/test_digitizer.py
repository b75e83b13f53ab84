"""The library's object gives what was read in the forms that other tools take."""

import doctest
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from ecg_digitize import DigitizedPage, Digitizer, Failure, digitizer
from ecg_digitize.errors import InputError
from ecg_digitize.files import sha256_of
from ecg_digitize.formats.csv import read_csv
from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, crossings_mm
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.shipped import sample_page
from ecg_digitize.signals import printed_recording
from ecg_digitize.types import Digitization, GridMap, Trace


@pytest.fixture
def reads(monkeypatch, tiny_weights):
    """In place of reading pages: a wave, at once. Returns what was asked for."""
    asked = []

    def digitize_told(page, models, *, fs_hz, overrides):
        asked.append(overrides)
        if page.image.shape[0] == 200:
            raise ValueError("fault")
        grid = GridMap(
            np.float32(crossings_mm() * 5), np.ones((GRID_ROWS, GRID_COLUMNS), np.float32), 0.1
        )
        times_s = np.arange(round(10 * fs_hz)) / fs_hz
        whole_mv = np.tile(np.sin(2 * np.pi * times_s), (12, 1)).astype(np.float32)
        trace = Trace(*np.ones((2, *COMPETITION.shape), np.float32))
        quality = np.full(12, 0.9, np.float32)
        recording = replace(printed_recording(whole_mv, fs_hz=fs_hz), quality=quality)
        return Digitization(page.source, recording, trace, grid, None, {})

    monkeypatch.setattr(digitizer, "digitize_told", digitize_told)
    return asked


WHITE = np.full((300, 400, 3), 255, np.uint8)


def test_the_example_of_the_module_is_true():
    failed, tried = doctest.testmod(digitizer)
    assert tried == 6
    assert failed == 0


def test_a_table_has_a_column_a_lead_and_times(reads):
    with Digitizer() as reader:
        reading = reader.digitize(WHITE, fs_hz=250)
    table = reading.to_dataframe()
    assert list(table.columns) == list(LEADS)
    assert table.index.name == "time_s"
    assert table.index[1] == 0.004
    assert table["II"].notna().all()
    assert table["V1"].dropna().index[[0, -1]].tolist() == [5.0, 7.496]
    np.testing.assert_array_equal(table["II"], reading.recording.signals_mv[1])


def test_an_array_knows_its_axes(reads):
    pytest.importorskip("xarray")
    with Digitizer() as reader:
        array = reader.digitize(WHITE).to_xarray()
    assert array.dims == ("lead", "time_s")
    assert array.attrs == {"units": "mV", "fs_hz": 500.0, "verdict": "ok"}
    assert float(array.sel(lead="II", time_s=0.25)) == pytest.approx(1.0)
    assert array.sel(lead="V1").isnull().sum() == 3750


def test_signals_are_written_with_where_they_come_from(reads, tmp_path):
    with Digitizer(preset="best") as reader:
        reading = reader.digitize(WHITE, mm_per_mv=5)
    assert reading.write(tmp_path / "a", format="csv,parquet") == tuple(
        tmp_path / name for name in ("a.csv", "a.json", "a.parquet")
    )
    assert read_csv(tmp_path / "a.csv").fs_hz == 500
    assert reading.provenance.picture == "array"
    assert len(reading.provenance.picture_sha256) == 64
    assert reading.provenance.options == {
        **{"preset": "best", "backend": "torch", "fs_hz": 500.0, "mm_per_mv": 5}
    }
    with pytest.raises(InputError, match="expected one or several of csv"):
        reading.write(tmp_path / "a", format="wav")


def test_a_file_is_named_by_its_hash(reads, tmp_path):
    path = sample_page()
    with Digitizer() as reader:
        reading = reader.digitize(path)
    assert reading.provenance.picture == path.name
    assert reading.provenance.picture_sha256 == sha256_of(path)


def test_what_is_told_goes_to_the_page(reads):
    with Digitizer() as reader:
        reader.digitize(WHITE, layout="6X2", mm_per_s=50)
        with pytest.raises(InputError, match=r'layout: expected one of 3x4, .* but got "7x7"'):
            reader.digitize(WHITE, layout="7x7")
    (told,) = reads
    assert (told.sheet.name, told.mm_per_s, told.mm_per_mv) == ("6x2", 50, None)


def test_one_that_fails_costs_no_other(reads, tmp_path):
    sources = [WHITE, tmp_path / "gone.png", np.zeros((200, 300, 3), np.uint8), WHITE]
    with Digitizer() as reader:
        first, gone, fault, last = reader.digitize_many(sources)
    assert isinstance(first, DigitizedPage)
    assert isinstance(last, DigitizedPage)
    assert isinstance(gone, Failure)
    assert (gone.stage, fault.stage) == ("read", "unexpected")


def test_threads_take_turns(reads, monkeypatch):
    at_once, most = [0], [0]
    read = digitizer.digitize_told

    def counted(*given, **options):
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.02)
        at_once[0] -= 1
        return read(*given, **options)

    monkeypatch.setattr(digitizer, "digitize_told", counted)
    with Digitizer() as reader:
        threads = [threading.Thread(target=reader.digitize, args=(WHITE,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(reads) == 4
    assert most[0] == 1


def test_a_closed_one_says_so(reads):
    reader = Digitizer()
    reader.close()
    with pytest.raises(InputError, match="closed"):
        reader.digitize(WHITE)


def test_signals_are_drawn_in_millimetres(reads):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    with Digitizer() as reader:
        axes = reader.digitize(WHITE).plot()
    drawn = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(drawn) == 13
    strip = drawn[-1]
    assert strip.get_xdata()[-1] == pytest.approx(250, abs=0.1)
    assert np.ptp(strip.get_ydata()) == pytest.approx(20, abs=0.01)
    assert {text.get_text() for text in axes.texts} == set(LEADS)


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("xarray", "xarray", lambda reading: reading.to_xarray()),
        ("matplotlib.pyplot", "plot", lambda reading: reading.plot()),
        ("wfdb", "formats", lambda reading: reading.to_wfdb("never")),
    ],
)
def test_a_missing_package_says_how_to_get_it(reads, monkeypatch, package, extra, use):
    monkeypatch.setitem(sys.modules, package, None)
    with Digitizer() as reader:
        reading = reader.digitize(WHITE)
    with pytest.raises(InputError, match=rf'pip install "ecg-digitize\[{extra}\]"'):
        use(reading)
