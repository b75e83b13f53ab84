"""Lines of a PDF lie where its picture shows them, and traces are read from them exactly."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import PIL.Image
import pytest
from vector_pages import LEFT_MM, Drawing, pdf_file, sheet_pdf

from ecg_digitize.doubts import is_astray
from ecg_digitize.formats.description import Provenance, describe, recording_from, told_lines
from ecg_digitize.frames import TIME_ORIGIN_MM, crossings_mm
from ecg_digitize.inputs import read_page
from ecg_digitize.layout import COMPETITION, LEADS, Layout, row_of
from ecg_digitize.models import load_models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.signals import rows_from_signals, rows_from_trace, to_recording
from ecg_digitize.stage1.rectify import page_from_rect
from ecg_digitize.stage1.rows import levelled
from ecg_digitize.synth.signals import to_twelve
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.types import GridMap, Page, Recording, Trace
from ecg_digitize.vector import VectorLines, rect_from_page

pdfium = pytest.importorskip("pypdfium2", reason="pypdfium2 is an extra")

SIZE = (300.0, 200.0)  # points
STEPS = [(20 + 0.5 * k, 100 + 30 * np.sin(k / 40) + 0.01 * k) for k in range(500)]
PX_PER_MM = 300 / 25.4


@pytest.fixture(scope="module")
def signals_mv():
    return to_twelve(SimulatorSource(seed=3, validation=True).get(0)).astype(np.float64)


@pytest.fixture(scope="module")
def shipped_models():
    return load_models(preset="fast")


def polyline(points):
    return f"{points[0][0]:.3f} {points[0][1]:.3f} m " + " ".join(
        f"{x:.3f} {y:.3f} l" for x, y in points[1:]
    )


PIECES = "\n".join(polyline(pair) + " S" for pair in pairwise(STEPS))
LINE = polyline(STEPS) + " S"
WAVES = " ".join(  # each as flat as a wave of a trace between two of its points
    f"{x + 1:.1f} 101 {x + 2:.1f} 99 {x + 3:.1f} 100 c" for x in range(20, 240, 3)
)


# ----------------------------------------------------------------------- lines in the page frame
def altered(data, alter):
    with pdfium.PdfDocument(data) as document:
        alter(document[0])
        stream = io.BytesIO()
        document.save(stream)
    return stream.getvalue()


def crop(page):
    page.set_cropbox(31.3, 17.7, 250, 180)


def off_ink_px(page, line):
    """Return how far the ink's middle is from a line, wherever it hardly rises, px."""
    dark = 255 - page.image[..., 1].astype(float)
    if np.ptp(line[:, 0]) < np.ptp(line[:, 1]):
        dark, line = dark.T, line[:, ::-1]
    line = line[np.argsort(line[:, 0], kind="stable")]
    columns = np.arange(np.ceil(line[0, 0]) + 9, line[-1, 0] - 9).astype(int)
    middle = np.interp(columns, line[:, 0], line[:, 1])
    level = np.abs(np.gradient(middle)) < 0.1
    inside = (columns >= 0) & (columns < dark.shape[1]) & (middle > 9) & (middle < len(dark) - 9)
    off = []
    for column, y in zip(columns[level & inside], middle[level & inside], strict=True):
        near = np.arange(round(y) - 8, round(y) + 9)
        off.append((near * dark[near, column]).sum() / dark[near, column].sum() - y)
    return np.array(off)


@pytest.mark.parametrize(
    "alter", [None, 90, 180, 270, crop], ids=lambda one: getattr(one, "__name__", str(one))
)
@pytest.mark.parametrize(
    ("content", "forms"),
    [
        (f"1 w {LINE}", []),
        (f"1 J 1 w {PIECES}", []),
        (f"q 0.6 0.1 -0.1 0.6 40 10 cm 1.5 w {LINE} Q", []),
        ("q 0.5 0 0 0.5 10 5 cm /T Do Q", [f"q 1.4 0 0 1.4 7 3 cm 1 w {LINE} Q"]),
        (f"1 w 20 100 m {WAVES} S", []),
    ],
    ids=["a line", "pieces", "a matrix", "a form", "curves"],
)
def test_lines_lie_where_the_picture_shows_them(monkeypatch, content, forms, alter):
    monkeypatch.setattr("ecg_digitize.pdf.TRACE_SEGMENTS", 20)
    data = pdf_file(content, SIZE, forms)
    if alter is not None:
        data = altered(data, alter if callable(alter) else lambda page: page.set_rotation(alter))

    page = read_page(data)

    assert page.lines is not None
    (line,) = page.lines.lines_px
    off_px = off_ink_px(page, line)
    assert len(off_px) > 30
    assert np.percentile(np.abs(off_px), 90) < 0.2
    assert abs(np.median(off_px)) < 0.05


