"""What befalls a sheet of paper: folds, soaking, stains, mould, tears.

What a kind of page names takes a printed page and the chance that decides how bad it gets; `stain`
and `crease` take its pixels. Lengths are those of the paper, whatever the raster.
"""

from dataclasses import replace
from typing import Final

import cv2
import numpy as np

from ecg_digitize.render.paper import blend_ink
from ecg_digitize.synth.chance import Chance
from ecg_digitize.synth.degrade import blur, enlarged, multiply, smooth_field
from ecg_digitize.synth.page import CleanPage
from ecg_digitize.synth.warp import Fold
from ecg_digitize.types import Float32, Float64, Image, Mask

BROWN: Final = np.array([0.5, 0.7, 1.0])
"""How much of red, green and blue a brown stain takes."""


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


def _quarter(image: Image) -> tuple[int, int]:
    return image.shape[1] // 4, image.shape[0] // 4


def _tide(above: Float32, *, dry: float, wet: float) -> Float32:
    """Return where dirt settled: a line where a field crosses zero, sharp towards the dry side."""
    return np.asarray(np.exp(np.minimum(above / dry, 0) - np.maximum(above, 0) / wet), np.float32)


def _ragged(level: Float32, rng: np.random.Generator) -> Float32:
    """Roughen a field, so that the edges of spots follow the fibres of the paper."""
    rough = smooth_field(rng, (level.shape[1], level.shape[0]), 60, octaves=3)
    return level + np.float32(0.03) * rough


def stain(image: Image, chance: Chance) -> Image:
    """Spill something that browns the paper: soft spots, each darker towards its edge."""
    rng = chance.rng
    strength = chance.strength(0.1, 0.6)
    spots = smooth_field(rng, _quarter(image), int(rng.integers(3, 7)), octaves=3)
    above = _ragged(spots, chance.scenery) - np.float32(rng.uniform(0.6, 1.5))
    mask = np.clip(above * 0.5 * rng.uniform(0.5, 3), 0, 1)
    mask += _tide(above, dry=0.02, wet=rng.uniform(0.02, 0.08)) * rng.uniform(0, 0.6)
    field = np.clip(1 - strength * mask, 0, 1).astype(np.float32)
    red, green, blue = np.clip(BROWN + rng.normal(0, 0.1, 3), 0.2, 1.0)
    return multiply(image, enlarged(field, image), (red, green, blue))


def stains(page: CleanPage, chance: Chance) -> CleanPage:
    """Spill once, twice or thrice; half of such sheets are crumpled too."""
    image = page.image
    for _ in range(chance.rng.integers(1, 4)):
        image = stain(image, chance)
    if chance.rng.random() < 0.5:
        image = crease(image, chance.rng, strength=chance.strength(0.1, 0.6))
    return replace(page, image=image)


def soak(page: CleanPage, chance: Chance) -> CleanPage:
    """Wet part of the sheet and let it dry: run ink, a tide line, dulled and cockled paper."""
    rng, image = chance.rng, page.image
    level = smooth_field(rng, _quarter(image), int(rng.integers(2, 5)), octaves=2)
    above = _ragged(level, chance.scenery) - np.float32(rng.uniform(-0.8, 0.9))
    wet = enlarged(np.clip(above * 4, 0, 1).astype(np.float32), image)
    spread_px = chance.strength(0.1, 0.32) * page.px_per_mm
    run = np.minimum(blur(image, spread_px), blur(image, 4 * spread_px))
    share = (wet * np.float32(min(1, chance.strength(0.4, 0.95))))[..., None]
    image = np.rint(image + (run.astype(np.float32) - image) * share).astype(np.uint8)
    tide = _tide(above, dry=0.015, wet=rng.uniform(0.02, 0.07)) * chance.strength(0.05, 0.4)
    cockle = smooth_field(rng, _quarter(image), 14, octaves=2) * chance.strength(0.01, 0.05)
    field = 1 - tide - np.clip(above, 0, 1) * (chance.strength(0, 0.12) + cockle)
    red, green, blue = np.clip(BROWN + rng.normal(0, 0.1, 3), 0.3, 1.0)
    field = np.clip(field, 0.05, 2).astype(np.float32)
    return replace(page, image=multiply(image, enlarged(field, image), (red, green, blue)))


