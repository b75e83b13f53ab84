"""The figures of many pages as one csv table."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ecg_digitize.files import replacing
from ecg_digitize.layout import LEADS
from ecg_digitize.measures.figures import FIGURES, NOTE

TABLE_NAME: Final = "measures.csv"
COLUMNS: Final = (
    "picture",
    "verdict",
    *FIGURES,
    *(f"st_{lead}_mv" for lead in LEADS),
    "n_beats",
    "note",
)


@dataclass(frozen=True)
class MeasuredPage:
    """A row of the table."""

    picture: str
    verdict: str  # "ok", "check", "reject" or "failed"
    measures: Mapping[str, Any] | None  # as ``Measures.to_json`` gives it; None: nothing is known
    error: str = ""  # why the page failed


def write_table(path: Path, pages: Iterable[MeasuredPage]) -> None:
    """Write a row a page; what was not measured is empty, and ``note`` says why.

    Raises:
        OSError: The file cannot be written.
    """
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(_row(page) for page in pages)


def _row(page: MeasuredPage) -> dict[str, Any]:
    known = page.measures or {}
    notes = [NOTE, *known.get("notes", ()), *([page.error] if page.error else [])]
    return {
        "picture": page.picture,
        "verdict": page.verdict,
        **{name: known.get(name) for name in (*FIGURES, "n_beats")},
        **{f"st_{lead}_mv": known.get("st_mv", {}).get(lead) for lead in LEADS},
        "note": "; ".join(notes),
    }
