"""How well the trace of a lead is told from neighbours that reach into its crop, in several ways.

The protocol is that of Karbasi et al. (arXiv 2506.10617): crops of one lead, with and without
overlap, by intersection over union of the trace, mean squared error and Pearson's coefficient.
Their pages are not public; these are synthetic sheets of 3x4, 6x2 and 12x1, by their true geometry.

Intersection over union is measured on lines, not on what a way takes for ink: the true line and the
one that was read are both drawn STROKE_MM wide at the scale of the rect frame, 20 px/mm across and
8 down, and the pixels that both cover are counted against those that either covers. How thick a
trace was printed does not matter then, and a flat line that is half a pixel (0.06 mm) off is worth
0.75 on average. The paper's own is that of its network's masks.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from torch import nn

from ecg_digitize.frames import RECT, TRACE_X0_PX, crossings_mm
from ecg_digitize.layouts import FAMILIES
from ecg_digitize.models import Models
from ecg_digitize.sheet.match import Match
from ecg_digitize.sheet.places import Places
from ecg_digitize.sheet.read import USUAL_MM_PER_MV, Sheet, on_the_paper, read_rows, start_mm
from ecg_digitize.stage1.grid import unseen_grid
from ecg_digitize.stage1.sight import is_ink
from ecg_digitize.stages import read_rectified
from ecg_digitize.synth.sheets import SyntheticSheet, make_sheet
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.systems.overlap.read import read_boxes
from ecg_digitize.systems.overlap.series import SeriesOptions, centre_px, filled
from ecg_digitize.systems.overlap.training import OPTIONS
from ecg_digitize.training.overlap_table import (
    BASELINE,
    STRIPS,
    UNET,
    LeadCrop,
    LineScore,
    OverlapComparison,
)
from ecg_digitize.training.run import PUBLISHED, trained_file, trained_network
from ecg_digitize.types import Float64, Mask, Page, RectifiedPage, Trace

STROKE_MM: Final = 0.4
"""Width of the traces whose masks are compared."""
ALL_INK: Final = SeriesOptions(specks=0.0)


def compare_overlap(
    source: SignalSource,
    models: Models,
    *,
    crops: int,
    seed: int,
    trained: Path | None = None,
    progress: Callable[[], None] = lambda: None,
) -> OverlapComparison:
    """Read leads of synthetic sheets until there are enough crops of either kind.

    Args:
        source: Signals that training never saw.
        models: The networks.
        crops: How many with overlap, and how many without.
        seed: Family of sheets.
        trained: Folder of trainings of published systems, each in a folder of its name. If there
            is a folder overlap in it, its U-Net is a way, too.
        progress: Called after each crop that counts.

    Raises:
        WeightsError: The file of the U-Net does not hold one.
    """
    path = trained_file(trained, "overlap")
    unet = None if path is None else trained_network(PUBLISHED["overlap"], path, models.device)
    found: dict[bool, list[LeadCrop]] = {True: [], False: []}
    index = 0
    while min(len(some) for some in found.values()) < crops:
        sheet = make_sheet(source, seed=seed, index=index, options=OPTIONS)
        for crop in crops_of(sheet, models, unet):
            if len(found[crop.overlaps]) < crops:
                found[crop.overlaps].append(crop)
                progress()
        index += 1
    return OverlapComparison((*found[True], *found[False]))


def crops_of(
    synthetic: SyntheticSheet, models: Models, unet: nn.Module | None = None
) -> list[LeadCrop]:
    """Read each lead of a sheet by its true geometry in each way, and compare with its line."""
    sheet = true_sheet(synthetic)
    page = Page(synthetic.image, "synthetic sheet")
    gain = synthetic.layout.mm_per_mv
    apart_mm = float(np.median(np.diff(sheet.match.rows_mm))) if sheet.n_rows > 1 else np.inf
    traces = {
        STRIPS: read_rows(
            page,
            sheet,
            partial(read_rectified, models=models, network=models.strips),
            mm_per_mv=gain,
        ),
        # Never compressed, so that the height of a row is what it is on the paper.
        BASELINE: read_rows(
            page, sheet, partial(read_ink, height_mm=apart_mm), mm_per_mv=USUAL_MM_PER_MV
        ),
    }
    if unet is not None:
        read = partial(read_boxes, network=unet, device=models.device)
        traces[UNET] = read_rows(page, sheet, read, mm_per_mv=gain)
    lines_mm = synthetic.sheet.lines_mm
    crops = []
    for row, by_place in enumerate(on_the_paper(sheet).rows):
        others = [one for k, rows in enumerate(lines_mm) if k != row for one in rows]
        printed = synthetic.layout.rows[row].segments
        for place, segment, line in zip(by_place.segments, printed, lines_mm[row], strict=True):
            columns = traces[STRIPS].layout.columns(place)
            own_gain = segment.mm_per_mv or gain
            readings = {
                way: _reading(line, _line_mm(trace, row, columns), mm_per_mv=own_gain)
                for way, trace in traces.items()
            }
            crops.append(LeadCrop(any(_overlap(line, other) for other in others), readings))
    return crops


def read_ink(rectified: RectifiedPage, *, height_mm: float) -> Trace:
    """Read rows by the means of the inked columns of their own height, and nothing else.

    Args:
        rectified: A page or a strip.
        height_mm: What belongs to a row: half above its baseline, half below.
    """
    layout, image = rectified.layout, rectified.image
    frame = replace(RECT, width_px=image.shape[1], height_px=image.shape[0])
    ink = is_ink(image, frame)[:, TRACE_X0_PX : TRACE_X0_PX + layout.n_columns]
    y_px = np.repeat(np.array(layout.zero_px, np.float32)[:, None], layout.n_columns, axis=1)
    heights = np.arange(len(ink))
    for row, zero_px in enumerate(layout.zero_px):
        near = np.abs(heights - zero_px) <= height_mm / 2 * RECT.px_per_mm_xy[1]
        line_px = filled(centre_px((ink & near[:, None]).astype(np.float32), options=ALL_INK))
        if line_px is not None:
            y_px[row] = line_px
    return Trace(y_px, np.ones(layout.shape, np.float32), layout, rectified.shown)


def _line_mm(trace: Trace, row: int, columns: slice) -> Float64:
    """Return the sheet y of a piece of a row, as it was read."""
    off_px = trace.y_px[row, columns].astype(np.float64) - trace.layout.zero_px[row]
    return trace.layout.rows[row].zero_mm + off_px / RECT.px_per_mm_xy[1]


def _reading(line: Float64, read_mm: Float64, *, mm_per_mv: float) -> LineScore:
    """Compare a lead's (n, 2) line with what was read at each rect column from its begin on."""
    n = min(len(line), len(read_mm))
    x_mm = line[0, 0] + np.arange(n) / RECT.px_per_mm_xy[0]
    true_mm, read_mm = np.interp(x_mm, line[:, 0], line[:, 1]), read_mm[:n]
    is_flat = min(np.ptp(true_mm), np.ptp(read_mm)) == 0
    return LineScore(
        iou=_iou(true_mm, read_mm),
        mse_mv2=float(np.mean((true_mm - read_mm) ** 2)) / mm_per_mv**2,
        pearson=0.0 if is_flat else float(np.corrcoef(true_mm, read_mm)[0, 1]),
    )


