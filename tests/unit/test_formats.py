import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecg_digitize.errors import InputError
from ecg_digitize.formats.csv import read_csv, write_csv, write_full, write_plain
from ecg_digitize.formats.description import Provenance, describe, recording_from
from ecg_digitize.layout import COMPETITION, LEADS, Layout, Row, Segment
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


PROVENANCE = Provenance(
    picture="Befund für\u3042 1.png",
    picture_sha256="ab" * 32,
    package_version="0.1.0",
    made_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    options={"preset": "best"},
    weights_sha256={"stage0.safetensors": "cd" * 32},
)


def five_seconds(fs_hz, **told):
    """A recording of another sheet: half as long, one lead not printed, all known of it."""
    layout = COMPETITION.calibrated(mm_per_s=50, mm_per_mv=5).with_strip("V1")
    ramp = np.tile(np.arange(5.0 * fs_hz), (12, 1)) / fs_hz
    quality = np.linspace(0.1, 1, 12, dtype=np.float32).round(3)
    recording = printed_recording(ramp, fs_hz=fs_hz, layout=layout)
    return replace(recording, quality=quality, doubts=("it is printed at 50 mm/s",), **told)


@pytest.mark.parametrize("fs_hz", [250, 360, 500, 1000])
def test_the_full_csv_tells_all_of_a_recording(tmp_path, fs_hz):
    stem = tmp_path / "Befund 1.b"
    recording = five_seconds(fs_hz, is_rejected=True)

    write_full(recording, stem, PROVENANCE)
    back = read_csv(tmp_path / "Befund 1.b.csv")

    assert sorted(file.name for file in tmp_path.iterdir()) == ["Befund 1.b.csv", "Befund 1.b.json"]
    np.testing.assert_allclose(back.signals_mv, recording.signals_mv, rtol=1e-6, atol=HALF_LSB_MV)
    np.testing.assert_array_equal(back.quality, recording.quality)
    assert (back.fs_hz, back.layout) == (fs_hz, recording.layout)
    assert (back.doubts, back.verdict) == (recording.doubts, "reject")
    assert read_csv(tmp_path / "Befund 1.b.csv", fs_hz=fs_hz).fs_hz == fs_hz
    with pytest.raises(InputError, match=f"says {fs_hz} Hz, but 100 Hz was asked for"):
        read_csv(tmp_path / "Befund 1.b.csv", fs_hz=100)


def test_the_full_csv_has_times_and_a_side_file(tmp_path):
    ramp = np.tile(np.arange(20.0), (12, 1)) / 3 - 1e-9
    write_full(printed_recording(ramp, fs_hz=2), tmp_path / "page", PROVENANCE)

    lines = (tmp_path / "page.csv").read_text().splitlines()
    told = json.loads((tmp_path / "page.json").read_text())

    assert lines[0] == "time_s,I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6"
    assert lines[1] == "0.000000,0.0000,0.0000,0.0000,,,,,,,,,"
    assert lines[6] == "2.500000,,1.6667,,1.6667,1.6667,1.6667,,,,,,"
    assert (told["fs_hz"], told["unit"], told["n_samples"]) == (2, "mV", 20)
    assert (told["mm_per_s"], told["mm_per_mv"], told["layout"]["name"]) == (25, 10, "3x4+1")
    assert told["windows_s"]["aVR"] == [2.5, 5.0]
    assert (told["verdict"], told["doubts"], told["quality"]) == ("ok", [], {})
    assert told["provenance"] == {
        "software": "ecg-digitize",
        "package_version": "0.1.0",
        "made_at": "2026-01-02T03:04:05+00:00",
        "picture": "Befund für\u3042 1.png",
        "picture_sha256": "ab" * 32,
        "options": {"preset": "best"},
        "weights_sha256": {"stage0.safetensors": "cd" * 32},
    }