def mould(page: CleanPage, chance: Chance) -> CleanPage:
    """Grow colonies: a faint wash, round patches of grey and brown in it, dark specks in those."""
    rng, image = chance.rng, page.image
    size = _quarter(image)
    for _ in range(rng.integers(1, 4)):
        where = smooth_field(rng, size, int(rng.integers(4, 9)), octaves=2)
        colony = np.clip((where - rng.uniform(0.5, 1.6)) * rng.uniform(1, 3), 0, 1)
        patches = smooth_field(rng, size, int(rng.integers(18, 45)), octaves=4)
        cover = np.clip((patches - rng.uniform(0.3, 1.5)) * rng.uniform(0.4, 1.2), 0, 1)
        grit = smooth_field(chance.scenery, size, size[0] // 4, octaves=2)
        specks = np.clip(0.55 + 0.45 * grit + cover, 0.1, 1.4)
        wash, dark = chance.strength(0.0, 0.15), chance.strength(0.2, 0.65)
        shade = colony * (wash * np.clip(0.6 + 0.4 * patches, 0, 1) + dark * cover * specks)
        brown = np.array([0.72, 0.84, 1.0]) + rng.normal(0, 0.08, 3)
        black = np.array([0.9, 0.92, 1.0])
        red, green, blue = np.clip(black if rng.random() < 0.25 else brown, 0.3, 1.0)
        field = np.clip(1 - shade, 0.15, 1).astype(np.float32)
        image = multiply(image, enlarged(field, image), (red, green, blue))
    return replace(page, image=image)


def fold(page: CleanPage, chance: Chance) -> CleanPage:
    """Fold hard a few times: dark lines with ink rubbed off along them."""
    rng, bent = chance.rng, chance.split()
    height, width = page.image.shape[:2]
    for _ in range(rng.integers(1, 5)):
        angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.25)
        middle = np.array([rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height])
        page = _folded(page, chance, bent, middle_px=middle, along_rad=float(angle))
    return page


def fold_away(page: CleanPage, chance: Chance) -> CleanPage:
    """Fold a third of the sheets to halves, thirds or quarters, as for an envelope or a chart."""
    own = chance.split()
    height, width = page.image.shape[:2]
    if own.rng.random() > 0.33:
        return page
    for side, length in enumerate((width, height)):
        parts = int(own.rng.choice([1, 2, 3, 4], p=[0.25, 0.45, 0.2, 0.1]))
        for at in np.arange(1, parts) / parts + own.rng.normal(0, 0.008, parts - 1):
            middle = np.array([width, height]) / 2
            middle[side] = at * length
            along = np.pi / 2 * (1 - side) + own.rng.normal(0, 0.012)
            page = _folded(page, own, own, middle_px=middle, along_rad=along, worn=0.35)
    return page


def _folded(
    page: CleanPage, chance: Chance, bent: Chance, *,
    middle_px: Float64, along_rad: float, worn: float = 1.0,
) -> CleanPage:  # fmt: skip
    """Fold along a line through a place: dirt and, in its middle, rubbed off ink; then open again.

    Args:
        page: The sheet.
        chance: Draws the marks.
        bent: Draws how flat it then lies.
        middle_px: (2,) a point of the line.
        along_rad: Its direction.
        worn: How clear the marks are.
    """
    rng, image = chance.rng, page.image.copy()
    height, width = image.shape[:2]
    along = np.array([np.cos(along_rad), np.sin(along_rad)])
    steps = np.linspace(-1.2, 1.2, 60)[:, None] * width * along + middle_px
    steps += rng.normal(0, 0.4 * worn, steps.shape) * page.px_per_mm
    dirt = (rng.uniform(0.5, 1.6) * worn, 40.0, 0.35 * worn)  # width in mm, grey, strength
    rubbed = (rng.uniform(0.15, 0.4), 235.0, 0.5)
    for width_mm, grey, strength in (dirt, rubbed):
        line = np.zeros((height, width), np.uint8)
        points = np.rint(steps).astype(np.int32)[:, None]
        cv2.polylines(line, [points], False, 255, max(1, round(width_mm * page.px_per_mm)))
        line = blur(line, 0.1 * page.px_per_mm)
        grain = enlarged(smooth_field(rng, _quarter(image), 120), image)
        share = line * np.clip(0.6 + 0.5 * grain, 0, 1)
        share *= np.float32(chance.strength(0.2, 1) * strength / 255)
        blend_ink(image, share, np.full(3, grey, np.float32), np.float32(1))
    opened = _opened(page, bent, middle_px, along_rad)
    return replace(page, image=image, folds=(*page.folds, opened))


def _opened(page: CleanPage, chance: Chance, middle_px: Float64, along_rad: float) -> Fold:
    """Open a sheet that was folded along a line through a place; it does not quite lie flat."""
    across_rad = along_rad + np.pi / 2
    middle_mm = (middle_px + 0.5) / page.px_per_mm + np.array(page.origin_mm)
    return Fold(
        across_rad=across_rad,
        at_mm=float(middle_mm @ [np.cos(across_rad), np.sin(across_rad)]),
        slope=chance.strength(0.0, 0.07) * chance.rng.choice([-1, 1]),
        round_mm=float(chance.rng.uniform(0.5, 4)),
    )


