"""What befalls a sheet of paper: folds, soaking, stains, mould, tears.

What a kind of page names takes a printed page; `stain` and `crease` take its pixels. All draw their
randomness from the generator passed in; lengths are those of the paper, whatever the raster.
"""

from dataclasses import replace

import cv2
import numpy as np

from ecg_digitize.render.paper import blend_ink
from ecg_digitize.synth.degrade import blur, multiply, smooth_field
from ecg_digitize.synth.page import CleanPage
from ecg_digitize.types import Float32, Image


def crease(image: Image, rng: np.random.Generator, *, strength: float) -> Image:
    """Shade the page as crumpled paper: facets between random folds, dark on one side."""
    height, width = image.shape[:2]
    small = (width // 8, height // 8)
    x, y = np.meshgrid(np.linspace(0, 1.3, small[0], dtype=np.float32),
                       np.linspace(0, 1, small[1], dtype=np.float32))  # fmt: skip
    wobble = smooth_field(rng, small, 6, octaves=2) * 0.015
    shade = smooth_field(rng, small, 4, octaves=3) * 0.25
    for _ in range(rng.integers(4, 14)):
        angle = rng.uniform(0, np.pi)
        px, py = rng.uniform(0, 1.3), rng.uniform(0, 1)
        across = (x - px) * np.sin(angle) - (y - py) * np.cos(angle) + wobble
        along = (x - px) * np.cos(angle) + (y - py) * np.sin(angle)
        reach = rng.uniform(0.15, 0.8)
        ends = np.clip((reach - np.abs(along)) / 0.15, 0, 1)
        width_n = rng.uniform(0.01, 0.15)
        side = np.where(across > 0, np.exp(-across / width_n), -np.exp(across / width_n) * 0.5)
        shade -= (side * ends * rng.uniform(0.2, 1.0)).astype(np.float32)
    field = np.exp(np.clip(shade * strength, -1.6, 0.35)).astype(np.float32)
    full = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
    return multiply(image, np.asarray(full, np.float32))


def _enlarged(field: Float32, image: Image) -> Float32:
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.resize(field, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _quarter(image: Image) -> tuple[int, int]:
    return image.shape[1] // 4, image.shape[0] // 4


def stain(image: Image, rng: np.random.Generator, *, strength: float) -> Image:
    """Spill something that browns the paper: soft spots, each darker towards its edge."""
    spots = smooth_field(rng, _quarter(image), int(rng.integers(3, 7)), octaves=3)
    above = spots - np.float32(rng.uniform(0.6, 1.5))
    mask = np.clip(above * rng.uniform(0.5, 3), 0, 1)
    mask += np.exp(-((above / rng.uniform(0.02, 0.08)) ** 2)) * rng.uniform(0, 0.6)
    field = np.clip(1 - strength * mask, 0, 1).astype(np.float32)
    red, green, blue = np.clip(np.array([0.5, 0.7, 1.0]) + rng.normal(0, 0.1, 3), 0.2, 1.0)
    return multiply(image, _enlarged(field, image), (red, green, blue))


def stains(page: CleanPage, rng: np.random.Generator) -> CleanPage:
    """Spill once, twice or thrice; half of such sheets are crumpled too."""
    image = page.image
    for _ in range(rng.integers(1, 4)):
        image = stain(image, rng, strength=rng.uniform(0.1, 0.6))
    if rng.random() < 0.5:
        image = crease(image, rng, strength=rng.uniform(0.1, 0.6))
    return replace(page, image=image)


def soak(page: CleanPage, rng: np.random.Generator) -> CleanPage:
    """Wet part of the sheet and let it dry: run ink, a tide line, dulled and cockled paper."""
    image = page.image
    level = smooth_field(rng, _quarter(image), int(rng.integers(2, 5)), octaves=2)
    above = level - np.float32(rng.uniform(-0.8, 0.9))
    wet = _enlarged(np.clip(above * 4, 0, 1).astype(np.float32), image)
    spread_px = rng.uniform(0.1, 0.32) * page.px_per_mm
    run = np.minimum(blur(image, spread_px), blur(image, 4 * spread_px))
    share = (wet * np.float32(rng.uniform(0.4, 0.95)))[..., None]
    image = np.rint(image + (run.astype(np.float32) - image) * share).astype(np.uint8)
    tide = np.exp(-((above / rng.uniform(0.02, 0.07)) ** 2)) * rng.uniform(0.05, 0.4)
    cockle = smooth_field(rng, _quarter(image), 14, octaves=2) * rng.uniform(0.01, 0.05)
    field = 1 - tide - np.clip(above, 0, 1) * (rng.uniform(0, 0.12) + cockle)
    tint = tuple(np.clip(np.array([0.6, 0.75, 1.0]) + rng.normal(0, 0.1, 3), 0.3, 1.0))
    image = multiply(image, _enlarged(field.astype(np.float32), image), tint)  # type: ignore[arg-type]
    return replace(page, image=image)


def mould(page: CleanPage, rng: np.random.Generator) -> CleanPage:
    """Grow colonies: brown shades round patches of dark specks, a few millimetres each."""
    image = page.image
    size = _quarter(image)
    for _ in range(rng.integers(1, 4)):
        where = smooth_field(rng, size, int(rng.integers(4, 9)), octaves=2)
        colony = np.clip((where - rng.uniform(0.5, 1.6)) * rng.uniform(1, 3), 0, 1)
        patches = smooth_field(rng, size, int(rng.integers(18, 45)), octaves=4)
        cover = np.clip((patches - rng.uniform(0.3, 1.5)) * rng.uniform(0.4, 1.2), 0, 1)
        shade = colony * (rng.uniform(0.0, 0.15) + rng.uniform(0.25, 0.9) * cover)
        brown = np.array([0.55, 0.75, 1.0]) + rng.normal(0, 0.12, 3)
        black = np.array([0.9, 0.92, 1.0])
        tint = tuple(np.clip(black if rng.random() < 0.25 else brown, 0.3, 1.0))
        field = np.clip(1 - shade, 0.03, 1).astype(np.float32)
        image = multiply(image, _enlarged(field, image), tint)
    return replace(page, image=image)


def fold(page: CleanPage, rng: np.random.Generator) -> CleanPage:
    """Fold hard a few times: dark lines with ink rubbed off along them."""
    height, width = page.image.shape[:2]
    image = page.image.copy()
    for _ in range(rng.integers(1, 5)):
        angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.25)
        middle = np.array([rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height])
        along = np.array([np.cos(angle), np.sin(angle)])
        steps = np.linspace(-1.2, 1.2, 60)[:, None] * width * along + middle
        steps += rng.normal(0, 0.4, steps.shape) * page.px_per_mm
        dirt = (rng.uniform(0.5, 1.6), 40.0, 0.35)  # width in mm, grey, strength
        rubbed = (rng.uniform(0.15, 0.4), 235.0, 0.5)
        for width_mm, grey, strength in (dirt, rubbed):
            line = np.zeros((height, width), np.uint8)
            points = np.rint(steps).astype(np.int32)[:, None]
            cv2.polylines(line, [points], False, 255, max(1, round(width_mm * page.px_per_mm)))
            line = blur(line, 0.1 * page.px_per_mm)
            grain = _enlarged(smooth_field(rng, _quarter(image), 120), image)
            share = line * np.clip(0.6 + 0.5 * grain, 0, 1)
            share *= np.float32(rng.uniform(0.2, 1) * strength / 255)
            blend_ink(image, share, np.full(3, grey, np.float32), np.float32(1))
    return replace(page, image=image)


def tear(page: CleanPage, rng: np.random.Generator) -> CleanPage:
    """Take paper off the edges: rips, a corner, small holes. What lies beneath shows there."""
    height, width = page.image.shape[:2]
    px_per_mm = page.px_per_mm
    gone = np.zeros((height, width), np.uint8)

    def ragged(points: Float32) -> None:
        n = 40 * len(points)
        closed = np.vstack([points, points[:1]])
        at = np.linspace(0, len(points), n, endpoint=False)
        line = np.stack([np.interp(at, range(len(closed)), closed[:, k]) for k in (0, 1)], 1)
        line += np.cumsum(rng.normal(0, 0.25 * px_per_mm, line.shape), 0)
        line -= np.linspace(0, 1, n)[:, None] * (line[-1] - line[0])
        cv2.fillPoly(gone, [np.rint(line).astype(np.int32)], 255)

    for _ in range(rng.integers(0, 5)):  # rips, open towards an edge
        sides = (height, width) if rng.random() < 0.5 else (width, height)
        depth_mm = rng.uniform(3, 15) * (rng.uniform(1, 4) if rng.random() < 0.25 else 1)
        half_mm, slant_mm = rng.uniform(0.5, 4), rng.normal(0, 4)
        at_mm = rng.uniform(0, sides[1] / px_per_mm)
        rip_mm = [[-9, at_mm - half_mm], [-9, at_mm + half_mm], [depth_mm, at_mm + slant_mm]]
        rip = np.array(rip_mm, np.float32) * np.float32(px_per_mm)
        if rng.random() < 0.5:
            rip[:, 0] = sides[0] - rip[:, 0]
        ragged(rip if sides[0] == width else rip[:, ::-1])
    if rng.random() < 0.4:  # a corner
        corner = np.array([[0, 0], [rng.uniform(8, 40), 0], [0, rng.uniform(8, 40)]]) * px_per_mm
        corner = np.where(rng.random(2) < 0.5, corner, np.array([width, height]) - corner)
        ragged(corner.astype(np.float32))
    for _ in range(rng.integers(0, 3)):  # holes
        centre = [round(rng.uniform(0, width)), round(rng.uniform(0, height))]
        cv2.circle(gone, centre, round(rng.uniform(1, 3) * px_per_mm), 255, -1)
    return replace(page, gone=gone > 0)
