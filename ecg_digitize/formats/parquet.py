"""A parquet table of one recording: `time_s`, then one float32 column a lead in mV.

A sample that is not printed, or not seen, is null. The samples are exact. The schema's metadata
holds, under `ecg_digitize`, the document of ``description.describe`` as JSON.
"""

import json
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ecg_digitize.files import replacing
from ecg_digitize.formats.csv import TIME
from ecg_digitize.formats.description import Provenance, describe
from ecg_digitize.layout import LEADS
from ecg_digitize.types import Recording

METADATA_KEY: Final = b"ecg_digitize"


def files(stem: Path) -> tuple[Path]:
    """Return the file of a recording."""
    return (stem.with_name(f"{stem.name}.parquet"),)


def write(recording: Recording, stem: Path, provenance: Provenance) -> None:
    """Write NAME.parquet, whole or not at all.

    Raises:
        OSError: The folder is not writable.
    """
    document = json.dumps(describe(recording, provenance))
    times_s = np.arange(recording.signals_mv.shape[1]) / recording.fs_hz
    columns = {TIME: pa.array(times_s)}
    for lead, mv in zip(LEADS, recording.signals_mv, strict=True):
        columns[lead] = pa.array(mv, mask=np.isnan(mv))
    table = pa.table(columns).replace_schema_metadata({METADATA_KEY: document.encode()})
    (path,) = files(stem)
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd", use_dictionary=False)
