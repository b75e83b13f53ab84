"""The networks stage 2 can be: they build, have the size they should, and learn."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_digitize.frames import RECT
from ecg_digitize.inputs import read_page
from ecg_digitize.layout import COMPETITION
from ecg_digitize.manifest import Architecture, read_manifest, update_manifest
from ecg_digitize.models import PRESETS, load_models, members_of
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.runtime import placed
from ecg_digitize.shipped import HOME, sample_page
from ecg_digitize.stage2.members import BACKBONE, MEMBERS
from ecg_digitize.stage2.series import (
    FUSIONS,
    NOWHERE,
    STRIP_PX,
    STRIP_TOPS_PX,
    SeriesNet,
    StripsOfPage,
    start_as_strips,
)
from ecg_digitize.stage2.strip import StripNet
from ecg_digitize.stage2.whole import BIN_PX
from ecg_digitize.stages import find_traces
from ecg_digitize.training.export import export, provenance_now, save_half
from ecg_digitize.training.stage2 import loss_of
from ecg_digitize.types import RectifiedPage
from ecg_digitize.weights import network_classes

TINY = "test_efficientnet"  # timm's own, for tests

MILLIONS = {
    "whole": 3.2,
    "series-conv2d": 5.4,
    "series-shared": 3.5,
    "series-conv3d": 3.6,
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


def _strip_net(**options):
    torch.manual_seed(0)
    return StripNet(backbone=TINY, decoder=(8, 8, 8), detail=4, **options).eval()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_series_network_starts_as_strips_that_see_each_row_alone(fusion):
    strips = _strip_net()
    series = SeriesNet(backbone=TINY, decoder=(8, 8, 8), detail=4, fusion=fusion).eval()
    start_as_strips(series, strips.state_dict())
    image = torch.randint(0, 256, (1, 3, RECT.height_px, 64), dtype=torch.uint8)
    top = STRIP_TOPS_PX[1]

    with torch.no_grad():
        page = StripsOfPage(strips)(image)
        torch.testing.assert_close(series(image), page, rtol=1e-4, atol=1e-4)
        alone = strips(image[:, :, top : top + STRIP_PX])[0, 0]
        on_page = page[0, 1, top // BIN_PX : (top + STRIP_PX) // BIN_PX]
        torch.testing.assert_close(on_page, alone, rtol=1e-4, atol=1e-4)
    assert page.shape == (1, COMPETITION.n_rows, RECT.height_px // BIN_PX, 64)


class _Sure(torch.nn.Module):
    """Says that all rows lie in one bin."""

    def __init__(self, bin_):
        super().__init__()
        self.bin = bin_

    def forward(self, image):
        logits = torch.zeros(
            len(image), COMPETITION.n_rows, RECT.height_px // BIN_PX, RECT.width_px
        )
        logits[:, :, self.bin] = 100
        return logits


def test_members_that_are_asked_have_equal_shares(tiny_models):
    page = RectifiedPage(np.full((RECT.height_px, RECT.width_px, 3), 255, np.uint8), valid=1.0)
    further = {"stage2-one": _Sure(200), "stage2-two": _Sure(300)}
    models = replace(tiny_models, stage2=_Sure(100), members=further)

    alone = find_traces(page, models).probability
    all_three = find_traces(page, replace(models, preset=PRESETS["ensemble"])).probability

    np.testing.assert_allclose(alone[:, 100], 1, rtol=1e-5)
    np.testing.assert_allclose(all_three[:, [100, 200, 300]], 1 / 3, rtol=1e-5)


def test_the_strip_network_is_the_member_where_the_manifest_names_none(tiny_models):
    strips = _strip_net()
    models = replace(tiny_models, strips=strips)

    assert members_of(models) == (models.stage2,)
    first, second = members_of(replace(models, preset=PRESETS["ensemble"]))
    assert first is models.stage2
    assert second.strips is strips
    assert members_of(replace(tiny_models, preset=PRESETS["ensemble"])) == (models.stage2,)


def test_stage_2_alone_has_its_member_too():
    models = load_models(stages=("stage2",), preset="ensemble")
    _, second = members_of(models)
    assert second.strips is models.strips
    assert load_models(stages=("stage2",), preset="best").strips is None


LARGE = [name for name in MEMBERS if MEMBERS[name].options["backbone"] != BACKBONE]


def test_the_six_large_members_are_shipped_loaded_averaged_and_run(tmp_path, monkeypatch):
    """On small widths, with random weights: from `export --beside` to twelve leads."""
    assert len(LARGE) == 6
    for stage in ("stage0", "stage1", "refine"):
        (entry,) = (one for one in read_manifest() if one.stage == stage)
        shutil.copy(HOME / "weights" / entry.file, tmp_path)
        update_manifest(entry, tmp_path / "weights_manifest.json")
    small = {"backbone": TINY, "decoder": (8, 8, 8), "detail": 4}
    for number, name in enumerate(LARGE):
        architecture = MEMBERS[name]
        architecture = Architecture(architecture.name, {**architecture.options, **small})
        network = network_classes()[architecture.name](**architecture.options)
        save_half(network, tmp_path / "trained.safetensors")
        export(
            "stage2",
            tmp_path / "trained.safetensors",
            architecture=architecture,
            member=name if number else None,
            provenance=provenance_now(command="test", data="none", minutes=0.0, metrics={}),
            weights_dir=tmp_path,
            manifest=tmp_path / "weights_manifest.json",
        )
    monkeypatch.setenv("ECG_DIGITIZE_MANIFEST", str(tmp_path / "weights_manifest.json"))

    models = load_models(weights_dir=tmp_path, preset="ensemble")
    asked = []
    for network in members_of(models):
        network.register_forward_hook(lambda network, *_: asked.append(network))
    done = digitize_page(read_page(sample_page()), models, layout=COMPETITION)

    assert len(set(asked)) == 6
    assert done.recording.signals_mv.shape == (12, 5000)
    assert list(models.members) == [f"stage2-{name}" for name in sorted(LARGE[1:])]
    assert not load_models(weights_dir=tmp_path, preset="best").members
