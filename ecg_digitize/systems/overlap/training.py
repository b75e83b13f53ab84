"""Train the U-Net: crops of one lead, their neighbours and others pasted across -> its trace."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import maximum_filter1d, minimum_filter1d
from torch import Tensor, nn

from ecg_digitize.frames import RECT
from ecg_digitize.layouts import FAMILIES
from ecg_digitize.synth.sheets import DEFAULTS as SHEETS
from ecg_digitize.synth.sheets import SyntheticSheet, make_sheet
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.systems.overlap.crop import HEIGHT_PX, SHRUNK, shrunk
from ecg_digitize.training.loop import Sample
from ecg_digitize.training.stage2 import JITTER_MM
from ecg_digitize.training.strips import ROW_SIGMA_MM, Strip, strip_of
from ecg_digitize.types import Float32, Float64, Image, Mask

LAYOUTS: Final = ("3x4", "6x2", "12x1")
OPTIONS: Final = SHEETS._replace(families=tuple(float(one.name in LAYOUTS) for one in FAMILIES))
"""Sheets of these layouts."""
CROP_PX: Final = 256  # a second at 25 mm/s
CROPS_A_SHEET: Final = 6
BEYOND_MM: Final = 5.0
"""How far beyond a lead's begin and end a crop's place is drawn; it is then moved inside."""
PASTED: Final = 0.5
"""Share of the crops across which another lead's trace is pasted."""
PASTED_MM: Final = (5.0, 25.0)
"""How far above or below the crop's baseline that of the pasted trace lies."""
HALF_PX: Final = 1.5
"""Half the height of what is marked about the line: 0.38 mm of the paper in all, as wide as ink."""


@dataclass(frozen=True)
class Samples:
    """Sheet index -> training samples (picklable, run in workers)."""

    source: SignalSource
    seed: int

    def __call__(self, index: int) -> list[Sample]:
        """Return CROPS_A_SHEET samples: image (3, H, w) uint8, mask (H, w) uint8, 255 all trace."""
        rng = np.random.default_rng([self.seed, index, 2])
        sheet = make_sheet(self.source, seed=self.seed, index=index, options=OPTIONS)
        leads = [(row, lead) for row, lines in enumerate(sheet.sheet.lines_mm) for lead in lines]
        samples: list[Sample] = []
        for k in rng.permutation(len(leads))[:CROPS_A_SHEET]:
            image, mask = crop_of(sheet, leads[k][0], leads[k][1], rng)
            samples.append({"image": np.ascontiguousarray(image.transpose(2, 0, 1)), "mask": mask})
        return samples


def crop_of(
    sheet: SyntheticSheet, row: int, line_mm: Float64, rng: np.random.Generator
) -> tuple[Image, Image]:
    """Cut a piece of a lead out of a sheet, by its true geometry but for an error.

    Args:
        sheet: The picture.
        row: The lead's row.
        line_mm: (n, 2) sheet xy of the lead.
        rng: Source of randomness.

    Returns:
        (HEIGHT_PX, CROP_PX, 3) uint8 RGB, and the (HEIGHT_PX, CROP_PX) uint8 mask.
    """
    begin_mm = float(line_mm[0, 0])
    last_mm = float(line_mm[-1, 0]) - CROP_PX * SHRUNK / RECT.px_per_mm_xy[0]
    x0_mm = float(rng.uniform(begin_mm - BEYOND_MM, max(begin_mm, last_mm) + BEYOND_MM))
    x0_mm = max(begin_mm, min(x0_mm, last_mm))

    def strip(of_row: int, off_mm: tuple[float, float]) -> Strip:
        width_px = CROP_PX * SHRUNK
        return strip_of(sheet, row=of_row, x0_mm=x0_mm, width_px=width_px, off_mm=off_mm)

    off_mm = rng.normal(0, (JITTER_MM, ROW_SIGMA_MM))
    own = strip(row, (float(off_mm[0]), float(off_mm[1])))
    image = own.image
    others = [k for k in range(len(sheet.sheet.lines_mm)) if k != row]
    if others and rng.random() < PASTED:
        away_mm = float(rng.choice([-1, 1]) * rng.uniform(*PASTED_MM))
        other = strip(int(rng.choice(others)), (float(off_mm[0]), away_mm))
        image = pasted(
            image,
            other,
            width_mm=sheet.sheet.style.look.trace_width_mm,
            inverted=sheet.sheet.style.inverted,
        )
    return shrunk(image), mask_of(own.y_px[0])


def pasted(image: Image, other: Strip, *, width_mm: float, inverted: bool = False) -> Image:
    """Paste the ink of another strip's middle row across a strip.

    Args:
        image: (H, w, 3) uint8 RGB, rect frame.
        other: A strip of the same size.
        width_mm: Of its trace.
        inverted: Whether ink is the brighter of the two.
    """
    half_xy_px = width_mm / 2 * np.array(RECT.px_per_mm_xy)
    reach = 2 * round(float(half_xy_px[0])) + 1
    y_px = other.y_px[0].astype(np.float64)
    upper = minimum_filter1d(np.where(np.isfinite(y_px), y_px, np.inf), reach)
    lower = maximum_filter1d(np.where(np.isfinite(y_px), y_px, -np.inf), reach)
    heights = np.arange(len(image))[:, None]
    ink: Mask = (heights >= upper - half_xy_px[1]) & (heights <= lower + half_xy_px[1])
    soft = cv2.GaussianBlur(ink.astype(np.float32), (0, 0), 0.8)[..., None]
    both = (np.maximum if inverted else np.minimum)(image, other.image)
    return np.asarray(np.rint(image + soft * (both.astype(np.float32) - image)), np.uint8)


def mask_of(y_px: Float32) -> Image:
    """Draw the mask of a line.

    In each column it reaches HALF_PX above the highest and below the lowest point of the line
    there, so that the mean of a column is the line, in steep strokes and at their tips, too.

    Args:
        y_px: (w,) rect px from the top; where NaN, the nearest known point is taken.

    Returns:
        (HEIGHT_PX, w / SHRUNK) uint8, 255 where all of a pixel is marked.
    """
    known = np.flatnonzero(np.isfinite(y_px))
    if not known.size:
        return np.zeros((HEIGHT_PX, len(y_px) // SHRUNK), np.uint8)
    line = np.interp(np.arange(len(y_px)), known, y_px[known])
    border = np.pad((line[1:] + line[:-1]) / 2, 1, mode="edge")[::SHRUNK]  # of columns of the mask
    points = np.column_stack([border[:-1], line.reshape(-1, SHRUNK), border[1:]])
    heights = np.arange(HEIGHT_PX)[:, None]
    lower = np.minimum(points.max(axis=1) + HALF_PX, heights + 0.5)
    upper = np.maximum(points.min(axis=1) - HALF_PX, heights - 0.5)
    return np.asarray(np.rint(255 * np.clip(lower - upper, 0, 1)), np.uint8)


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return cross entropy of the pixels, and 1 less Dice's coefficient of each crop."""
    mask = batch["mask"].float() / 255
    logits = network(batch["image"]).float()
    marked = torch.sigmoid(logits)
    both = 2 * (marked * mask).sum(dim=(1, 2)) + 1
    dice = both / (marked.sum(dim=(1, 2)) + mask.sum(dim=(1, 2)) + 1)
    # A trace covers a hundredth of the pixels: tenfold, their mean weighs as much as Dice does.
    return 10 * F.binary_cross_entropy_with_logits(logits, mask) + (1 - dice).mean()
