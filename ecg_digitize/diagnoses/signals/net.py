"""A small residual network along time."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize.diagnoses.classes import CLASSES
from ecg_digitize.diagnoses.inputs import N_CHANNELS


class _Block(nn.Module):
    """Two convolutions beside a shortcut; half as many samples come out."""

    def __init__(self, channels_in: int, channels: int, *, kernel: int, dropout: float) -> None:
        super().__init__()
        pad = kernel // 2
        self.first = nn.Conv1d(channels_in, channels, kernel, 2, pad, bias=False)
        self.norm1 = nn.BatchNorm1d(channels)
        self.second = nn.Conv1d(channels, channels, kernel, 1, pad, bias=False)
        self.norm2 = nn.BatchNorm1d(channels)
        self.beside = nn.Conv1d(channels_in, channels, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        out = self.dropout(F.relu(self.norm1(self.first(x))))
        out = self.norm2(self.second(out))
        shortcut = self.beside(F.avg_pool1d(x, 2, ceil_mode=True))
        return F.relu(out + shortcut)


class SignalNet(nn.Module):
    """Twelve leads and where they are printed -> logits of the classes.

    Attributes:
        classes: What the logits are of.
        thresholds: From which probability on a class is decided for.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (32, 48, 64, 96, 128),
        kernel: int = 7,
        dropout: float = 0.2,
        classes: Sequence[str] = CLASSES,
        thresholds: Sequence[float] = (0.5,) * len(CLASSES),
    ) -> None:
        """Build.

        Args:
            widths: Channels of the stem and of the blocks; each halves the samples.
            kernel: Samples that a convolution sees.
            dropout: Share of what is left out in training.
            classes: What the logits are of.
            thresholds: One a class; no part of what is trained, see ``thresholds.py``.

        Raises:
            ValueError: There is not one threshold for each class.
        """
        super().__init__()
        self.classes, self.thresholds = tuple(classes), tuple(thresholds)
        if len(self.classes) != len(self.thresholds):
            raise ValueError(
                f"expected a threshold for each of {len(self.classes)} classes, but got "
                f"{len(self.thresholds)}"
            )
        stem, *deeper = widths
        self.stem = nn.Conv1d(N_CHANNELS, stem, kernel, 2, kernel // 2, bias=False)
        self.norm = nn.BatchNorm1d(stem)
        blocks, channels = [], stem
        for width in deeper:
            blocks.append(_Block(channels, width, kernel=kernel, dropout=dropout))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * channels, len(self.classes))

    @staticmethod
    def example_input_shape() -> tuple[int, int, int]:
        """Return the shape of a small valid input (N, 24, n)."""
        return (1, N_CHANNELS, 256)

    def forward(self, signals: Tensor) -> Tensor:
        """Score each class.

        Args:
            signals: (N, 24, n) as ``inputs.input_of`` makes them.

        Returns:
            (N, classes) logits.
        """
        signals = signals.float()
        x: Tensor = self.blocks(F.relu(self.norm(self.stem(signals))))
        printed = signals[:, N_CHANNELS // 2 :].amax(dim=1, keepdim=True) > 0
        seen = F.adaptive_max_pool1d(printed.float(), x.shape[2])
        mean = (x * seen).sum(2) / seen.sum(2).clamp_min(1)
        most = (x * seen).amax(2)  # never negative
        logits: Tensor = self.head(self.dropout(torch.cat([mean, most], dim=1)))
        return logits
