"""What became of all pages: counts, and the name of each that failed.

The names of these files begin with an underscore, so that what reads the folder as one table, as
pandas and Spark do, passes over them.
"""

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow.parquet as pq

from ecg_digitize.archive.rows import FAILED
from ecg_digitize.archive.shards import Archive
from ecg_digitize.errors import EcgDigitizeError
from ecg_digitize.files import replacing

SUMMARY_NAME: Final = "_summary.json"
FAILURES_NAME: Final = "_failures.csv"
_READ: Final = ["number", "id", "path", "status", "layout", "error_stage", "error"]


@dataclass(frozen=True)
class Summary:
    """The counts of an archive. Nothing in it depends on how often it was begun."""

    pages: int
    shards: int
    by_status: Mapping[str, int]
    by_error_stage: Mapping[str, int]
    by_layout: Mapping[str, int]
    notes: tuple[str, ...]  # what was odd about the list of pages

    @property
    def n_failed(self) -> int:
        """How many pages could not be read."""
        return self.by_status.get(FAILED, 0)

    def to_text(self) -> str:
        """Return one line."""
        counts = ", ".join(f"{count} {status}" for status, count in self.by_status.items())
        return f"{self.pages} pages in {self.shards} shards: {counts}"


def summarize(archive: Archive) -> Summary:
    """Read the shards, check that each page is there once, and write summary and failures.

    Raises:
        EcgDigitizeError: A page is missing or is there twice.
        OSError: The disk is full, or not writable.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in _READ[3:6]}
    with (
        replacing(archive.out / FAILURES_NAME) as partial,
        partial.open("w", newline="", encoding="utf-8") as stream,
    ):
        failures = csv.writer(stream)
        failures.writerow(["number", "id", "path", "error_stage", "error"])
        for shard in range(archive.n_shards):
            rows = pq.read_table(archive.path(shard), columns=_READ).to_pylist()
            if [row["number"] for row in rows] != list(archive.numbers(shard)):
                raise EcgDigitizeError(
                    f"{archive.path(shard)}: does not hold its pages once each; remove the file "
                    "and run the same command again"
                )
            for name, counter in counts.items():
                counter.update(row[name] for row in rows if row[name] is not None)
            for row in rows:
                if row["status"] == FAILED:
                    told = (row[name] for name in _READ if name not in ("status", "layout"))
                    failures.writerow(told)
    status, layout, stage = (dict(sorted(counter.items())) for counter in counts.values())
    summary = Summary(
        pages=len(archive.manifest),
        shards=archive.n_shards,
        by_status=status,
        by_error_stage=stage,
        by_layout=layout,
        notes=archive.manifest.notes,
    )
    _write_json(archive, SUMMARY_NAME, asdict(summary))
    return summary


def _write_json(archive: Archive, name: str, document: Mapping[str, Any]) -> None:
    with replacing(archive.out / name) as partial:
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
