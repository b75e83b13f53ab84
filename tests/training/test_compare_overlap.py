"""How leads are told from neighbours that reach into their strips."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ecg_digitize.cli import parser
from ecg_digitize.errors import WeightsError
from ecg_digitize.frames import RECT, TRACE_X0_PX
from ecg_digitize.layout import Layout, Row, Segment
from ecg_digitize.layouts import FAMILIES
from ecg_digitize.models import load_models
from ecg_digitize.synth.sheets import DEFAULTS, make_sheet
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.systems.overlap.net import OverlapNet
from ecg_digitize.training.compare_overlap import crops_of, read_ink
from ecg_digitize.training.export import save_half
from ecg_digitize.training.overlap_table import (
    BASELINE,
    STRIPS,
    UNET,
    LeadCrop,
    LineScore,
    OverlapComparison,
)
from ecg_digitize.training.run import PUBLISHED, trained_file, trained_network
from ecg_digitize.types import RectifiedPage

ROOT = Path(__file__).parents[2]
needs_weights = pytest.mark.skipif(
    not json.loads((ROOT / "weights_manifest.json").read_text())["files"],
    reason="weights_manifest.json lists no weights yet",
)


class Painter(nn.Module):
    """Marks what is black near the middle of a crop."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        dark = image.float().amax(dim=1) < 170
        far = (torch.arange(image.shape[2]) - image.shape[2] / 2).abs() > 140
        return torch.where(dark & ~far[:, None], 9.0, -9.0)


@needs_weights
def test_leads_are_read_by_the_true_geometry_in_each_way() -> None:
    plain = DEFAULTS._replace(
        families=tuple(float(one.name == "3x4") for one in FAMILIES), strips=(1.0, 0.0, 0.0, 0.0)
    )
    source = SimulatorSource(validation=True)
    sheet = make_sheet(source, seed=3, index=1, kind="render", options=plain)
    crops = crops_of(sheet, load_models(preset="fast"), Painter())
    assert len(crops) == 12
    strips, unet, baseline = (
        [crop.readings[way] for crop in crops] for way in (STRIPS, UNET, BASELINE)
    )
    assert np.median([one.iou for one in strips]) > 0.6
    assert np.median([one.pearson for one in strips]) > 0.95
    assert np.median([one.pearson for one in unet]) > 0.8
    assert np.mean([one.iou for one in baseline]) < np.mean([one.iou for one in strips])
    assert np.median([one.pearson for one in baseline]) > 0.3


def test_the_baseline_takes_the_mean_of_the_ink_of_a_row_height() -> None:
    layout = Layout("strip", (Row(84.0, (Segment("II", 0.0, 2.0),)),))
    image = np.full((480, RECT.width_px, 3), 250, np.uint8)
    columns = slice(TRACE_X0_PX, TRACE_X0_PX + layout.n_columns)
    image[199:202, columns] = 0
    image[259:262, TRACE_X0_PX + 500 : columns.stop] = 0
    image[400:403] = 0  # of a neighbour, beyond half the height
    trace = read_ink(RectifiedPage(image, 1.0, layout=layout), height_mm=30.0)
    assert np.allclose(trace.y_px[0, 20:480], 200.0)
    assert np.allclose(trace.y_px[0, 520:980], 230.0)


def test_the_table_shows_the_ways_side_by_side() -> None:
    ways = {STRIPS: LineScore(0.8, 0.002, 0.96), BASELINE: LineScore(0.3, 0.02, 0.5)}
    crops = LeadCrop(True, ways), LeadCrop(False, {STRIPS: LineScore(0.9, 0.001, 0.98)})
    text = OverlapComparison((*crops, LeadCrop(True, ways))).to_text()
    overlap, without = text.split("without")
    lines = overlap.splitlines()
    assert lines[0].split() == ["with", "overlap", "n", "IoU", "MSE", "mV2", "median", "Pearson"]
    assert lines[1].split()[-5:] == ["2", "0.800", "0.0020", "0.00200", "0.9600"]
    assert lines[2].startswith(UNET)
    assert "--trained DIR" in lines[2]
    assert lines[3].split() == ["baseline", "2", "0.300", "0.0200", "0.02000", "0.5000"]
    assert lines[4].split()[-5:] == ["102", "0.870", "0.0029", "-", "0.9641"]
    assert lines[5].split()[-5:] == ["102", "-", "0.0178", "-", "0.8676"]
    assert "0.0010" in without
    assert "0.9366" in without


def test_what_the_table_says_to_train_can_be_parsed() -> None:
    text = OverlapComparison(()).to_text()
    line = text[text.index("ecg-digitize train") :].split(",")[0]
    arguments = parser().parse_args(line.split()[1:])
    assert arguments.stage == "overlap"
    assert arguments.out == Path("DIR/overlap")
    assert parser().parse_args(["compare", "overlap", "--trained", "DIR"]).trained == Path("DIR")


def test_a_trained_network_is_found_by_its_folder(tmp_path) -> None:
    assert trained_file(None, "overlap") is None
    assert trained_file(tmp_path, "overlap") is None
    path = tmp_path / "overlap" / "overlap.safetensors"
    path.parent.mkdir()
    save_half(OverlapNet(), path, figures={})
    assert trained_file(tmp_path, "overlap") == path
    network = trained_network(PUBLISHED["overlap"], path, torch.device("cpu"))
    assert isinstance(network, OverlapNet)
    assert not network.training
    path.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="expected the checkpoint"):
        trained_network(PUBLISHED["overlap"], path, torch.device("cpu"))
