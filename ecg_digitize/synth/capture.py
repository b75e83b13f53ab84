"""How a page becomes a picture: plotted, or printed and then scanned or photographed on a desk.

Captures take a page, what they draw from and the size limit of photos in megapixels, and return the
picture and the warp that led there. Photos off a monitor are in monitor.py.
"""

from dataclasses import replace
from typing import Final

import cv2
import numpy as np

from ecg_digitize.synth import degrade, desk, light
from ecg_digitize.synth.chance import Chance
from ecg_digitize.synth.page import CleanPage
from ecg_digitize.synth.printing import printed
from ecg_digitize.synth.warp import SheetWarp, camera_warp, flat_warp, ripple
from ecg_digitize.synth.wear import crease
from ecg_digitize.types import Float32, Float64, Image

OUTWARDS: Final = np.array([-1, -1, 1, 1])
"""Times a length: what x0, y0, x1, y1 of a box grow by."""


def paint(background: Image, page: CleanPage, maps: tuple[Float32, Float32]) -> Image:
    """Resample a flat page onto a background through sheet maps; outside, the background stays."""
    scale = np.float32(page.px_per_mm)
    map_x = (maps[0] - np.float32(page.origin_mm[0])) * scale - np.float32(0.5)
    map_y = (maps[1] - np.float32(page.origin_mm[1])) * scale - np.float32(0.5)
    if page.gone is not None:
        gone = cv2.remap(page.gone.astype(np.uint8), map_x, map_y, cv2.INTER_NEAREST)
        map_x[gone > 0] = -1e4
    out = background.copy()
    cv2.remap(
        page.image, map_x, map_y, cv2.INTER_LINEAR, dst=out, borderMode=cv2.BORDER_TRANSPARENT
    )
    return out


def on_paper(clean: CleanPage, chance: Chance, *, margin_mm: float) -> CleanPage:
    """Print: put white margins round the printed area, and let inks spread or come out as dots."""
    pad = [round(m * clean.px_per_mm) for m in chance.rng.uniform(0.3, 1.0, 4) * margin_mm]
    top, bottom, left, right = pad
    white = clean.style.paper.paper
    padded = cv2.copyMakeBorder(
        clean.image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=white
    )
    spread_px = chance.strength(0.1, 0.8)
    x, y = clean.origin_mm
    origin = (x - left / clean.px_per_mm, y - top / clean.px_per_mm)
    if clean.style.laser:
        image, px_per_mm = printed(
            np.asarray(padded, np.uint8), chance.split(), px_per_mm=clean.px_per_mm
        )
        return replace(clean, image=image, px_per_mm=px_per_mm, origin_mm=origin)
    image = degrade.blur(np.asarray(padded, np.uint8), spread_px)
    return replace(clean, image=image, origin_mm=origin)


def never_printed(clean: CleanPage) -> None:
    """Refuse torn sheets."""
    if clean.gone is not None:
        raise ValueError("only a sheet of paper can be torn: give the kind a capture of prints")


def plot(clean: CleanPage, chance: Chance, _max_megapixels: float) -> tuple[Image, SheetWarp]:
    """As plotted; sometimes with the wrinkles, blur and compression of ECG-Image-Kit's options."""
    never_printed(clean)
    rng, image = chance.rng, clean.image
    if rng.random() < 0.2:
        image = crease(image, rng, strength=chance.strength(0.3, 1.3))
        if rng.random() < 0.5:
            image = degrade.expose(
                image, rng,
                noise=chance.strength(0, 6), cast=chance.scaled(0.15),
                contrast=chance.strength(0.8, 1.3, mild=1.0),
            )  # fmt: skip
    if rng.random() < 0.25:
        image = degrade.blur(image, chance.strength(0.2, 1.0))
    if rng.random() < 0.3:
        image = degrade.jpeg(image, chance.scaled(int(rng.integers(40, 96)), mild=96))
    return image, flat_warp(rng, px_per_mm=clean.px_per_mm, origin_mm=clean.origin_mm)


