"""Stage 2, the *strip* network: one row of any sheet, the trace whose baseline is in the middle.

Sheets of other layouts have any number of rows, as near to each other as 14 mm, and neighbours'
waves cross the strip. The network is *whole*, but it scores one row, and knows places by their
distance from the middle.
"""

from typing import Final

import torch
from torch import Tensor

from ecg_digitize.frames import RECT
from ecg_digitize.stage2.whole import BIN_PX, PRIOR_SIGMA_PX, RowNet

STRIP_PX: Final = 480
"""Height of a strip in training, and the most that the network takes: 3 mV to both sides."""
LIKE_ROW: Final = 1
"""Row of *whole* that a new strip network starts as: the nearest to the middle of the page."""


def strip_prior() -> Tensor:
    """Return the (1, 1, bins, 1) logits that the trace of a strip starts from."""
    bins_px = BIN_PX * torch.arange(STRIP_PX // BIN_PX) + (BIN_PX - STRIP_PX) / 2
    prior = -0.5 * (bins_px / PRIOR_SIGMA_PX) ** 2
    return prior[None, None, :, None]


class StripNet(RowNet):
    """Strip of a sheet -> for each column, where the middle row's centre line lies.

    The strip has the scale of the rect frame, and the row's baseline half-way down.
    """

    def __init__(
        self,
        *,
        backbone: str = "tf_efficientnet_lite0",
        decoder: tuple[int, ...] = (96, 64, 48),
        detail: int = 24,
    ) -> None:
        """Build; see UNet for the options."""
        super().__init__(strip_prior(), backbone=backbone, decoder=decoder, detail=detail)

    @staticmethod
    def example_input_shape() -> tuple[int, int, int, int]:
        """Return the shape of a small valid input (N, 3, H, W)."""
        return (1, 3, STRIP_PX, 128)

    def forward(self, image: Tensor) -> Tensor:
        """Score every bin.

        Args:
            image: (N, 3, H, W) grey levels 0..255; H at most STRIP_PX, H and W divisible by 4.

        Returns:
            (N, 1, H/2, W) logits; softmax over dim 2 gives each column's distribution.
        """
        x = self.components(image)
        height_px = image.shape[2]
        features = self.body.decode(
            self.body.encoder(x),
            x,
            reach=height_px / RECT.height_px,  # as far as in *whole*
        )
        cut = (STRIP_PX - height_px) // (2 * BIN_PX)
        return self.scores(features) + self.row_prior[:, :, cut : cut + height_px // BIN_PX]


def n_rows_of(state: dict[str, Tensor]) -> int | None:
    """Return how many rows a network scores whose state this is; None if it is no such network."""
    return state["row_prior"].shape[1] if "row_prior" in state else None


def start_as_whole(strips: StripNet, whole: dict[str, Tensor]) -> None:
    """Let a strip network begin as one row of *whole*.

    Args:
        strips: Changed in place.
        whole: State of a WholeNet of the same options.
    """
    state = {name: value for name, value in whole.items() if name != "row_prior"}
    for name in ("head.1.weight", "head.1.bias"):
        n = len(strips.state_dict()[name])
        state[name] = state[name][LIKE_ROW * n : (LIKE_ROW + 1) * n]
    state["row_prior"] = strips.row_prior.detach()
    strips.load_state_dict(state)