def true_sheet(synthetic: SyntheticSheet) -> Sheet:
    """Return what `sheet.find` would find, were it without error."""
    style, layout = synthetic.sheet.style, synthetic.layout
    name = layout.name.partition("+")[0]
    family = next(one for one in FAMILIES if one.name == name)
    lead_mm = layout.duration_s / family.n_columns * layout.mm_per_s
    strips = tuple(row.leads[0] for row in layout.rows if row.is_strip)
    starts_mm = np.array(style.starts_mm)
    places = Places(starts_mm, lead_mm, layout.duration_s * layout.mm_per_s, len(starts_mm) > 1)
    match = Match(
        family,
        np.array(layout.zero_mm),
        np.ones(layout.n_rows),
        strips,
        starts_mm,
        score=0.0,
        named=0,
        n_leads=len(family.rows) * family.n_columns,
    )
    crossings = synthetic.warp.page_from_sheet(crossings_mm()).astype(np.float32)
    grid = replace(unseen_grid(np.eye(3)), crossings_xy_px=crossings, start_mm=start_mm(places))
    return Sheet(grid, match, places)


def _overlap(line: Float64, other: Float64) -> bool:
    """Say whether the heights of two lines, (n, 2) sheet xy, overlap where both are."""
    beside = (other[:, 0] >= line[0, 0]) & (other[:, 0] <= line[-1, 0])
    if not beside.any():
        return False
    y_mm = other[beside, 1]
    return bool(y_mm.min() < line[:, 1].max() and y_mm.max() > line[:, 1].min())


def _iou(true_mm: Float64, read_mm: Float64) -> float:
    """Return intersection over union of two lines, drawn STROKE_MM wide as a pen does.

    The mask has the resolution of the rect frame across, both ways: a steep stroke is as wide as a
    level one. Values are those of the rect frame's columns.
    """
    px_per_mm = RECT.px_per_mm_xy[0]
    low_mm = min(true_mm.min(), read_mm.min()) - 1.0
    height = round((max(true_mm.max(), read_mm.max()) + 1.0 - low_mm) * px_per_mm)

    def drawn(y_mm: Float64) -> Mask:
        points = np.column_stack([np.arange(len(y_mm)), (y_mm - low_mm) * px_per_mm])
        mask = np.zeros((height, len(y_mm)), np.uint8)
        thick_px = round(STROKE_MM * px_per_mm)
        cv2.polylines(mask, [np.rint(points).astype(np.int32)], False, 1, thick_px)
        return np.asarray(mask > 0, np.bool_)

    one, other = drawn(true_mm), drawn(read_mm)
    return float((one & other).sum() / (one | other).sum())
