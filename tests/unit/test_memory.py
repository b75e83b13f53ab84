"""The process keeps memory that it freed, and gives it back when told to."""

import sys

import pytest

from ecg_digitize import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told to")


def test_memory_that_is_freed_is_kept(run_python):
    code = """
import resource
import numpy as np
from ecg_digitize.memory import keep_memory
keep_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(10_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    assert int(run_python(code).stdout) < 100  # of 20,000 pages


def test_memory_that_was_kept_is_given_back(run_python):
    code = """
import re
import numpy as np
from ecg_digitize.memory import give_back_memory, keep_memory
keep_memory()
def held_kb():
    return int(re.search(r"VmRSS:\\s*(\\d+)", open("/proc/self/status").read()).group(1))
first, between = np.ones(10_000_000), np.ones(1000)  # what lies between keeps the top from falling
del first
print(held_kb())
give_back_memory()
print(held_kb())
"""
    before_kb, after_kb = map(int, run_python(code).stdout.split())
    assert after_kb < before_kb - 75_000


@pytest.mark.parametrize(("limit", "is_given_back"), [(10**12, False), (10**6, True)])
def test_memory_is_given_back_beyond_a_limit(monkeypatch, limit, is_given_back):
    calls = []
    monkeypatch.setattr(memory, "MOST_KEPT_BYTES", limit)
    monkeypatch.setattr(memory, "give_back_memory", lambda: calls.append(1))
    memory.bound_kept_memory()
    assert bool(calls) == is_given_back
