"""The U-Net that marks one lead's trace: its crops, its series, its scale, and reading by it."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from ecg_digitize.errors import StageError
from ecg_digitize.frames import RECT
from ecg_digitize.layout import LEADS
from ecg_digitize.layouts import FAMILIES
from ecg_digitize.manifest import Architecture
from ecg_digitize.render.paper import PaperStyle, blend_ink, cover_polyline, draw_paper
from ecg_digitize.signals import printed_recording
from ecg_digitize.synth.dataset import make_page
from ecg_digitize.synth.sheets import DEFAULTS, make_sheet
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.systems.overlap import read as reading
from ecg_digitize.systems.overlap.crop import HEIGHT_PX, SHRUNK, cut
from ecg_digitize.systems.overlap.net import OverlapNet
from ecg_digitize.systems.overlap.scale import grid_scale
from ecg_digitize.systems.overlap.series import centre_px, filled, series_mv
from ecg_digitize.systems.overlap.training import (
    CROP_PX,
    CROPS_A_SHEET,
    Samples,
    loss_of,
    mask_of,
    pasted,
)
from ecg_digitize.training.loop import TrainOptions
from ecg_digitize.training.run import train_stage
from ecg_digitize.training.strips import Strip
from ecg_digitize.types import Page

CPU = torch.device("cpu")
SOURCE = SimulatorSource(seed=3)
RENDERS = 3  # a seed whose first page is a render, which takes little time
MIDDLE = HEIGHT_PX // 2


class Painter(nn.Module):
    """Marks what is black near the middle of a crop."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        dark = image.float().amax(dim=1) < 100
        far = (torch.arange(image.shape[2]) - image.shape[2] / 2).abs() > 120
        return torch.where(dark & ~far[:, None], 9.0, -9.0)


class Blind(nn.Module):
    """Marks nothing."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.full(image[:, 0].shape, -9.0)


def waves(n: int) -> np.ndarray:
    """A line as a trace is: flat, with a steep beat every 500 columns."""
    at = np.arange(n) % 500
    beat = -120 * np.exp(-(((at - 250) / 12) ** 2)) + 40 * np.exp(-(((at - 280) / 12) ** 2))
    return (MIDDLE + 3.3 + beat).astype(np.float32)


# ------------------------------------------------------------------------------ network
@pytest.mark.parametrize("size", [(HEIGHT_PX, 96), (50, 33)])
def test_the_network_scores_every_pixel_of_any_crop(size: tuple[int, int]) -> None:
    network = OverlapNet(widths=(4, 4, 8)).eval()
    with torch.inference_mode():
        logits = network(torch.zeros((2, 3, *size), dtype=torch.uint8))
    assert logits.shape == (2, *size)


def test_it_sees_which_of_two_equal_traces_lies_in_the_middle() -> None:
    torch.manual_seed(0)
    network = OverlapNet(widths=(4, 8)).eval()
    image = torch.full((1, 3, 256, 32), 255, dtype=torch.uint8)
    image[:, :, [64, 128]] = 0  # far from the edges: all that differs is the place
    with torch.inference_mode():
        logits = network(image)[0]
    assert (logits[64, 16] - logits[128, 16]).abs() > 1e-5


# --------------------------------------------------------------------- crops and series
def test_a_line_comes_back_from_its_mask() -> None:
    y_px = waves(2000)
    mask = mask_of(y_px)
    assert mask.shape == (HEIGHT_PX, 1000)
    line_px = centre_px(mask.astype(np.float32) / 255)
    back = np.interp((np.arange(2000) - 0.5) / SHRUNK, np.arange(1000), line_px)
    flat = np.abs(np.arange(2000) % 500 - 250) > 100
    assert np.abs(back - y_px)[flat].max() < 0.02
    assert np.sqrt(np.mean((back - y_px) ** 2)) < 0.5
    assert abs(back.min() - y_px.min()) < 2.0  # tips are hardly cut off


def test_specks_and_gaps_do_not_move_a_line() -> None:
    y_px = np.full(400, 100.0, np.float32)
    mask = mask_of(y_px).astype(np.float32) / 255
    mask[300:303, 50:52] = 1.0
    mask[:, 80:100] = 0.0
    line_px = centre_px(mask)
    assert np.isnan(line_px[80:100]).all()
    whole_px = filled(line_px)
    assert whole_px is not None
    assert np.allclose(whole_px, 100.0, atol=0.01)
    assert filled(np.full(5, np.nan)) is None


def test_millivolts_are_heights_above_the_baseline() -> None:
    mv = series_mv(np.array([100.0, 20.0, 140.0]), zero_px=100.0, px_per_mv=80.0)
    assert mv.tolist() == [0.0, 1.0, -0.5]


@pytest.mark.parametrize("zero_px", [60.0, 640.2, 1250.0])
def test_a_crop_has_the_baseline_in_the_middle_wherever_it_lies(zero_px: float) -> None:
    image = np.full((1280, 700, 3), 200, np.uint8)
    image[round(zero_px)] = 0
    crop = cut(image, zero_px=zero_px, first=100, n_columns=501)
    assert crop.image.shape == (HEIGHT_PX, 251, 3)
    assert crop.image[MIDDLE].max() == 0
    at = crop.at_columns(np.arange(251.0))
    assert at.shape == (501,)
    assert at[100:102].mean() == pytest.approx(50.0)  # two columns make one of the crop
    assert crop.top_px + MIDDLE == round(zero_px)


# --------------------------------------------------------------------------------- scale
def drawn_grid(px_per_mm: float, **style: object) -> np.ndarray:
    """The grid of a lead's box, 62 by 40 mm, with a trace."""
    width, height = round(62 * px_per_mm), round(40 * px_per_mm)

    def lines(n: int, every_mm: float) -> np.ndarray:
        return (0.3 + every_mm * np.arange(n / px_per_mm / every_mm + 1)) * px_per_mm

    paper = PaperStyle(
        minor_width_px=max(1.0, 0.12 * px_per_mm),
        major_width_px=max(1.2, 0.2 * px_per_mm),
        **style,  # type: ignore[arg-type]
    )
    image = draw_paper(
        (width, height),
        paper,
        lines_x_px=(lines(width, 1.0), lines(width, 5.0)),
        lines_y_px=(lines(height, 1.0), lines(height, 5.0)),
    )
    coverage = np.zeros(image.shape[:2], np.float32)
    x_mm = np.linspace(1, 61, 3000)
    y_mm = 20 - 12 * np.exp(-(((x_mm % 20 - 9) / 0.6) ** 2))
    cover_polyline(coverage, x_mm * px_per_mm, y_mm * px_per_mm, 0.35 * px_per_mm)
    blend_ink(image, coverage, np.zeros(3, np.float32), 1.0)
    return image


