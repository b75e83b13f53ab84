"""The stages, each with its network: what `pipeline.py` puts together."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import cv2
import numpy as np
import torch
from torch import nn

from ecg_digitize import geometry
from ecg_digitize.errors import StageError
from ecg_digitize.frames import NORM
from ecg_digitize.models import Models, members_of, run_batch, run_on
from ecg_digitize.stage0.normalize import TRUSTED_NAMES, as_scanned, register, unstretched
from ecg_digitize.stage0.prepare import stage0_input
from ecg_digitize.stage1.grid import fit_grid, unseen_grid
from ecg_digitize.stage1.lines import refine_grid
from ecg_digitize.stage1.rectify import flattened, norm_image, page_from_norm
from ecg_digitize.stage1.ripples import follow_ripples
from ecg_digitize.stage1.rows import place_rows
from ecg_digitize.stage1.timing import follow_lines
from ecg_digitize.stage2.decode import decode
from ecg_digitize.stage2.refine import REACH_PX, bands_from, flipped, refine_input
from ecg_digitize.stage2.whole import column_probability, trace_map_of
from ecg_digitize.types import (
    Float32,
    Float64,
    GridMap,
    Image,
    Page,
    RectifiedPage,
    Registration,
    Trace,
    TraceMap,
)

SPECKS_PX: Final = 5
"""Specks up to half of this are gone from a filtered page, strokes of letters are not."""
SEEN_WELL: Final = 0.9
"""Mean over the crossings of the lattice, below which stage 1 looks once more through them."""
TRUSTED_CONFIDENCE: Final = 0.2
"""That mean when most of them were found."""
CLEARLY: Final = 1.2
"""How much more of them must be found for another look at the sheet to be the right one."""


def find_sheet(page: Page, models: Models, *, once: bool = False) -> Registration:
    """Stage 0: lead names and orientation -> where the sheet lies.

    The network reads names in all directions, but best upright: a page on which few names agree is
    looked at again on its other sides, and the side with most names wins. One of which no side
    shows enough gets a second look with its specks filtered out.

    Args:
        page: The picture.
        models: The networks.
        once: Look at it as it lies, and no more.

    Raises:
        StageError: No side shows names that agree.
    """
    if once:
        return _find_sheet_turned(page, models, 0, faint=False)
    found, errors = _look_at_all_sides(page, models, faint=False)
    if all(registration.n_inliers < TRUSTED_NAMES for registration in found):
        filtered = np.asarray(cv2.medianBlur(page.image, SPECKS_PX), np.uint8)
        found += _look_at_all_sides(Page(filtered, page.source), models, faint=True)[0]
    if not found:
        raise errors[0]
    return max(found, key=lambda registration: registration.n_inliers)


def _look_at_all_sides(
    page: Page, models: Models, *, faint: bool
) -> tuple[list[Registration], list[StageError]]:
    """Turn a page until enough names agree; return what was found and why the rest was not."""
    found: list[Registration] = []
    errors: list[StageError] = []
    for turns in range(4):
        try:
            found.append(_find_sheet_turned(page, models, turns, faint=faint))
        except StageError as error:
            errors.append(error)
        if found and found[-1].n_inliers >= TRUSTED_NAMES:
            break
    return found, errors


def _find_sheet_turned(page: Page, models: Models, turns: int, *, faint: bool) -> Registration:
    """Run stage 0 on np.rot90(page, turns); the registration is that of the page as it lies."""
    height, width = page.image.shape[:2]
    image, map_from_turned = stage0_input(np.ascontiguousarray(np.rot90(page.image, turns)))
    markers, orientation = run_on(models.stage0, image, models.device)
    map_from_page = map_from_turned @ geometry.quarter_turning(turns, (width, height))
    upright = torch.softmax(orientation, dim=1)[0].cpu().numpy()
    return register(
        torch.sigmoid(markers)[0].cpu().numpy(),
        np.roll(upright, turns),
        page_from_map=np.linalg.inv(map_from_page).astype(np.float64),
        source=page.source,
        faint=faint,
    )


def find_grid(page: Page, registration: Registration, models: Models) -> GridMap:
    """Stage 1: grid crossings in the picture, sub-pixel, and the rows among them.

    A sheet that shows no crossings, as scans do whose grid was too faint for black and white, is
    taken to be flat if it may be.
    """
    found, seen_as = see_lattice(page, registration, models)
    if not np.isfinite(found.residual_px) and (flat := as_scanned(registration)):
        return unseen_grid(flat.page_from_sheet)
    if not models.preset.follows_lines:
        return place_rows(page, found, registration)
    grid = refine_grid(page.image, found, page_from_sheet=seen_as.page_from_sheet)
    placed_grid = place_rows(page, follow_lines(page.image, grid), registration)
    return follow_ripples(page.image, placed_grid)


def see_lattice(
    page: Page, registration: Registration, models: Models
) -> tuple[GridMap, Registration]:
    """Stage 1's network, in as many looks as it takes: the crossings, and by which registration.

    Where the lead names suggest a stretch the sheet may be laid out otherwise: it is looked at once
    more without it, and taken so if that shows clearly more crossings. Where many crossings were
    missed, the network looks again through those that were found.
    """
    found, seen_as = find_crossings(page, registration, models), registration
    if other := unstretched(registration):
        again = find_crossings(page, other, models)
        clearly = CLEARLY * found.confidence.mean()
        if again.confidence.mean() > max(clearly, TRUSTED_CONFIDENCE):
            found, seen_as = again, other
    if np.isfinite(found.residual_px) and found.confidence.mean() < SEEN_WELL:
        again = look_again(page, found, models)
        if again.confidence.mean() > found.confidence.mean():
            found = again
    return found, seen_as


def find_crossings(page: Page, registration: Registration, models: Models) -> GridMap:
    """Stage 1: grid crossings as the network sees them, and a smooth surface through them."""
    to_page = partial(geometry.apply_homography, page_from_norm(registration))
    return _crossings(norm_image(page, registration), to_page, models)


def look_again(page: Page, found: GridMap, models: Models) -> GridMap:
    """Stage 1 once more, on the sheet flattened by the crossings that it found.

    A homography leaves ripples and folds, which hide crossings from the network.
    """

    def to_page(norm_px: Float64) -> Float64:
        return geometry.page_from_sheet(found.crossings_xy_px, NORM.mm_from_px(norm_px))

    return _crossings(flattened(page, found.crossings_xy_px), to_page, models)


def _crossings(seen: Image, to_page: Callable[[Float64], Float64], models: Models) -> GridMap:
    """Run stage 1 on what is seen in the norm frame."""
    (logits,) = run_on(models.stage1, seen, models.device)
    return fit_grid(torch.sigmoid(logits)[0].cpu().numpy(), page_from_norm=to_page)


def read_rectified(
    rectified: RectifiedPage,
    models: Models,
    *,
    passes: int | None = None,
    lap: Callable[[str], None] = lambda _: None,
    network: nn.Module | None = None,
) -> Trace:
    """Stage 2, as a whole.

    Args:
        rectified: The page, or a strip of it.
        models: The networks.
        passes: How often lines are refined; None: as the preset says.
        lap: Called with the name of each step when it is done.
        network: What finds the traces; None: what knows pages of four rows, see ``members_of``.
    """
    trace_map = find_traces(rectified, models, network=network)
    lap("stage2")
    trace = decode(trace_map, rectified.image)
    lap("decode")
    trace = refine_trace(rectified, trace_map, trace, models, passes=passes)
    lap("refine")
    return replace(trace, shown=rectified.shown)


def find_traces(
    rectified: RectifiedPage, models: Models, *, network: nn.Module | None = None
) -> TraceMap:
    """Stage 2: where each row's centre line is, column by column; nowhere outside the picture."""
    layout = rectified.layout
    networks = members_of(models) if network is None else (network,)
    looks = []
    for one in networks:
        (logits,) = run_on(one, rectified.image, models.device)
        looks.append(column_probability(logits[0], layout.n_columns))
    probability = looks[0] if len(looks) == 1 else torch.stack(looks).mean(dim=0)
    return trace_map_of(probability, shown=rectified.shown, layout=layout)


