"""Train the refinement: pages as stage 2 decodes them -> how far its lines lie off the ink.

It learns from the errors of the stage 2 that ships, so it is trained after it, and again whenever
that is replaced.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize.layout import N_ROWS, PX_PER_MV, RECT, TRACE_COLUMNS, TRACE_X0_PX
from ecg_digitize.pipeline import Models, find_traces, load_models
from ecg_digitize.stage2.decode import decode
from ecg_digitize.stage2.refine import REACH_PX, bands_from, flipped, refine_input
from ecg_digitize.synth.dataset import OTHER_MACHINES, make_page
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.loop import Sample
from ecg_digitize.training.stage2 import JITTER_MM, rectified_crop
from ecg_digitize.types import Float32, Image, RectifiedPage

CROP_COLUMNS: Final = 640
FIRST_PAGES: Final = 24  # in the pool before the first sample is drawn
POOL_PAGES: Final = 300  # 5.7 MB each, in every worker
DRAWS_A_PAGE: Final = 160
"""Samples drawn for each page made. Making one takes two seconds of a core, most of them for the
*whole* network, and holds 31 crops; each is seen five times, over an hour and at other columns."""

HUBER_PX: Final = 6.0
TYPICAL_PX2: Final = (0.2 * PX_PER_MV) ** 2  # of a page's traces about their zero lines
LEAST_PX2: Final = 50.0


@dataclass(frozen=True)
class _PoolPage:
    """A page as the network sees it, and what it should say."""

    pixels: Image  # (4, PIXELS, BAND_PX, 5000) uint8
    clues: Float32  # (4, CLUES, 5000)
    offset_px: Float32  # (4, 5000) true less followed line, NaN where that is unknown or too far
    weight: float  # the score weighs errors against the page's own signal


@dataclass
class Samples:
    """Page index -> training samples, drawn from a pool of the last pages (run in workers).

    The samples depend on the pages made before in the same process, unlike a page, which depends
    on source, seed and index alone.
    """

    source: SignalSource
    seed: int
    first_pages: int = FIRST_PAGES
    draws: int = DRAWS_A_PAGE
    _pool: list[_PoolPage] = field(default_factory=list, init=False)
    _models: Models | None = field(default=None, init=False)

    def __call__(self, index: int) -> list[Sample]:
        """Return samples: pixels, clues, offset_px and weight of CROP_COLUMNS columns of a row."""
        rng = np.random.default_rng([self.seed, index, 5])
        if not self._pool:
            others = range(self.first_pages - 1)
            self._pool += [self._make(index, seed=self.seed + 1000 + other) for other in others]
        self._pool.append(self._make(index, seed=self.seed))
        del self._pool[:-POOL_PAGES]
        return [self._draw(rng) for _ in range(self.draws)]

    def _make(self, index: int, *, seed: int) -> _PoolPage:
        if self._models is None:
            self._models = load_models(device=torch.device("cpu"), stages=("stage2",))
        rng = np.random.default_rng([seed, index, 6])
        page = make_page(
            self.source,
            seed=seed,
            index=index,
            max_megapixels=4.0,
            other_machines=OTHER_MACHINES,
        )
        dx, dy = map(float, rng.normal(0, JITTER_MM, 2))
        crop = rectified_crop(page, x0_px=0, width_px=RECT.width_px, shift_mm=(dx, dy))
        rectified = RectifiedPage(crop.image, valid=1.0)
        trace_map = find_traces(rectified, self._models)
        y_px = crop.y_px[:, TRACE_X0_PX : TRACE_X0_PX + TRACE_COLUMNS]
        line_px, pixels, clues = refine_input(
            rectified, trace_map, decode(trace_map, rectified.image)
        )
        offset_px = y_px - line_px
        offset_px[np.abs(offset_px) > REACH_PX] = np.nan
        off_mm = page.rows_mm - np.array(page.style.zero_mm)[:, None]
        energy_px2 = float(np.mean((off_mm * RECT.px_per_mm_xy[1]) ** 2))
        return _PoolPage(pixels, clues, offset_px, TYPICAL_PX2 / (energy_px2 + LEAST_PX2))

    def _draw(self, rng: np.random.Generator) -> Sample:
        page = self._pool[rng.integers(len(self._pool))]
        row = int(rng.integers(N_ROWS))
        start = 2 * int(rng.integers((TRACE_COLUMNS - CROP_COLUMNS) // 2 + 1))
        if rng.random() < 0.25:  # to the first and last columns come few random crops
            start = int(rng.choice([0, TRACE_COLUMNS - CROP_COLUMNS]))
        columns = slice(start, start + CROP_COLUMNS)
        upside_down, backwards = rng.random(2) < 0.5
        pixels, clues = flipped(
            page.pixels[row, :, :, columns],
            page.clues[row, :, columns],
            upside_down=upside_down,
            backwards=backwards,
        )
        offset_px = page.offset_px[row, columns] * (-1 if upside_down else 1)
        return {
            "pixels": np.ascontiguousarray(pixels),
            "clues": np.ascontiguousarray(clues),
            "offset_px": np.ascontiguousarray(offset_px[::-1] if backwards else offset_px),
            "weight": np.asarray(page.weight, np.float32),
        }


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the Huber loss of the columns whose line is near the ink, weighed by page."""
    predicted_px = network(bands_from(batch["pixels"], batch["clues"])).float()
    known = torch.isfinite(batch["offset_px"])
    offset_px = torch.where(known, batch["offset_px"], 0.0)
    loss = F.huber_loss(predicted_px, offset_px, reduction="none", delta=HUBER_PX)
    total: Tensor = (loss * known * batch["weight"][:, None]).sum() / known.sum().clamp_min(1)
    return total
