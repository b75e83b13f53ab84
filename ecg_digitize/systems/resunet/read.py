"""A page to a recording."""

import numpy as np
from torch import nn

from ecg_digitize import geometry
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.models import Models
from ecg_digitize.stages import find_sheet
from ecg_digitize.systems.resunet.decode import Lines, decode
from ecg_digitize.systems.resunet.judge import painted
from ecg_digitize.systems.resunet.page import seen, upright
from ecg_digitize.types import Page, Recording


def read(page: Page, network: nn.Module, models: Models, *, fs_hz: float) -> Recording:
    """Read the competition's sheet.

    Args:
        page: The picture.
        network: A ``ResUNet`` in evaluation mode, on the device of the models.
        models: Of which stage 0 finds the lead names.
        fs_hz: Samples a second wanted.

    Raises:
        StageError: Too few names are found, or the mask does not show four rows.
    """
    registration = find_sheet(page, models)
    # The names that agree, without those that were taken for others.
    names_xy_px = geometry.apply_homography(registration.page_from_sheet, COMPETITION.names_mm)
    height, width = page.image.shape[:2]
    grey = seen(page.image, upright((width, height), names_xy_px))
    mask = painted(network, grey, models.device)
    return recording_of(decode(mask, source=page.source), fs_hz=fs_hz)


def recording_of(lines: Lines, *, fs_hz: float) -> Recording:
    """Cut the lines into leads of equal widths, and sample them."""
    n_total = round(COMPETITION.duration_s * fs_hz)
    drawn_s = (COMPETITION.n_columns - 1) / TRACE_FS_HZ
    signals_mv = np.full((len(LEADS), n_total), np.nan, np.float32)
    for index, lead in enumerate(LEADS):
        row, _ = COMPETITION.place(lead)
        start, stop = COMPETITION.window(lead, n_total)
        share = np.arange(start, stop) / fs_hz / drawn_s
        at_px = lines.start_px[row] + share * (lines.end_px[row] - lines.start_px[row])
        signals_mv[index, start:stop] = lines.row_mv(row, at_px)
    return Recording(signals_mv, float(fs_hz), COMPETITION)
