"""DICOM waveforms: the SOP class 12-lead ECG Waveform Storage.

Source: DICOM PS3.3, A.34.3 (1 to 13 channels, at most 16384 samples each, 200 to 1000 Hz, 16 bit
signed) and A.34.4 General ECG, the same without the limit of samples, which longer pages become;
C.10.8 to C.10.10 are the modules of waveforms. Codes: MDC for leads, UCUM for microvolts.

Samples that are not printed, or not seen, have the Waveform Padding Value, -32768, and an
annotation marks the samples of each lead that are printed. pydicom's `waveform_array` does not
treat padding: it gives -32768 steps there. Channel Status is INVALID for a lead that has no sample,
and QUESTIONABLE where its quality is low.

Nothing about patient, study or recording is made up: these attributes are empty. Those that need a
value get the only time that is known, that of the digitizing: Acquisition DateTime, Content Date
and Content Time, in UTC. UIDs are made from what the file holds, so that the same reading gives the
same ones; all readings of one picture share a study.
"""

import io
import uuid
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecg_digitize.errors import InputError
from ecg_digitize.extras import load
from ecg_digitize.files import replacing
from ecg_digitize.formats.description import (
    SOFTWARE,
    Provenance,
    quality_of,
    told_lines,
    told_of_lead,
)
from ecg_digitize.formats.leads import LEAD_CODES
from ecg_digitize.formats.steps import NOT_SEEN, Steps, to_steps
from ecg_digitize.layout import LEADS
from ecg_digitize.quality import DEFAULTS
from ecg_digitize.types import Recording

PACKAGE: Final = "pydicom"
TWELVE_LEAD: Final = "1.2.840.10008.5.1.4.1.1.9.1.1"
GENERAL: Final = "1.2.840.10008.5.1.4.1.1.9.1.2"
MAX_SAMPLES: Final = 16384  # of TWELVE_LEAD
MIN_FS_HZ: Final = 200.0
MAX_FS_HZ: Final = 1000.0
_IMPLEMENTATION: Final = uuid.UUID("5a0d9c1e-3f0b-4f57-9b0a-0c6d3c1f7b21")
_MAX_TEXT: Final = 1024  # characters of an ST
_EMPTY: Final = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
"""Attributes that must be there and whose values are not known."""


def files(stem: Path) -> tuple[Path]:
    """Return the file of a recording."""
    return (stem.with_name(f"{stem.name}.dcm"),)


def check_fs(fs_hz: float) -> None:
    """Check that DICOM allows a sampling rate.

    Raises:
        InputError: It does not.
    """
    if not MIN_FS_HZ <= fs_hz <= MAX_FS_HZ:
        raise InputError(
            f"DICOM allows {MIN_FS_HZ:g} to {MAX_FS_HZ:g} samples a second for an ECG, but got "
            f"{fs_hz:g}; say another --fs, e.g. 500"
        )


def write(recording: Recording, stem: Path, provenance: Provenance) -> None:
    """Write NAME.dcm, whole or not at all; see the module.

    Raises:
        InputError: The package pydicom is not installed, DICOM does not allow the sampling rate,
            or a sample is no surface ECG.
        OSError: The folder is not writable.
    """
    pydicom = load(PACKAGE)
    check_fs(recording.fs_hz)
    steps = to_steps(recording)
    dataset = _header(pydicom, recording, provenance, steps)
    dataset.WaveformSequence = [_waveform(pydicom, recording, steps)]
    dataset.WaveformAnnotationSequence = _annotations(pydicom, recording, provenance)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    (path,) = files(stem)
    with replacing(path) as partial:
        partial.write_bytes(stream.getvalue())


