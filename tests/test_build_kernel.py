"""The bundle: closure, bytes, metadata, staging, and a smoke run of a small package."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
import build_kernel  # noqa: E402
from ecg_digitize import kernel_smoke  # noqa: E402

DIAL = "__import__('socket').create_connection(('127.0.0.1', 1))"
REAL_MODULES = (
    "answers",
    "competition",
    *(
        f"engine/{name}"
        for name in ("__init__", "pace", "seats", "spare", "stop", "store", "workers")
    ),
    "environment",
    "errors",
    "failures",
    "files",
    "formats/__init__",
    "formats/submission",
    "frames",
    "layout",
    "manifest",
    "shipped",
    "submission",
    "submission_state",
    "types",
)
FAKE_MODULES = {
    "__init__": '"""A small package."""\n\nimport importlib\n\n\n'
    'def __getattr__(name):\n    return importlib.import_module(f"{__name__}.{name}")\n',
    "unused": '"""Must stay out."""\n\nimport antigravity\n',
    "runtime": '''\
"""Fake."""

import torch


class Clock:
    laps_s = {}

    def lap(self, name):
        pass


def choose_device(requested):
    return torch.device("cpu")


def limit_threads(n):
    pass
''',
    "image": '''\
"""Fake."""

import numpy as np
from PIL import Image

from .errors import ImageError
from .types import Page

SUFFIXES = (".png", ".jpg")


def read_image(path):
    try:
        with Image.open(path) as picture:
            return Page(np.asarray(picture.convert("RGB")), str(path))
    except OSError as error:
        raise ImageError(f"{path}: {error}") from error
''',
    "models": '''\
"""Fake: finds its weights as the real one does."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from ecg_digitize import manifest
from ecg_digitize.files import mounted_folders, sha256_of

if TYPE_CHECKING:
    from ecg_digitize.unused import nothing

STAGES: Final = ("stage0",)
PRESETS: Final = {"best": None}
BEST: Final = "best"


@dataclass(frozen=True)
class Models:
    preset: str | None = None
    device: torch.device = torch.device("cpu")


def load_models(*, weights_dir, device, preset, is_final):
    (entry,) = manifest.read_manifest()
    (folder,) = mounted_folders(manifest.DATASET_SLUG, kind="datasets")
    assert sha256_of(folder / entry.file) == entry.sha256
    return Models()
''',
    "pipeline": '''\
"""Fake: gives noise."""

import numpy as np

from ecg_digitize.types import Digitization, GridMap, Recording, Registration, Trace


def digitize_page(page, models, *, fs_hz, lengths, rhythm, layout):
    noise = np.random.default_rng(0).normal(size=(12, round(10 * fs_hz))).astype(np.float32)
    return Digitization(
        page.source,
        Recording(noise, fs_hz),
        Trace(*np.zeros((2, 4, 5000), np.float32)),
        GridMap(np.zeros((44, 57, 2), np.float32), np.zeros((44, 57), np.float32), 0.0),
        Registration(np.eye(3), np.zeros((13, 2), np.float32), np.zeros(13, np.float32), 0, 13),
    )
''',
    "render/__init__": '"""Fake."""\n',
    "render/overlay": '''\
"""Fake."""


def draw_overlay(page, digitization):
    return page.image