def tear(page: CleanPage, chance: Chance) -> CleanPage:
    """Take paper off the edges: rips, a corner, small holes. What lies beneath shows there."""
    rng = chance.rng
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
        deep_mm = rng.uniform(3, 15) * (rng.uniform(1, 4) if rng.random() < 0.25 else 1)
        depth_mm = chance.scaled(deep_mm, mild=3)
        half_mm, slant_mm = chance.strength(0.5, 4), rng.normal(0, 4)
        at_mm = rng.uniform(0, sides[1] / px_per_mm)
        rip_mm = [[-9, at_mm - half_mm], [-9, at_mm + half_mm], [depth_mm, at_mm + slant_mm]]
        rip = np.array(rip_mm, np.float32) * np.float32(px_per_mm)
        if rng.random() < 0.5:
            rip[:, 0] = sides[0] - rip[:, 0]
        ragged(rip if sides[0] == width else rip[:, ::-1])
    if rng.random() < 0.4:  # a corner
        legs_mm = chance.strength(8, 40), chance.strength(8, 40)
        corner = np.array([[0, 0], [legs_mm[0], 0], [0, legs_mm[1]]]) * px_per_mm
        corner = np.where(rng.random(2) < 0.5, corner, np.array([width, height]) - corner)
        ragged(corner.astype(np.float32))
    for _ in range(rng.integers(0, 3)):  # holes
        centre = [round(rng.uniform(0, width)), round(rng.uniform(0, height))]
        cv2.circle(gone, centre, round(chance.strength(1, 3) * px_per_mm), 255, -1)
    return _without(page, gone > 0)


def _without(page: CleanPage, gone: Mask) -> CleanPage:
    """Take paper off, next to what is missing already."""
    return replace(page, gone=gone if page.gone is None else page.gone | gone)


def punch(page: CleanPage, chance: Chance) -> CleanPage:
    """File the sheet: on some, holes along an edge or the marks of a staple in a corner.

    Lid or desk shows through holes, whose rims lie in shadow.
    """
    rng = chance.scenery
    image, scale = page.image, page.px_per_mm
    height, width = image.shape[:2]
    way = rng.random()
    if way < 0.14:
        return _holes(page, chance)
    if way > 0.3:
        return page
    image = image.copy()
    corner = np.array([rng.uniform(5, 14), rng.uniform(4, 9)]) * scale
    if rng.random() < 0.3:
        corner[0] = width - corner[0]
    angle = rng.choice([0.0, np.pi / 4, -np.pi / 4]) + rng.normal(0, 0.1)
    half = 0.5 * rng.uniform(9, 12) * scale * np.array([np.cos(angle), np.sin(angle)])
    ends = [tuple(int(v) for v in np.rint(corner + side * half)) for side in (-1, 1)]
    if rng.random() < 0.5:
        shadow = np.ones((height, width), np.float32)
        cv2.line(shadow, ends[0], ends[1], 0.6, max(1, round(1.3 * scale)))
        soft = cv2.GaussianBlur(shadow, (0, 0), 0.3 * scale)
        image = multiply(image, np.asarray(soft, np.float32))
        cv2.line(image, ends[0], ends[1], (150, 150, 155), max(1, round(0.6 * scale)), cv2.LINE_AA)
    for end in ends:
        cv2.circle(image, end, max(1, round(0.45 * scale)), (45, 42, 40), -1, cv2.LINE_AA)
    return replace(page, image=image)


def _holes(page: CleanPage, chance: Chance) -> CleanPage:
    """Punch two to four holes along the left or upper edge, clear of the traces."""
    rng, scale = chance.scenery, page.px_per_mm
    height, width = page.image.shape[:2]
    count, apart_mm = ((2, 80.0), (3, 108.0), (4, 80.0))[rng.integers(3)]
    radius_px, edge_px = rng.uniform(2.6, 3.4) * scale, rng.uniform(7, 11) * scale
    upper = rng.random() < 0.5
    along = (width if upper else height) / 2 + rng.normal(0, 4) * scale
    along += (np.arange(count) - (count - 1) / 2) * apart_mm * scale
    gone = np.zeros((height, width), np.uint8)
    rim = np.ones((height, width), np.float32)
    for at in along:
        x, y = (round(at), round(edge_px)) if upper else (round(edge_px), round(at))
        cv2.circle(gone, (x, y), round(radius_px), 1, -1)
        cv2.circle(rim, (x, y), round(radius_px + 0.5 * scale), 1 - rng.uniform(0.1, 0.4), -1)
    soft = cv2.GaussianBlur(rim, (0, 0), 0.25 * scale)
    image = multiply(page.image, np.asarray(soft, np.float32))
    return _without(replace(page, image=image), gone > 0)
