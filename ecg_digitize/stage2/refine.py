"""The centre lines, refined on the rectified pixels around them.

The *whole* network finds each trace but rounds it off: the pen is eight columns wide, and tips of
QRS complexes come out short. Here each row is looked at again at full resolution, in a band that
follows its decoded line, so that even the steepest stroke lies level, and what is left between the
line and the ink's true centre is read off. Twelve renders go from 22.9 to 28.7 dB.
"""

from functools import cache
from typing import Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize.frames import TRACE_X0_PX
from ecg_digitize.layout import COMPETITION, Layout
from ecg_digitize.nets.unet import conv_block, normalized
from ecg_digitize.types import Float32, Image, RectifiedPage, Trace, TraceMap

BAND_PX: Final = 64
"""Height of a band, rect px. Lines that are off by half of it cannot be mended."""
REACH_PX: Final = (BAND_PX - 1) / 2

PASSES: Final = 1
"""A second one, whose bands follow the lines that the first refined, brings nothing: renders go
from 28.68 to 28.71 dB, kit pages from 26.21 to 26.22, scans from 21.97 to 21.92."""

PIXELS: Final = 4  # channels with a value for every pixel: red, green, blue, probability
CLUES: Final = 6  # channels with one value a column

_SMOOTHER: Final = np.array([1, 4, 6, 4, 1]) / 16
_SEAM_COLUMNS: Final = 15.0  # how far a lead's begin and end are felt


@cache
def _seams(layout: Layout) -> Float32:
    """Return (rows, 2, columns): nearness of each to the begin and to the end of its lead."""
    nearness = np.zeros((layout.n_rows, 2, layout.n_columns), np.float32)
    for row, lead in layout.pieces:
        column = np.arange(lead.stop - lead.start)
        nearness[row, :, lead] = np.exp(-np.stack([column, column[::-1]]) / _SEAM_COLUMNS)
    return nearness


def smooth_lines(y_px: Float32, *, layout: Layout = COMPETITION) -> Float32:
    """Smooth (rows, columns) lines over five columns, each lead for itself: what bands follow."""
    smooth = y_px.copy()
    for row, lead in layout.pieces:
        padded = np.pad(y_px[row, lead], 2, mode="edge")
        smooth[row, lead] = np.convolve(padded, _SMOOTHER, "valid")
    return smooth


