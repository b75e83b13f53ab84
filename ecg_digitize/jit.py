"""How kernels are compiled: by numba, without the GIL, and kept on disk where that is possible."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

log = logging.getLogger(__name__)

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(function: _F) -> _F:
    """Compile a function with numba when it is first called.

    numba keeps the machine code beside the source. Where the package lies read-only it takes a
    folder of the user, and NUMBA_CACHE_DIR names another one. Where it can write to none of them,
    every process compiles anew: that takes seconds, and the run goes on.

    `parallel=True` is not used: on two cores it gained nothing (0.13 s for the ridges of a page
    either way), and it cost 3 s of the first page.

    Args:
        function: In nopython mode.

    Returns:
        The compiled function, with the types of the plain one.
    """
    try:
        return cast(_F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError as error:  # numba found no folder that it may write to
        log.warning("%s; it is compiled anew by every process", error)
        return cast(_F, numba.njit(nogil=True)(function))
