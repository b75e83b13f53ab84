"""A clean printed page from twelve leads, with exact labels in sheet millimetres.

The layout is ECG-Image-Kit's, as the competition prints it, with variation round it: header text,
grid colours, calibration pulses, lead bars and names, QR code, fonts, stroke widths.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from scipy.interpolate import make_interp_spline

from ecg_digitize.frames import (
    GRID_SNAP_MM,
    PAGE_GRID_TOP_PX,
    PAGE_SIZE_PX,
    PX_PER_MM,
    SQUARE_MM,
    TIME_ORIGIN_MM,
    TRACE_FS_HZ,
    crossings_mm,
)
from ecg_digitize.layout import COMPETITION, LEADS, NAME_KEYS, PULSE_S, Layout
from ecg_digitize.render.paper import (
    Color,
    PaperStyle,
    blend_ink,
    draw_paper,
)
from ecg_digitize.signals import rows_from_signals
from ecg_digitize.synth.canvas import Canvas
from ecg_digitize.synth.warp import Fold
from ecg_digitize.types import Float32, Float64, Image, Mask

SPEED_ABOVE_MM: Final = 6.4
"""How far above the lower edge the paper speed and the gain are printed."""

FONTS: Final = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif")


@dataclass(frozen=True)
class PageStyle:
    """Everything that varies between clean pages; lengths in mm unless named otherwise."""

    px_per_mm: float
    paper: PaperStyle
    pulses: bool
    left_mm: float  # sheet x of the raster's left edge
    top_mm: float  # sheet y of the raster's upper edge
    width_mm: float
    height_mm: float
    layout: Layout
    trace_width_mm: float
    ink: Color
    ink_strength: float
    bar_width_mm: float  # 0 = no bars
    bar_height_mm: float
    font: str
    font_mm: float
    names: bool
    header: bool
    qr_mm: float  # side of the code, 0 = none
    frame_line: bool  # thin border round the printed area
    minor_grid: bool
    snapped: bool  # grid lines on whole pixels of the raster, as plotting libraries draw them
    names_off_mm: tuple[float, float] = (0.0, 0.0)  # xy of the names from where the layout has them
    laser: bool = False  # whether a laser printer prints it, see printing.py
    black_off_mm: tuple[tuple[float, ...], ...] = ()  # a row each: how far right of its place black
    # ink was put, at places evenly spaced over the ten seconds; (): where it belongs


@dataclass(frozen=True)
class CleanPage:
    """A flat page and its labels."""

    image: Image  # (H, W, 3) uint8 RGB, px = (mm - origin_mm) * px_per_mm - 0.5
    px_per_mm: float
    origin_mm: tuple[float, float]  # sheet xy of the raster's upper left corner
    rows_mm: Float32  # (4, 5000) sheet y of each row's trace where the 500 Hz samples belong, mm
    rows_mv: Float32  # (4, 5000) what is plotted, mV
    names_mm: Float64  # (13, 2) sheet xy of the names' left ends at half height, mm
    printed_mm: Float64  # (44, 57, 2) sheet xy of the crossings as drawn, snapped or not, mm
    style: PageStyle
    gone: Mask | None = None  # (H, W) where paper is missing
    folds: tuple[Fold, ...] = ()  # where it does not lie flat, unless pressed

    @property
    def box_mm(self) -> tuple[float, float, float, float]:
        """Sheet x0, y0, x1, y1 of the raster, mm."""
        (x0, y0), (height, width) = self.origin_mm, self.image.shape[:2]
        return x0, y0, x0 + width / self.px_per_mm, y0 + height / self.px_per_mm


def default_style() -> PageStyle:
    """Return the style of the competition's type 0001: 2200x1700 px at 200 dpi."""
    return PageStyle(
        px_per_mm=PX_PER_MM,
        paper=PaperStyle(),
        pulses=True,
        left_mm=-GRID_SNAP_MM,
        top_mm=-PAGE_GRID_TOP_PX / PX_PER_MM - GRID_SNAP_MM,
        width_mm=PAGE_SIZE_PX[0] / PX_PER_MM,
        height_mm=PAGE_SIZE_PX[1] / PX_PER_MM,
        layout=COMPETITION,
        trace_width_mm=0.36,
        ink=(13, 13, 13),
        ink_strength=1.0,
        bar_width_mm=0.72,
        bar_height_mm=6.9,
        font="DejaVuSans",
        font_mm=3.55,
        names=True,
        header=True,
        qr_mm=0.0,
        frame_line=True,
        minor_grid=True,
        snapped=True,
    )


