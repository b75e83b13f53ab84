"""Stage 2, the *series* network: one strip a row, seen by one encoder, that tell each other."""

from typing import Final

import torch
from torch import Tensor, nn

from ecg_digitize.frames import RECT
from ecg_digitize.layout import COMPETITION
from ecg_digitize.nets.unet import UNet, conv_block, normalized, polyphase, unfold_cells
from ecg_digitize.stage2.strip import STRIP_PX, strip_prior
from ecg_digitize.stage2.whole import BIN_PX

STRIP_TOPS_PX: Final = tuple(
    BIN_PX * round((zero - STRIP_PX / 2) / BIN_PX) for zero in COMPETITION.zero_px
)
"""Where the strips begin: a row's zero line is half-way down its own, as in StripNet."""
BELOW_PX: Final = STRIP_TOPS_PX[-1] + STRIP_PX - RECT.height_px
"""How far the lowest strip reaches beyond the page, whose last line goes on there."""
NOWHERE: Final = -30.0
"""Logit of the bins outside a row's strip."""


class ConvFusion(nn.Module):
    """All rows as the channels of one picture: every row learns its own share of the others."""

    def __init__(self, channels: int) -> None:
        """Build; adds nothing until trained."""
        super().__init__()
        self.conv = nn.Conv2d(
            COMPETITION.n_rows * channels, COMPETITION.n_rows * channels, 3, padding=1
        )
        _start_silent(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return what to add to (N * rows, C, H, W)."""
        rows = x.unflatten(0, (-1, COMPETITION.n_rows)).flatten(1, 2)  # type: ignore[no-untyped-call]
        return self.conv(rows).reshape(x.shape)  # type: ignore[no-any-return]


class SharedConvFusion(nn.Module):
    """One convolution for all rows, over a row and the mean of all."""

    def __init__(self, channels: int) -> None:
        """Build; adds nothing until trained."""
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, 3, padding=1)
        _start_silent(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return what to add to (N * rows, C, H, W)."""
        rows = x.unflatten(0, (-1, COMPETITION.n_rows))  # type: ignore[no-untyped-call]
        mean = rows.mean(1, keepdim=True).expand_as(rows).flatten(0, 1)
        return self.conv(torch.cat([x, mean], dim=1))  # type: ignore[no-any-return]


class VolumeFusion(nn.Module):
    """A convolution over height, width and rows: a row hears of those right above and below it."""

    def __init__(self, channels: int) -> None:
        """Build; adds nothing until trained."""
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, 3, padding=1)
        _start_silent(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return what to add to (N * rows, C, H, W)."""
        volume = x.unflatten(0, (-1, COMPETITION.n_rows)).transpose(1, 2)  # type: ignore[no-untyped-call]
        return self.conv(volume).transpose(1, 2).flatten(0, 1)  # type: ignore[no-any-return]


FUSIONS: Final[dict[str, type[nn.Module]]] = {
    "conv2d": ConvFusion,
    "shared": SharedConvFusion,
    "conv3d": VolumeFusion,
}


class SeriesNet(nn.Module):
    """Does what WholeNet does, strip by strip: a drop-in for it.

    The four strips go through one encoder; at every level the rows exchange what they see, by
    residual addition, and one decoder reads each strip.
    """

    def __init__(
        self,
        *,
        backbone: str = "tf_efficientnet_lite0",
        decoder: tuple[int, ...] = (96, 64, 48),
        detail: int = 24,
        fusion: str = "shared",
    ) -> None:
        """Build; see UNet for the options.

        Raises:
            ValueError: The fusion is not one of FUSIONS.
        """
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, but got {fusion!r}")
        self.body = UNet(
            backbone, in_channels=12, decoder=tuple(decoder), detail=detail, row_coordinate=True
        )
        self.fusions = nn.ModuleList(FUSIONS[fusion](c) for c in self.body.encoder.channels)
        self.row_prior = nn.Parameter(strip_prior().repeat(1, COMPETITION.n_rows, 1, 1))
        width = self.body.out_channels
        self.head = nn.Sequential(conv_block(width, width), nn.Conv2d(width, 2 * 4, 1))

    @staticmethod
    def example_input_shape() -> tuple[int, int, int, int]:
        """Return the shape of a small valid input (N, 3, H, W)."""
        return (1, 3, RECT.height_px, 128)

    def forward(self, image: Tensor) -> Tensor:
        """Score every bin; see WholeNet.forward."""
        x = normalized(polyphase(_strips_of(image)))
        levels = [
            level + fuse(level)
            for level, fuse in zip(self.body.encoder(x), self.fusions, strict=True)
        ]
        features = self.body.decode(levels, x, reach=STRIP_PX / RECT.height_px)
        logits = unfold_cells(self.head(features), 2, 4).unflatten(0, (-1, COMPETITION.n_rows))  # type: ignore[no-untyped-call]
        return _on_page(logits.squeeze(2) + self.row_prior)


class StripsOfPage(nn.Module):
    """Has a strip network read the four rows of a page one by one: a drop-in for WholeNet."""

    def __init__(self, strips: nn.Module) -> None:
        """Take the network.

        Args:
            strips: A StripNet, or what computes the same.
        """
        super().__init__()
        self.strips = strips

    def forward(self, image: Tensor) -> Tensor:
        """Score every bin; see WholeNet.forward."""
        logits = self.strips(_strips_of(image))
        return _on_page(logits.unflatten(0, (-1, COMPETITION.n_rows)).squeeze(2))


def _strips_of(image: Tensor) -> Tensor:
    """Cut (N, C, H, W) pages into their (N * rows, C, STRIP_PX, W) strips."""
    below = image[:, :, -1:].expand(-1, -1, BELOW_PX, -1)
    page = torch.cat([image, below], dim=2)
    strips = torch.stack([page[:, :, top : top + STRIP_PX] for top in STRIP_TOPS_PX], dim=1)
    return strips.flatten(0, 1)


def _on_page(logits: Tensor) -> Tensor:
    """Put (N, rows, STRIP_PX / BIN_PX, W) logits of strips where they are on the page."""
    n, n_rows, _, width = logits.shape
    n_bins = (RECT.height_px + BELOW_PX) // BIN_PX
    page = logits.new_full((n, n_rows, n_bins, width), NOWHERE)
    for row, top in enumerate(STRIP_TOPS_PX):
        page[:, row, top // BIN_PX : (top + STRIP_PX) // BIN_PX] = logits[:, row]
    return page[:, :, : RECT.height_px // BIN_PX]


def start_as_strips(series: SeriesNet, strips: dict[str, Tensor]) -> None:
    """Let a series network begin as a strip network that looks at each row by itself.

    Args:
        series: Changed in place; its fusions keep what they have, which is nothing at first.
        strips: State of a StripNet of the same options.
    """
    state = {**series.state_dict(), **strips}
    state["row_prior"] = strips["row_prior"].repeat(1, COMPETITION.n_rows, 1, 1)
    series.load_state_dict(state)


def _start_silent(conv: nn.Conv2d | nn.Conv3d) -> None:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
