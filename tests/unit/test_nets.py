from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ecg_digitize.errors import WeightsError
from ecg_digitize.nets.encoder import Encoder
from ecg_digitize.nets.unet import UNet, polyphase, unfold_cells
from ecg_digitize.stage0.net import STRIDE, Stage0Net
from ecg_digitize.stage1.net import Stage1Net
from ecg_digitize.stage2.refine import RefineNet
from ecg_digitize.stage2.series import SeriesNet
from ecg_digitize.stage2.whole import BIN_PX, WholeNet

NETWORKS = (Stage0Net, Stage1Net, WholeNet, SeriesNet, RefineNet)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.mark.parametrize("network", NETWORKS)
def test_outputs_have_the_promised_shapes(network):
    n, _, height, width = shape = network.example_input_shape()
    with torch.no_grad():
        out = network().eval()(torch.randint(0, 256, shape, dtype=torch.uint8))

    if network is Stage0Net:
        assert out[0].shape == (n, 13, height // STRIDE, width // STRIDE)
        assert out[1].shape == (n, 4)
    elif network is Stage1Net:
        assert out.shape == (n, height, width)
    elif network is RefineNet:
        assert out.shape == (n, width)
    else:
        assert out.shape == (n, 4, height // BIN_PX, width)
    assert all(torch.isfinite(t).all() for t in (out if isinstance(out, tuple) else (out,)))


@pytest.mark.parametrize("network", NETWORKS)
def test_weights_survive_a_round_trip(network, tmp_path: Path):
    from safetensors.torch import load_file

    one, other = network().eval(), network().eval()
    save_file(one.state_dict(), tmp_path / "w.safetensors")
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    x = torch.randint(0, 256, network.example_input_shape(), dtype=torch.uint8)

    with torch.no_grad():
        first, second = one(x), other(x)

    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_phases_come_in_the_order_of_pixel_unshuffle():
    x = torch.randint(0, 256, (2, 3, 6, 8), dtype=torch.uint8)

    assert torch.equal(polyphase(x), F.pixel_unshuffle(x, 2))


def test_any_timm_backbone_fits():
    body = UNet("resnet10t", in_channels=3, decoder=(16, 8, 8, 8)).eval()

    with torch.no_grad():
        features, deepest = body(torch.zeros(1, 3, 96, 64))

    assert features.shape == (1, 8, 48, 32)
    assert deepest.shape[2:] == (3, 2)


def test_cells_unfold_rows_and_columns_in_reading_order():
    cells = torch.arange(6.0).view(1, 6, 1, 1)  # one cell of 2 rows by 3 columns

    torch.testing.assert_close(unfold_cells(cells, 2, 3)[0, 0], torch.arange(6.0).view(2, 3))


def test_polyphase_input_starts_as_the_mean_picture(tmp_path: Path):
    rgb = Encoder("tf_efficientnet_lite0", in_channels=3, levels=5).eval()
    save_file(rgb.model.state_dict(), tmp_path / "rgb.safetensors")
    wide = Encoder("tf_efficientnet_lite0", in_channels=12, levels=3).eval()
    picture = torch.randn(1, 3, 64, 64)

    wide.load_imagenet(tmp_path / "rgb.safetensors")

    with torch.no_grad():
        expected = rgb(picture)[0]
        got = wide(picture.repeat(1, 4, 1, 1))[0]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_weights_of_another_backbone_are_refused(tmp_path: Path):
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "x.safetensors")

    with pytest.raises(WeightsError, match=r"x\.safetensors: lacks \d+ tensors"):
        Encoder("tf_efficientnet_lite0", in_channels=3, levels=3).load_imagenet(
            tmp_path / "x.safetensors"
        )
