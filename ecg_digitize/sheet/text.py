"""Read the lines of text on a sheet, and what they say of its speed and gain.

Machines print "25 mm/s" and "10 mm/mV" somewhere; some print two gains, of limb and chest leads.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
import torch
from torch import nn

from ecg_digitize.frames import Frame
from ecg_digitize.runtime import run_batch
from ecg_digitize.sheet.flat import FlatSheet
from ecg_digitize.sheet.text_net import BLANK, HEIGHT_PX, LETTERS, SPACE, STRIDE
from ecg_digitize.stage1.sight import darkest, seen_in
from ecg_digitize.types import Float32, Image, Mask


class TextOptions(NamedTuple):
    """Constants of the search for lines of text.

    Attributes:
        letter_mm: Height of letters.
        speck_mm: What is smaller is dirt or a part of the grid.
        joined_mm: Gaps that are closed between the letters of a line.
        line_mm: Height of a line, its tails included,
        least_mm: and its least width.
        edge_mm: What is cut out around a line.
        most_px: Width from which on a line is not read: it is none.
        at_once: Lines the network reads at a time.
        least: How sure every letter of a figure must be.
        level: By how much lines beside each other may be off in height, as a share of it,
        beside_mm: and how far apart they may be.
    """

    letter_mm: tuple[float, float] = (0.8, 6.0)
    speck_mm: float = 0.35
    joined_mm: float = 2.4
    line_mm: tuple[float, float] = (1.0, 7.0)
    least_mm: float = 6.0
    edge_mm: float = 0.35
    most_px: int = 1600
    at_once: int = 16
    least: float = 0.5
    level: float = 0.4
    beside_mm: float = 15.0


DEFAULTS: Final = TextOptions()
LEAST_LETTERS: Final = 4
"""Different letters that a text has,
and how sure they are in the mean. Pieces of traces are read as one or two, and unsurely."""
SURE: Final = 0.7
TOLD_MM_PER_S: Final = (12.5, 25.0, 50.0, 100.0)
TOLD_MM_PER_MV: Final = (2.5, 5.0, 10.0, 20.0, 40.0)
"""What machines tell in words; anything else was misread."""
_SPAN: Final = (2.0, 98.0)
"""Percentiles of brightness that are taken for ink and paper."""


Box = tuple[float, float, float, float]
"""Left, top, width, height."""


Cut = tuple[Image, Box]
"""A picture of a line, and where it lies on the flat sheet, mm."""


@dataclass(frozen=True)
class Line:
    """A line of text."""

    text: str  # in small letters
    box_mm: Box  # on the flat sheet
    confidence: tuple[float, ...]  # of each letter of the text, in [0, 1]

    @property
    def is_text(self) -> bool:
        """Whether it is text, and no piece of a trace."""
        return len(set(self.text)) >= LEAST_LETTERS and float(np.mean(self.confidence)) > SURE


@dataclass(frozen=True)
class Told:
    """What text says of speed and gain."""

    speeds_mm_per_s: tuple[float, ...]
    gains_mm_per_mv: tuple[float, ...]  # of all leads, or of those that no other text tells of
    limb_mm_per_mv: float | None = None
    chest_mm_per_mv: float | None = None

    @property
    def mm_per_s(self) -> float | None:
        """The speed; None if none is told, or several are."""
        return _only(self.speeds_mm_per_s)

    @property
    def mm_per_mv(self) -> float | None:
        """The gain of all leads; None if none is told, or several are."""
        return _only(self.gains_mm_per_mv)


def _only(values: tuple[float, ...]) -> float | None:
    return values[0] if len(set(values)) == 1 else None


def cut_lines(image: Image, flat: FlatSheet, *, options: TextOptions = DEFAULTS) -> list[Cut]:
    """Cut what may be lines of text out of a picture, as fine as they are there.

    Args:
        image: (H, W, 3) uint8 RGB, page frame.
        flat: The sheet, upright.
        options: See there.
    """
    scale = flat.frame.px_per_mm_xy[0]
    cuts: list[Cut] = []
    for x, y, width, height in find_lines(flat.ink, px_per_mm=scale, options=options):
        high_mm = height / scale + 2 * options.edge_mm
        fine = HEIGHT_PX / high_mm
        left_mm, top_mm = flat.mm_from_px(np.array([x, y])) - options.edge_mm
        wide_px = round((width / scale + 2 * options.edge_mm) * fine)
        if wide_px > options.most_px:
            continue
        frame = Frame(wide_px, HEIGHT_PX, (fine, fine), (float(left_mm), float(top_mm)))
        seen = seen_in(frame, image, flat.grid.crossings_xy_px)
        cuts.append((seen, (float(left_mm), float(top_mm), wide_px / fine, high_mm)))
    return cuts


NOTHING_TOLD: Final = Told((), ())


def line_input(image: Image) -> Image:
    """Return (HEIGHT_PX, W) uint8: a line cut out of a picture, 0 where paper is, 255 ink."""
    grey = darkest(image).astype(np.float32)
    width = max(2 * STRIDE, round(image.shape[1] * HEIGHT_PX / max(1, image.shape[0])))
    width += width % STRIDE
    how = cv2.INTER_AREA if image.shape[0] > HEIGHT_PX else cv2.INTER_CUBIC
    seen = np.asarray(cv2.resize(grey, (width, HEIGHT_PX), interpolation=how), np.float32)
    ink, paper = np.percentile(seen, _SPAN)
    share = np.clip((paper - seen) / max(float(paper - ink), 20.0), 0, 1)
    return np.asarray(np.rint(255 * share), np.uint8)


def find_lines(
    ink: Mask, *, px_per_mm: float, options: TextOptions = DEFAULTS
) -> list[tuple[int, int, int, int]]:
    """Find what may be lines of text.

    Args:
        ink: (H, W) bool, what is darker than paper and grid.
        px_per_mm: Its scale.
        options: See there.

    Returns:
        Boxes (x, y, width, height), px.
    """
    _, label, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    high = stats[:, cv2.CC_STAT_HEIGHT] / px_per_mm
    wide = stats[:, cv2.CC_STAT_WIDTH] / px_per_mm
    least_mm, most_mm = options.letter_mm
    is_letter = (
        (high < most_mm) & (wide < 3 * most_mm) & (np.maximum(high, wide) > options.speck_mm)
    )
    is_letter[0] = False
    letters = is_letter[label].astype(np.uint8)
    kernel = np.ones((1, 2 * round(0.5 * options.joined_mm * px_per_mm) + 1), np.uint8)
    joined = cv2.morphologyEx(letters, cv2.MORPH_CLOSE, kernel)
    _, _, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    boxes = []
    for x, y, width, height, _ in stats[1:].tolist():
        fits = options.line_mm[0] <= height / px_per_mm <= options.line_mm[1]
        if fits and width >= options.least_mm * px_per_mm and height >= least_mm * px_per_mm:
            boxes.append((x, y, width, height))
    return boxes


def read_lines(
    network: nn.Module,
    cuts: Sequence[Cut],
    device: torch.device,
    *,
    options: TextOptions = DEFAULTS,
) -> tuple[Line, ...]:
    """Read lines.

    Args:
        network: A `text_net.TextNet` in evaluation mode, on the device.
        cuts: Pictures of lines, and where they are.
        device: Where the network is.
        options: See there.
    """
    inputs = [(line_input(image), at) for image, at in cuts]
    inputs = sorted((one for one in inputs if one[0].shape[1] <= options.most_px), key=_width)
    lines: list[Line] = []
    for first in range(0, len(inputs), options.at_once):
        some = inputs[first : first + options.at_once]
        batch = np.zeros((len(some), 1, HEIGHT_PX, _width(some[-1])), np.uint8)
        for one, (seen, _) in zip(batch, some, strict=True):
            one[0, :, : seen.shape[1]] = seen
        (logits,) = run_batch(network, torch.from_numpy(batch), device)
        scores: Float32 = torch.softmax(logits, dim=1).cpu().numpy()
        for score, (seen, at) in zip(scores, some, strict=True):
            text, confidence = _decoded(score[:, : seen.shape[1] // STRIDE])
            if text.strip():
                lines.append(Line(text, at, confidence))
    return tuple(lines)


def _width(one: tuple[Image, Box]) -> int:
    return int(one[0].shape[1])


def _decoded(scores: Float32) -> tuple[str, tuple[float, ...]]:
    """Return the likeliest text of (classes, steps), and how sure each letter is."""
    best = scores.argmax(axis=0)
    letters, confidence = [], []
    for step, which in enumerate(best):
        if which == BLANK or (step and best[step - 1] == which):
            continue
        is_known = which <= len(LETTERS)
        letters.append(LETTERS[which - 1] if is_known else " " if which == SPACE else "?")
        confidence.append(float(scores[which, step]))
    return "".join(letters), tuple(confidence)


def _joined(lines: Sequence[Line], options: TextOptions) -> list[Line]:
    """Join lines that stand beside each other: what a figure is of may stand far from it."""
    joined: list[Line] = []
    for line in sorted(lines, key=lambda one: one.box_mm[0]):
        left, top, width, height = line.box_mm
        for index, other in enumerate(joined):
            x, y, wide, high = other.box_mm
            off = abs(top + height / 2 - y - high / 2)
            if off < options.level * min(height, high) and left - x - wide < options.beside_mm:
                text = f"{other.text} {line.text}"
                box = x, y, left + width - x, high
                confidence = (*other.confidence, 1.0, *line.confidence)
                joined[index] = Line(text, box, confidence)
                break
        else:
            joined.append(line)
    return joined


_TOLD: Final = re.compile(r"(?<![\d.,])(\d{1,3}(?:[.,]\d)?) ?mm ?/ ?(s|mv?|v)")
_LIMB: Final = re.compile(r"(limb|extremit\w*|periph\w*|\bl)[.: =]*$")
_CHEST: Final = re.compile(r"(chest|precord\w*|\bc|thora\w*)[.: =]*$")


def told_by(lines: Sequence[Line], *, options: TextOptions = DEFAULTS) -> Told:
    """Return which speeds and gains lines of text tell; figures no machine prints are left out."""
    speeds, gains = [], []
    of_group: dict[str, float] = {}
    for line in _joined(lines, options):
        for match in _TOLD.finditer(line.text):
            if min(line.confidence[match.start() : match.end()]) < options.least:
                continue
            value = float(match[1].replace(",", "."))
            before = line.text[: match.start()]
            if match[2] == "s":
                speeds += [value] * (value in TOLD_MM_PER_S)
            elif value not in TOLD_MM_PER_MV:
                continue
            elif _LIMB.search(before):
                of_group["limb"] = value
            elif _CHEST.search(before):
                of_group["chest"] = value
            else:
                gains.append(value)
    return Told(tuple(speeds), tuple(gains), of_group.get("limb"), of_group.get("chest"))
