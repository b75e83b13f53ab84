"""Sheets drawn as vector PDFs, operator by operator, as machines write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ecg_digitize.layout import COMPETITION, LEADS, Layout

POINTS_PER_MM = 72 / 25.4
LEFT_MM = 15.0  # of the first samples


@dataclass(frozen=True)
class Drawing:
    """How a sheet is drawn.

    style: "leads", one line a lead; "rows", one a row; "pieces", each piece a path of its own;
    "curves", Bezier curves through the samples; "outlines", filled shapes.
    """

    style: str = "leads"
    layout: Layout = COMPETITION
    size_mm: tuple[float, float] = (279.4, 215.9)
    top_mm: float = -2.0  # of sheet y 0 on the page
    line_mm: float = 0.3
    turn_degrees: float = 0.0  # of what is drawn, counter-clockwise about the middle of the page
    fs_hz: float = 500.0  # of the points of the lines
    pulse: bool = True
    names_above: bool = False
    group: bool = False  # all traces in a form of their own, drawn at half its size
    left_mm: float = LEFT_MM
    mm_off: float = 0.0  # of the lines of the grid from whole squares


def sheet_pdf(signals_mv: np.ndarray, drawing: Drawing) -> bytes:
    """Return a PDF of one page; (12, n) mV at 500 Hz."""
    width, height = (POINTS_PER_MM * side for side in drawing.size_mm)
    turn = np.deg2rad(drawing.turn_degrees)
    cos, sin = np.cos(turn), np.sin(turn)
    x, y = width / 2, height / 2
    content = [
        f"{cos:.8f} {sin:.8f} {-sin:.8f} {cos:.8f} "
        f"{x - cos * x + sin * y:.6f} {y - sin * x - cos * y:.6f} cm",
        _grid(drawing),
        _names(drawing),
    ]
    traces = _traces(signals_mv, drawing)
    if not drawing.group:
        return pdf_file("\n".join([*content, traces]), (width, height))
    content.append("q 0.5 0 0 0.5 0 0 cm /T Do Q")
    return pdf_file("\n".join(content), (width, height), [f"2 0 0 2 0 0 cm\n{traces}"])


def pdf_file(content: str, size: tuple[float, float], forms: Sequence[str] = ()) -> bytes:
    """Return a PDF of one page, in points; a form is called /T."""
    box = f"[0 0 {4 * size[0]:.2f} {4 * size[1]:.2f}]"
    more = [
        f"<</Type/XObject/Subtype/Form/BBox{box}/Length {len(form)}>>stream\n{form}\nendstream"
        for form in forms
    ]
    named = "/XObject<</T 5 0 R>>" if forms else ""
    things = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {size[0]:.3f} {size[1]:.3f}]/Contents 4 0 R"
        "/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>"
        f"{named}>>>>",
        f"<</Length {len(content)}>>stream\n{content}\nendstream",
        *more,
    ]
    body, places = b"%PDF-1.4\n", []
    for number, thing in enumerate(things, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n{thing}\nendobj\n".encode()
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return b"%sxref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\n" % (
        body,
        len(things) + 1,
        table,
        len(things) + 1,
    ) + b"startxref\n%d\n%%%%EOF\n" % len(body)


def _points(drawing: Drawing, x_mm, y_mm) -> list[str]:
    """Return sheet mm as points of the page, with three decimals."""
    left = drawing.left_mm - LEFT_MM
    x = POINTS_PER_MM * (np.asarray(x_mm, float) + left)
    y = POINTS_PER_MM * (drawing.size_mm[1] - drawing.top_mm - np.asarray(y_mm, float))
    return [f"{a:.3f} {b:.3f}" for a, b in zip(np.atleast_1d(x), np.atleast_1d(y), strict=True)]


def _line(points: list[str]) -> str:
    return f"{points[0]} m " + " ".join(f"{point} l" for point in points[1:]) + " S"


def _grid(drawing: Drawing) -> str:
    width, height = drawing.size_mm
    left, top, off = drawing.left_mm - LEFT_MM, drawing.top_mm, drawing.mm_off
    first_x, first_y = int(np.floor(-left)), int(np.floor(-top))
    lines = []
    for wide, colour, every in ((0.1, "1 0.8 0.8", 1), (0.2, "0.95 0.6 0.6", 5)):
        lines.append(f"{colour} RG {wide * POINTS_PER_MM:.3f} w")
        for x in range(first_x + -first_x % every, int(width - left) + 1, every):
            ends = _points(drawing, [x + off] * 2, [-top, height - top])
            lines.append(_line(ends))
        for y in range(first_y + -first_y % every, int(height - top) + 1, every):
            lines.append(_line(_points(drawing, [-left, width - left], [y + off] * 2)))
    return "\n".join(lines)


def _names(drawing: Drawing) -> str:
    layout, texts = drawing.layout, []
    for row in layout.rows:
        for segment in row.segments:
            x = LEFT_MM + segment.start_s * layout.mm_per_s
            y = row.zero_mm + (-8.0 if drawing.names_above else row.name_below_mm + 1.5)
            (at,) = _points(drawing, [x + (1.0 if drawing.names_above else 0.0)], [y])
            texts.append(f"BT /F 12 Tf {at} Td ({segment.lead}) Tj ET")
    (at,) = _points(drawing, [LEFT_MM], [layout.rows[-1].zero_mm + 16])
    texts.append(
        f"BT /F 9 Tf {at} Td ({layout.mm_per_s:g} mm/s   {layout.mm_per_mv:g} mm/mV) Tj ET"
    )
    return "0 g\n" + "\n".join(texts)


def _traces(signals_mv: np.ndarray, drawing: Drawing) -> str:
    layout = drawing.layout
    drawn = [f"0 G 1 j {drawing.line_mm * POINTS_PER_MM:.3f} w"]
    for row in layout.rows:
        x_row, y_row = [], []
        if drawing.pulse:
            at = LEFT_MM + np.array([-8.0, -7.0, -7.0, -2.0, -2.0, -1.0])
            up = row.zero_mm - layout.mm_per_mv * np.array([0.0, 0, 1, 1, 0, 0])
            if drawing.style == "rows":
                x_row, y_row = [at], [up]
            else:
                drawn.append(_line(_points(drawing, at, up)))
        for segment in row.segments:
            seconds = np.arange(segment.start_s, segment.stop_s - 1e-6, 1 / drawing.fs_hz)
            mv = np.interp(
                seconds * 500, np.arange(signals_mv.shape[1]), signals_mv[LEADS.index(segment.lead)]
            )
            x_row.append(LEFT_MM + seconds * layout.mm_per_s)
            y_row.append(row.zero_mm - segment.sign * layout.mm_per_mv * mv)
        if drawing.style == "rows":
            x_row, y_row = [np.concatenate(x_row)], [np.concatenate(y_row)]
        drawn += [_trace(x, y, drawing) for x, y in zip(x_row, y_row, strict=True)]
    return "\n".join(drawn)


def _trace(x_mm: np.ndarray, y_mm: np.ndarray, drawing: Drawing) -> str:
    points = _points(drawing, x_mm, y_mm)
    if drawing.style == "pieces":
        return "\n".join(f"{a} m {b} l S" for a, b in pairwise(points))
    if drawing.style == "curves":  # Catmull and Rom's
        slope_x, slope_y = np.gradient(x_mm) / 3, np.gradient(y_mm) / 3
        first = _points(drawing, x_mm + slope_x, y_mm + slope_y)
        second = _points(drawing, x_mm - slope_x, y_mm - slope_y)
        bows = (
            f"{a} {b} {c} c" for a, b, c in zip(first[:-1], second[1:], points[1:], strict=True)
        )
        return f"{points[0]} m " + " ".join(bows) + " S"
    if drawing.style == "outlines":
        half = drawing.line_mm / 2
        around = points[:0] + _points(drawing, x_mm, y_mm - half)
        around += _points(drawing, x_mm, y_mm + half)[::-1]
        return f"{around[0]} m " + " ".join(f"{point} l" for point in around[1:]) + " f"
    return _line(points)
