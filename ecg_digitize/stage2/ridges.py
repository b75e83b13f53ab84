"""Candidate ridges of every column, and the best path through them.

Both are numba kernels, and each has a plain numpy twin, which the tests hold it to.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from ecg_digitize.types import Float32, Float64

_F = TypeVar("_F", bound=Callable[..., Any])


class DecodeOptions(NamedTuple):
    """Constants of the decoder; lengths are in bins of the trace map.

    A named tuple and no dataclass because numba takes it as an argument.

    Attributes:
        n_ridges: Candidates kept in a column, highest peak first.
        min_peak: Local maxima at or below this probability are no candidates.
        min_reach: A ridge's window spans at least this many bins on both sides of its peak.
        max_reach: And at most this many: half the height of the widest stroke in one column.
        edge_fraction: In between it grows until the probability falls below this share of the peak.
        valley_fraction: It also ends in a valley below this share of the peak behind which the
            probability doubles again: another ridge begins there.
        jump_cost: Price of moving by one bin from column to column, in nats. A QRS complex is
            followed at any price where nothing else is seen in its columns. A low price lets
            the path hop to a neighbour's wave and back: on six ECG-Image-Kit pages 0.02 gave
            12.9 dB in the mean, 0.08 16.4, 0.12 18.4, 0.2 18.6, 0.3 17.5.
        jump_cap: Moves beyond this cost no more.
        min_mass: Columns whose chosen ridge holds less probability are gaps. An even spread over
            640 bins puts 2 * max_reach / 640 = 0.13 into the widest window.
    """

    n_ridges: int = 4
    min_peak: float = 0.002
    min_reach: int = 3
    max_reach: int = 40
    edge_fraction: float = 0.08
    valley_fraction: float = 0.25
    jump_cost: float = 0.15
    jump_cap: float = 120.0
    min_mass: float = 0.2


DEFAULTS = DecodeOptions()

_BLOCK = 16  # columns transposed at a time: one cache line of float32


def _njit(*, parallel: bool = False) -> Callable[[_F], _F]:
    """Compile with numba, without the GIL and cached on disk; typed for mypy."""
    return cast(Callable[[_F], _F], numba.njit(nogil=True, cache=True, parallel=parallel))


@_njit()
def _window_edge(p: Float32, peak: int, step: int, options: DecodeOptions) -> int:
    """Return the last bin of the peak's window in the direction of step."""
    height = np.float64(p[peak])
    edge = valley_at = peak
    valley = height
    for reach in range(1, options.max_reach + 1):
        k = peak + step * reach
        if k < 0 or k >= p.size:
            break
        value = np.float64(p[k])
        low = value < options.edge_fraction * height
        if low and reach > options.min_reach:
            break
        if not low and valley < options.valley_fraction * height and value > 2 * valley:
            return valley_at
        edge = k
        if value < valley:
            valley = value
            valley_at = k
    return edge


@_njit()
def _column_ridges(
    p: Float32, peaks: NDArray[np.int64], centre: Float64, mass: Float64, options: DecodeOptions
) -> None:
    """Write the ridges of one column, highest peak first, into centre and mass (n_ridges,)."""
    bins = p.size
    n_peaks = 0
    before = np.float32(0)
    for k in range(bins):
        value = p[k]
        if value > options.min_peak and value > before and (k == bins - 1 or value >= p[k + 1]):
            peaks[n_peaks] = k
            n_peaks += 1
        before = value
    for ridge in range(mass.size):
        peak = -1
        for i in range(n_peaks):
            if peaks[i] >= 0 and (peak < 0 or p[peaks[i]] > p[peak]):
                peak = peaks[i]
        if peak < 0:
            break
        low = _window_edge(p, peak, -1, options)
        high = _window_edge(p, peak, 1, options)
        total = 0.0
        moment = 0.0
        for k in range(low, high + 1):
            total += p[k]
            moment += np.float64(p[k]) * k
        centre[ridge] = moment / total
        mass[ridge] = total
        for i in range(n_peaks):
            if low <= peaks[i] <= high:
                peaks[i] = -1


@_njit(parallel=True)
def find_ridges(probability: Float32, options: DecodeOptions) -> tuple[Float64, Float64]:
    """Find the candidate ridges of every column.

    The window follows the ridge: three bins either way on a flat line, the whole plateau on a
    steep stroke, where a fixed window would see only the part around the highest bin.

    Args:
        probability: (rows, H, W) float32.
        options: Constants of the decoder.

    Returns:
        Centre, (rows, W, n_ridges) in bins, and mass in [0, 1], 0 where there is no ridge.
    """
    rows, bins, columns = probability.shape
    centre = np.zeros((rows, columns, options.n_ridges))
    mass = np.zeros((rows, columns, options.n_ridges))
    for row in numba.prange(rows):
        block = np.empty((_BLOCK, bins), np.float32)
        peaks = np.empty(bins, np.int64)
        for start in range(0, columns, _BLOCK):
            n = min(_BLOCK, columns - start)
            for k in range(bins):
                for c in range(n):
                    value = probability[row, k, start + c]
                    block[c, k] = value if 0 < value < np.inf else np.float32(0)
            for c in range(n):
                _column_ridges(
                    block[c], peaks, centre[row, start + c], mass[row, start + c], options
                )
    return centre, mass