def pixels_along(image: Image, trace_map: TraceMap, line_px: Float32) -> Image:
    """Cut a band along each line out of the picture and out of stage 2's map.

    Args:
        image: (1280, 5600, 3) uint8 RGB, rect frame.
        trace_map: What the *whole* network said.
        line_px: (4, 5000) float32, rect px: where the bands' middles are.

    Returns:
        (4, PIXELS, BAND_PX, 5000) uint8: red, green, blue, and the root of the probability.
    """
    rows, columns = line_px.shape
    bands = np.empty((rows, PIXELS, BAND_PX, columns), np.uint8)
    x = np.arange(columns, dtype=np.float32)
    x = np.broadcast_to(x, (BAND_PX, columns))
    offset = (np.arange(BAND_PX, dtype=np.float32) - np.float32(REACH_PX))[:, None]
    for row in range(rows):
        y = line_px[row] + offset
        rgb = cv2.remap(
            image, x + np.float32(TRACE_X0_PX), y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        bands[row, :3] = np.moveaxis(rgb, 2, 0)
        bins = (y - np.float32(trace_map.first_px)) / np.float32(trace_map.px_per_bin)
        probability = cv2.remap(trace_map.probability[row], x, bins, cv2.INTER_LINEAR)
        probability = np.clip(np.nan_to_num(probability), 0, 1)
        bands[row, 3] = np.rint(255 * np.sqrt(probability))
    return bands


def clues_along(trace: Trace, line_px: Float32) -> Float32:
    """Say of every column what its pixels do not, in grey levels.

    Args:
        trace: As decoded.
        line_px: (4, 5000) float32, what the bands follow.

    Returns:
        (4, CLUES, 5000) float32: slope of the line (8 px a column), decoded less followed line
        (4 px), distance below the zero line (1 mV), confidence, nearness of the lead's begin and of
        its end; none is 127.5, the unit in brackets 255, and nothing lies beyond four units.
    """
    layout = trace.layout
    zero_px = np.array(layout.zero_px, np.float32)[:, None]
    clues = np.stack(
        [
            np.gradient(line_px, axis=1) / 8,
            (trace.y_px - line_px) / 4,
            (line_px - zero_px) / np.float32(layout.px_per_mv),
            trace.confidence,
        ],
        axis=1,
    )
    clues = np.concatenate([np.clip(clues, -4, 4), _seams(layout)], axis=1)
    return (127.5 + 127.5 * clues).astype(np.float32)


def flipped(
    pixels: Tensor, clues: Tensor, *, upside_down: bool, backwards: bool
) -> tuple[Tensor, Tensor]:
    """Turn bands upside down or run time backwards: strokes of a pen, either way.

    Args:
        pixels: (..., PIXELS, BAND_PX, W) uint8.
        clues: (..., CLUES, W) float32.
        upside_down: The offset then has the other sign.
        backwards: The offset's columns are then reversed.

    Returns:
        Pixels and clues of the flipped bands.
    """
    if upside_down:
        pixels = pixels.flip(-2)
        clues = torch.cat([255 - clues[..., :3, :], clues[..., 3:, :]], dim=-2)
    if backwards:
        pixels = pixels.flip(-1)
        slope, between, begin, end = torch.split(clues.flip(-1), [1, 3, 1, 1], dim=-2)
        clues = torch.cat([255 - slope, between, end, begin], dim=-2)
    return pixels, clues


def bands_from(pixels: Tensor, clues: Tensor) -> Tensor:
    """Join (N, PIXELS, BAND_PX, W) and (N, CLUES, W) to the network's input, float32."""
    clues = clues[:, :, None].expand(-1, -1, pixels.shape[2], -1)
    return torch.cat([pixels.float(), clues], dim=1)


class RefineNet(nn.Module):
    """A band along a line -> how far the ink's centre lies below the line, column by column.

    Four convolutions shrink the band's height to four cells, and the width by two; then it is a
    sequence, along which dilated convolutions look 0.25 s to both sides.
    """

    def __init__(
        self,
        *,
        stem: tuple[int, ...] = (32, 48, 64, 96),
        width: int = 128,
        dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1),
    ) -> None:
        """Build.

        Args:
            stem: Channels of the four convolutions over the band.
            width: Channels of the sequence.
            dilations: One a block of the sequence.
        """
        super().__init__()
        kernels = ((5, 5), (3, 5), (3, 5), (3, 3))
        blocks, channels = [], PIXELS + 2
        for out, kernel, across in zip(stem, kernels, (2, 1, 1, 1), strict=True):
            blocks.append(conv_block(channels, out, kernel=kernel, stride=(2, across)))
            channels = out
        self.stem = nn.Sequential(*blocks)
        self.join = nn.Conv1d(channels * BAND_PX // 16 + 2 * CLUES, width, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(width, width, 5, padding=2 * d, dilation=d, bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(inplace=True),
            )
            for d in dilations
        )
        self.head = nn.Conv1d(width, 2, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    @staticmethod
    def example_input_shape() -> tuple[int, int, int, int]:
        """Return the shape of a small valid input (N, PIXELS + CLUES, BAND_PX, W)."""
        return (1, PIXELS + CLUES, BAND_PX, 128)

    def forward(self, bands: Tensor) -> Tensor:
        """Measure the distance from the line to the ink's centre.

        Args:
            bands: (N, PIXELS + CLUES, BAND_PX, W) grey levels, see `bands_from`; W even.

        Returns:
            (N, W) rect px, positive downwards.
        """
        n, _, height, columns = bands.shape
        clues = normalized(bands[:, PIXELS:, 0])
        clues = clues.reshape(n, -1, columns // 2, 2).transpose(2, 3).flatten(1, 2)
        x = normalized(bands[:, : PIXELS + 1])
        down = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)
        down = down[None, None, :, None].expand(n, 1, height, columns)
        x = torch.cat([x, down], dim=1)  # pixels, slope, row coordinate
        x = self.stem(x.contiguous(memory_format=torch.channels_last)).flatten(1, 2)
        x = F.relu(self.join(torch.cat([x, clues], dim=1)))
        for block in self.blocks:
            x = x + block(x)
        offset: Tensor = self.head(x).transpose(1, 2).flatten(1)
        return 4 * offset


def refine_input(
    rectified: RectifiedPage, trace_map: TraceMap, trace: Trace
) -> tuple[Float32, Image, Float32]:
    """Prepare what the network needs of a page.

    Args:
        rectified: The page.
        trace_map: What the *whole* network said of it.
        trace: As decoded.

    Returns:
        The lines followed, (4, 5000) rect px; their pixels and clues, see `pixels_along` and
        `clues_along`.
    """
    line_px = smooth_lines(trace.y_px, layout=trace.layout)
    return line_px, pixels_along(rectified.image, trace_map, line_px), clues_along(trace, line_px)
