"""The refinement: bands that follow the lines, and what the network makes of them."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from ecg_digitize import stages
from ecg_digitize.frames import RECT, TRACE_X0_PX
from ecg_digitize.layout import COMPETITION
from ecg_digitize.stage2.decode import decode, true_trace_map
from ecg_digitize.stage2.refine import (
    BAND_PX,
    CLUES,
    PIXELS,
    REACH_PX,
    RefineNet,
    bands_from,
    clues_along,
    flipped,
    pixels_along,
    smooth_lines,
)
from ecg_digitize.synth.dataset import make_page
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.training import refine as training
from ecg_digitize.training import stage2
from ecg_digitize.types import RectifiedPage, Trace


@pytest.fixture
def lines_px():
    """Four lines that rise and fall by 90 px, each lead a step apart from the one before."""
    t = np.arange(COMPETITION.n_columns)
    wave = 60 * np.sin(t / 300) + 30 * np.sin(t / 40) + 10 * (t // 1250)
    return (np.array(COMPETITION.zero_px)[:, None] - wave).astype(np.float32)


@pytest.fixture
def page(lines_px):
    """A white page with a stroke of 7 px along each line."""
    rows = np.arange(RECT.height_px)[:, None]
    image = np.full((RECT.height_px, RECT.width_px), 255.0)
    columns = slice(TRACE_X0_PX, TRACE_X0_PX + COMPETITION.n_columns)
    for line in lines_px:
        ink = np.clip(4 - np.abs(rows - line), 0, 1)
        image[:, columns] = np.minimum(image[:, columns], 255 * (1 - ink))
    return RectifiedPage(np.repeat(np.rint(image).astype(np.uint8)[..., None], 3, axis=2), 1.0)


def test_bands_follow_the_lines_and_show_them_level(page, lines_px):
    bands = pixels_along(page.image, true_trace_map(lines_px), lines_px)

    assert bands.shape == (4, PIXELS, BAND_PX, COMPETITION.n_columns)
    darkness = 255.0 - bands[:, 0]
    weight = np.arange(BAND_PX) - REACH_PX
    middle = slice(int(REACH_PX) - 8, int(REACH_PX) + 10)  # neighbours may enter at the edges
    centre = (weight[middle] @ darkness[:, middle]) / darkness[:, middle].sum(axis=1)
    assert np.abs(centre).max() < 0.1
    likely = bands[:, 3].astype(float) ** 2
    centre = (weight @ likely) / likely.sum(axis=1)
    assert np.abs(centre).max() < 0.05


def test_leads_are_smoothed_apart(lines_px):
    step = np.zeros((4, COMPETITION.n_columns), np.float32)
    step[:, 1250:] = 100

    smooth = smooth_lines(step)

    np.testing.assert_array_equal(smooth[:3], step[:3])  # a lead begins there
    assert 0 < smooth[3, 1249] < smooth[3, 1250] < 100  # the strip goes on
    assert np.abs(smooth_lines(lines_px) - lines_px)[:3].max() < 0.5


def test_clues_say_where_leads_begin_and_end(lines_px):
    trace = Trace(lines_px, np.ones_like(lines_px))

    clues = clues_along(trace, lines_px) / 127.5 - 1

    assert clues.shape == (4, CLUES, COMPETITION.n_columns)
    np.testing.assert_allclose(clues[:, 1], 0, atol=1e-5)  # the lines are followed as they are
    np.testing.assert_allclose(clues[:, 3], 1, atol=1e-5)
    begin, end = clues[:, 4], clues[:, 5]
    np.testing.assert_allclose(begin[0, [0, 1250, 2500, 3750]], 1, atol=1e-5)
    np.testing.assert_allclose(end[0, [1249, 2499, 3749, 4999]], 1, atol=1e-5)
    assert begin[3, 1250] < 1e-3  # the strip is one lead
    assert begin[3, 0] == pytest.approx(1, abs=1e-5)


def test_flipped_bands_are_those_of_a_flipped_line(lines_px):
    """Of one lead, whose decoded line is not the one followed."""
    lead = slice(1250, 2500)
    decoded = lines_px + 3 * np.sin(np.arange(COMPETITION.n_columns, dtype=np.float32) / 9)
    trace = Trace(decoded, np.full_like(lines_px, 0.7))
    clues = clues_along(trace, lines_px)[1, :, lead]
    bands = np.random.default_rng(0).integers(0, 256, (PIXELS, BAND_PX, 1250)).astype(np.uint8)

    backwards = replace(trace, y_px=decoded.copy())
    line_back = lines_px.copy()
    backwards.y_px[1, lead] = decoded[1, lead][::-1]
    line_back[1, lead] = lines_px[1, lead][::-1]
    as_tensors = torch.from_numpy(bands), torch.from_numpy(clues)
    pixels, flipped_clues = flipped(*as_tensors, upside_down=False, backwards=True)
    wanted = clues_along(backwards, line_back)[1, :, lead]
    np.testing.assert_array_equal(pixels, bands[..., ::-1])
    np.testing.assert_allclose(flipped_clues[:, 1:-1], wanted[:, 1:-1], atol=0.02)

    zero = np.float32(COMPETITION.zero_px[1])
    mirrored = Trace(2 * zero - decoded, trace.confidence)
    pixels, flipped_clues = flipped(*as_tensors, upside_down=True, backwards=False)
    wanted = clues_along(mirrored, 2 * zero - lines_px)[1, :, lead]
    np.testing.assert_array_equal(pixels, bands[:, ::-1])
    np.testing.assert_allclose(flipped_clues, wanted, atol=0.02)


def test_a_fresh_network_leaves_the_lines_where_they_are(page, lines_px, tiny_models):
    trace = Trace(lines_px, np.ones_like(lines_px))

    refined = stages.refine_trace(page, true_trace_map(lines_px), trace, tiny_models)

    np.testing.assert_allclose(refined.y_px, smooth_lines(lines_px), atol=1e-4)
    np.testing.assert_array_equal(refined.confidence, trace.confidence)


def test_samples_say_how_far_the_line_is_off_the_ink(monkeypatch):
    def decode_badly(*of):
        trace = decode(*of)
        return replace(trace, y_px=trace.y_px + wave_px)

    wave_px = 6 * np.sin(np.arange(COMPETITION.n_columns, dtype=np.float32) / 50)
    monkeypatch.setattr(training, "decode", decode_badly)
    monkeypatch.setattr(stage2, "make_page", partial(make_page, kind="render"))

    samples = training.Samples(SimulatorSource(), seed=1, first_pages=1, draws=6)(0)

    assert len(samples) == 6
    for sample in samples:
        assert sample["pixels"].shape == (PIXELS, BAND_PX, training.CROP_COLUMNS)
        assert np.isfinite(sample["offset_px"]).mean() > 0.5
        assert 0 < sample["weight"] < 6
    ink, said = (np.concatenate(parts) for parts in zip(*map(_ink_and_label, samples), strict=True))
    assert len(ink) > 1000
    assert np.corrcoef(ink, said)[0, 1] > 0.9
    assert np.median(np.abs(ink - said)) < 2  # grid lines draw the darkness to them


def test_a_pool_draws_matching_pieces_of_the_last_pages():
    """Pixels, clues and offsets that all tell page, row and column; flips show in each."""
    pool = training.Pool(2, device=torch.device("cpu"))
    column = np.arange(COMPETITION.n_columns)
    for page in range(3):
        where = COMPETITION.n_columns * (4 * page + np.arange(4)[:, None]) + column + 1
        pixels = np.zeros((4, PIXELS, BAND_PX, COMPETITION.n_columns), np.uint8)
        pixels[:, 0] = (where // 256)[:, None]
        pixels[:, 1] = (where % 256)[:, None]
        pixels[:, 2, :8] = 255  # above the line
        clues = np.zeros((4, CLUES, COMPETITION.n_columns), np.float32)
        clues[:, 0], clues[:, 3], clues[:, 4] = 100, where, 50  # slope, confidence, begin
        pool.put(training.Bands(pixels, clues, where.astype(np.float32), weight=page))

    drawn = {name: part.numpy() for name, part in pool.draw(64, np.random.default_rng(0)).items()}

    assert len(pool) == 2
    where = np.abs(drawn["offset_px"])
    steps = np.diff(where)
    backwards, upside_down = steps[:, 0] < 0, drawn["offset_px"][:, 0] < 0
    np.testing.assert_array_equal(steps, np.where(backwards, -1, 1)[:, None] + 0 * steps)
    page = (where[:, 0] - 1) // (4 * COMPETITION.n_columns)
    np.testing.assert_array_equal(drawn["weight"], page)
    assert set(page) == {1, 2}
    pixels, clues = drawn["pixels"].astype(int), drawn["clues"]
    told = 256 * pixels[:, 0] + pixels[:, 1]
    np.testing.assert_array_equal(told, np.broadcast_to(where[:, None], told.shape))
    np.testing.assert_array_equal(clues[:, 3], where)
    np.testing.assert_array_equal(pixels[:, 2, -1, 0] == 255, upside_down)
    np.testing.assert_array_equal(clues[:, 0, 0] == 155, backwards != upside_down)
    np.testing.assert_array_equal(clues[:, 5, 0] == 50, backwards)
    for flips in (upside_down, backwards):
        assert 0 < flips.mean() < 1


def _ink_and_label(sample):
    """Return where the dark pixels of a sample's columns are centred, and what its label says."""
    weight = np.arange(BAND_PX) - REACH_PX
    near = np.abs(weight) < 14
    dark = sample["pixels"][1, near].astype(float)
    dark = np.clip(np.percentile(dark, 20, axis=0) - dark, 0, None)
    seen = np.isfinite(sample["offset_px"]) & (dark.max(axis=0) > 60)
    seen &= np.abs(np.nan_to_num(sample["offset_px"])) < 8
    ink = (weight[near] @ dark)[seen] / dark.sum(axis=0)[seen]
    return ink, sample["offset_px"][seen]


def test_columns_far_from_the_ink_teach_nothing():
    batch = {
        "pixels": torch.zeros(1, PIXELS, BAND_PX, 64, dtype=torch.uint8),
        "clues": torch.zeros(1, CLUES, 64),
        "offset_px": torch.full((1, 64), 2.0),
        "weight": torch.ones(1),
    }
    network = RefineNet(stem=(4, 4, 4, 4), width=8, dilations=(1,))
    full = training.loss_of(network, batch)
    batch["offset_px"][:, 32:] = torch.nan
    half = training.loss_of(network, batch)
    batch["weight"][:] = 0.5
    light = training.loss_of(network, batch)

    assert full.item() == pytest.approx(2.0)  # half the square of 2 px: it says 0 everywhere
    assert half.item() == pytest.approx(2.0)
    assert light.item() == pytest.approx(1.0)
    assert bands_from(batch["pixels"], batch["clues"]).shape == (1, PIXELS + CLUES, BAND_PX, 64)
