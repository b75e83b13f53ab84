"""submission.parquet: one row a sample, in the order of test.csv."""

import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecg_digitize.answers import FALLBACK_MV
from ecg_digitize.competition import TestRow
from ecg_digitize.files import replacing
from ecg_digitize.types import Float32

SCHEMA: Final = pa.schema([("id", pa.string()), ("value", pa.float32())])


def write_submission(
    output: Path,
    rows: Sequence[TestRow],
    values_mv_of: Callable[[str], Mapping[str, Float32] | None],
) -> int:
    """Write the values of all rows; the file appears whole or not at all.

    Args:
        output: The parquet file: id string, value float32 (mV).
        rows: Of test.csv; one with a problem gets the fallback.
        values_mv_of: Gives what was read of an image, lead by lead; None if nothing was.

    Returns:
        The number of rows written.

    Raises:
        OSError: The disk is full, or not writable.
    """
    n_rows = 0
    with (
        replacing(output) as partial,
        pq.ParquetWriter(partial, SCHEMA, use_dictionary=False) as writer,
    ):
        for image_id, block in groupby(rows, key=lambda row: row.image_id):
            table = _table(list(block), values_mv_of(image_id) or {})
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            n_rows += table.num_rows
    return n_rows


def _table(leads: Sequence[TestRow], values_mv: Mapping[str, Float32]) -> pa.Table:
    """Return the rows of consecutive leads of one page."""
    ids, values = [], []
    for row in leads:
        read_mv = None if row.problem is not None else values_mv.get(row.lead)
        if read_mv is None:
            read_mv = np.full(row.n_samples, FALLBACK_MV, dtype=np.float32)
        # Arrow joins the parts outside Python: 37 million strings are never objects, and a page of
        # 37,500 rows is made and written in 8 ms.
        prefix, suffix = pa.scalar(f"{row.image_id}_"), pa.scalar(f"_{row.lead}")
        ids.append(pc.binary_join_element_wise(prefix, _numbers(row.n_samples), suffix, ""))
        values.append(read_mv[: row.n_samples])  # a lead that is asked twice holds the longer
    columns = [pa.chunked_array(ids, pa.string()), pa.chunked_array(values, pa.float32())]
    return pa.table(columns, schema=SCHEMA)


@functools.lru_cache(maxsize=32)
def _numbers(count: int) -> pa.Array:
    return pc.cast(pa.array(np.arange(count)), pa.string())
