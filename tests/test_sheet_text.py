"""What a sheet tells of its speed and gain in words is read, and nothing else is taken for it."""

import cv2
import numpy as np
import pytest
import torch

from ecg_digitize.layout import LEADS
from ecg_digitize.manifest import read_manifest
from ecg_digitize.sheet.flat import flat_sheet
from ecg_digitize.sheet.text import Line, Told, cut_lines, find_lines, read_lines, told_by
from ecg_digitize.sheet.text_net import HEIGHT_PX, N_CLASSES, STRIDE, TextNet
from ecg_digitize.stage1.grid import unseen_grid
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.synth.text import draw_line
from ecg_digitize.training.text import Samples, classes_of, loss_of, sample_of
from ecg_digitize.weights import load_network

CPU = torch.device("cpu")
PX_PER_MM = 6.0


@pytest.fixture(scope="module")
def network():
    (entry,) = (entry for entry in read_manifest() if entry.stage == "text")
    return load_network(entry)


def paper(height=500, width=1300):
    page = np.full((height, width, 3), 255, np.uint8)
    page[::6] = page[:, ::6] = (255, 225, 225)
    page[::30] = page[:, ::30] = (245, 170, 170)
    return page


def told(page, network):
    flat = flat_sheet(
        page,
        unseen_grid(np.diag([PX_PER_MM, PX_PER_MM, 1.0])),
        (page.shape[1] / PX_PER_MM, page.shape[0] / PX_PER_MM),
    )
    return told_by(read_lines(network, cut_lines(page, flat), CPU))


def written(page, words, xy_px, *, size=0.6):
    cv2.putText(page, words, xy_px, cv2.FONT_HERSHEY_DUPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)


@pytest.mark.parametrize("size", [0.5, 0.8])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("25 mm/s   10 mm/mV   0.05-150 Hz", Told((25.0,), (10.0,))),
        ("50mm/s 20mm/mV", Told((50.0,), (20.0,))),
        ("Speed: 25 mm/s  Limb: 10 mm/mV  Chest: 5 mm/mV", Told((25.0,), (), 10.0, 5.0)),
        ("QRS 92 ms  PR 160 ms  Page 1", Told((), ())),
    ],
)
def test_speed_and_gain_are_read(network, words, expected, size):
    page = paper()
    written(page, words, (60, 420), size=size)
    written(page, "V1", (60, 100))
    trace = np.array([[40 + 2 * k, 200 + int(40 * np.sin(k / 9))] for k in range(600)])
    cv2.polylines(page, [trace], False, (0, 0, 0), 2, cv2.LINE_AA)

    assert told(page, network) == expected


def test_traces_and_single_names_are_no_lines_of_text():
    ink = np.zeros((400, 1500), np.bool_)
    trace = np.zeros((400, 1500), np.uint8)
    cv2.polylines(trace, [np.array([[10 + 3 * k, 200 - 30 * (k % 40 == 0)] for k in range(480)])],
                  False, 1, 2)  # fmt: skip
    ink |= trace > 0
    ink[100:112, 50:60] = True  # one letter
    assert find_lines(ink, px_per_mm=5.0) == []
    for k in range(8):
        ink[300:312, 200 + 14 * k : 208 + 14 * k] = True
    ((x, y, width, height),) = find_lines(ink, px_per_mm=5.0)
    assert (x, y, width, height) == (200, 300, 106, 12)


def line(text, left_mm=0.0, top_mm=0.0, sure=1.0):
    return Line(text, (left_mm, top_mm, 2.0 * len(text), 3.0), (sure,) * len(text))


def test_what_lines_tell():
    assert told_by([line("25.0 mm/sec"), line("10,0mm/mv", top_mm=9)]) == Told((25.0,), (10.0,))
    assert told_by([line("33 mm/s"), line("15 mm/mv", top_mm=9)]) == Told((), ())
    assert told_by([line("25 mm/s 10 mm/mv", sure=0.3)]) == Told((), ())
    assert told_by([line("125 mm/s 0.25 mm/s")]) == Told((), ())
    beside = [line("10 mm/mv", 20.0), line("limb:", 5.0), line("chest:", 60.0)]
    beside.append(line("5 mm/mv", 75.0))
    assert told_by(beside) == Told((), (), 10.0, 5.0)
    assert told_by([line("25 mm/s"), line("50 mm/s", top_mm=30)]).mm_per_s is None


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (60, 500)])
def test_cuts_of_any_size_are_taken(shape):
    cut = np.full((*shape, 3), 200, np.uint8)
    read_lines(TextNet().eval(), [(cut, (0.0, 0.0, 1.0, 1.0))] * 3, CPU)


def test_steps_and_parameters_are_as_many_as_said():
    network = TextNet().eval()
    out = network(torch.zeros(2, 1, HEIGHT_PX, 80, dtype=torch.uint8))
    assert out.shape == (2, N_CLASSES, 80 // STRIDE)
    assert sum(parameter.numel() for parameter in network.parameters()) < 400_000


def test_samples_are_the_same_each_time_and_teach():
    samples = Samples(SimulatorSource(), seed=1)
    first, second = samples(5), samples(5)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one["line"], other["line"])
        np.testing.assert_array_equal(one["letters"], other["letters"])
    batch = {
        key: torch.from_numpy(np.stack([np.asarray(one[key]) for one in first])) for key in first[0]
    }
    loss = loss_of(TextNet(), batch)
    loss.backward()
    assert torch.isfinite(loss)


def test_what_a_line_teaches_is_what_it_says():
    rng = np.random.default_rng(2)
    lines = [draw_line(rng) for _ in range(12)]
    for one in lines:
        sample = sample_of(one)
        if sample is not None:
            letters = sample["letters"][: int(sample["n_letters"])].tolist()
            assert letters == classes_of(one.text)
    assert len({one.text for one in lines}) == len(lines)
    assert set(LEADS).isdisjoint(one.text for one in lines)
