"""The network: 2-D convolutions, height collapsed by attention, 1-D convolutions up to 500 Hz."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize.frames import PX_PER_MM, TRACE_FS_HZ
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.nets.unet import conv_block, normalized, row_coordinate
from ecg_digitize.systems.starter import FIRST_PX, PX_PER_MV, PX_PER_S, SHEET

INPUT_PX: Final = (880, 680)
"""Width and height of the grey picture: 0.4 of the competition's renders."""
_HALF_SHEET_MV: Final = SHEET.height_px / 2 / PX_PER_MV
_DOUBLINGS: Final = 2  # from where the columns are resampled in time up to 500 Hz
_FIRST_STD: Final = 0.003
_REACH_MM: Final = 12.0  # how far from its row a head looks before it has learned anything


class RegressionNet(nn.Module):
    """Grey picture of a sheet -> twelve leads.

    Convolutions halve the height each and the width once. A head a printed row then says, column by
    column, at which heights to look. What it sees there is a sequence along the paper, which is
    resampled to the ten seconds as if the sheet filled the picture; how far it does not, the 1-D
    convolutions have to find out.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (12, 24, 48, 64),
        depth: int = 1,
        values: int = 24,
        width: int = 96,
        dilations: Sequence[int] = (1, 2, 4, 8),
    ) -> None:
        """Build with random weights.

        Args:
            channels: Of the 2-D convolutions, each of which halves the height.
            depth: Further 2-D convolutions behind them.
            values: What a head sees in a column, numbers.
            width: Channels of the 1-D convolutions.
            dilations: Of those before the sequence is resampled.
        """
        super().__init__()
        heads = COMPETITION.n_rows
        blocks = [conv_block(1, channels[0], kernel=(5, 5), stride=(2, 2))]
        for narrow, wide in pairwise(channels):
            blocks.append(conv_block(narrow, wide, stride=(2, 1)))
        blocks += [conv_block(channels[-1], channels[-1]) for _ in range(depth)]
        self.body = nn.Sequential(*blocks)
        self.scores = nn.Conv2d(channels[-1] + 1, heads, 1)
        self.values = nn.Conv2d(channels[-1] + 1, values, 1)
        n_cells = -(-INPUT_PX[1] // 2 ** len(channels))
        self.row_prior = nn.Parameter(_row_prior(n_cells))
        self.first = _conv(heads * (values + 1), width)
        self.along = nn.ModuleList(_conv(width, width, dilation=step) for step in dilations)
        self.up = nn.ModuleList(_conv(width, width) for _ in range(_DOUBLINGS))
        self.last = nn.Conv1d(width, len(LEADS), 5, padding=2)
        nn.init.normal_(self.last.weight, std=_FIRST_STD)  # else it has to learn silence first

    @staticmethod
    def example_input_shape() -> tuple[int, int, int, int]:
        """Return the shape of a small valid input (N, C, H, W)."""
        return (1, 1, INPUT_PX[1], INPUT_PX[0])

    def forward(self, image: Tensor) -> Tensor:
        """Read a sheet.

        Args:
            image: (N, 1, 680, 880) grey levels 0..255, the sheet scaled to INPUT_PX.

        Returns:
            (N, 12, 5000) mV at 500 Hz in LEADS order; only printed windows were ever judged.
        """
        features = self.body(normalized(image.contiguous(memory_format=torch.channels_last)))
        features = torch.cat([features, row_coordinate(features)], dim=1)
        scores = self.scores(features) + self.row_prior[None, :, :, None]
        weights = torch.softmax(scores, dim=2)
        heights = row_coordinate(scores, _HALF_SHEET_MV)
        seen = torch.cat([self.values(features), heights], dim=1)
        x = torch.einsum("nrhw,nvhw->nrvw", weights, seen).flatten(1, 2)
        x = self.first(x)
        for conv in self.along:
            x = x + conv(x)
        x = _in_time(x, TRACE_FS_HZ / 2**_DOUBLINGS)
        for conv in self.up:
            x = F.interpolate(conv(x), scale_factor=2, mode="linear", align_corners=False)
        mv: Tensor = self.last(x)
        return mv


def _conv(channels_in: int, channels: int, *, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(channels_in, channels, 5, padding=2 * dilation, dilation=dilation, bias=False),
        nn.BatchNorm1d(channels),
        nn.ReLU(inplace=True),
    )


def _row_prior(n_cells: int) -> Tensor:
    """Return (rows, n_cells): how much sooner a head looks near its row than elsewhere."""
    cell_mm = SHEET.height_px / PX_PER_MM / n_cells
    middles_mm = SHEET.origin_mm_xy[1] + cell_mm * (np.arange(n_cells) + 0.5)
    off_mm = middles_mm - np.array(COMPETITION.zero_mm)[:, None]
    return torch.from_numpy(-0.5 * (off_mm / _REACH_MM) ** 2).float()


def _in_time(x: Tensor, fs_hz: float) -> Tensor:
    """Resample columns of the whole picture, (N, C, W), to the ten seconds at fs_hz."""
    times_s = torch.arange(round(COMPETITION.duration_s * fs_hz), device=x.device) / fs_hz
    sheet_px = FIRST_PX + PX_PER_S * times_s
    at = (sheet_px + 0.5) * (x.shape[2] / SHEET.width_px) - 0.5
    left = at.floor().long().clamp(0, x.shape[2] - 2)
    return torch.lerp(x[..., left], x[..., left + 1], (at - left).to(x.dtype))
