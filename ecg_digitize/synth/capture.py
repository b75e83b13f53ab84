"""How a page becomes a picture: as plotted, on a scanner, by phone, off a monitor.

Each function takes a page, what it draws from and the size limit of photos in megapixels, and
returns the picture and the warp that led there.
"""

from dataclasses import replace
from typing import Final

import cv2
import numpy as np

from ecg_digitize.synth import degrade
from ecg_digitize.synth.page import CleanPage
from ecg_digitize.synth.warp import SheetWarp, camera_warp, flat_warp, paint
from ecg_digitize.synth.wear import crease
from ecg_digitize.types import Float32, Image, Mask


def on_paper(clean: CleanPage, rng: np.random.Generator, *, margin_mm: float) -> CleanPage:
    """Print: put white margins round the printed area and let the ink spread."""
    pad = [round(m * clean.px_per_mm) for m in rng.uniform(0.3, 1.0, 4) * margin_mm]
    top, bottom, left, right = pad
    white = clean.style.paper.paper
    padded = cv2.copyMakeBorder(
        clean.image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=white
    )
    image = degrade.blur(np.asarray(padded, np.uint8), rng.uniform(0.1, 0.8))
    x, y = clean.origin_mm
    origin = (x - left / clean.px_per_mm, y - top / clean.px_per_mm)
    return replace(clean, image=image, origin_mm=origin)


def plot(clean: CleanPage, rng: np.random.Generator, _limit: float) -> tuple[Image, SheetWarp]:
    """As plotted; sometimes with the wrinkles, blur and compression of ECG-Image-Kit's options."""
    image = clean.image
    if rng.random() < 0.2:
        image = crease(image, rng, strength=rng.uniform(0.3, 1.3))
        if rng.random() < 0.5:
            image = degrade.expose(image, rng, unevenness=0.0, noise=rng.uniform(0, 6), cast=0.15,
                                   contrast=rng.uniform(0.8, 1.3))  # fmt: skip
    if rng.random() < 0.25:
        image = degrade.blur(image, rng.uniform(0.2, 1.0))
    if rng.random() < 0.3:
        image = degrade.jpeg(image, int(rng.integers(40, 96)))
    return image, flat_warp(rng, px_per_mm=clean.px_per_mm, origin_mm=clean.origin_mm)


def scan(
    clean: CleanPage, rng: np.random.Generator, _limit: float, *, black_and_white: bool = False
) -> tuple[Image, SheetWarp]:
    """A flatbed scan: slight turn and scale, margins or cropped edges, colour or black."""
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
        turn_deg=float(rng.normal(0, 0.8)),
        anisotropy=float(rng.normal(0, 0.006)),
        shear=float(rng.normal(0, 0.002)),
        wave_mm=float(rng.uniform(0, 0.35)),
    )
    lid = np.full((size[1], size[0], 3), int(rng.choice([255, 250, 235, 30])), np.uint8)
    maps = warp.sheet_maps(size)
    image = paint(lid, clean, maps)
    image = degrade.blur(image, rng.uniform(0.0, 0.9))
    image = degrade.expose(
        image, rng,
        unevenness=rng.uniform(0, 0.03), noise=rng.uniform(0, 5), cast=0.03,
        gamma=rng.uniform(0.7, 1.3), contrast=rng.uniform(0.9, 1.3),
    )  # fmt: skip
    if black_and_white:
        image = degrade.to_black_and_white(image, rng)
        if rng.random() < 0.6:
            image = degrade.blur(image, rng.uniform(0.15, 0.9))
    if rng.random() < 0.6:
        image = degrade.jpeg(image, int(rng.integers(40, 96)))
    return image, warp


