"""What the look of a page is drawn from, and how bad it may get."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ecg_digitize.errors import InputError

MAX_SEVERITY: Final = 2.0


@dataclass(frozen=True)
class Chance:
    """A source of randomness that makes what it draws milder or worse.

    Attributes:
        rng: Draws the sheet, what befell it, and the camera.
        scenery: Draws desks, shadows, marks: an effect more there moves no sheet elsewhere.
        severity: 0 as mild as a kind of page gets, 1 as usual, 2 at worst.
    """

    rng: np.random.Generator
    scenery: np.random.Generator
    severity: float = 1.0

    def __post_init__(self) -> None:
        """Refuse severities that nothing was made for."""
        if not 0 <= self.severity <= MAX_SEVERITY:
            raise InputError(
                f"severity must be from 0 (mild) over 1 (usual) to {MAX_SEVERITY:g} (worst), "
                f"but got {self.severity:g}"
            )

    @property
    def aside(self) -> "Chance":
        """The same severity, drawn from the scenery's generator."""
        return Chance(self.scenery, self.scenery, self.severity)

    def split(self) -> "Chance":
        """Return the same severity, drawn from a new generator: all others stay as they are."""
        (rng,) = self.scenery.spawn(1)
        return Chance(rng, rng, self.severity)

    def scaled(self, value: float, *, mild: float = 0.0) -> float:
        """Move a drawn value from the mild one as far as the severity says."""
        return float(mild + (value - mild) * self.severity)

    def strength(self, low: float, high: float, *, mild: float | None = None) -> float:
        """Draw from [low, high] and scale; `mild` is the value at severity 0, by default low."""
        drawn = float(self.rng.uniform(low, high))
        return self.scaled(drawn, mild=low if mild is None else mild)
