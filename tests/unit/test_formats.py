import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecg_digitize.errors import InputError
from ecg_digitize.formats.csv import read_csv, write_csv
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.signals import printed_recording
from ecg_digitize.types import Recording

HALF_LSB_MV = 0.00005
millivolts = st.one_of(st.floats(-20, 20, width=32), st.just(float("nan")))


@settings(max_examples=30, deadline=None)
@given(signals_mv=arrays(np.float32, st.tuples(st.just(12), st.just(20)), elements=millivolts))
def test_csv_round_trip_keeps_every_sample_within_half_a_step(tmp_path_factory, signals_mv):
    path = tmp_path_factory.mktemp("csv") / "page.csv"
    write_csv(Recording(signals_mv, 2.0), path)
    back = read_csv(path)
    assert back.fs_hz == 2.0
    np.testing.assert_array_equal(np.isnan(back.signals_mv), np.isnan(signals_mv))
    np.testing.assert_allclose(back.signals_mv, signals_mv, rtol=1e-6, atol=HALF_LSB_MV * 1.001)


@pytest.mark.parametrize("rhythm", ["II", "V1"])
def test_csv_knows_the_lead_of_the_strip(tmp_path, rhythm):
    ramp = np.tile(np.arange(20.0), (12, 1))
    write_csv(
        printed_recording(ramp, fs_hz=2, layout=COMPETITION.with_strip(rhythm)),
        tmp_path / "page.csv",
    )
    assert read_csv(tmp_path / "page.csv").rhythm == rhythm


def test_csv_of_a_sheet_without_a_strip(tmp_path):
    ramp = np.arange(12 * 20, dtype=np.float32).reshape(12, 20)
    write_csv(
        printed_recording(ramp, fs_hz=2, layout=COMPETITION.with_strip(None)), tmp_path / "page.csv"
    )
    assert read_csv(tmp_path / "page.csv").rhythm is None


def test_csv_is_the_table_of_the_competition(tmp_path):
    ramp = np.tile(np.arange(20.0), (12, 1)) / 3 - 1e-9
    path = tmp_path / "page.csv"
    write_csv(printed_recording(ramp, fs_hz=2), path)
    lines = path.read_text().splitlines()
    assert lines[0] == "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6"
    assert lines[1] == "0.0000,0.0000,0.0000,,,,,,,,,"
    assert lines[6] == ",1.6667,,1.6667,1.6667,1.6667,,,,,,"
    assert len(lines) == 21
    assert [file.name for file in tmp_path.iterdir()] == ["page.csv"]


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "page.csv"
    path.write_text("old")

    def full_disk(*_args, **_kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("pandas.DataFrame.to_csv", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_csv(Recording(np.zeros((12, 20), np.float32), 2.0), path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["page.csv"]


def test_columns_in_any_order_and_others_ignored(tmp_path):
    path = tmp_path / "page.csv"
    names = ["time", *reversed(LEADS)]
    row = ",".join(str(k) for k in range(13))
    path.write_text("\n".join([",".join(names), *[row] * 10]) + "\n")
    recording = read_csv(path, fs_hz=1)
    np.testing.assert_array_equal(recording.signals_mv[:, 0], np.arange(12, 0, -1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "page.csv: expected a csv table", id="missing"),
        pytest.param("", "page.csv: expected a csv table", id="empty"),
        pytest.param("I,II\n1,2\n", "III, aVR, .* are missing; the header has I, II", id="leads"),
        pytest.param(",".join(LEADS) + "\n", "expected 10 rows, .* but got 0", id="rows"),
        pytest.param(
            ",".join(LEADS) + "\n" + 10 * ("x" + 11 * ",1" + "\n"), "expected numbers", id="text"
        ),
    ],
)
def test_unusable_tables_are_named(tmp_path, content, message):
    path = tmp_path / "page.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_csv(path, fs_hz=1)