@pytest.mark.parametrize(
    ("content", "n_points"),
    [
        (f"q 50 0 100 200 re W n {LINE} Q", 202),  # 199 of the line's, its two cuts: 50, 150
        (f"[3 2] 0 d {LINE}", None),
        (" ".join(f"{k / 9} 0 m {k / 9 + 5} 200 l S" for k in range(999)), None),  # hatching
        (f"{LINE[:-1]} f", None),
    ],
    ids=["clipped", "dashed", "straight", "filled"],
)
def test_only_bent_lines_count_and_what_is_seen_of_them(monkeypatch, content, n_points):
    monkeypatch.setattr("ecg_digitize.pdf.TRACE_SEGMENTS", 20)
    page = read_page(pdf_file(content, SIZE))
    lines = page.lines.lines_px if page.lines else ()
    assert len(lines) == (n_points is not None)
    if n_points:
        assert abs(len(lines[0]) - n_points) <= 1
        px_per_point = page.image.shape[1] / SIZE[0]
        ends = lines[0][[0, -1], 0]
        np.testing.assert_allclose(ends, np.array([50, 150]) * px_per_point - 0.5, atol=0.01)


# ------------------------------------------------------------------------------- reading by them
def grid_on(drawing, *, rows_mm=None):
    """The grid of a drawing, without an error."""
    mm = crossings_mm()
    middle_mm = np.array(drawing.size_mm) / 2
    xy = mm + np.array([drawing.left_mm - LEFT_MM, drawing.top_mm]) - middle_mm
    turn = -np.deg2rad(drawing.turn_degrees)
    xy = xy @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]).T
    points = ((xy + middle_mm) * PX_PER_MM - 0.5).astype(np.float32)
    return GridMap(points, np.ones((44, 57), np.float32), 0.0, rows_mm=rows_mm)


def decoded(signals_mv, layout, *, seed=0):
    """What networks would have made of it: blunt, off by up to 0.3 mm, with a gap."""
    rng = np.random.default_rng(seed)
    rows_mv = rows_from_signals(signals_mv, layout=layout)
    kernel = np.hanning(15) / np.hanning(15).sum()
    noise = rng.normal(0, 0.1, layout.shape)
    blunt = np.stack([np.convolve(row, kernel, "same") for row in rows_mv + noise])
    y_px = np.array(layout.zero_px)[:, None] - blunt * layout.rows_px_per_mv[:, None]
    confidence = np.full(layout.shape, 0.9, np.float32)
    confidence[0, 700:800] = 0.0
    y_px[0, 700:800] = layout.zero_px[0]
    return Trace(y_px.astype(np.float32), confidence, layout)


def off_mv(trace, signals_mv):
    """Largest error of each row, without the first and last of each lead, mV."""
    truth = rows_from_signals(signals_mv, layout=trace.layout)
    off = np.abs(rows_from_trace(trace) - truth)
    return np.array([off[row, columns][1:-1].max() for row, columns in trace.layout.pieces])


@pytest.mark.parametrize(
    "drawing",
    [
        Drawing(),
        Drawing(style="rows"),
        Drawing(style="pieces", turn_degrees=3.0),
        Drawing(style="curves", group=True),
        Drawing(style="leads", turn_degrees=180.0, left_mm=14.2),
    ],
    ids=lambda drawing: f"{drawing.style}, {drawing.turn_degrees:g} degrees",
)
def test_a_decoded_trace_becomes_the_drawn_one(signals_mv, drawing):
    lines = read_page(sheet_pdf(signals_mv, drawing)).lines
    before = decoded(signals_mv, COMPETITION)
    assert off_mv(before, signals_mv).min() > 0.05

    grid, trace = lines.followed(grid_on(drawing), before)

    assert grid.start_mm == pytest.approx(LEFT_MM - TIME_ORIGIN_MM, abs=1e-3)
    assert trace.by_lines > 0.999
    assert off_mv(trace, signals_mv).max() < 0.005
    assert (trace.confidence[:, 1:-1] == 1).all()


