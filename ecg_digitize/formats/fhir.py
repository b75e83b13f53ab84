"""FHIR R4: an Observation with SampledData, one component a lead, as JSON.

Source: https://hl7.org/fhir/R4/datatypes.html#SampledData and the example "ekg" of
https://hl7.org/fhir/R4/observation.html. A sample that is not printed, or not seen, is "E", the
code of R4 for an error; "L" and "U" are not used, as nothing is clipped. A lead that has no sample
has a dataAbsentReason in place of a value.

The status is "preliminary": nobody has looked at it. There is no subject and no effective time, as
nothing is known of either; `issued` is when it was digitized. Two notes tell the rest: lines of
text, and the document of ``description.describe`` as JSON.
"""

import json
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecg_digitize.files import replacing
from ecg_digitize.formats.description import (
    SOFTWARE,
    Provenance,
    describe,
    printable,
    told_lines,
)
from ecg_digitize.formats.leads import LEAD_CODES, POTENTIAL
from ecg_digitize.formats.steps import NOT_SEEN, to_steps
from ecg_digitize.layout import LEADS
from ecg_digitize.types import Recording

SUFFIX: Final = ".fhir.json"
UNSEEN: Final = "E"
MDC: Final = "urn:iso:std:iso:11073:10101"
UCUM: Final = "http://unitsofmeasure.org"
CATEGORIES: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"


def files(stem: Path) -> tuple[Path]:
    """Return the file of a recording."""
    return (stem.with_name(f"{stem.name}{SUFFIX}"),)


def write(recording: Recording, stem: Path, provenance: Provenance) -> None:
    """Write NAME.fhir.json, whole or not at all; see the module.

    Raises:
        InputError: A sample is no surface ECG.
        OSError: The folder is not writable.
    """
    (path,) = files(stem)
    text = json.dumps(observation(recording, provenance), indent=1) + "\n"
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def observation(recording: Recording, provenance: Provenance) -> dict[str, Any]:
    """Return the resource, as what JSON can hold.

    Raises:
        InputError: A sample is no surface ECG.
    """
    steps = to_steps(recording)
    text = "\n\n".join(told_lines(recording, provenance))  # markdown: paragraphs
    issued = provenance.made_at.astimezone(UTC).isoformat(timespec="seconds")
    picture = {"value": f"sha256:{provenance.picture_sha256}"}
    return {
        "resourceType": "Observation",
        "status": "preliminary",
        "category": [{"coding": [_coding(CATEGORIES, "procedure", "Procedure")]}],
        "code": {"coding": [_coding(MDC, *POTENTIAL)], "text": "12-lead ECG, digitized"},
        "issued": issued,
        "method": {"text": "Digitized from a picture of a printed ECG"},
        "device": {"display": f"{SOFTWARE} {provenance.package_version}"},
        "derivedFrom": [
            {"type": "Media", "identifier": picture, "display": printable(provenance.picture)}
        ],
        "note": [{"text": text}, {"text": json.dumps(describe(recording, provenance))}],
        "component": [
            _component(lead, values, step_uv=steps.step_uv, fs_hz=recording.fs_hz)
            for lead, values in zip(LEADS, steps.values, strict=True)
        ],
    }


def _component(
    lead: str, values: NDArray[np.int16], *, step_uv: int, fs_hz: float
) -> dict[str, Any]:
    code = LEAD_CODES[lead]
    coded = {"coding": [_coding(MDC, code.potential, code.potential_name)], "text": lead}
    if (values == NOT_SEEN).all():
        reason = {"coding": [_coding(ABSENT, "unknown", "Unknown")], "text": "no sample is seen"}
        return {"code": coded, "dataAbsentReason": reason}
    data = " ".join(UNSEEN if value == NOT_SEEN else str(value) for value in values.tolist())
    return {
        "code": coded,
        "valueSampledData": {
            "origin": {"value": 0, "unit": "uV", "system": UCUM, "code": "uV"},
            "period": 1000 / fs_hz,  # milliseconds
            "factor": step_uv,
            "dimensions": 1,
            "data": data,
        },
    }


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}
