"""How leads are told from neighbours that reach into their strips."""

import json
from pathlib import Path

import numpy as np
import pytest

from ecg_digitize.layouts import FAMILIES
from ecg_digitize.models import load_models
from ecg_digitize.synth.sheets import DEFAULTS, make_sheet
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.training.compare_overlap import LeadCrop, OverlapComparison, crops_of

ROOT = Path(__file__).parents[2]
needs_weights = pytest.mark.skipif(
    not json.loads((ROOT / "weights_manifest.json").read_text())["files"],
    reason="weights_manifest.json lists no weights yet",
)


@needs_weights
def test_leads_are_read_by_the_true_geometry() -> None:
    plain = DEFAULTS._replace(
        families=tuple(float(one.name == "6x2") for one in FAMILIES), strips=(1.0, 0.0, 0.0, 0.0)
    )
    source = SimulatorSource(validation=True)
    sheet = make_sheet(source, seed=3, index=1, kind="render", options=plain)
    crops = crops_of(sheet, load_models(preset="fast"))
    assert len(crops) == 12
    assert np.median([crop.iou for crop in crops]) > 0.6
    assert np.median([crop.pearson for crop in crops]) > 0.95


def test_the_table_has_a_row_for_either_kind_of_crop() -> None:
    crops = LeadCrop(True, 0.8, 0.002, 0.96), LeadCrop(False, 0.9, 0.001, 0.98)
    lines = OverlapComparison(crops).to_text().splitlines()
    assert lines[1].split() == ["with", "overlap", "1", "0.800", "0.0020", "0.00200", "0.9600"]
    assert lines[2].split() == ["without", "1", "0.900", "0.0010", "0.00100", "0.9800"]
