"""What sheets without truth are read as, against a table of what a person sees printed on them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from ecg_digitize.errors import InputError
from ecg_digitize.layout import LEADS, Layout
from ecg_digitize.types import Recording

_COLUMNS: Final = ("image", "layout", "strips", "mm_per_s", "mm_per_mv")
_UNKNOWN: Final = "?"
"""Strips whose leads nobody can tell: their number is compared."""


@dataclass(frozen=True)
class PrintedSheet:
    """What a person sees."""

    image: str
    layout: str  # name of a family
    strips: tuple[str, ...]  # from the top, or _UNKNOWN
    mm_per_s: float
    mm_per_mv: float


@dataclass(frozen=True)
class SheetComparison:
    """What each sheet was read as."""

    rows: tuple[tuple[str, str, str], ...]  # image, "right", "wrong" or "refused", and why

    def to_text(self) -> str:
        """Return the table, and what it comes to."""
        width = max(len(image) for image, _, _ in self.rows)
        lines = [f"{image:<{width}}  {how:<7}  {why}" for image, how, why in self.rows]
        hows = [how for _, how, _ in self.rows]
        counts = ", ".join(f"{hows.count(how)} {how}" for how in ("right", "refused", "wrong"))
        return "\n".join([*lines, "", f"{len(hows)} sheets: {counts}"]) + "\n"


def read_printed(table: Path) -> list[PrintedSheet]:
    """Read a table of what is printed on sheets; leads of strips are separated by spaces.

    Raises:
        InputError: It cannot be read, or a column or a lead is not known.
    """
    try:
        rows = pd.read_csv(table, dtype={"strips": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{table}: expected a csv table, but got {error}") from error
    if missing := [name for name in _COLUMNS if name not in rows]:
        raise InputError(f"{table}: lacks the columns {', '.join(missing)}")
    sheets = []
    for row in rows.itertuples(index=False):
        strips = tuple(str(row.strips).split())
        if unknown := [lead for lead in strips if lead not in (*LEADS, _UNKNOWN)]:
            raise InputError(f"{table}: {row.image} has strips of no lead: {', '.join(unknown)}")
        speed, gain = float(str(row.mm_per_s)), float(str(row.mm_per_mv))
        sheets.append(PrintedSheet(str(row.image), str(row.layout), strips, speed, gain))
    return sheets


def compare_sheets(
    table: Path,
    folder: Path,
    digitize: Callable[[Path], Recording],
    *,
    progress: Callable[[], None] | None = None,
) -> SheetComparison:
    """Digitize sheets and compare what they were read as.

    Args:
        table: See ``read_printed``.
        folder: Where the pictures are.
        digitize: Whatever it raises counts as refused.
        progress: Called after each sheet.

    Raises:
        InputError: The table cannot be used.
    """
    rows = []
    for sheet in read_printed(table):
        try:
            recording = digitize(folder / sheet.image)
        except Exception as error:  # any page may fail; the table says which
            rows.append((sheet.image, "refused", f"{type(error).__name__}: {error}"))
        else:
            wrong = differences(sheet, recording.layout)
            how = "wrong" if wrong else "right"
            if recording.verdict == "reject":
                how = "refused"
            rows.append((sheet.image, how, "; ".join([recording.verdict, *wrong])))
        if progress is not None:
            progress()
    return SheetComparison(tuple(rows))


def differences(sheet: PrintedSheet, layout: Layout) -> list[str]:
    """Say in words where a layout is not what is printed."""
    strips = tuple(row.leads[0] if row.leads else _UNKNOWN for row in layout.rows if row.is_strip)
    family = layout.name.partition("+")[0]
    found = []
    if family != sheet.layout:
        found.append(f"read as {family}, is {sheet.layout}")
    are_known = _UNKNOWN not in sheet.strips
    if len(strips) != len(sheet.strips) or (are_known and strips != sheet.strips):
        found.append(f"strips {' '.join(strips) or 'none'}, are {' '.join(sheet.strips) or 'none'}")
    if layout.mm_per_s != sheet.mm_per_s:
        found.append(f"{layout.mm_per_s:g} mm/s, is {sheet.mm_per_s:g}")
    if layout.mm_per_mv != sheet.mm_per_mv:
        found.append(f"{layout.mm_per_mv:g} mm/mV, is {sheet.mm_per_mv:g}")
    return found