@pytest.mark.parametrize("px_per_mm", [4.0, 4.7, 5.9, 7.874, 9.4, 11.811, 15.3, 20.0])
@pytest.mark.parametrize("style", ["usual", "only squares of 5 mm", "faint", "grey"])
def test_the_scale_of_a_drawn_grid_is_found(px_per_mm: float, style: str) -> None:
    styles = {
        "usual": {},
        "only squares of 5 mm": {"minor_alpha": 0.0},
        "faint": {"minor": (255, 243, 240), "major": (255, 215, 215)},
        "grey": {"minor": (225, 225, 225), "major": (190, 190, 190)},
    }
    found = grid_scale(drawn_grid(px_per_mm, **styles[style]))
    assert found == pytest.approx(px_per_mm, rel=0.02)


@pytest.mark.parametrize("px_per_mm", [5.9, 11.811, 17.0])
def test_it_is_found_where_all_lines_are_alike(px_per_mm: float) -> None:
    found = grid_scale(drawn_grid(px_per_mm, major_alpha=0.0))
    assert found == pytest.approx(px_per_mm, rel=0.02)


def test_it_is_found_on_paper_that_lies_askew() -> None:
    image = drawn_grid(8.0)
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 1.5, 1.0)
    askew = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    assert grid_scale(np.asarray(askew, np.uint8)) == pytest.approx(8.0, rel=0.02)


def test_there_is_no_scale_without_a_grid() -> None:
    noise = np.random.default_rng(0).integers(200, 255, (300, 500, 3)).astype(np.uint8)
    assert grid_scale(noise) is None
    assert grid_scale(drawn_grid(8.0, minor_alpha=0.0, major_alpha=0.0)) is None
    assert grid_scale(np.full((8, 9, 3), 255, np.uint8)) is None


@pytest.mark.parametrize(("kind", "sheets"), [("render", 4), ("scan", 2)])
def test_the_scale_of_leads_of_synthetic_sheets_is_found(kind: str, sheets: int) -> None:
    families = tuple(float(one.name in ("3x4", "6x2")) for one in FAMILIES)
    options = DEFAULTS._replace(families=families, no_grid=0.0, inverted=0.0)
    right = []
    for index in range(sheets):
        sheet = make_sheet(SOURCE, seed=9, index=index, kind=kind, options=options)
        line, zero_mm = sheet.sheet.lines_mm[1][0], sheet.layout.zero_mm[1]
        across_mm, down_mm = float(line[-1, 0] - line[0, 0]), 36.0
        corners_mm = line[0, 0] + np.array([[0, 0], [across_mm, 0], [0, 0]])
        corners_mm[:, 1] = zero_mm + np.array([-18, -18, 18])
        origin, right_px, lower_px = sheet.warp.page_from_sheet(corners_mm)
        (x0, y0), x1, y1 = np.maximum(origin, 0).astype(int), int(right_px[0]), int(lower_px[1])
        true = np.hypot(*(right_px - origin)) / across_mm
        true = np.sqrt(true * np.hypot(*(lower_px - origin)) / down_mm)
        found = grid_scale(sheet.image[y0:y1, x0:x1])
        right.append(found is not None and abs(found / true - 1) < 0.02)
    assert sum(right) == len(right)


