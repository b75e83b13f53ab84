"""Stage 2, the *whole* network: all four rows of the rectified page in one pass."""

import torch
from torch import Tensor, nn

from ecg_digitize.frames import RECT, TRACE_X0_PX
from ecg_digitize.layout import COMPETITION, Layout
from ecg_digitize.nets.unet import UNet, conv_block, normalized, polyphase, unfold_cells
from ecg_digitize.types import Mask, TraceMap

BIN_PX = 2
"""Rect px a vertical bin of the output is high."""

PRIOR_SIGMA_PX = 100.0
"""Where a row's trace is looked for before anything is seen: 1.25 mV round its zero line. Rows lie
284 px apart, so the neighbour starts 4 nats behind; a 3 mV wave starts 3 behind and, being seen,
catches up. Without it the network confuses rows wherever the paper is new to it."""


def row_prior() -> Tensor:
    """Return the (1, 4, bins, 1) logits that a row's trace starts from."""
    y_px = BIN_PX * torch.arange(RECT.height_px // BIN_PX) + (BIN_PX - 1) / 2
    distance = (y_px - torch.tensor(COMPETITION.zero_px)[:, None]) / PRIOR_SIGMA_PX
    return -0.5 * distance[None, :, :, None] ** 2


def column_probability(logits: Tensor, n_columns: int = COMPETITION.n_columns) -> Tensor:
    """Turn (4, bins, W) logits of a page into the (4, bins, n) distributions of its columns."""
    return torch.softmax(logits[..., TRACE_X0_PX : TRACE_X0_PX + n_columns].float(), dim=-2)


def trace_map_of(
    probability: Tensor, *, shown: Mask | None = None, layout: Layout = COMPETITION
) -> TraceMap:
    """Take a page's distributions to numpy, with where their bins lie.

    Args:
        probability: (4, bins, 5000).
        shown: (4, 5000) bool; a row has no line in columns where it is not. There the network sees
            another row and would lead to that.
        layout: What the rows show.
    """
    values = probability.float().cpu().numpy()
    if shown is not None and not shown.all():
        values = values * shown[:, None]
    return TraceMap(values, float(BIN_PX), (BIN_PX - 1) / 2, layout)


class RowNet(nn.Module):
    """What scores rows: a body that sees the picture, and for each row a head and a prior.

    The picture goes in as its four polyphase components (2x2 pixels to channels), so the encoder
    works at half the resolution without losing any. The output has a bin every 2 px down and a
    column every pixel across: a column is a sample at 500 Hz.
    """

    def __init__(
        self, prior: Tensor, *, backbone: str, decoder: tuple[int, ...], detail: int
    ) -> None:
        """Build.

        Args:
            prior: (1, rows, bins, 1) logits that each row's trace starts from; it is trained too.
            backbone: See UNet, as for the other options.
            decoder: Likewise.
            detail: Likewise.
        """
        super().__init__()
        self.body = UNet(
            backbone, in_channels=12, decoder=tuple(decoder), detail=detail, row_coordinate=True
        )
        self.row_prior = nn.Parameter(prior)
        width = self.body.out_channels
        n_rows = prior.shape[1]
        self.head = nn.Sequential(conv_block(width, width), nn.Conv2d(width, n_rows * 2 * 4, 1))

    def components(self, image: Tensor) -> Tensor:
        """Take (N, 3, H, W) grey levels to the (N, 12, H/2, W/2) input of the body."""
        return normalized(polyphase(image))

    def scores(self, features: Tensor) -> Tensor:
        """Take the body's features to (N, rows, H/2, W) logits, without the prior."""
        return unfold_cells(self.head(features), 2, 4)


class WholeNet(RowNet):
    """Rect image -> for each row and column, where the centre line lies."""

    def __init__(
        self,
        *,
        backbone: str = "tf_efficientnet_lite0",
        decoder: tuple[int, ...] = (96, 64, 48),
        detail: int = 24,
    ) -> None:
        """Build; see UNet for the options."""
        super().__init__(row_prior(), backbone=backbone, decoder=decoder, detail=detail)

    @staticmethod
    def example_input_shape() -> tuple[int, int, int, int]:
        """Return the shape of a small valid input (N, 3, H, W)."""
        return (1, 3, RECT.height_px, 128)

    def forward(self, image: Tensor) -> Tensor:
        """Score every bin.

        Args:
            image: (N, 3, H, W) grey levels 0..255, rect frame; H is 1280, W divisible by 4.

        Returns:
            (N, 4, H/2, W) logits; softmax over dim 2 gives each column's distribution.
        """
        features, _ = self.body(self.components(image))
        return self.scores(features) + self.row_prior
