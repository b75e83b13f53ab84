"""Formats of the field: what independent packages read back of them, gaps above all."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_digitize.errors import InputError
from ecg_digitize.formats import dicom, edf, fhir, wfdb
from ecg_digitize.formats.description import Provenance
from ecg_digitize.formats.steps import to_steps
from ecg_digitize.formats.writers import WRITERS, formats_named
from ecg_digitize.layout import COMPETITION, LEADS, Layout, row_of
from ecg_digitize.signals import printed_recording
from ecg_digitize.types import Recording

PROVENANCE = Provenance(
    picture="Befund für\u3042 1.png",
    picture_sha256="ab" * 32,
    package_version="0.1.0",
    made_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    options={"preset": "best"},
    weights_sha256={"stage0.safetensors": "cd" * 32},
)
LIMB = Layout(
    "6x1 limb", tuple(row_of((lead,), zero_mm=20.0 + k) for k, lead in enumerate(LEADS[:6]))
)


def read_parquet(stem):
    table = pq.read_table(*WRITERS["parquet"].files(stem))
    columns = [table[lead].to_numpy() for lead in LEADS]
    return np.array(columns), 1e-9


def read_wfdb(stem):
    header = wfdb.files(stem)[1]
    record = pytest.importorskip("wfdb").rdrecord(str(header.with_suffix("")))
    assert record.sig_name == list(LEADS)
    assert record.units == ["mV"] * 12
    return record.p_signal.T, 1 / record.adc_gain[0]


def read_edf(stem):
    document = pytest.importorskip("edfio").read_edf(*edf.files(stem))
    assert document.labels == tuple(f"ECG {lead}" for lead in LEADS)
    rows = []
    for signal in document.signals:
        assert signal.physical_dimension == "uV"
        rows.append(np.where(signal.digital == signal.digital_min, np.nan, signal.data / 1000))
    steps_mv = (signal.physical_max - signal.physical_min) / 65535 / 1000
    return np.array(rows), steps_mv


def read_dicom(stem):
    dataset = pytest.importorskip("pydicom").dcmread(*dicom.files(stem))
    (group,) = dataset.WaveformSequence
    step_uv = float(group.ChannelDefinitionSequence[0].ChannelSensitivity)
    padding = int.from_bytes(group.WaveformPaddingValue, "little", signed=True)
    uv = dataset.waveform_array(0).T
    return np.where(uv == padding * step_uv, np.nan, uv / 1000), step_uv / 1000


def read_fhir(stem):
    (path,) = fhir.files(stem)
    rows, step_uv = [], 1
    components = json.loads(path.read_text(encoding="utf-8"))["component"]
    for component in components:
        if (sampled := component.get("valueSampledData")) is None:
            assert component["dataAbsentReason"]["coding"][0]["code"] == "unknown"
            rows.append(None)
            continue
        assert sampled["origin"]["code"] == "uV"
        step_uv = sampled["factor"]
        data = sampled["data"].split(" ")
        rows.append([np.nan if one == "E" else int(one) * step_uv / 1000 for one in data])
    n_samples = max(len(row) for row in rows if row is not None)
    absent = [np.nan] * n_samples
    return np.array([absent if row is None else row for row in rows]), step_uv / 1000


READERS = {
    "parquet": read_parquet,
    "wfdb": read_wfdb,
    "edf": read_edf,
    "dicom": read_dicom,
    "fhir": read_fhir,
}
every_format = pytest.mark.parametrize("name", READERS)


def write(name, recording, stem):
    package = WRITERS[name].package
    if package is not None:
        pytest.importorskip(package)
    WRITERS[name].write(recording, stem, PROVENANCE)


def assert_same(name, recording, stem):
    """What is read back has the same gaps, and the same samples within half a step."""
    signals_mv, step_mv = READERS[name](stem)
    n_samples = recording.signals_mv.shape[1]
    assert np.isnan(signals_mv[:, n_samples:]).all()  # EDF fills up its last data record
    back_mv = signals_mv[:, :n_samples]
    np.testing.assert_array_equal(np.isnan(back_mv), np.isnan(recording.signals_mv))
    np.testing.assert_allclose(back_mv, recording.signals_mv, rtol=1e-6, atol=step_mv * 0.5001)
    return step_mv


def beats(fs_hz, *, layout=COMPETITION, duration_s=10.0):
    """A recording of some millivolts, printed as a layout does, with a hole in lead II."""
    times_s = np.arange(round(duration_s * fs_hz)) / fs_hz
    waves = [(0.3 + k / 7) * np.sin(2 * np.pi * (k + 1) * times_s) for k in range(12)]
    recording = printed_recording(np.array(waves), fs_hz=fs_hz, layout=layout)
    signals_mv = recording.signals_mv.copy()
    signals_mv[1, 40:60] = np.nan
    quality = np.linspace(0.1, 1, 12, dtype=np.float32)
    return replace(recording, signals_mv=signals_mv, quality=quality, doubts=("it is folded",))


@every_format
@pytest.mark.parametrize("fs_hz", [250.0, 500.0, 1000.0])
def test_a_page_comes_back(tmp_path, name, fs_hz):
    recording = beats(fs_hz)
    write(name, recording, tmp_path / "page")
    assert_same(name, recording, tmp_path / "page")


@every_format
def test_names_may_have_spaces_dots_and_any_letters(tmp_path, name):
    recording = beats(250.0)
    stem = tmp_path / "deep er" / "Befund für\u3042 1.b"
    write(name, recording, stem)
    assert_same(name, recording, stem)
    files = WRITERS[name].files(stem)
    assert sorted(files) == sorted(stem.parent.iterdir())


@every_format
def test_leads_that_are_not_printed_have_no_sample(tmp_path, name):
    recording = beats(250.0, layout=LIMB)
    assert np.isnan(recording.signals_mv[6:]).all()
    write(name, recording, tmp_path / "page")
    assert_same(name, recording, tmp_path / "page")


@every_format
def test_a_page_of_no_whole_seconds_comes_back(tmp_path, name):
    layout = COMPETITION.calibrated(mm_per_s=26, mm_per_mv=10)
    recording = beats(250.0, layout=layout, duration_s=layout.duration_s)
    write(name, recording, tmp_path / "page")
    assert_same(name, recording, tmp_path / "page")


@every_format
@pytest.mark.parametrize(
    ("peak_mv", "step_uv"), [(-0.0, 1), (20, 1), (32.767, 1), (32.768, 2), (70, 4), (1048, 32)]
)
def test_large_signals_get_larger_steps_and_are_never_clipped(tmp_path, name, peak_mv, step_uv):
    signals_mv = np.zeros((12, 250), np.float32)
    signals_mv[3, :2] = peak_mv, -peak_mv
    recording = Recording(signals_mv, 250.0)
    write(name, recording, tmp_path / "page")
    step_mv = assert_same(name, recording, tmp_path / "page")
    if name != "parquet":
        assert step_mv == pytest.approx(step_uv / 1000)


@pytest.mark.parametrize("peak_mv", [1100, np.inf])
def test_what_is_no_ecg_is_refused(peak_mv):
    with pytest.raises(InputError, match="is no surface ECG, at most 1049 mV"):
        to_steps(Recording(np.full((12, 10), peak_mv, np.float32), 250.0))


millivolts = st.one_of(st.floats(-1000, 1000, width=32), st.just(float("nan")), st.just(-0.0))


@settings(max_examples=15, deadline=None)
@given(samples=st.lists(millivolts, min_size=3, max_size=6), name=st.sampled_from(sorted(READERS)))
def test_any_samples_come_back(tmp_path_factory, samples, name):
    stem = tmp_path_factory.mktemp("any") / "page"
    signals_mv = np.zeros((12, 250), np.float32)
    signals_mv[:, : len(samples)] = samples
    recording = Recording(signals_mv, 250.0)
    write(name, recording, stem)
    assert_same(name, recording, stem)


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_reading_gives_the_same_bytes(tmp_path, name):
    recording = beats(250.0)
    for folder in ("a", "b"):
        write(name, recording, tmp_path / folder / "page")
    for one, other in zip(
        WRITERS[name].files(tmp_path / "a" / "page"),
        WRITERS[name].files(tmp_path / "b" / "page"),
        strict=True,
    ):
        assert one.read_bytes() == other.read_bytes()


TOLD = [
    "For research: it must not be used to diagnose.",
    "ecg-digitize 0.1.0, 2026-01-02T03:04:05+00:00",
    "picture: Befund",
    "ab" * 32,
    "stage0.safetensors " + "cd" * 32,
    '{"preset": "best"}',
    "3x4+1, 25 mm/s, 10 mm/mV, strip II",
    "verdict: check",
    "doubt: it is folded",
]


def texts_of_wfdb(stem):
    header = wfdb.files(stem)[1]
    return pytest.importorskip("wfdb").rdheader(str(header.with_suffix(""))).comments


def texts_of_edf(stem):
    document = pytest.importorskip("edfio").read_edf(*edf.files(stem))
    return [annotation.text for annotation in document.annotations]


def texts_of_dicom(stem):
    dataset = pytest.importorskip("pydicom").dcmread(*dicom.files(stem))
    return [item.UnformattedTextValue for item in dataset.WaveformAnnotationSequence]


def texts_of_fhir(stem):
    return [note["text"] for note in json.loads(fhir.files(stem)[0].read_text())["note"]]


@pytest.mark.parametrize("texts_of", [texts_of_wfdb, texts_of_edf, texts_of_dicom, texts_of_fhir])
def test_the_rest_is_told_in_words(tmp_path, texts_of):
    name = texts_of.__name__.removeprefix("texts_of_")
    write(name, beats(500.0), tmp_path / "page")
    texts = texts_of(tmp_path / "page")
    assert not [one for one in TOLD if not any(one in text for text in texts)]
    assert any("printed from 2.5 s to 5 s, quality 0.345" in text for text in texts)


def test_parquet_tells_the_rest_in_its_metadata(tmp_path):
    write("parquet", beats(500.0), tmp_path / "page")
    schema = pq.read_schema(tmp_path / "page.parquet")
    told = json.loads(schema.metadata[b"ecg_digitize"])
    assert schema.names == ["time_s", *LEADS]
    assert {str(schema.field(lead).type) for lead in LEADS} == {"float"}
    assert (told["fs_hz"], told["doubts"], told["quality"]["I"]) == (500, ["it is folded"], 0.1)
    table = pq.read_table(tmp_path / "page.parquet")
    assert table["aVR"].null_count == 5000 - 1250
    assert table["time_s"][1249].as_py() == 2.498


def test_wfdb_names_are_kept_where_wfdb_allows_them():
    assert wfdb.record_name("page_1-2") == "page_1-2"
    names = {wfdb.record_name(name) for name in ("page 1", "page.1", "p\u00e4ge", "a" * 200)}
    assert len(names) == 4
    assert all(name.isascii() and len(name) < 100 for name in names)
    assert "." not in "".join(names)


def test_edf_says_when_leads_are_printed_and_where_they_are_not_seen(tmp_path):
    layout = COMPETITION.calibrated(mm_per_s=40, mm_per_mv=10)  # 6.25 s
    write("edf", beats(250.0, layout=layout, duration_s=6.25), tmp_path / "page")
    document = pytest.importorskip("edfio").read_edf(tmp_path / "page.edf")
    by_text = {note.text: note for note in document.annotations}

    printed = by_text["V4: printed from 4.6875 s to 6.25 s, quality 0.836"]
    assert (printed.onset, printed.duration) == pytest.approx((4.684, 1.564))  # of 1562 samples
    unseen = by_text["II: not seen"]
    assert (unseen.onset, unseen.duration) == (0.16, 0.08)
    assert by_text["end of the page"].onset == 6.248
    assert edf.GAPS_TEXT in by_text
    assert document.duration == 7
    assert document.local_patient_identification == "X X X X"
    assert document.local_recording_identification == "Startdate X X X ecg-digitize-0.1.0"


@pytest.mark.parametrize(("fs_hz", "seconds"), [(500.0, 1), (62.5, 2), (333.35, 20)])
def test_edf_records_hold_whole_samples(fs_hz, seconds):
    assert edf.record_s(fs_hz) == seconds


@pytest.mark.parametrize("fs_hz", [62.5, 333.35])
def test_edf_holds_rates_of_no_whole_number(tmp_path, fs_hz):
    recording = beats(fs_hz)
    write("edf", recording, tmp_path / "page")
    assert_same("edf", recording, tmp_path / "page")


def test_edf_refuses_rates_that_it_cannot_hold():
    with pytest.raises(InputError, match=r"333\.333 samples a second.*--fs, e\.g\. 500"):
        edf.record_s(333.333)


def test_dicom_has_what_the_standard_asks_for(tmp_path):
    """Types 1 and 2 of PS3.3, A.34.3 and C.7.1.1, C.7.2.1, C.7.3.1, C.7.5.1, C.10.8, C.10.9."""
    recording = beats(500.0)
    write("dicom", recording, tmp_path / "page")
    dataset = pytest.importorskip("pydicom").dcmread(tmp_path / "page.dcm")

    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == dicom.TWELVE_LEAD
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
    uids = {dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID}
    assert len(uids) == 3
    assert all(uid.is_valid for uid in uids)
    for keyword in (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
        *("ReferringPhysicianName", "StudyID", "AccessionNumber", "SeriesNumber"),
        "AcquisitionContextSequence",
    ):
        assert keyword in dataset
        assert not dataset[keyword].value  # nothing is made up
    assert (dataset.Modality, dataset.InstanceNumber) == ("ECG", 1)
    assert dataset.AcquisitionDateTime == "20260102030405+0000"
    assert (dataset.ContentDate, dataset.ContentTime) == ("20260102", "030405")
    (group,) = dataset.WaveformSequence
    assert (group.NumberOfWaveformChannels, group.NumberOfWaveformSamples) == (12, 5000)
    assert (group.SamplingFrequency, group.WaveformOriginality) == (500, "DERIVED")
    assert (group.WaveformBitsAllocated, group.WaveformSampleInterpretation) == (16, "SS")
    codes = [one.ChannelSourceSequence[0] for one in group.ChannelDefinitionSequence]
    assert {code.CodingSchemeDesignator for code in codes} == {"MDC"}
    values = [code.CodeValue for code in codes]
    assert values == [
        *("2:1", "2:2", "2:61", "2:62", "2:63", "2:64"),
        *("2:3", "2:4", "2:5", "2:6", "2:7", "2:8"),
    ]
    assert codes[3].CodeMeaning == "aVR, augmented voltage, right"
    for channel in group.ChannelDefinitionSequence:
        assert channel.ChannelSensitivityUnitsSequence[0].CodeValue == "uV"
        assert channel.WaveformBitsStored == 16
        assert (channel.ChannelSensitivity, channel.ChannelBaseline) == (1, 0)
    status = [one.ChannelStatus for one in group.ChannelDefinitionSequence]
    assert (status[0], status[11]) == ("QUESTIONABLE", "OK")  # of quality 0.1 and 1
    notes = dataset.WaveformAnnotationSequence
    (printed,) = [one for one in notes if one.ReferencedWaveformChannels == [1, 4]]
    assert printed.ReferencedSamplePositions == [1251, 2500]


def test_dicom_channels_without_a_sample_are_invalid(tmp_path):
    write("dicom", beats(250.0, layout=LIMB), tmp_path / "page")
    dataset = pytest.importorskip("pydicom").dcmread(tmp_path / "page.dcm")
    channels = dataset.WaveformSequence[0].ChannelDefinitionSequence
    assert [one.ChannelStatus for one in channels[6:]] == ["INVALID"] * 6


def test_dicom_pages_beyond_the_limit_of_samples_are_general_ecgs(tmp_path):
    layout = COMPETITION.calibrated(mm_per_s=12.5, mm_per_mv=10)
    recording = beats(1000.0, layout=layout, duration_s=20.0)
    write("dicom", recording, tmp_path / "page")
    dataset = pytest.importorskip("pydicom").dcmread(tmp_path / "page.dcm")
    assert dataset.SOPClassUID == dicom.GENERAL
    assert_same("dicom", recording, tmp_path / "page")


@pytest.mark.parametrize("kind", ["as printed", "six leads", "beyond the limit of samples"])
def test_dicom_passes_a_validator(tmp_path, kind):
    validator = shutil.which("dciodvfy")
    if validator is None:
        pytest.skip("there is no dciodvfy; install the distribution's package dicom3tools")
    slow = COMPETITION.calibrated(mm_per_s=12.5, mm_per_mv=10)
    recording = {
        "as printed": lambda: beats(500.0),
        "six leads": lambda: beats(500.0, layout=LIMB),
        "beyond the limit of samples": lambda: beats(1000.0, layout=slow, duration_s=20.0),
    }[kind]()
    write("dicom", recording, tmp_path / "page")
    command = [validator, "-new", *map(str, dicom.files(tmp_path / "page"))]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (said.stdout + said.stderr).splitlines()
    assert [line for line in lines if line.startswith("Error")] == []
    assert any(line in ("TwelveLeadECG", "GeneralECG") for line in lines)


def test_dicom_readings_of_one_picture_share_a_study(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    for name, options in (("a", {"preset": "best"}), ("b", {"preset": "fast"})):
        provenance = replace(PROVENANCE, options=options)
        WRITERS["dicom"].write(beats(250.0), tmp_path / name, provenance)
    a, b = (pydicom.dcmread(tmp_path / f"{name}.dcm") for name in "ab")
    assert a.StudyInstanceUID == b.StudyInstanceUID
    assert a.SeriesInstanceUID != b.SeriesInstanceUID
    assert a.SOPInstanceUID != b.SOPInstanceUID


def test_fhir_is_an_observation_that_a_validator_takes(tmp_path):
    observations = pytest.importorskip("fhir.resources.R4B.observation")
    write("fhir", beats(500.0, layout=LIMB), tmp_path / "page")
    document = json.loads((tmp_path / "page.fhir.json").read_text())

    observation = observations.Observation.model_validate(document)

    assert len(observation.component) == 12
    assert observation.component[0].valueSampledData.period == 2
    assert observation.component[0].valueSampledData.lowerLimit is None


def test_fhir_codes_leads_and_makes_nothing_up():
    document = fhir.observation(beats(500.0), PROVENANCE)
    codes = [one["code"]["coding"][0] for one in document["component"]]
    assert [code["code"] for code in codes] == [
        *("131329", "131330", "131389", "131390", "131391", "131392"),
        *("131331", "131332", "131333", "131334", "131335", "131336"),
    ]
    assert codes[3]["display"] == "MDC_ECG_ELEC_POTL_AVR"
    assert document["status"] == "preliminary"
    assert not {"subject", "effectiveDateTime", "performer"} & set(document)
    assert document["issued"] == "2026-01-02T03:04:05+00:00"
    assert json.loads(document["note"][1]["text"])["verdict"] == "check"


@pytest.mark.parametrize(
    ("name", "package"), [("wfdb", "wfdb"), ("edf", "edfio"), ("dicom", "pydicom")]
)
def test_a_missing_package_is_told_with_its_remedy(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    remedy = rf"{package}, which cannot be imported .*pip install \"ecg-digitize\[formats\]\""
    with pytest.raises(InputError, match=remedy):
        WRITERS[name].write(beats(250.0), tmp_path / "page", PROVENANCE)
    with pytest.raises(InputError, match=f"--format {name}: .*{remedy}"):
        formats_named(name, fs_hz=500.0)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_files_and_no_debris(tmp_path, monkeypatch):
    for name in READERS:
        write(name, beats(250.0), tmp_path / "page")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(_self, _target):
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    for name in READERS:
        with pytest.raises(OSError, match="No space left"):
            WRITERS[name].write(beats(500.0), tmp_path / "page", PROVENANCE)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
