"""How well the strip network tells a lead from neighbours that reach into its strip.

The protocol is that of Karbasi et al. (arXiv 2506.10617): crops of one lead, with and without
overlap, by intersection over union of the trace, mean squared error and Pearson's coefficient.
Their pages are not public; these are synthetic sheets of 3x4, 6x2 and 12x1, by their true geometry.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import cv2
import numpy as np

from ecg_digitize.frames import RECT, crossings_mm
from ecg_digitize.layouts import FAMILIES
from ecg_digitize.models import Models
from ecg_digitize.sheet.match import Match
from ecg_digitize.sheet.places import Places
from ecg_digitize.sheet.read import Sheet, on_the_paper, read_rows, start_mm
from ecg_digitize.stage1.grid import unseen_grid
from ecg_digitize.stages import read_rectified
from ecg_digitize.synth.sheets import DEFAULTS as SHEETS
from ecg_digitize.synth.sheets import SyntheticSheet, make_sheet
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.types import Float64, Mask, Page

LAYOUTS: Final = ("3x4", "6x2", "12x1")
STROKE_MM: Final = 0.4
"""Width of the traces whose masks are compared."""


@dataclass(frozen=True)
class LeadCrop:
    """One lead, read and true."""

    overlaps: bool  # whether a neighbour reaches as high or as low as the lead itself does
    iou: float
    mse_mv2: float
    pearson: float


@dataclass(frozen=True)
class OverlapComparison:
    """Some crops with overlap, and as many without."""

    crops: tuple[LeadCrop, ...]

    def to_text(self) -> str:
        """Return the table to read."""
        lines = [f"{'crops':<18}{'n':>5}{'IoU':>8}{'MSE mV2':>10}{'median':>10}{'Pearson':>10}"]
        for name, overlaps in (("with overlap", True), ("without", False)):
            some = [crop for crop in self.crops if crop.overlaps == overlaps]
            iou, mse, pearson = np.array([(c.iou, c.mse_mv2, c.pearson) for c in some]).T
            lines.append(
                f"{name:<18}{len(some):5d}{iou.mean():8.3f}{mse.mean():10.4f}"
                f"{np.median(mse):10.5f}{pearson.mean():10.4f}"
            )
        return "\n".join(lines) + "\n"


def compare_overlap(
    source: SignalSource,
    models: Models,
    *,
    crops: int,
    seed: int,
    progress: Callable[[], None] = lambda: None,
) -> OverlapComparison:
    """Read leads of synthetic sheets until there are enough crops of either kind.

    Args:
        source: Signals that training never saw.
        models: The networks.
        crops: How many with overlap, and how many without.
        seed: Family of sheets.
        progress: Called after each crop that counts.
    """
    shares = tuple(float(family.name in LAYOUTS) for family in FAMILIES)
    options = SHEETS._replace(families=shares)
    found: dict[bool, list[LeadCrop]] = {True: [], False: []}
    index = 0
    while min(len(some) for some in found.values()) < crops:
        for crop in crops_of(make_sheet(source, seed=seed, index=index, options=options), models):
            if len(found[crop.overlaps]) < crops:
                found[crop.overlaps].append(crop)
                progress()
        index += 1
    return OverlapComparison((*found[True], *found[False]))


def crops_of(synthetic: SyntheticSheet, models: Models) -> list[LeadCrop]:
    """Read each lead of a sheet by its true geometry, and compare it with its line."""
    sheet = true_sheet(synthetic)
    stage2 = partial(read_rectified, models=models, network=models.strips)
    page = Page(synthetic.image, "synthetic sheet")
    trace = read_rows(page, sheet, stage2, mm_per_mv=synthetic.layout.mm_per_mv)
    lines_mm = synthetic.sheet.lines_mm
    crops = []
    for row, by_place in enumerate(on_the_paper(sheet).rows):
        gain = synthetic.layout.mm_per_mv
        for segment, line in zip(by_place.segments, lines_mm[row], strict=True):
            columns = trace.layout.columns(segment)
            n = min(len(line), columns.stop - columns.start)
            x_mm = line[0, 0] + np.arange(n) / RECT.px_per_mm_xy[0]
            true_mm = np.interp(x_mm, line[:, 0], line[:, 1])
            off_px = trace.y_px[row, columns][:n] - trace.layout.zero_px[row]
            read_mm = (
                synthetic.layout.zero_mm[row] + off_px.astype(np.float64) / RECT.px_per_mm_xy[1]
            )
            others = [one for k, rows in enumerate(lines_mm) if k != row for one in rows]
            crops.append(
                LeadCrop(
                    overlaps=any(_overlap(line, other) for other in others),
                    iou=_iou(true_mm, read_mm),
                    mse_mv2=float(np.mean((true_mm - read_mm) ** 2)) / gain**2,
                    pearson=float(np.corrcoef(true_mm, read_mm)[0, 1]),
                )
            )
    return crops


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
    """Return intersection over union of two lines drawn STROKE_MM wide."""
    low_mm = min(true_mm.min(), read_mm.min()) - 1.0
    height = round((max(true_mm.max(), read_mm.max()) + 1.0 - low_mm) * RECT.px_per_mm_xy[1])

    def drawn(y_mm: Float64) -> Mask:
        points = np.column_stack([np.arange(len(y_mm)), (y_mm - low_mm) * RECT.px_per_mm_xy[1]])
        mask = np.zeros((height, len(y_mm)), np.uint8)
        thick_px = round(STROKE_MM * RECT.px_per_mm_xy[1])
        cv2.polylines(mask, [np.rint(points).astype(np.int32)], False, 1, thick_px)
        return np.asarray(mask > 0, np.bool_)

    one, other = drawn(true_mm), drawn(read_mm)
    return float((one & other).sum() / (one | other).sum())
