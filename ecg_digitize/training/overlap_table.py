"""The table of `compare overlap`: ways to read crops of one lead, beside the figures of a paper."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

STRIPS: Final = "strips (ships)"
UNET: Final = "U-Net on crops"
BASELINE: Final = "baseline"
"""The ink of a row's own height, its columns' means, nothing told apart."""
PAPER: Final = {
    "paper (its own pages)": ("  102   0.870    0.0029         -    0.9641",
                              "    -       -    0.0010         -    0.9644"),
    "paper's baseline": ("  102       -    0.0178         -    0.8676",
                         "    -       -    0.0015         -    0.9366"),
}  # fmt: skip
"""What Karbasi et al. print, with overlap and without."""
HOW_TO_TRAIN: Final = (
    "not trained: ecg-digitize train overlap --source SPEC --minutes 25 --batch 8 "
    "--learning-rate 2e-3 --out DIR/overlap, then --trained DIR"
)


@dataclass(frozen=True)
class LineScore:
    """How near a line that was read is to the true one."""

    iou: float
    mse_mv2: float
    pearson: float  # 0 where the line is flat


@dataclass(frozen=True)
class LeadCrop:
    """One lead, as each way reads it."""

    overlaps: bool  # whether a neighbour reaches as high or as low as the lead itself does
    readings: Mapping[str, LineScore]  # by way


@dataclass(frozen=True)
class OverlapComparison:
    """Some crops with overlap, and as many without."""

    crops: tuple[LeadCrop, ...]

    def to_text(self) -> str:
        """Return the table to read."""
        names = f"{'n':>5}{'IoU':>8}{'MSE mV2':>10}{'median':>10}{'Pearson':>10}"
        lines = []
        for title, overlaps in (("with overlap", True), ("without", False)):
            lines.append(f"{title:<22}{names}")
            some = [crop.readings for crop in self.crops if crop.overlaps == overlaps]
            for way in (STRIPS, UNET, BASELINE):
                figures = [one[way] for one in some if way in one]
                lines.append(f"{way:<22}{_row(figures) if figures else '  ' + HOW_TO_TRAIN}")
            lines += [f"{way:<22}{rows[not overlaps]}" for way, rows in PAPER.items()]
            lines.append("")
        return "\n".join(lines)


def _row(figures: list[LineScore]) -> str:
    iou, mse, pearson = np.array([(one.iou, one.mse_mv2, one.pearson) for one in figures]).T
    return (
        f"{len(figures):5d}{iou.mean():8.3f}{mse.mean():10.4f}"
        f"{np.median(mse):10.5f}{pearson.mean():10.4f}"
    )
