"""Geometry of print, scanner and camera: a smooth map from the sheet to the picture.

Every map is a plain function of sheet millimetres, so that labels are carried exactly; the picture
is made by inverting it numerically on a lattice.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg_digitize.types import Float32, Float64

LATTICE_PX: Final = 16
INNER_RIPPLE: Final = 0.12
"""Height of a ripple in the middle of a sheet, of that at an edge."""


@dataclass(frozen=True)
class Bend:
    """A developable bend of the paper: height z(u) along one direction, arc length kept.

    Attributes:
        direction_rad: Direction in the sheet along which the height changes.
        amplitude_mm: Heights of the harmonics.
        period_mm: Their wavelengths.
        phase_rad: Their phases.
    """

    direction_rad: float
    amplitude_mm: Float64
    period_mm: Float64
    phase_rad: Float64

    def lift(self, xy_mm: Float64) -> tuple[Float64, Float64]:
        """Return ((..., 2) flat-projected xy, (...) height), mm."""
        axis = np.array([np.cos(self.direction_rad), np.sin(self.direction_rad)])
        u = xy_mm @ axis
        k = 2 * np.pi / self.period_mm
        arg = u[..., None] * k + self.phase_rad
        z = (self.amplitude_mm * np.sin(arg)).sum(-1)
        # Arc length kept to second order: du = -1/2 * integral of z'^2, cross terms left out.
        slope = self.amplitude_mm * k
        shortening = (slope**2 / 4 * (u[..., None] + np.sin(2 * arg) / (2 * k))).sum(-1)
        return xy_mm - shortening[..., None] * axis, z


@dataclass(frozen=True)
class Ripple:
    """Paper that was wet and dried: low waves all over, high ones along the edges.

    Attributes:
        box_mm: x0, y0, x1, y1 of the paper.
        reach_mm: How far from the edges the high waves die out.
        height_mm: (K,) amplitudes at the edges.
        wave_k: (K, 2) wave vectors, rad/mm.
        phase_rad: (K,) phases.
    """

    box_mm: tuple[float, float, float, float]
    reach_mm: float
    height_mm: Float64
    wave_k: Float64
    phase_rad: Float64

    def lift(self, xy_mm: Float64) -> Float64:
        """Return the (...) height at (..., 2) sheet mm."""
        box = np.array(self.box_mm)
        inside = np.concatenate([xy_mm - box[:2], box[2:] - xy_mm], -1).clip(0)
        edge = np.exp(-inside / self.reach_mm).sum(-1)
        waves = np.sin(xy_mm @ self.wave_k.T + self.phase_rad) @ self.height_mm
        return np.asarray(waves * (INNER_RIPPLE + edge))


@dataclass(frozen=True)
class Fold:
    """Paper that was folded and opened again: two planes that meet in a rounded edge.

    Attributes:
        across_rad: Direction in the sheet square to the edge.
        at_mm: Where along it the edge is.
        slope: Of both planes away from the edge; above 0 the edge lies low, a valley.
        round_mm: How far from the edge the paper is bent.
    """

    across_rad: float
    at_mm: float
    slope: float
    round_mm: float

    def lift(self, xy_mm: Float64) -> tuple[Float64, Float64]:
        """Return ((..., 2) flat-projected xy, (...) height), mm."""
        axis = np.array([np.cos(self.across_rad), np.sin(self.across_rad)])
        v = xy_mm @ axis - self.at_mm
        z = self.slope * (np.hypot(v, self.round_mm) - self.round_mm)
        # Arc length kept to second order, as of a bend.
        shortening = self.slope**2 / 2 * (v - self.round_mm * np.arctan(v / self.round_mm))
        return xy_mm - shortening[..., None] * axis, z


@dataclass(frozen=True)
class SheetWarp:
    """page px <- sheet mm: smooth in-plane distortion, bend and folds, then camera or scanner.

    Attributes:
        matrix: (3, 4) projection of (x, y, z, 1) mm to homogeneous page px.
        bend: Developable bend, or None for a flat sheet.
        wave_mm: (K, 2) amplitudes of in-plane waves, mm.
        wave_k: (K, 2) wave vectors, rad/mm.
        wave_phase_rad: (K,) phases.
        ripple: Waves out of the plane, or None.
        folds: Edges along which the sheet was folded.
    """

    matrix: Float64
    bend: Bend | None
    wave_mm: Float64
    wave_k: Float64
    wave_phase_rad: Float64
    ripple: Ripple | None = None
    folds: tuple[Fold, ...] = ()

    @property
    def plane(self) -> Float64:
        """(3, 3) homography from mm on the desk beneath the sheet to page px."""
        return self.matrix[:, [0, 1, 3]]

    def solid_mm(self, xy_mm: NDArray[np.floating]) -> tuple[Float64, Float64]:
        """Return where (..., 2) sheet mm lie in space: (..., 2) xy on the desk, (...) height."""
        xy = np.asarray(xy_mm, np.float64)
        flat, height = xy, np.zeros(xy.shape[:-1])
        if len(self.wave_mm):
            flat = xy + np.sin(xy @ self.wave_k.T + self.wave_phase_rad) @ self.wave_mm
        if self.bend is not None:
            flat, height = self.bend.lift(flat)
        for fold in self.folds:
            flat, rise = fold.lift(flat)
            height = height + rise
        if self.ripple is not None:
            height = height + self.ripple.lift(xy)
        return flat, height

    def page_from_sheet(self, xy_mm: NDArray[np.floating]) -> Float64:
        """Map (..., 2) sheet mm to (..., 2) page px."""
        flat, height = self.solid_mm(xy_mm)
        solid = np.concatenate([flat, height[..., None], np.ones((*flat.shape[:-1], 1))], axis=-1)
        out = solid @ self.matrix.T
        return np.asarray(out[..., :2] / out[..., 2:], np.float64)

    def sheet_from_page(self, xy_px: Float64, *, iterations: int = 6) -> Float64:
        """Invert page_from_sheet by Newton steps with a numeric Jacobian.

        Args:
            xy_px: (..., 2) page px.
            iterations: Newton steps; bends of a few mm converge to 1e-4 mm in four.

        Returns:
            (..., 2) sheet mm.
        """
        flat = np.linalg.inv(self.plane)
        start = np.concatenate([xy_px, np.ones((*xy_px.shape[:-1], 1))], -1) @ flat.T
        s: Float64 = start[..., :2] / start[..., 2:]
        step = 0.05
        for _ in range(iterations):
            f = self.page_from_sheet(s)
            jx = (self.page_from_sheet(s + np.array([step, 0])) - f) / step
            jy = (self.page_from_sheet(s + np.array([0, step])) - f) / step
            e = xy_px - f
            det = jx[..., 0] * jy[..., 1] - jx[..., 1] * jy[..., 0]
            dx = (e[..., 0] * jy[..., 1] - e[..., 1] * jy[..., 0]) / det
            dy = (jx[..., 0] * e[..., 1] - jx[..., 1] * e[..., 0]) / det
            s = s + np.stack([dx, dy], -1).clip(-30, 30)
        return s

    def sheet_maps(self, size_px: tuple[int, int]) -> tuple[Float32, Float32]:
        """Return the (H, W) float32 maps of sheet x and y (mm) at every page pixel."""
        width, height = size_px
        nx, ny = -(-width // LATTICE_PX) + 1, -(-height // LATTICE_PX) + 1
        # Cell centres of an enlargement by LATTICE_PX, one cell early: see cv2.resize.
        x = (np.arange(nx + 1) - 0.5) * LATTICE_PX - 0.5
        y = (np.arange(ny + 1) - 0.5) * LATTICE_PX - 0.5
        lattice = np.stack(np.meshgrid(x, y), -1)
        sheet = self.sheet_from_page(lattice).astype(np.float32)
        full = cv2.resize(
            sheet, ((nx + 1) * LATTICE_PX, (ny + 1) * LATTICE_PX), interpolation=cv2.INTER_LINEAR
        )[LATTICE_PX : LATTICE_PX + height, LATTICE_PX : LATTICE_PX + width]
        return np.ascontiguousarray(full[..., 0]), np.ascontiguousarray(full[..., 1])


def waves(
    rng: np.random.Generator, amplitude_mm: float, *, count: int = 4
) -> tuple[Float64, Float64, Float64]:
    """Draw in-plane waves of 80 to 400 mm whose amplitudes add up to about amplitude_mm."""
    period = rng.uniform(80, 400, count)
    direction = rng.uniform(0, 2 * np.pi, count)
    k = (2 * np.pi / period)[:, None] * np.stack([np.cos(direction), np.sin(direction)], -1)
    amplitude = rng.normal(0, amplitude_mm / np.sqrt(2 * count), (count, 2))
    return amplitude, k, rng.uniform(0, 2 * np.pi, count)


def flat_warp(
    rng: np.random.Generator,
    *,
    px_per_mm: float,
    origin_mm: tuple[float, float],
    turn_deg: float = 0.0,
    anisotropy: float = 0.0,
    shear: float = 0.0,
    offset_px: tuple[float, float] = (0.0, 0.0),
    wave_mm: float | None = None,
) -> SheetWarp:
    """Return a scanner's map: similarity, slight anisotropy, shear and smooth distortion.

    Args:
        rng: Source of randomness for the distortion.
        px_per_mm: Scale.
        origin_mm: Sheet position that falls on the upper left corner before the offset.
        turn_deg: Rotation, clockwise on the picture.
        anisotropy: Relative difference of horizontal and vertical scale.
        shear: Horizontal shift a vertical unit.
        offset_px: Page position of the origin.
        wave_mm: Amplitude of smooth distortion; None draws none.
    """
    t = np.deg2rad(turn_deg)
    turn = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    linear = turn @ np.array([[1 + anisotropy / 2, shear], [0, 1 - anisotropy / 2]]) * px_per_mm
    matrix = np.zeros((3, 4))
    matrix[:2, :2] = linear
    matrix[:2, 3] = -linear @ np.array(origin_mm) + np.array(offset_px) - 0.5
    matrix[2, 3] = 1.0
    amplitude, k, phase = (
        (np.zeros((0, 2)),) * 2 + (np.zeros(0),) if wave_mm is None else waves(rng, wave_mm)
    )
    return SheetWarp(matrix, None, amplitude, k, phase)


def camera_warp(
    rng: np.random.Generator,
    *,
    size_px: tuple[int, int],
    box_mm: tuple[float, float, float, float],
    fill: float,
    tilt_deg: float,
    turn_deg: float,
    bend_mm: float | None,
    wave_mm: float = 0.5,
) -> SheetWarp:
    """Return a pinhole camera's map of a bent sheet.

    Args:
        rng: Source of randomness.
        size_px: Width and height of the picture.
        box_mm: x0, y0, x1, y1 of the paper on the sheet.
        fill: Share of the picture's tighter side that the paper spans, about.
        tilt_deg: Standard deviation of the two tilts of the camera.
        turn_deg: Rotation in the picture.
        bend_mm: Height of the bend; None draws none.
        wave_mm: In-plane distortion.
    """
    width, height = size_px
    x0, y0, x1, y1 = box_mm
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2, 0.0])
    ax, ay = np.deg2rad(rng.normal(0, tilt_deg, 2).clip(-2.2 * tilt_deg, 2.2 * tilt_deg))
    az = np.deg2rad(turn_deg)
    rx = np.array([[1, 0, 0], [0, np.cos(ax), -np.sin(ax)], [0, np.sin(ax), np.cos(ax)]])
    ry = np.array([[np.cos(ay), 0, np.sin(ay)], [0, 1, 0], [-np.sin(ay), 0, np.cos(ay)]])
    rz = np.array([[np.cos(az), -np.sin(az), 0], [np.sin(az), np.cos(az), 0], [0, 0, 1]])
    rotation = rz @ ry @ rx
    focal_px = max(width, height) * rng.uniform(0.75, 1.3)
    scale = fill * min(width / (x1 - x0), height / (y1 - y0))
    distance_mm = focal_px / scale
    cx = width / 2 + rng.normal(0, 0.02) * width
    cy = height / 2 + rng.normal(0, 0.02) * height
    intrinsic = np.array([[focal_px, 0, cx], [0, focal_px, cy], [0, 0, 1.0]])
    translation = np.array([0, 0, distance_mm]) - rotation @ centre
    matrix = intrinsic @ np.concatenate([rotation, translation[:, None]], axis=1)
    matrix = matrix / matrix[2, 3]
    bend = None
    if bend_mm is not None:
        n = 3
        amplitude = rng.normal(0, 1, n) * bend_mm / np.array([1, 2, 4])
        bend = Bend(
            float(rng.choice([0, np.pi / 2]) + rng.normal(0, 0.25)),
            amplitude,
            np.array([500, 260, 130]) * rng.uniform(0.8, 1.3, n),
            rng.uniform(0, 2 * np.pi, n),
        )
    amplitude2, k, phase = waves(rng, wave_mm)
    return SheetWarp(matrix, bend, amplitude2, k, phase)


def ripple(
    rng: np.random.Generator, *, box_mm: tuple[float, float, float, float], height_mm: float
) -> Ripple:
    """Draw waves of 45 to 130 mm that reach about height_mm at the edges of a sheet."""
    count = 6
    direction = rng.uniform(0, 2 * np.pi, count)
    k = (2 * np.pi / rng.uniform(45, 130, count))[:, None]
    return Ripple(
        box_mm=box_mm,
        reach_mm=float(rng.uniform(10, 30)),
        height_mm=rng.normal(0, height_mm / np.sqrt(count), count),
        wave_k=k * np.stack([np.cos(direction), np.sin(direction)], -1),
        phase_rad=rng.uniform(0, 2 * np.pi, count),
    )
