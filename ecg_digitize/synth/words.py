"""Patches of ECG paper with printed lead names, for the network that reads them.

Nothing here knows a layout: names stand anywhere, among traces, bars, pulses and other text. All
lengths are mm of paper until they are drawn. Positions in a patch are px, x to the right.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import cv2
import numpy as np

from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import LEADS
from ecg_digitize.synth.fonts import Cover, Font, any_font, spaced, spoiled, turned
from ecg_digitize.types import Float32, Float64, Image

PX_PER_MM: Final = 5.0
"""Of every patch; `sheet.names` sets the same for the pictures it reads."""

_SPELLINGS: Final = {
    "aVR": ("aVR", "aVR", "aVR", "aVR", "AVR", "avR", "aVr"),
    "aVL": ("aVL", "aVL", "aVL", "aVL", "AVL", "avL", "aVl"),
    "aVF": ("aVF", "aVF", "aVF", "aVF", "AVF", "avF", "aVf"),
}
OTHER_WORDS: Final = (
    "25 mm/s", "25mm/sec", "10 mm/mV", "10mm/mV", "0.05-150 Hz", "0.5-40Hz", "40 Hz", "1mV",
    "1 mV", "mV", "s", "Hz", "Freq: 500 Hz", "Hz", "PMX-966", "IIR", "Hill", "HIS", "Hg",
     "ID", "ID:", "Id", "HR 72", "72 bpm", "Vent. rate", "PR interval", "QRS",
    "QT/QTc", "P-R-T axes", "ms", "Name:", "Male", "Female", "Age 54", "Date:", "Sex: M", "SpO2",
    "Doe, Kim", "MILLER, ILONA", "Patient", "Hospital", "Sinus rhythm", "Normal ECG", "LVH",
    "Abnormal ECG", "Unconfirmed", "Page 1", "1/2", "Filter: 0.05..150Hz", "Speed: 25 mm/s",
    "Limb: 10 mm/mV", "Chest: 10", "F", "M", "V", "VF", "VL", "AV", "aV", "R", "L", "a", "A", "1",
    "2", "3", "0", "2.5", "5", "7.5", "10", "12SL", "v241", "Tech:", "Room:", "Loc: 3", "ECG",
    "Time [s]", "Report", "Axis", "P", "T", "RR", "IV", "VT", "V7", "Vent", "Index", "Illness",
    "Initials", "LAFB", "RBBB", "AVB", "Lead", "Leads", "50 Hz", "MAC55", "CAL", "HP708", "ST", "J",
    "Pat. ID: 18", "Interval", "Infarct", "VPB", "ALT", "Vl", "l", "H", "N", "E", "T", "Y", "X",
)  # fmt: skip
"""What else is printed on sheets."""


class WordOptions(NamedTuple):
    """What patches are like. Pairs are limits of a uniform draw."""

    size_px: tuple[int, int] = (288, 160)  # width, height
    names: tuple[int, int] = (1, 7)
    other_words: tuple[int, int] = (0, 6)
    letters_mm: tuple[float, float] = (1.5, 6.0)  # height of capitals
    canvas_px_per_mm: tuple[float, float] = (3.2, 10.0)  # at which the printer draws
    plain: float = 0.3  # share of patches that nothing befalls


DEFAULTS: Final = WordOptions()


@dataclass(frozen=True)
class PrintedName:
    """A lead name that a patch shows."""

    lead: str  # one of LEADS
    xy_px: tuple[float, float]  # centre of the word
    size_px: tuple[float, float]  # width and height of its ink
    sign: int = 1  # -1 if printed with a minus sign


@dataclass(frozen=True)
class Patch:
    """A piece of a sheet at PX_PER_MM."""

    image: Image  # (H, W, 3) uint8 RGB
    names: tuple[PrintedName, ...]


def draw_patch(
    rng: np.random.Generator, records_mv: Sequence[Float32], *, options: WordOptions = DEFAULTS
) -> Patch:
    """Draw a piece of a sheet.

    Args:
        rng: Source of all randomness.
        records_mv: Twelve-lead records the traces are taken from, (12, n) mV at 500 Hz.
        options: What it is like.
    """
    return _Drawer(rng, records_mv, options).draw()


class _Drawer:
    """A canvas at the printer's resolution, and what has been put on it."""

    def __init__(
        self, rng: np.random.Generator, records_mv: Sequence[Float32], options: WordOptions
    ) -> None:
        self.rng, self.records_mv, self.options = rng, records_mv, options
        low, high = np.log(options.canvas_px_per_mm)
        self.scale = float(np.exp(rng.uniform(low, high)))  # canvas px a mm
        width, height = options.size_px
        self.width = round(width / PX_PER_MM * self.scale)
        self.height = round(height / PX_PER_MM * self.scale)
        self.taken: list[tuple[float, float, float, float]] = []  # boxes of words, canvas px
        self.names: list[tuple[str, int, tuple[float, float, float, float]]] = []
        self.bitmap = rng.random() < 0.1  # a printer that knows no grey

    def draw(self) -> Patch:
        rng = self.rng
        self.canvas = self._paper()
        self.lines = np.zeros(self.canvas.shape[:2], np.uint8)  # 1 where a stroke is
        self.ink = self._ink()
        self.size_mm = self._letters_mm()
        self.font = any_font(rng)
        steps: list[Callable[[], None]] = [self._words]
        steps += [self._traces] * (rng.random() < 0.8)
        steps += [self._marks] * (rng.random() < 0.7)
        steps += [self._text_block] * (rng.random() < 0.4)
        order = [steps[index] for index in rng.permutation(len(steps))]
        if rng.random() < 0.6:  # the names are last, and keep clear of the rest
            order.sort(key=lambda step: step == self._words)
        self.clear = rng.random() < 0.75
        for step in order:
            step()
        return self._seen()

    # --- paper --------------------------------------------------------------------------------

    def _paper(self) -> Image:
        rng = self.rng
        papers = ((255, 255, 255), (252, 248, 236), (253, 232, 230), (225, 225, 222),
                  (255, 240, 225), (240, 246, 240))  # fmt: skip
        paper = np.array(papers[rng.choice(6, p=[0.45, 0.13, 0.15, 0.12, 0.1, 0.05])], np.float32)
        paper = np.clip(paper + rng.normal(0, 3, 3), 0, 255)
        canvas = np.broadcast_to(paper, (self.height, self.width, 3)).astype(np.float32)
        kind = rng.choice(4, p=[0.14, 0.66, 0.1, 0.1])
        if kind == 0:
            return np.ascontiguousarray(canvas, np.uint8)
        inks = ((230, 60, 60), (240, 150, 60), (80, 110, 220), (70, 170, 90), (120, 120, 120),
                (20, 20, 20), (255, 120, 140), (200, 60, 40), (235, 170, 140))  # fmt: skip
        ink = np.array(inks[rng.choice(9, p=[0.2, 0.14, 0.08, 0.1, 0.1, 0.04, 0.12, 0.12, 0.1])])
        ink = np.clip(ink + rng.normal(0, 15, 3), 0, 255).astype(np.float32)
        strength = rng.uniform(0.12, 1.0)
        fine = 0.0 if kind == 3 else strength * rng.uniform(0.2, 0.9)
        phase_mm, wide_mm = rng.uniform(0, 5, 2), rng.uniform(0.1, 0.45)
        thin_mm = wide_mm * rng.uniform(0.4, 1.0)
        axes = []
        for n, phase in ((self.width, phase_mm[0]), (self.height, phase_mm[1])):
            at_mm = np.arange(n) / self.scale + phase
            axes.append((self._lines(at_mm, 1.0, thin_mm), self._lines(at_mm, 5.0, wide_mm)))
        (x1, x5), (y1, y5) = axes
        if kind == 2:  # dots
            small = np.minimum(y1[:, None], x1[None, :]) * min(1.0, fine + 0.3)
        else:
            small = np.maximum(y1[:, None], x1[None, :]) * fine
        large = np.maximum(y5[:, None], x5[None, :]) * strength
        if rng.random() < 0.06:  # dashed lines
            dashes = (
                np.arange(self.height)[:, None] + np.arange(self.width)
            ) / self.scale % 1 < 0.6
            large = large * dashes
        cover = np.maximum(small, large)[..., None]
        gridded = canvas + (ink - canvas) * cover
        if rng.random() < 0.2:  # the grid ends within the patch
            self._cut(gridded, canvas)
        return np.ascontiguousarray(gridded, np.uint8)

    def _lines(self, at_mm: Float64, pitch_mm: float, wide_mm: float) -> Float64:
        off_px = np.abs((at_mm + pitch_mm / 2) % pitch_mm - pitch_mm / 2) * self.scale
        wide_px = wide_mm * self.scale
        if self.rng.random() < 0.4:  # whole pixels
            return (off_px < max(0.5, wide_px / 2)).astype(np.float64)
        cover = np.clip(wide_px / 2 + 0.5 - off_px, 0, 1)
        limited: Float64 = np.minimum(cover, min(1.0, wide_px))
        return limited

    def _cut(self, gridded: Float32, canvas: Float32) -> None:
        rng, framed = self.rng, self.rng.random() < 0.5
        if rng.random() < 0.5:
            at = int(rng.uniform(0.1, 0.9) * self.height)
            outside = slice(None, at) if rng.random() < 0.5 else slice(at, None)
            gridded[outside] = canvas[outside]
            if framed:
                gridded[at : at + max(1, round(0.3 * self.scale))] = 20
        else:
            at = int(rng.uniform(0.1, 0.9) * self.width)
            outside = slice(None, at) if rng.random() < 0.5 else slice(at, None)
            gridded[:, outside] = canvas[:, outside]
            if framed:
                gridded[:, at : at + max(1, round(0.3 * self.scale))] = 20

    # --- ink ----------------------------------------------------------------------------------

    def _ink(self) -> tuple[int, int, int]:
        rng = self.rng
        inks = ((0, 0, 0), (40, 40, 45), (85, 85, 85), (20, 20, 140), (40, 40, 210), (170, 30, 30))
        red, green, blue = inks[rng.choice(6, p=[0.55, 0.18, 0.08, 0.08, 0.06, 0.05])]
        return red, green, blue

    def _letters_mm(self) -> float:
        low, high = self.options.letters_mm
        return float(np.clip(self.rng.lognormal(np.log(2.7), 0.33), low, high))

    def _stamp(self, mask: Cover, x: float, y: float, ink: Sequence[int], weight: float) -> None:
        """Blend a mask into the canvas, its upper left corner at (x, y) canvas px."""
        x0, y0 = int(np.floor(x)), int(np.floor(y))
        shifted = np.pad(mask, ((0, 1), (0, 1)))
        if not self.bitmap:
            move = np.array([[1, 0, x - x0], [0, 1, y - y0]], np.float32)
            size = (shifted.shape[1], shifted.shape[0])
            shifted = np.asarray(cv2.warpAffine(shifted, move, size), np.float32)
        left, top = max(0, -x0), max(0, -y0)
        part = shifted[top : max(0, self.height - y0), left : max(0, self.width - x0)]
        if part.size == 0:
            return
        ys = slice(y0 + top, y0 + top + part.shape[0])
        xs = slice(x0 + left, x0 + left + part.shape[1])
        cover = (part * weight)[..., None]
        area = self.canvas[ys, xs].astype(np.float32)
        self.canvas[ys, xs] = area + (np.array(ink, np.float32) - area) * cover

    def _strokes(
        self, points_mm: Float64, wide_mm: float, ink: Sequence[int], *, closed: bool = False
    ) -> None:
        """Draw a line through (n, 2) points, mm from the canvas's corner."""
        fixed = np.rint(points_mm * self.scale * 16).astype(np.int32)[None]
        thick = max(1, round(wide_mm * self.scale + self.rng.uniform(-0.3, 0.3)))
        kind = cv2.LINE_8 if self.bitmap else cv2.LINE_AA
        color = [int(value) for value in ink]
        cv2.polylines(self.canvas, list(fixed), closed, color, thick, kind, 4)
        cv2.polylines(self.lines, list(fixed), closed, 1, thick, cv2.LINE_8, 4)

    # --- words --------------------------------------------------------------------------------

    def _words(self) -> None:
        rng, options = self.rng, self.options
        jobs = [True] * int(rng.integers(options.names[0], options.names[1] + 1))
        if rng.random() < 0.12:
            jobs = []  # a patch without names teaches what is none
        jobs += [False] * int(rng.integers(options.other_words[0], options.other_words[1] + 1))
        one_ink = rng.random() < 0.7
        one_font = rng.random() < 0.5
        for is_name in jobs:
            font = self.font if one_font else any_font(rng)
            size_mm = self.size_mm * rng.uniform(0.9, 1.1) if one_font else self._letters_mm()
            ink = self.ink if one_ink else self._ink()
            if is_name:
                self._name(font, size_mm, ink)
            else:
                word = str(rng.choice(OTHER_WORDS)) if rng.random() < 0.65 else nonsense(rng)
                mask = self._mask(word, font, min(size_mm, 4.0))
                self._place(mask, ink, may_leave=True)

    def _name(self, font: Font, size_mm: float, ink: tuple[int, int, int]) -> None:
        rng = self.rng
        weights = np.array([1.5, 1.5, 1.5, 1.3, 1, 1, 1, 1, 1, 1, 1, 1])
        lead = str(rng.choice(LEADS, p=weights / weights.sum()))
        word = str(rng.choice(_SPELLINGS.get(lead, (lead,))))
        sign = 1
        if lead == "aVR" and rng.random() < 0.35:
            sign = -1
            minus = "-" if font.hershey is not None else str(rng.choice(("-", "-", "\u2013", "- ")))
            word = minus + word
        if lead[0] == "V" and rng.random() < 0.04:
            word = word.lower()
        mask = self._mask(word, font, size_mm, low_digit=lead[0] == "V" and rng.random() < 0.15)
        box = self._place(mask, ink)
        if box is None:
            return
        self.names.append((lead, sign, box))
        x, y, width, height = box
        if rng.random() < 0.06:  # a colon, a dot
            dot = self._mask(":" if rng.random() < 0.7 else ".", font, size_mm)
            self._stamp(dot, x + width + 0.3 * self.scale, y + height - dot.shape[0], ink, 1.0)
        if rng.random() < 0.05:
            lead_in = self._mask("Lead" if rng.random() < 0.6 else "Strip:", font, size_mm)
            gap = (0.4 * size_mm + 0.6) * self.scale
            at = x - gap - lead_in.shape[1]
            self._stamp(lead_in, at, y + height - lead_in.shape[0], ink, 1.0)
        if rng.random() < 0.2:  # the bar between two leads
            side = -1 if rng.random() < 0.8 else 1
            off_mm = rng.uniform(1.0, 4.0)
            at_mm = (x / self.scale - off_mm) if side < 0 else (x + width) / self.scale + off_mm
            middle_mm = (y + height / 2) / self.scale + rng.normal(0, 1.0)
            half_mm = max(rng.uniform(0.6, 2.5) * size_mm, 1.5) / 2 + 0.3
            self._bar(at_mm, middle_mm - half_mm, middle_mm + half_mm)

    def _mask(self, word: str, font: Font, size_mm: float, *, low_digit: bool = False) -> Cover:
        """Return a word's cover in [0, 1], cut to its ink, stretched and turned."""
        rng = self.rng
        if low_digit:
            first, digit = font.mask(word[0], size_mm * self.scale), word[1:]
            second = font.mask(digit, size_mm * self.scale * rng.uniform(0.55, 0.8))
            drop = int(first.shape[0] * rng.uniform(0.0, 0.3))
            gap = int(rng.integers(0, 2))
            foot = max(first.shape[0] + drop, second.shape[0])
            mask = np.zeros((foot, first.shape[1] + gap + second.shape[1]), np.float32)
            mask[foot - drop - first.shape[0] : foot - drop, : first.shape[1]] = first
            mask[foot - second.shape[0] :, first.shape[1] + gap :] = second
        elif len(word) in (2, 3, 4) and " " not in word and rng.random() < 0.15:
            mask = spaced(font, word, size_mm * self.scale, rng.uniform(0.1, 0.35))
        else:
            mask = font.mask(word, size_mm * self.scale)
        stretch = rng.uniform(0.75, 1.35) if rng.random() < 0.5 else 1.0
        turn = rng.normal(0, 1.5) if rng.random() < 0.3 else 0.0
        if stretch != 1.0 or turn:
            mask = turned(mask, stretch, turn)
        if self.bitmap:
            mask = (mask > 0.45).astype(np.float32)
        return mask

    def _place(
        self, mask: Cover, ink: Sequence[int], *, may_leave: bool = False
    ) -> tuple[float, float, float, float] | None:
        """Stamp a word where none is yet; returns its box (x, y, width, height) in canvas px."""
        rng = self.rng
        height, width = mask.shape
        gap = 1.2 * self.scale
        out = width / 2 if may_leave else -1.0
        if self.width + 2 * out <= width + 2 or self.height <= height + 2:
            return None
        clear = self.clear and not may_leave
        for _ in range(16):
            x = float(rng.uniform(-out, self.width - width + out))
            y = float(rng.uniform(1, self.height - height - 1))
            if all(
                x + width + gap < left or left + w + gap < x
                or y + height + gap < top or top + h + gap < y
                for left, top, w, h in self.taken
            ) and not (clear and self._lined(x, y, width, height)):  # fmt: skip
                break
        else:
            return None
        if rng.random() < 0.06:  # on a white field
            edge = int(rng.uniform(0.2, 0.8) * self.scale)
            top, left = max(0, int(y) - edge), max(0, int(x) - edge)
            self.canvas[top : int(y) + height + edge, left : int(x) + width + edge] = 255
        self._stamp(mask, x, y, ink, float(rng.uniform(0.75, 1.0)))
        box = (x, y, float(width), float(height))
        self.taken.append(box)
        return box

    def _lined(self, x: float, y: float, width: int, height: int) -> bool:
        edge = int(0.4 * self.scale)
        top, left = max(0, int(y) - edge), max(0, int(x) - edge)
        return bool(self.lines[top : int(y) + height + edge, left : int(x) + width + edge].any())

    def _text_block(self) -> None:
        """Print some lines of text."""
        rng = self.rng
        font, size_mm = any_font(rng), float(rng.uniform(1.3, 2.6))
        lines = int(rng.integers(2, 6))
        x = float(rng.uniform(-0.1, 0.6) * self.width)
        y = float(rng.uniform(-0.1, 0.7) * self.height)
        ink = self._ink()
        for _ in range(lines):
            words = [
                str(rng.choice(OTHER_WORDS)) if rng.random() < 0.5 else nonsense(rng)
                for _ in range(rng.integers(1, 6))
            ]
            mask = font.mask(" ".join(words), size_mm * self.scale)
            box = (x, y, float(mask.shape[1]), float(mask.shape[0]))
            gap = 0.8 * self.scale
            free = all(
                x + box[2] + gap < left or left + w + gap < x
                or y + box[3] + gap < top or top + h + gap < y
                for left, top, w, h in self.taken
            )  # fmt: skip
            if free:
                self._stamp(mask, x, y, ink, 1.0)
                self.taken.append(box)
            y += size_mm * 1.7 * self.scale

    # --- traces and what looks like letters -----------------------------------------------------

    def _traces(self) -> None:
        rng = self.rng
        width_mm, height_mm = self.width / self.scale, self.height / self.scale
        mm_per_s = float(rng.choice((25.0, 25.0, 25.0, 50.0)))
        mm_per_mv = float(rng.choice((10.0, 10.0, 10.0, 5.0, 20.0)))
        wide_mm = float(rng.uniform(0.12, 0.55))
        ink = self.ink if rng.random() < 0.6 else self._ink()
        pitch_mm = rng.uniform(6, 26)
        zero_mm = rng.uniform(0, pitch_mm)
        # A lead begins, and another ends, somewhere in many patches.
        start_mm = rng.uniform(-0.2, 0.8) * width_mm if rng.random() < 0.6 else -1.0
        pulse, joins = rng.random() < 0.4, rng.random() < 0.5
        pulse_mm = float(rng.choice((5.0, 5.0, 2.5, 10.0)))
        change_mm = start_mm + rng.uniform(8, 50) if rng.random() < 0.65 else np.inf
        while zero_mm < height_mm + 5:
            self._trace(start_mm, change_mm, zero_mm, mm_per_s, mm_per_mv, wide_mm, ink)
            if pulse and start_mm > 2:
                gap_mm = 0.0 if joins else rng.uniform(0.5, 2.0)
                foot_mm = rng.uniform(0.5, 2.5)
                xs = np.cumsum([0, foot_mm, 0, pulse_mm, 0, foot_mm]) + start_mm - gap_mm
                xs -= pulse_mm + 2 * foot_mm
                ys = zero_mm - np.array([0, 0, 1, 1, 0, 0]) * mm_per_mv
                self._strokes(np.stack([xs, ys], axis=1), wide_mm, ink)
            if np.isfinite(change_mm) and rng.random() < 0.7:
                self._change(change_mm, zero_mm, wide_mm, ink)
            zero_mm += pitch_mm

    def _trace(
        self, start_mm: float, change_mm: float, zero_mm: float, mm_per_s: float,
        mm_per_mv: float, wide_mm: float, ink: Sequence[int],
    ) -> None:  # fmt: skip
        rng = self.rng
        width_mm = self.width / self.scale
        small = rng.uniform(0.15, 0.6) if rng.random() < 0.45 else 1.0
        cuts = [start_mm, min(change_mm, width_mm + 1), width_mm + 1]
        for left_mm, right_mm in itertools.pairwise(cuts):
            count = int((right_mm - left_mm) / mm_per_s * TRACE_FS_HZ)
            if count < 10:
                continue
            record = self.records_mv[int(rng.integers(len(self.records_mv)))]
            lead_mv = record[int(rng.integers(12))]
            first = int(rng.integers(max(1, lead_mv.size - count)))
            signal = lead_mv[first : first + count : 2] * small * rng.uniform(0.6, 1.4)
            x_mm = left_mm + np.arange(signal.size) * 2 / TRACE_FS_HZ * mm_per_s
            y_mm = zero_mm - signal * mm_per_mv
            self._strokes(np.stack([x_mm, y_mm], axis=1), wide_mm, ink)

    def _change(self, x_mm: float, zero_mm: float, wide_mm: float, ink: Sequence[int]) -> None:
        """Mark where one lead follows another, as machines do."""
        rng = self.rng
        half_mm = float(rng.uniform(1.0, 6.0))
        kind = int(rng.choice(3, p=(0.25, 0.55, 0.2)))
        thick_mm = wide_mm * rng.uniform(0.8, 2.5)
        if kind == 0:  # across the trace
            self._upright(x_mm, zero_mm - half_mm, zero_mm + half_mm, thick_mm, ink)
        elif kind == 1:  # above and below it
            gap_mm = rng.uniform(0.5, 4.5)
            self._upright(x_mm, zero_mm - gap_mm - half_mm, zero_mm - gap_mm, thick_mm, ink)
            self._upright(x_mm, zero_mm + gap_mm, zero_mm + gap_mm + half_mm, thick_mm, ink)
        else:  # two small strokes
            self._upright(x_mm, zero_mm - half_mm, zero_mm + half_mm, thick_mm, ink)
            x_mm += rng.uniform(0.5, 1.5)
            self._upright(x_mm, zero_mm - half_mm, zero_mm + half_mm, thick_mm, ink)

    def _upright(
        self, x_mm: float, top_mm: float, bottom_mm: float, thick_mm: float, ink: Sequence[int]
    ) -> None:
        self._strokes(np.array([[x_mm, top_mm], [x_mm, bottom_mm]]), thick_mm, ink)

    def _bar(self, x_mm: float, top_mm: float, bottom_mm: float) -> None:
        thick_mm = self.rng.uniform(0.15, 0.5)
        self._upright(x_mm, top_mm, bottom_mm, thick_mm, self.ink)

    def _marks(self) -> None:
        """Draw strokes that are no letters: too tall, too thin, too far apart, or on a line."""
        rng = self.rng
        width_mm, height_mm = self.width / self.scale, self.height / self.scale
        for _ in range(int(rng.integers(1, 5))):
            x_mm, y_mm = rng.uniform(0, width_mm), rng.uniform(0, height_mm)
            ink = self.ink if rng.random() < 0.7 else self._ink()
            kind = int(rng.choice(7, p=(0.13, 0.32, 0.1, 0.08, 0.08, 0.14, 0.15)))
            thick_mm = float(rng.uniform(0.12, 0.4))
            if kind == 0:  # tall bars, one to three
                tall_mm, gap_mm = rng.uniform(4.0, 16), rng.uniform(0.8, 5)
                thick_mm = min(thick_mm, 0.065 * tall_mm)
                for k in range(int(rng.integers(1, 4))):
                    self._upright(x_mm + k * gap_mm, y_mm, y_mm + tall_mm, thick_mm, ink)
            elif kind == 1:  # spikes and QRS strokes on a line
                tall_mm, reach_mm = rng.uniform(1.0, 8), rng.uniform(2, 12)
                up = rng.uniform(-0.3, 1.0)
                line = [[-reach_mm, 0], [0, 0], [0.1, -up * tall_mm], [0.3, (1 - up) * tall_mm],
                        [0.5, 0], [reach_mm, 0]]  # fmt: skip
                self._strokes(np.array(line) + np.array([x_mm, y_mm]), thick_mm, ink)
            elif kind == 2:  # a ruler with ticks
                tick_mm, step_mm = rng.uniform(0.5, 3), float(rng.choice((1, 2.5, 5, 12.5, 25)))
                rule = rng.random() < 0.6
                if rule:
                    self._strokes(np.array([[0, y_mm], [width_mm, y_mm]]), thick_mm, ink)
                for at_mm in np.arange(x_mm % step_mm, width_mm, step_mm):
                    half_mm = tick_mm * (1.0 if rule else 0.3)
                    self._upright(float(at_mm), y_mm - half_mm, y_mm, thick_mm, ink)
            elif kind == 3:  # a frame
                corner = [x_mm, y_mm]
                wide_mm, tall_mm = rng.uniform(8, 60), rng.uniform(6, 40)
                box = np.array([[0, 0], [wide_mm, 0], [wide_mm, tall_mm], [0, tall_mm]])
                self._strokes(box + corner - rng.uniform(0, 8), thick_mm, ink, closed=True)
            elif kind == 4:  # a lone pulse
                wide_mm, tall_mm = float(rng.choice((5.0, 2.5))), float(rng.choice((5, 10, 20)))
                foot_mm = rng.uniform(0, 3)
                xs = np.cumsum([0, foot_mm, 0, wide_mm, 0, foot_mm]) + x_mm
                ys = y_mm - np.array([0, 0, 1, 1, 0, 0]) * tall_mm
                self._strokes(np.stack([xs, ys], axis=1), thick_mm, ink)
            elif kind == 6:  # a dashed upright line
                dash_mm, gap_mm = rng.uniform(1.5, 5), rng.uniform(0.5, 8)
                for k in range(int(rng.integers(2, 8))):
                    top_mm = y_mm - 12 + k * (dash_mm + gap_mm)
                    self._upright(x_mm, top_mm, top_mm + dash_mm, thick_mm, ink)
            else:  # a bar through a short piece of a line, or specks
                half_mm = rng.uniform(0.8, 4)
                self._upright(x_mm, y_mm - half_mm, y_mm + half_mm, thick_mm * 1.5, ink)
                line = [[-rng.uniform(1, 9), rng.normal()], [0, 0], [rng.uniform(1, 9), 0]]
                self._strokes(np.array(line) + np.array([x_mm, y_mm]), thick_mm, ink)

    # --- what a camera or a scanner sees --------------------------------------------------------

    def _seen(self) -> Patch:
        """Bring the canvas to PX_PER_MM, a little askew, and spoil it."""
        rng, (width, height) = self.rng, self.options.size_px
        zoom = PX_PER_MM / self.scale
        image: Any = self.canvas
        if zoom < 0.75:
            image = cv2.GaussianBlur(image, (0, 0), 0.42 / zoom * rng.uniform(0.5, 1.2))
        turn, center = np.array([[zoom, 0, 0], [0, zoom, 0], [0, 0, 1]]), (width / 2, height / 2)
        if rng.random() < 0.4:
            askew = np.eye(3)
            askew[:2] = cv2.getRotationMatrix2D(center, rng.normal(0, 1.2), 1.0)
            lean = np.eye(3)
            lean[0, 1] = rng.normal(0, 0.02)
            lean[2, :2] = rng.normal(0, 4e-5, 2)
            turn = lean @ askew @ turn
        how = int(rng.choice((cv2.INTER_LINEAR, cv2.INTER_LINEAR, cv2.INTER_CUBIC)))
        image = cv2.warpPerspective(
            image, turn, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE
        )
        names = []
        for lead, sign, (x, y, w, h) in self.names:
            corners = np.array([[[x, y], [x + w, y], [x, y + h], [x + w, y + h]]])
            seen = cv2.perspectiveTransform(corners, turn)[0]
            middle, size = seen.mean(axis=0), np.ptp(seen, axis=0)
            if 2 < middle[0] < width - 2 and 2 < middle[1] < height - 2:
                place, extent = (
                    (float(middle[0]), float(middle[1])),
                    (float(size[0]), float(size[1])),
                )
                names.append(PrintedName(lead, place, extent, sign))
        smallest = min((name.size_px[1] for name in names), default=12.0)
        if rng.random() > self.options.plain:
            image = spoiled(np.ascontiguousarray(image), rng, gently=smallest < 10)
        return Patch(np.ascontiguousarray(image), tuple(names))


def nonsense(rng: np.random.Generator) -> str:
    """Return letters that are no lead's name."""
    kind = rng.random()
    if kind < 0.35:  # a number
        return f"{rng.uniform(0, 12):g}"[:3] if kind < 0.15 else str(rng.integers(0, 500))
    if kind < 0.5:
        letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), int(rng.integers(2, 9)))
        return "".join(letters) if kind < 0.42 else "".join(letters).title() + ":"
    while True:
        count = int(rng.integers(1, 6))
        word = "".join(rng.choice(list("aVRLFIN0123456789HTEvsm.,/"), count))
        if word.strip("-.,/:").lower() not in {lead.lower() for lead in LEADS}:
            return word
