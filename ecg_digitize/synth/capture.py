"""How a page becomes a picture: printed or not, plotted, on a scanner, by phone, off a monitor.

Captures take a page, what they draw from and the size limit of photos in megapixels, and return the
picture and the warp that led there.
"""

from dataclasses import replace
from typing import Final

import cv2
import numpy as np

from ecg_digitize.synth import degrade
from ecg_digitize.synth.page import CleanPage
from ecg_digitize.synth.warp import SheetWarp, camera_warp, flat_warp
from ecg_digitize.synth.wear import crease
from ecg_digitize.types import Float32, Image, Mask


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


def _never_printed(clean: CleanPage) -> None:
    if clean.gone is not None:
        raise ValueError("only a sheet of paper can be torn: give the kind a capture of prints")


def plot(
    clean: CleanPage, rng: np.random.Generator, _max_megapixels: float
) -> tuple[Image, SheetWarp]:
    """As plotted; sometimes with the wrinkles, blur and compression of ECG-Image-Kit's options."""
    _never_printed(clean)
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
    clean: CleanPage,
    rng: np.random.Generator,
    _max_megapixels: float,
    *,
    black_and_white: bool = False,
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


def photo(
    clean: CleanPage, rng: np.random.Generator, max_megapixels: float
) -> tuple[Image, SheetWarp]:
    """A phone photo on a desk: perspective, bend, uneven light, sensor noise."""
    drawn = float(rng.choice([1.6, 3.0, 5.0, 12.0], p=[0.15, 0.35, 0.35, 0.15]))
    megapixels = min(max_megapixels, drawn)
    height = round(np.sqrt(megapixels * 1e6 * 3 / 4))
    size = (height * 4 // 3, height)
    warp = camera_warp(
        rng,
        size_px=size,
        box_mm=clean.box_mm,
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


def screen(
    clean: CleanPage, rng: np.random.Generator, max_megapixels: float
) -> tuple[Image, SheetWarp]:
    """A phone photo of the page on a monitor: its pixels and the camera's beat as moire."""
    _never_printed(clean)
    drawn = float(rng.choice([1.6, 3.0, 5.0, 12.0], p=[0.1, 0.35, 0.35, 0.2]))
    megapixels = min(drawn, max_megapixels)
    short_px = round(np.sqrt(megapixels * 1e6 * 3 / 4))
    long_px = short_px * 4 // 3
    size_px = (long_px, short_px) if rng.random() < 0.6 else (short_px, long_px)
    monitor_px_per_mm = float(rng.uniform(5.5, 8.0))
    zoom = monitor_px_per_mm / clean.px_per_mm
    pixels = cv2.resize(clean.image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    warp = camera_warp(
        rng,
        size_px=size_px,
        box_mm=clean.box_mm,
        fill=float(rng.uniform(0.78, 1.0)),
        tilt_deg=float(rng.uniform(0.5, 6)),
        turn_deg=float(rng.normal(0, 1.5)),
        bend_mm=0.0,
        wave_mm=0.0,
    )
    panel_mm = np.array(clean.box_mm) + np.array([-1, -1, 1, 1]) * rng.uniform(1, 25, 4)
    bezel_mm = panel_mm + np.array([-1, -1, 1, 1]) * rng.uniform(5, 22, 4)
    room = degrade.desk(rng, size_px)
    dark = int(rng.integers(8, 45))
    desktop = rng.choice([[250, 250, 250], [225, 225, 228], [40, 42, 48], [60, 90, 140]])
    for area_mm, color in ((bezel_mm, (dark, dark, dark)), (panel_mm, desktop.tolist())):
        corners = warp.page_from_sheet(area_mm[[[0, 1], [2, 1], [2, 3], [0, 3]]])
        cv2.fillConvexPoly(room, np.rint(corners).astype(np.int32), color)
    maps = warp.sheet_maps(size_px)
    shown = replace(clean, image=np.asarray(pixels, np.uint8), px_per_mm=monitor_px_per_mm)
    image = paint(room, shown, maps)
    image = degrade.blur(image, rng.uniform(0.2, 0.8) * np.sqrt(megapixels / 4))
    left, top, right, bottom = panel_mm
    lit = (maps[0] > left) & (maps[0] < right) & (maps[1] > top) & (maps[1] < bottom)
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

    The first harmonic of the stripes, seen through the camera's pixel and blur, is sampled where
    the camera has a pixel of that colour, which for red and blue is every second; what it aliases
    to follows by itself. Colours swing most near two camera pixels a monitor pixel.
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
        value = np.clip(image[..., channel] * light + 0.5, 0, 255).astype(np.uint8)
        out[..., channel] = value if channel == 1 else _every_second(value, first=channel // 2)
    return out


def _every_second(value: Image, *, first: int) -> Image:
    """Keep every second pixel, from `first` on in both directions, and interpolate the others."""
    kept = value[first::2, first::2]
    matrix = np.array([[0.5, 0, -first / 2], [0, 0.5, -first / 2]])  # kept px from px
    size = (value.shape[1], value.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    full = cv2.warpAffine(kept, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(full, np.uint8)
