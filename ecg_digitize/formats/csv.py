"""Tables: one column a lead in millivolts, empty outside the printed window.

The plain form is the competition's: the twelve leads and nothing else. The full form has a column
`time_s` before them, and a side file NAME.json that tells the rest, see ``description``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from ecg_digitize.errors import InputError
from ecg_digitize.files import replacing
from ecg_digitize.formats.description import KIND, VERSION, Provenance, describe, recording_from
from ecg_digitize.layout import COMPETITION, LEADS, Layout
from ecg_digitize.types import Float32, Recording

TIME: Final = "time_s"
"""Seconds from the first sample, to a microsecond."""
_SAME_RATE: Final = 1e-3


def full_files(stem: Path) -> tuple[Path, Path]:
    """Return the table and the side file of the full form."""
    return stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.json")


def plain_files(stem: Path) -> tuple[Path]:
    """Return the table of the plain form."""
    return (full_files(stem)[0],)


def write_full(recording: Recording, stem: Path, provenance: Provenance) -> None:
    """Write NAME.csv with a column `time_s` before the leads, and NAME.json; see ``write_csv``."""
    path, side = full_files(stem)
    with replacing(side) as partial:
        document = describe(recording, provenance)
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    times_s = np.arange(recording.signals_mv.shape[1]) / recording.fs_hz
    table = _table(recording)
    table.insert(0, TIME, [f"{time_s:.6f}" for time_s in times_s])
    _write(table, path)


def write_plain(recording: Recording, stem: Path, provenance: Provenance) -> None:
    """Write NAME.csv of the leads alone; see ``write_csv``."""
    write_csv(recording, plain_files(stem)[0])


def write_csv(recording: Recording, path: Path) -> None:
    """Write the plain form of a recording with a resolution of 0.1 microvolt.

    The file appears complete or not at all: it is written beside `path` and then renamed.

    Args:
        recording: What to write; NaN becomes an empty cell.
        path: File to make or replace; its folder is made if need be.

    Raises:
        OSError: The folder is not writable.
    """
    _write(_table(recording), Path(path))


def read_csv(path: Path, *, fs_hz: float | None = None, any_length: bool = False) -> Recording:
    """Read a recording of either form.

    Args:
        path: Table with the columns I, II, III, aVR, aVL, aVF, V1..V6 in any order, mV; other
            columns are ignored, empty cells become NaN. Where it has a column `time_s`, NAME.json
            beside it tells layout, quality, verdict and doubts. Without that file, as without
            that column, it is ten seconds of the competition's sheet.
        fs_hz: Its sampling rate, checked against the number of rows; None takes the side file's,
            or that of the column `time_s`, or rows / 10.
        any_length: Take a table of another length, too, as the same print at another paper speed.

    Returns:
        The recording, float32.

    Raises:
        InputError: A file is missing, is no such table, or is not as long as it should be.
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
    try:
        signals_mv = np.ascontiguousarray(table[list(LEADS)].to_numpy(dtype=np.float32).T)
    except ValueError as error:
        raise InputError(f"{path}: expected numbers or empty cells: {error}") from error
    is_full = TIME in table.columns
    side = path.with_suffix(".json")
    if is_full and (document := _side_document(side)) is not None:
        return _described(signals_mv, document, path=path, side=side, fs_hz=fs_hz)
    layout = COMPETITION
    if fs_hz is None:
        fs_hz = _fs_hz_of(table[TIME]) if is_full else len(table) / layout.duration_s
    elif any_length and (not is_full or abs(_fs_hz_of(table[TIME]) / fs_hz - 1) <= _SAME_RATE):
        layout = _lasting(layout, len(table), fs_hz)
    without = f"; {side.name}, which tells its layout, is not there" if is_full else ""
    _check_length(len(table), layout.duration_s, fs_hz, path=path, hint=without)
    whole = [lead for lead, mv in zip(LEADS, signals_mv, strict=True) if np.isfinite(mv).all()]
    rhythm = (whole[0] if len(whole) == 1 else "II") if whole else None
    return Recording(signals_mv, float(fs_hz), layout.with_strip(rhythm))


def _table(recording: Recording) -> pd.DataFrame:
    return pd.DataFrame(recording.signals_mv.T.astype(np.float64), columns=list(LEADS))


def _write(table: pd.DataFrame, path: Path) -> None:
    leads = list(LEADS)
    # Adding zero after rounding turns "-0.0000" into "0.0000".
    table[leads] = table[leads].round(4) + 0.0
    with replacing(path) as partial:
        table.to_csv(partial, index=False, float_format="%.4f", lineterminator="\n")


def _side_document(side: Path) -> Mapping[str, Any] | None:
    """Return what a side file tells; None if there is none, or it is another program's."""
    try:
        document = json.loads(side.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{side}: not readable as JSON ({error}); restore or remove it") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        return None
    if document.get("version") != VERSION:
        raise InputError(
            f"{side}: expected version {VERSION}, but got {document.get('version')}; update the "
            "package, or digitize the picture again"
        )
    return document


def _described(
    signals_mv: Float32,
    document: Mapping[str, Any],
    *,
    path: Path,
    side: Path,
    fs_hz: float | None,
) -> Recording:
    try:
        recording = recording_from(document, signals_mv)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{side}: not what was written beside a table ({type(error).__name__}: {error}); "
            "restore or remove it"
        ) from error
    if fs_hz is not None and fs_hz != recording.fs_hz:
        raise InputError(
            f"{side}: says {recording.fs_hz:g} Hz, but {fs_hz:g} Hz was asked for; digitize with "
            f"--fs {fs_hz:g}"
        )
    duration_s = recording.layout.duration_s
    hint = f"; {side.name} is of another table"
    _check_length(signals_mv.shape[1], duration_s, recording.fs_hz, path=path, hint=hint)
    return recording


def _lasting(layout: Layout, n_rows: int, fs_hz: float) -> Layout:
    """Return the layout at the paper speed at which it shows so many rows, if there are any."""
    if not 0 < fs_hz < float("inf") or n_rows in (0, round(layout.duration_s * fs_hz)):
        return layout
    mm_per_s = layout.mm_per_s * layout.duration_s * fs_hz / n_rows
    return layout.calibrated(mm_per_s=mm_per_s, mm_per_mv=layout.mm_per_mv)


def _fs_hz_of(times_s: "pd.Series[float]") -> float:
    """Return the sampling rate of a column of times; NaN if it does not tell any."""
    seconds = pd.to_numeric(times_s, errors="coerce")
    took_s = float(seconds.iloc[-1] - seconds.iloc[0]) if len(seconds) > 1 else np.nan
    return round((len(seconds) - 1) / took_s, 3) if took_s > 0 else np.nan


def _check_length(n_rows: int, duration_s: float, fs_hz: float, *, path: Path, hint: str) -> None:
    wanted = round(duration_s * fs_hz) if np.isfinite(fs_hz) else 0
    if n_rows == 0 or n_rows != wanted:
        length = "ten seconds" if duration_s == COMPETITION.duration_s else f"{duration_s:g} s"
        raise InputError(
            f"{path}: expected {wanted} rows, {length} at {fs_hz:g} Hz, but got {n_rows}{hint}"
        )
