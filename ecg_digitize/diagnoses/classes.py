"""The classes, and how they follow from the SCP codes of PTB-XL.

The rules are those of the PhysioNet Challenge 2024, but for one: it parts acute from old infarction
by statements of a program that PTB-XL does not have. Here both are MI.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from ecg_digitize.errors import InputError
from ecg_digitize.types import Float32

_CODES: Final = {
    "NORM": "NORM",
    "MI": "IMI ASMI ILMI AMI ALMI INJAS LMI INJAL IPLMI IPMI INJIN INJLA PMI INJIL",
    "STTC": "NDT NST_ DIG LNGQT ISC_ ISCAL ISCIN ISCIL ISCAS ISCLA ANEUR EL ISCAN",
    "CD": "LAFB IRBBB 1AVB IVCD CRBBB CLBBB LPFB WPW ILBBB 3AVB 2AVB",
    "HYP": "LVH LAO/LAE RVH RAO/RAE SEHYP",
    "AFIB/AFL": "AFIB AFLT",
    "PVC": "PVC",
    "TACHY": "STACH SVTAC PSVT",
    "BRADY": "SBRAD",
    "PAC": "PAC",
}
CODES: Final = {name: frozenset(codes.split()) for name, codes in _CODES.items()}
"""Class -> the codes that make it, whatever their likelihood. The first five are the codes with
`diagnostic == 1` in scp_statements.csv of PTB-XL, by their `diagnostic_class`."""

CLASSES: Final = tuple(CODES)
"""In the order of every table and of the networks' outputs."""


@dataclass(frozen=True)
class Labelled:
    """What is known of a record."""

    classes: frozenset[str]  # of CLASSES
    validation: bool  # for judging alone: nothing may be learned from it


def classes_of(scp_codes: Collection[str]) -> frozenset[str]:
    """Return the classes of a record with these SCP codes."""
    return frozenset(name for name, codes in CODES.items() if not codes.isdisjoint(scp_codes))


def targets_of(classes: Collection[str]) -> Float32:
    """Return (10,) float32: 1 for each class of CLASSES that is among these, else 0."""
    return np.array([name in classes for name in CLASSES], np.float32)


def read_labels(path: Path) -> dict[str, Labelled]:
    """Read a table of labelled records.

    Args:
        path: csv with the columns id, scp_codes (apart by spaces), and validation (0 or 1).

    Returns:
        What is known of each record, by its id.

    Raises:
        InputError: There is no such table, or a cell of it cannot be used.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a table of labelled records: {error}") from error
    missing = {"id", "scp_codes", "validation"} - set(table.columns)
    if missing or not len(table) or not set(table["validation"]) <= {"0", "1"}:
        raise InputError(
            f"{path}: expected the columns id, scp_codes and validation (0 or 1) and at least one "
            f"row, but got {', '.join(map(str, table.columns))} and {len(table)} rows"
        )
    rows = zip(table["id"], table["scp_codes"], table["validation"], strict=True)
    return {name: Labelled(classes_of(codes.split()), kept == "1") for name, codes, kept in rows}