def _header(pydicom: Any, recording: Recording, provenance: Provenance, steps: Steps) -> Any:
    """Return all but the waveform: SOP, patient, study, series, equipment, identification."""
    is_short = recording.signals_mv.shape[1] <= MAX_SAMPLES
    made_at = provenance.made_at.astimezone(UTC)
    study = provenance.picture_sha256
    series = "\n".join([study, *told_lines(recording, provenance)])
    dataset = pydicom.Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = TWELVE_LEAD if is_short else GENERAL
    dataset.SOPInstanceUID = _uid(f"instance {series}", steps.values.tobytes())
    dataset.StudyInstanceUID = _uid(f"study {study}")
    dataset.SeriesInstanceUID = _uid(f"series {series}")
    for name in _EMPTY:
        setattr(dataset, name, "")
    dataset.TimezoneOffsetFromUTC = "+0000"
    dataset.Modality = "ECG"
    dataset.SeriesNumber = None
    dataset.SeriesDescription = "Digitized from a picture of a printed ECG"
    dataset.Manufacturer = SOFTWARE
    dataset.ManufacturerModelName = SOFTWARE
    dataset.SoftwareVersions = provenance.package_version
    dataset.InstanceNumber = 1
    dataset.ContentDate = made_at.strftime("%Y%m%d")
    dataset.ContentTime = made_at.strftime("%H%M%S")
    dataset.AcquisitionDateTime = made_at.strftime("%Y%m%d%H%M%S+0000")
    dataset.AcquisitionContextSequence = []
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.ImplementationClassUID = f"2.25.{_IMPLEMENTATION.int}"
    dataset.file_meta = meta
    return dataset


def _waveform(pydicom: Any, recording: Recording, steps: Steps) -> Any:
    """Return the multiplex group that holds all leads."""
    n_channels, n_samples = steps.values.shape
    group = pydicom.Dataset()
    group.WaveformOriginality = "DERIVED"
    group.NumberOfWaveformChannels = n_channels
    group.NumberOfWaveformSamples = n_samples
    group.SamplingFrequency = f"{recording.fs_hz:.10g}"
    group.WaveformBitsAllocated = 16
    group.WaveformSampleInterpretation = "SS"
    group.WaveformPaddingValue = np.array(NOT_SEEN, "<i2").tobytes()
    group.WaveformData = steps.values.T.astype("<i2").tobytes()
    group["WaveformPaddingValue"].VR = group["WaveformData"].VR = "OW"
    group.ChannelDefinitionSequence = [
        _channel(pydicom, recording, steps, lead=lead) for lead in LEADS
    ]
    return group


def _channel(pydicom: Any, recording: Recording, steps: Steps, *, lead: str) -> Any:
    code, seen = LEAD_CODES[lead], steps.values[LEADS.index(lead)] != NOT_SEEN
    channel = pydicom.Dataset()
    channel.WaveformChannelNumber = LEADS.index(lead) + 1
    channel.ChannelLabel = lead
    if not seen.any():
        channel.ChannelStatus = "INVALID"
    elif (right := quality_of(recording).get(lead)) is not None:
        channel.ChannelStatus = "OK" if right >= DEFAULTS.right else "QUESTIONABLE"
    channel.ChannelSourceSequence = [_code(pydicom, code.dicom, "MDC", code.meaning)]
    channel.ChannelSensitivity = str(steps.step_uv)
    channel.ChannelSensitivityUnitsSequence = [_code(pydicom, "uV", "UCUM", "microvolt")]
    channel.ChannelSensitivityCorrectionFactor = "1"
    channel.ChannelBaseline = "0"
    channel.ChannelSampleSkew = "0"
    channel.WaveformBitsStored = 16
    return channel


def _annotations(pydicom: Any, recording: Recording, provenance: Provenance) -> list[Any]:
    """Return lines of text on all channels, and the printed samples of each lead."""
    n_samples = recording.signals_mv.shape[1]
    texts = [
        line[at : at + _MAX_TEXT]
        for line in told_lines(recording, provenance)
        for at in range(0, len(line), _MAX_TEXT)
    ]
    items = [_annotation(pydicom, text, channel=0) for text in texts]
    for lead in recording.layout.leads:
        item = _annotation(pydicom, told_of_lead(recording, lead), channel=LEADS.index(lead) + 1)
        start, stop = recording.layout.window(lead, n_samples)
        item.TemporalRangeType = "SEGMENT"
        item.ReferencedSamplePositions = [start + 1, stop]  # counted from 1, both inside
        items.append(item)
    return items


def _annotation(pydicom: Any, text: str, *, channel: int) -> Any:
    item = pydicom.Dataset()
    item.UnformattedTextValue = text
    item.ReferencedWaveformChannels = [1, channel]  # 0: all channels of the group
    return item


def _code(pydicom: Any, value: str, scheme: str, meaning: str) -> Any:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _uid(text: str, content: bytes = b"") -> str:
    """Return a UID that is made from what it names: 2.25 and a UUID (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(_IMPLEMENTATION, text + content.hex()).int}"
