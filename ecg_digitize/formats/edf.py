"""EDF+ files: twelve signals in uV and annotations.

EDF+ has no sign for a missing sample, and EDF+D can only interrupt all signals at once. So samples
that are not printed, or not seen, have the digital minimum, -32768, which no other sample has: with
steps of 1 uV that is -32.768 mV, far outside any ECG. Zeros would look like a heart that stands
still. Annotations say when each lead is printed and where it is not seen. EDF+ holds whole data
records: the last one is filled up the same way, and an annotation says where the page ends.

Source: https://www.edfplus.info/specs/edfplus.html; standard texts "ECG I", "uV". What is not
known, patient and start, is X, as EDF+ wants it.
"""

import io
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecg_digitize.errors import InputError
from ecg_digitize.extras import load
from ecg_digitize.files import replacing
from ecg_digitize.formats.description import (
    SOFTWARE,
    Provenance,
    told_lines,
    told_of_lead,
    unseen_inside,
)
from ecg_digitize.formats.steps import NOT_SEEN, to_steps
from ecg_digitize.layout import LEADS
from ecg_digitize.types import Recording

PACKAGE: Final = "edfio"
MAX_RECORD_S: Final = 60
GAPS_TEXT: Final = f"digital value {NOT_SEEN}: not printed or not seen, it is no potential"


def files(stem: Path) -> tuple[Path]:
    """Return the file of a recording."""
    return (stem.with_name(f"{stem.name}.edf"),)


def record_s(fs_hz: float) -> int:
    """Return how long a data record is: the least whole seconds that hold whole samples.

    Raises:
        InputError: There are none up to MAX_RECORD_S.
    """
    for seconds in range(1, MAX_RECORD_S + 1):
        if float(seconds * fs_hz).is_integer():
            return seconds
    raise InputError(
        f"EDF+ cannot hold {fs_hz:g} samples a second: no whole number of seconds up to "
        f"{MAX_RECORD_S} has a whole number of samples; say another --fs, e.g. 500"
    )


def check_fs(fs_hz: float) -> None:
    """Raise an InputError for sampling rates that EDF+ cannot hold, see ``record_s``."""
    record_s(fs_hz)


def write(recording: Recording, stem: Path, provenance: Provenance) -> None:
    """Write NAME.edf, whole or not at all.

    Raises:
        InputError: The package edfio is not installed, the sampling rate is none that EDF+ holds,
            or a sample is no surface ECG.
        OSError: The folder is not writable.
    """
    edfio = load(PACKAGE)
    steps, seconds = to_steps(recording), record_s(recording.fs_hz)
    n_samples = steps.values.shape[1]
    per_record = round(seconds * recording.fs_hz)
    spare = -n_samples % per_record
    values = np.pad(steps.values, ((0, 0), (0, spare)), constant_values=NOT_SEEN)
    signals = [
        edfio.EdfSignal.from_digital(
            np.ascontiguousarray(digital),
            recording.fs_hz,
            label=f"ECG {lead}",
            physical_dimension="uV",
            physical_range=(NOT_SEEN * steps.step_uv, (-NOT_SEEN - 1) * steps.step_uv),
        )
        for lead, digital in zip(LEADS, values, strict=True)
    ]
    document = edfio.Edf(
        signals,
        recording=edfio.Recording(equipment_code=f"{SOFTWARE}-{provenance.package_version}"),
        data_record_duration=seconds,
        annotations=_annotations(edfio, recording, provenance, has_spare=spare > 0),
    )
    stream = io.BytesIO()
    document.write(stream)
    (path,) = files(stem)
    with replacing(path) as partial:
        partial.write_bytes(stream.getvalue())


def _annotations(
    edfio: Any, recording: Recording, provenance: Provenance, *, has_spare: bool
) -> list[Any]:
    """Return what is told: of all at 0 s, of leads where they are printed."""
    n_samples, fs_hz = recording.signals_mv.shape[1], float(recording.fs_hz)

    def note(text: str, start: int = 0, stop: int | None = None) -> Any:
        return edfio.EdfAnnotation(
            start / fs_hz, None if stop is None else (stop - start) / fs_hz, text
        )

    about_leads = {f"lead {lead}: {told_of_lead(recording, lead)}" for lead in LEADS}
    lines = [line for line in told_lines(recording, provenance) if line not in about_leads]
    notes = [note(text) for text in [GAPS_TEXT, *lines]]
    for lead in LEADS:
        if lead not in recording.layout.leads:
            notes.append(note(f"{lead}: not printed", 0, n_samples))
            continue
        start, stop = recording.layout.window(lead, n_samples)
        notes.append(note(f"{lead}: {told_of_lead(recording, lead)}", start, stop))
        notes += [note(f"{lead}: not seen", *gap) for gap in unseen_inside(recording, lead)]
    if has_spare:
        notes.append(note("end of the page", n_samples))
    return notes