@_njit()
def best_path(
    centre: Float64, mass: Float64, begins: NDArray[np.bool_], options: DecodeOptions
) -> NDArray[np.int64]:
    """Find the cheapest path through the ridges of each row (Viterbi).

    A column costs -log(mass), a move jump_cost * min(|move in bins|, jump_cap), where a new lead
    begins nothing. Columns without ridges are skipped.

    Args:
        centre: (rows, W, n_ridges) float64, bins.
        mass: (rows, W, n_ridges) float64, 0 where there is no ridge.
        begins: (rows, W) bool, the first columns of leads.
        options: Constants of the decoder.

    Returns:
        (rows, W) index of the chosen ridge, -1 in columns without ridges.
    """
    rows, columns, n_ridges = mass.shape
    chosen = np.full((rows, columns), -1, np.int64)
    came_from = np.zeros((columns, n_ridges), np.int64)
    cost = np.zeros(n_ridges)
    new_cost = np.zeros(n_ridges)
    for row in range(rows):
        last = -1
        price = options.jump_cost
        for x in range(columns):
            if begins[row, x]:
                price = 0.0
            if mass[row, x, 0] <= 0:
                continue
            for j in range(n_ridges):
                if mass[row, x, j] <= 0:
                    new_cost[j] = np.inf
                    continue
                best = 0.0
                if last >= 0:
                    best = np.inf
                    for i in range(n_ridges):
                        move = abs(centre[row, x, j] - centre[row, last, i])
                        candidate = cost[i] + price * min(move, options.jump_cap)
                        if candidate < best:
                            best = candidate
                            came_from[x, j] = i
                new_cost[j] = best - np.log(mass[row, x, j])
            cost[:] = new_cost
            last = x
            price = options.jump_cost
        if last < 0:
            continue
        ridge = np.argmin(cost)
        for x in range(last, -1, -1):
            if mass[row, x, 0] > 0:
                chosen[row, x] = ridge
                ridge = came_from[x, ridge]
    return chosen


def find_ridges_numpy(probability: Float32, options: DecodeOptions) -> tuple[Float64, Float64]:
    """Do what `find_ridges` does, vectorized over rows and columns."""
    usable = (probability > 0) & (probability < np.inf)
    p = np.where(usable, probability, 0).astype(np.float64).swapaxes(1, 2)  # (rows, W, H)
    rows, columns, bins = p.shape
    bin_index = np.arange(bins)
    padded = np.pad(p, ((0, 0), (0, 0), (1, 1)))
    is_peak = (p > options.min_peak) & (p > padded[..., :-2]) & (p >= padded[..., 2:])
    centre = np.zeros((rows, columns, options.n_ridges))
    mass = np.zeros((rows, columns, options.n_ridges))

    def edge(peak: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        height = np.take_along_axis(p, peak, -1)
        last, valley_at, valley = peak.copy(), peak.copy(), height.copy()
        growing = np.ones(peak.shape, bool)
        for reach in range(1, options.max_reach + 1):
            k = peak + step * reach
            growing &= (k >= 0) & (k < bins)
            value = np.take_along_axis(p, np.clip(k, 0, bins - 1), -1)
            low = value < options.edge_fraction * height
            if reach > options.min_reach:
                growing &= ~low
            rises = (
                growing & ~low & (valley < options.valley_fraction * height) & (value > 2 * valley)
            )
            last = np.where(rises, valley_at, np.where(growing, k, last))
            growing &= ~rises
            deeper = growing & (value < valley)
            valley, valley_at = np.where(deeper, value, valley), np.where(deeper, k, valley_at)
        return last

    for ridge in range(options.n_ridges):
        heights = np.where(is_peak, p, 0)
        peak = heights.argmax(-1)[..., None]
        low, high = edge(peak, -1), edge(peak, 1)
        inside = (bin_index >= low) & (bin_index <= high) & is_peak.any(-1, keepdims=True)
        window = np.where(inside, p, 0)
        mass[..., ridge] = window.sum(-1)
        moment = (window * bin_index).sum(-1)
        np.divide(moment, mass[..., ridge], out=centre[..., ridge], where=mass[..., ridge] > 0)
        is_peak &= ~inside
    return centre, mass


def best_path_numpy(
    centre: Float64, mass: Float64, begins: NDArray[np.bool_], options: DecodeOptions
) -> NDArray[np.int64]:
    """Do what `best_path` does, vectorized over pairs of ridges."""
    chosen = np.full(mass.shape[:2], -1, np.int64)
    for row in range(mass.shape[0]):
        used = np.flatnonzero(mass[row, :, 0] > 0)
        if used.size == 0:
            continue
        y = centre[row, used]
        with np.errstate(divide="ignore"):
            column_cost = -np.log(mass[row, used])  # inf where there is no ridge
        came_from = np.zeros(y.shape, np.int64)
        cost = column_cost[0]
        lead = np.cumsum(begins[row])[used]
        for n in range(1, used.size):
            price = options.jump_cost if lead[n] == lead[n - 1] else 0.0
            moves = np.minimum(np.abs(y[n][:, None] - y[n - 1][None]), options.jump_cap)
            arriving = cost[None] + price * moves
            came_from[n] = arriving.argmin(1)
            cost = arriving.min(1) + column_cost[n]
        ridge = int(cost.argmin())
        for n in range(used.size - 1, -1, -1):
            chosen[row, used[n]] = ridge
            ridge = int(came_from[n, ridge])
    return chosen
