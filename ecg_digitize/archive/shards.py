"""Rows -> parquet files, whole or not at all; and the rows that wait until their shard is full.

A finished page waits as a file of its own, see ``engine.store``. So memory holds the rows of one
shard, however many are open, and a kill costs the pages under way and no other.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ecg_digitize.archive.manifest import Manifest
from ecg_digitize.archive.rows import Row
from ecg_digitize.engine.store import PageStore
from ecg_digitize.errors import EcgDigitizeError
from ecg_digitize.files import replacing
from ecg_digitize.layout import LEADS

SHARD_PAGES: Final = 64
STORE_NAME: Final = ".ecg_digitize"
_SETTINGS: Final = b"ecg_digitize.settings"

LEAD_TYPE: Final = pa.struct(
    [("start_s", pa.float64()), ("quality", pa.float32()), ("mv", pa.list_(pa.float32()))]
)
"""A lead; null if it is not printed. NaN in mv is what is printed but not to be seen."""
_SCALARS: Final = (
    ("status", pa.string()),
    ("doubts", pa.list_(pa.string())),
    ("layout", pa.string()),
    ("rhythm", pa.string()),
    ("mm_per_s", pa.float64()),
    ("mm_per_mv", pa.float64()),
    ("fs_hz", pa.float64()),
    ("einthoven_mv", pa.float64()),
    ("error_stage", pa.string()),
    ("error", pa.string()),
    ("picture_sha256", pa.string()),
)  # in Row, under the same names
_OURS: Final = {"number", "package_version", "weights_sha256", *dict(_SCALARS), *LEADS}
_SAMPLES: Final = [f"{lead}.mv.list.element" for lead in LEADS]
_REPEATED: Final = ["status", "layout", "rhythm", "package_version", "weights_sha256"]


@dataclass(frozen=True)
class Archive:
    """The shards of a list of pages in a folder."""

    out: Path
    manifest: Manifest
    settings: str  # hash of all that rows depend on besides their pictures
    package_version: str
    weights_sha256: str
    shard_pages: int = SHARD_PAGES

    @property
    def n_shards(self) -> int:
        """How many shards the pages make."""
        return -(-len(self.manifest) // self.shard_pages)

    def shard_of(self, number: int) -> int:
        """Return the shard of a page."""
        return number // self.shard_pages

    def numbers(self, shard: int) -> range:
        """Return the pages of a shard."""
        first = shard * self.shard_pages
        return range(first, min(first + self.shard_pages, len(self.manifest)))

    def path(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.out / f"shard-{shard:05d}.parquet"

    def is_closed(self, shard: int) -> bool:
        """Say whether a shard is there, whole and of these settings."""
        try:
            footer = pq.read_metadata(self.path(shard))
        except (OSError, pa.ArrowException):  # a power cut can leave a file of zeros
            return False
        told = (footer.metadata or {}).get(_SETTINGS, b"").decode()
        n_rows = int(footer.num_rows)
        return n_rows == len(self.numbers(shard)) and told == self.settings

    def left(self, shard: int) -> Sequence[int]:
        """Return the pages of an open shard that nobody has read yet."""
        store = self._store(shard)
        if not store.folder.is_dir():
            return self.numbers(shard)
        return [number for number in self.numbers(shard) if store.get(str(number), None) is None]

    def keep(self, number: int, row: Row) -> None:
        """Let a page wait until its shard is full.

        Raises:
            OSError: The disk is full, or not writable.
        """
        arrays = {lead: one.mv for lead, one in row.leads.items()}
        store = self._store(self.shard_of(number))
        store.put(str(number), row.picture_sha256 or "", meta=row.to_meta(), arrays=arrays)

    def close(self, shard: int) -> None:
        """Write a shard whose pages are all kept.

        Raises:
            EcgDigitizeError: A page is missing.
            OSError: The disk is full, or not writable.
        """
        store = self._store(shard)
        kept = {number: store.get(str(number), None) for number in self.numbers(shard)}
        missing = [number for number, stored in kept.items() if stored is None]
        if missing:
            if self.is_closed(shard):  # on Ray, by another one who did the same
                return
            raise EcgDigitizeError(
                f"{store.folder}: page {missing[0]} was taken away; run the same command again"
            )
        table = self.table(shard, [Row.from_stored(one) for one in kept.values() if one])
        with replacing(self.path(shard)) as partial, partial.open("wb") as stream:
            pq.write_table(
                table,
                stream,
                compression="zstd",
                use_dictionary=_REPEATED,
                use_byte_stream_split=_SAMPLES,
            )
            stream.flush()
            os.fsync(stream.fileno())  # before the name is given, or a power cut leaves zeros
        store.remove()

    def table(self, shard: int, rows: Sequence[Row]) -> pa.Table:
        """Return the rows of a shard as a table: the list's columns, then what was read."""
        numbers = self.numbers(shard)
        listed = self.manifest.table.slice(numbers.start, len(numbers))
        columns: dict[str, Any] = {"number": pa.array(numbers, pa.int64())}
        for name in listed.column_names:
            ours = f"manifest_{name}" if name in _OURS else name
            columns[ours] = listed[name].combine_chunks()
        for name, kind in _SCALARS:
            columns[name] = pa.array([getattr(row, name) for row in rows], kind)
        for name in ("package_version", "weights_sha256"):
            columns[name] = pa.array([getattr(self, name)] * len(rows), pa.string())
        for lead in LEADS:
            columns[lead] = _lead_column(lead, rows)
        return pa.table(columns).replace_schema_metadata({_SETTINGS: self.settings.encode()})

    def _store(self, shard: int) -> PageStore:
        return PageStore(self.out / STORE_NAME / self.path(shard).stem, self.settings)


def _lead_column(lead: str, rows: Sequence[Row]) -> pa.Array:
    signals = [row.leads.get(lead) for row in rows]
    mv = [np.zeros(0, np.float32) if one is None else one.mv for one in signals]
    ends = np.cumsum([0, *map(len, mv)], dtype=np.int32)
    values = np.concatenate([*mv, np.zeros(0, np.float32)])
    return pa.StructArray.from_arrays(
        [
            pa.array([None if one is None else one.start_s for one in signals], pa.float64()),
            pa.array([None if one is None else one.quality for one in signals], pa.float32()),
            pa.ListArray.from_arrays(pa.array(ends), pa.array(values, pa.float32())),
        ],
        fields=list(LEAD_TYPE),
        mask=pa.array([one is None for one in signals]),
    )
