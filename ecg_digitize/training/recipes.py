"""How stage 2 can be trained, by name: what ships, and what the second place published."""

from dataclasses import dataclass
from typing import Final

from ecg_digitize.frames import RECT
from ecg_digitize.training.losses import SHIPS


@dataclass(frozen=True)
class Recipe:
    """What of a training is not the network.

    Attributes:
        loss: A key of losses.MIXTURES.
        batch: Samples a step.
        learning_rate: The highest; it falls by a cosine.
        weight_decay: Of AdamW.
        width_px: Columns of a sample, rect frame; None: those of the stage's own crops.
        epochs: How often a page of each record is seen; None: as often as the time allows.
    """

    loss: str = SHIPS
    batch: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    width_px: int | None = None
    epochs: int | None = None

    def steps(self, n_records: int) -> int | None:
        """Return how many steps the epochs are; None if the time alone ends the training."""
        return None if self.epochs is None else self.epochs * n_records // self.batch


OWN: Final = "own"
RECIPES: Final = {
    OWN: Recipe(),
    "published": Recipe(
        loss="published mask", learning_rate=5e-4, width_px=RECT.width_px, epochs=50
    ),
}
"""The published one is that of the six large members, whose inputs are whole pages (3, 1280, 5600)
or four rows (4, 3, 480, 5600); they used learning rates of 5e-4 to 1e-3."""
