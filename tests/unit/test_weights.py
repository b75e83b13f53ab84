"""Manifest and weight files: every way they can be wrong is told apart, and the right one found."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ecg_digitize import manifest as manifest_module
from ecg_digitize import weights
from ecg_digitize.errors import WeightsError
from ecg_digitize.files import INPUT_ROOT_VARIABLE, search_below
from ecg_digitize.manifest import (
    DATASET_SLUG,
    MANIFEST_NAME,
    MANIFEST_VARIABLE,
    WEIGHTS_VARIABLE,
    InputSpec,
    Provenance,
    find_manifest,
)


class TinyNet(nn.Module):
    """A network with a norm, options and two outputs."""

    def __init__(self, *, channels: tuple[int, ...] = (4, 2)) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, channels[0], 3, padding=1)
        self.norm = nn.BatchNorm2d(channels[0])
        self.head = nn.Conv2d(channels[0], channels[1], 1)

    @staticmethod
    def example_input_shape():
        return SHAPE

    def forward(self, x):
        features = self.norm(self.body(x.float() / 255)).relu()
        return self.head(features), features.mean((2, 3))


NETWORKS = {"TinyNet": TinyNet}
SHAPE = (1, 3, 8, 10)


def export(folder, *, seed=0, file="tiny.safetensors"):
    torch.manual_seed(seed)
    network = TinyNet(channels=(6, 2))
    network.norm.running_var.fill_(1e-9)  # would vanish in half precision
    entry = weights.write_entry(
        network,
        folder / file,
        stage="stage1",
        options={"channels": [6, 2]},
        input_spec=InputSpec(SHAPE, "norm"),
        licence="Apache-2.0",
        provenance=Provenance("train", "synthetic", "2026-01-01", 1.5, {"px": 0.5}),
        networks=NETWORKS,
    )
    return network, entry


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty check-out and an empty /kaggle/input; returns the check-out."""
    folder = tmp_path / "home"
    (folder / "weights").mkdir(parents=True)
    (tmp_path / "input").mkdir()
    for module in (manifest_module, weights):
        monkeypatch.setattr(module, "HOME", folder)
    monkeypatch.setenv(INPUT_ROOT_VARIABLE, str(tmp_path / "input"))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.delenv(MANIFEST_VARIABLE, raising=False)
    return folder


def test_export_manifest_and_load_round_trip(home):
    network, entry = export(home / "weights")
    weights.update_manifest(entry)
    (read,) = weights.read_manifest()

    loaded = weights.load_network(read, networks=NETWORKS)

    assert json.loads((home / MANIFEST_NAME).read_text())["format"] == 1
    assert read.architecture.options == {"channels": (6, 2)}
    assert dataclasses.replace(read, architecture=entry.architecture) == entry
    assert not loaded.training
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    stored = load_file(home / "weights" / "tiny.safetensors")
    assert stored["body.weight"].dtype == torch.float16
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    assert loaded.norm.running_var.min() > 0


def test_update_replaces_the_entry_of_the_same_file(home):
    weights.update_manifest(export(home / "weights", file="b.safetensors")[1])
    weights.update_manifest(export(home / "weights", file="a.safetensors")[1])
    weights.update_manifest(export(home / "weights", file="b.safetensors", seed=5)[1])

    entries = weights.read_manifest()

    assert [entry.file for entry in entries] == ["a.safetensors", "b.safetensors"]
    assert all(line.ok for line in weights.verify_all(networks=NETWORKS))


def test_altered_byte_is_found(home):
    _, entry = export(home / "weights")
    path = home / "weights" / entry.file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"tiny\.safetensors: SHA-256 .*… but weights_manifest"):
        weights.load_network(entry, networks=NETWORKS)


def test_truncated_file_is_found(home):
    _, entry = export(home / "weights")
    path = home / "weights" / entry.file
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(WeightsError, match=f"{entry.bytes - 7} bytes but .* says {entry.bytes}"):
        weights.load_network(entry, networks=NETWORKS)


def test_missing_file_names_every_place(home):
    _, entry = export(home)
    with pytest.raises(WeightsError, match=rf"not found in .*weights.*{WEIGHTS_VARIABLE}"):
        weights.locate_weights(entry)


def test_unknown_architecture_lists_the_known(home):
    _, entry = export(home / "weights")
    with pytest.raises(WeightsError, match="'TinyNet', expected one of BigNet"):
        weights.load_network(entry, networks={"BigNet": TinyNet})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"channels": (5, 2)}, "7 of 9 tensors"), ({"depth": 3}, "cannot be constructed")],
)
def test_wrong_options_are_told(home, options, complaint):
    _, entry = export(home / "weights")
    architecture = dataclasses.replace(entry.architecture, options=options)
    with pytest.raises(WeightsError, match=complaint):
        weights.load_network(
            dataclasses.replace(entry, architecture=architecture), networks=NETWORKS
        )


