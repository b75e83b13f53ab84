"""Read the boxes of leads one by one: those of a rectified page, of a page, or a single crop."""

from typing import Final

import cv2
import numpy as np
import torch
from torch import nn

from ecg_digitize.errors import StageError
from ecg_digitize.frames import RECT, TRACE_FS_HZ, TRACE_X0_PX
from ecg_digitize.layout import COMPETITION
from ecg_digitize.models import Models, run_on
from ecg_digitize.signals import to_recording
from ecg_digitize.stage1.rectify import rectify
from ecg_digitize.stage1.rows import levelled
from ecg_digitize.stages import find_grid, find_sheet
from ecg_digitize.systems.overlap.crop import cut
from ecg_digitize.systems.overlap.scale import grid_scale
from ecg_digitize.systems.overlap.series import centre_px, filled, series_mv
from ecg_digitize.types import Float32, Image, Page, Recording, RectifiedPage, Trace

_LEAST_SEEN: Final = 0.2
"""Share of a page's columns that must show a trace."""


def read(page: Page, network: nn.Module, models: Models, *, fs_hz: float = 500.0) -> Recording:
    """Read the competition's sheet: its lattice by stages 0 and 1, its 13 boxes by the U-Net.

    Args:
        page: The picture.
        network: An OverlapNet on the models' device, in evaluation mode.
        models: Stages 0 and 1 are used.
        fs_hz: Samples a second wanted.

    Returns:
        Twelve leads, NaN outside their windows; II is read from the rhythm strip.

    Raises:
        StageError: No sheet is found, or the U-Net sees hardly a trace on it.
    """
    registration = find_sheet(page, models)
    grid = find_grid(page, registration, models)
    trace = read_boxes(rectify(page, grid), network, models.device)
    if (trace.confidence > 0).mean() < _LEAST_SEEN:
        raise StageError(
            "overlap",
            f"{page.source}: expected a trace in each lead's box, but the U-Net marks hardly any; "
            "train it longer, or read the page with another system",
        )
    return to_recording(levelled(trace, grid), fs_hz=fs_hz)


def read_boxes(rectified: RectifiedPage, network: nn.Module, device: torch.device) -> Trace:
    """Read each lead of a rectified page, or of a strip of it, in a crop of its own.

    Args:
        rectified: The page.
        network: An OverlapNet.
        device: Where it is.

    Returns:
        The lines. Where nothing is marked their confidence is 0, and they go straight on, or lie on
        the baseline if nothing of the lead is marked.
    """
    layout = rectified.layout
    y_px = np.repeat(np.array(layout.zero_px, np.float32)[:, None], layout.n_columns, axis=1)
    confidence = np.zeros(layout.shape, np.float32)
    for row, columns in layout.pieces:
        crop = cut(
            rectified.image,
            zero_px=layout.zero_px[row],
            first=TRACE_X0_PX + columns.start,
            n_columns=columns.stop - columns.start,
        )
        seen_px = centre_px(mask_of(crop.image, network, device))
        line_px = filled(seen_px)
        if line_px is not None:
            y_px[row, columns] = crop.top_px + crop.at_columns(line_px)
            confidence[row, columns] = crop.at_columns(np.isfinite(seen_px).astype(np.float64))
    return Trace(y_px, confidence, layout, rectified.shown)


def read_crop(
    image: Image,
    network: nn.Module,
    device: torch.device,
    *,
    zero_px: float | None = None,
    mm_per_s: float = COMPETITION.mm_per_s,
    mm_per_mv: float = COMPETITION.mm_per_mv,
    fs_hz: float = TRACE_FS_HZ,
) -> Float32:
    """Read a picture that shows one lead, upright, at whatever scale its grid has.

    Args:
        image: (H, W, 3) uint8 RGB, from the lead's begin to its end.
        network: An OverlapNet.
        device: Where it is.
        zero_px: y of the lead's baseline; None: half-way down.
        mm_per_s: Paper speed.
        mm_per_mv: Gain.
        fs_hz: Samples a second wanted.

    Returns:
        (n,) float32 mV.

    Raises:
        StageError: No grid is seen, or no trace.
    """
    px_per_mm = grid_scale(image)
    if px_per_mm is None:
        raise StageError(
            "overlap",
            "expected a printed grid to measure the scale of the crop by, but saw none; cut the "
            "crop so that it shows some squares of 5 mm beside the trace",
        )
    height, width = image.shape[:2]
    zero_px = (height - 1) / 2 if zero_px is None else zero_px
    size = (round(width * RECT.px_per_mm_xy[0] / px_per_mm),
            max(round(height * RECT.px_per_mm_xy[1] / px_per_mm), 1))  # fmt: skip
    scaled = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    zero_scaled_px = (zero_px + 0.5) * size[1] / height - 0.5
    crop = cut(scaled, zero_px=zero_scaled_px, first=0, n_columns=size[0])
    line_px = filled(centre_px(mask_of(crop.image, network, device)))
    if line_px is None:
        raise StageError("overlap", "expected a trace half-way down the crop, but none is marked")
    mv = series_mv(
        crop.top_px + crop.at_columns(line_px),
        zero_px=zero_scaled_px,
        px_per_mv=mm_per_mv * RECT.px_per_mm_xy[1],
    )
    n = max(round(width / px_per_mm / mm_per_s * fs_hz), 1)
    step = mm_per_s / fs_hz * RECT.px_per_mm_xy[0]  # rect columns a sample
    return np.interp(step * np.arange(n), np.arange(len(mv)), mv).astype(np.float32)


def mask_of(image: Image, network: nn.Module, device: torch.device) -> Float32:
    """Return the (H, W) mask in [0, 1] that a network draws of an (H, W, 3) crop."""
    (logits,) = run_on(network, image, device)
    mask: Float32 = torch.sigmoid(logits)[0].cpu().numpy()
    return mask
