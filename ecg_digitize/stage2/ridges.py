"""Candidate ridges of every column, and the best path through them.

Both are numba kernels, and each has a plain numpy twin, which the tests hold it to.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecg_digitize.jit import compiled
from ecg_digitize.types import Float32, Float64


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
        blank_cost: Price of each bin of blank paper that such a move crosses, on top of that: the
            pen was not lifted.
        gap_cost: Price of leaving out columns: more than a pacing spike to the page's edge costs.
        gap_column_cost: And of each of them. What the path moves over them counts as blank.
        max_gap: Columns that may be left out in a row.
        foreign_cost: Price of a column whose ink has another colour than the lines, in nats.
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
    blank_cost: float = 3.0
    gap_cost: float = 40.0
    gap_column_cost: float = 5.0
    max_gap: int = 80
    foreign_cost: float = 20.0
    min_mass: float = 0.2


DEFAULTS = DecodeOptions()

_BLOCK = 64  # columns transposed at a time: with one cache line, 16, it takes a third longer


@compiled
def _window_edge(p: Float32, peak: np.int64, step: np.int64, options: DecodeOptions) -> np.int64:
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


@compiled
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
        peak = np.int64(-1)  # a plain -1 would be a type of its own, and all below compiled twice
        for i in range(n_peaks):
            if peaks[i] >= 0 and (peak < 0 or p[peaks[i]] > p[peak]):
                peak = peaks[i]
        if peak < 0:
            break
        low = _window_edge(p, peak, np.int64(-1), options)
        high = _window_edge(p, peak, np.int64(1), options)
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


@compiled
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
    for row in range(rows):
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


@compiled
def _blank_between(blank: Float32, x: int, y: float, other_y: float) -> float:
    """Return how many bins between two heights of a column are blank."""
    top = blank.shape[0] - 1
    above = min(max(int(min(y, other_y)) + 1, 0), top)
    below = min(max(int(max(y, other_y)), 0), top)
    return blank[below, x] - blank[above, x] if below > above else 0.0


@compiled
def _gap_price(left_out: int, options: DecodeOptions) -> float:
    """Return what leaving out so many columns costs."""
    return options.gap_cost + left_out * options.gap_column_cost if left_out else 0.0


@compiled
def best_path(
    centre: Float64,
    mass: Float64,
    blank: Float32,
    begins: NDArray[np.bool_],
    options: DecodeOptions,
) -> NDArray[np.int64]:
    """Find the cheapest path through the ridges of each row (Viterbi).

    A column costs -log(mass). A move costs jump_cost a bin and blank_cost a bin that is blank in
    both of its columns. Columns may be left out, for gap_cost and gap_column_cost each; over them
    all is blank. Where a new lead begins moves cost nothing. Columns without ridges are skipped.

    Args:
        centre: (rows, W, n_ridges) float64, bins.
        mass: (rows, W, n_ridges) float64, 0 where there is no ridge.
        blank: (H + 1, W) float32: how many bins above each are blank; see ink.py.
        begins: (rows, W) bool, the first columns of leads.
        options: Constants of the decoder.

    Returns:
        (rows, W) index of the chosen ridge, -1 in columns without ridges and in those left out.
    """
    rows, columns, n_ridges = mass.shape
    chosen = np.full((rows, columns), -1, np.int64)
    cost = np.zeros((columns, n_ridges))
    from_column = np.zeros((columns, n_ridges), np.int64)
    from_ridge = np.zeros((columns, n_ridges), np.int64)
    for row in range(rows):
        for x in range(columns):
            for j in range(n_ridges):
                if mass[row, x, j] <= 0:
                    continue
                y = centre[row, x, j]
                best = np.inf
                left_out = 0
                free = False
                before = x
                while left_out <= options.max_gap:
                    free = free or begins[row, before]
                    before -= 1
                    price = _gap_price(left_out, options)
                    if before < 0:  # the path begins here
                        if price < best:
                            best = price
                            from_column[x, j] = -1
                        break
                    if mass[row, before, 0] <= 0:
                        continue
                    for i in range(n_ridges):
                        if mass[row, before, i] <= 0 or cost[before, i] + price >= best:
                            continue
                        candidate = cost[before, i] + price
                        if not free:
                            was = centre[row, before, i]
                            move = abs(y - was)
                            crossed = move
                            if left_out == 0:
                                crossed = min(
                                    _blank_between(blank, x, y, was),
                                    _blank_between(blank, before, y, was),
                                )
                            candidate += options.jump_cost * move + options.blank_cost * crossed
                        if candidate < best:
                            best = candidate
                            from_column[x, j] = before
                            from_ridge[x, j] = i
                    left_out += 1
                cost[x, j] = best - np.log(mass[row, x, j])
        best = np.inf
        left_out = 0
        x = -1
        ridge = 0
        for last in range(columns - 1, -1, -1):
            if mass[row, last, 0] <= 0:
                continue
            for j in range(n_ridges):
                candidate = cost[last, j] + _gap_price(left_out, options)
                if mass[row, last, j] > 0 and candidate < best:
                    best = candidate
                    x = last
                    ridge = j
            left_out += 1
            if left_out > options.max_gap:
                break
        while x >= 0:
            chosen[row, x] = ridge
            x, ridge = from_column[x, ridge], from_ridge[x, ridge]
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
    centre: Float64,
    mass: Float64,
    blank: Float32,
    begins: NDArray[np.bool_],
    options: DecodeOptions,
) -> NDArray[np.int64]:
    """Do what `best_path` does, vectorized over the columns and ridges a path may come from."""
    rows, columns, n_ridges = mass.shape
    chosen = np.full((rows, columns), -1, np.int64)
    reach = options.max_gap + 1
    gap_price = options.gap_cost + np.arange(reach) * options.gap_column_cost
    gap_price[0] = 0
    for row in range(rows):
        used = np.flatnonzero(mass[row, :, 0] > 0)
        if used.size == 0:
            continue
        y = centre[row, used]
        with np.errstate(divide="ignore"):
            column_cost = -np.log(mass[row, used])  # inf where there is no ridge
        lead = np.cumsum(begins[row])[used]
        source = np.zeros(y.shape, np.int64)
        cost = np.zeros(y.shape)
        for n in range(used.size):
            before = np.arange(n)[::-1][:reach]  # the nearest first
            moves = np.abs(y[n] - y[before, :, None])  # (columns, from, to)
            crossed = moves.copy()
            if n:
                crossed[0] = _crossed(blank, used[n - 1 : n + 1], y[n - 1], y[n])
            prices = options.jump_cost * moves + options.blank_cost * crossed
            prices[lead[before] != lead[n]] = 0
            prices += gap_price[: len(before), None, None]
            arriving = (cost[before, :, None] + prices).reshape(-1, n_ridges)
            beginning = np.full((1, n_ridges), gap_price[n] if n < reach else np.inf)
            arriving = np.concatenate([arriving, beginning])
            source[n] = arriving.argmin(axis=0)
            cost[n] = arriving.min(axis=0) + column_cost[n]
        ending = cost[::-1][:reach] + gap_price[: len(cost), None]
        n, ridge = used.size, int(ending.argmin())
        while True:
            n, ridge = n - 1 - ridge // n_ridges, ridge % n_ridges
            if n < 0:
                break
            chosen[row, used[n]] = ridge
            ridge = int(source[n, ridge])
    return chosen


def _crossed(blank: Float32, columns: NDArray[np.int64], was: Float64, y: Float64) -> Float64:
    """Return (from, to) bins that are blank in both columns between (from,) and (to,) bins."""
    top = len(blank) - 1
    above = np.clip(np.minimum(was[:, None], y).astype(np.int64) + 1, 0, top)
    below = np.clip(np.maximum(was[:, None], y).astype(np.int64), 0, top)
    between = blank[below[..., None], columns] - blank[above[..., None], columns]
    return np.asarray(np.where(below > above, between.min(axis=-1), 0), np.float64)
