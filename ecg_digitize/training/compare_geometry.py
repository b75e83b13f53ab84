"""What each step of stages 0 and 1 is worth, end to end."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from ecg_digitize import geometry
from ecg_digitize.alignment import set_in_time
from ecg_digitize.errors import StageError
from ecg_digitize.frames import Frame
from ecg_digitize.image import read_image
from ecg_digitize.layout import COMPETITION
from ecg_digitize.metrics import image_snr
from ecg_digitize.models import Models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.signals import to_recording
from ecg_digitize.stage1.feed import fed
from ecg_digitize.stage1.grid import unseen_grid
from ecg_digitize.stage1.lines import refine_grid
from ecg_digitize.stage1.rectify import rectify
from ecg_digitize.stage1.ripples import follow_ripples
from ecg_digitize.stage1.timing import follow_lines
from ecg_digitize.stages import find_sheet, read_rectified, see_lattice
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.compare import Comparison, Scores
from ecg_digitize.training.pairs import read_pairs, truths_of
from ecg_digitize.training.validate import VALIDATION_SEED, pages_of_each_kind
from ecg_digitize.types import GridMap, Page, Recording, Registration, Trace

NORMALIZED: Final = Frame(1440, 1152, (5.0, 5.0), (-4.0, -4.0))
"""The sheet as published solutions normalize it before they look for the grid."""


WAYS: Final = (
    "homography of the names",
    "crossings of the network",
    "phases of the lines",
    "lines followed outward",
    "line by line",
    "folds and wrinkles (ships)",
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

    Args:
        source: Validation signals.
        models: All stages.
        pages: Of each kind; one on which stage 0 finds no sheet scores as zeros in every way.
        seed: Family of pages.
        progress: Called after each page.
    """
    scores = Scores()
    zeros = np.zeros(COMPETITION.shape, np.float32)
    nothing = Trace(zeros, zeros)
    for _, synthetic in pages_of_each_kind(source, pages=pages, seed=seed):
        page = Page(synthetic.image, synthetic.kind)
        try:
            ways: Mapping[str, tuple[Page, GridMap] | None] = _ways(page, models)
        except StageError:
            ways = dict.fromkeys(WAYS)
        for name, way in ways.items():
            trace = nothing if way is None else read_rectified(rectify(*way), models)
            scores.add(name, synthetic, trace)
        if progress is not None:
            progress()
    return scores.comparison("geometry")


def compare_geometry_of(
    paired_csv: Path, models: Models, *, progress: Callable[[], None] | None = None
) -> Comparison:
    """Do the same with real pictures; a column for each folder they lie in.

    Args:
        paired_csv: As `evaluate` takes it; a page without a sheet scores as zeros in every way.
        models: All stages.
        progress: Called after each page.

    Raises:
        InputError: The table or a truth cannot be used.
    """
    scores, folders = Scores(), dict[str, None]()
    pairs = read_pairs(paired_csv)
    read = partial(_read, models=models)
    for pair, truth in zip(pairs, truths_of(pairs, read), strict=True):
        folder = pair.image_path.parent.name
        folders[folder] = None
        try:
            ways: Mapping[str, tuple[Page, GridMap] | None] = _ways(
                read_image(pair.image_path), models
            )
        except StageError:
            ways = dict.fromkeys(WAYS)
        for name, way in ways.items():
            read_mv = np.zeros_like(truth.signals_mv)
            if way is not None:
                reading = set_in_time(
                    way[1], read_rectified(rectify(*way), models), COMPETITION, None
                )
                read_mv = to_recording(reading.upright, fs_hz=pair.fs_hz, fusion=True).signals_mv
            score = image_snr(truth.signals_mv, read_mv, fs_hz=pair.fs_hz)
            scores.add_score(name, folder, score)
        if progress is not None:
            progress()
    return scores.comparison("geometry", kinds=folders)


def _read(path: Path, fs_hz: float, *, models: Models) -> Recording:
    return digitize_page(read_image(path), models, fs_hz=fs_hz).recording


def _ways(page: Page, models: Models) -> dict[str, tuple[Page, GridMap]]:
    """Return by name the picture and the crossings in it to rectify by."""
    registration = find_sheet(page, models)
    found, seen_as = see_lattice(page, registration, models)
    phases, outward = (
        refine_grid(page.image, found, page_from_sheet=seen_as.page_from_sheet, outward=follow)
        for follow in (False, True)
    )
    by_line = follow_lines(page.image, outward)
    ships = follow_ripples(page.image, by_line)
    names = unseen_grid(registration.page_from_sheet)
    steps = (names, found, phases, outward, by_line, ships)
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
    there = GridMap(crossings, grid.confidence, grid.residual_px, ripple_mm=grid.ripple_mm)
    return Page(np.asarray(image, np.uint8), page.source), there
