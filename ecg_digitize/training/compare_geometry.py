"""What each step of stages 0 and 1 is worth, end to end."""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np

from ecg_digitize import geometry
from ecg_digitize.errors import StageError
from ecg_digitize.layout import N_ROWS, TRACE_COLUMNS, Frame
from ecg_digitize.pipeline import Models, find_sheet, read_rectified, see_lattice
from ecg_digitize.stage1.feed import fed
from ecg_digitize.stage1.grid import unseen_grid
from ecg_digitize.stage1.lines import refine_grid
from ecg_digitize.stage1.rectify import rectify
from ecg_digitize.stage1.timing import follow_lines
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.compare import Comparison, Scores
from ecg_digitize.training.validate import VALIDATION_SEED, pages_of_each_kind
from ecg_digitize.types import GridMap, Page, Registration, Trace

NORMALIZED: Final = Frame(1440, 1152, (5.0, 5.0), (-4.0, -4.0))
"""The sheet as published solutions normalize it before they look for the grid."""


WAYS: Final = (
    "homography of the names",
    "crossings of the network",
    "phases of the lines",
    "lines followed outward",
    "line by line",
    "the same, pixels resampled twice",
)


def compare_geometry(
    source: SignalSource,
    models: Models,
    *,
    pages: int,
    seed: int = VALIDATION_SEED,
    progress: Callable[[], None] | None = None,
) -> Comparison:
    """Rectify the same pages by more and more of stages 0 and 1; mean capped dB.

    "Line by line" is what ships wherever a grid is found.

    Args:
        source: Validation signals.
        models: All stages.
        pages: Of each kind; one on which stage 0 finds no sheet scores as zeros in every way.
        seed: Family of pages.
        progress: Called after each page.
    """
    scores = Scores()
    zeros = np.zeros((N_ROWS, TRACE_COLUMNS), np.float32)
    nothing = Trace(zeros, zeros)
    for _, synthetic in pages_of_each_kind(source, pages=pages, seed=seed):
        page = Page(synthetic.image, synthetic.kind)
        try:
            ways = _ways(page, models)
        except StageError:
            ways = dict.fromkeys(WAYS)
        for name, way in ways.items():
            trace = nothing if way is None else read_rectified(rectify(*way), models)
            scores.add(name, synthetic, trace)
        if progress is not None:
            progress()
    return scores.comparison("geometry")


def _ways(page: Page, models: Models) -> dict[str, tuple[Page, GridMap] | None]:
    """Return by name the picture and the crossings in it to rectify by."""
    registration = find_sheet(page, models)
    found, seen_as = see_lattice(page, registration, models)
    phases, outward = (
        refine_grid(page.image, found, page_from_sheet=seen_as.page_from_sheet, outward=follow)
        for follow in (False, True)
    )
    ships = follow_lines(page.image, outward)
    steps = (unseen_grid(registration.page_from_sheet), found, phases, outward, ships)
    ways = [*((page, grid) for grid in steps), _normalized(page, registration, ships)]
    return dict(zip(WAYS, ways, strict=True))


def _normalized(page: Page, registration: Registration, grid: GridMap) -> tuple[Page, GridMap]:
    """Return the page warped by stage 0's homography, and the crossings there."""
    norm_from_page = geometry.frame_from_sheet(NORMALIZED) @ np.linalg.inv(
        registration.page_from_sheet
    )
    size = (NORMALIZED.width_px, NORMALIZED.height_px)
    white = (255, 255, 255)
    image = cv2.warpPerspective(page.image, norm_from_page, size, borderValue=white)
    points = grid.crossings_xy_px.astype(np.float64)
    points = points if grid.feed_px is None else fed(points, grid.feed_px)
    crossings = geometry.apply_homography(norm_from_page, points).astype(np.float32)
    there = GridMap(crossings, grid.confidence, grid.residual_px)
    return Page(np.asarray(image, np.uint8), page.source), there
