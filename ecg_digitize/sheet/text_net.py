"""The network that reads a line of printed text, letter by letter."""

from typing import Final

import torch
from torch import Tensor, nn

from ecg_digitize.nets.unet import conv_block

HEIGHT_PX: Final = 24
"""Height of a line of text as the network sees it."""
STRIDE: Final = 2
"""Input px a step of the output is wide."""
LETTERS: Final = "0123456789abcdefghijklmnopqrstuvwxyz.,:/-()=%~"
"""What is read; capitals are read as small letters."""
BLANK: Final = 0
"""Class of steps that begin no letter."""
SPACE: Final = len(LETTERS) + 1
OTHER: Final = len(LETTERS) + 2
"""Class of all other signs."""
N_CLASSES: Final = len(LETTERS) + 3


class TextNet(nn.Module):
    """Line of text -> which letter stands at each step, to be read as CTC does.

    A. Graves et al., "Connectionist temporal classification", ICML 2006.
    """

    def __init__(
        self, *, widths: tuple[int, int, int] = (24, 48, 72), letters: int = 96, context: int = 3
    ) -> None:
        """Build.

        Args:
            widths: Channels at a height of 24, 12 and 6 px.
            letters: Channels where letters are told apart.
            context: Blocks that look at the neighbours of a letter.
        """
        super().__init__()
        first, second, third = widths
        self.strokes = nn.Sequential(
            conv_block(1, first),
            conv_block(first, second, stride=(2, 2)),
            conv_block(second, second),
            conv_block(second, third, stride=(2, 1)),
            conv_block(third, third),
        )
        self.letters = nn.Sequential(
            nn.Conv2d(third, letters, (HEIGHT_PX // 4, 1), bias=False),
            nn.BatchNorm2d(letters),
            nn.ReLU(),
            *(conv_block(letters, letters, kernel=(1, 5)) for _ in range(context)),
        )
        self.head = nn.Conv2d(letters, N_CLASSES, 1)

    @staticmethod
    def example_input_shape() -> tuple[int, int, int, int]:
        """Return the shape of a small valid input (N, 1, H, W)."""
        return (2, 1, HEIGHT_PX, 96)

    def forward(self, line: Tensor) -> Tensor:
        """Read lines.

        Args:
            line: (N, 1, HEIGHT_PX, W) uint8, 0 where paper is, 255 where ink is; W even.

        Returns:
            (N, N_CLASSES, W / STRIDE) logits.
        """
        share = line.float() / 255
        x = self.strokes(share.contiguous(memory_format=torch.channels_last))
        logits: Tensor = self.head(self.letters(x))
        return logits.squeeze(2)
