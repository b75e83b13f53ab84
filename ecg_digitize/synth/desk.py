"""Desks that sheets are photographed on: wood, metal, cloth, stone, glass, laminate.

Each is a texture of a square of desk seen from above, its grain along x; `lay` sets it beneath a
sheet in the camera's perspective.
"""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np

from ecg_digitize.synth.warp import SheetWarp
from ecg_digitize.types import Float32, Float64, Image

SIDE_MM: Final = 520.0
SIDE_PX: Final = 1400
PX_A_MM: Final = SIDE_PX / SIDE_MM

Ramp = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Darkest and lightest colour of a material."""

WOODS: Final[tuple[Ramp, ...]] = (
    ((138, 98, 55), (205, 168, 118)),  # oak
    ((38, 22, 12), (112, 72, 38)),  # walnut
    ((150, 108, 66), (226, 192, 146)),  # beech
    ((70, 32, 18), (142, 80, 48)),  # mahogany
    ((92, 70, 50), (158, 128, 98)),  # weathered
    ((118, 112, 104), (190, 184, 174)),  # limed
)
METALS: Final[tuple[Ramp, ...]] = (
    ((98, 100, 102), (196, 198, 200)),
    ((60, 62, 66), (142, 144, 148)),
)
CLOTHS: Final[tuple[Ramp, ...]] = (
    ((26, 62, 68), (86, 138, 140)),  # surgical green
    ((30, 44, 78), (96, 116, 160)),  # blue
    ((120, 112, 98), (222, 216, 204)),  # linen
    ((38, 38, 42), (106, 106, 112)),  # felt
)
STONES: Final[tuple[Ramp, ...]] = (
    ((96, 92, 88), (226, 222, 216)),
    ((24, 25, 28), (128, 128, 130)),
    ((88, 74, 62), (206, 190, 170)),
)
GLASSES: Final[tuple[Ramp, ...]] = (
    ((14, 18, 20), (120, 132, 136)),
    ((70, 86, 84), (196, 210, 206)),
)
LAMINATES: Final[tuple[Ramp, ...]] = (
    ((150, 148, 144), (240, 238, 232)),
    ((92, 94, 98), (172, 174, 178)),
    ((30, 32, 36), (88, 90, 96)),
    ((138, 122, 98), (222, 206, 180)),
)


def _noise(rng: np.random.Generator, along: int, across: int) -> Float32:
    """Return smooth noise of unit deviation with so many cells along the grain and across it."""
    small = rng.standard_normal((max(3, across), max(3, along)), np.float32)
    way = cv2.INTER_CUBIC if across < SIDE_PX // 4 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(small, (SIDE_PX, SIDE_PX), interpolation=way), np.float32)


def _clouds(rng: np.random.Generator, cells: int, octaves: int) -> Float32:
    """Return noise of several scales, each finer one weaker."""
    out = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    for octave in range(octaves):
        out += _noise(rng, cells << octave, cells << octave) * np.float32(0.6**octave)
    return out


def _color(shade: Float32, rng: np.random.Generator, ramps: tuple[Ramp, ...]) -> Image:
    """Colour a shade in [0, 1] by one of the ramps."""
    dark, light = np.array(ramps[rng.integers(len(ramps))], np.float32)
    level = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    table = np.clip(dark + (light - dark) * level, 0, 255).astype(np.uint8)
    return np.asarray(table[(np.clip(shade, 0, 1) * 255).astype(np.uint8)])


def _axis_mm() -> Float32:
    return (np.arange(SIDE_PX, dtype=np.float32) + np.float32(0.5)) / np.float32(PX_A_MM)


def wood(rng: np.random.Generator) -> Image:
    """Boards side by side: rings as a saw cuts them, fibres, pores, dark seams."""
    x, y = _axis_mm()[None, :], _axis_mm()[:, None]
    board_mm = rng.uniform(60, 260)
    edges = np.arange(rng.uniform(-board_mm, 0), SIDE_MM + board_mm, board_mm)
    board = np.searchsorted(edges, y[:, 0])
    count = len(edges) + 1

    def of_board(low: float, high: float) -> Float32:
        return rng.uniform(low, high, count).astype(np.float32)[board][:, None]

    wobble = _noise(rng, 4, 9)
    heart = y - np.float32(SIDE_MM / 2) - of_board(-250, 250)
    depth = of_board(8, 60) + x * of_board(-0.25, 0.25) + 9 * wobble
    rings = np.sqrt(heart * heart + depth * depth) / np.float32(rng.uniform(6, 16))
    rings += np.float32(rng.uniform(0.1, 0.35)) * _noise(rng, 6, 40)
    ring = rings - np.floor(rings)
    late = ring * ring * np.minimum(1, (1 - ring) * 6)
    fibre = _noise(rng, SIDE_PX // 90, SIDE_PX)
    pores = np.clip(_noise(rng, SIDE_PX // 22, SIDE_PX // 2) - 1.2, 0, 1)
    shade = 0.72 + of_board(-0.16, 0.12) - np.float32(rng.uniform(0.2, 0.55)) * late
    shade += np.float32(rng.uniform(0.04, 0.10)) * fibre + 0.05 * wobble
    shade -= np.float32(rng.uniform(0.15, 0.5)) * pores
    if board_mm < 200:
        seam = np.abs(y[:, 0][:, None] - edges[None, :]).min(axis=1) < rng.uniform(0.2, 0.7)
        shade[seam] *= 0.35
    return _color(shade, rng, WOODS)


def metal(rng: np.random.Generator) -> Image:
    """Brushed sheet metal: fine scratches along one direction and a broad, dull reflection."""
    scratches = _noise(rng, SIDE_PX // 60, SIDE_PX) + 0.7 * _noise(rng, SIDE_PX // 14, SIDE_PX)
    shade = 0.55 + 0.07 * scratches + np.float32(rng.uniform(0.05, 0.14)) * _noise(rng, 3, 3)
    return _color(shade.astype(np.float32), rng, METALS)


def cloth(rng: np.random.Generator) -> Image:
    """A woven cloth: threads over and under each other, uneven ones, soft wrinkles."""
    thread_mm = rng.uniform(1.0, 2.6)
    along, across = np.meshgrid(_axis_mm() / thread_mm, _axis_mm() / thread_mm)
    wobble = _noise(rng, 7, 7)
    along, across = along + 0.5 * wobble, across + 0.5 * _noise(rng, 7, 7)
    over = (np.floor(along) + np.floor(across)) % 2 > 0
    hump_a, hump_b = np.abs(np.sin(np.pi * along)), np.abs(np.sin(np.pi * across))
    thread = np.where(over, hump_a, hump_b)
    uneven = np.where(over, _noise(rng, SIDE_PX // 4, 5), _noise(rng, 5, SIDE_PX // 4))
    wrinkle = _clouds(rng, 3, 2)
    shade = 0.35 + 0.3 * thread + 0.08 * uneven + np.float32(rng.uniform(0.03, 0.12)) * wrinkle
    return _color(shade.astype(np.float32), rng, CLOTHS)


def stone(rng: np.random.Generator) -> Image:
    """Polished stone: clouds, veins where they cross zero, grains."""
    clouds = _clouds(rng, 4, 4)
    veins = np.exp(-np.abs(_clouds(rng, 3, 4)) * np.float32(rng.uniform(12, 35)))
    grains = _noise(rng, SIDE_PX // 3, SIDE_PX // 3)
    shade = 0.55 + 0.1 * clouds + np.float32(rng.uniform(-0.4, 0.4)) * veins
    return _color(shade + np.float32(rng.uniform(0.01, 0.16)) * grains, rng, STONES)


def glass(rng: np.random.Generator) -> Image:
    """A glass top: smooth, with the blurred reflection of a window or two."""
    panes = np.zeros((SIDE_PX // 4, SIDE_PX // 4), np.float32)
    for _ in range(rng.integers(1, 3)):
        corner = rng.uniform(0, 0.8, 2) * panes.shape[0]
        side = rng.uniform(0.15, 0.5, 2) * panes.shape[0]
        slant = rng.uniform(-0.2, 0.2) * panes.shape[0]
        right, low = side
        pane = corner + np.array([[0, 0], [right, slant], [right, low + slant], [0, low]])
        cv2.fillConvexPoly(panes, np.rint(pane).astype(np.int32), float(rng.uniform(0.15, 0.5)))
    soft = cv2.GaussianBlur(panes, (0, 0), rng.uniform(4, 16))
    shade = cv2.resize(soft, (SIDE_PX, SIDE_PX)) + 0.25 + 0.05 * _clouds(rng, 3, 2)
    return _color(shade.astype(np.float32), rng, GLASSES)


def laminate(rng: np.random.Generator) -> Image:
    """A plain top: one colour, hardly uneven, fine grains."""
    grains = _noise(rng, SIDE_PX // 2, SIDE_PX // 2)
    shade = 0.6 + 0.04 * _clouds(rng, 3, 3) + np.float32(rng.uniform(0.01, 0.06)) * grains
    return _color(shade.astype(np.float32), rng, LAMINATES)


MATERIALS: Final[dict[Callable[[np.random.Generator], Image], float]] = {
    wood: 0.46,
    metal: 0.16,
    laminate: 0.13,
    cloth: 0.1,
    stone: 0.1,
    glass: 0.05,
}
"""The materials and their shares."""


def lay(
    rng: np.random.Generator, warp: SheetWarp, *, middle_mm: Float64, size_px: tuple[int, int]
) -> Image:
    """Draw a desk and show it as the camera of a warp sees it.

    Args:
        rng: Source of randomness.
        warp: The camera.
        middle_mm: Sheet xy that the middle of the desk lies beneath.
        size_px: Width and height of the picture.
    """
    materials = list(MATERIALS)
    texture = materials[int(rng.choice(len(materials), p=list(MATERIALS.values())))](rng)
    angle = np.deg2rad(rng.choice([0, 90], p=[0.7, 0.3]) + rng.normal(0, 5))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    desk_mm = np.eye(3)  # sheet mm from texture px
    desk_mm[:2, :2] = turn / PX_A_MM
    desk_mm[:2, 2] = middle_mm - turn @ np.full(2, SIDE_MM / 2)
    picture = cv2.warpPerspective(
        texture, warp.plane @ desk_mm, size_px, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(picture, np.uint8)
