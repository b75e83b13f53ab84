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
        needs: Networks of ours that it asks, fields of ``models.Models``.
        has_masks: Whether its ``judge.f1_on`` tells how good its masks are.
        published: The figures that its authors give.
    """

    name: str
    package: str
    architecture: Architecture | None = None
    reads_pages: bool = True
    needs: tuple[str, ...] = ()
    has_masks: bool = False
    published: str = ""

    def module(self, name: str) -> ModuleType:
        """Return one of its modules."""
        return importlib.import_module(f"{self.package}.{name}")


SYSTEMS: Final[tuple[System, ...]] = (
    System("classical", "ecg_digitize.systems.classical"),
    System("regression", "ecg_digitize.systems.regression", Architecture("RegressionNet", {})),
    System(
        "resunet",
        "ecg_digitize.systems.resunet",
        Architecture("ResUNet", {}),
        needs=("stage0",),
        has_masks=True,
        published="F1 of masks 0.89; 5.33 dB on its own pages, 2.20 dB on hidden ones",
    ),
    System(
        "overlap",
        "ecg_digitize.systems.overlap",
        Architecture("OverlapNet", {}),
        needs=("stage0", "stage1"),
    ),
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
