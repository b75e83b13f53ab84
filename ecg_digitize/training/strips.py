"""Train the strip network: strips of sheets of all layouts -> the line of the row in the middle."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from ecg_digitize.frames import RECT, SQUARE_MM, Frame, crossings_mm
from ecg_digitize.stage1.sight import seen_in
from ecg_digitize.stage2.strip import STRIP_PX
from ecg_digitize.synth.sheets import DEFAULTS as SHEETS
from ecg_digitize.synth.sheets import SyntheticSheet, make_sheet
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.loop import Sample
from ecg_digitize.training.stage2 import JITTER_MM, SEAM_REACH_PX
from ecg_digitize.training.stage2 import loss_of as loss_of  # judged as stage 2 is
from ecg_digitize.types import Float32, Float64, Image, Mask

CROP_PX: Final = 1024
BEFORE_MM: Final = 12.0
"""How far before the first lead a crop may begin."""
STRIPS_A_SHEET: Final = 4
ROW_SIGMA_MM: Final = 0.5  # what the search for baselines may leave
CROSSED: Final = 0.8
"""Share of the sheets whose strips are cut where lines of two rows touch, if they do anywhere. Such
places are rare, and they are where a row is taken for its neighbour."""
SHOWN: Final = SHEETS._replace(written_on=0.25)
"""What the sheets are like. A network that never sees handwriting follows it like a trace."""
TOUCH_MM: Final = 0.5  # lines that are nearer to each other touch
_STEP_MM: Final = 0.25


@dataclass(frozen=True)
class Strip:
    """A piece of a row with its centre line."""

    image: Image  # (STRIP_PX, w, 3) uint8 RGB, px_per_mm of the rect frame
    y_px: Float32  # (1, w) px, NaN where nothing is printed or what is lies outside
    seams: Mask  # (1, w) columns within SEAM_REACH_PX of a lead's begin or end


def strip_of(
    sheet: SyntheticSheet, *, row: int, x0_mm: float, width_px: int, off_mm: tuple[float, float]
) -> Strip:
    """Cut a strip out of a picture, by its true geometry but for an error.

    Args:
        sheet: The picture.
        row: Whose baseline is in the middle.
        x0_mm: Sheet x of the first column.
        width_px: Columns.
        off_mm: Error of the geometry to imitate; labels stay on the ink.
    """
    zero_mm = sheet.layout.zero_mm[row]
    origin_mm = np.array([x0_mm, zero_mm - STRIP_PX / 2 / RECT.px_per_mm_xy[1]]) + off_mm
    # The lattice is laid round the strip, its whole squares at multiples of 5 mm from there.
    beside_mm = 4 * SQUARE_MM
    table = sheet.warp.page_from_sheet(crossings_mm() + origin_mm - beside_mm)
    frame = Frame(width_px, STRIP_PX, RECT.px_per_mm_xy, (beside_mm, beside_mm))
    image = seen_in(frame, sheet.image, table.astype(np.float32))
    x_mm = origin_mm[0] + np.arange(width_px) / RECT.px_per_mm_xy[0]
    y_px = np.full(width_px, np.nan, np.float32)
    seams = np.zeros(width_px, np.bool_)
    reach_mm = SEAM_REACH_PX / RECT.px_per_mm_xy[0]
    for line in sheet.sheet.lines_mm[row]:
        on_line = (x_mm >= line[0, 0]) & (x_mm <= line[-1, 0])
        y_mm = np.interp(x_mm[on_line], line[:, 0], line[:, 1])
        y_px[on_line] = (y_mm - origin_mm[1]) * RECT.px_per_mm_xy[1]
        for end_mm in line[[0, -1], 0]:
            seams |= np.abs(x_mm - end_mm) <= reach_mm
    return Strip(image, y_px[None], seams[None])


@dataclass(frozen=True)
class Samples:
    """Sheet index -> training samples (picklable, run in workers)."""

    source: SignalSource
    seed: int

    def __call__(self, index: int) -> list[Sample]:
        """Return STRIPS_A_SHEET samples: image (3, STRIP_PX, w) uint8, y_px and seams (1, w)."""
        rng = np.random.default_rng([self.seed, index, 2])
        sheet = make_sheet(self.source, seed=self.seed, index=index, options=SHOWN)
        lines_mm = sheet.sheet.lines_mm
        touches = touches_mm(lines_mm) if rng.random() < CROSSED else []
        crossed = [row for row, places in enumerate(touches) if len(places)]
        rows = rng.permutation(crossed or len(lines_mm))[:STRIPS_A_SHEET]
        width_mm = CROP_PX / RECT.px_per_mm_xy[0]
        samples: list[Sample] = []
        for row in rows:
            begin_mm, end_mm = lines_mm[row][0][0, 0], lines_mm[row][-1][-1, 0]
            last_mm = max(begin_mm, end_mm - 0.7 * width_mm)
            x0_mm = rng.uniform(begin_mm - BEFORE_MM, last_mm)
            if crossed:
                x0_mm = rng.choice(touches[row]) - rng.uniform(0.1, 0.9) * width_mm
            strip = strip_of(
                sheet, row=int(row), x0_mm=float(x0_mm), width_px=CROP_PX, off_mm=_error_mm(rng)
            )
            image = np.ascontiguousarray(strip.image.transpose(2, 0, 1))
            samples.append({"image": image, "y_px": strip.y_px, "seams": strip.seams})
        return samples


def touches_mm(lines_mm: Sequence[Sequence[Float64]]) -> list[Float64]:
    """Say where lines of two rows touch or cross.

    Args:
        lines_mm: A row each, from the top: (n, 2) sheet xy of each of its leads.

    Returns:
        A row each: (n,) sheet x of such places.
    """
    ends_mm = [(row[0][0, 0], row[-1][-1, 0]) for row in lines_mm]
    x_mm = np.arange(min(ends_mm)[0], max(end for _, end in ends_mm), _STEP_MM)
    y_mm = np.full((len(lines_mm), len(x_mm)), np.nan)
    for row, leads in enumerate(lines_mm):
        for line in leads:
            on_line = (x_mm >= line[0, 0]) & (x_mm <= line[-1, 0])
            y_mm[row, on_line] = np.interp(x_mm[on_line], line[:, 0], line[:, 1])
    touched = np.zeros(y_mm.shape, np.bool_)
    for upper, lower in combinations(range(len(lines_mm)), 2):
        meet = y_mm[upper] > y_mm[lower] - TOUCH_MM  # NaN is not
        touched[[upper, lower]] |= meet
    return [x_mm[places] for places in touched]


def _error_mm(rng: np.random.Generator) -> tuple[float, float]:
    off: Float64 = rng.normal(0, (JITTER_MM, ROW_SIGMA_MM))
    return float(off[0]), float(off[1])
