"""A sheet of another layout on paper that bends: its grid is found by stage 1.

The search of ``find`` lays a sheet flat by a homography. Where its printed lines lie elsewhere,
stage 1 looks for its crossings and follows the lines between them. The sheet is then searched anew
as it lies flat by these.
"""

from typing import Final

import numpy as np

from ecg_digitize.frames import crossings_mm
from ecg_digitize.geometry import fit_homography
from ecg_digitize.models import Models, reader_of
from ecg_digitize.sheet.find import FoundSheet, placed_names, sheet_of
from ecg_digitize.sheet.flat import flat_sheet
from ecg_digitize.sheet.lattice import share_on_lines
from ecg_digitize.stage1.lines import SURE_SHARE, refine_grid
from ecg_digitize.stages import look_again
from ecg_digitize.types import GridMap, Image, Page

BETTER: Final = 0.1
"""By how much more of the crossings the lines must agree with another grid for it to be taken."""


def straightened(page: Page, found: FoundSheet, models: Models) -> FoundSheet:
    """Return a sheet as it is on its paper, if that bends.

    Args:
        page: The picture.
        found: What was found in it.
        models: The networks.

    Returns:
        It; as it was where its lines do not bend, where it has no grid, where each of its columns
        of leads may have one of its own, and where somebody marked it.
    """
    reader = reader_of(models)
    if reader is None or found.is_marked or not found.confidence or found.sheet.places.has_gaps:
        return found
    grid = unbent(found.image, found.sheet.grid, models)
    if grid is found.sheet.grid:
        return found
    flat = found.flat
    across, down = flat.frame.px_per_mm_xy
    laid = flat_sheet(
        found.image, grid, (flat.frame.width_px / across, flat.frame.height_px / down)
    )
    again = sheet_of(
        found.image,
        laid,
        placed_names(reader.names(laid.seen), laid),
        reader,
        families=(found.sheet.match.family,),
        confidence=found.confidence,
    )
    return found if again is None else again


def unbent(image: Image, grid: GridMap, models: Models) -> GridMap:
    """Return the grid that the lines of a sheet have where they bend, or else the one given.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        grid: The sheet's, by its homography, and led on to its lines where these are straight.
        models: The networks.
    """
    share = share_on_lines(image, grid)
    if share is None or share >= SURE_SHARE:
        return grid
    table_px = grid.crossings_xy_px.reshape(-1, 2).astype(np.float64)
    page_from_sheet = fit_homography(crossings_mm().reshape(-1, 2), table_px)
    seen = look_again(Page(image, "sheet"), grid, models)
    bent = refine_grid(image, seen, page_from_sheet=page_from_sheet)
    bent_share = share_on_lines(image, bent)
    return grid if bent_share is None or bent_share < share + BETTER else bent
