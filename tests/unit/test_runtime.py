"""Devices, precision, threads and seeds, with pretended hardware."""

import logging
import random
import threading

import cv2
import numpy as np
import pytest
import torch

from ecg_digitize import runtime
from ecg_digitize.errors import InputError

P100, T4, A10, H100 = (6, 0), (7, 5), (8, 6), (9, 0)
BUILD = ["sm_70", "sm_75", "sm_80", "sm_90"]


@pytest.fixture
def gpu(monkeypatch):
    """Pretend that there is one CUDA device of a capability."""

    def _gpu(capability, arch_list=BUILD):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Pretended GPU")
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(arch_list))

    return _gpu


@pytest.mark.parametrize(
    ("capability", "arch_list", "runs"),
    [
        (P100, BUILD, False),
        (T4, BUILD, True),
        (A10, BUILD, True),  # sm_80 code
        (A10, ["sm_86"], True),
        ((8, 0), ["sm_86"], False),
        (H100, ["sm_80"], False),
        (H100, ["sm_80", "compute_80"], True),  # compiled on the spot
        ((7, 0), ["compute_75"], False),
        (H100, ["sm_90a"], True),
        ((12, 0), ["sm_100", "sm_120"], True),
        ((10, 3), ["sm_100a"], False),
        ((10, 3), ["sm_100f"], True),
        (T4, ["gfx90a", ""], False),
    ],
)
def test_has_code_for(capability, arch_list, runs):
    assert runtime.has_code_for(capability, arch_list) is runs


def test_supported_gpu_is_chosen(gpu):
    gpu(T4)
    assert runtime.choose_device() == torch.device("cuda", 0)
    assert runtime.choose_device("cuda") == torch.device("cuda")


def test_unsupported_gpu_falls_back_to_the_cpu_with_a_warning(gpu, caplog):
    gpu(P100)
    with caplog.at_level(logging.WARNING):
        assert runtime.choose_device() == torch.device("cpu")
    assert "Pretended GPU has compute capability 6.0" in caplog.text
    assert "sm_70" in caplog.text


def test_unsupported_gpu_on_request_is_an_error(gpu):
    gpu(P100)
    with pytest.raises(InputError, match=r"compute capability 6\.0"):
        runtime.choose_device("cuda:0")


def test_missing_devices_on_request_are_errors(gpu, monkeypatch):
    gpu(T4)
    with pytest.raises(InputError, match=r'"cuda:3": .* sees 1 CUDA devices'):
        runtime.choose_device("cuda:3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="sees 0 CUDA devices"):
        runtime.choose_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match="MPS"):
        runtime.choose_device("mps")


def test_unknown_device_is_an_error():
    with pytest.raises(InputError, match='but got "gpu"'):
        runtime.choose_device("gpu")


def test_cpu_by_default_without_cuda_and_never_mps(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert runtime.choose_device() == torch.device("cpu")
    assert runtime.choose_device("mps").type == "mps"


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [(T4, torch.float16), ((8, 0), torch.bfloat16), (H100, torch.bfloat16)],
)
def test_autocast_dtype_on_cuda(gpu, capability, dtype):
    gpu(capability)
    assert runtime.autocast_dtype(torch.device("cuda")) is dtype


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("fpu avx512f avx512_vnni", None),
        ("fpu avx512_bf16", torch.bfloat16),
        ("amx_bf16 amx_tile", torch.bfloat16),
    ],
)
def test_autocast_dtype_on_the_cpu(monkeypatch, tmp_path, flags, dtype):
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n")
    monkeypatch.setattr(runtime, "_CPU_INFO", info)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert runtime.autocast_dtype(torch.device("cpu")) is dtype


def test_autocast_dtype_without_cpu_information(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime, "_CPU_INFO", tmp_path / "none")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert runtime.autocast_dtype(torch.device("cpu")) is None
    assert runtime.autocast_dtype(torch.device("mps")) is None


def test_limit_threads():
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        runtime.limit_threads(1)
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
    with pytest.raises(InputError, match="expected 1 or more, but got 0"):
        runtime.limit_threads(0)


def test_seed_everything_repeats_all_generators():
    def draw():
        rng = runtime.seed_everything(2**40 + 7)
        return rng.random(), random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    assert draw() == draw()


def test_kernels_of_images_are_laid_out_anew_and_those_of_volumes_left():
    network = torch.nn.ModuleList([torch.nn.Conv2d(4, 4, 3), torch.nn.Conv3d(4, 4, 3)])
    before = [p.clone() for p in network.parameters()]

    placed = runtime.placed(network, torch.device("cpu"))

    assert placed[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert placed[1].weight.is_contiguous()
    for old, new in zip(before, network.parameters(), strict=True):
        torch.testing.assert_close(old, new, rtol=0, atol=0)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_what_is_mapped_side_by_side_keeps_its_order(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    together = threading.Barrier(threads)

    def square(k):
        if k < threads:
            together.wait(timeout=60)  # all threads are at work at once
        return k * k, threading.current_thread() is threading.main_thread()

    results = runtime.side_by_side(square, range(7))

    assert [squared for squared, _ in results] == [k * k for k in range(7)]
    assert [k for k, (_, by_caller) in enumerate(results) if by_caller] == list(
        range(0, 7, threads)
    )
    assert runtime.side_by_side(square, []) == []


@pytest.mark.parametrize("bad", [0, 1])
def test_an_error_side_by_side_is_raised(bad, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    with pytest.raises(ZeroDivisionError):
        runtime.side_by_side(lambda k: 1 // (k != bad), [0, 1])
