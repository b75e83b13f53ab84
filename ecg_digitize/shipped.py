"""Where the files are that belong to the package: weights, their manifest, a sample page."""

from importlib import resources
from pathlib import Path
from typing import Final

PACKAGE: Final = "ecg_digitize"


def _home() -> Path:
    package = Path(str(resources.files(PACKAGE)))
    installed = package / "shipped"  # pyproject.toml puts them there when a wheel is built
    return installed if installed.is_dir() else package.parent


HOME: Final = _home()
"""The folder that holds `weights_manifest.json` and `weights/`: the installed package's own, the
check-out, or the notebook's working folder."""


def sample_page() -> Path:
    """Return the picture to try the package on, made by its own simulator.

    Raises:
        FileNotFoundError: This copy of the package has none, as in the notebook.
    """
    candidates = (HOME / "sample.png", HOME / "tests" / "samples" / "sample_render.png")
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"no sample page: neither {candidates[0]} nor {candidates[1]} exists")