def test_rows_that_lie_elsewhere_are_read_where_they_lie(signals_mv):
    rows_mm = np.array([80.0, 112.0, 144.0, 176.0])
    drawing = Drawing(layout=COMPETITION.with_zeros(rows_mm))
    grid = grid_on(drawing, rows_mm=rows_mm)
    xy_px = np.random.default_rng(0).uniform([300, 100], [5000, 1200], (50, 2))
    np.testing.assert_allclose(rect_from_page(grid, page_from_rect(grid, xy_px)), xy_px, atol=0.02)
    lines = read_page(sheet_pdf(signals_mv, drawing)).lines
    _, trace = lines.followed(grid, decoded(signals_mv, COMPETITION))

    assert trace.by_lines > 0.999
    assert off_mv(levelled(trace, grid), signals_mv).max() < 0.005


def test_ripples_and_feed_are_undone(signals_mv):
    grid = grid_on(Drawing())
    x = np.linspace(0, 6, 57)[:, None] + np.zeros(9)
    grid = replace(
        grid,
        ripple_mm=(0.1 * np.sin(x)).astype(np.float32),
        feed_px=(0.8 * np.sin(np.arange(3300) / 150)).astype(np.float32),
    )
    xy_px = np.random.default_rng(0).uniform([300, 100], [5000, 1200], (50, 2))
    np.testing.assert_allclose(rect_from_page(grid, page_from_rect(grid, xy_px)), xy_px, atol=0.02)


def test_a_decoder_that_strays_to_a_neighbour_is_set_right(signals_mv):
    layout = Layout("close", tuple(row_of((lead,), zero_mm=80 + 12 * k) for k, lead in (
        (0, "V2"), (1, "V3"), (2, "V4"))))  # fmt: skip
    tall = 2.5 * signals_mv / np.abs(signals_mv).max()  # 25 mm, where rows are 12 mm apart
    drawing = Drawing(layout=layout)
    strayed = decoded(tall, layout)
    truth_px = np.array(layout.zero_px)[:, None] - rows_from_signals(tall, layout=layout) * 80
    strayed.y_px[0, 1000:2200] = truth_px[1, 1000:2200]
    strayed.y_px[2, 3000:4000] = truth_px[1, 3000:4000]

    _, trace = read_page(sheet_pdf(tall, drawing)).lines.followed(grid_on(drawing), strayed)

    assert trace.by_lines > 0.999
    assert off_mv(trace, tall).max() < 0.005


def test_tall_strokes_of_an_exact_trace_do_not_make_it_another_rows():
    grid = grid_on(Drawing())
    y_px = np.repeat(np.array(COMPETITION.zero_px, np.float32)[:, None], 5000, axis=1)
    y_px[1, 1250:1700] -= 300  # of lead aVL, which is 1250 columns long
    y_px[2, 2500:3300] -= 300  # and most of V3
    pixels = Trace(y_px, np.ones_like(y_px), COMPETITION)
    assert is_astray(grid, pixels).sum(axis=1).tolist() == [0, 450, 800, 0]
    assert is_astray(grid, replace(pixels, by_lines=1.0)).sum(axis=1).tolist() == [0, 0, 1250, 0]


def test_columns_along_which_no_line_goes_stay_as_they_were(signals_mv):
    drawing = Drawing()
    lines = read_page(sheet_pdf(signals_mv, drawing)).lines
    zero_px = (COMPETITION.zero_mm[0] + drawing.top_mm) * PX_PER_MM
    kept = [line for line in lines.lines_px if abs(np.median(line[:, 1]) - zero_px) > 60]
    assert 0 < len(kept) < len(lines.lines_px)
    before = decoded(signals_mv, COMPETITION)

    begun = replace(grid_on(drawing), start_mm=LEFT_MM - TIME_ORIGIN_MM)
    grid, trace = VectorLines(tuple(kept)).followed(begun, before)

    assert trace.by_lines == pytest.approx(0.75, abs=0.001)
    assert grid.start_mm == pytest.approx(begun.start_mm, abs=1e-3)
    assert np.abs(trace.y_px[0] - before.y_px[0]).max() < 0.5  # but for 0.001 mm in time
    assert (trace.confidence[0, 700:799] == 0).all()
    assert off_mv(trace, signals_mv)[4:].max() < 0.005
    nothing = VectorLines(()).followed(grid, before)[1]
    np.testing.assert_array_equal(nothing.y_px, before.y_px)
    assert nothing.by_lines == 0


