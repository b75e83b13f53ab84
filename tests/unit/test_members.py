"""The networks stage 2 can be: they build, have the size they should, and learn."""

import pytest
import torch

from ecg_digitize.frames import RECT
from ecg_digitize.layout import COMPETITION
from ecg_digitize.runtime import placed
from ecg_digitize.stage2.members import MEMBERS
from ecg_digitize.stage2.series import (
    FUSIONS,
    NOWHERE,
    STRIP_PX,
    STRIP_TOPS_PX,
    SeriesNet,
)
from ecg_digitize.stage2.whole import BIN_PX
from ecg_digitize.training.stage2 import loss_of
from ecg_digitize.weights import network_classes

TINY = "test_efficientnet"  # timm's own, for tests

MILLIONS = {
    "whole": 3.2,
    "series": 3.5,
    "whole-b7": 64.7,
    "whole-v2l": 119.0,
    "series-b6-conv2d": 96.4,
    "series-b6-shared": 48.6,
    "series-v2l-shared": 127.5,
    "series-v2l-conv3d": 131.8,
}


def _batch(width):
    y_px = torch.tensor(COMPETITION.zero_px)[None, :, None].expand(2, 4, width)
    image = torch.randint(0, 256, (2, 3, RECT.height_px, width), dtype=torch.uint8)
    return {"image": image, "y_px": y_px, "seams": torch.zeros(2, 4, width, dtype=torch.bool)}


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_builds_and_has_the_size_it_should(name):
    architecture = MEMBERS[name]
    with torch.device("meta"):  # shapes without memory
        network = network_classes()[architecture.name](**architecture.options)

    size = sum(p.numel() for p in network.parameters()) / 1e6
    assert size == pytest.approx(MILLIONS[name], abs=0.1)


@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_takes_two_steps(name):
    """On a small backbone: 130 million parameters are no test's business."""
    torch.manual_seed(0)
    architecture = MEMBERS[name]
    network = network_classes()[architecture.name](**{**architecture.options, "backbone": TINY})
    placed(network, torch.device("cpu")).train()
    batch = _batch(64)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        loss = loss_of(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[1] < losses[0]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_rows_tell_each_other_what_they_see(fusion):
    torch.manual_seed(0)
    network = SeriesNet(backbone=TINY, decoder=(8, 8, 8), detail=4, fusion=fusion).eval()
    image = torch.randint(0, 256, (1, 3, RECT.height_px, 64), dtype=torch.uint8)
    other = image.clone()
    other[:, :, STRIP_TOPS_PX[2] + STRIP_PX :] = 255  # seen by the lowest strip alone

    with torch.no_grad():
        alone = (network(image) - network(other))[:, 2].abs().max()
        for fuse in network.fusions:
            torch.nn.init.normal_(fuse.conv.weight, std=0.1)
        told = (network(image) - network(other))[:, 2].abs().max()

    assert alone < 1e-4
    assert told > 1e-2


def test_a_row_is_looked_for_in_its_strip_alone():
    network = SeriesNet(backbone=TINY, decoder=(8, 8, 8), detail=4).eval()
    with torch.no_grad():
        network.row_prior.zero_()
        logits = network(torch.zeros(1, 3, RECT.height_px, 64))

    for row, top in enumerate(STRIP_TOPS_PX):
        outside = torch.ones(RECT.height_px // BIN_PX, dtype=torch.bool)
        outside[top // BIN_PX : (top + STRIP_PX) // BIN_PX] = False
        assert (logits[0, row, outside] == NOWHERE).all()
        assert (logits[0, row, ~outside] != NOWHERE).all()
        assert top < COMPETITION.zero_px[row] - 160 < top + STRIP_PX - 160
