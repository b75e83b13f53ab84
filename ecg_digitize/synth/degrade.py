"""What printers, scanners and cameras do to the pixels of a page.

Geometry is in warp.py, what befalls the paper in wear.py.

All functions take and return (H, W, 3) uint8 RGB and draw their randomness from the generator
passed in.
"""

from typing import Final

import cv2
import numba
import numpy as np

from ecg_digitize.render.paper import blend_ink, cover_polyline
from ecg_digitize.types import Float32, Image


def smooth_field(
    rng: np.random.Generator, size_px: tuple[int, int], cells: int, *, octaves: int = 1
) -> Float32:
    """Return a (H, W) float32 smooth random field, about zero mean and unit deviation."""
    width, height = size_px
    out = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        n = max(3, cells << octave)
        small = rng.standard_normal((max(3, n * height // width), n), np.float32)
        out += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) * 0.6**octave
    return out


@numba.njit(nogil=True, cache=True)
def _expose(image, light, noise, gain, lut):  # type: ignore[no-untyped-def]
    height, width = light.shape
    for y in range(height):
        for x in range(width):
            for c in range(3):
                value = image[y, x, c] * light[y, x] * gain[c]
                index = int(min(max(value, 0.0), 255.0))
                value = lut[index] + noise[y, x]
                image[y, x, c] = np.uint8(min(max(value + 0.5, 0.0), 255.0))


def expose(
    image: Image,
    rng: np.random.Generator,
    *,
    unevenness: float,
    noise: float,
    cast: float,
    gamma: float = 1.0,
    contrast: float = 1.0,
    brightness: float = 1.0,
) -> Image:
    """Light the page unevenly, tint it, bend its tone curve and add sensor noise.

    Args:
        image: (H, W, 3) uint8.
        rng: Source of randomness.
        unevenness: Standard deviation of the log of the light.
        noise: Standard deviation of the luminance noise, grey levels.
        cast: Standard deviation of the log gain of each colour channel.
        gamma: Exponent of the tone curve.
        contrast: Slope round mid grey.
        brightness: Overall gain.
    """
    height, width = image.shape[:2]
    light = np.full((height, width), brightness, np.float32)
    if unevenness > 0:
        small = smooth_field(rng, (96, 72), 3, octaves=2)
        field = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        light *= np.exp(field * np.float32(unevenness))
    grain = np.zeros((height, width), np.float32)
    if noise > 0:
        grain = rng.standard_normal((height, width), np.float32) * np.float32(noise)
        if rng.random() < 0.5:
            grain = cv2.GaussianBlur(grain, (3, 3), 0.6) * np.float32(1.6)
    gain = np.exp(rng.normal(0, 1, 3) * cast).astype(np.float32)
    gain /= gain.max()
    level = np.arange(256, dtype=np.float32) / 255
    lut = ((level**gamma - 0.5) * contrast + 0.5) * 255
    out = np.ascontiguousarray(image).copy()
    _expose(out, light, grain, gain, lut.astype(np.float32))
    return out


def blur(image: Image, sigma_px: float) -> Image:
    """Blur by a Gaussian; nothing below 0.15 px."""
    if sigma_px < 0.15:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.uint8)


def jpeg(image: Image, quality: int) -> Image:
    """Compress and expand."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


@numba.njit(nogil=True, cache=True)
def _error_diffusion(grey, noise):  # type: ignore[no-untyped-def]
    """Floyd-Steinberg with a noisy threshold, in place on (H, W) float32 in [0, 255]."""
    height, width = grey.shape
    for y in range(height):
        for x in range(width):
            old = grey[y, x]
            new = 255.0 if old + noise[y, x] > 127.5 else 0.0
            grey[y, x] = new
            error = old - new
            if x + 1 < width:
                grey[y, x + 1] += error * 0.4375
            if y + 1 < height:
                if x > 0:
                    grey[y + 1, x - 1] += error * 0.1875
                grey[y + 1, x] += error * 0.3125
                if x + 1 < width:
                    grey[y + 1, x + 1] += error * 0.0625


def to_black_and_white(image: Image, rng: np.random.Generator) -> Image:
    """Turn a colour page into what a black-and-white scanner or fax delivers.

    One of: error-diffused or random-threshold dots (type 0004), a hard tone curve, plain grey.
    """
    # Scanners weigh channels differently: red grids vanish in red light and turn black in green.
    weights = np.array(
        [[0.299, 0.587, 0.114], [0.1, 0.6, 0.3], [0.0, 0.7, 0.3], [0.33, 0.33, 0.34]]
    )
    grey = image @ weights[rng.integers(len(weights))].astype(np.float32)
    # Scanners set their white point on the paper.
    grey *= np.float32(252 / max(40.0, float(np.percentile(grey[::16, ::16], 85))))
    way = rng.choice(["diffuse", "threshold", "hard", "grey"], p=[0.3, 0.3, 0.2, 0.2])
    if way != "grey" and rng.random() < 0.45:
        # Copied ink gains on the paper: strokes and major lines grow by up to a pixel.
        size = [(2, 2), (1, 2), (2, 1), (3, 3)][rng.integers(4)]
        gained = cv2.erode(grey, np.ones(size, np.uint8))
        grey += (gained - grey) * np.float32(rng.uniform(0.4, 1.0))
    if way in ("diffuse", "threshold"):
        # Push paper to near white, so that only the fine grid and tints turn into dots.
        grey = (grey - 255) * np.float32(rng.uniform(0.6, 1.5)) + np.float32(rng.uniform(235, 275))
        shape = grey.shape
        if way == "diffuse":
            grey = np.clip(grey, 0, 255)
            noise = rng.standard_normal(shape, np.float32) * np.float32(rng.uniform(5, 60))
            _error_diffusion(grey, noise)
        else:
            spread = np.float32(rng.uniform(40, 120))
            noise = (rng.random(shape, np.float32) - 0.5) * 2 * spread
            if rng.random() < 0.4:  # specks of two and three pixels
                noise = cv2.blur(noise, [(2, 1), (1, 2), (2, 2)][rng.integers(3)]) * 1.6
            hardness, threshold = np.float32(rng.uniform(1.5, 8)), np.float32(rng.uniform(110, 190))
            grey = (grey + noise - threshold) * hardness + 127
        grey = np.clip(grey, 0, 255)
    elif way == "hard":
        level, slope = rng.uniform(120, 215), rng.uniform(1.5, 5)
        grey = np.clip((grey - level) * slope + 150, 0, 255)
    else:
        lo, hi = rng.uniform(0, 70), rng.uniform(200, 255)
        grey = grey / 255 * (hi - lo) + lo
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


@numba.njit(nogil=True, cache=True)
def _multiply_kernel(image, field, tint, out):  # type: ignore[no-untyped-def]
    height, width = field.shape
    for y in range(height):
        for x in range(width):
            for c in range(3):
                # tint 1 lets the field act on this channel in full, 0 not at all
                value = image[y, x, c] * (1 + (field[y, x] - 1) * tint[c])
                out[y, x, c] = np.uint8(min(max(value + 0.5, 0.0), 255.0))


def multiply(image: Image, field: Float32, tint: tuple[float, float, float] = (1, 1, 1)) -> Image:
    """Darken or lighten by a (H, W) float32 factor, each channel as far as its tint says."""
    out = np.empty_like(image)
    _multiply_kernel(np.ascontiguousarray(image), field, np.array(tint, np.float32), out)
    return out


def scribble(image: Image, rng: np.random.Generator, *, px_per_mm: float) -> Image:
    """Write a few words of illegible handwriting anywhere on the page."""
    height, width = image.shape[:2]
    coverage = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(1, 6)):
        n = int(rng.integers(20, 80))
        size = rng.uniform(1.5, 5) * px_per_mm
        steps = np.cumsum(rng.normal(0.35, 0.5, n)) * size
        x = rng.uniform(0, 0.85) * width + steps * 0.5
        y = rng.uniform(0.05, 0.95) * height + np.sin(np.cumsum(rng.uniform(0.4, 2.2, n))) * size
        t, fine = np.arange(n), np.linspace(0, n - 1, 6 * n)
        x, y = np.interp(fine, t, x), np.interp(fine, t, y)
        kernel = np.hanning(9) / np.hanning(9).sum()
        x, y = np.convolve(x, kernel, "valid"), np.convolve(y, kernel, "valid")
        cover_polyline(coverage, x, y, rng.uniform(0.25, 0.6) * px_per_mm)
    out = image.copy()
    ink = rng.choice([[20, 20, 25], [20, 30, 120], [120, 20, 25]])
    blend_ink(out, coverage, ink.astype(np.float32), np.float32(rng.uniform(0.7, 1)))
    return out


DESKS: Final = (
    (150, 110, 70),
    (90, 60, 40),
    (170, 170, 172),
    (60, 60, 65),
    (200, 195, 185),
    (40, 60, 90),
    (120, 120, 120),
)


def desk(rng: np.random.Generator, size_px: tuple[int, int]) -> Image:
    """Return a plain desk: one colour with a soft texture and grain along one direction."""
    width, height = size_px
    base = np.array(DESKS[rng.integers(len(DESKS))], np.float32)
    texture = smooth_field(rng, (width // 4, height // 4), 5, octaves=3)
    grain = rng.standard_normal((height // 4, max(4, width // 160)), np.float32)
    if rng.random() < 0.5:
        grain = np.ascontiguousarray(grain.T)
    fibre = cv2.resize(grain, (width // 4, height // 4), interpolation=cv2.INTER_CUBIC)
    shade = 1 + 0.05 * texture + rng.uniform(0, 0.12) * fibre
    small = np.clip(shade[..., None] * base, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(small, size_px, interpolation=cv2.INTER_LINEAR), np.uint8)
