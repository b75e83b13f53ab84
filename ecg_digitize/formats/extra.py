"""Packages that only some formats need, and that the core installation does not bring."""

import importlib
from typing import Any

from ecg_digitize.errors import InputError


def load(package: str) -> Any:
    """Import a package of the extra `formats`.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"this format needs the package {package}, which cannot be imported ({error}); "
            'run pip install "ecg-digitize[formats]"'
        ) from error
