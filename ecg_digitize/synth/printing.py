"""What a printer makes of a plotted page: fewer pixels, dots in place of tints, other colours.

Real phone photos and scans of prints show it at three times their size: the 1 mm lines are gone or
a mist of dots, upright lines are rows of dots, steep strokes are thinner and greyer than level
ones, and red ink is a dark brown. A laser printer has four inks and no tints. It turns every tint
into dots by comparing it with a screen, and it loses what is fainter than its first dot.
"""

from typing import Final, NamedTuple

import cv2
import numpy as np

from ecg_digitize.jit import compiled
from ecg_digitize.synth.chance import Chance
from ecg_digitize.types import Float32, Image


class PrinterOptions(NamedTuple):
    """Constants of the printer; each pair is a range to draw from.

    Attributes:
        px_per_mm: Of the raster that is printed on, about 300 dpi; finer dots than it holds are
            averaged by every camera.
        lines_per_mm: Of the screen: 85 to 150 lines an inch.
        hardness: How sharply a dot ends, in tints: 2 is nearly a tint, 12 nearly a threshold.
        faintest: Tints below this are lost, and those above begin there.
        choke: How much of a pixel upright edges of black lose.
        gain_px: Blur of the ink in the paper.
        black: What black ink leaves of the light.
    """

    px_per_mm: float = 11.811
    lines_per_mm: tuple[float, float] = (3.3, 6.0)
    hardness: tuple[float, float] = (1.5, 12.0)
    faintest: tuple[float, float] = (0.0, 0.35)
    choke: tuple[float, float] = (0.0, 0.9)
    gain_px: tuple[float, float] = (0.2, 0.9)
    black: tuple[float, float] = (0.08, 0.32)


DEFAULTS: Final = PrinterOptions()

_INKS: Final = np.array([[0.18, 0.55, 0.78], [0.66, 0.16, 0.32], [0.94, 0.86, 0.22]], np.float32)
"""What cyan, magenta and yellow leave of red, green and blue light: common laser toners."""
_ANGLES_DEG: Final = (15.0, 75.0, 0.0, 45.0)
"""Of the screens of cyan, magenta, yellow and black, the usual ones."""


@compiled
def _print(image: Image, screens: Float32, inks: Float32, hardness: float, faintest: float) -> None:
    """Print in place on (H, W, 3) uint8.

    Args:
        image: (H, W, 3) uint8.
        screens: (4, 4) float32, a row an ink: period_px, cosine and sine of the angle, phase.
        inks: (4, 3) float32, what each ink leaves of the light.
        hardness: See PrinterOptions.
        faintest: See PrinterOptions.
    """
    height, width = image.shape[:2]
    tint = np.empty(4, np.float32)
    for y in range(height):
        for x in range(width):
            red, green, blue = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            lightest = max(red, green, blue)
            if min(red, green, blue) == 255:
                continue
            tint[3] = (255 - lightest) / np.float32(255)
            for c in range(3):
                tint[c] = (lightest - image[y, x, c]) / np.float32(255)
            left_r = left_g = left_b = np.float32(255)
            for ink in range(4):
                value = (tint[ink] - faintest) / (1 - faintest)
                if value <= 0:
                    continue
                if value < 1:
                    period, cosine, sine, phase = screens[ink]
                    u = (x * cosine + y * sine) / period + phase
                    v = (y * cosine - x * sine) / period + phase
                    # A dot's threshold at this place, 0 to 1: round dots that join in the middle.
                    screen = 0.5 - 0.25 * (np.cos(6.2832 * u) + np.cos(6.2832 * v))
                    value = min(max((value - screen) * hardness + 0.5, 0.0), 1.0)
                left_r *= 1 - value * (1 - inks[ink, 0])
                left_g *= 1 - value * (1 - inks[ink, 1])
                left_b *= 1 - value * (1 - inks[ink, 2])
            image[y, x, 0] = np.uint8(left_r)
            image[y, x, 1] = np.uint8(left_g)
            image[y, x, 2] = np.uint8(left_b)


def printed(
    image: Image, chance: Chance, *, px_per_mm: float, options: PrinterOptions = DEFAULTS
) -> tuple[Image, float]:
    """Print a page.

    Args:
        image: (H, W, 3) uint8, as plotted.
        chance: What the printer is drawn from.
        px_per_mm: Of the picture.
        options: Constants.

    Returns:
        (H', W', 3) uint8, the same page on the printer's raster, and that raster's px/mm.
    """
    rng = chance.rng
    scale = max(1.0, options.px_per_mm / px_per_mm)
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    way = cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_CUBIC
    # Not by cv2.resize, which rounds the scale to whole pixels of the page; nor by the nearest
    # pixel, which moves a page by half of one.
    finer = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]])
    big = cv2.warpAffine(image, finer, size, flags=way, borderMode=cv2.BORDER_REPLICATE)
    choke = chance.strength(*options.choke)
    if rng.random() < 0.7:
        lighter = cv2.dilate(big, np.ones((1, 3), np.uint8))
        big = cv2.addWeighted(big, 1 - choke, lighter, choke, 0)
    period_px = options.px_per_mm / rng.uniform(*options.lines_per_mm)
    turns = np.deg2rad(np.array(_ANGLES_DEG) + rng.uniform(0, 90))
    screens = np.stack(
        [np.full(4, period_px), np.cos(turns), np.sin(turns), rng.uniform(0, 1, 4)], axis=1
    )
    black = np.full((1, 3), rng.uniform(*options.black))
    inks = np.concatenate([_INKS, black]).astype(np.float32)
    page: Image = np.ascontiguousarray(big, np.uint8)
    hardness = chance.strength(*options.hardness)
    _print(page, screens.astype(np.float32), inks, hardness, chance.strength(*options.faintest))
    gain_px = rng.uniform(*options.gain_px)
    return np.asarray(cv2.GaussianBlur(page, (0, 0), gain_px), np.uint8), px_per_mm * scale