# ------------------------------------------------------------------------------ training
def test_samples_are_a_function_of_their_index_and_lie_on_ink() -> None:
    make = Samples(SOURCE, seed=1)
    samples = make(1)
    assert len(samples) == CROPS_A_SHEET
    for sample in samples:
        assert sample["image"].shape == (3, HEIGHT_PX, CROP_PX)
        assert sample["mask"].shape == (HEIGHT_PX, CROP_PX)
        assert sample["image"].dtype == sample["mask"].dtype == np.uint8
        brightness = sample["image"].max(axis=0)
        marked = sample["mask"] > 250
        assert brightness[marked].mean() < np.median(brightness) - 30
    again = make(1)
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(samples, again, strict=True))


@pytest.mark.parametrize("inverted", [False, True])
def test_another_trace_is_pasted_across_and_nothing_else_changes(inverted: bool) -> None:
    paper, ink = (20, 230) if inverted else (230, 20)
    image = np.full((HEIGHT_PX, 400, 3), paper, np.uint8)
    other = image.copy()
    other[140:143] = ink
    other[300:310] = ink  # a neighbour of the other, which is not pasted
    line = np.full((1, 400), 141.0, np.float32)
    line[:, 200:] = np.nan
    strip = Strip(other, line, np.zeros((1, 400), np.bool_))
    both = pasted(image, strip, width_mm=3 / RECT.px_per_mm_xy[1], inverted=inverted)
    assert np.abs(both[141, 20:180].astype(int) - ink).max() < 40
    assert (both[300:310] == paper).all()
    assert (both[:, 230:] == paper).all()


def test_it_trains_two_steps(tmp_path) -> None:
    options = TrainOptions(
        tmp_path, minutes=1, batch=2, workers=0, max_steps=2, device=CPU, seed=RENDERS
    )
    small = Architecture("OverlapNet", {"widths": (4, 8)})
    network, figures = train_stage("overlap", SOURCE, options, architecture=small)
    assert isinstance(network, OverlapNet)
    assert figures["steps"] == 2
    assert np.isfinite(figures["loss"])
    assert not network.training


def test_the_loss_is_least_for_the_mask_itself() -> None:
    mask = torch.from_numpy(mask_of(waves(512)))[None]
    batch = {"image": torch.zeros(1, 3, *mask.shape[1:]), "mask": mask}

    class Says(nn.Module):
        def __init__(self, shift: int) -> None:
            super().__init__()
            self.logits = torch.where(mask.roll(shift, dims=1) > 127, 9.0, -9.0)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.logits

    losses = [float(loss_of(Says(shift), batch)) for shift in (0, 1, 2, 8)]
    assert losses == sorted(losses)
    assert losses[0] < 0.5 * losses[1]


# ------------------------------------------------------------------------------- reading
@pytest.fixture(scope="module")
def render():
    """A render with its rows far apart."""
    return make_page(SOURCE, seed=4, index=3, kind="render", vary_signals=False)


@pytest.fixture
def true_geometry(monkeypatch, render):
    monkeypatch.setattr(reading, "find_sheet", lambda page, models: None)
    monkeypatch.setattr(reading, "find_grid", lambda page, registration, models: render.grid)


@pytest.mark.usefixtures("true_geometry")
def test_a_page_is_read_in_its_boxes(render, tiny_models) -> None:
    recording = reading.read(Page(render.image, "render"), Painter(), tiny_models, fs_hz=250.0)
    true = printed_recording(render.signals_mv, fs_hz=500.0).signals_mv[:, ::2]
    assert recording.signals_mv.shape == (12, 2500)
    assert recording.fs_hz == 250.0
    assert np.array_equal(np.isnan(recording.signals_mv), np.isnan(true))
    alike = []
    for got, wanted in zip(recording.signals_mv, true, strict=True):
        known = np.isfinite(wanted)
        alike.append(np.corrcoef(got[known], wanted[known])[0, 1])
    assert len(alike) == len(LEADS)
    assert np.median(alike) > 0.9


@pytest.mark.usefixtures("true_geometry")
def test_a_page_without_marks_is_refused(render, tiny_models) -> None:
    with pytest.raises(StageError, match="marks hardly any"):
        reading.read(Page(render.image, "render"), Blind(), tiny_models)


@pytest.mark.parametrize("px_per_mm", [6.0, 10.0])
def test_a_single_crop_is_read_at_any_scale(px_per_mm: float) -> None:
    mv = reading.read_crop(drawn_grid(px_per_mm), Painter(), CPU)
    assert mv.shape == (1240,)  # 62 mm
    peaks = [mv[round((first + 9) * 20) - 60 :][:120].max() for first in (0, 20, 40)]
    assert peaks == pytest.approx([1.2] * 3, abs=0.1)
    assert np.median(mv) == pytest.approx(0.0, abs=0.02)


def test_a_crop_without_grid_or_trace_is_refused() -> None:
    plain = np.full((300, 500, 3), 255, np.uint8)
    with pytest.raises(StageError, match="saw none"):
        reading.read_crop(plain, Painter(), CPU)
    with pytest.raises(StageError, match="none is marked"):
        reading.read_crop(drawn_grid(8.0), Blind(), CPU)
