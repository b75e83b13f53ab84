"""Train the refinement: pages as stage 2 decodes them -> how far its lines lie off the ink.

It learns from the errors of the stage 2 that ships, so it is trained after it, and again whenever
that is replaced.
"""

import itertools
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecg_digitize.frames import RECT, TRACE_X0_PX
from ecg_digitize.layout import COMPETITION
from ecg_digitize.models import Models, load_models
from ecg_digitize.stage2.decode import decode
from ecg_digitize.stage2.refine import (
    BAND_PX,
    CLUES,
    PIXELS,
    REACH_PX,
    bands_from,
    flipped,
    refine_input,
)
from ecg_digitize.stages import find_traces
from ecg_digitize.synth.dataset import SyntheticPage
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.loop import Sample
from ecg_digitize.training.stage2 import training_page, whole_page
from ecg_digitize.types import Float32, Image, RectifiedPage, TraceMap

CROP_COLUMNS: Final = 640
FIRST_PAGES: Final = 24  # in the pool before the first sample is drawn
POOL_PAGES: Final = 300  # in every worker
DRAWS_A_PAGE: Final = 160
"""Samples drawn for each page made. Making one takes two seconds of a core, most of them for the
*whole* network, and holds 31 crops; each is seen five times, over an hour and at other columns."""

HUBER_PX: Final = 6.0
TYPICAL_PX2: Final = (0.2 * COMPETITION.px_per_mv) ** 2  # of a page's traces about their zero lines
LEAST_PX2: Final = 50.0

POOL_BYTES: Final = COMPETITION.n_rows * COMPETITION.n_columns * (PIXELS * BAND_PX + 4 * CLUES + 4)
"""Of a page in a pool."""


@dataclass(frozen=True)
class Bands:
    """A page as the network sees it, and what it should say."""

    pixels: Image  # (4, PIXELS, BAND_PX, 5000) uint8
    clues: Float32  # (4, CLUES, 5000)
    offset_px: Float32  # (4, 5000) true less followed line, NaN where that is unknown or too far
    weight: float  # the score weighs errors against the page's own signal


def bands_of(image: Image, y_px: Float32, trace_map: TraceMap, *, weight: float) -> Bands:
    """Decode a page and say how far the lines lie off the ink.

    Args:
        image: (1280, 5600, 3) uint8 RGB, the rectified page.
        y_px: (4, 5600) float32, rect px: its true centre lines.
        trace_map: What stage 2 says of it.
        weight: See `weight_of`.
    """
    rectified = RectifiedPage(image, valid=1.0)
    trace = decode(trace_map, image)
    line_px, pixels, clues = refine_input(rectified, trace_map, trace)
    offset_px = y_px[:, TRACE_X0_PX : TRACE_X0_PX + COMPETITION.n_columns] - line_px
    offset_px[np.abs(offset_px) > REACH_PX] = np.nan
    return Bands(pixels, clues, offset_px, weight)


def weight_of(page: SyntheticPage) -> float:
    """Return the weight of a page's squared errors: one over the energy of its traces."""
    off_mm = page.rows_mm - np.array(page.style.layout.zero_mm)[:, None]
    energy_px2 = float(np.mean((off_mm * RECT.px_per_mm_xy[1]) ** 2))
    return TYPICAL_PX2 / (energy_px2 + LEAST_PX2)


