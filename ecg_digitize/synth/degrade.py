"""What printers, scanners and cameras do to the pixels of a page.

Geometry is in warp.py, what befalls the paper in wear.py, the light of a room in light.py.

All take and return (H, W, 3) uint8 RGB and draw their randomness from what is passed in.
"""

from typing import Final

import cv2
import numpy as np

from ecg_digitize.jit import compiled
from ecg_digitize.render.paper import blend_ink, cover_polyline
from ecg_digitize.synth.chance import Chance
from ecg_digitize.types import Float32, Image

WARMER: Final = np.array([1.0, 0.0, -1.0])
GREENER: Final = np.array([-0.1, 0.2, -0.1])
"""Log gains of red, green and blue that light gets between daylight and a lamp, and in tubes'."""


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


def enlarged(field: Float32, image: Image) -> Float32:
    """Resize a small field to the size of a picture."""
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.resize(field, size, interpolation=cv2.INTER_LINEAR), np.float32)


@compiled
def _expose(
    image: Image,
    light: Float32,
    noise: Float32,
    gain: Float32,
    saturation: np.float32,
    lut: Float32,
) -> None:
    height, width = light.shape
    for y in range(height):
        for x in range(width):
            red, green, blue = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            grey = 0.3 * red + 0.59 * green + 0.11 * blue
            for c in range(3):
                color = grey + (image[y, x, c] - grey) * saturation
                value = color * light[y, x] * gain[c]
                index = int(min(max(value, 0.0), 255.0))
                value = lut[index] + noise[y, x]
                image[y, x, c] = np.uint8(min(max(value + 0.5, 0.0), 255.0))


def expose(
    image: Image,
    rng: np.random.Generator,
    *,
    noise: float,
    cast: float,
    unevenness: float | None = None,
    gamma: float = 1.0,
    contrast: float = 1.0,
    brightness: float = 1.0,
    saturation: float = 1.0,
    light: Float32 | None = None,
) -> Image:
    """Light the page unevenly, tint it, bend its tone curve and add sensor noise.

    Args:
        image: (H, W, 3) uint8.
        rng: Source of randomness.
        noise: Standard deviation of the luminance noise, grey levels.
        cast: Standard deviation of the log gain that red has over green and green over blue, as
            between lamp and daylight; a fifth of it from green to magenta.
        unevenness: Standard deviation of the log of the light; None for even light.
        gamma: Exponent of the tone curve.
        contrast: Slope round mid grey.
        brightness: Overall gain.
        saturation: 0 leaves grey, 1 the colours as they are.
        light: Small field of further light, of any size; exposure makes up for its mean.
    """
    height, width = image.shape[:2]
    lit = np.full((height, width), brightness, np.float32)
    if unevenness is not None:
        small = smooth_field(rng, (96, 72), 3, octaves=2)
        field = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        lit *= np.exp(field * np.float32(unevenness))
    if light is not None:
        lit *= cv2.resize(light / light.mean(), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.standard_normal((height, width), np.float32) * np.float32(noise)
    if rng.random() < 0.5:
        grain = cv2.GaussianBlur(grain, (3, 3), 0.6) * np.float32(1.6)
    warm, green, _ = rng.normal(0, 1, 3) * cast
    gain = np.exp(warm * WARMER + green * GREENER).astype(np.float32)
    gain /= gain.max()
    level = np.arange(256, dtype=np.float32) / 255
    lut = ((level**gamma - 0.5) * contrast + 0.5) * 255
    out = np.ascontiguousarray(image).copy()
    _expose(out, lit, grain, gain, np.float32(saturation), lut.astype(np.float32))
    return out


def blur(image: Image, sigma_px: float) -> Image:
    """Blur by a Gaussian; nothing below 0.15 px."""
    if sigma_px < 0.15:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.uint8)


def develop(image: Image, chance: Chance) -> Image:
    """Do what phones do to the sensor's picture: take noise away, and sharpen what is left.

    Noise goes but at edges, and sharpening leaves a bright halo round every stroke.
    """
    if chance.rng.random() < 0.7:
        reach = chance.strength(5, 30)  # grey levels that count as noise
        image = np.asarray(cv2.bilateralFilter(image, 5, reach, 1.5), np.uint8)
    amount, sigma_px = chance.strength(0.0, 1.8), float(chance.rng.uniform(0.8, 2.2))
    blurred = cv2.GaussianBlur(image, (0, 0), sigma_px)
    return np.asarray(cv2.addWeighted(image, 1 + amount, blurred, -amount, 0), np.uint8)


def jpeg(image: Image, quality: float) -> Image:
    """Compress and expand, at a quality from 8 to 98."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, round(min(max(quality, 8), 98))])[1]
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


@compiled
def _error_diffusion(grey: Float32, noise: Float32) -> None:
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


def to_black_and_white(image: Image, chance: Chance) -> Image:
    """Turn a colour page into what a black-and-white scanner or fax delivers.

    One of: error-diffused or random-threshold dots (type 0004), a hard tone curve, plain grey.
    """
    rng = chance.rng
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
            noise = rng.standard_normal(shape, np.float32) * np.float32(chance.strength(5, 60))
            _error_diffusion(grey, noise)
        else:
            spread = np.float32(chance.strength(40, 120))
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


@compiled
def _multiply_kernel(image: Image, field: Float32, tint: Float32, out: Image) -> None:
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
