"""What goes wrong with a page is told and never ends a batch."""

import logging
from collections.abc import Callable
from typing import TypeVar

from ecg_digitize.errors import ImageError, StageError
from ecg_digitize.types import Failure

log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


def attempt(work: Callable[[], _Result], source: str) -> _Result | Failure:
    """Do one page's work; whatever goes wrong comes back as a Failure and never ends a batch."""
    try:
        return work()
    except ImageError as error:
        return Failure(source, "read", str(error))
    except StageError as error:
        return Failure(source, error.stage, str(error))
    except Exception as error:  # a fault of ours must not cost the other thousand pages
        log.exception("%s: unexpected", source)
        return Failure(source, "unexpected", f"{type(error).__name__}: {error}")
