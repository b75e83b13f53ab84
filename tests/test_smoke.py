"""The shipped notebook with the shipped weights on the shipped pages, without network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "tests" / "samples"


def test_notebook_digitizes_the_samples_offline(tmp_path):
    if not json.loads((ROOT / "weights_manifest.json").read_text())["files"]:
        pytest.skip("weights_manifest.json lists no weights yet")
    if not list(SAMPLES.glob("sample_*.png")):
        pytest.skip("tests/samples holds no pages yet")

    output = ["--output", str(tmp_path / "ecg_digitize.ipynb")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "build_kernel.py"), "--smoke", str(SAMPLES), *output],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("mounts:") == 2
