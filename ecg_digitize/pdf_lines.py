"""The lines that a page of a PDF draws: what its traces are made of, before they become pixels.

Some machines draw a lead as one line, some each piece of it on its own; both come out as one line.
Shapes that are filled are not looked at, nor are dashes, which only grids are drawn with.
"""

import ctypes
import math
from itertools import pairwise
from typing import Any, Final

import numpy as np

from ecg_digitize.types import Float64

MOST_SEGMENTS: Final = 200_000  # to look at: 2 s, or 6 s where each is a path of its own
TRACE_SEGMENTS: Final = 500
"""A page draws traces as lines if so many pieces of its lines are neither level nor upright: the
1200 of ten seconds at 30 dots a second and row stay above it, frames and arrows below."""
CURVE_PIECES: Final = 8
"""Straight pieces that a curve becomes: one as long as a QRS complex is then off by 0.01 mm."""
SAME_POINTS: Final = 0.01
"""Where one piece ends and the next begins, in points, if it goes on: 0.004 mm."""
STRAIGHT_POINTS: Final = 0.02
"""A line no point of which is farther from its chord is one of a grid or a frame."""
_FINE: Final = 1 << 16
"""Parts of a pixel to which PDFium is asked where a point of the page lies; it answers in whole
ones."""

_XY = tuple[float, float]


class LineCollector:
    """Takes in what a page draws, thing by thing."""

    def __init__(self) -> None:
        """Begin with nothing."""
        from pypdfium2 import raw

        self._raw = raw
        self.n_slanted = 0
        """Pieces that are neither level nor upright."""
        self._n_seen = 0
        self._lines: list[list[_XY]] = []
        self._ends: dict[tuple[Any, ...], int] = {}  # style and end -> line that ends there

    def add(self, path: Any) -> None:
        """Take in a path.

        Args:
            path: A page object of pypdfium2, of the type path.
        """
        raw = self._raw
        if self._n_seen >= MOST_SEGMENTS:
            return
        fill, is_drawn = ctypes.c_int(), ctypes.c_int()
        raw.FPDFPath_GetDrawMode(path, fill, is_drawn)
        if not is_drawn.value:
            self._n_seen += 1
            return
        parts = _subpaths(raw, path, at_most=MOST_SEGMENTS - self._n_seen)
        self._n_seen += max(1, sum(map(len, parts)))
        for part in parts:
            self.n_slanted += sum(a != c and b != d for (a, b), (c, d) in pairwise(part))
        style = _style(raw, path)
        if style is None:
            return
        shown = [_placed(part, path.get_matrix()) for part in parts if len(part) > 1]
        if (box := _clip_box(raw, path)) is not None:
            shown = [piece for part in shown for piece in _inside(part, *box)]
        holder = path.container
        while holder is not None:  # a group of things, with a place of its own
            shown = [_placed(part, holder.get_matrix()) for part in shown]
            holder = holder.container
        for part in shown:
            self._join(part, style)

    def _join(self, points: list[_XY], style: tuple[Any, ...]) -> None:
        """Lead on the line of the same style that ends where a piece begins, or begin a new one."""
        index = self._ends.pop((style, *_rounded(points[0])), None)
        if index is None:
            index = len(self._lines)
            self._lines.append(points)
        else:
            self._lines[index].extend(points[1:])
        self._ends[style, *_rounded(points[-1])] = index

    def lines_px(self, page: Any, *, width_px: int, height_px: int) -> tuple[Float64, ...]:
        """Return the lines of a page that are not straight.

        Args:
            page: The page of pypdfium2.
            width_px: Of the picture that it is drawn as, turned and cropped as the PDF says.
            height_px: Likewise.

        Returns:
            (n, 2) float64 each, page px, in the order of drawing.
        """
        px_from_points = _px_from_points(self._raw, page, width_px, height_px)
        lines = (np.array(line) for line in self._lines if len(line) > 2)
        bent = (line for line in lines if not is_straight(line, STRAIGHT_POINTS))
        return tuple(line @ px_from_points[:, :2].T + px_from_points[:, 2] for line in bent)


def is_straight(line: Float64, within: float) -> bool:
    """Say whether no point of an (n, 2) line is farther than that from its longest chord."""
    off = line - line[0]
    along = off[np.argmax((off**2).sum(axis=1))]
    length = math.hypot(*along)
    beside = off[:, 0] * along[1] - off[:, 1] * along[0]
    return length == 0 or bool(np.abs(beside).max() <= within * length)


def _rounded(point: _XY) -> tuple[int, int]:
    return round(point[0] / SAME_POINTS), round(point[1] / SAME_POINTS)


def _style(raw: Any, path: Any) -> tuple[Any, ...] | None:
    """Return colour and width of a line; None if it is dashed or not to be seen."""
    colour = [ctypes.c_uint() for _ in range(4)]
    width = ctypes.c_float()
    raw.FPDFPageObj_GetStrokeColor(path, *colour)
    raw.FPDFPageObj_GetStrokeWidth(path, width)
    if raw.FPDFPageObj_GetDashCount(path) > 0 or colour[3].value == 0:
        return None
    return *(part.value for part in colour), width.value


