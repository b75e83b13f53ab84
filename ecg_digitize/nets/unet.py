"""A small U-Net on any encoder: the body of all three stages."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize.nets.encoder import Encoder


def conv_block(
    in_channels: int,
    out_channels: int,
    *,
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
) -> nn.Sequential:
    """Return convolution, batch norm, ReLU; odd kernels keep the size but for the stride."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def row_coordinate(x: Tensor, reach: float = 1.0) -> Tensor:
    """Return a channel like x's that runs from -reach at the top to reach at the bottom."""
    n, _, height, width = x.shape
    rows = torch.linspace(-reach, reach, height, device=x.device, dtype=x.dtype)
    channel = rows[None, None, :, None].expand(n, 1, height, width)
    # A channel of another memory format would turn the whole result, at a copy each way.
    return channel.contiguous(memory_format=torch.channels_last)


class UNet(nn.Module):
    """Encoder, skip connections and a decoder down to stride 2 or 4.

    The output carries the full resolution in its channels: heads unfold each cell into
    the pixels it covers, which costs a quarter of convolutions at full resolution.
    """

    def __init__(
        self,
        backbone: str,
        *,
        in_channels: int,
        decoder: tuple[int, ...],
        levels: int | None = None,
        detail: int = 0,
        row_coordinate: bool = False,
    ) -> None:
        """Build.

        Args:
            backbone: timm name.
            in_channels: Channels of the input.
            decoder: Channels of the decoder's blocks, deepest first; each doubles the resolution.
            levels: Levels of the encoder, the deepest at stride 2 ** levels; by default as many
                as bring the last block to stride 2.
            detail: Channels of an own stride-2 stem that goes straight to the last block.
            row_coordinate: Append the row coordinate to every decoder block's input.
        """
        super().__init__()
        self.row_coordinate = row_coordinate
        levels = len(decoder) + 1 if levels is None else levels
        self.encoder = Encoder(backbone, in_channels=in_channels, levels=levels)
        skips = self.encoder.channels[-2::-1]
        blocks, channels = [], self.encoder.channels[-1]
        for k, (skip, width) in enumerate(zip(skips, decoder, strict=False)):
            extra = detail if k == len(decoder) - 1 else 0
            blocks.append(conv_block(channels + skip + extra + row_coordinate, width))
            channels = width
        self.blocks = nn.ModuleList(blocks)
        self.detail = None
        if detail:
            self.detail = nn.Sequential(
                nn.Conv2d(in_channels, detail, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(detail),
                nn.ReLU(inplace=True),
            )
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decoder's features and the deepest encoder level.

        Args:
            x: (N, C, H, W); H and W even.
        """
        levels = self.encoder(x)
        return self.decode(levels, x), levels[-1]

    def decode(self, levels: list[Tensor], x: Tensor, *, reach: float = 1.0) -> Tensor:
        """Return the decoder's features.

        Args:
            levels: The encoder's, finest first.
            x: The input, which the detail stem looks at.
            reach: How far the row coordinate runs from 0.
        """
        y = levels[-1]
        for k, block in enumerate(self.blocks):
            skip = levels[-2 - k]
            doubled = F.interpolate(y, scale_factor=2, mode="nearest")
            parts = [doubled[:, :, : skip.shape[2], : skip.shape[3]], skip]  # odd sizes round up
            if self.detail is not None and k == len(self.blocks) - 1:
                parts.append(self.detail(x))
            if self.row_coordinate:
                parts.append(row_coordinate(skip, reach))
            y = block(torch.cat(parts, dim=1))
        return y


def unfold_cells(x: Tensor, rows: int, columns: int) -> Tensor:
    """Turn (N, C*rows*columns, H, W) into (N, C, H*rows, W*columns): a pixel shuffle."""
    n, channels, height, width = x.shape
    c = channels // (rows * columns)
    x = x.view(n, c, rows, columns, height, width).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c, height * rows, width * columns)


class MarkerHead(nn.Sequential):
    """Maps features to logits of rare marks: the bias starts where hardly anything is one."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Build a 3x3 block and a 1x1 convolution."""
        last = nn.Conv2d(in_channels, out_channels, 1)
        nn.init.constant_(last.bias, -5.0)  # type: ignore[arg-type]
        super().__init__(conv_block(in_channels, in_channels), last)


def normalized(image: Tensor) -> Tensor:
    """Map grey levels 0..255 to [-1, 1], as the encoder was trained (mean = std = 0.5).

    What comes out has the precision that convolutions take: they would each round it anew.
    """
    x = image.div(127.5).sub_(1.0)
    device = image.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def polyphase(image: Tensor) -> Tensor:
    """Turn 2x2 pixels of (N, C, H, W) to channels, (N, 4 C, H / 2, W / 2), channels last.

    As F.pixel_unshuffle does, which takes 75 ms for the bytes of a page, where this takes 20.
    """
    phases = [image[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    x = torch.stack(phases, dim=2).flatten(1, 2)
    return x.contiguous(memory_format=torch.channels_last)