HUES: Final = {
    "red": (235, 20, 20),
    "pink": (240, 110, 130),
    "grey": (90, 90, 90),
    "green": (30, 130, 60),
    "blue": (50, 60, 190),
    "orange": (225, 130, 60),
    "teal": (40, 120, 120),
    "purple": (130, 30, 130),
    "tan": (150, 130, 80),
}
HUE_SHARES: Final = (0.36, 0.13, 0.18, 0.08, 0.08, 0.05, 0.05, 0.04, 0.03)


def _hue(rng: np.random.Generator) -> Float64:
    name = str(rng.choice(list(HUES), p=HUE_SHARES))
    return np.asarray(np.clip(np.array(HUES[name]) + rng.normal(0, 18, 3), 0, 255))


def _grid_colors(rng: np.random.Generator) -> tuple[Color, Color, float]:
    """Draw minor and major colours and the strength of the minor grid."""
    major = _hue(rng)
    uniform = rng.random() < 0.4  # one weight for all lines, as many ECG-Image-Kit pages have
    if rng.random() < (0.3 if uniform else 0.6):
        major = major + (255 - major) * rng.uniform(0, 0.45)
    base = _hue(rng) if rng.random() < 0.15 else major
    minor = base if uniform else 255.0 + (base - 255.0) * rng.uniform(0.12, 0.6)
    return _color(minor), _color(major), float(rng.uniform(0.6, 1.0))


def _color(rgb: Float64) -> Color:
    r, g, b = (int(v) for v in np.clip(rgb, 0, 255))
    return r, g, b


def random_style(rng: np.random.Generator, *, print_like: bool = False) -> PageStyle:
    """Draw a style.

    Args:
        rng: Source of randomness.
        print_like: Sheets that were printed: QR code and narrow strokes more often.

    Returns:
        Layout and look; a third of the pages is the competition's own look.
    """
    style = default_style()
    pulses = bool(rng.random() < 0.7)
    style = replace(
        style,
        pulses=pulses,
        left_mm=style.left_mm + (0.0 if pulses else SQUARE_MM),
        qr_mm=float(rng.uniform(11, 16)) if rng.random() < (0.8 if print_like else 0.3) else 0.0,
        header=bool(rng.random() < 0.92),
        trace_width_mm=float(rng.uniform(0.26, 0.5)),
        layout=_moved(style.layout, rng, sigma_mm=0.15),
    )
    if rng.random() < 0.35:
        return replace(style, paper=replace(style.paper, dash_px=float(rng.choice([0, 10, 14]))))
    minor, major, alpha = _grid_colors(rng)
    tint = rng.uniform(225, 255) + rng.uniform(-12, 8, 3)
    width_mm = float(rng.uniform(0.1, 0.24))
    paper = PaperStyle(
        paper=_color(np.clip(tint, 200, 255)),
        minor=minor,
        major=major,
        minor_width_px=width_mm * PX_PER_MM * float(rng.uniform(0.6, 1.0)),
        major_width_px=width_mm * PX_PER_MM * float(rng.uniform(0.9, 1.5)),
        minor_alpha=alpha,
        major_alpha=float(rng.uniform(0.7, 1.0)),
        dash_px=float(rng.choice([0, 0, 0, 10, 14])),
    )
    dark = int(rng.integers(0, 90))
    ink = (dark, dark, dark)
    if rng.random() < 0.12:
        ink = (int(rng.integers(0, 70)), int(rng.integers(0, 70)), int(rng.integers(60, 170)))
    return replace(
        style,
        paper=paper,
        ink=ink,
        ink_strength=float(rng.uniform(0.75, 1.0)),
        trace_width_mm=float(rng.uniform(0.2, 0.6)),
        layout=_moved(COMPETITION, rng, sigma_mm=0.7),
        bar_width_mm=float(rng.uniform(0.4, 0.9)) if rng.random() < 0.93 else 0.0,
        bar_height_mm=float(rng.uniform(5.5, 8.0)),
        font=str(rng.choice(FONTS, p=[0.8, 0.08, 0.06, 0.06])),
        font_mm=float(rng.uniform(3.1, 4.3)),
        names=True,
        minor_grid=bool(rng.random() < 0.96),
        snapped=bool(rng.random() < 0.5),
    )


