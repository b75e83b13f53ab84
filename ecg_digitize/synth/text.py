"""Lines of print as sheets have them: speeds, gains, filters and whatever else is told there."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import cv2
import numpy as np

from ecg_digitize.synth.fonts import Cover, any_font, spoiled, turned
from ecg_digitize.synth.words import OTHER_WORDS, nonsense
from ecg_digitize.types import Image

_SPEEDS: Final = ("25", "50", "12.5", "25.0", "50.0", "10", "100", "5", "25,0", "12,5")
_GAINS: Final = ("10", "5", "20", "2.5", "10.0", "5.0", "20.0", "40", "7.5", "2,5", "10,0")
_SPEED_UNITS: Final = ("mm/s", "mm/s", "mm/s", "mm/s", "mm/sec", "mm/Sec", "mm/s.")
_GAIN_UNITS: Final = ("mm/mV", "mm/mV", "mm/mV", "mm/mV", "mm/mv", "mm/MV", "mm/mV.")
_BEFORE_SPEED: Final = (
    "", "", "", "", "Speed: ", "Speed ", "Speed:", "Vel: ", "Paper speed ", "Papier: ", "Vitesse ",
    "Sweep: ", "Time: ",
)  # fmt: skip
_BEFORE_GAIN: Final = (
    "", "", "", "", "Limb: ", "Limb ", "Chest: ", "Chest ", "Voltage: ", "Gain: ", "Gain ", "Amp: ",
    "L: ", "C: ", "Limb:", "Ampl.", "Sens ", "Precordial ", "Extremity ", "Periph. ",
)  # fmt: skip
_BESIDE: Final = (
    "0.05-40 Hz", "0.05-150 Hz", "F 50~ 0.15-100 Hz", "50 Hz", "40Hz", "12SL v241", "W 100 09817",
    "CAL", "time: s", "amplitude: mV", "calibration: 1 mV / 0.2 s", "Freq: 500 Hz",
    "Filter: 0.05-150 Hz", "AC 60", "SSF on", "BDR", "60~", "~", "Device:",
    "sample freq.: 500.0 Hz", "total time: 10.0 s", "50Hz", "0.01-20Hz", "ADS", "Page 1", "1mV",
    "10 s", "II", "HF 35", "LP 40 Hz", "MAC55 010A",
)  # fmt: skip
_BETWEEN: Final = (" ", "  ", "   ", "     ", ", ", "; ", " - ", " \u00b7 ", " | ", "/")


class TextOptions(NamedTuple):
    """What lines are like. Pairs are limits of a uniform draw."""

    capitals_px: tuple[float, float] = (6.0, 20.0)  # height of capitals as the picture has them
    told: float = 0.7  # share of lines that tell a speed or a gain
    most_letters: int = 60
    touched: float = 0.1  # share of lines with a stroke across or beside them


DEFAULTS: Final = TextOptions()


@dataclass(frozen=True)
class TextLine:
    """A line cut out of a picture."""

    image: Image  # (H, W, 3) uint8 RGB, as tight around its ink as a box is found
    text: str


def some_text(rng: np.random.Generator, *, options: TextOptions = DEFAULTS) -> str:
    """Return what a line says."""
    if rng.random() > options.told:
        words = [
            str(rng.choice(OTHER_WORDS)) if rng.random() < 0.6 else nonsense(rng)
            for _ in range(rng.integers(1, 5))
        ]
        return " ".join(words)[: options.most_letters].strip()
    between = str(rng.choice(_BETWEEN))
    parts = []
    if rng.random() < 0.75:
        parts.append(_told(rng, _BEFORE_SPEED, _SPEEDS, _SPEED_UNITS))
    for _ in range(rng.choice(3, p=(0.25, 0.6, 0.15))):
        parts.append(_told(rng, _BEFORE_GAIN, _GAINS, _GAIN_UNITS))
    for _ in range(rng.choice(4, p=(0.4, 0.35, 0.15, 0.1))):
        parts.insert(int(rng.integers(len(parts) + 1)), str(rng.choice(_BESIDE)))
    if rng.random() < 0.3:
        parts = [parts[index] for index in rng.permutation(len(parts))]
    line = between.join(parts) or "25 mm/s"
    return line[: options.most_letters].strip()


def _told(
    rng: np.random.Generator,
    before: tuple[str, ...],
    values: tuple[str, ...],
    units: tuple[str, ...],
) -> str:
    usual = rng.random() < 0.6
    value = str(values[int(rng.integers(3 if usual else len(values)))])
    if not usual and rng.random() < 0.3:
        value = str(rng.integers(1, 100))
    gap = " " if rng.random() < 0.55 else ""
    return str(rng.choice(before)) + value + gap + str(rng.choice(units))


def draw_line(rng: np.random.Generator, *, options: TextOptions = DEFAULTS) -> TextLine:
    """Draw a line of text on paper and cut it out again."""
    text = some_text(rng, options=options)
    low, high = np.log(options.capitals_px)
    capitals_px = float(np.exp(rng.uniform(low, high)))
    printed_px = capitals_px * float(np.exp(rng.uniform(np.log(0.9), np.log(2.2))))
    cover = any_font(rng).mask(text, printed_px)
    if rng.random() < 0.4:
        cover = turned(cover, rng.uniform(0.8, 1.25), rng.normal(0, 0.35))
    size_px = [max(4, round(n * capitals_px / printed_px)) for n in cover.shape[::-1]]
    cover = np.asarray(cv2.resize(cover, size_px, interpolation=cv2.INTER_AREA), np.float32)
    edge = max(3, round(0.6 * capitals_px))
    cover = np.pad(cover, edge)
    image = _on_paper(rng, cover, capitals_px, options)
    if rng.random() < 0.8:
        image = spoiled(image, rng, gently=capitals_px < 10)
    # Boxes are found to a pixel or two, and rather too large: specks and lines touch them.
    slack = rng.uniform(-0.02, 0.3, 4) * capitals_px + rng.uniform(0, 1.5, 4)
    left, top, right, bottom = (round(edge - min(float(one), edge - 1.0)) for one in slack)
    height, width = image.shape[:2]
    cut = image[max(top, 0) : height - max(bottom, 0), max(left, 0) : width - max(right, 0)]
    return TextLine(np.ascontiguousarray(cut), text)


def _on_paper(
    rng: np.random.Generator, cover: Cover, capitals_px: float, options: TextOptions
) -> Image:
    height, width = cover.shape
    paper = np.array([255.0, 250.0, 245.0]) - rng.uniform(0, 40) - rng.uniform(0, 12, 3)
    image = np.broadcast_to(paper, (height, width, 3)).astype(np.float32)
    if rng.random() < 0.55:  # lines of the grid, every millimetre or five
        mm_px = capitals_px / rng.uniform(1.2, 4.0)
        ink = np.array([rng.uniform(60, 250), rng.uniform(60, 200), rng.uniform(60, 200)])
        for every, strength in ((1.0, rng.uniform(0, 0.4)), (5.0, rng.uniform(0.1, 0.6))):
            for axis, n in ((1, width), (0, height)):
                at = np.arange(rng.uniform(0, every) * mm_px, n, every * mm_px).astype(np.int64)
                lines = np.take(image, at, axis=axis)
                mixed = lines + (ink - lines) * strength
                if axis:
                    image[:, at] = mixed
                else:
                    image[at] = mixed
    black: Any = np.array([0.0, 0.0, 0.0]) + rng.uniform(0, 90)
    if rng.random() < 0.15:
        black = np.array([rng.uniform(0, 120), rng.uniform(0, 100), rng.uniform(60, 200)])
    image = image + (black - image) * (cover * rng.uniform(0.7, 1.0))[..., None]
    if rng.random() < options.touched:
        start = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        end = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        colour = [float(one) for one in np.broadcast_to(black, 3)]
        image = np.ascontiguousarray(image, np.float32)
        cv2.line(image, start, end, colour, 1, cv2.LINE_AA)
    return np.ascontiguousarray(np.clip(image, 0, 255), np.uint8)