def photo(clean: CleanPage, rng: np.random.Generator, limit: float) -> tuple[Image, SheetWarp]:
    """A phone photo on a desk: perspective, bend, uneven light, sensor noise."""
    megapixels = min(limit, float(rng.choice([1.6, 3.0, 5.0, 12.0], p=[0.15, 0.35, 0.35, 0.15])))
    height = round(np.sqrt(megapixels * 1e6 * 3 / 4))
    size = (height * 4 // 3, height)
    x0, y0 = clean.origin_mm
    x1 = x0 + clean.image.shape[1] / clean.px_per_mm
    y1 = y0 + clean.image.shape[0] / clean.px_per_mm
    warp = camera_warp(
        rng,
        size_px=size,
        box_mm=(x0, y0, x1, y1),
        fill=float(rng.uniform(0.82, 1.02)),
        tilt_deg=float(rng.uniform(0.5, 7)),
        turn_deg=float(rng.normal(0, 2.0)),
        bend_mm=float(rng.choice([0.0, rng.uniform(0, 5)])),
    )
    maps = warp.sheet_maps(size)
    image = paint(degrade.desk(rng, size), clean, maps)
    image = degrade.blur(image, rng.uniform(0.3, 1.2) * np.sqrt(megapixels / 4))
    image = degrade.expose(
        image, rng,
        unevenness=rng.uniform(0.02, 0.14), noise=rng.uniform(1, 8), cast=0.08,
        gamma=rng.uniform(0.8, 1.5), contrast=rng.uniform(0.8, 1.1),
        brightness=rng.uniform(0.6, 1.0),
    )  # fmt: skip
    return degrade.jpeg(image, int(rng.integers(50, 96))), warp


def screen(clean: CleanPage, rng: np.random.Generator, limit: float) -> tuple[Image, SheetWarp]:
    """A phone photo of the page on a monitor: its pixels and the camera's beat as moire."""
    megapixels = min(limit, float(rng.choice([1.6, 3.0, 5.0, 12.0], p=[0.1, 0.35, 0.35, 0.2])))
    short = round(np.sqrt(megapixels * 1e6 * 3 / 4))
    size = (short * 4 // 3, short) if rng.random() < 0.6 else (short, short * 4 // 3)
    monitor_px_per_mm = float(rng.uniform(5.5, 8.0))
    shape = [round(n * monitor_px_per_mm / clean.px_per_mm) for n in clean.image.shape[1::-1]]
    shown = np.asarray(cv2.resize(clean.image, shape, interpolation=cv2.INTER_AREA), np.uint8)
    scale = shape[0] / clean.image.shape[1] * clean.px_per_mm
    x0, y0 = clean.origin_mm
    box = np.array([x0, y0, x0 + shape[0] / scale, y0 + shape[1] / scale])
    warp = camera_warp(
        rng,
        size_px=size,
        box_mm=(box[0], box[1], box[2], box[3]),
        fill=float(rng.uniform(0.78, 1.0)),
        tilt_deg=float(rng.uniform(0.5, 6)),
        turn_deg=float(rng.normal(0, 1.5)),
        bend_mm=0.0,
        wave_mm=0.0,
    )
    panel = box + np.array([-1, -1, 1, 1]) * rng.uniform(1, 25, 4)
    bezel = panel + np.array([-1, -1, 1, 1]) * rng.uniform(5, 22, 4)
    room = degrade.desk(rng, size)
    dark = int(rng.integers(8, 45))
    desktop = rng.choice([[250, 250, 250], [225, 225, 228], [40, 42, 48], [60, 90, 140]])
    for area, color in ((bezel, (dark, dark, dark)), (panel, desktop.tolist())):
        corners = warp.page_from_sheet(area[[[0, 1], [2, 1], [2, 3], [0, 3]]])
        cv2.fillConvexPoly(room, np.rint(corners).astype(np.int32), color)
    maps = warp.sheet_maps(size)
    image = paint(room, replace(clean, image=shown, px_per_mm=scale), maps)
    image = degrade.blur(image, rng.uniform(0.2, 0.8) * np.sqrt(megapixels / 4))
    lit = (maps[0] > panel[0]) & (maps[0] < panel[2]) & (maps[1] > panel[1]) & (maps[1] < panel[3])
    image = _moire(image, maps, rng, monitor_px_per_mm=monitor_px_per_mm, lit=lit)
    image = degrade.expose(
        image, rng,
        unevenness=rng.uniform(0.02, 0.12), noise=rng.uniform(1, 7), cast=0.06,
        gamma=rng.uniform(0.7, 1.3), contrast=rng.uniform(0.8, 1.15),
        brightness=rng.uniform(0.7, 1.05),
    )  # fmt: skip
    return degrade.jpeg(image, int(rng.integers(50, 96))), warp


_STRIPES: Final = (0.0, 1 / 3, 2 / 3)
"""Where in a monitor's pixel its red, green and blue stripe lie."""


def _moire(
    image: Image,
    maps: tuple[Float32, Float32],
    rng: np.random.Generator,
    *,
    monitor_px_per_mm: float,
    lit: Mask,
) -> Image:
    """Beat the grid of a monitor's stripes and rows against the camera's pixels.

    The first harmonic of the stripes, seen through the camera's pixel and blur, is sampled at the
    camera's pixels; what it aliases to follows by itself.
    """
    blur_px = rng.uniform(0.15, 0.45)
    depth_across, depth_down = rng.uniform(0.3, 1.0), rng.uniform(0.0, 0.5)
    across, down = (m * np.float32(monitor_px_per_mm) for m in maps)

    def seen(phase: Float32, depth: float) -> Float32:
        """Depth of a grating after a square pixel and a Gaussian blur."""
        slope_y, slope_x = np.gradient(phase[::16, ::16], 16.0)
        frequency = np.hypot(slope_x, slope_y)
        kept = np.sinc(slope_x) * np.sinc(slope_y) * np.exp(-2 * (np.pi * blur_px * frequency) ** 2)
        size = (phase.shape[1], phase.shape[0])
        return np.asarray(cv2.resize((depth * kept).astype(np.float32), size), np.float32) * lit

    stripes, rows = seen(across, depth_across), seen(down, depth_down)
    turn = np.float32(2 * np.pi)
    lines = 1 + rows * np.cos(turn * down)
    out = np.empty_like(image)
    for channel, offset in enumerate(_STRIPES):
        light = lines * (1 + stripes * np.cos(turn * (across - np.float32(offset))))
        out[..., channel] = np.clip(image[..., channel] * light, 0, 255)
    return out