def _moved(layout: Layout, rng: np.random.Generator, *, sigma_mm: float) -> Layout:
    """Return a layout whose rows lie a little elsewhere."""
    moved_mm = rng.normal(0, sigma_mm, layout.n_rows)
    return layout.with_zeros([float(z + d) for z, d in zip(layout.zero_mm, moved_mm, strict=True)])


def other_machine(style: PageStyle, rng: np.random.Generator) -> PageStyle:
    """Return the style of a sheet that is laid out otherwise, and often cut out of its page.

    Args:
        style: What it looks like.
        rng: Source of randomness.

    Returns:
        Rows 25 to 42 mm apart, names from 9 mm above the baselines to 10 mm below, smaller letters,
        with or without bars and header, strips of II, V1 or V5: what other machines' sheets show.
    """
    spacing_mm = rng.uniform(25, 42)
    middle_mm = COMPETITION.zero_mm[1] + rng.uniform(-8, 8)
    last = rng.uniform(0.85, 1.15) if rng.random() < 0.3 else 1.0
    zero_mm = [middle_mm + spacing_mm * k for k in (-1.0, 0.0, 1.0, 1.0 + last)]
    header = bool(rng.random() < 0.3)
    below_mm = rng.uniform(10, 22)
    style = replace(
        style,
        layout=COMPETITION.with_zeros(zero_mm).with_strip(
            str(rng.choice(["II", "V1", "V5"], p=[0.6, 0.25, 0.15]))
        ),
        names_off_mm=(float(rng.uniform(-1, 4)), float(rng.uniform(-15, 4))),
        font_mm=float(rng.uniform(1.9, 4.3)),
        bar_width_mm=style.bar_width_mm if rng.random() < 0.4 else 0.0,
        header=header,
        qr_mm=style.qr_mm if header else 0.0,
        frame_line=style.frame_line and header,
        height_mm=zero_mm[-1] + below_mm - style.top_mm,
    )
    if header:
        return style
    top_mm = zero_mm[0] - rng.uniform(12, 40)
    left_mm = style.left_mm + rng.uniform(0, 8)
    return replace(
        style,
        top_mm=float(top_mm),
        height_mm=float(zero_mm[-1] + below_mm - top_mm),
        left_mm=float(left_mm),
        width_mm=float(rng.uniform(267, 282) - left_mm),
    )


def laser_print(style: PageStyle, rng: np.random.Generator) -> PageStyle:
    """Return the style of a sheet from a laser printer, whose black is a little aside of the grid.

    The printer puts black on the paper on its own. On 25 real photos of prints all rows share a
    shift that wanders by 1.3 ms (0.03 mm) within seconds. Rows differ from each other by half of
    that, and the mean over a page is 0.6 ms late.
    """
    knots = 12
    common = rng.normal(0, rng.uniform(0.0, 0.06), knots) + rng.normal(0.01, 0.02)
    own = rng.normal(0, rng.uniform(0.0, 0.03), (style.layout.n_rows, knots))
    return replace(
        style, laser=True, black_off_mm=tuple(tuple(map(float, row)) for row in common + own)
    )


