"""The starter notebook's network, from pictures straight to signals."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ecg_digitize.errors import StageError
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.manifest import Architecture
from ecg_digitize.metrics import image_snr
from ecg_digitize.signals import printed_recording
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.systems.regression.net import INPUT_PX, RegressionNet
from ecg_digitize.systems.regression.read import read
from ecg_digitize.systems.regression.training import (
    DRAWS,
    LossOptions,
    Samples,
    log_error_share,
    loss_of,
)
from ecg_digitize.systems.starter import FIRST_PX, PX_PER_S, SHEET
from ecg_digitize.training.loop import Trainee, TrainOptions
from ecg_digitize.training.run import train_stage
from ecg_digitize.types import Page

TINY = {"channels": (2, 4, 4, 8), "depth": 0, "values": 2, "width": 8, "dilations": (1,)}
MODELS = SimpleNamespace(device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def batch():
    samples = Samples(SimulatorSource(), 1)(3)
    assert len(samples) == DRAWS
    return {key: torch.from_numpy(np.stack([one[key] for one in samples])) for key in samples[0]}


def test_a_picture_gives_twelve_leads_of_ten_seconds():
    network = RegressionNet(**TINY).eval()
    with torch.inference_mode():
        leads = network(torch.zeros(2, 1, INPUT_PX[1], INPUT_PX[0], dtype=torch.uint8))
    assert leads.shape == (2, len(LEADS), COMPETITION.n_columns)
    assert RegressionNet.example_input_shape() == (1, 1, INPUT_PX[1], INPUT_PX[0])


def test_heads_look_at_their_rows_first():
    prior = RegressionNet(**TINY).row_prior.detach()
    cell_px = SHEET.height_px / prior.shape[1]
    middle_px = cell_px * (prior.argmax(1) + 0.5).numpy()
    zeros = [SHEET.px_from_mm(np.array([0.0, zero_mm]))[1] for zero_mm in COMPETITION.zero_mm]
    assert np.abs(middle_px - zeros).max() <= cell_px / 2


def test_a_sample_is_a_small_grey_picture_and_what_it_shows(batch):
    assert batch["image"].shape == (DRAWS, 1, INPUT_PX[1], INPUT_PX[0])
    assert batch["image"].dtype == torch.uint8
    assert not torch.equal(batch["image"][0], batch["image"][1])
    seen = torch.isfinite(batch["signals_mv"][0])
    assert seen.sum(1).tolist() == [5000 if lead == "II" else 1250 for lead in LEADS]
    again = Samples(SimulatorSource(), 1)(3)
    assert np.array_equal(again[0]["image"], batch["image"][0].numpy())


def test_the_instant_of_a_column_is_that_of_the_sheet():
    """What stands in one column of the input moves the signal at its own instant, nowhere else."""
    network = RegressionNet(**{**TINY, "dilations": ()}).eval()
    at_s = 6.0
    column = round((FIRST_PX + PX_PER_S * at_s) * INPUT_PX[0] / SHEET.width_px)
    image = torch.full((1, 1, INPUT_PX[1], INPUT_PX[0]), 255.0)
    with torch.inference_mode():
        before = network(image)
        image[..., column] = 0
        moved = (network(image) - before).abs().sum((0, 1))
    centre_s = float((moved * torch.arange(5000)).sum() / moved.sum()) / 500
    assert centre_s == pytest.approx(at_s, abs=0.02)


def test_the_loss_is_the_metric():
    rng = np.random.default_rng(2)
    whole = np.cumsum(rng.normal(0, 0.05, (12, 5000)), axis=1)
    truth = printed_recording(whole, fs_hz=500).signals_mv
    offsets = rng.normal(0, 1, (12, 1))
    predicted = (np.roll(whole, 7, axis=1) + offsets + rng.normal(0, 0.05, whole.shape))[None]
    share = log_error_share(
        torch.from_numpy(predicted), torch.from_numpy(truth)[None], LossOptions(floor_mv2=0)
    )
    want_db = image_snr(truth, predicted[0], fs_hz=500, cap_ratio=None).snr_db
    assert -10 / np.log(10) * float(share) == pytest.approx(want_db, abs=0.01)
    assert want_db > 5


def test_what_is_not_printed_teaches_nothing(batch):
    predicted = torch.randn(DRAWS, 12, 5000, requires_grad=True)
    loss = loss_of(lambda _: predicted, batch)
    loss.backward()
    seen = torch.isfinite(batch["signals_mv"])
    beside = seen[..., :-2] | seen[..., 1:-1] | seen[..., 2:]  # of the second differences
    reached = torch.nn.functional.pad(beside, (1, 1))
    assert (predicted.grad[~(reached | seen)] == 0).all()
    assert (predicted.grad[seen] != 0).float().mean() > 0.9


def test_rough_leads_are_worse_than_smooth_ones(batch):
    truth = torch.nan_to_num(batch["signals_mv"])
    rough = truth + 0.1 * (-1) ** torch.arange(5000)
    free, usual = LossOptions(smoothness=0), LossOptions()
    for predicted, costs in ((rough, 0.5), (truth, 0.0)):
        with_it = loss_of(lambda _, p=predicted: p, batch, options=usual)
        without = loss_of(lambda _, p=predicted: p, batch, options=free)
        assert float(with_it - without) >= costs
    assert float(with_it - without) < 0.05  # true leads are smooth


def test_the_loss_of_one_batch_falls(batch):
    trainee = Trainee(
        RegressionNet(**TINY), loss_of, device=torch.device("cpu"), learning_rate=0.02,
        weight_decay=0.0,
    )  # fmt: skip
    two = {key: values[:2] for key, values in batch.items()}
    for _ in range(7):
        trainee.learn(two, progress=0.0)
    assert float(trainee.losses[-1]) < float(trainee.losses[0]) - 0.1


def test_two_steps_then_resumed(tmp_path):
    tiny = Architecture("RegressionNet", TINY)
    for steps in (1, 2):
        limits = TrainOptions(out=tmp_path, minutes=60, batch=2, workers=0, max_steps=steps)
        network, figures = train_stage("regression", SimulatorSource(), limits, architecture=tiny)
        assert figures["steps"] == steps
        assert np.isfinite(figures["loss"])
    assert not network.training
    assert (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("fs_hz", [250, 500, 1000, 1025])
def test_windows_are_those_of_the_layout(fs_hz):
    image = np.full((300, 400, 3), 255, np.uint8)
    recording = read(Page(image, "page"), RegressionNet(**TINY).eval(), MODELS, fs_hz=fs_hz)
    assert recording.signals_mv.shape == (12, 10 * fs_hz)
    for lead, values in zip(LEADS, recording.signals_mv, strict=True):
        start, stop = COMPETITION.window(lead, 10 * fs_hz)
        assert np.flatnonzero(np.isfinite(values)).tolist() == list(range(start, stop))


def test_what_is_read_is_what_the_network_says():
    """A network of known leads: each comes out in its own row, window and time."""
    t = np.arange(5000) / 500
    leads_mv = np.array([np.sin(2 * np.pi * (2 + 0.5 * k) * t) for k in range(12)])

    class Known(torch.nn.Module):
        def forward(self, _):
            return torch.from_numpy(leads_mv)[None]

    page = Page(np.zeros((10, 12, 3), np.uint8), "page")
    for fs_hz in (500, 250, 1000):
        truth = np.array([np.interp(np.arange(10 * fs_hz) / fs_hz, t, row) for row in leads_mv])
        truth_mv = printed_recording(truth, fs_hz=fs_hz).signals_mv
        recording = read(page, Known(), MODELS, fs_hz=fs_hz)
        score = image_snr(truth_mv, recording.signals_mv, fs_hz=fs_hz)
        assert score.snr_db > 14  # the smoothing spoils the leads' ends
        assert all(abs(lead.lag_samples) <= fs_hz // 250 for lead in score.leads.values())


def test_without_a_network_or_with_nonsense_it_fails():
    class Nonsense(torch.nn.Module):
        def forward(self, _):
            return torch.full((1, 12, 5000), torch.nan)

    page = Page(np.zeros((10, 12, 3), np.uint8), "page")
    with pytest.raises(StageError, match="page: the network is missing"):
        read(page, None, MODELS, fs_hz=500)
    with pytest.raises(StageError, match="no finite signals"):
        read(page, Nonsense(), MODELS, fs_hz=500)
