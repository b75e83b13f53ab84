"""What a process does with memory that it has freed: keep it for the next page, or give it back."""

import ctypes
import mmap
import sys
from pathlib import Path
from typing import Any, Final

_M_TRIM_THRESHOLD: Final = -1  # as in malloc.h
_M_MMAP_MAX: Final = -4
_MOST_FREE_BYTES: Final = 2**31 - 1
_STATM: Final = Path("/proc/self/statm")

MOST_KEPT_BYTES: Final = 1_600_000_000
"""Of the whole process between two pages. After pages of one kind it holds 1.3 to 1.45 GB; pages of
many kinds leave free pieces of many sizes, and with each of them it would grow a little."""


def keep_memory() -> None:
    """Let the process keep the memory that it frees, for the next page.

    The networks take and free arrays of 50 to 90 MB all the time. glibc hands each back to the
    system, which clears it before it gives it out again: a fifth of the CPU seconds of a page.
    Other systems' allocators are left as they are.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _MOST_FREE_BYTES)


def give_back_memory() -> None:
    """Give what was kept back to the system, before something large is needed in one piece.

    It takes 0.1 s. What was kept lies in pieces, which a picture of 200 megapixels does not fit
    into: the process would hold both.
    """
    malloc_trim = _of_glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def bound_kept_memory() -> None:
    """Give back what was kept if it has grown beyond MOST_KEPT_BYTES; called between pages."""
    if sys.platform != "linux":
        return
    held_pages = int(_STATM.read_text().split()[1])
    if held_pages * mmap.PAGESIZE > MOST_KEPT_BYTES:
        give_back_memory()


def _of_glibc(name: str) -> Any:
    """Return a function of glibc; None where the process runs on another library of C."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
