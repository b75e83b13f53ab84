"""Typefaces to print words in, and what scanning, filing and sending does to small prints."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import cv2
import matplotlib
import numpy as np
from matplotlib import font_manager
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from ecg_digitize.types import Float32, Image

Cover = Float32
"""(H, W) in [0, 1]: how much of a pixel the ink of a word covers."""

_MATH_FONTS: Final = ("cmex", "cmsy", "cmmi", "STIXSiz", "STIXNonUni", "LastResort", "Display")
_HERSHEY: Final = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_PLAIN,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX_SMALL,
)
_LETTERS_PX: Final = 96
"""Size at which the capitals of a font are measured."""


@lru_cache(maxsize=1)
def font_files() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files of matplotlib's own fonts and of the system's that have Latin letters."""
    own = Path(matplotlib.get_data_path()) / "fonts/ttf"
    ours = sorted(str(path) for path in own.glob("*.ttf") if not path.name.startswith(_MATH_FONTS))
    ours = [path for path in ours if not Path(path).stem.endswith(_MATH_FONTS)]
    found = sorted(font_manager.findSystemFonts())
    others = [path for path in found if "dejavu" not in path.lower() and _has_letters(path)]
    return tuple(path for path in ours if _has_letters(path)), tuple(others)


@dataclass(frozen=True)
class Font:
    """A typeface: a file, or one of OpenCV's stroke fonts and the thickness of its strokes."""

    path: str = ""
    hershey: int | None = None
    thickness: float = 0.1  # of a stroke, as a share of the height of capitals

    def mask(self, word: str, capitals_px: float) -> Cover:
        """Return a word's cover in [0, 1], cut to its ink, capitals so many px high."""
        if self.hershey is not None:
            return self._stroked(word, capitals_px)
        font = _loaded(self.path, max(4, round(capitals_px / _capitals(self.path))))
        left, top, right, bottom = font.getbbox(word)
        size = (max(1, round(right - left)), max(1, round(bottom - top)))
        picture = PILImage.new("L", size)
        ImageDraw.Draw(picture).text((-left, -top), word, fill=255, font=font)
        return _trimmed(np.asarray(picture, np.float32) / np.float32(255))

    def _stroked(self, word: str, capitals_px: float) -> Cover:
        assert self.hershey is not None
        (_, unit), _ = cv2.getTextSize("V", self.hershey, 1.0, 1)
        scale = capitals_px / unit
        thick = max(1, round(self.thickness * capitals_px))
        (width, height), low = cv2.getTextSize(word, self.hershey, scale, thick)
        edge = thick + 3
        canvas = np.zeros((height + low + 2 * edge, width + 2 * edge), np.uint8)
        at = (edge, edge + height)
        cv2.putText(canvas, word, at, self.hershey, scale, 255, thick, cv2.LINE_AA)
        return _trimmed(canvas.astype(np.float32) / np.float32(255))


def any_font(rng: np.random.Generator) -> Font:
    """Return a typeface, matplotlib's own as often as the system's."""
    ours, others = font_files()
    kind = rng.choice(3, p=[0.45, 0.4, 0.15] if others else [0.8, 0.0, 0.2])
    if kind == 2:
        return Font(hershey=int(rng.choice(_HERSHEY)), thickness=float(rng.uniform(0.08, 0.2)))
    return Font(path=str(rng.choice(others if kind else ours)))


@lru_cache(maxsize=4096)
def _loaded(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=1024)
def _capitals(path: str) -> float:
    """Return the height of capitals as a share of a font's size."""
    _, top, _, bottom = _loaded(path, _LETTERS_PX).getbbox("V")
    return max(0.2, (bottom - top) / _LETTERS_PX)


def _has_letters(path: str) -> bool:
    """Tell whether a font can be read and has the letters and digits of lead names."""
    if not path.lower().endswith((".ttf", ".otf")):
        return False
    try:
        font = _loaded(path, 32)
        shapes = [bytes(font.getmask(letter)) for letter in "IVaRLF16\uffff"]
    except (OSError, ValueError):
        return False
    return len(set(shapes)) == len(shapes)


def _trimmed(mask: Cover) -> Cover:
    rows, columns = np.flatnonzero(mask.max(axis=1) > 0.1), np.flatnonzero(mask.max(axis=0) > 0.1)
    if rows.size == 0:
        return np.zeros((1, 1), np.float32)
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def spaced(font: Font, word: str, capitals_px: float, gap: float) -> Cover:
    """Return a word with wide gaps between its letters, which stand on one line."""
    letters = [font.mask(letter, capitals_px) for letter in word]
    step = max(1, round(gap * capitals_px))
    height = max(letter.shape[0] for letter in letters)
    out = []
    for letter, sign in zip(letters, word, strict=True):
        below = height // 2 if sign in "-\u2013" else 0
        above = height - letter.shape[0] - below
        if above < 0:
            below, above = 0, height - letter.shape[0]
        out.append(np.pad(letter, ((above, below), (0, step))))
    return np.concatenate(out, axis=1)[:, :-step]


def turned(mask: Cover, stretch: float, degrees: float) -> Cover:
    """Stretch a mask sideways and turn it."""
    height, width = mask.shape
    wide = max(1, round(width * stretch))
    edge = int(abs(np.sin(np.deg2rad(degrees))) * max(wide, height)) + 1
    move = cv2.getRotationMatrix2D((wide / 2 + edge, height / 2 + edge), degrees, 1.0)
    full = np.vstack([move, [0, 0, 1]])
    full = full @ np.array([[wide / width, 0, edge], [0, 1, edge], [0, 0, 1.0]])
    size = (wide + 2 * edge, height + 2 * edge)
    return _trimmed(np.asarray(cv2.warpAffine(mask, full[:2], size), np.float32))


def spoiled(image: Image, rng: np.random.Generator, *, gently: bool) -> Image:
    """Blur, coarsen, light, add noise and compress; gently where letters are small."""
    height, width = image.shape[:2]
    if rng.random() < 0.3:
        coarse = rng.uniform(0.75 if gently else 0.58, 0.95)
        size = (round(width * coarse), round(height * coarse))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC))
    if rng.random() < 0.4:
        image = np.asarray(
            cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8 if gently else 1.2))
        )
    seen: Any = image.astype(np.float32)
    if rng.random() < 0.2:
        seen = np.repeat(seen.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.5:  # light, contrast
        small = rng.normal(0, 1, (3, 4)).astype(np.float32)
        light = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        gain = rng.uniform(0.55, 1.05) * (1 + light * rng.uniform(0, 0.15))
        seen = seen * gain[..., None] * (1 + rng.normal(0, 0.06, 3)) + rng.uniform(0, 35)
    if rng.random() < 0.4:
        grain = rng.standard_normal((height, width, 1 if rng.random() < 0.5 else 3), np.float32)
        seen = seen + grain * rng.uniform(1, 14)
    image = np.clip(seen, 0, 255).astype(np.uint8)
    if rng.random() < 0.04:
        dark = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) < rng.uniform(100, 150)
        image = np.repeat(np.where(dark, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))]
        _, packed = cv2.imencode(".jpg", image[..., ::-1], quality)
        unpacked: Any = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        image = unpacked[..., ::-1]
    return np.ascontiguousarray(image)
