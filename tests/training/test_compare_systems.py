"""Published systems side by side: the table, its groups, what fails, what is not trained."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_digitize.cli import main
from ecg_digitize.formats.csv import read_csv
from ecg_digitize.manifest import Architecture, read_manifest
from ecg_digitize.metrics import CAP_RATIO
from ecg_digitize.shipped import HOME
from ecg_digitize.stage2.members import MEMBERS
from ecg_digitize.systems.registry import SYSTEMS
from ecg_digitize.training import system_ways
from ecg_digitize.training.compare_systems import chosen_of, compare_systems
from ecg_digitize.training.export import figures_of, save_half
from ecg_digitize.training.run import network_of
from ecg_digitize.training.system_ways import Mirrored, Way, ways_of

BEFORE = ("stage2", "strips")  # what a series network begins from
BY_WHOLE = ("stage0", "stage1", "refine", "stage2")  # the networks of a competition page
SAMPLES = HOME / "tests" / "samples"
CAP_DB = 10 * np.log10(CAP_RATIO)


@pytest.fixture
def table(tmp_path):
    """Three pages in two folders, whose pictures nobody looks at."""
    lines = ["image,truth,fs,kind"]
    for folder, names in (("a", ("1.png", "2.png")), ("b", ("3.png",))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes((SAMPLES / "sample_render.png").read_bytes())
            lines.append(f"{folder}/{name},{SAMPLES / 'sample_render.csv'},500,x")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def _true(page, fs_hz):
    return read_csv(SAMPLES / "sample_render.csv", fs_hz=fs_hz)


def _off(share):
    def read(page, fs_hz):
        recording = _true(page, fs_hz)
        return replace(recording, signals_mv=recording.signals_mv * np.float32(1 + share))

    return read


def _fails_on_b(page, fs_hz):
    if "/b/" in page.source:
        raise ValueError("no")
    return _true(page, fs_hz)


def test_rows_are_scored_by_folder_and_failures_are_zeros(table, tiny_models):
    ways = [
        Way("true", _true, 1.0, 2.0),
        Way("half", _off(-0.5)),
        Way("fails", _fails_on_b),
        Way("median", _true, members=("true", "half", "fails")),
    ]
    compared = compare_systems(chosen_of([table]), tiny_models, ways)

    assert compared.groups == {"a": 2, "b": 1}
    rows = {row.name: row for row in compared.rows}
    assert rows["true"].snr_db == pytest.approx({"a": CAP_DB, "b": CAP_DB})
    assert rows["half"].snr_db["a"] == pytest.approx(20 * np.log10(2), abs=1)
    assert rows["fails"].snr_db["b"] < 1
    assert (rows["fails"].failed, rows["true"].failed) == (1, 0)
    assert rows["median"].snr_db["a"] == pytest.approx(CAP_DB)
    assert rows["median"].snr_db["b"] < 15  # the mean of two
    assert rows["median"].seconds == pytest.approx(
        sum(rows[name].seconds for name in ("true", "half", "fails"))
    )
    assert "a (2)" in compared.to_text()
    json.dumps(compared.to_json())
    assert [len(some) for some in chosen_of([table], pages=1).values()] == [1, 1]


def test_networks_of_the_folder_have_rows_and_the_others_say_how_to_train_them(
    tmp_path, monkeypatch, tiny_models
):
    small = {"backbone": "test_efficientnet", "decoder": (8, 8, 8), "detail": 4}
    for name in ("series-shared", "series-conv3d"):
        architecture = Architecture("SeriesNet", {**MEMBERS[name].options, **small})
        monkeypatch.setitem(MEMBERS, name, architecture)
        (tmp_path / name).mkdir()
        path = tmp_path / name / "stage2.safetensors"
        save_half(network_of(architecture), path, figures={"minutes": 12.0, "steps": 3.0})
        assert figures_of(path) == {"minutes": 12.0, "steps": 3.0}

    models = replace(tiny_models, strips=torch.nn.Identity())
    ways, missing = ways_of(models, read_manifest(), trained=tmp_path)

    names = [way.name for way in ways]
    for name in ("whole (ships)", "series, shared", "whole + series, conv3d", "whole + strips"):
        assert name in names
    assert "series, conv2d" not in names
    told = {one.name: one.train for one in missing}
    assert told["series, conv2d"].startswith("train stage2 --member series-conv2d")
    trained = {system.name for system in SYSTEMS if system.reads_pages and system.architecture}
    assert trained <= set(told)
    before = sum(one.provenance.minutes for one in read_manifest() if one.stage in BEFORE)
    took = {way.name: way.minutes for way in ways}
    assert took["series, shared"] == pytest.approx(12 + before)
    size = {way.name: way.megabytes for way in ways}
    assert size["whole, mirrored too"] == size["whole (ships)"]  # one network looks twice
    assert size["whole + series, shared"] > size["whole (ships)"]
    of_files = {one.stage: one.bytes / 1e6 for one in read_manifest()}
    assert size["whole (ships)"] == pytest.approx(sum(of_files[one] for one in BY_WHOLE))
    of_strips = size["whole + strips"] - size["whole (ships)"]
    # Here that network has no weights that torch sees, as under OpenVINO.
    assert of_strips == pytest.approx(of_files["strips"])


def test_a_mirrored_look_is_turned_back():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    torch.testing.assert_close(Mirrored(torch.nn.Identity())(image), image)
    torch.testing.assert_close(
        Mirrored(torch.nn.ZeroPad2d((1, 0, 0, 0)))(image)[..., -1], 0 * image[..., 0]
    )


def test_the_command_prints_the_table(table, tmp_path, monkeypatch, capsys, tiny_weights):
    monkeypatch.setattr(system_ways, "ways_of", lambda *_, **__: ([Way("true", _true)], []))
    out = tmp_path / "figures.json"

    command = ["compare", "systems", "--pages", "1"]
    assert main([*command, "--paired", str(table), "--json", str(out)]) == 0
    assert main(command) == 2
    assert main([*command, "--paired", str(table), "--trained", str(tmp_path / "none")]) == 2

    told = capsys.readouterr()
    assert "true" in told.out
    assert "--trained: there is no folder" in told.err
    assert json.loads(out.read_text())["systems"][0]["snr_db"]["a"] == pytest.approx(CAP_DB)
