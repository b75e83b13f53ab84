"""Light on a photographed sheet: lamps, shadows of hands and phones, slopes, reflections.

Fields of light are small, (H, W) float32 factors; whoever applies them enlarges them.
"""

from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ecg_digitize.synth.chance import Chance
from ecg_digitize.synth.degrade import enlarged, multiply
from ecg_digitize.synth.page import CleanPage
from ecg_digitize.synth.warp import SheetWarp
from ecg_digitize.types import Float32, Float64, Image

FIELD_PX: Final = 160
"""Longer side of a small field of light."""


def _field_size(size_px: tuple[int, int]) -> tuple[int, int]:
    width, height = (max(8, side * FIELD_PX // max(size_px)) for side in size_px)
    return width, height


def _pixel(xy: Float64) -> tuple[int, int]:
    return round(float(xy[0])), round(float(xy[1]))


def lamp(chance: Chance, size_px: tuple[int, int]) -> Float32:
    """Return the light of a lamp or window: brightest at one place, falling off from there."""
    width, height = _field_size(size_px)
    at = chance.rng.uniform(-0.2, 1.2, 2)
    x, y = np.meshgrid(np.linspace(0, 1, width) - at[0], np.linspace(0, 1, height) - at[1])
    distance = np.hypot(x, y)
    fall = chance.strength(0.0, 0.4)
    return np.asarray(1 / (1 + fall * distance**2), np.float32)


def _hand(rng: np.random.Generator, mask: Float32) -> None:
    """Cast a palm at an edge with fingers that reach into the picture."""
    height, width = mask.shape
    reach = min(width, height)
    root = np.array([rng.uniform(0.1, 0.9) * width, height + rng.uniform(0.05, 0.3) * reach])
    heading = rng.normal(-np.pi / 2, 0.3)
    thick = rng.uniform(0.06, 0.1) * reach
    for k in range(4):
        angle = heading + (k - 1.5) * rng.uniform(0.12, 0.22)
        length = reach * rng.uniform(0.35, 0.55) * (1.0 - 0.12 * abs(k - 1.5))
        tip = root + length * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(mask, _pixel(root), _pixel(tip), 1.0, max(1, round(thick)), cv2.LINE_AA)
    cv2.circle(mask, _pixel(root), round(0.25 * reach), 1.0, -1)


def _phone(rng: np.random.Generator, mask: Float32) -> None:
    """Cast the phone itself and the arms that hold it, from one edge."""
    height, width = mask.shape
    reach = min(width, height)
    middle = (rng.uniform(0.2, 0.8) * width, height * rng.uniform(0.8, 1.05))
    side = (reach * rng.uniform(0.35, 0.6), reach * rng.uniform(0.2, 0.35))
    corners = cv2.boxPoints((middle, side, float(rng.normal(0, 12))))
    cv2.fillConvexPoly(mask, np.rint(corners).astype(np.int32), 1.0)
    for sign in (-1, 1):
        start = (round(middle[0] + sign * side[0] / 2), round(middle[1]))
        end = (round(middle[0] + sign * reach * rng.uniform(0.4, 0.8)), height + 20)
        cv2.line(mask, start, end, 1.0, max(1, round(0.12 * reach)), cv2.LINE_AA)


def shadows(chance: Chance, size_px: tuple[int, int]) -> Float32:
    """Return the light that a hand and a phone leave, each on a third of the pictures."""
    width, height = _field_size(size_px)
    out = np.ones((height, width), np.float32)
    for cast in (_hand, _phone):
        strength, soft = chance.strength(0.05, 0.38), chance.rng.uniform(2.5, 9)
        mask = np.zeros((height, width), np.float32)
        cast(chance.rng, mask)
        if chance.rng.random() < 0.35:
            # From any edge: the shapes come from below.
            shade = cv2.GaussianBlur(mask, (0, 0), soft)
            flips = chance.rng.random(2)
            shade = shade[:: -1 if flips[0] < 0.3 else 1, :: -1 if flips[1] < 0.5 else 1]
            out *= 1 - np.float32(min(strength, 0.8)) * shade
    return out


def shaded(page: CleanPage, warp: SheetWarp, chance: Chance) -> CleanPage:
    """Light a bent sheet from one side: slopes towards the light are brighter, others darker."""
    strength = chance.rng.uniform(0.4, 1.1)
    angle = chance.rng.uniform(0, 2 * np.pi)
    if warp.bend is None and warp.ripple is None and not warp.folds:
        return page
    x0, y0, x1, y1 = page.box_mm
    width, height = _field_size((page.image.shape[1], page.image.shape[0]))
    xy = np.stack(np.meshgrid(np.linspace(x0, x1, width), np.linspace(y0, y1, height)), -1)
    ahead = np.array([np.cos(angle), np.sin(angle)])  # step of 1 mm
    slope = warp.solid_mm(xy + ahead)[1] - warp.solid_mm(xy)[1]
    field = np.clip(1 + strength * slope, 0.6, 1.2).astype(np.float32)
    return replace(page, image=multiply(page.image, enlarged(field, page.image)))


def outline_px(
    warp: SheetWarp, box_mm: ArrayLike, *, turn_rad: float = 0.0, shift_mm: Float64 | None = None
) -> Float64:
    """Return the (N, 2) outline of a sheet in page px, turned about its middle and shifted."""
    t = np.linspace(0, 1, 40, endpoint=False)[:, None]
    x0, y0, x1, y1 = np.asarray(box_mm, np.float64)
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    edge = np.concatenate(
        [a + (b - a) * t for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)]
    )
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    middle = corners.mean(0)
    turned = (edge - middle) @ np.array([[c, s], [-s, c]]) + middle
    return warp.page_from_sheet(turned + (0.0 if shift_mm is None else shift_mm))


def fill(image: Image, polygon_px: Float64, color: tuple[int, ...]) -> None:
    """Fill a polygon with smooth edges, in place."""
    points = np.rint(polygon_px.clip(-8e3, 16e3) * 16).astype(np.int32)
    cv2.fillPoly(image, [points], color, cv2.LINE_AA, shift=4)


def drop_shadow(
    image: Image, outline: Float64, *, offset_px: Float64, soft_px: float, strength: float
) -> Image:
    """Darken what lies beneath a sheet's edge.

    Args:
        image: The background.
        outline: (N, 2) page px of the sheet.
        offset_px: (2,) where the shadow falls from there.
        soft_px: Standard deviation of the blur.
        strength: How dark, 0 to 1.
    """
    shrink = 4
    height, width = (-(-side // shrink) for side in image.shape[:2])
    mask = np.zeros((height, width), np.uint8)
    fill(mask, (outline + offset_px) / shrink, (255,))
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.6, soft_px / shrink)).astype(np.float32)
    return multiply(image, enlarged(1 - soft * np.float32(strength / 255), image))


def glare(image: Image, chance: Chance, area_px: Float64) -> Image:
    """Reflect lamps and windows in a shiny surface: soft blobs and streaks.

    Args:
        image: The picture.
        chance: What it is drawn from.
        area_px: (4, 2) page px of the surface.
    """
    size = _field_size((image.shape[1], image.shape[0]))
    scale = size[0] / image.shape[1]
    light = np.zeros((size[1], size[0]), np.float32)
    for _ in range(chance.rng.integers(1, 3)):
        spot = np.zeros_like(light)
        u, v = chance.rng.uniform(0.05, 0.95, 2)
        top = area_px[0] + (area_px[1] - area_px[0]) * u
        bottom = area_px[3] + (area_px[2] - area_px[3]) * u
        at = (top + (bottom - top) * v) * scale
        axes = chance.rng.uniform(2, 14, 2) * (1, chance.rng.uniform(0.5, 2.5))
        angle = float(chance.rng.uniform(0, 180))
        cv2.ellipse(spot, (tuple(at), tuple(2 * axes), angle), 1.0, -1)
        soft = cv2.GaussianBlur(spot, (0, 0), chance.rng.uniform(2, 9))
        light = np.maximum(light, soft * np.float32(chance.strength(0.03, 0.45)))
    inside = np.zeros_like(light)
    cv2.fillConvexPoly(inside, np.rint(area_px * scale).astype(np.int32), 1.0)
    field = enlarged(1 - np.clip(light * inside, 0, 0.9), image)
    return 255 - multiply(255 - image, field)
