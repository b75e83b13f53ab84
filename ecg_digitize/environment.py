"""What must be set in the environment before numpy and torch are imported."""

import os
from typing import Final

SETTINGS: Final = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
}
"""The threads of torch sleep while they wait: by default they spin, and where another program has
one of two cores, a page then takes 14 s of CPU in place of 9. The matrices that numpy multiplies
are small: there one thread takes a tenth of the time that two take if they have to wait.
oneDNN keeps a compiled kernel for each shape that a network sees, and sheets have many shapes: with
room for 1,024 of them, as is its default, a worker's memory grows for hours. 64 are enough for the
shapes of a page, and a page takes the same time."""


def set_environment() -> None:
    """Set what is not set; processes that are started later inherit it."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
