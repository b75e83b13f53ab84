"""Where the squares of a printed grid lie in a picture, whatever is printed on them.

Tiles of the picture are looked at through the Fourier transform: a grid gives pairs of sharp peaks
at right angles. What most tiles agree on is one period of the grid; a homography is fitted to how
it changes over the picture. Looked at through that map, longer periods (every fifth line stronger)
and shorter ones (fine lines between) tell which period is 5 mm, and the phases of the lines tell
the map to a fraction of a millimetre.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft2
from scipy.optimize import least_squares

from ecg_digitize.geometry import apply_homography, jacobian, scaling
from ecg_digitize.types import Float32, Float64, Image, Mask

Complex = NDArray[np.complexfloating]


class ScaleOptions(NamedTuple):
    """What can be tuned.

    Attributes:
        work_px: Pictures of more pixels are shrunk to as many.
        paper: Side of the window whose mean is the paper, as a share of the long edge.
        strokes: Share of the pixels that may be darker than any grid: traces and letters.
        tile_px: Side of the tiles whose spectra are searched.
        levels: How often the picture is halved, to see wide squares in tiles.
        peak: Natural logarithm of power over its surroundings, from which a peak counts.
        peaks: How many peaks of a tile count at most.
        finest: Highest frequency looked for, cycles a px.
        coarser: And in halved pictures, as what is finer is seen before they are halved.
        skew_deg: How far from square the two directions may be.
        stretch: Natural logarithm of how unequal their periods may be (standard deviation).
        wide: Votes for a period count as its power of this: lines have many short harmonics.
        spread: How far periods may lie from the most frequent one, natural logarithm.
        spread_deg: And directions.
        tiles: In how many tiles a grid must be seen.
        tries: How many periods are tried at most.
        sure: Confidence from which no other is tried.
        none: And below which there is no grid.
        doubted: How alike neighbouring strips are where confidence is nil, and where it is full.
        super_peak: As ``peak``, for averaged spectra: when a longer period counts.
        few: How much more is asked of twice and three times the period.
        fifth: How far the fifth harmonic stands out where there are fine lines, log of power.
        bend: How far from the map strips lose weight, periods.
        stiff: How much parts of the map are held back.
        met: Share of strips that must meet their lines; else the map is left as periods say.
        torn: How much more alike neighbouring strips must be for a grid to count as patches.
        slope: Change of scale from which that is looked at.
        sides_mm: Grids with both sides below or above these are doubted.
        width_mm: Usual width of a grid.
        width_spread: Standard deviation of its natural logarithm.
        density: Usual px/mm of a picture.
        density_spread: Standard deviation of its natural logarithm.
    """

    work_px: int = 2_200_000
    paper: float = 0.06
    strokes: float = 0.05
    tile_px: int = 256
    levels: int = 3
    peak: float = 2.5
    peaks: int = 32
    finest: float = 0.41
    coarser: float = 0.16
    skew_deg: float = 10.0
    stretch: float = 0.06
    wide: float = 0.8
    spread: float = 0.25
    spread_deg: float = 10.0
    tiles: int = 3
    tries: int = 3
    sure: float = 0.5
    none: float = 0.1
    doubted: tuple[float, float] = (0.5, 0.7)
    super_peak: float = 0.9
    few: float = 0.25
    fifth: float = 0.45
    torn: float = 0.025
    slope: float = 0.003
    sides_mm: tuple[float, float] = (60.0, 330.0)
    bend: float = 0.2
    stiff: float = 1.0
    met: float = 0.4
    width_mm: float = 230.0
    width_spread: float = 0.4
    density: float = 6.0
    density_spread: float = 0.7


DEFAULTS: Final = ScaleOptions()


@dataclass(frozen=True)
class Squares:
    """Where the squares of a printed grid lie in the picture.

    Attributes:
        page_from_sheet: (3, 3) homography, sheet mm -> page px. A crossing of 5 mm lines is at the
            origin, x is within 45 degrees of the picture's x, and nothing is mirrored.
        confidence: In [0, 1]; below 0.5 the period taken for 5 mm may well be another.
        box_mm: Left, top, right, bottom of what carries grid, sheet mm.
    """

    page_from_sheet: Float64
    confidence: float
    box_mm: tuple[float, float, float, float]


class _Lattices(NamedTuple):
    """What tiles say: one period of the grid in each.

    Attributes:
        xy: (n, 2) centres of the tiles, work px.
        waves: (n, 2, 2) periods a px along x and y: a row for each of the two directions.
        weight: (n,) how clearly seen.
    """

    xy: Float64
    waves: Float64
    weight: Float64


def find_squares(image: Image, *, options: ScaleOptions = DEFAULTS) -> Squares | None:
    """Find the printed grid in a picture of a sheet.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        options: What can be tuned.

    Returns:
        Where its squares lie; None where no grid is seen.
    """
    height, width = image.shape[:2]
    shrink = min(1.0, float(np.sqrt(options.work_px / (height * width))))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    ink = _ink(small, options)
    best = None
    for tiles in _lattices(ink, options):
        work_from_lattice, seen = _through(tiles, options)
        if np.count_nonzero(seen) < options.tiles:
            continue
        found = _settle(ink, work_from_lattice, tiles.xy[seen], options)
        if best is None or found[1] > best[1]:
            best = found
        if best[1] >= options.sure:
            break
    if best is None or best[1] < options.none:
        return None
    work_from_sheet, confidence, box = best
    page_from_work = scaling((width / size[0], height / size[1]))
    return Squares(page_from_work @ work_from_sheet, confidence, box)


def _ink(image: Image, options: ScaleOptions) -> Float32:
    """Return (H, W) how much darker than the paper, in the colour in which most of it varies."""
    height, width = image.shape[:2]
    side = int(options.paper * max(height, width)) | 1
    colours = image.astype(np.float32)
    dark = cv2.blur(colours, (side, side)) - colours
    sample = dark[::5, ::5].reshape(-1, 3)
    most = sample.max(axis=1)
    faint = sample[most <= np.quantile(most, 1 - options.strokes)]
    _, vectors = np.linalg.eigh(faint.T @ faint)
    direction = vectors[:, -1] * np.sign(vectors[:, -1].sum())
    ink: Float32 = dark @ direction.astype(np.float32)
    cap = float(np.quantile(ink[::5, ::5], 1 - options.strokes)) + 1e-3
    return np.asarray(np.clip(ink, -cap, cap), np.float32)


def _shrunk(ink: Float32, by: float) -> Float32:
    """Return a picture shrunk by a factor below 1."""
    return np.asarray(cv2.resize(ink, None, fx=by, fy=by, interpolation=cv2.INTER_AREA), np.float32)


def _tiles(ink: Float32, options: ScaleOptions) -> tuple[Float64, Float32]:
    """Return centres (n, 2) px and log power (n, side, side // 2 + 3) of tiles of a picture.

    Rows run from the lowest to the highest frequency along y; columns begin at -2 along x.
    """
    side = options.tile_px
    high, wide = (min(side, n) for n in ink.shape)
    tops, lefts = (
        np.linspace(0, n - m, int(np.ceil((n - m) / (0.75 * side))) + 1).astype(int)
        for n, m in zip(ink.shape, (high, wide), strict=True)
    )
    window = np.outer(np.hanning(high), np.hanning(wide)).astype(np.float32)
    cuts = np.stack([ink[y : y + high, x : x + wide] for y in tops for x in lefts])
    cuts = (cuts - cuts.mean(axis=(1, 2), keepdims=True)) * window
    power = np.abs(rfft2(cuts, s=(side, side)))
    power = np.fft.fftshift(power, axes=1)
    mirrored = np.roll(power[:, ::-1], 1, axis=1)[:, :, 2:0:-1]
    logs = 2 * np.log(np.concatenate([mirrored, power], axis=2) + 1e-3)
    centres = [(x + (wide - 1) / 2, y + (high - 1) / 2) for y in tops for x in lefts]
    return np.array(centres), logs.astype(np.float32)


def _peaks(logs: Float32, options: ScaleOptions) -> tuple[Float64, Float64]:
    """Return the peaks of a tile's spectrum: (n, 2) xy cycles a px, and (n,) their heights."""
    side = options.tile_px
    raised = logs - cv2.blur(logs, (17, 17))
    top = (raised >= cv2.dilate(raised, np.ones((5, 5)))) & (raised > options.peak)
    top[[0, -1]] = top[:, :2] = top[:, -1] = top[: side // 2, 2] = False
    rows, columns = np.nonzero(top)
    radius = np.hypot(rows - side // 2, columns - 2)
    kept = (radius > 6) & (radius < options.finest * side)
    rows, columns = rows[kept], columns[kept]
    best = np.argsort(raised[rows, columns])[::-1][: options.peaks]
    rows, columns = rows[best], columns[best]
    here = logs[rows, columns]

    def finer(before: Float32, after: Float32) -> Float32:
        shift: Float32 = 0.5 * (after - before) / np.maximum(2 * here - before - after, 1e-3)
        return np.clip(shift, -0.5, 0.5)

    y = rows - side // 2 + finer(logs[rows - 1, columns], logs[rows + 1, columns])
    x = columns - 2 + finer(logs[rows, columns - 1], logs[rows, columns + 1])
    return np.stack([x, y], axis=1) / side, raised[rows, columns].astype(np.float64)


def _lattices(ink: Float32, options: ScaleOptions) -> list[_Lattices]:
    """Find the periods that most tiles show, at several sizes of the picture; best first."""
    centres, waves, weights, numbers = [], [], [], []
    level = ink
    n_tiles = 0
    for k in range(options.levels):
        if k:
            level = _shrunk(level, 0.5)
        if max(level.shape) < options.tile_px // 2:
            break
        for centre, logs in zip(*_tiles(level, options), strict=True):
            n_tiles += 1
            f, strength = _peaks(logs, options)
            if k:
                seen = np.hypot(*f.T) < options.coarser
                f, strength = f[seen], strength[seen]
            along = np.abs(f[:, 0]) >= np.abs(f[:, 1])
            fx, fy = f[along], f[~along]
            fx, fy = fx * np.sign(fx[:, :1]), fy * np.sign(fy[:, 1:])
            i, j = (n.ravel() for n in np.indices((len(fx), len(fy))))
            fx, fy = fx[i], fy[j]
            sizes = np.log(np.hypot(*fx.T)), np.log(np.hypot(*fy.T))
            skew = np.rad2deg(np.arctan2(fx[:, 1], fx[:, 0]) + np.arctan2(fy[:, 0], fy[:, 1]))
            stretch = (sizes[0] - sizes[1]) / options.stretch
            fits = (np.abs(skew) < options.skew_deg) & (np.abs(stretch) < 3)
            weight = np.minimum(strength[along][i], strength[~along][j]) - 0.8 * options.peak
            weight *= np.exp(-0.5 * stretch**2 - 0.5 * (skew / options.skew_deg * 2) ** 2)
            centres.append(np.tile((centre + 0.5) * 2**k - 0.5, (fits.sum(), 1)))
            waves.append(np.stack([fx, fy], axis=1)[fits] / 2**k)
            weights.append(weight[fits])
            numbers.append(np.full(fits.sum(), n_tiles))
    if not sum(map(len, weights)):
        return []
    xy, wave, weight, number = map(np.concatenate, (centres, waves, weights, numbers))
    size = 0.5 * np.log(np.abs(np.linalg.det(wave)))
    turn = np.rad2deg(np.angle(np.exp(4j * _turns(wave)))) / 4  # -45 to 45
    votes = np.zeros((400, 90))
    cells = (np.clip((size + 6.0) / 0.015, 0, 399)).astype(int), (turn + 45).astype(int) % 90
    np.add.at(votes, cells, weight * np.exp(-options.wide * size))
    blurred = cv2.GaussianBlur(np.hstack([votes] * 3), (0, 0), sigmaX=2, sigmaY=2)
    votes = np.asarray(blurred[:, 90:180], np.float64)
    found = []
    for _ in range(options.tries):
        s, t = np.unravel_index(int(votes.argmax()), votes.shape)
        off = (turn - t + 44.5 + 45) % 90 - 45
        near = np.abs(size + 6 - 0.015 * (s + 0.5)) < options.spread
        near &= np.abs(off) < options.spread_deg
        order = np.nonzero(near)[0]
        order = order[np.argsort(-weight[order])]
        kept = order[np.unique(number[order], return_index=True)[1]]
        if len(kept) < options.tiles:
            break
        lead = (turn[kept] - (t - 44.5))[:, None, None]
        x, y = wave[kept][:, :1], wave[kept][:, 1:]  # near 45 degrees some may be swapped
        straight = np.where(lead > 45, np.concatenate([-y, x], axis=1), wave[kept])
        straight = np.where(lead < -45, np.concatenate([y, -x], axis=1), straight)
        found.append(_Lattices(xy[kept], straight, weight[kept]))
        votes[max(0, s - 10) : s + 11] = 0
    return found


def _turns(waves: Float64) -> Float64:
    """Return (n,) how far the lattices are turned, radians, modulo a quarter turn."""
    x, y = waves[:, 0], waves[:, 1]
    sum_xy = x + np.stack([y[:, 1], -y[:, 0]], axis=1)
    turn: Float64 = np.arctan2(sum_xy[:, 1], sum_xy[:, 0])
    return turn


def _through(tiles: _Lattices, options: ScaleOptions) -> tuple[Float64, Mask]:
    """Fit a homography, lattice periods -> work px, to the periods seen in tiles.

    Returns:
        The map, and (n,) which tiles agree with it.
    """
    centre, reach = tiles.xy.mean(axis=0), float(np.ptp(tiles.xy, axis=0).max()) + 1.0
    xy = (tiles.xy - centre) / reach
    middle = np.median(tiles.waves, axis=0) * reach
    scale = float(np.sqrt(abs(np.linalg.det(middle))))
    root = np.sqrt(tiles.weight / tiles.weight.max())

    def off(p: Float64) -> Float64:
        linear, g = p[:4].reshape(2, 2), p[4:]
        depth = 1 + xy @ g
        mapped = xy @ linear.T / depth[:, None]
        waves = (linear - mapped[:, :, None] * g) / depth[:, None, None]
        gone: Float64 = (waves - tiles.waves * reach / scale) * root[:, None, None]
        return gone

    start = np.concatenate([middle.ravel() / scale, [0, 0]])
    pulled = 0.02 * len(xy) ** 0.5
    fit = least_squares(
        lambda p: np.append(off(p).ravel(), pulled * p[4:]), start, loss="soft_l1", f_scale=0.01
    )
    good = np.abs(off(fit.x) / root[:, None, None]).max(axis=(1, 2)) < 0.06
    g = fit.x[4:]
    lattice = np.vstack([np.column_stack([fit.x[:4].reshape(2, 2) * scale, [0, 0]]), [*g, 1]])
    to_unit = np.array(
        [[1 / reach, 0, -centre[0] / reach], [0, 1 / reach, -centre[1] / reach], [0, 0, 1]]
    )
    return np.linalg.inv(lattice @ to_unit), good


class _Canvas(NamedTuple):
    """The picture seen through a map: whole periods of the grid, from a corner on.

    Attributes:
        rows: Means over the height of a period: (periods down, px across), grey levels.
        columns: Means over the width of a period: (periods across, px down).
        px: Pixels a period.
        corner: x, y of the upper left pixel's centre, periods.
    """

    rows: Float32
    columns: Float32
    px: int
    corner: Float64

    def strips(
        self, axis: int, length: int, depth: int, frequencies: Float64
    ) -> tuple[Float64, Complex]:
        """Measure the waves of the lines along strips, which overlap by half.

        Args:
            axis: Strips run along x (0) or y (1).
            length: How long they are, periods.
            depth: How deep, periods.
            frequencies: (q,) cycles a period.

        Returns:
            Their centres (a, b, 2), periods, and (a, b, q) amplitudes, grey levels: a across the
            strips and b along them.
        """
        lines = (self.rows, self.columns)[axis]
        length, depth = length * self.px, max(1, min(depth, len(lines)))
        length = min(length, lines.shape[1])
        x = np.arange(length)
        basis = np.exp(-2j * np.pi * np.outer((x - (length - 1) / 2) / self.px, frequencies))
        basis = basis * np.hanning(length)[:, None] * 2 / length
        parts = np.hstack([basis.real, basis.imag]).astype(np.float32)
        n = len(lines) // depth
        deep = lines[: n * depth].reshape(n, depth, -1).mean(axis=1)
        starts = range(0, lines.shape[1] - length + 1, max(1, length // 2))
        found = np.stack([deep[:, i : i + length] @ parts for i in starts], axis=1)
        waves = found[..., : len(frequencies)] + 1j * found[..., len(frequencies) :]
        along = (np.array(starts) + (length - 1) / 2) / self.px
        across = (np.arange(n) + 0.5) * depth - 0.5 / self.px
        uv = np.stack(np.meshgrid(along, across), axis=-1)
        uv = np.asarray((uv if axis == 0 else uv[..., ::-1]) + self.corner, np.float64)
        return uv, waves

    def raised(self, frequencies: Float64, beside: float, length: int) -> Float64:
        """Return (2, q) log of mean power at frequencies, over that ``beside`` them."""
        asked = np.concatenate([frequencies, frequencies - beside, frequencies + beside])
        out = np.zeros((2, len(frequencies)))
        for axis in (0, 1):
            _, waves = self.strips(axis, length, max(1, length // 5), asked)
            power = (np.abs(waves) ** 2).reshape(-1, len(asked))
            power = np.minimum(power, 20 * np.median(power, axis=0) + 1e-9)
            at, below, above = power.mean(axis=0).reshape(3, -1) + 1e-6
            out[axis] = np.log(at) - np.log(0.5 * (below + above))
        return out


def _canvas(ink: Float32, work_from_lattice: Float64, xy: Float64) -> _Canvas:
    """Look at the picture through a map, where (n, 2) work px lie, at about its own scale."""
    uv = apply_homography(np.asarray(np.linalg.inv(work_from_lattice), np.float64), xy)
    period = float(np.sqrt(abs(np.linalg.det(jacobian(work_from_lattice, np.median(uv, axis=0))))))
    px = int(np.clip(np.ceil(period), 6, 30))
    low = np.asarray(np.floor(uv.min(axis=0)), np.float64)
    high = np.asarray(np.ceil(uv.max(axis=0)), np.float64)
    wide, deep = (int(n) for n in np.clip(high - low, 1, 3000 / px))
    shrink = 1.2 * px / period
    if shrink < 0.7:
        small = _shrunk(ink, shrink)
        factors = (small.shape[1] / ink.shape[1], small.shape[0] / ink.shape[0])
        ink, work_from_lattice = small, scaling(factors) @ work_from_lattice
    lattice_from_canvas = np.array([[1 / px, 0, low[0]], [0, 1 / px, low[1]], [0, 0, 1]])
    seen = cv2.warpPerspective(
        ink,
        work_from_lattice @ lattice_from_canvas,
        (wide * px, deep * px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    rows = seen.reshape(deep, px, -1).mean(axis=1)
    columns = seen.reshape(deep * px, wide, px).mean(axis=2).T
    return _Canvas(rows, np.ascontiguousarray(columns), px, low)


def _boost(canvas: _Canvas, n: int) -> float:
    """Return how far every n-th harmonic stands out from those beside it, log of power."""
    if canvas.px < 2 * n + 2:
        return 0.0
    comb = canvas.raised(np.array([n - 1.0, n, n + 1.0]), 0.5, 6)
    stands = comb[:, 1] - 0.5 * np.maximum(comb[:, 0], 0) - 0.5 * np.maximum(comb[:, 2], 0)
    return float(np.minimum(stands, comb[:, 1]).mean())


def _multiple(canvas: _Canvas, options: ScaleOptions) -> int:
    """Return after how many periods the lines repeat, strong and faint; 1 if all are alike."""
    heights = {}
    shape = len(canvas.rows), len(canvas.columns)
    for m in (2, 3, 5):
        if min(shape) >= 3 * m or (max(shape) >= 3 * m and min(shape) >= 4):
            at = np.array([j / m for j in range(1, m)])
            axes = [k for k in (0, 1) if shape[1 - k] >= 3 * m]
            raised = canvas.raised(at, 0.5 / m, min(12 if m == 2 else 4 * m, max(shape)))[
                axes
            ].mean(axis=1)
            heights[m] = float(raised.min()) - (m < 5) * options.few
    best = max(heights, key=lambda m: heights[m], default=1)
    return best if heights and heights[best] > options.super_peak else 1


def _settle(
    ink: Float32, work_from_lattice: Float64, xy: Float64, options: ScaleOptions
) -> tuple[Float64, float, tuple[float, float, float, float]]:
    """Tell which period is 5 mm, and lay the map on the lines.

    Args:
        ink: (H, W) grey levels.
        work_from_lattice: (3, 3) some period -> work px.
        xy: (n, 2) work px, the tiles in which that period is seen.
        options: What can be tuned.

    Returns:
        work_from_sheet (3, 3), the confidence and the box of what carries grid, mm.
    """
    half = options.tile_px / 2
    xy = np.concatenate([xy + np.array(d) * half for d in ((-1, -1), (-1, 1), (1, -1), (1, 1))])
    xy = np.clip(xy, 0, [ink.shape[1] - 1, ink.shape[0] - 1])
    lattice, confidence, repeat = _squared(ink, work_from_lattice, xy, options)
    for _ in range(2):
        canvas = _canvas(ink, lattice, xy)
        change, together = _straighten(canvas)
        lattice = lattice @ change
    low, high = options.doubted
    if together < 0.6 * low:
        return lattice @ np.diag([0.2, 0.2, 1.0]), 0.0, (0.0, 0.0, 0.0, 0.0)
    for _ in range(2):
        canvas = _canvas(ink, lattice, xy)
        lattice = lattice @ _lay(canvas, 0.45 * repeat, repeat, options)
    canvas = _canvas(ink, lattice, xy)
    change, together = _straighten(canvas)
    if np.abs(change[:2, :2] - np.eye(2)).max() > options.slope:
        size = np.array([len(canvas.columns), len(canvas.rows)], np.float64)
        middle = np.asarray(canvas.corner + 0.5 * size, np.float64)
        parted = np.eye(3)  # flat, as patches say nothing of what lies between them
        parted[:2, :2] = jacobian(lattice, middle)
        parted[:2, 2] = apply_homography(lattice, middle) - parted[:2, :2] @ middle
        for _ in range(3):
            patches = _canvas(ink, parted, xy)
            change, united = _straighten(patches)
            parted = parted @ change
        if united > together + options.torn:
            lattice = parted @ _lay(patches, 0.0, repeat, options)
            canvas, together = _canvas(ink, lattice, xy), united
    box = _extent(canvas)
    confidence *= float(np.clip((together - low) / (high - low), 0, 1))
    sides = box[2] - box[0], box[3] - box[1]
    if min(sides) > options.sides_mm[1] or max(sides) < options.sides_mm[0]:
        confidence *= 0.4
    return lattice @ np.diag([0.2, 0.2, 1.0]), confidence, box


def _squared(
    ink: Float32, lattice: Float64, xy: Float64, options: ScaleOptions
) -> tuple[Float64, float, float]:
    """Make the period of a map 5 mm.

    Returns:
        work_from_lattice (3, 3); how sure that is; and after how many periods lines are alike:
        0.2 where all that is seen is 1 mm apart.
    """
    factor = 1
    for _ in range(3):
        canvas = _canvas(ink, lattice, xy)
        fifth = _boost(canvas, 5) > options.fifth
        m = _multiple(canvas, options)
        wider = lattice @ np.diag([m, m, 1.0])
        doubled = m == 2 and _boost(_canvas(ink, wider, xy), 5) > options.fifth
        if m == 1 or (fifth and not doubled):
            break
        factor, lattice = factor * m, wider
    if fifth or factor == 5:
        return lattice, 0.95, 1.0
    fine, confidence = _all_fine(lattice, canvas, xy, options)
    if not fine:
        return lattice, confidence, 1.0
    lattice = lattice @ np.diag([5.0, 5.0, 1.0])
    strong = _canvas(ink, lattice, xy).raised(np.arange(1.0, 5.0), 0.5, 6).mean()
    return lattice, 0.95 if strong > options.fifth else confidence, 0.2


def _all_fine(
    work_from_lattice: Float64, canvas: _Canvas, xy: Float64, options: ScaleOptions
) -> tuple[bool, float]:
    """Say whether a lone period is 1 mm, not 5, by what sheets are like; and how sure that is."""
    width = max(canvas.rows.shape[1], canvas.columns.shape[1]) / canvas.px
    lattice_from_work = np.asarray(np.linalg.inv(work_from_lattice), np.float64)
    middle = apply_homography(lattice_from_work, xy).mean(axis=0)
    period = float(np.sqrt(abs(np.linalg.det(jacobian(work_from_lattice, middle)))))
    odds = [
        -0.5 * (np.log(width * mm / options.width_mm) / options.width_spread) ** 2
        - 0.5 * (np.log(period / mm / options.density) / options.density_spread) ** 2
        for mm in (1, 5)
    ]
    fine = 1 / (1 + np.exp(np.clip(odds[1] - odds[0], -30, 30)))
    plausible = 0.9 * max(fine, 1 - fine) * np.exp(min(0.0, max(odds) + 0.7))
    return bool(fine > 0.5), float(plausible)


def _straighten(canvas: _Canvas) -> tuple[Float64, float]:
    """Mend scale and shear, by how phases change from a strip to the next.

    Returns:
        lattice_from_mended (3, 3), and how alike neighbouring strips were before, -1 to 1.
    """
    change, together = np.zeros((3, 3)), np.full(2, 1e-9)
    for axis in (0, 1):
        uv, waves = canvas.strips(axis, 3, 1, np.array([1.0, 2.0, 5.0]))
        size = np.abs(waves)
        waves = waves / np.maximum(size, 1e-9) * np.minimum(size, np.median(size, axis=(0, 1)))
        middle = uv.mean(axis=(0, 1))
        for step in (0, 1):  # to the next strip across, and along
            if waves.shape[step] < 2:
                continue
            a, b = (waves[:-1], waves[1:]) if step == 0 else (waves[:, :-1], waves[:, 1:])
            gap = uv[1, 0] - uv[0, 0] if step == 0 else uv[0, 1] - uv[0, 0]
            other = int(np.abs(gap[1]) > np.abs(gap[0]))
            products, off = (b * np.conj(a)).reshape(-1, 3), 0.0
            z = products[:, 1:] * np.exp(-2j * np.pi * np.array([2, 5]) * gap[axis])
            together += z.real.sum(), np.abs(z).sum()
            faint = 0.03 * float(np.abs(products).sum(axis=0).max())  # noise where no lines are
            for f, z in zip((1, 1, 2, 5, 5), products[:, [0, 0, 1, 2, 2]].T, strict=True):
                z = z * np.exp(2j * np.pi * f * (off - gap[axis]))
                kept = z[z.real > 0.5 * np.abs(z)]  # not what crosses to another patch of grid
                if np.abs(kept).sum() > max(0.5 * np.abs(z).sum(), faint):
                    off -= float(np.angle(kept.sum())) / (2 * np.pi * f)
            change[axis, other] += off / gap[other]
        change[axis, 2] = -change[axis, :2] @ middle
    mended = np.asarray(np.linalg.inv(np.eye(3) - change), np.float64)
    return mended, float(together[0] / together[1])


def _matches(canvas: _Canvas, length: int, depth: int) -> list[tuple[Float64, Float64]]:
    """Say for strips along x and along y how well lines fit at hundredths of a period.

    Returns:
        For each axis the centres (a, b, 2), periods, and the fits (a, b, 100), grey levels.
    """
    harmonics = np.arange(1.0, min(13, canvas.px // 2))
    turns = np.exp(2j * np.pi * np.outer(harmonics, np.arange(100) / 100))
    found = []
    for axis in (0, 1):
        uv, waves = canvas.strips(axis, length, depth, harmonics)
        root = np.sqrt(np.median(np.abs(waves) ** 2, axis=(0, 1)))
        root /= np.sqrt((root**2).sum()) + 1e-9
        waves = waves * np.exp(-2j * np.pi * uv[..., axis, None] * harmonics) * root
        found.append((uv, np.real(waves @ turns)))
    return found


def _lay(canvas: _Canvas, within: float, repeat: float, options: ScaleOptions) -> Float64:
    """Lay the map on the lines, from the clearest spot outwards, so that no period is lost.

    Args:
        canvas: The picture seen through the map so far.
        within: How far lines may be from where those before them have them, periods.
        repeat: After how many periods lines are alike: 0.2 where all are 1 mm apart.
        options: What can be tuned.

    Returns:
        lattice_from_laid (3, 3).
    """
    depth = max(2, round(len(canvas.rows) * len(canvas.columns) / 1500))
    pairs = _matches(canvas, 5, depth)
    uv = np.concatenate([p[0].reshape(-1, 2) for p in pairs])
    match = np.concatenate([p[1].reshape(-1, 100) for p in pairs])
    axis = np.repeat([0, 1], [p[0].size // 2 for p in pairs])
    clear = match.max(axis=1)
    clear = np.maximum(np.minimum(clear, np.quantile(clear, 0.7)), 1e-9)
    distance = np.linalg.norm(uv[:, None] - uv[None], axis=-1)
    start = uv[np.argmax((distance < 6) @ clear)]
    local, away = uv - start, np.linalg.norm(uv - start, axis=1)
    laid = np.eye(3)
    for k in (0, 1):
        first = match[(axis == k) & (away < 6)].sum(axis=0)
        laid[k, 2] = -((int(first.argmax()) + 50) % 100 - 50) / 100
    shift, residual = laid.copy(), np.zeros(len(uv))
    steps = np.arange(-round(100 * within), round(100 * within) + 1)
    for reach in (6, 10, 16, 25, 40, 1000, 1000):
        used = np.nonzero((away < reach) & (clear > 0.3 * np.median(clear)))[0]
        gone = (apply_homography(laid, local) - local)[used, axis[used]]
        cells = (np.round(-100 * gone).astype(int)[:, None] + steps) % 100
        best = np.take_along_axis(match[used], cells, axis=1).argmax(axis=1)
        seen = -(np.round(-100 * gone) + steps[best]) / 100
        (u, v), x = local[used].T, axis[used] == 0
        one = np.ones(len(u))
        own = np.where(x, u, v)
        design = np.stack([x * one, x * u, x * v, ~x * one, ~x * u, ~x * v, -own * u, -own * v], 1)
        held = np.array([0, 1, 1, 0, 1, 1, 30, 30]) * options.stiff
        weight = np.sqrt(clear[used])
        for _ in range(4):
            system = np.vstack([design * weight[:, None], np.diag(held)])
            p = np.linalg.lstsq(system, np.append(seen * weight, np.zeros(8)), rcond=None)[0]
            residual = design @ p - seen
            weight = np.sqrt(clear[used]) / np.sqrt(1 + (residual / options.bend) ** 2)
        laid = np.array([[1 + p[1], p[2], p[0]], [p[4], 1 + p[5], p[3]], [p[6], p[7], 1]])
    gone = (apply_homography(laid, local) - local)[np.arange(len(uv)), axis]
    off = (gone + match.argmax(axis=1) / 100 + 0.5 * repeat) % repeat - 0.5 * repeat
    met = np.average(np.abs(off) < 0.1 * repeat, weights=clear)
    if not within or met < options.met:
        laid = shift
    to_start = np.array([[1, 0, start[0]], [0, 1, start[1]], [0, 0, 1]])
    return np.asarray(to_start @ np.linalg.inv(laid) @ np.linalg.inv(to_start))


def _extent(canvas: _Canvas) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of what carries grid, mm."""
    edges = []
    for uv, match in _matches(canvas, 3, 1):
        lit = match.max(axis=2)
        lit = lit > 0.4 * np.quantile(lit, 0.8)
        for k in (0, 1):  # x by columns of strips, then y by rows, whichever way they run
            along = uv[0, :, k] if np.ptp(uv[0, :, k]) > 0 or len(uv) == 1 else uv[:, 0, k]
            share = lit.mean(
                axis=0
                if len(along) == lit.shape[1]
                and along[0] == uv[0, 0, k]
                and (np.ptp(uv[0, :, k]) > 0)
                else 1
            )
            inside = along[share >= 0.3 * share.max()]
            edges.append((inside.min() - 0.5, inside.max() + 0.5))
    (a, b), (c, d), (e, f), (g, h) = edges
    return 5 * min(a, e), 5 * min(c, g), 5 * max(b, f), 5 * max(d, h)
