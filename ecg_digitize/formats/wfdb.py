"""WFDB records: a header NAME.hea and 16 bit samples NAME.dat, as PhysioNet has them.

Source: https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm: in format 16, the value
-32768 says that a sample is missing. So samples that are not printed, or not seen, have it, and
`wfdb.rdrecord` gives NaN for them. A lead that is not printed is a signal without any sample.
Comments of the header tell the rest, see ``description.told_lines``.
"""

import hashlib
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from ecg_digitize.extras import load
from ecg_digitize.files import replacing
from ecg_digitize.formats.description import Provenance, told_lines
from ecg_digitize.formats.steps import to_steps
from ecg_digitize.layout import LEADS
from ecg_digitize.types import Recording

PACKAGE: Final = "wfdb"
_OTHER: Final = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME: Final = 80


def record_name(name: str) -> str:
    """Return the name of a record: WFDB allows letters, digits, hyphens and underscores.

    A name that has others, or is long, gets underscores in their place, and eight digits of its
    SHA-256, so that two pictures never share a record.
    """
    allowed = _OTHER.sub("_", name)
    if allowed == name and len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{allowed[:_MAX_NAME]}-{digest[:8]}"


def files(stem: Path) -> tuple[Path, Path]:
    """Return the samples and the header of a recording; see ``record_name``."""
    name = record_name(stem.name)
    return stem.with_name(f"{name}.dat"), stem.with_name(f"{name}.hea")


def write(recording: Recording, stem: Path, provenance: Provenance) -> None:
    """Write a record of twelve signals in mV: the samples, then the header that names them.

    Raises:
        InputError: The package wfdb is not installed, or a sample is no surface ECG.
        OSError: The folder is not writable.
    """
    wfdb = load(PACKAGE)
    steps = to_steps(recording)
    n_leads, name = len(LEADS), record_name(stem.name)
    with TemporaryDirectory() as folder:
        wfdb.wrsamp(
            name,
            fs=recording.fs_hz,
            units=["mV"] * n_leads,
            sig_name=list(LEADS),
            d_signal=steps.values.T.astype(np.int64),
            fmt=["16"] * n_leads,
            adc_gain=[1000 / steps.step_uv] * n_leads,
            baseline=[0] * n_leads,
            comments=told_lines(recording, provenance),
            write_dir=folder,
        )
        for path in files(stem):
            with replacing(path) as partial:
                shutil.copyfile(Path(folder) / path.name, partial)
