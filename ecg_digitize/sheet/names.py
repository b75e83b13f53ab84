"""Read the lead names that are printed on a sheet of any layout."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ecg_digitize.layout import LEADS
from ecg_digitize.runtime import run_batch
from ecg_digitize.sheet.names_net import MINUS, MULTIPLE, NONE, STRIDE
from ecg_digitize.types import Float32, Image

NAMES_PX_PER_MM: Final = 5.0
"""Scale of the pictures that names are read in."""


@dataclass(frozen=True)
class Name:
    """A printed lead name."""

    lead: str  # one of LEADS
    xy_px: tuple[float, float]  # centre of the word in the picture given, px
    confidence: float  # in [0, 1]
    sign: int = 1  # -1 if printed with a minus sign ("-aVR"), as on Cabrera sheets


class NameOptions(NamedTuple):
    """What counts as a name."""

    least: float = 0.3  # confidence of those returned
    apart_mm: float = 3.5  # of two names closer than this, the surer one stays
    strips_px: int = 2048  # height of the pieces that are read at a time, to bound the memory


DEFAULTS: Final = NameOptions()

_OVERLAP_PX: Final = 128
"""What two pieces share: twice what a cell of the network sees, to its side."""


def find_names(
    network: nn.Module, seen: Image, device: torch.device, *, options: NameOptions = DEFAULTS
) -> tuple[Name, ...]:
    """Read the names on a sheet.

    Args:
        network: A `names_net.NamesNet` in evaluation mode, on the device.
        seen: (H, W, 3) uint8 RGB, the sheet upright and flat at NAMES_PX_PER_MM, any size.
        device: Where the network is.
        options: What counts as a name.

    Returns:
        The names, surest first.
    """
    names: list[Name] = []
    step = options.strips_px - _OVERLAP_PX
    for top in range(0, max(1, seen.shape[0] - _OVERLAP_PX), step):
        piece = seen[top : top + options.strips_px]
        scores = _scores(network, piece, device)
        # Names in the overlap belong to the piece that sees more around them.
        first = top + _OVERLAP_PX / 2 if top else 0.0
        last = np.inf if top + options.strips_px >= seen.shape[0] else top + step + _OVERLAP_PX / 2
        for name in _peaks(scores, options):
            x, y = name.xy_px
            if first <= y + top < last:
                names.append(Name(name.lead, (x, y + top), name.confidence, name.sign))
    return _apart(names, options.apart_mm * NAMES_PX_PER_MM)


def _scores(network: nn.Module, piece: Image, device: torch.device) -> Float32:
    """Return (14, h, w) probabilities at stride 4: leads, none, minus."""
    height, width = piece.shape[:2]
    padded = np.pad(piece, ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)), mode="edge")
    image = torch.from_numpy(padded).permute(2, 0, 1)[None]  # channels last
    ((logits,),) = run_batch(network, image, device)
    which = torch.softmax(logits[:MINUS], dim=0)
    minus = torch.sigmoid(logits[MINUS:])
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    scores: Float32 = torch.cat([which, minus])[:, :rows, :columns].cpu().numpy()
    return scores


def _peaks(scores: Float32, options: NameOptions) -> list[Name]:
    """Return the names at the peaks of the maps, in px of the piece."""
    some = 1.0 - scores[NONE]
    around = F.max_pool2d(torch.from_numpy(some)[None], 5, stride=1, padding=2)[0].numpy()
    found = []
    for row, column in np.argwhere((some >= around) & (some >= options.least)):
        lead = int(scores[: len(LEADS), row, column].argmax())
        confidence = float(scores[lead, row, column])
        if confidence < options.least:
            continue
        top, left = max(0, row - 1), max(0, column - 1)
        weight = some[top : row + 2, left : column + 2]
        rows, columns = np.indices(weight.shape)
        x = left + float((columns * weight).sum() / weight.sum())
        y = top + float((rows * weight).sum() / weight.sum())
        middle = (STRIDE - 1) / 2
        signed = LEADS[lead] == "aVR" and scores[MINUS, row, column] > 0.5
        place = (STRIDE * x + middle, STRIDE * y + middle)
        found.append(Name(LEADS[lead], place, min(confidence, 1.0), -1 if signed else 1))
    return found


def _apart(names: list[Name], least_px: float) -> tuple[Name, ...]:
    """Keep the surer of names that lie on each other."""
    kept: list[Name] = []
    for name in sorted(names, key=lambda name: -name.confidence):
        x, y = name.xy_px
        if all(np.hypot(x - other.xy_px[0], y - other.xy_px[1]) >= least_px for other in kept):
            kept.append(name)
    return tuple(kept)
