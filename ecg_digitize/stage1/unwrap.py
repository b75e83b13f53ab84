"""Follow the printed lines outward, from where a surface is right to where it is off by more.

The phase of the 1 mm lines tells an offset up to whole millimetres. On torn, rippled and dark
sheets the surface through the crossings is off by millimetres where the network missed them, or
took other lines for them. But offsets are continuous: from where the surface is right they are
followed millimetre by millimetre, over the clearest lines first (quality-guided phase unwrapping,
Ghiglia and Pritt, Two-Dimensional Phase Unwrapping, 1998, ch. 4).
"""

from dataclasses import replace
from typing import Final

import numpy as np
from scipy import sparse
from scipy.ndimage import binary_dilation, label
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from ecg_digitize import geometry
from ecg_digitize.frames import SQUARE_MM, crossings_mm
from ecg_digitize.stage1.phase import FAINT, line_waves, offsets_mm, residuals_mm
from ecg_digitize.stage1.surface import Bools, bend_along
from ecg_digitize.types import Float32, Float64, GridMap, Image

RIGHT_MM: Final = 0.15
"""What phases leave where a surface is right: 0.02 to 0.1 mm; where it is not, 0.4."""
STILL_MM: Final = 0.1
"""Crossings that are right to this stay where they are: their phases are noise."""
ROUNDS: Final = 4
"""Windows of phases see no lines whose pitch is off by a sixth: each round mends what it sees."""
SETTLED_MM: Final = 0.02  # a round that moves no crossing by more is the last
STIFFNESS: Final = 1.0
REPEATS: Final = 3
"""What a smooth surface leaves of the offsets is smoothed and added, so often in all."""
UNSEEN: Final = 1e-3  # weight that holds the surface where no lines are


def unwrap(grey: Image, grid: GridMap) -> GridMap:
    """Move the crossings to where the printed lines lead from those that are right.

    Args:
        grey: (H, W) uint8, page frame.
        grid: Right in most places.

    Returns:
        The grid with its crossings moved; as it was if none are right to STILL_MM.
    """
    nodes_mm, best = crossings_mm(), grid
    for _ in range(ROUNDS):
        offset_mm, clearness, still = _followed(grey, best)
        if not still.any():
            break
        weight = np.where(clearness < FAINT, 0.0, np.minimum(clearness, 1.0) ** 2)
        offset_mm[still | (weight == 0)] = 0.0
        hold = np.where(still, 1.0, weight + UNSEEN)
        bend_mm = bend_along(offset_mm, hold, stiffness=STIFFNESS, repeats=REPEATS)
        points = geometry.page_from_sheet(best.crossings_xy_px, nodes_mm + bend_mm)
        best = replace(best, crossings_xy_px=points.astype(np.float32))
        if np.abs(bend_mm).max() < SETTLED_MM:
            break
    return best


def right_part(residual_mm: Float32) -> Bools:
    """Return (44, 57) bool: the largest connected part of the sheet that is right.

    Another part may be right but for whole millimetres, with wrong crossings between.
    """
    parts, n = label(residual_mm < RIGHT_MM)
    sizes = np.bincount(parts.ravel(), minlength=n + 1)[1:]
    return np.asarray(parts == 1 + sizes.argmax() if n else np.zeros_like(parts), np.bool_)


def _followed(grey: Image, grid: GridMap) -> tuple[Float64, Float64, Bools]:
    """Return the nodes' offsets, mm, how clearly lines lead there, and those that are right.

    Clearness is that of the faintest lines on the way, the typical ones being 1.
    """
    waves = line_waves(grey, grid, every_mm=1.0)
    phases_mm = offsets_mm(waves)
    step = round(SQUARE_MM)
    weight = np.minimum(*(np.abs(wave[::step, ::step]) for wave in waves)).astype(np.float64)
    residual_mm = residuals_mm(phases_mm[::step, ::step], weight)
    right = right_part(residual_mm)
    near_row, near_column = (np.rint(np.arange(n) / step).astype(int) for n in phases_mm.shape[:2])
    start = right[np.ix_(near_row, near_column)]
    offset_mm, clearness = [], []
    for axis, wave in enumerate(waves):
        clear = np.abs(wave).astype(np.float64)
        clear /= max(float(np.median(clear[start])) if start.any() else 0.0, 1e-9)
        there_mm, way = _flood(np.ascontiguousarray(phases_mm[..., axis]), clear, start)
        offset_mm.append(there_mm[::step, ::step])
        clearness.append(way[::step, ::step])
    return (
        np.stack(offset_mm, axis=-1),
        np.minimum(*clearness),
        right & (residual_mm < STILL_MM),
    )


def _flood(phase_mm: Float64, clear: Float64, start: Bools) -> tuple[Float64, Float64]:
    """Unwrap phases outward from the start, along the clearest ways.

    The clearest ways are those of the maximum spanning tree, whose every way is as clear as any
    where it is least clear.

    Args:
        phase_mm: (rows, columns), -0.5 to 0.5.
        clear: (rows, columns) how clear each is, positive.
        start: (rows, columns) bool, where the phase is the offset.

    Returns:
        The offsets, mm, which are the phases plus whole millimetres, and how clear the way to each
        is where it is least; where no way leads, the phase and 0.
    """
    if not start.any():
        return phase_mm.copy(), np.zeros_like(clear)
    if start.all():
        return phase_mm.copy(), clear.copy()
    walked = binary_dilation(~start)  # what lies amid the start stays as it is
    n = np.count_nonzero(walked)
    node = np.full(phase_mm.shape, -1)
    node[walked] = np.arange(n)
    here = np.concatenate([node[:, :-1].ravel(), node[:-1].ravel()])
    beside = np.concatenate([node[:, 1:].ravel(), node[1:].ravel()])
    both = (here >= 0) & (beside >= 0)
    here, beside = here[both], beside[both]
    phase, clearness = np.append(phase_mm[walked], 0.0), np.append(clear[walked], np.inf)
    # One more node, from which the clearest ways of all lead to where the walk begins.
    begins = node[start & walked]
    ways = np.concatenate(
        [np.minimum(clearness[here], clearness[beside]), np.full(begins.size, 1e9)]
    )
    ends = np.append(here, np.full(begins.size, n)), np.append(beside, begins)
    tree = minimum_spanning_tree(sparse.csr_array((-ways - 1e-9, ends), shape=(n + 1, n + 1)))
    _, before = breadth_first_order(tree, n, directed=False)
    before[n] = n
    # Whole millimetres from one node to the next, added up along the way to each: every round
    # doubles the length of the way that is done (pointer jumping).
    whole_mm = -np.rint(phase - phase[before])
    whole_mm[begins] = 0.0
    while (before != n).any():
        whole_mm += whole_mm[before]
        clearness = np.minimum(clearness, clearness[before])
        before = before[before]
    offset_mm, way = phase_mm.copy(), clear.copy()
    offset_mm[walked] += whole_mm[:n]
    way[walked] = clearness[:n]
    return offset_mm, way
