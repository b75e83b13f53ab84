"""A few seconds of fuzzing, without the networks; see fuzz_inputs.py for the long run."""

import importlib.util
import logging
import warnings
from pathlib import Path

import pytest


@pytest.fixture
def fuzz_inputs(monkeypatch):
    """The script next door, which is no package."""
    spec = importlib.util.spec_from_file_location(
        "fuzz_inputs", Path(__file__).with_name("fuzz_inputs.py")
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "fuzz_inputs", module)  # for its dataclasses
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "MAX_PEAK_GB", float("inf"))  # other tests ran in this process
    return module


def test_only_our_errors_come_out(fuzz_inputs, tmp_path):
    logging.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = fuzz_inputs.run(seconds=4, count=400, keep=tmp_path)
    logging.disable(logging.NOTSET)
    assert outcome.fault is None, outcome.fault
    assert {"picture: read", "picture: ImageError", "table: read"} <= outcome.counts.keys()


def test_a_fault_is_kept_with_its_number(fuzz_inputs, tmp_path, monkeypatch):
    def broken(page):
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(fuzz_inputs, "read_page", broken)
    monkeypatch.setattr(fuzz_inputs, "read_test_table", broken)
    outcome = fuzz_inputs.run(seconds=60, seed=3, first=5, keep=tmp_path)
    assert (outcome.fault.seed, outcome.fault.index) == (3, 5)
    assert outcome.fault.path.stat().st_size > 0
    assert "surprise" in outcome.fault.error
