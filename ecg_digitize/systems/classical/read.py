"""Read a page: grey, CLAHE, opening, Otsu, a fixed box a lead, the mean row of a column's ink."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
from torch import nn

from ecg_digitize.errors import StageError
from ecg_digitize.frames import PAGE_SIZE_PX, TIME_ORIGIN_MM
from ecg_digitize.layout import COMPETITION
from ecg_digitize.models import Models
from ecg_digitize.systems.starter import (
    FIRST_PX,
    PX_PER_MV,
    PX_PER_S,
    SHEET,
    GreyImage,
    Piece,
    grey_sheet,
    recording_of,
    smoothed,
)
from ecg_digitize.types import Float64, Mask, Page, Recording


class InkOptions(NamedTuple):
    """How ink is told from paper and grid.

    Attributes:
        clip: Limit of the contrast that CLAHE makes,
        tiles: and into how many parts it divides each side.
        opening_px: Side of the square of the opening: thinner lines vanish, as the grid's do.
        least_columns: Share of a lead's columns that must have ink, or it counts as not seen.
        most_ink: Share of its box that may be ink. It is 0.03 to 0.06 on renders, 0.2 on dithered
            scans, and half on noise: Otsu's threshold parts any picture in two.
    """

    clip: float = 2.0
    tiles: int = 8
    opening_px: int = 3
    least_columns: float = 0.25
    most_ink: float = 0.4


DEFAULTS: Final = InkOptions()


@dataclass(frozen=True)
class Box:
    """Where a lead is looked for, px of SHEET, ends excluded."""

    lead: str
    left: int
    right: int
    top: int
    bottom: int
    zero_px: float  # y of 0 mV


def lead_boxes() -> tuple[Box, ...]:
    """Return a box for each lead of the sheet: half of the way to the rows above and below."""
    zeros_mm = np.array(COMPETITION.zero_mm)
    middles_mm = (zeros_mm[1:] + zeros_mm[:-1]) / 2
    edges_mm = np.array([2 * zeros_mm[0] - middles_mm[0], *middles_mm,
                         2 * zeros_mm[-1] - middles_mm[-1]])  # fmt: skip
    boxes = []
    for lead in COMPETITION.leads:
        row, _ = COMPETITION.place(lead)
        segment = COMPETITION.segment(lead)
        ends_mm = TIME_ORIGIN_MM + COMPETITION.mm_per_s * np.array(
            [segment.start_s, segment.stop_s]
        )
        corners = SHEET.px_from_mm(np.stack([ends_mm, edges_mm[row : row + 2]], axis=-1))
        (left, top), (right, bottom) = np.rint(corners).astype(int).tolist()
        zero_px = float(SHEET.px_from_mm(np.array([0.0, zeros_mm[row]]))[1])
        boxes.append(Box(lead, left, right, top, bottom, zero_px))
    return tuple(boxes)


def ink_of(grey: GreyImage, options: InkOptions = DEFAULTS) -> Mask:
    """Tell ink from paper.

    Args:
        grey: (H, W) uint8.
        options: How.

    Returns:
        (H, W) bool, true on ink.
    """
    clahe = cv2.createCLAHE(options.clip, (options.tiles, options.tiles))
    darkness = 255 - clahe.apply(grey)
    square = np.ones((options.opening_px, options.opening_px), np.uint8)
    opened = cv2.morphologyEx(darkness, cv2.MORPH_OPEN, square)
    _, ink = cv2.threshold(opened, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(ink > 0)


def line_in(ink: Mask, box: Box, options: InkOptions = DEFAULTS) -> Float64 | None:
    """Return the mean row of the ink in each column of a box, columns without ink bridged.

    Args:
        ink: (H, W) bool, frame SHEET.
        box: Where.
        options: How much ink there must be.

    Returns:
        (box.right - box.left,) float64, y px of SHEET; None if there is too little or too much ink.
    """
    inside = ink[box.top : box.bottom, box.left : box.right]
    count = inside.sum(axis=0)
    seen = count > 0
    if seen.mean() < options.least_columns or inside.mean() > options.most_ink:
        return None
    sums = np.arange(box.top, box.bottom) @ inside
    columns = np.arange(len(count))
    line: Float64 = np.interp(columns, columns[seen], sums[seen] / count[seen])
    return line


def read(page: Page, network: nn.Module | None, models: Models, *, fs_hz: float) -> Recording:
    """Read a page of the competition's sheet.

    Args:
        page: The picture.
        network: Not needed.
        models: Not needed.
        fs_hz: Samples a second wanted.

    Returns:
        Twelve leads; those whose box shows no line are NaN.

    Raises:
        StageError: No box shows a line.
    """
    ink = ink_of(grey_sheet(page.image, PAGE_SIZE_PX))
    pieces = {}
    for box in lead_boxes():
        line_px = line_in(ink, box)
        if line_px is None:
            continue
        values_mv = (box.zero_px - line_px) / PX_PER_MV
        values_mv = smoothed(values_mv - np.median(values_mv), PX_PER_S)
        pieces[box.lead] = Piece(values_mv, (box.left - FIRST_PX) / PX_PER_S, PX_PER_S)
    if not pieces:
        raise StageError(
            "classical",
            f"{page.source}: expected lines where the competition's sheet has its leads, but saw "
            "none; cut the picture to the sheet and set it upright",
        )
    return recording_of(pieces, fs_hz=fs_hz)
