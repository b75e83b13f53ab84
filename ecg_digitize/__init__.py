"""Pictures of 12-lead ECG printouts to signals in millivolts.

    from ecg_digitize import Digitizer
    with Digitizer() as digitizer:
        reading = digitizer.digitize("page.png")
    reading.to_dataframe()  # mV, a column a lead, NaN where it is not printed

Names are loaded when first used, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecg_digitize.digitizer import DigitizedPage, Digitizer
    from ecg_digitize.image import read_image
    from ecg_digitize.inputs import PageRef, pages_of, read_page
    from ecg_digitize.many import digitize, digitize_many
    from ecg_digitize.models import load_models
    from ecg_digitize.pipeline import digitize_page
    from ecg_digitize.types import Digitization, Failure, Page, Recording

__version__ = "0.1.0"

__all__ = [
    "Digitization", "DigitizedPage", "Digitizer", "Failure", "Page", "PageRef", "Recording",
    "digitize", "digitize_many", "digitize_page", "load_models", "pages_of", "read_image",
    "read_page",
]  # fmt: skip
_HOME = {
    "digitize": "many",
    "digitize_many": "many",
    "digitize_page": "pipeline",
    "load_models": "models",
    "Digitization": "types",
    "DigitizedPage": "digitizer",
    "Digitizer": "digitizer",
    "Failure": "types",
    "Page": "types",
    "PageRef": "inputs",
    "Recording": "types",
    "pages_of": "inputs",
    "read_image": "image",
    "read_page": "inputs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