def _black_off_mm(style: PageStyle) -> Float64:
    """Return (rows, columns) mm that black ink is off to the right, sample by sample."""
    if not style.black_off_mm:
        return np.zeros(style.layout.shape)
    off_mm = np.array(style.black_off_mm)
    columns = np.arange(style.layout.n_columns)
    knots = np.linspace(0, columns[-1], off_mm.shape[1])
    return np.asarray(make_interp_spline(knots, off_mm, axis=1)(columns))


def _draw_code(image: Image, style: PageStyle, rng: np.random.Generator) -> None:
    """Draw a QR-like code with its white patch at the upper right, in place."""
    side = round(style.qr_mm * style.px_per_mm)
    modules = 25
    bits = rng.random((modules, modules)) < 0.5
    finder = np.zeros((7, 7), bool)
    finder[[0, 6], :] = finder[:, [0, 6]] = finder[2:5, 2:5] = True
    for y, x in ((0, 0), (0, modules - 7), (modules - 7, 0)):
        bits[max(0, y - 1) : y + 8, max(0, x - 1) : x + 8] = False
        bits[y : y + 7, x : x + 7] = finder
    index = np.arange(side) * modules // side
    patch = np.where(bits[np.ix_(index, index)], 0, 255).astype(np.uint8)
    margin = round(rng.uniform(0.8, 2.2) * style.px_per_mm)
    box = image[: side + 2 * margin, image.shape[1] - side - 2 * margin :]
    box[:] = 255
    box[margin : margin + side, margin : margin + side] = patch[..., None]


def _header_lines(rng: np.random.Generator) -> list[tuple[float, float, str]]:
    """Return (x_mm, y_mm from the upper edge, text) of the patient header."""
    first = f"{rng.integers(1, 30000):05d}_hr"
    if rng.random() < 0.4:
        first = f"ptb-xl\\records500\\{first[:2]}000\\{first}"
    date = f"{rng.integers(1984, 2002)}-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}"
    clock = f"{rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}:{rng.integers(0, 60):02d}"
    lines = [
        (1.3, 2.6, f"ID: {first}"),
        (76.0, 2.6, "Name:"),
        (151.0, 2.6, f"Date: {date}, {clock}"),
        (1.3, 7.6, f"Age: {rng.integers(18, 96)} yrs"),
        (1.3, 12.6, f"Sex: {rng.choice(['Male', 'Female'])}"),
    ]
    if rng.random() < 0.5:
        lines.append((76.0, 7.6, f"Height: {rng.integers(145, 195)} cm"))
        lines.append((151.0, 7.6, f"Weight: {rng.integers(45, 120)} kg"))
    return lines


def canvas_of(style: PageStyle) -> Canvas:
    """Return the empty canvas of a page."""
    scale = style.px_per_mm
    size_px = round(style.width_mm * scale), round(style.height_mm * scale)
    return Canvas.blank(size_px, origin_mm=(style.left_mm, style.top_mm), px_per_mm=scale)


def paper_of(style: PageStyle) -> PaperStyle:
    """Return the paper as it is drawn: the style's lengths are px at PX_PER_MM."""
    widen = style.px_per_mm / PX_PER_MM
    return replace(
        style.paper,
        minor_width_px=style.paper.minor_width_px * widen,
        major_width_px=style.paper.major_width_px * widen,
        minor_alpha=style.paper.minor_alpha * style.minor_grid,
        dash_px=style.paper.dash_px * widen,
    )