def test_output_check_catches_a_library_that_computes_something_else(home):
    _, entry = export(home / "weights")

    class Shifted(TinyNet):
        def forward(self, x):
            return super().forward(x.roll(1, -1))

    class Broken(TinyNet):
        def forward(self, x):
            first, second = super().forward(x)
            return first, second * float("nan")

    for network, output in ((Shifted, 0), (Broken, 1)):
        with pytest.raises(WeightsError, match=f"output {output} on the check input is off"):
            weights.load_network(entry, networks={"TinyNet": network})


def test_diverged_weights_are_not_written(tmp_path):
    network = TinyNet()
    nn.init.constant_(network.head.weight, 1e6)
    with pytest.raises(WeightsError, match="not finite"):
        weights.write_entry(
            network,
            tmp_path / "x.safetensors",
            stage="stage1",
            options={},
            input_spec=InputSpec(SHAPE, "norm"),
            licence="Apache-2.0",
            provenance=Provenance("train", "synthetic", "2026-01-01", 1.5, {}),
            check_shape=SHAPE,
            networks=NETWORKS,
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "mount",
    [DATASET_SLUG, f"datasets/{DATASET_SLUG}", f"datasets/me/{DATASET_SLUG}", "renamed/by/owner"],
)
def test_mounts_are_searched(home, tmp_path, mount):
    (tmp_path / "input" / mount).mkdir(parents=True)
    _, entry = export(tmp_path / "input" / mount)
    assert weights.locate_weights(entry) == tmp_path / "input" / mount / entry.file


def test_search_passes_over_a_namesake(home, tmp_path):
    export(tmp_path / "input" / "another", seed=9)
    _, entry = export(tmp_path / "input" / "deeper" / "still")
    assert weights.locate_weights(entry).parent.name == "still"


def test_explicit_folder_is_the_only_place(home, tmp_path, monkeypatch):
    _, entry = export(home / "weights")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"not found in .*empty;"):
        weights.locate_weights(entry, weights_dir=tmp_path / "empty")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "empty"))
    with pytest.raises(WeightsError, match="empty"):
        weights.locate_weights(entry)


def test_verify_all_tells_instead_of_raising(home):
    weights.update_manifest(export(home / "weights", file="good.safetensors")[1])
    weights.update_manifest(export(home, file="gone.safetensors")[1])

    gone, good = sorted(weights.verify_all(networks=NETWORKS), key=lambda line: line.ok)

    assert (good.file, good.why) == (
        "good.safetensors",
        str(home / "weights" / "good.safetensors"),
    )
    assert (gone.file, gone.ok) == ("gone.safetensors", False)
    assert "not found" in gone.why


def test_manifest_is_found_beside_the_weights_and_by_environment(home, tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match=MANIFEST_VARIABLE):
        find_manifest()
    mounted = tmp_path / "input" / DATASET_SLUG / MANIFEST_NAME
    named = tmp_path / "named.json"
    for path in (mounted, home / MANIFEST_NAME, named):
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"format": 1, "files": []}')
        if path == named:
            monkeypatch.setenv(MANIFEST_VARIABLE, str(path))
        assert find_manifest() == path
        assert weights.read_manifest() == ()


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2, "files": []}', '{"format": 1}'])
def test_unusable_manifest_names_the_file(tmp_path, text):
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(WeightsError, match=r"m\.json: not a usable weights manifest"):
        weights.read_manifest(path)


def test_check_input_is_fixed_for_ever():
    picture = weights.check_input(3, (1, 3, 64, 64))
    assert picture.dtype == np.uint8
    assert picture.ravel()[:4].tolist() == weights.check_input(3, (4,)).tolist()
    assert abs(picture.mean() - 127.5) < 3
    assert weights.check_input(0, (6,)).tolist() == CHECK_INPUT_0


CHECK_INPUT_0 = [0, 111, 42, 241, 20, 29]


def test_search_is_bounded(tmp_path):
    (tmp_path / "a/b/c").mkdir(parents=True)
    for folder in ("", "a", "a/b/c"):
        (tmp_path / folder / "x.bin").touch()
    assert list(search_below(tmp_path, {"x.bin"}, max_depth=1)) == [
        tmp_path / "x.bin",
        tmp_path / "a/x.bin",
    ]
    assert len(list(search_below(tmp_path, {"x.bin"}, max_folders=1))) == 1
    assert not list(search_below(tmp_path / "nowhere", {"x.bin"}))
