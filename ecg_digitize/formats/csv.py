"""The competition's table: one column a lead in millivolts, empty outside the printed window."""

from pathlib import Path

import numpy as np
import pandas as pd

from ecg_digitize.errors import InputError
from ecg_digitize.files import replacing
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.types import Recording


def write_csv(recording: Recording, path: Path) -> None:
    """Write a recording with a resolution of 0.1 microvolt.

    The file appears complete or not at all: it is written beside `path` and then renamed.

    Args:
        recording: What to write; NaN becomes an empty cell.
        path: File to make or replace; its folder is made if need be.

    Raises:
        OSError: The folder is not writable.
    """
    path = Path(path)
    table = pd.DataFrame(recording.signals_mv.T.astype(np.float64), columns=list(LEADS))
    with replacing(path) as partial:
        # Adding zero after rounding turns "-0.0000" into "0.0000".
        (table.round(4) + 0.0).to_csv(
            partial, index=False, float_format="%.4f", lineterminator="\n"
        )


def read_csv(path: Path, *, fs_hz: float | None = None) -> Recording:
    """Read a recording of ten seconds.

    Args:
        path: Table with the columns I, II, III, aVR, aVL, aVF, V1..V6 in any order, mV; other
            columns are ignored, empty cells become NaN.
        fs_hz: Its sampling rate, checked against the number of rows; None takes rows / 10.

    Returns:
        The recording, float32.

    Raises:
        InputError: The file is missing, is no such table, or is not ten seconds at fs_hz.
    """
    path = Path(path)
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise InputError(f"{path}: expected a csv table of twelve leads: {error}") from error
    missing = [lead for lead in LEADS if lead not in table.columns]
    if missing:
        raise InputError(
            f"{path}: expected the columns {', '.join(LEADS)}, but {', '.join(missing)} "
            f"are missing; the header has {', '.join(map(str, table.columns))}"
        )
    if fs_hz is None:
        fs_hz = len(table) / COMPETITION.duration_s
    wanted = round(COMPETITION.duration_s * fs_hz)
    if len(table) == 0 or len(table) != wanted:
        raise InputError(
            f"{path}: expected {wanted} rows, ten seconds at {fs_hz:g} Hz, but got {len(table)}"
        )
    try:
        signals_mv = table[list(LEADS)].to_numpy(dtype=np.float32)
    except ValueError as error:
        raise InputError(f"{path}: expected numbers or empty cells: {error}") from error
    whole = [lead for lead in LEADS if np.isfinite(signals_mv[:, LEADS.index(lead)]).all()]
    rhythm = (whole[0] if len(whole) == 1 else "II") if whole else None
    layout = COMPETITION.with_strip(rhythm)
    return Recording(np.ascontiguousarray(signals_mv.T), float(fs_hz), layout)