class Pool:
    """The bands of the last pages, from which samples are drawn."""

    def __init__(self, capacity: int, *, device: torch.device) -> None:
        """Make room.

        Args:
            capacity: Pages held; each takes POOL_BYTES, 5.7 MB.
            device: Where they lie and where samples come out.
        """
        self._pixels, self._clues, self._offset_px, self._weight = (
            torch.empty((capacity, *shape), dtype=dtype, device=device)
            for shape, dtype in (
                ((COMPETITION.n_rows, PIXELS, BAND_PX, COMPETITION.n_columns), torch.uint8),
                ((COMPETITION.n_rows, CLUES, COMPETITION.n_columns), torch.float32),
                (COMPETITION.shape, torch.float32),
                ((), torch.float32),
            )
        )
        self.capacity, self.put_so_far = capacity, 0

    def __len__(self) -> int:
        """Return the number of pages to draw from."""
        return min(self.put_so_far, self.capacity)

    def put(self, bands: Bands) -> None:
        """Add a page, in place of the oldest where the pool is full."""
        slot = self.put_so_far % self.capacity
        self._pixels[slot] = torch.from_numpy(bands.pixels)
        self._clues[slot] = torch.from_numpy(bands.clues)
        self._offset_px[slot] = torch.from_numpy(bands.offset_px)
        self._weight[slot] = bands.weight
        self.put_so_far += 1

    def draw(self, n: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return n pieces of rows, flipped at random.

        Returns:
            pixels (n, PIXELS, BAND_PX, CROP_COLUMNS) uint8, clues (n, CLUES, CROP_COLUMNS),
            offset_px (n, CROP_COLUMNS) and weight (n,) float32.
        """
        device = self._weight.device
        last = (COMPETITION.n_columns - CROP_COLUMNS) // 2
        start = 2 * rng.integers(last + 1, size=n)
        # To the first and last columns come few random crops.
        at_an_end = rng.random(n) < 0.25
        start[at_an_end] = 2 * last * rng.integers(2, size=at_an_end.sum())
        page = torch.from_numpy(rng.integers(len(self), size=n)).to(device)
        row = torch.from_numpy(rng.integers(COMPETITION.n_rows, size=n)).to(device)
        column = torch.from_numpy(start).to(device)[:, None]
        column = column + torch.arange(CROP_COLUMNS, device=device)
        each = page[:, None], row[:, None]
        pixels = self._pixels[(*each, slice(None), slice(None), column)].permute(0, 2, 3, 1)
        clues = self._clues[(*each, slice(None), column)].transpose(1, 2)
        offset_px = self._offset_px[(*each, column)]
        cut = np.sort(rng.integers(n + 1, size=3))  # pieces of one flip lie together
        flips = itertools.product((False, True), repeat=2)
        parts = []
        for part, flip in zip(np.split(np.arange(n), cut), flips, strict=True):
            upside_down, backwards = flip
            where = slice(part[0], part[-1] + 1) if len(part) else slice(0)
            offset = -offset_px[where] if upside_down else offset_px[where]
            turned = flipped(
                pixels[where], clues[where], upside_down=upside_down, backwards=backwards
            )
            parts.append((*turned, offset.flip(-1) if backwards else offset))
        pixels, clues, offset_px = map(torch.cat, zip(*parts, strict=True))
        return {
            "pixels": pixels, "clues": clues, "offset_px": offset_px,
            "weight": self._weight[page],
        }  # fmt: skip


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
    _pool: Pool | None = field(default=None, init=False)
    _models: Models | None = field(default=None, init=False)

    def __call__(self, index: int) -> list[Sample]:
        """Return samples: pixels, clues, offset_px and weight of CROP_COLUMNS columns of a row."""
        rng = np.random.default_rng([self.seed, index, 5])
        if self._pool is None:
            self._pool = Pool(POOL_PAGES, device=torch.device("cpu"))
            for other in range(self.first_pages - 1):
                self._pool.put(self._make(index, seed=self.seed + 1000 + other))
        self._pool.put(self._make(index, seed=self.seed))
        batch = {k: v.numpy() for k, v in self._pool.draw(self.draws, rng).items()}
        return [
            {name: values[k] for name, values in batch.items()} for k in rng.permutation(self.draws)
        ]

    def _make(self, index: int, *, seed: int) -> Bands:
        if self._models is None:
            self._models = load_models(device=torch.device("cpu"), stages=("stage2",))
        rng = np.random.default_rng([seed, index, 6])
        page = training_page(self.source, seed=seed, index=index)
        crop = whole_page(page, rng)
        trace_map = find_traces(RectifiedPage(crop.image, valid=1.0), self._models)
        return bands_of(crop.image, crop.y_px, trace_map, weight=weight_of(page))


def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the Huber loss of the columns whose line is near the ink, weighed by page."""
    predicted_px = network(bands_from(batch["pixels"], batch["clues"])).float()
    known = torch.isfinite(batch["offset_px"])
    offset_px = torch.where(known, batch["offset_px"], 0.0)
    loss = F.huber_loss(predicted_px, offset_px, reduction="none", delta=HUBER_PX)
    total: Tensor = (loss * known * batch["weight"][:, None]).sum() / known.sum().clamp_min(1)
    return total
