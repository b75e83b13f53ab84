"""Read a page: scaled grey, one pass of the network, smoothed, cut to the printed windows."""

import numpy as np
import torch
from torch import nn

from ecg_digitize.errors import StageError
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.models import Models, run_batch
from ecg_digitize.systems.regression.net import INPUT_PX
from ecg_digitize.systems.starter import Piece, grey_sheet, recording_of, smoothed
from ecg_digitize.types import Page, Recording


def read(page: Page, network: nn.Module | None, models: Models, *, fs_hz: float) -> Recording:
    """Read a page of the competition's sheet.

    Args:
        page: The picture.
        network: A RegressionNet in evaluation mode.
        models: Tells the device.
        fs_hz: Samples a second wanted.

    Returns:
        Twelve leads, whatever the picture shows.

    Raises:
        StageError: There is no network, or what it says is not finite.
    """
    if network is None:
        raise StageError("regression", f"{page.source}: the network is missing; train it first")
    grey = grey_sheet(page.image, INPUT_PX)
    (leads_mv,) = run_batch(network, torch.from_numpy(grey)[None, None], models.device)
    twelve_mv = leads_mv[0].cpu().numpy().astype(np.float64)
    if not np.isfinite(twelve_mv).all():
        raise StageError("regression", f"{page.source}: the network gave no finite signals")
    pieces = {}
    for lead in COMPETITION.leads:
        _, columns = COMPETITION.place(lead)
        values_mv = smoothed(twelve_mv[LEADS.index(lead), columns], TRACE_FS_HZ)
        pieces[lead] = Piece(values_mv, columns.start / TRACE_FS_HZ, TRACE_FS_HZ)
    return recording_of(pieces, fs_hz=fs_hz)