def scan(
    clean: CleanPage, chance: Chance, _max_megapixels: float, *, black_and_white: bool = False
) -> tuple[Image, SheetWarp]:
    """A flatbed scan: slight turn and scale, margins or cropped edges, colour or black."""
    rng = chance.rng
    px_per_mm = float(np.clip(rng.normal(7.6, 0.9), 5.5, 11.8))
    height_mm = clean.image.shape[0] / clean.px_per_mm
    width_mm = clean.image.shape[1] / clean.px_per_mm
    crop = rng.uniform(0, 8, 4) * (rng.random(4) < 0.3) - rng.uniform(0, 4, 4)
    size = (
        round((width_mm - crop[0] - crop[1]) * px_per_mm),
        round((height_mm - crop[2] - crop[3]) * px_per_mm),
    )
    warp = flat_warp(
        rng,
        px_per_mm=px_per_mm,
        origin_mm=(clean.origin_mm[0] + crop[0], clean.origin_mm[1] + crop[2]),
        turn_deg=chance.scaled(rng.normal(0, 0.8)),
        anisotropy=chance.scaled(rng.normal(0, 0.006)),
        shear=chance.scaled(rng.normal(0, 0.002)),
        wave_mm=chance.strength(0, 0.35),
    )
    white = int(rng.choice([255, 250, 235, 30]))
    lid = light.drop_shadow(
        np.full((size[1], size[0], 3), white, np.uint8),
        light.outline_px(warp, clean.box_mm),
        offset_px=chance.scenery.normal(0, 0.5, 2) * px_per_mm,
        soft_px=chance.scenery.uniform(0.2, 0.8) * px_per_mm,
        strength=chance.aside.strength(0.1, 0.8),
    )
    image = paint(lid, clean, warp.sheet_maps(size))
    image = degrade.blur(image, chance.strength(0.0, 0.9))
    image = degrade.expose(
        image, rng,
        unevenness=chance.strength(0, 0.03), noise=chance.strength(0, 5), cast=chance.scaled(0.03),
        gamma=chance.strength(0.8, 1.3, mild=1.0), contrast=chance.strength(0.9, 1.3, mild=1.0),
        light=_lid_light(chance.aside, size),
    )  # fmt: skip
    image = _bands(image, chance.aside)
    if black_and_white:
        image = degrade.to_black_and_white(image, chance)
        if rng.random() < 0.6:
            image = degrade.blur(image, chance.strength(0.15, 0.9))
    if rng.random() < 0.6:
        image = degrade.jpeg(image, chance.scaled(int(rng.integers(40, 96)), mild=96))
    return image, warp


def _lid_light(chance: Chance, size_px: tuple[int, int]) -> Float32:
    """Return the light beneath a lid: on a third of the scans one that does not close.

    Light escapes there, or enters: one edge is dark or bright.
    """
    width, height = 96, 72
    edge, reach = int(chance.rng.integers(4)), chance.rng.uniform(0.005, 0.03)
    change = chance.strength(0.02, 0.5) * chance.rng.choice([-1, -1, 1])
    if chance.rng.random() > 0.35:
        return np.ones((height, width), np.float32)
    away = np.linspace(0, 1, width if edge < 2 else height)
    profile = 1 + np.clip(change, -0.9, 0.4) * np.exp(-(away if edge % 2 else away[::-1]) / reach)
    field = np.broadcast_to(profile if edge < 2 else profile[:, None], (height, width))
    return np.ascontiguousarray(field, np.float32)


def _bands(image: Image, chance: Chance) -> Image:
    """Stripe half of the scans along one side: cells of the sensor that see more or less light."""
    height, width = image.shape[:2]
    down = chance.rng.random() < 0.7
    length = width if down else height
    profile = np.ones(length, np.float32)
    for _ in range(chance.rng.integers(1, 7)):
        start, wide = chance.rng.uniform(0, length), chance.rng.exponential(0.02) * length + 1
        sign = chance.rng.choice([-1, 1])
        profile[int(start) : int(start + wide)] *= 1 + sign * chance.strength(0.003, 0.035)
    if chance.rng.random() < 0.5:
        return image
    field = np.broadcast_to(profile if down else profile[:, None], (height, width))
    return degrade.multiply(image, np.ascontiguousarray(field))


