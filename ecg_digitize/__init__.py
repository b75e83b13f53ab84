"""Pictures of 12-lead ECG printouts to signals in millivolts.

    from ecg_digitize import digitize, load_models
    page = digitize("page.png", fs_hz=500, models=load_models())
    page.recording.signals_mv  # (12, 5000) float32 mV, NaN outside each lead's printed window

Names are loaded when first used, so that importing the package costs nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "digitize": "many",
    "digitize_many": "many",
    "digitize_page": "pipeline",
    "load_models": "models",
    "Digitization": "types",
    "Failure": "types",
    "Page": "types",
    "Recording": "types",
    "PageRef": "inputs",
    "pages_of": "inputs",
    "read_image": "image",
    "read_page": "inputs",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
