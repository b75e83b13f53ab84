"""How much may still be spent on a page, so that all pages end within the time."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np


@dataclass(frozen=True)
class Level:
    """A way to digitize a page, and what it costs."""

    name: str  # a key of models.PRESETS
    cost: float  # seconds a page, as a share of the dearest level's, until it is measured


@dataclass(frozen=True)
class PaceOptions:
    """How careful the pace is."""

    reserve: float = 0.1
    """Share of the time that is left which is never planned with: later pages can be slower."""
    memory_pages: int = 40
    """Pages of a level by whose mean its cost is known; older ones are forgotten."""
    measured_pages: int = 3
    """Pages of a level before its own mean is believed rather than its share of another's."""


DEFAULTS: Final = PaceOptions()


class Pace:
    """Chooses each page's level.

    A page gets the best level at which all pages that are left would end within the time. So the
    cheap levels come first where time is short, and what they save is spent on later pages. What a
    level costs is measured while the run goes on.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        *,
        budget_s: float,
        n_pages: int,
        n_workers: int,
        clock: Callable[[], float] = time.monotonic,
        options: PaceOptions = DEFAULTS,
    ) -> None:
        """Start the clock.

        Args:
            levels: Best first.
            budget_s: The time for all pages.
            n_pages: How many there are.
            n_workers: How many are worked on at once.
            clock: Seconds.
            options: See there.
        """
        self.levels, self.options, self.clock = tuple(levels), options, clock
        self.n_left, self.n_workers = n_pages, n_workers
        self.deadline_s = clock() + budget_s
        self._took_s: dict[str, deque[float]] = {
            level.name: deque(maxlen=options.memory_pages) for level in levels
        }

    def choose(self) -> Level | None:
        """Return the level of the next page; None if the time is over."""
        left_s = self.deadline_s - self.clock()
        if left_s <= 0:
            return None
        rounds = np.ceil(self.n_left / self.n_workers) + 1  # one more: the pages under way
        self.n_left -= 1
        usable_s = left_s * (1 - self.options.reserve)
        fitting = (one for one in self.levels if self.cost_s(one) * rounds <= usable_s)
        return next(fitting, self.levels[-1])

    def took(self, level: str, seconds: float) -> None:
        """Learn what a page cost one worker."""
        self._took_s[level].append(seconds)

    def cost_s(self, level: Level) -> float:
        """Return the seconds that a page is thought to cost a worker; 0 while nothing is known."""
        own_s = self._took_s[level.name]
        if len(own_s) >= self.options.measured_pages:
            return float(np.mean(own_s))
        shares_s = [
            seconds / other.cost for other in self.levels for seconds in self._took_s[other.name]
        ]
        return float(np.mean(shares_s)) * level.cost if shares_s else 0.0
