"""The codes that standards give to the twelve leads.

Source: ISO/IEEE 11073-10101, partition 2. The lead codes are those of DICOM's CID 3001 "ECG Lead"
(PS3.16), the potentials those of the HL7 FHIR example "ekg": 2 * 65536 + 256 + the lead's code.
"""

from typing import Final, NamedTuple

from ecg_digitize.layout import LEADS

_PARTITION: Final = 2
_POTENTIAL: Final = 256  # MDC_ECG_ELEC_POTL
_CODES: Final = (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)  # in LEADS order
_AUGMENTED: Final = {"aVR": "right", "aVL": "left", "aVF": "foot"}


class LeadCode(NamedTuple):
    """How a lead is called in ISO/IEEE 11073."""

    dicom: str  # PARTITION:CODE, scheme MDC
    meaning: str  # in CID 3001
    potential: str  # context-free code of its potential
    potential_name: str  # MDC_ECG_ELEC_POTL_...


def _code(lead: str, code: int) -> LeadCode:
    side = _AUGMENTED.get(lead)
    return LeadCode(
        f"{_PARTITION}:{code}",
        f"{lead}, augmented voltage, {side}" if side else f"Lead {lead}",
        str(_PARTITION * 65536 + _POTENTIAL + code),
        f"MDC_ECG_ELEC_POTL_{lead.upper()}",
    )


LEAD_CODES: Final = {lead: _code(lead, code) for lead, code in zip(LEADS, _CODES, strict=True)}
POTENTIAL: Final = (str(_PARTITION * 65536 + _POTENTIAL), "MDC_ECG_ELEC_POTL")
