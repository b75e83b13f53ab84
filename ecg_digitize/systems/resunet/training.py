"""Train the network on synthetic pages, turned upright by where their names are."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize import geometry
from ecg_digitize.frames import TIME_ORIGIN_MM, TRACE_FS_HZ
from ecg_digitize.layout import PULSE_S
from ecg_digitize.render.paper import cover_polyline
from ecg_digitize.synth.dataset import LASER_PRINTS, SyntheticPage, make_page
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.systems.resunet.page import SIZE_PX, seen, upright
from ecg_digitize.training.loop import Sample
from ecg_digitize.types import Float64, Mask

TRAINED_KINDS: Final = ("render", "scan", "scan_bw", "photo")
"""Kinds of pages that a rotation sets right, more or less."""
MEGAPIXELS: Final = 1.6
"""Of photos: about twice what the network sees."""
NAMES_OFF_MM: Final = 0.7
"""How far off stage 0 finds names, across and down."""
LEAST_STROKE_PX: Final = 1.1
"""Thinner strokes would have holes where they run between two rows of pixels."""
FOCUS: Final = 2.0
"""How much less sure answers count that are right: exponent of the focal loss."""
INK_WEIGHT: Final = 0.6
"""Weight of ink, that of paper being the rest: most F1 is had by calling ink what is so at 40 %."""


def training_page(source: SignalSource, *, seed: int, index: int) -> SyntheticPage:
    """Make a page that is seen as it lies, but for a rotation; kinds take turns."""
    return make_page(
        source,
        seed=seed,
        index=index,
        kind=TRAINED_KINDS[index % len(TRAINED_KINDS)],
        turns=False,
        max_megapixels=MEGAPIXELS,
        laser_prints=LASER_PRINTS,
    )


def true_upright(page: SyntheticPage, rng: np.random.Generator | None = None) -> Float64:
    """Return seen_from_page of a page by its true names, or by names as stage 0 finds them.

    Args:
        page: The page.
        rng: Draws how far the names are off; None: they are not.
    """
    names_mm = page.style.layout.names_mm
    if rng is not None:
        names_mm = names_mm + rng.normal(0, NAMES_OFF_MM, names_mm.shape)
    height, width = page.image.shape[:2]
    names_px = geometry.page_from_sheet(page.crossings_xy_px, names_mm)
    return upright((width, height), names_px)


def true_mask(page: SyntheticPage, seen_from_page: Float64) -> Mask:
    """Draw the traces and the calibration pulses as wide as they were printed.

    Args:
        page: The page.
        seen_from_page: See ``page.upright``.

    Returns:
        (850, 1100) bool.
    """
    layout = page.style.layout
    time_mm = TIME_ORIGIN_MM + np.arange(layout.n_columns) / TRACE_FS_HZ * layout.mm_per_s
    lines_mm = [
        np.stack([time_mm[part], page.rows_mm[row, part].astype(np.float64)], axis=1)
        for row, part in layout.pieces
    ]
    if page.style.pulses:
        across = TIME_ORIGIN_MM + PULSE_S * layout.mm_per_s * np.array([-1.0, -1, 0, 0])
        up = layout.mm_per_mv * np.array([0.0, 1, 1, 0])
        lines_mm += [np.stack([across, zero - up], axis=1) for zero in layout.zero_mm]
    all_px = geometry.apply_homography(
        seen_from_page, geometry.page_from_sheet(page.crossings_xy_px, np.concatenate(lines_mm))
    )
    strip_px = all_px[layout.pieces[-1][1]]
    length_mm = time_mm[-1] - time_mm[0]
    px_per_mm = float(np.hypot(*(strip_px[-1] - strip_px[0]))) / length_mm
    stroke_px = max(page.style.trace_width_mm * px_per_mm, LEAST_STROKE_PX)
    coverage = np.zeros(SIZE_PX[::-1], np.float32)
    ends = np.cumsum([len(line) for line in lines_mm])[:-1]
    for line_px in np.split(all_px, ends):
        cover_polyline(coverage, line_px[:, 0].copy(), line_px[:, 1].copy(), stroke_px)
    return np.asarray(coverage >= 0.5)


@dataclass(frozen=True)
class Samples:
    """Page index -> training samples (picklable, run in workers)."""

    source: SignalSource
    seed: int

    def __call__(self, index: int) -> list[Sample]:
        """Return one sample: grey (1, 850, 1100) uint8 and ink (1, 850, 1100) bool."""
        page = training_page(self.source, seed=self.seed, index=index)
        seen_from_page = true_upright(page, np.random.default_rng([self.seed, index, 23]))
        grey, ink = seen(page.image, seen_from_page), true_mask(page, seen_from_page)
        return [{"grey": grey[None], "ink": ink[None]}]


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the focal loss of a batch, per pixel of ink."""
    logits = network(batch["grey"]).float()
    ink = batch["ink"].float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, ink, reduction="none")
    missed = 1 - (-cross_entropy).exp()  # what is lacking of the right answer's probability
    weight = INK_WEIGHT * ink + (1 - INK_WEIGHT) * (1 - ink)
    total: Tensor = (weight * missed**FOCUS * cross_entropy).sum() / (ink.sum() + 1)
    return total
