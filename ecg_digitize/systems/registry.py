"""What the published systems are called, and where their parts are."""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from ecg_digitize.manifest import Architecture


@dataclass(frozen=True)
class System:
    """A system that others published.

    Attributes:
        name: What `train` and `compare systems` call it.
        package: Where it is. Its module ``net`` has the class that the architecture names,
            ``training`` has ``Samples`` and ``loss_of`` as the scripts of the stages have, and
            ``read`` has ``read(page, network, models, *, fs_hz) -> Recording``.
        architecture: Its network; None if nothing of it is trained.
        reads_pages: Whether it takes whole pages to recordings.
    """

    name: str
    package: str
    architecture: Architecture | None = None
    reads_pages: bool = True

    def module(self, name: str) -> ModuleType:
        """Return one of its modules."""
        return importlib.import_module(f"{self.package}.{name}")


SYSTEMS: Final[tuple[System, ...]] = (
    System(
        "diagnose-signals",
        "ecg_digitize.diagnoses.signals",
        Architecture("SignalNet", {}),
        reads_pages=False,
    ),
    System(
        "diagnose-pictures",
        "ecg_digitize.diagnoses.pictures",
        Architecture("PictureNet", {"backbone": "tf_efficientnet_lite0"}),
        reads_pages=False,
    ),
)
"""In the order of the table."""
TRAINABLE: Final = {system.name: system for system in SYSTEMS if system.architecture is not None}
"""Those with a network, by name."""
