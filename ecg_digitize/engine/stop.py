"""Ctrl-C and SIGTERM end a run after the pages under way; a second one ends it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """Whether the run shall end."""

    number: int | None = None  # of the signal that asked for it

    @property
    def is_wanted(self) -> bool:
        """Say whether a signal came."""
        return self.number is not None

    @property
    def exit_code(self) -> int:
        """Return what shells expect of a program that a signal ended: 130 or 143; 0 without."""
        return 0 if self.number is None else 128 + self.number

    def to_text(self, *, n_done: int, n_pages: int) -> str:
        """Return the one line that the user is told."""
        name = signal.Signals(self.number).name if self.number else "nothing"
        return f"stopped by {name}: {n_done} of {n_pages} pages are done; the same command goes on"


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Take SIGINT and SIGTERM as wishes to stop, for as long as the context lasts.

    Only the main thread of a program may say what signals do: elsewhere nothing is changed.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_wanted:
            raise KeyboardInterrupt
        stop.number = number

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
