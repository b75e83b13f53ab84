"""What tiles of a picture say of its grid: one period in each, by the Fourier transform."""

from typing import Final, NamedTuple

import cv2
import numpy as np
from scipy.fft import rfft2
from scipy.optimize import least_squares

from ecg_digitize.types import Float32, Float64, Image, Mask


class TileOptions(NamedTuple):
    """Constants of the search in tiles.

    Attributes:
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
    """

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


DEFAULTS: Final = TileOptions()


class Lattices(NamedTuple):
    """What tiles say: one period of the grid in each.

    Attributes:
        xy: (n, 2) centres of the tiles, work px.
        waves: (n, 2, 2) periods a px along x and y: a row for each of the two directions.
        weight: (n,) how clearly seen.
    """

    xy: Float64
    waves: Float64
    weight: Float64


def ink_of(image: Image, options: TileOptions = DEFAULTS) -> Float32:
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


def shrunk(ink: Float32, by: float) -> Float32:
    """Return a picture shrunk by a factor below 1."""
    return np.asarray(cv2.resize(ink, None, fx=by, fy=by, interpolation=cv2.INTER_AREA), np.float32)


def _tiles(ink: Float32, options: TileOptions = DEFAULTS) -> tuple[Float64, Float32]:
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


def _peaks(logs: Float32, options: TileOptions = DEFAULTS) -> tuple[Float64, Float64]:
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


def find_lattices(ink: Float32, options: TileOptions = DEFAULTS) -> list[Lattices]:
    """Find the periods that most tiles show, at several sizes of the picture; best first."""
    centres, waves, weights, numbers = [], [], [], []
    level = ink
    n_tiles = 0
    for k in range(options.levels):
        if k:
            level = shrunk(level, 0.5)
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
        found.append(Lattices(xy[kept], straight, weight[kept]))
        votes[max(0, s - 10) : s + 11] = 0
    return found


def _turns(waves: Float64) -> Float64:
    """Return (n,) how far the lattices are turned, radians, modulo a quarter turn."""
    x, y = waves[:, 0], waves[:, 1]
    sum_xy = x + np.stack([y[:, 1], -y[:, 0]], axis=1)
    turn: Float64 = np.arctan2(sum_xy[:, 1], sum_xy[:, 0])
    return turn


def fit_through(tiles: Lattices, options: TileOptions = DEFAULTS) -> tuple[Float64, Mask]:
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