def test_grids_frames_and_pulses_are_no_traces():
    flat = np.zeros((12, 5000))
    drawing = Drawing()
    x_px, y_px = np.array([100.0, 3200.0]), np.arange(900.0, 2500.0, 0.5 * PX_PER_MM)
    zigzag = np.array([(x, y) for k, y in enumerate(y_px) for x in (x_px[:: 1 - 2 * (k % 2)])])
    frame = np.array([[100.0, 600], [3200, 600], [3200, 2400], [100, 2400], [100, 600]])
    before = decoded(flat, COMPETITION)

    trace = VectorLines((zigzag, frame)).followed(grid_on(drawing), before)[1]

    np.testing.assert_array_equal(trace.y_px, before.y_px)
    assert trace.by_lines == 0


# ------------------------------------------------------------------------------ the whole way
def test_a_pdf_of_pixels_is_read_as_its_picture(tiny_models, sheet_given):
    picture = PIL.Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (850, 1100, 3), np.uint8)
    )
    stream = io.BytesIO()
    picture.save(stream, "PDF", resolution=100, quality=95)
    page = read_page(stream.getvalue())
    assert page.lines is None

    read, plain = (
        digitize_page(one, tiny_models, layout=COMPETITION)
        for one in (page, Page(page.image, page.source))
    )

    assert read.recording.signals_mv.tobytes() == plain.recording.signals_mv.tobytes()
    assert read.trace.y_px.tobytes() == plain.trace.y_px.tobytes()
    assert read.recording.by_lines == 0


def test_leads_that_were_read_exactly_are_not_blended(signals_mv):
    trace = decoded(signals_mv, COMPETITION)
    blended, exact = (
        to_recording(replace(trace, by_lines=share), fs_hz=500.0, fusion=True)
        for share in (0.4, 0.9)
    )
    plain = to_recording(trace, fs_hz=500.0)
    assert not np.array_equal(blended.signals_mv, plain.signals_mv, equal_nan=True)
    np.testing.assert_array_equal(exact.signals_mv, plain.signals_mv)
    assert exact.by_lines == 0.9


def test_what_was_read_from_lines_is_told():
    told_of = Provenance("a.pdf", 64 * "a", "0.1.0", datetime(2026, 1, 1, tzinfo=UTC), {}, {})
    pixels = Recording(np.zeros((12, 5000), np.float32), 500.0)
    lines = replace(pixels, by_lines=0.99876)

    told = json.loads(json.dumps(describe(lines, told_of)))

    assert told["by_lines"] == 0.9988
    assert recording_from(told, lines.signals_mv).by_lines == 0.9988
    assert "read from vector lines: 99.9%" in told_lines(lines, told_of)
    assert "by_lines" not in describe(pixels, told_of)
    assert not any("vector" in line for line in told_lines(pixels, told_of))


SIX = Layout("6x2", tuple(row_of((LEADS[k], LEADS[k + 6]), zero_mm=40 + 26 * k) for k in range(6)))


@pytest.mark.parametrize(
    "drawing",
    [Drawing(line_mm=0.4), Drawing(layout=SIX, names_above=True, style="pieces", turn_degrees=0.6)],
    ids=["the competition's sheet", "another sheet"],
)
def test_a_vector_page_is_read_to_ten_microvolts(signals_mv, drawing, shipped_models):
    page = read_page(sheet_pdf(signals_mv, drawing))

    by_lines, by_pixels = (
        digitize_page(one, shipped_models).recording for one in (page, replace(page, lines=None))
    )

    assert by_lines.by_lines > 0.99
    assert by_pixels.by_lines == 0
    layout, rms_mv = drawing.layout, {}
    for name, recording in (("lines", by_lines), ("pixels", by_pixels)):
        rms_mv[name] = []
        for lead in layout.leads:
            columns = layout.columns(layout.segment(lead))
            off = (recording.signals_mv - signals_mv.astype(np.float32))[LEADS.index(lead), columns]
            rms_mv[name].append(np.std(off[1:-1]))
    assert max(rms_mv["lines"]) < 0.01
    assert max(rms_mv["pixels"]) > 0.01
    assert np.median(rms_mv["pixels"]) > 3 * np.median(rms_mv["lines"])