''',
}


@pytest.fixture
def repo(tmp_path):
    """A repository with the real front half of the package and a fake pipeline."""
    root = tmp_path / "repo"
    package = root / "ecg_digitize"
    for name in ("render", "engine", "formats"):
        (package / name).mkdir(parents=True)
    for name in REAL_MODULES:
        shutil.copyfile(ROOT / "ecg_digitize" / f"{name}.py", package / f"{name}.py")
    for name, text in FAKE_MODULES.items():
        (package / f"{name}.py").write_text(text)
    (root / "weights").mkdir()
    for name in ("kernel-metadata.json", "weights/dataset-metadata.json"):
        shutil.copyfile(ROOT / name, root / name)
    content = b"not really weights"
    (root / "weights/net.safetensors").write_bytes(content)
    entry = {
        "stage": "stage0",
        "file": "net.safetensors",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "architecture": {"name": "Net", "options": {}},
        "input": {"shape": [1, 3, 8, 8], "frame": "page"},
        "licence": "Apache-2.0",
        "provenance": {"command": "", "data": "", "date": "2026", "minutes": 1, "metrics": {}},
        "check": {"seed": 0, "shape": [1, 3, 8, 8], "outputs": [], "tolerance": 1e-3},
    }
    manifest = {"format": 1, "files": [entry]}
    (root / "weights_manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return root


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_entry(repo, **changes):
    path = repo / "weights_manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][0] |= changes
    path.write_text(json.dumps(manifest, indent=2) + "\n")


def only_problem(repo):
    (problem,) = build_kernel.check(repo)
    return problem


def test_closure_holds_what_is_imported_and_nothing_else(repo):
    files, foreign = build_kernel.import_closure(repo)

    dotted = (name.replace("/", ".").removesuffix(".__init__") for name in REAL_MODULES)
    want = {f"ecg_digitize.{name}" for name in dotted}
    want |= {f"ecg_digitize.{name}" for name in ("runtime", "image", "models", "pipeline")}
    want |= {"ecg_digitize", "ecg_digitize.render", "ecg_digitize.render.overlay"}
    assert set(files) == want
    assert {"numpy", "pyarrow", "PIL", "torch", "filelock"} == set(
        foreign
    ) - sys.stdlib_module_names


def test_notebook_is_valid_and_its_cells_are_the_files(repo):
    notebook = json.loads(build_kernel.build_notebook(repo))

    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    written = dict(
        cell.removeprefix("%%writefile ").split("\n", 1)
        for cell in cells
        if cell.startswith("%%writefile ")
    )
    assert len(written) == len(build_kernel.import_closure(repo)[0]) + 1
    for name, text in written.items():
        assert text + "\n" == (repo / name).read_text()
    assert sum("%%" in cell or "!" in cell[:1] for cell in cells) == len(written)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    pytest.importorskip("nbformat").validate(notebook)


def test_rebuild_is_identical_and_the_check_passes(repo):
    assert build_kernel.build_notebook(repo) == build_kernel.build_notebook(repo)
    assert build_kernel.check(repo) == []


@pytest.mark.parametrize(
    "statement",
    ["import cc3d", "from requests.sessions import Session", "__import__('yaml')"],
)
def test_imports_outside_the_image_are_found(repo, statement):
    path = repo / "ecg_digitize/pipeline.py"
    path.write_text(f"{path.read_text()}\n\ndef late():\n    {statement}\n")
    assert "ecg_digitize.pipeline imports" in only_problem(repo)
    assert "Kaggle's image does not have" in only_problem(repo)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("import ecg_digitize.nowhere\n", "imports ecg_digitize.nowhere, which does not exist"),
        ("import importlib\n\nimportlib.import_module(1 + 1)\n", "not written out"),
        ("", "is empty"),
        ("x = 1", "exactly one newline"),
    ],
)
def test_modules_that_cannot_be_bundled_are_told(repo, text, complaint):
    (repo / "ecg_digitize/image.py").write_text(text)
    assert complaint in only_problem(repo)


def test_oversized_notebook_is_found(repo, monkeypatch):
    monkeypatch.setattr(build_kernel, "MAX_NOTEBOOK_BYTES", 1000)
    assert "allowed are 999" in only_problem(repo)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"is_private": "true"}, "is_private"),
        ({"enable_internet": True}, "enable_internet"),
        ({"machine_shape": "NvidiaTeslaP100"}, "NvidiaTeslaT4"),
        ({"dataset_sources": []}, "dataset_sources"),
        ({"competition_sources": ["titanic"]}, "competition_sources"),
        ({"title": "Another Title"}, "'another-title'"),
        ({"title": "ECG", "id": "x/ecg"}, "5..50"),
    ],
)
def test_wrong_metadata_is_found(repo, changes, complaint):
    edit_json(repo / "kernel-metadata.json", **changes)
    assert complaint in only_problem(repo)


def test_wrong_dataset_licence_is_found(repo):
    edit_json(repo / "weights/dataset-metadata.json", licenses=[{"name": "CC-BY-NC-4.0"}])
    assert "licenses" in only_problem(repo)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"bytes": 5}, "not those in"),
        ({"sha256": "0" * 64}, "not those in"),
        ({"licence": "CC-BY-NC-4.0"}, "not a free one"),
        ({"bytes": 41_000_000}, "41000000 bytes of weights"),
        ({"file": "gone.safetensors"}, "missing, but listed"),
        ({"stage": "stage1"}, "no weights for stage0"),
    ],
)
def test_wrong_weights_are_found(repo, changes, complaint):
    edit_entry(repo, **changes)
    assert any(complaint in problem for problem in build_kernel.check(repo))


def test_empty_manifest_is_a_problem(repo):
    edit_json(repo / "weights_manifest.json", files=[])
    (repo / "weights/net.safetensors").unlink()
    (repo / "weights_manifest.json").write_text('{"format": 1, "files": []}\n')
    assert "lists no files" in only_problem(repo)


def test_staging_fills_in_the_owner(repo):
    assert build_kernel.main(["--root", str(repo), "--owner", "jane-doe"]) == 0

    kernel = json.loads((repo / "build/kernel/kernel-metadata.json").read_text())
    assert kernel["id"] == "jane-doe/ecg-digitize"
    assert kernel["dataset_sources"] == ["jane-doe/ecg-digitize-weights"]
    assert (repo / "build/kernel" / kernel["code_file"]).is_file()
    assert sorted(path.name for path in (repo / "build/dataset").iterdir()) == [
        "dataset-metadata.json",
        "net.safetensors",
        "weights_manifest.json",
    ]
    dataset = json.loads((repo / "build/dataset/dataset-metadata.json").read_text())
    assert dataset["id"] == "jane-doe/ecg-digitize-weights"
    assert build_kernel.main(["--root", str(repo), "--owner", "no/slash"]) == 1


@pytest.fixture
def samples(tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    for k, fs in enumerate((250, None)):
        noise = np.random.default_rng(k).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"sample_{k}.png")
        if fs:
            (folder / f"sample_{k}.csv").write_text("I,II\n" + "0.0,0.0\n" * (10 * fs))
    return folder


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("noise = np", f"{DIAL}\n    noise = np", "no network"),
        ("Recording(noise,", "Recording(0 * noise,", "spans 0.0 mV"),
        ("import numpy as np", "import numpy as np\nraise RuntimeError('at import')", "at import"),
    ],
)
def test_smoke_notices(repo, samples, old, new, complaint):
    path = repo / "ecg_digitize/pipeline.py"
    path.write_text(path.read_text().replace(old, new))
    notebook = build_kernel.write_notebook(repo)
    with pytest.raises(kernel_smoke.SmokeError, match=complaint):
        kernel_smoke.smoke(samples, notebook=notebook, root=repo)


def test_execute_refuses_the_repositorys_own_package(tmp_path, monkeypatch):
    cell = {"cell_type": "code", "id": "a", "source": ["import ecg_digitize.errors"]}
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [cell]}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kernel_smoke.SmokeError, match="not from the notebook's own files"):
        kernel_smoke.execute(tmp_path / "n.ipynb")


def test_real_package_bundles_within_limits():
    needed = ("pipeline", "stage1.rectify")
    if not all(build_kernel.module_file(ROOT, f"ecg_digitize.{name}") for name in needed):
        pytest.skip("the package is not complete yet")
    assert len(build_kernel.build_notebook(ROOT)) < build_kernel.MAX_NOTEBOOK_BYTES
    files, foreign = build_kernel.import_closure(ROOT)
    assert set(foreign) - sys.stdlib_module_names <= build_kernel.IMAGE_PACKAGES
    assert not [name for name in files if ".training" in name or ".synth" in name]
    formats = {name for name in files if name.startswith("ecg_digitize.formats.")}
    assert formats == {"ecg_digitize.formats.submission"}
