"""The layouts that machines print, as orders of leads. A new machine is a few lines here.

Where rows lie, where leads begin and which leads the strips show is read from each sheet; see the
package ``sheet``.
"""

from dataclasses import dataclass
from typing import Final

from ecg_digitize.errors import InputError
from ecg_digitize.layout import LEADS

_SINGLE: Final = "1x1"


@dataclass(frozen=True)
class Family:
    """An order of leads in rows and columns, above any number of rhythm strips."""

    name: str
    rows: tuple[tuple[str, ...], ...]  # leads left to right, "-aVR" being aVR upside down

    @property
    def n_columns(self) -> int:
        """Leads of a row."""
        return len(self.rows[0])

    @property
    def full_name(self) -> str:
        """What ``family_named`` knows it by."""
        return self.name if self.name != _SINGLE else f"{_SINGLE} {self.rows[0][0]}"


def _by_columns(name: str, *columns: str) -> Family:
    """Return the family whose columns are given, leads separated by spaces."""
    leads = [column.split() for column in columns]
    return Family(name, tuple(zip(*leads, strict=True)))


_CHEST: Final = "V1 V2 V3", "V4 V5 V6"
_CHEST_SIX: Final = " ".join(_CHEST)

FAMILIES: Final = (
    _by_columns("3x4", "I II III", "aVR aVL aVF", *_CHEST),
    _by_columns("3x4 Cabrera", "aVL I -aVR", "II aVF III", *_CHEST),
    _by_columns("6x2", "I II III aVR aVL aVF", _CHEST_SIX),
    _by_columns("6x2 Cabrera", "aVL I -aVR II aVF III", _CHEST_SIX),
    _by_columns("12x1", f"I II III aVR aVL aVF {_CHEST_SIX}"),
    _by_columns("12x1 Cabrera", f"aVL I -aVR II aVF III {_CHEST_SIX}"),
    _by_columns("4x3", "I II III aVR", "aVL aVF V1 V2", "V3 V4 V5 V6"),
    _by_columns("6x1 limb", "I II III aVR aVL aVF"),
    _by_columns("6x1 chest", _CHEST_SIX),
    _by_columns("3x2 limb", "I II III", "aVR aVL aVF"),
    _by_columns("3x2 chest", *_CHEST),
)
"""Those that are told apart by their lead names, or by their rows alone: see ``WITHOUT_NAMES``."""

WITHOUT_NAMES: Final = {3: ("3x4", 0), 4: ("3x4", 1), 7: ("6x2", 1), 12: ("12x1", 0)}
"""By how many rows there are: the family, and its strips, that leave one usual reading."""


def single(lead: str) -> Family:
    """Return the family of a sheet that shows one lead."""
    return Family(_SINGLE, ((lead,),))


def family_named(name: str | None) -> Family | None:
    """Return the family of that name, in upper or lower case; None for None.

    Args:
        name: One of FAMILIES, or "1x1" with a lead behind it, "1x1 II" for instance.

    Raises:
        InputError: There is none.
    """
    if name is None:
        return None
    known = {family.name.casefold(): family for family in FAMILIES}
    known |= {single(lead).full_name.casefold(): single(lead) for lead in LEADS}
    if name.casefold() not in known:
        names = ", ".join((*(family.name for family in FAMILIES), "1x1 II, 1x1 with another lead"))
        raise InputError(f'layout: expected one of {names}, but got "{name}"')
    return known[name.casefold()]
