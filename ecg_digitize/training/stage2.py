"""Train stage 2: rectified pages with true geometry -> the centre line of each row's trace."""

import logging
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from torch import Tensor, nn

from ecg_digitize.frames import RECT, TIME_ORIGIN_MM, TRACE_FS_HZ, crossings_mm
from ecg_digitize.geometry import page_from_sheet
from ecg_digitize.layout import COMPETITION
from ecg_digitize.stage1.rows import as_laid_out, laid_out
from ecg_digitize.stage1.sight import seen_in
from ecg_digitize.stage2.whole import BIN_PX
from ecg_digitize.synth.dataset import LASER_PRINTS, OTHER_MACHINES, SyntheticPage, make_page
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.loop import Sample
from ecg_digitize.training.losses import MIXTURES, SHIPS, Mixture, column_loss

log = logging.getLogger(__name__)

CROP_PX: Final = 1280  # 2.56 s of all four rows: covers one lead bar on average
CROPS_A_PAGE: Final = 2
SEAM_REACH_PX: Final = 12  # a bar covers 7 to 9 columns on either side
JITTER_MM: Final = 0.12  # what stage 1 may leave; the labels move along


@dataclass(frozen=True)
class Crop:
    """A piece of a rectified page with its centre lines."""

    image: np.ndarray  # (1280, w, 3) uint8 RGB
    y_px: np.ndarray  # (4, w) float32 rect px, NaN outside the ten seconds
    seams: np.ndarray  # (4, w) bool, columns within SEAM_REACH_PX of a lead's begin or end


def rectified_crop(
    page: SyntheticPage, *, x0_px: int, width_px: int, shift_mm: tuple[float, float] = (0.0, 0.0)
) -> Crop:
    """Cut columns [x0, x0 + width) of the rect frame from a page, by its true geometry.

    Args:
        page: The page.
        x0_px: First rect column.
        width_px: Columns.
        shift_mm: Error of the geometry to imitate; labels stay on the ink.

    Returns:
        The crop.
    """
    grid = page.grid
    table = laid_out(grid).crossings_xy_px
    if any(shift_mm):
        table = page_from_sheet(table, crossings_mm() + np.array(shift_mm)).astype(np.float32)
    origin = (RECT.origin_mm_xy[0] + x0_px / RECT.px_per_mm_xy[0], RECT.origin_mm_xy[1])
    frame = replace(RECT, width_px=width_px, origin_mm_xy=origin)
    image = seen_in(frame, page.image, table)
    x_mm = origin[0] + np.arange(width_px) / RECT.px_per_mm_xy[0] + shift_mm[0]
    sample = (x_mm - TIME_ORIGIN_MM) / COMPETITION.mm_per_s * TRACE_FS_HZ
    rows_mm = as_laid_out(page.rows_mm.astype(np.float64), grid.rows_mm)
    y_px = np.empty((COMPETITION.n_rows, width_px), np.float32)
    seams = np.zeros((COMPETITION.n_rows, width_px), np.bool_)
    for row in range(COMPETITION.n_rows):
        n = COMPETITION.n_columns // len(COMPETITION.rows[row].segments)
        seams[row] = np.abs((sample + n / 2) % n - n / 2) <= SEAM_REACH_PX
        y_mm = np.interp(sample, np.arange(COMPETITION.n_columns), rows_mm[row])
        y_px[row] = (y_mm - shift_mm[1] - RECT.origin_mm_xy[1]) * RECT.px_per_mm_xy[1]
    y_px[:, (sample < -0.5) | (sample > COMPETITION.n_columns - 0.5)] = np.nan
    return Crop(image, y_px, seams)


def training_page(
    source: SignalSource, *, seed: int, index: int, turns: bool = True
) -> SyntheticPage:
    """Make a page for stage 2 and what follows it; see `make_page`."""
    return make_page(
        source,
        seed=seed,
        index=index,
        turns=turns,
        max_megapixels=4.0,
        other_machines=OTHER_MACHINES,
        laser_prints=LASER_PRINTS,
    )


def whole_page(page: SyntheticPage, rng: np.random.Generator) -> Crop:
    """Rectify all of a page by its true geometry, but for an error as stage 1 may leave."""
    dx_mm, dy_mm = map(float, rng.normal(0, JITTER_MM, 2))
    return rectified_crop(page, x0_px=0, width_px=RECT.width_px, shift_mm=(dx_mm, dy_mm))


def random_column(rng: np.random.Generator) -> int:
    """Return the rect column at which a training crop begins."""
    return int(rng.integers(100, RECT.width_px - CROP_PX - 100))


@dataclass(frozen=True)
class Samples:
    """Page index -> training samples (picklable, run in workers)."""

    source: SignalSource
    seed: int
    width_px: int = CROP_PX

    def __call__(self, index: int) -> list[Sample]:
        """Return CROPS_A_PAGE samples, or the page if the width is its own.

        Each has image (3, 1280, w) uint8, y_px and seams (4, w).
        """
        rng = np.random.default_rng([self.seed, index, 2])
        page = training_page(self.source, seed=self.seed, index=index)
        samples = []
        is_whole = self.width_px == RECT.width_px
        for _ in range(1 if is_whole else CROPS_A_PAGE):
            shift = rng.normal(0, JITTER_MM, 2)
            crop = rectified_crop(
                page,
                x0_px=0 if is_whole else random_column(rng),
                width_px=self.width_px,
                shift_mm=(float(shift[0]), float(shift[1])),
            )
            image = np.ascontiguousarray(crop.image.transpose(2, 0, 1))
            samples.append({"image": image, "y_px": crop.y_px, "seams": crop.seams})
        return samples


def bins_from_px(y_px: Tensor) -> Tensor:
    """Map rect px to bins: bin k is centred at BIN_PX * k + (BIN_PX - 1) / 2."""
    return (y_px - (BIN_PX - 1) / 2) / BIN_PX


def loss_of(
    network: nn.Module,
    batch: dict[str, Tensor],
    *,
    mixture: Mixture = MIXTURES[SHIPS],
) -> Tensor:
    """Return the column loss of a batch."""
    y_bins = bins_from_px(batch["y_px"])
    return column_loss(network(batch["image"]), y_bins, seams=batch["seams"], mixture=mixture)