def _subpaths(raw: Any, path: Any, *, at_most: int) -> list[list[_XY]]:
    """Return the points of each part of a path, in its own coordinates; curves become straight."""
    x, y = ctypes.c_float(), ctypes.c_float()
    parts: list[list[_XY]] = []
    held: list[_XY] = []  # points that bend a curve which has not ended
    for index in range(min(raw.FPDFPath_CountSegments(path), at_most)):
        segment = raw.FPDFPath_GetPathSegment(path, index)
        raw.FPDFPathSegment_GetPoint(segment, x, y)
        here, kind = (x.value, y.value), raw.FPDFPathSegment_GetType(segment)
        if kind == raw.FPDF_SEGMENT_MOVETO or not parts:
            parts.append([here])
            held = []
        elif kind == raw.FPDF_SEGMENT_BEZIERTO:
            held.append(here)
            if len(held) == 3:
                parts[-1] += _curve(parts[-1][-1], *held)
                held = []
        else:
            parts[-1].append(here)
        if raw.FPDFPathSegment_GetClose(segment):
            parts[-1].append(parts[-1][0])
    return parts


def _curve(start: _XY, first: _XY, second: _XY, end: _XY) -> list[_XY]:
    t = np.linspace(0.0, 1.0, CURVE_PIECES + 1)[1:, None]
    points = np.array([start, first, second, end])
    shares = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    return [(float(x), float(y)) for x, y in shares @ points]


def _placed(points: list[_XY], matrix: Any) -> list[_XY]:
    a, b, c, d, e, f = matrix.get()
    return [(a * x + c * y + e, b * x + d * y + f) for x, y in points]


def _clip_box(raw: Any, path: Any) -> tuple[_XY, _XY] | None:
    """Return the corners of the box outside which nothing of a path is seen; None: there is none.

    Clips are nearly always boxes; of others it is the box around them.
    """
    clip = raw.FPDFPageObj_GetClipPath(path)
    x, y, boxes = ctypes.c_float(), ctypes.c_float(), []
    for index in range(raw.FPDFClipPath_CountPaths(clip) if clip else 0):
        points = []
        for k in range(raw.FPDFClipPath_CountPathSegments(clip, index)):
            raw.FPDFPathSegment_GetPoint(raw.FPDFClipPath_GetPathSegment(clip, index, k), x, y)
            points.append((x.value, y.value))
        if points:
            boxes.append((np.min(points, axis=0), np.max(points, axis=0)))
    if not boxes:
        return None
    low, high = (np.array(side) for side in zip(*boxes, strict=True))
    (left, bottom), (right, top) = low.max(axis=0).tolist(), high.min(axis=0).tolist()
    return (left, bottom), (right, top)


def _inside(points: list[_XY], low: _XY, high: _XY) -> list[list[_XY]]:
    """Return the parts of a line inside a box, cut where it crosses the edge."""
    xy = np.array(points)
    if ((xy >= low) & (xy <= high)).all():
        return [points]
    start, step = xy[:-1], np.diff(xy, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.sort([(np.array(low) - start) / step, (np.array(high) - start) / step], axis=0)
    level = step == 0  # along this axis it is inside all along, or never
    never = level & ((start < low) | (start > high))
    enters = np.where(level, 0.0, at[0]).max(axis=1).clip(0)
    leaves = np.where(level, 1.0, at[1]).min(axis=1).clip(max=1)
    seen = (enters < leaves) & ~never.any(axis=1)
    parts: list[list[_XY]] = []
    for k in np.flatnonzero(seen).tolist():
        first, last = ((start[k] + t * step[k]).tolist() for t in (enters[k], leaves[k]))
        if enters[k] > 0 or not parts or not seen[k - 1] or leaves[k - 1] < 1:
            parts.append([(first[0], first[1])])
        parts[-1].append((last[0], last[1]))
    return parts


def _px_from_points(raw: Any, page: Any, width_px: int, height_px: int) -> Float64:
    """Return the (2, 3) affine map from points of a page to pixels of its picture."""
    fine = min(_FINE, (2**31 - 1) // (4 * max(width_px, height_px)))
    left, bottom, right, top = page.get_bbox()
    corners = np.array([(left, bottom), (right, bottom), (left, top)])
    seen = []
    for corner in corners:
        x, y = ctypes.c_int(), ctypes.c_int()
        size = width_px * fine, height_px * fine
        raw.FPDF_PageToDevice(page, 0, 0, *size, 0, *map(float, corner), x, y)
        seen.append((x.value / fine - 0.5, y.value / fine - 0.5))  # pixel centres are integers
    return np.linalg.solve(np.column_stack([corners, np.ones(3)]), np.array(seen)).T
