"""An encoder over the rectified picture, scaled down.

The published system (place 8 of 16 in the Challenge of 2024, macro F 0.393) has a ResNet50 of
ImageNet there: that is ``backbone="resnet50"``.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ecg_digitize.diagnoses.classes import CLASSES
from ecg_digitize.frames import RECT, Frame
from ecg_digitize.nets import lite
from ecg_digitize.nets.encoder import Encoder
from ecg_digitize.nets.unet import normalized
from ecg_digitize.stage1.rows import laid_out
from ecg_digitize.stage1.sight import seen_in
from ecg_digitize.types import GridMap, Image

SEEN: Final[Frame] = replace(RECT, width_px=1120, height_px=640, px_per_mm_xy=(4.0, 4.0))
"""What the network looks at: what the rect frame shows, at 4 px/mm, so 100 px/s and 40 px/mV."""


def picture_input(image: Image, grid: GridMap, *, frame: Frame = SEEN) -> Image:
    """Rectify a picture for the network, twice as fine as wanted: thin lines must not fall through.

    Args:
        image: (H, W, 3) uint8 RGB.
        grid: Where the crossings of the competition's sheet lie in it.
        frame: What is wanted of the sheet.

    Returns:
        (3, height, width) uint8.
    """
    across, down = frame.px_per_mm_xy
    x_mm, y_mm = frame.origin_mm_xy
    finer = Frame(
        width_px=2 * frame.width_px,
        height_px=2 * frame.height_px,
        px_per_mm_xy=(2 * across, 2 * down),
        origin_mm_xy=(x_mm - 0.25 / across, y_mm - 0.25 / down),
    )
    seen = seen_in(finer, image, laid_out(grid).crossings_xy_px)
    shrunk = cv2.resize(seen, (frame.width_px, frame.height_px), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(shrunk.transpose(2, 0, 1), np.uint8)


class PictureNet(nn.Module):
    """Rectified picture -> logits of the classes."""

    def __init__(
        self,
        *,
        backbone: str = lite.NAME,
        levels: int = 5,
        dropout: float = 0.2,
        classes: Sequence[str] = CLASSES,
        thresholds: Sequence[float] = (0.5,) * len(CLASSES),
    ) -> None:
        """Build; see ``signals.net.SignalNet`` for what classes and thresholds are.

        Args:
            backbone: See ``Encoder``.
            levels: Of it.
            dropout: Share of what is left out in training.
            classes: What the logits are of.
            thresholds: One a class.
        """
        super().__init__()
        self.classes, self.thresholds = tuple(classes), tuple(thresholds)
        encoder = Encoder(backbone, in_channels=3, levels=levels)
        self.body = nn.ModuleDict({"encoder": encoder})  # where ``train --encoder`` looks for it
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * encoder.channels[-1], len(self.classes))

    @staticmethod
    def example_input_shape() -> tuple[int, int, int, int]:
        """Return the shape of a small valid input (N, 3, H, W)."""
        return (1, 3, 128, 160)

    def forward(self, image: Tensor) -> Tensor:
        """Score each class.

        Args:
            image: (N, 3, H, W) grey levels 0..255, see ``picture_input``.

        Returns:
            (N, classes) logits.
        """
        x = normalized(image.contiguous(memory_format=torch.channels_last))
        deepest = self.body["encoder"](x)[-1]
        pooled = torch.cat([deepest.mean((2, 3)), deepest.amax((2, 3))], dim=1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits
