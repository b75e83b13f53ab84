"""Packages that the core installation does not bring."""

import importlib
from typing import Any

from ecg_digitize.errors import InputError


def load(package: str, *, extra: str = "formats") -> Any:
    """Import a package of an extra.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"this needs the package {package}, which cannot be imported ({error}); "
            f'run pip install "ecg-digitize[{extra}]"'
        ) from error
