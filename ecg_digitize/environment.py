"""What must be set in the environment before numpy and torch are imported."""

import os
from typing import Final

THREADS: Final = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1"}
"""The threads of torch sleep while they wait: by default they spin, and where another program has
one of two cores, a page then takes 14 s of CPU in place of 9. The matrices that numpy multiplies
are small: there one thread takes a tenth of the time that two take if they have to wait."""


def set_threads() -> None:
    """Set what is not set; processes that are started later inherit it."""
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