def draw_page(signals_mv: Float32, style: PageStyle, rng: np.random.Generator) -> CleanPage:
    """Draw a page.

    Args:
        signals_mv: (12, 5000) float32, 10 s at 500 Hz in LEADS order, mV.
        style: Layout and look.
        rng: Source of randomness for header texts and the code.

    Returns:
        The page and its labels.
    """
    layout = style.layout
    if signals_mv.shape != (len(LEADS), layout.n_columns):
        raise ValueError(f"signals_mv must be (12, {layout.n_columns}), but got {signals_mv.shape}")
    scale = style.px_per_mm
    canvas = canvas_of(style)
    x_px, y_px, origin = canvas.x_px, canvas.y_px, np.array(canvas.origin_mm)

    def line_px(position_px: Float64) -> Float64:
        return np.rint(position_px) if style.snapped else position_px

    fine = np.arange(np.floor(min(origin)), 300.0)
    coarse_x = np.arange(-2, 60) * SQUARE_MM
    bottom_mm = style.top_mm + style.height_mm
    coarse_y = np.arange(-SQUARE_MM, bottom_mm + SQUARE_MM, SQUARE_MM)
    image = draw_paper(
        canvas.coverage.shape[::-1], paper_of(style),
        lines_x_px=(line_px(x_px(fine)), line_px(x_px(coarse_x))),
        lines_y_px=(line_px(y_px(fine)), line_px(y_px(coarse_y))),
    )  # fmt: skip

    rows_mv = rows_from_signals(signals_mv, layout=layout).astype(np.float32)
    rows_mm = np.array(layout.zero_mm, np.float32)[:, None] - np.float32(layout.mm_per_mv) * rows_mv
    time_mm = TIME_ORIGIN_MM + np.arange(layout.n_columns) / TRACE_FS_HZ * layout.mm_per_s
    inked_mm = time_mm + _black_off_mm(style)  # where the samples are drawn
    for row, printed in enumerate(layout.rows):
        for segment in printed.segments:
            part = layout.columns(segment)
            canvas.stroke(inked_mm[row, part], rows_mm[row, part], style.trace_width_mm)
            if part.start and style.bar_width_mm:
                half = (style.bar_height_mm - style.bar_width_mm) / 2
                bar_mm = np.array([printed.zero_mm - half, printed.zero_mm + half])
                canvas.stroke(np.full(2, inked_mm[row, part.start]), bar_mm, style.bar_width_mm)
        if style.pulses:
            pulse_mm = TIME_ORIGIN_MM + PULSE_S * layout.mm_per_s * np.array([-1.0, -1, 0, 0])
            high_mm = printed.zero_mm - layout.mm_per_mv * np.array([0.0, 1, 1, 0])
            canvas.stroke(pulse_mm, high_mm, style.trace_width_mm)

    write = partial(canvas.write, font=style.font, font_mm=style.font_mm)
    names_mm = layout.names_mm + np.array(style.names_off_mm)
    if style.names:
        for key, (x_mm, y_mm) in zip(NAME_KEYS, names_mm, strict=True):
            write((layout.strip_lead or "") if key == "rhythm" else key, x_mm + 0.2, y_mm)
    if style.header:
        for x_mm, y_mm, text in _header_lines(rng):
            write(text, style.left_mm + x_mm, style.top_mm + y_mm + 2.0)
        speed = style.left_mm + 50.0
        write(f"{layout.mm_per_s:g}mm/s", speed, bottom_mm - SPEED_ABOVE_MM)
        write(f"{layout.mm_per_mv:g}mm/mV", speed + 50.0, bottom_mm - SPEED_ABOVE_MM)
    coverage = canvas.coverage
    if style.frame_line:
        for edge in (coverage[0], coverage[-1], coverage[:, 0], coverage[:, -1]):
            edge[:] = 1.0
    blend_ink(image, coverage, np.array(style.ink, np.float32), np.float32(style.ink_strength))
    if style.qr_mm:
        _draw_code(image, style, rng)
    return CleanPage(
        image=image,
        px_per_mm=scale,
        origin_mm=(float(origin[0]), float(origin[1])),
        rows_mm=_where_samples_belong(rows_mm, inked_mm, time_mm, layout),
        rows_mv=rows_mv,
        names_mm=names_mm,
        printed_mm=(line_px((crossings_mm() - origin) * scale - 0.5) + 0.5) / scale + origin,
        style=style,
    )


def _where_samples_belong(
    rows_mm: Float32, inked_mm: Float64, time_mm: Float64, layout: Layout
) -> Float32:
    """Return the sheet y of the ink at the places of the samples, the ink being elsewhere."""
    out = rows_mm.copy()
    for row, part in layout.pieces:  # a step between leads must stay one
        out[row, part] = np.interp(time_mm[part], inked_mm[row, part], rows_mm[row, part])
    return out
