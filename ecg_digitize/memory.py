"""What a process does with memory that it has freed: keep it for the next page, or give it back."""

import ctypes
import sys
from typing import Any, Final

_M_TRIM_THRESHOLD: Final = -1  # as in malloc.h
_M_MMAP_MAX: Final = -4
_MOST_FREE_BYTES: Final = 2**31 - 1


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


def _of_glibc(name: str) -> Any:
    """Return a function of glibc; None where the process runs on another library of C."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
