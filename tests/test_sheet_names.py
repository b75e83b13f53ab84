"""Lead names are read wherever they stand; nothing else is taken for one."""

import cv2
import numpy as np
import pytest
import torch

from ecg_digitize.layout import LEADS
from ecg_digitize.manifest import read_manifest
from ecg_digitize.sheet.names import Name, find_names
from ecg_digitize.sheet.names_net import MULTIPLE, N_CHANNELS, NONE, STRIDE, NamesNet
from ecg_digitize.synth.fonts import font_files
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.synth.words import draw_patch
from ecg_digitize.training.names import IGNORED, Samples, loss_of, sample_of
from ecg_digitize.weights import load_network

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network():
    (entry,) = (entry for entry in read_manifest() if entry.stage == "names")
    return load_network(entry)


def grid(height=300, width=500):
    page = np.full((height, width, 3), 255, np.uint8)
    page[::5] = page[:, ::5] = (255, 215, 215)
    page[::25] = page[:, ::25] = (245, 160, 160)
    return page


def written(page, word, xy_px, *, size=0.55):
    """Write a word whose left end is at x and whose foot is at y."""
    cv2.putText(page, word, xy_px, cv2.FONT_HERSHEY_DUPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
    (width, height), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, size, 1)
    return xy_px[0] + width / 2, xy_px[1] - height / 2


@pytest.mark.parametrize("size", [0.5, 0.65])
def test_every_name_is_read_where_it_stands(network, size):
    page = grid()
    places = {}
    for index, lead in enumerate(LEADS):
        at = (40 + 120 * (index % 4), 60 + 90 * (index // 4))
        places[lead] = written(page, lead, at, size=size)

    names = find_names(network, page, CPU)

    assert sorted(name.lead for name in names) == sorted(LEADS)
    assert sum(name.confidence > 0.5 for name in names) >= 11  # a bare I is never sure
    for name in names:
        assert np.hypot(*np.subtract(name.xy_px, places[name.lead])) < 6


def test_a_name_is_read_as_often_as_it_is_printed(network):
    page = grid(height=2600, width=200)  # read in two pieces
    tops = range(80, 2600, 160)
    for top in tops:
        written(page, "V5", (80, top))

    names = find_names(network, page, CPU)

    assert [name.lead for name in names if name.confidence > 0.5] == ["V5"] * len(tops)


def test_a_minus_sign_is_read(network):
    page = grid()
    written(page, "-aVR", (60, 80))
    written(page, "aVR", (260, 200))

    names = sorted(find_names(network, page, CPU), key=lambda name: name.xy_px[0])

    assert [(name.lead, name.sign) for name in names] == [("aVR", -1), ("aVR", 1)]


def test_a_blank_grid_bars_and_a_pulse_are_no_names(network):
    page = grid()
    assert find_names(network, page, CPU) == ()

    pulse = np.array([[20, 150], [30, 150], [30, 100], [55, 100], [55, 150], [400, 150]])
    cv2.polylines(page, [pulse], False, (0, 0, 0), 2, cv2.LINE_AA)
    cv2.line(page, (300, 110), (300, 190), (0, 0, 0), 2, cv2.LINE_AA)
    assert [name for name in find_names(network, page, CPU) if name.confidence > 0.5] == []


@pytest.mark.parametrize("shape", [(1, 1), (37, 91), (160, 288)])
def test_pictures_of_any_size_are_taken(shape):
    picture = np.full((*shape, 3), 200, np.uint8)
    for name in find_names(NamesNet().eval(), picture, CPU):
        assert isinstance(name, Name)


def test_cells_and_parameters_are_as_many_as_said():
    network = NamesNet().eval()
    out = network(torch.zeros(2, 3, 8 * MULTIPLE, 5 * MULTIPLE, dtype=torch.uint8))
    assert out.shape == (2, N_CHANNELS, 8 * MULTIPLE // STRIDE, 5 * MULTIPLE // STRIDE)
    assert sum(parameter.numel() for parameter in network.parameters()) < 400_000


def test_matplotlib_brings_fonts_enough():
    ours, _ = font_files()
    assert len(ours) > 10
    assert any("DejaVuSans" in path for path in ours)


def test_the_target_names_the_cell_of_each_centre():
    rng = np.random.default_rng(3)
    records_mv = [np.zeros((12, 5000), np.float32)]
    patches = [draw_patch(rng, records_mv) for _ in range(8)]
    assert any(patch.names for patch in patches)
    for patch in patches:
        names = sample_of(patch)["names"]
        assert set(np.unique(names)) <= {IGNORED, *range(NONE + 1)}
        for name in patch.names:
            column, row = (int(at // STRIDE) for at in name.xy_px)
            assert names[row, column] == LEADS.index(name.lead)


def test_samples_are_the_same_each_time_and_teach():
    samples = Samples(SimulatorSource(), seed=1)
    first, second = samples(5), samples(5)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
    batch = {key: torch.from_numpy(np.stack([one[key] for one in first])) for key in first[0]}
    loss = loss_of(NamesNet(), batch)
    loss.backward()
    assert torch.isfinite(loss)
