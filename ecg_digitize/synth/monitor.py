"""Photos of a page on a monitor: the room, the monitor, its pixels, what shines in it."""

from dataclasses import replace
from typing import Final

import cv2
import numpy as np

from ecg_digitize.render.paper import text_coverage
from ecg_digitize.synth import degrade, desk, light
from ecg_digitize.synth.capture import OUTWARDS, camera_size, never_printed, paint
from ecg_digitize.synth.chance import Chance
from ecg_digitize.synth.page import CleanPage
from ecg_digitize.synth.warp import SheetWarp, camera_warp
from ecg_digitize.types import Float32, Float64, Image, Mask


def screen(clean: CleanPage, chance: Chance, max_megapixels: float) -> tuple[Image, SheetWarp]:
    """A phone photo of the page on a monitor: its pixels and the camera's beat as moire."""
    never_printed(clean)
    rng, aside = chance.rng, chance.aside
    long_px, short_px = camera_size(chance, max_megapixels, shares=(0.1, 0.35, 0.35, 0.2))
    size_px = (long_px, short_px) if rng.random() < 0.25 else (short_px, long_px)
    monitor_px_per_mm = float(rng.uniform(5.5, 8.0))
    zoom = monitor_px_per_mm / clean.px_per_mm
    pixels = cv2.resize(clean.image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    warp = camera_warp(
        rng,
        size_px=size_px,
        box_mm=clean.box_mm,
        fill=float(rng.uniform(0.78, 1.0)),
        tilt_deg=chance.strength(0.5, 6),
        turn_deg=chance.scaled(rng.normal(0, 1.5)),
        bend_mm=None,
        wave_mm=0.0,
    )
    panel_mm = np.array(clean.box_mm) + OUTWARDS * rng.uniform(1, 25, 4)
    bezel_mm = panel_mm + OUTWARDS * rng.uniform(5, 22, 4)
    picture = light.drop_shadow(
        _room(aside.rng, warp, bezel_mm, size_px),
        light.outline_px(warp, bezel_mm),
        offset_px=np.array([0.0, 0.02 * short_px]),
        soft_px=0.03 * short_px,
        strength=float(aside.rng.uniform(0.1, 0.45)),
    )
    _draw_monitor(picture, aside.rng, warp, panel_mm=panel_mm, bezel_mm=bezel_mm)
    _draw_window(picture, aside.rng, warp, panel_mm=panel_mm, page_mm=np.array(clean.box_mm))
    maps = warp.sheet_maps(size_px)
    shown = replace(clean, image=np.asarray(pixels, np.uint8), px_per_mm=monitor_px_per_mm)
    image = paint(picture, shown, maps)
    image = degrade.blur(image, chance.strength(0.2, 0.8) * np.sqrt(long_px * short_px / 4e6))
    left, top, right, bottom = panel_mm
    lit = (maps[0] > left) & (maps[0] < right) & (maps[1] > top) & (maps[1] < bottom)
    image = _moire(image, maps, chance, monitor_px_per_mm=monitor_px_per_mm, lit=lit)
    image = light.glare(image, aside, warp.page_from_sheet(_corners(panel_mm)))
    image = degrade.expose(
        image, rng,
        unevenness=chance.strength(0.02, 0.12), noise=chance.strength(1, 7),
        cast=chance.scaled(0.05),
        gamma=chance.strength(0.8, 1.3, mild=1.0), contrast=chance.strength(0.8, 1.15, mild=1.0),
        brightness=chance.strength(0.7, 1.05, mild=1.0),
        saturation=aside.strength(0.65, 1.0, mild=1.0),
        light=light.lamp(aside, size_px),
    )  # fmt: skip
    return degrade.jpeg(image, chance.scaled(int(rng.integers(50, 96)), mild=96)), warp


DOWNWARDS: Final = np.array([0, 1, 0, 1])
LABELS: Final = ("DISPLAY", "MONITOR", "VIEW 24", "flat panel", "LCD 190", "HD 22")
WALLS: Final = ((186, 194, 188), (214, 210, 202), (168, 180, 190), (150, 146, 140), (222, 224, 226))
DESKTOPS: Final = ((250, 250, 250), (225, 225, 228), (40, 42, 48), (60, 90, 140))


def _corners(box: Float64) -> Float64:
    """Return the (4, 2) corners of x0, y0, x1, y1."""
    return box[[[0, 1], [2, 1], [2, 3], [0, 3]]]


def _draw_box(image: Image, warp: SheetWarp, box_mm: Float64, color: tuple[int, ...]) -> None:
    light.fill(image, warp.page_from_sheet(_corners(box_mm)), color)


def _grey(level: float) -> tuple[int, int, int]:
    value = int(np.clip(level, 0, 255))
    return value, value, value


def _room(
    rng: np.random.Generator, warp: SheetWarp, bezel_mm: Float64, size_px: tuple[int, int]
) -> Image:
    """Draw wall, ceiling and desk out of focus, and a keyboard on the desk."""
    width, height = size_px
    small = (width // 4, height // 4)
    wall = np.array(WALLS[rng.integers(len(WALLS))], np.float32) * rng.uniform(0.6, 1.0)
    room = np.full((small[1], small[0], 3), wall, np.uint8)
    left, top, right, bottom = bezel_mm
    far = 900.0
    down = np.array([0, far])
    corner = np.array([rng.uniform(left, right), top - rng.uniform(20, 90)])
    slope = rng.uniform(-0.3, 0.5, 2)

    def draw(points_mm: list[Float64], share: float) -> None:
        shade = tuple(int(v) for v in np.clip(wall * share, 0, 255))
        light.fill(room, warp.page_from_sheet(np.array(points_mm)) / 4, shade)

    if rng.random() < 0.6:  # walls meet the ceiling
        ends = [corner + far * np.array([-1, -slope[0]]), corner + far * np.array([1, -slope[1]])]
        draw([corner, ends[1], ends[1] + down, corner + down], rng.uniform(0.82, 1.06))
        draw([ends[0], corner, ends[1], ends[1] - down, ends[0] - down],
             rng.uniform(0.85, 1.12))  # fmt: skip
    desk_mm = bottom + rng.uniform(18, 70)
    soft = cv2.GaussianBlur(room, (0, 0), small[0] / 200)
    picture = np.asarray(cv2.resize(soft, size_px), np.uint8)
    flat = np.diag([1.0, rng.uniform(0.3, 0.5), 1.0, 1.0])  # seen from the side
    flat[1, 3] = desk_mm
    tilted = replace(warp, matrix=warp.matrix @ flat)
    table = desk.lay(rng, tilted, middle_mm=np.array([140.0, 0.0]), size_px=size_px)
    edge = warp.page_from_sheet(np.array([[-far, desk_mm], [far, desk_mm + rng.normal(0, 20)]]))
    mask = np.zeros((height, width), np.uint8)
    light.fill(mask, np.vstack([edge, edge[::-1] + np.array([0, 4 * height])]), (255,))
    cv2.copyTo(table, mask, picture)
    middle_mm = (left + right) / 2
    _draw_stand(picture, rng, warp, middle_mm=middle_mm, top_mm=bottom, foot_mm=desk_mm)
    keys_mm = desk_mm + rng.uniform(15, 50)
    if rng.random() < 0.75:
        _draw_keyboard(picture, rng, warp, middle_mm=middle_mm, top_mm=keys_mm)
    return picture


def _draw_stand(
    image: Image, rng: np.random.Generator, warp: SheetWarp, *,
    middle_mm: float, top_mm: float, foot_mm: float,
) -> None:  # fmt: skip
    """Draw neck, foot and, on some, a cable."""
    dark = float(rng.integers(10, 45))
    half_mm = rng.uniform(22, 50)
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    foot = np.stack([np.cos(t) * rng.uniform(80, 130), np.sin(t) * rng.uniform(12, 28)], -1)
    foot += (middle_mm, foot_mm + 14)
    if rng.random() < 0.5:
        s = np.linspace(0, 1, 30)
        cable = np.stack([middle_mm + half_mm + 60 * np.sin(3 * s) * rng.uniform(-2, 1.2),
                          top_mm + 90 * s], -1)  # fmt: skip
        points = np.rint(warp.page_from_sheet(cable)).astype(np.int32)
        cv2.polylines(image, [points], False, _grey(dark), max(2, image.shape[1] // 150))
    light.fill(image, warp.page_from_sheet(foot + np.array([0, 5])), _grey(0.5 * dark))
    light.fill(image, warp.page_from_sheet(foot), _grey(1.3 * dark))
    neck = np.array([middle_mm - half_mm, top_mm, middle_mm + half_mm, foot_mm + 12])
    _draw_box(image, warp, neck, _grey(dark))
    neck[2] = neck[0] + 0.3 * half_mm
    _draw_box(image, warp, neck, _grey(1.4 * dark))


def _draw_keyboard(
    image: Image, rng: np.random.Generator, warp: SheetWarp, *, middle_mm: float, top_mm: float
) -> None:
    """Draw rows of keys, foreshortened, nearer ones higher."""
    body = float(rng.choice([28, 45, 190, 215]))
    key = body + (rng.uniform(10, 25) if body < 100 else rng.uniform(15, 35))
    columns, pitch_mm = int(rng.integers(14, 19)), 19.0
    left = middle_mm - columns * pitch_mm / 2 + rng.normal(0, 25)
    frame = np.array([left - 6, top_mm, left + columns * pitch_mm + 6, top_mm + 62])
    _draw_box(image, warp, frame + DOWNWARDS * 4, _grey(0.4 * body))
    _draw_box(image, warp, frame, _grey(body))
    y = top_mm + 4
    for row in range(5):
        deep = 7.5 + 1.2 * row
        indent = pitch_mm * (0.0, 0.25, 0.4, 0.7, 0.0)[row]
        for column in range(columns - (indent > 0)):
            x = left + indent + column * pitch_mm
            wide = np.array([x + 1, y + 0.6, x + pitch_mm - 1, y + deep - 0.8])
            _draw_box(image, warp, wide + DOWNWARDS * 0.8, _grey(0.6 * body))
            _draw_box(image, warp, wide, _grey(key))
        y += deep


def _draw_monitor(
    image: Image, rng: np.random.Generator, warp: SheetWarp, *, panel_mm: Float64, bezel_mm: Float64
) -> None:
    """Draw the frame with its label, buttons and lamp, and the panel's bare desktop."""
    dark = float(rng.integers(8, 45)) if rng.random() < 0.85 else float(rng.integers(150, 215))
    _draw_box(image, warp, bezel_mm, _grey(1.7 * dark))
    _draw_box(image, warp, bezel_mm - OUTWARDS * 0.8, _grey(dark))
    _draw_box(image, warp, panel_mm + OUTWARDS * 1.2, _grey(0.55 * dark))
    desktop = DESKTOPS[rng.integers(len(DESKTOPS))]
    _draw_box(image, warp, panel_mm, desktop)
    below = rng.random() < 0.6
    strip = (panel_mm[3], bezel_mm[3]) if below else (bezel_mm[1], panel_mm[1])
    height_mm = (strip[1] - strip[0]) * rng.uniform(0.3, 0.5)
    at = np.array([(bezel_mm[0] + bezel_mm[2]) / 2, sum(strip) / 2])
    label = str(rng.choice(LABELS))
    _write(image, warp, label, middle_mm=at, height_mm=height_mm, color=_grey(dark + 110))
    for k in range(int(rng.integers(0, 5))):
        x, y = bezel_mm[2] - 18 - 9 * k, (panel_mm[3] + bezel_mm[3]) / 2
        color = (70, 120, 230) if k == 0 else _grey(dark + 45)
        _draw_box(image, warp, np.array([x, y - 0.7, x + 3, y + 0.7]), color)


def _write(
    image: Image, warp: SheetWarp, text: str, *,
    middle_mm: Float64, height_mm: float, color: tuple[int, int, int],
) -> None:  # fmt: skip
    """Write on the monitor's plane, in place."""
    cover = text_coverage(text, 48)
    px_a_mm = 48 / height_mm
    from_patch = np.eye(3)
    from_patch[:2, :2] /= px_a_mm
    from_patch[:2, 2] = middle_mm - np.array(cover.shape[::-1]) / 2 / px_a_mm
    matrix = warp.plane @ from_patch
    size = (image.shape[1], image.shape[0])
    mask = cv2.warpPerspective((cover * 255).astype(np.uint8), matrix, size, flags=cv2.INTER_AREA)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows):
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        share = mask[box][..., None] / np.float32(255)
        image[box] = image[box] + (np.array(color, np.float32) - image[box]) * share


def _draw_window(
    image: Image, rng: np.random.Generator, warp: SheetWarp, *, panel_mm: Float64, page_mm: Float64
) -> None:
    """Draw what a viewer puts round a page: title bar, tools, shadow, the desktop's task bar."""
    left, top, right, bottom = panel_mm
    above_mm, below_mm = page_mm[1] - top, bottom - page_mm[3]
    bar = _grey(float(rng.choice([30, 55, 205, 240])))
    if above_mm > 4 and rng.random() < 0.7:
        tall_mm = min(9.0, above_mm - 1)
        _draw_box(image, warp, np.array([left, top, right, top + tall_mm]), bar)
        for k in range(int(rng.integers(3, 12))):
            x = left + 4 + 8 * k
            tool = np.array([x, top + 0.3 * tall_mm, x + 4.5, top + 0.7 * tall_mm])
            _draw_box(image, warp, tool, _grey(rng.uniform(70, 190)))
    if below_mm > 8 and rng.random() < 0.7:
        _draw_box(image, warp, np.array([left, bottom - 7, right, bottom]), bar)
        for k in range(int(rng.integers(2, 9))):
            icon = np.array([left + 3 + 9 * k, bottom - 5.8, left + 8 + 9 * k, bottom - 1.2])
            color = tuple(int(v) for v in rng.integers(40, 230, 3))
            _draw_box(image, warp, icon, color)
    if rng.random() < 0.5:
        rim = page_mm + np.array([-0.6, -0.3, 1.2, 1.5])
        inside = np.clip(rim, panel_mm[[0, 1, 0, 1]], panel_mm[[2, 3, 2, 3]])
        _draw_box(image, warp, inside, _grey(120))


_STRIPES: Final = (0.0, 1 / 3, 2 / 3)
"""Where in a monitor's pixel its red, green and blue stripe lie."""


def _moire(
    image: Image,
    maps: tuple[Float32, Float32],
    chance: Chance,
    *,
    monitor_px_per_mm: float,
    lit: Mask,
) -> Image:
    """Beat the grid of a monitor's stripes and rows against the camera's pixels.

    The first harmonic of the stripes, seen through the camera's pixel and blur, is sampled where
    the camera has a pixel of that colour, which for red and blue is every second; what it aliases
    to follows by itself. Colours swing most near two camera pixels a monitor pixel.
    """
    blur_px = chance.rng.uniform(0.15, 0.45)
    # A grating cannot be deeper than 1: light does not fall below none.
    depth_across = min(1.0, chance.strength(0.3, 1.0, mild=0.1))
    depth_down = min(1.0, chance.strength(0.0, 0.5))
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
