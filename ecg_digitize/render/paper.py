"""Draws ECG paper, traces and text with anti-aliasing and fractional positions and widths.

Used by the synthesizer for its pages and by reports. Coordinates are pixels of the raster drawn
on, pixel centres are integers.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_digitize.errors import InputError
from ecg_digitize.jit import compiled
from ecg_digitize.types import Float32, Float64, Image

Color = tuple[int, int, int]


@dataclass(frozen=True)
class PaperStyle:
    """How the grid is printed; widths in px of the raster, colours RGB."""

    paper: Color = (255, 255, 255)
    minor: Color = (255, 215, 210)
    major: Color = (255, 0, 0)
    minor_width_px: float = 1.2
    major_width_px: float = 1.4
    minor_alpha: float = 1.0
    major_alpha: float = 1.0
    dash_px: float = 0.0  # period of the breaks in vertical major lines, 0 = solid


def line_profile(length: int, centres_px: Float64, width_px: float) -> Float32:
    """Return the (length,) coverage in [0, 1] of lines of a width at fractional centres."""
    profile = np.zeros(length, np.float32)
    half = width_px / 2
    for offset in range(-2 - int(half), 3 + int(half)):
        index = np.round(centres_px).astype(np.int64) + offset
        distance = np.abs(index - centres_px)
        cover = np.clip(half + 0.5 - distance, 0, min(1.0, width_px)).astype(np.float32)
        inside = (index >= 0) & (index < length)
        np.maximum.at(profile, index[inside], cover[inside])
    return profile


@compiled
def _compose(
    out: Image,
    minor_x: Float32,
    minor_y: Float32,
    major_x: Float32,
    major_y: Float32,
    paper: Float32,
    minor: Float32,
    major: Float32,
    dash_px: float,
) -> None:
    height, width = out.shape[:2]
    for y in range(height):
        gap = dash_px > 0 and (y % dash_px) > 0.72 * dash_px
        for x in range(width):
            a = max(minor_x[x], minor_y[y])
            b = major_y[y]
            if not gap:
                b = max(b, major_x[x])
            for c in range(3):
                value = paper[c] + (minor[c] - paper[c]) * a
                out[y, x, c] = np.uint8(value + (major[c] - value) * b + np.float32(0.5))


def draw_paper(
    size_px: tuple[int, int],
    style: PaperStyle,
    *,
    lines_x_px: tuple[Float64, Float64],
    lines_y_px: tuple[Float64, Float64],
) -> Image:
    """Draw a sheet of ECG paper.

    Args:
        size_px: Width and height.
        style: Colours and widths.
        lines_x_px: x of the minor and of the major vertical lines.
        lines_y_px: y of the minor and of the major horizontal lines.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    width, height = size_px
    out = np.empty((height, width, 3), np.uint8)
    minor_px, major_px = style.minor_width_px, style.major_width_px
    _compose(
        out,
        line_profile(width, lines_x_px[0], minor_px) * np.float32(style.minor_alpha),
        line_profile(height, lines_y_px[0], minor_px) * np.float32(style.minor_alpha),
        line_profile(width, lines_x_px[1], major_px) * np.float32(style.major_alpha),
        line_profile(height, lines_y_px[1], major_px) * np.float32(style.major_alpha),
        np.array(style.paper, np.float32),
        np.array(style.minor, np.float32),
        np.array(style.major, np.float32),
        style.dash_px,
    )
    return out


@compiled
def cover_polyline(
    coverage: Float32, x_px: Float64 | Float32, y_px: Float64 | Float32, width_px: float
) -> None:
    """Draw a polyline with round joins into a (H, W) float32 coverage map, keeping the maximum.

    Coverage of a pixel is how far its centre lies inside the stroke, clipped to [0, 1]: exact for
    straight strokes wider than a pixel. Segments with a NaN end are skipped.
    """
    height, width = coverage.shape
    half = width_px / 2
    reach = half + 1
    for k in range(len(x_px) - 1):
        x0, y0, x1, y1 = x_px[k], y_px[k], x_px[k + 1], y_px[k + 1]
        if not (np.isfinite(y0) and np.isfinite(y1)):
            continue
        dx, dy = x1 - x0, y1 - y0
        norm = dx * dx + dy * dy
        for y in range(max(0, int(min(y0, y1) - reach)), min(height, int(max(y0, y1) + reach) + 2)):
            # Columns the stroke can touch in this row: a steep long segment stays cheap.
            lo, hi = min(x0, x1), max(x0, x1)
            if abs(dy) > 2 * reach:
                t0 = (y - reach - y0) / dy
                t1 = (y + reach - y0) / dy
                a, b = x0 + dx * min(max(t0, 0.0), 1.0), x0 + dx * min(max(t1, 0.0), 1.0)
                lo, hi = min(a, b), max(a, b)
            for x in range(max(0, int(lo - reach)), min(width, int(hi + reach) + 2)):
                t = 0.0
                if norm > 0:
                    t = min(max(((x - x0) * dx + (y - y0) * dy) / norm, 0.0), 1.0)
                ex, ey = x - x0 - t * dx, y - y0 - t * dy
                cover = half + 0.5 - np.sqrt(ex * ex + ey * ey)
                if cover > coverage[y, x]:
                    coverage[y, x] = min(cover, 1.0)


@compiled
def blend_ink(
    image: Image, coverage: Float32, ink: Float32, strength: np.floating[Any] | float
) -> None:
    """Blend an ink colour into (H, W, 3) uint8 in place where a (H, W) coverage map is positive."""
    height, width = coverage.shape
    for y in range(height):
        for x in range(width):
            a = coverage[y, x] * strength
            if a > 0:
                for c in range(3):
                    image[y, x, c] = np.uint8(image[y, x, c] * (1 - a) + ink[c] * a + 0.5)


def font_path(name: str = "DejaVuSans") -> Path:
    """Return a font file that matplotlib ships (DejaVu is what ECG-Image-Kit prints with)."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise InputError(
            'drawing pages needs the fonts that matplotlib ships: pip install "ecg-digitize[synth]"'
        ) from error
    return Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"


@lru_cache(maxsize=4096)
def text_coverage(text: str, size_px: int, font: str = "DejaVuSans") -> NDArray[np.float32]:
    """Return the (h, w) coverage of a text at a font size in px (em), ascender to descender."""
    from PIL import Image as PilImage
    from PIL import ImageDraw, ImageFont

    face = ImageFont.truetype(str(font_path(font)), size_px)
    left, _, right, _ = face.getbbox(text)
    ascent, descent = face.getmetrics()
    canvas = PilImage.new("L", (max(1, round(right - min(left, 0)) + 2), ascent + descent))
    ImageDraw.Draw(canvas).text((-min(left, 0), 0), text, fill=255, font=face)
    return np.asarray(canvas, np.float32) / np.float32(255)


def paste_coverage(coverage: Float32, patch: Float32, x_px: float, y_px: float) -> None:
    """Merge a patch into a coverage map, its top left corner at the nearest whole pixel."""
    x0, y0 = round(x_px), round(y_px)
    top, left = max(0, -y0), max(0, -x0)
    height = min(patch.shape[0], coverage.shape[0] - y0)
    width = min(patch.shape[1], coverage.shape[1] - x0)
    if height > top and width > left:
        target = coverage[y0 + top : y0 + height, x0 + left : x0 + width]
        np.maximum(target, patch[top:height, left:width], out=target)