def refine_trace(
    rectified: RectifiedPage, trace_map: TraceMap, trace: Trace, models: Models, *,
    passes: int | None = None,
) -> Trace:  # fmt: skip
    """Stage 2: the decoded lines, moved onto the centre of the ink around them."""
    for _ in range(models.preset.passes if passes is None else passes):
        line_px, pixels, clues = refine_input(rectified, trace_map, trace)
        looks = (False, True) if models.preset.looks_turned else (False,)
        bands, beside = (torch.from_numpy(part).to(models.device) for part in (pixels, clues))
        seen = [_offset_px(bands, beside, models, turned=turned) for turned in looks]
        offset_px = np.mean(seen, axis=0)
        if rectified.shown is not None:
            offset_px = np.where(rectified.shown, offset_px, np.float32(0))
        trace = replace(trace, y_px=line_px + offset_px)
    return trace


def _offset_px(
    pixels: torch.Tensor, clues: torch.Tensor, models: Models, *, turned: bool
) -> Float32:
    """Run the refinement on bands, turned by 180 degrees or not; return (4, 5000) as they lie."""
    bands = flipped(pixels, clues, upside_down=turned, backwards=turned)
    (offset_px,) = run_batch(models.refine, bands_from(*bands), models.device)
    offset: Float32 = offset_px.nan_to_num().clamp(-REACH_PX, REACH_PX).cpu().numpy()
    return -offset[:, ::-1] if turned else offset