def camera_size(
    chance: Chance, max_megapixels: float, *, shares: tuple[float, ...]
) -> tuple[int, int]:
    """Draw the longer and shorter side of a photo, px: 1.6, 3, 5 or 12 megapixels of 4:3."""
    drawn = float(chance.rng.choice([1.6, 3.0, 5.0, 12.0], p=shares))
    short = round(np.sqrt(min(max_megapixels, drawn) * 1e6 * 3 / 4))
    return short * 4 // 3, short


def photo(
    clean: CleanPage, chance: Chance, max_megapixels: float, *, ripple_mm: float = 0.0
) -> tuple[Image, SheetWarp]:
    """A phone photo on a desk: perspective, bend, folds, shadows, uneven light, sensor noise."""
    rng, aside = chance.rng, chance.aside
    size = camera_size(chance, max_megapixels, shares=(0.15, 0.35, 0.35, 0.15))
    warp = camera_warp(
        rng,
        size_px=size,
        box_mm=clean.box_mm,
        fill=float(rng.uniform(0.82, 1.02)),
        tilt_deg=chance.strength(0.5, 7),
        turn_deg=chance.scaled(rng.normal(0, 2.0)),
        bend_mm=chance.scaled(bend) if (bend := rng.choice([0.0, rng.uniform(0, 5)])) else None,
        wave_mm=chance.scaled(0.5),
    )
    if ripple_mm:
        height_mm = chance.scaled(ripple_mm, mild=0.2 * ripple_mm)
        waves = ripple(aside.rng, box_mm=clean.box_mm, height_mm=height_mm)
        warp = replace(warp, ripple=waves)
    warp = replace(warp, folds=clean.folds)
    image = paint(
        _desk_beneath(clean, warp, aside, size),
        light.shaded(clean, warp, aside),
        warp.sheet_maps(size),
    )
    image = degrade.blur(image, chance.strength(0.3, 1.2) * np.sqrt(size[0] * size[1] / 4e6))
    image = degrade.expose(
        image, rng,
        unevenness=chance.strength(0.02, 0.14), noise=chance.strength(1, 8),
        cast=chance.scaled(0.045),
        gamma=chance.strength(0.8, 1.3, mild=1.0), contrast=chance.strength(0.8, 1.1, mild=1.0),
        brightness=chance.strength(0.75, 1.0, mild=1.0),
        saturation=aside.strength(0.6, 1.0, mild=1.0),
        light=light.lamp(aside, size) * light.shadows(aside, size),
    )  # fmt: skip
    if clean.style.laser:
        image = degrade.develop(image, chance.split())
    return degrade.jpeg(image, chance.scaled(int(rng.integers(50, 96)), mild=96)), warp


def _desk_beneath(
    clean: CleanPage, warp: SheetWarp, chance: Chance, size_px: tuple[int, int]
) -> Image:
    """Draw a desk, on some pictures other sheets on it, and the shadows they and the page cast."""
    rng = chance.rng
    box = np.array(clean.box_mm)
    image = desk.lay(rng, warp, middle_mm=(box[:2] + box[2:]) / 2, size_px=size_px)
    px_a_mm = float(np.hypot(*np.diff(warp.page_from_sheet(box.reshape(2, 2)), axis=0)[0]))
    px_a_mm /= float(np.hypot(*(box[2:] - box[:2])))
    away = rng.normal(0, 1, 2)
    away *= rng.uniform(0.5, 3.0) / np.hypot(*away)
    soft_mm, strength = rng.uniform(0.8, 5), rng.uniform(0.3, 0.7)

    def shadow(below: Image, outline: Float64) -> Image:
        return light.drop_shadow(
            below, outline, offset_px=away * px_a_mm, soft_px=soft_mm * px_a_mm, strength=strength
        )

    for _ in range(int(rng.choice([0, 1, 2, 3, 4], p=[0.55, 0.15, 0.12, 0.1, 0.08]))):
        outline = light.outline_px(
            warp,
            box + OUTWARDS * rng.uniform(-1, 3, 4),
            turn_rad=float(rng.normal(0, 0.012)),
            shift_mm=rng.normal(0, 3.0, 2),
        )
        image = shadow(image, outline)
        white = int(rng.integers(205, 250))
        light.fill(image, outline, (white, white, white - int(rng.integers(0, 12))))
    return shadow(image, light.outline_px(warp, box))
