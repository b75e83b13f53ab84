"""A picture seen through a map of a grid, line by line, and the map laid on the lines."""

from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg_digitize.geometry import apply_homography, jacobian, scaling
from ecg_digitize.sheet.tiles import shrunk
from ecg_digitize.types import Float32, Float64

Complex = NDArray[np.complexfloating]


class LayOptions(NamedTuple):
    """Constants of laying a map on lines.

    Attributes:
        bend: How far from the map strips lose weight, periods.
        stiff: How much parts of the map are held back.
        met: Share of strips that must meet their lines; else the map is left as periods say.
    """

    bend: float = 0.2
    stiff: float = 1.0
    met: float = 0.4


DEFAULTS: Final = LayOptions()


class LineView(NamedTuple):
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


def view_lines(ink: Float32, work_from_lattice: Float64, xy: Float64) -> LineView:
    """Look at the picture through a map, where (n, 2) work px lie, at about its own scale."""
    uv = apply_homography(np.asarray(np.linalg.inv(work_from_lattice), np.float64), xy)
    period = float(np.sqrt(abs(np.linalg.det(jacobian(work_from_lattice, np.median(uv, axis=0))))))
    px = int(np.clip(np.ceil(period), 6, 30))
    low = np.asarray(np.floor(uv.min(axis=0)), np.float64)
    high = np.asarray(np.ceil(uv.max(axis=0)), np.float64)
    wide, deep = (int(n) for n in np.clip(high - low, 1, 3000 / px))
    shrink = 1.2 * px / period
    if shrink < 0.7:
        small = shrunk(ink, shrink)
        factors = (small.shape[1] / ink.shape[1], small.shape[0] / ink.shape[0])
        ink, work_from_lattice = small, scaling(factors) @ work_from_lattice
    lattice_from_view = np.array([[1 / px, 0, low[0]], [0, 1 / px, low[1]], [0, 0, 1]])
    seen = cv2.warpPerspective(
        ink,
        work_from_lattice @ lattice_from_view,
        (wide * px, deep * px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    rows = seen.reshape(deep, px, -1).mean(axis=1)
    columns = seen.reshape(deep * px, wide, px).mean(axis=2).T
    return LineView(rows, np.ascontiguousarray(columns), px, low)


def straighten(view: LineView) -> tuple[Float64, float]:
    """Mend scale and shear, by how phases change from a strip to the next.

    Returns:
        lattice_from_mended (3, 3), and how alike neighbouring strips were before, -1 to 1.
    """
    change, together = np.zeros((3, 3)), np.full(2, 1e-9)
    for axis in (0, 1):
        uv, waves = view.strips(axis, 3, 1, np.array([1.0, 2.0, 5.0]))
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


def _matches(view: LineView, length: int, depth: int) -> list[tuple[Float64, Float64]]:
    """Say for strips along x and along y how well lines fit at hundredths of a period.

    Returns:
        For each axis the centres (a, b, 2), periods, and the fits (a, b, 100), grey levels.
    """
    harmonics = np.arange(1.0, min(13, view.px // 2))
    turns = np.exp(2j * np.pi * np.outer(harmonics, np.arange(100) / 100))
    found = []
    for axis in (0, 1):
        uv, waves = view.strips(axis, length, depth, harmonics)
        root = np.sqrt(np.median(np.abs(waves) ** 2, axis=(0, 1)))
        root /= np.sqrt((root**2).sum()) + 1e-9
        waves = waves * np.exp(-2j * np.pi * uv[..., axis, None] * harmonics) * root
        found.append((uv, np.real(waves @ turns)))
    return found


def lay_on_lines(
    view: LineView, within: float, repeat: float, options: LayOptions = DEFAULTS
) -> Float64:
    """Lay the map on the lines, from the clearest spot outwards, so that no period is lost.

    Args:
        view: The picture seen through the map so far.
        within: How far lines may be from where those before them have them, periods.
        repeat: After how many periods lines are alike: 0.2 where all are 1 mm apart.
        options: What can be tuned.

    Returns:
        lattice_from_laid (3, 3).
    """
    depth = max(2, round(len(view.rows) * len(view.columns) / 1500))
    pairs = _matches(view, 5, depth)
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


def extent_of(view: LineView) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of what carries grid, mm."""
    edges = []
    for uv, match in _matches(view, 3, 1):
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