def test_a_description_keeps_every_layout(tmp_path):
    upside_down = Row(90.0, (Segment("aVR", 0.0, 5.0, sign=-1, mm_per_mv=5.0),), mm_per_mv=20.0)
    layout = Layout("of its own", (upside_down, Row(120.0, (), is_strip=True)), 12.5, 40.0)
    recording = Recording(np.zeros((12, 10), np.float32), 2.0, layout)

    told = json.loads(json.dumps(describe(recording, PROVENANCE)))

    assert recording_from(told, recording.signals_mv).layout == layout


def test_provenance_of_a_picture(tmp_path):
    (tmp_path / "a\nb.png").write_bytes(b"picture")
    provenance = Provenance.of_now(tmp_path / "a\nb.png", options={})
    assert provenance.picture == "a b.png"
    assert provenance.picture_sha256 == hashlib.sha256(b"picture").hexdigest()
    assert {len(one) for one in provenance.weights_sha256.values()} == {64}
    with pytest.raises(ValueError, match="must have a time zone"):
        replace(provenance, made_at=datetime(2026, 1, 1))


@pytest.mark.parametrize("side", [None, '{"kind": "labels of a page"}', "[]"])
def test_the_full_csv_is_read_without_its_side_file_too(tmp_path, side):
    ramp = np.tile(np.arange(3600.0), (12, 1)) / 3600
    recording = printed_recording(ramp, fs_hz=360, layout=COMPETITION.with_strip("V1"))
    write_full(recording, tmp_path / "page", PROVENANCE)
    (tmp_path / "page.json").unlink()
    if side is not None:
        (tmp_path / "page.json").write_text(side)

    back = read_csv(tmp_path / "page.csv")

    assert (back.fs_hz, back.rhythm, back.quality) == (360, "V1", None)


def test_a_table_of_any_length_is_taken_where_that_is_asked_for(tmp_path):
    recording = five_seconds(500)
    plain, full = tmp_path / "plain.csv", tmp_path / "page.csv"
    write_csv(recording, plain)
    write_full(recording, tmp_path / "page", PROVENANCE)
    (tmp_path / "page.json").unlink()

    for path in (plain, full):
        back = read_csv(path, fs_hz=500, any_length=True)
        assert (back.layout.duration_s, back.layout.mm_per_s, back.rhythm) == (5, 50, "V1")
        with pytest.raises(InputError, match="expected 5000 rows, ten seconds at 500 Hz"):
            read_csv(path, fs_hz=500)
    assert read_csv(plain, fs_hz=250, any_length=True).layout == COMPETITION.with_strip("V1")
    with pytest.raises(InputError, match="expected 3600 rows, ten seconds at 360 Hz"):
        read_csv(full, fs_hz=360, any_length=True)  # its times say 500 Hz
    for fs_hz in (0.0, float("nan")):
        with pytest.raises(InputError, match=r"expected 0 rows, .*but got 2500"):
            read_csv(plain, fs_hz=fs_hz, any_length=True)


def test_a_plain_csv_does_not_look_at_a_file_beside_it(tmp_path):
    write_plain(Recording(np.zeros((12, 20), np.float32), 2.0), tmp_path / "page", PROVENANCE)
    (tmp_path / "page.json").write_text("no JSON")
    assert read_csv(tmp_path / "page.csv").fs_hz == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told.pop("layout"), "page.json: not what was written .*KeyError: 'layout'"),
        (lambda told: told.update(version=2), "page.json: expected version 1, but got 2"),
        (lambda told: told.update(quality=[1]), "page.json: not what was written"),
        (lambda told: told.update(fs_hz=4), "expected 20 rows, 5 s at 4 Hz, but got 10; page.json"),
    ],
)
def test_unusable_side_files_are_named(tmp_path, change, message):
    write_full(five_seconds(2), tmp_path / "page", PROVENANCE)
    told = json.loads((tmp_path / "page.json").read_text())
    change(told)
    (tmp_path / "page.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=message):
        read_csv(tmp_path / "page.csv")


def test_a_missing_side_file_is_named_where_it_is_needed(tmp_path):
    write_full(five_seconds(2), tmp_path / "page", PROVENANCE)
    (tmp_path / "page.json").unlink()
    with pytest.raises(InputError, match=r"expected 20 rows, .* got 10; page\.json, which"):
        read_csv(tmp_path / "page.csv")
