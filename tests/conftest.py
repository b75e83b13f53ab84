"""Networks small enough to run the whole pipeline in a second; fresh processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import settings

from ecg_digitize import models, pipeline
from ecg_digitize.frames import PAGE_GRID_TOP_PX, PAGE_SIZE_PX, PX_PER_MM
from ecg_digitize.stage0.net import Stage0Net
from ecg_digitize.stage0.normalize import registration_from_homography
from ecg_digitize.stage1.net import Stage1Net
from ecg_digitize.stage2.refine import RefineNet
from ecg_digitize.stage2.whole import WholeNet

settings.register_profile("same every time", derandomize=True)
settings.load_profile("same every time")

if n_workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // n_workers))

TINY_BACKBONE = "test_efficientnet"  # timm's own, for tests


@pytest.fixture(scope="session")
def tiny_models():
    """Random weights; the pipeline must survive whatever they say."""
    torch.manual_seed(0)
    networks = (
        Stage0Net(backbone=TINY_BACKBONE, decoder=(8, 8, 8)),
        Stage1Net(backbone=TINY_BACKBONE, decoder=(8, 8, 8, 8)),
        WholeNet(backbone=TINY_BACKBONE, decoder=(8, 8, 8), detail=4),
        RefineNet(stem=(4, 4, 4, 4), width=8, dilations=(1,)),
    )
    return models.Models(*(network.eval() for network in networks), torch.device("cpu"))


@pytest.fixture
def sheet_given(monkeypatch):
    """Random networks find no page; with this one, it fills the picture and the walk goes on."""

    def find_sheet(page, models, *, once=False):
        height, width = page.image.shape[:2]
        scale = min(width / PAGE_SIZE_PX[0], height / PAGE_SIZE_PX[1])
        px_per_mm = scale * PX_PER_MM
        return registration_from_homography(
            np.array([[px_per_mm, 0, 0], [0, px_per_mm, scale * PAGE_GRID_TOP_PX], [0, 0, 1.0]])
        )

    monkeypatch.setattr(pipeline, "find_sheet", find_sheet)


@pytest.fixture
def tiny_weights(monkeypatch, tiny_models):
    """Let every command load the tiny networks instead of the shipped ones."""
    monkeypatch.setattr(models, "load_models", lambda **_: tiny_models)


@pytest.fixture
def run_python():
    """Run code in a fresh Python, which must succeed; returns the finished process."""

    def run(code, *, prefix=(), cwd=None, python=sys.executable, **environment):
        done = subprocess.run(
            [*prefix, str(python), "-c", code],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done

    return run


@pytest.fixture
def colour():
    """A smooth picture without symmetry, (160, 200, 3) uint8."""
    height, width = 160, 200
    y, x = np.mgrid[0:height, 0:width]
    channels = x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)
    return np.stack(channels, axis=-1).astype(np.uint8)
