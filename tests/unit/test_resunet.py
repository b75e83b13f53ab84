"""The residual U-Net of Computing in Cardiology 2024: its parts, and a page read by a true mask."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecg_digitize import geometry
from ecg_digitize.errors import StageError
from ecg_digitize.frames import crossings_mm
from ecg_digitize.layout import COMPETITION
from ecg_digitize.manifest import Architecture
from ecg_digitize.metrics import image_snr
from ecg_digitize.render.paper import cover_polyline
from ecg_digitize.signals import printed_recording
from ecg_digitize.stage0.normalize import registration_from_homography
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.systems.resunet import read as reading
from ecg_digitize.systems.resunet.decode import decode
from ecg_digitize.systems.resunet.judge import f1_on, mask_f1
from ecg_digitize.systems.resunet.net import PHASES, PUBLISHED_WIDTHS, Cbam, ResUNet
from ecg_digitize.systems.resunet.page import SIZE_PX, seen, upright
from ecg_digitize.systems.resunet.training import (
    Samples,
    loss_of,
    training_page,
    true_mask,
    true_upright,
)
from ecg_digitize.training.loop import Trainee, TrainOptions
from ecg_digitize.training.run import train_stage
from ecg_digitize.types import Page

PX_PER_MM = 3.9
ZERO_PX = (350.0, 490.0, 630.0, 760.0)
FIRST_PX, LAST_PX = 60.0, 1035.0
RENDER = 0  # index of a page that is plotted, see training.TRAINED_KINDS


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_attention_that_has_learnt_nothing_halves_all_channels_and_all_places():
    x = torch.randn(2, 24, 9, 7)
    attention = Cbam(24)

    assert attention(x).shape == x.shape
    for parameter in attention.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(attention(x), x / 4)


def test_attention_favours_a_channel_and_a_place():
    x = torch.ones(1, 4, 8, 8)
    x[0, 2] = 3.0
    x[0, :, 5, 5] += 4.0
    attention = Cbam(4)
    with torch.no_grad():
        for convolution in (attention.of_channels[0], attention.of_channels[2]):
            convolution.weight.copy_(torch.eye(4)[..., None, None])
        attention.of_places.weight.zero_()
        attention.of_places.weight[0, :, 3, 3] = 1.0

        share = attention(x) / x

    assert (share[0, 2] > share[0, 0]).all()
    assert share[0, 0].argmax() == 5 * 8 + 5


def test_the_four_channels_are_each_second_pixel_and_come_together_again():
    grey = torch.arange(6 * 10.0).reshape(1, 1, 6, 10)

    four = F.pixel_unshuffle(grey, PHASES)

    assert four.shape == (1, 4, 3, 5)
    for k in range(4):
        assert torch.equal(four[0, k], grey[0, 0, k // 2 :: 2, k % 2 :: 2])
    assert torch.equal(F.pixel_shuffle(four, PHASES), grey)


@pytest.mark.parametrize("size", [(64, 96), (85, 110), (33, 1)])
def test_a_mask_is_as_large_as_its_page(size):
    network = ResUNet(widths=(4, 8, 8)).eval()

    assert network(torch.zeros(1, 1, *size, dtype=torch.uint8)).shape == (1, 1, *size)


def test_the_published_widths_take_two_steps():
    torch.manual_seed(0)
    network = ResUNet(widths=PUBLISHED_WIDTHS)
    trainee = Trainee(
        network, loss_of, device=torch.device("cpu"), learning_rate=1e-2, weight_decay=0.0
    )
    ink = torch.rand(2, 1, 64, 64) < 0.05
    batch = {"grey": torch.where(ink, 20, 240).to(torch.uint8), "ink": ink}
    before = network.head.weight.detach().clone()

    for _ in range(2):
        trainee.learn(batch, progress=0.0)

    assert [block.body[0].out_channels for block in network.down] == [32, 64, 128, 256, 512]
    assert torch.isfinite(torch.stack(trainee.losses)).all()
    assert trainee.losses[1] < trainee.losses[0]
    assert not torch.equal(network.head.weight, before)


def test_training_takes_two_steps(tmp_path):
    options = TrainOptions(out=tmp_path, minutes=60, batch=1, workers=0, seed=3, max_steps=2)
    small = Architecture("ResUNet", {"widths": (4, 8)})

    _, figures = train_stage("resunet", SimulatorSource(), options, architecture=small)

    assert figures["steps"] == 2
    assert np.isfinite(figures["loss"])


def test_a_network_that_takes_all_dark_pixels_for_ink_gets_some_f1():
    class Dark(nn.Module):
        def __init__(self):
            super().__init__()
            self.level = nn.Parameter(torch.tensor(100.0))

        def forward(self, grey):
            return self.level - grey

    assert 0.3 < f1_on(SimulatorSource(), Dark(), pages=1, seed=8) < 0.95


def test_a_sample_shows_its_ink_dark():
    (sample,) = Samples(SimulatorSource(), 5)(RENDER)
    grey, ink = sample["grey"], sample["ink"]

    assert grey.shape == ink.shape == (1, *SIZE_PX[::-1])
    assert 0.003 < ink.mean() < 0.05
    assert grey[ink].mean() < grey[~ink].mean() - 60


@pytest.mark.parametrize("turn_deg", [0.0, 4.0, 93.0, 178.0])
def test_only_the_turn_is_taken_from_the_names(turn_deg):
    turn = np.deg2rad(turn_deg)
    cos, sin = 8 * np.cos(turn), 8 * np.sin(turn)
    page_from_sheet = np.array([[cos, -sin, 1500.0], [sin, cos, 1100.0], [0, 0, 1]])
    names_px = geometry.apply_homography(page_from_sheet, COMPETITION.names_mm)

    seen_from_page = upright((3000, 2000), names_px)

    linear = (seen_from_page @ page_from_sheet)[:2, :2]
    np.testing.assert_allclose(linear, linear[0, 0] * np.eye(2), atol=1e-9)
    corners = np.array([[-0.5, -0.5], [2999.5, -0.5], [-0.5, 1999.5], [2999.5, 1999.5]])
    shown = geometry.apply_homography(seen_from_page, corners)
    margin = np.array([shown.min(axis=0) + 0.5, np.array(SIZE_PX) - 0.5 - shown.max(axis=0)])
    assert margin.min() == pytest.approx(0, abs=1e-6)  # as large as it can be, and all of it
    np.testing.assert_allclose(margin[0], margin[1], atol=1e-6)


def test_a_dot_is_seen_where_the_map_says():
    image = np.full((1700, 2200, 3), 255, np.uint8)
    image[800:804, 1200:1204] = 0
    names_px = geometry.apply_homography(
        np.array([[0, -8.0, 2000], [8, 0, 30], [0, 0, 1]]), COMPETITION.names_mm
    )
    seen_from_page = upright((2200, 1700), names_px)

    grey = seen(image, seen_from_page)

    y, x = np.nonzero(grey < 255)
    weight = 255.0 - grey[y, x]
    at = np.average(np.stack([x, y], axis=1), axis=0, weights=weight)
    expected = geometry.apply_homography(seen_from_page, [1201.5, 801.5])
    np.testing.assert_allclose(at, expected, atol=0.1)


def _drawn(y_of_x, *, pulse_mm=None, stroke_px=2.0):
    """Draw four rows, each with its pulse or without."""
    coverage = np.zeros(SIZE_PX[::-1], np.float32)
    x = np.arange(FIRST_PX, LAST_PX + 0.25, 0.25)
    for row, zero in enumerate(ZERO_PX):
        cover_polyline(coverage, x, zero + y_of_x(row, x), stroke_px)
        if pulse_mm is not None:
            across = FIRST_PX + PX_PER_MM * np.array([-5.0, -5.0, 0, 0])
            down = zero - PX_PER_MM * pulse_mm * np.array([0.0, 1, 1, 0])
            cover_polyline(coverage, across, down, stroke_px)
    return coverage >= 0.5


def _wave(row, x):
    return 9 * np.sin((x - FIRST_PX) / (21 + 4 * row))


def test_the_line_is_found_within_half_a_pixel():
    lines = decode(_drawn(_wave))

    columns = np.arange(int(FIRST_PX) + 1, int(LAST_PX))
    for row, zero in enumerate(ZERO_PX):
        off = lines.y_px[row, columns] - zero - _wave(row, columns)
        assert np.abs(off).max() < 0.5
    assert lines.n_pulses == 0
    np.testing.assert_allclose(lines.start_px, FIRST_PX, atol=1)
    np.testing.assert_allclose(lines.end_px, LAST_PX, atol=1)
    assert lines.px_per_mv == pytest.approx(10 * (LAST_PX - FIRST_PX) / 250, rel=0.005)


@pytest.mark.parametrize("pulse_mm", [10.0, 8.0])
def test_the_height_of_the_pulse_is_the_gain(pulse_mm):
    lines = decode(_drawn(_wave, pulse_mm=pulse_mm))

    assert lines.n_pulses == 4
    assert lines.px_per_mv == pytest.approx(PX_PER_MM * pulse_mm, abs=0.6)
    np.testing.assert_allclose(lines.start_px, FIRST_PX, atol=1)


def test_a_wave_that_begins_in_the_pulse_does_not_hide_it():
    def with_wave(row, x):
        near = np.clip(1 - np.abs(x - FIRST_PX - 2) / 4, 0, None)
        return (-70 if row % 2 else 60) * near

    lines = decode(_drawn(with_wave, pulse_mm=10.0))

    assert lines.n_pulses >= 2
    assert lines.px_per_mv == pytest.approx(10 * PX_PER_MM, abs=1.1)  # a pixel
    np.testing.assert_allclose(lines.start_px, FIRST_PX, atol=1)


def test_a_hole_in_a_steep_stroke_does_not_break_it():
    def steep(row, x):
        return -80 * np.clip(1 - np.abs(x - 500) / 3, 0, None)

    whole = _drawn(steep)
    holed = whole.copy()
    for zero in ZERO_PX:
        holed[int(zero) - 40 : int(zero) - 38] = False  # two px high

    np.testing.assert_array_equal(decode(holed).y_px, decode(whole).y_px)


def test_a_gap_is_bridged_and_the_next_row_is_not_taken_for_the_own():
    mask = _drawn(_wave)
    mask[430:550, 400:440] = False  # of the second row

    lines = decode(mask)

    assert np.isnan(lines.y_px[1, 400:440]).all()
    assert np.abs(lines.y_px[1, 440:1000] - ZERO_PX[1]).max() < 11
    assert np.isfinite(lines.row_mv(1, np.arange(61.0, 1030.0))).all()


def test_a_mask_without_the_rows_is_refused():
    mask = _drawn(_wave)
    mask[int(ZERO_PX[2]) - 60 :] = False

    with pytest.raises(StageError, match="expected 4 rows, but the mask shows 2"):
        decode(mask, source="x.png")


def test_f1_of_half_a_mask():
    truth = np.zeros((4, 4), bool)
    truth[:2] = True
    half = truth.copy()
    half[1] = False

    assert mask_f1(truth, truth) == 1.0
    assert mask_f1(half, truth) == pytest.approx(2 / 3)
    assert mask_f1(~truth, truth) == 0.0


class _Painter(nn.Module):
    """Paints a mask whatever it sees."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("logits", torch.from_numpy(np.where(mask, 9.0, -9.0))[None, None])

    def forward(self, grey):
        assert grey.shape == self.logits.shape
        assert grey.dtype == torch.uint8
        return self.logits


@pytest.mark.parametrize("quarter_turns", [0, 1])
def test_a_page_is_read_by_its_true_mask(quarter_turns, monkeypatch, tiny_models):
    page = training_page(SimulatorSource(), seed=2, index=RENDER)
    painter = _Painter(true_mask(page, true_upright(page)))
    height, width = page.image.shape[:2]
    turned = np.ascontiguousarray(np.rot90(page.image, quarter_turns))
    page_from_sheet = geometry.quarter_turning(
        quarter_turns, (width, height)
    ) @ geometry.fit_homography(crossings_mm().reshape(-1, 2), page.crossings_xy_px.reshape(-1, 2))
    registration = registration_from_homography(page_from_sheet)
    monkeypatch.setattr(reading, "find_sheet", lambda page, models: registration)

    recording = reading.read(Page(turned, "render.png"), painter, tiny_models, fs_hz=250.0)

    truth_mv = printed_recording(page.signals_mv[:, ::2], fs_hz=250.0).signals_mv
    assert recording.signals_mv.shape == truth_mv.shape
    np.testing.assert_array_equal(np.isnan(recording.signals_mv), np.isnan(truth_mv))
    assert image_snr(truth_mv, recording.signals_mv, fs_hz=250.0).snr_db > 12
