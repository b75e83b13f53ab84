"""Every training script for two steps on two pages; what it leaves can be resumed and shipped."""

import functools
import logging
import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ecg_digitize.cli import main
from ecg_digitize.commands import making
from ecg_digitize.errors import InputError, WeightsError
from ecg_digitize.shipped import HOME
from ecg_digitize.stage2.decode import decode, true_trace_map
from ecg_digitize.stage2.refine import RefineNet
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.training import export as exporting
from ecg_digitize.training import loop, refine, run, stage2, together
from ecg_digitize.training.export import export, provenance_now
from ecg_digitize.training.loop import TrainOptions, train
from ecg_digitize.training.losses import MIXTURES, Mixture
from ecg_digitize.training.recipes import RECIPES
from ecg_digitize.training.run import DEFAULTS, architecture_of, train_stage
from ecg_digitize.weights import load_network, read_manifest, verify_all

BACKBONE = "test_efficientnet"  # timm's own, for tests


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _few_pages(monkeypatch):
    """One page in the pool of the refinement: each costs a second of the shipped stage 2."""
    few = functools.partial(refine.Samples, first_pages=1, draws=2)
    monkeypatch.setattr(refine, "Samples", few)


def _tiny(stage):
    return architecture_of(stage, backbone=None if stage == "refine" else BACKBONE)


def _run(stage, out, *, max_steps, **options):
    limits = TrainOptions(out=out, minutes=60, batch=1, workers=0, seed=3, max_steps=max_steps)
    return train_stage(stage, SimulatorSource(), limits, architecture=_tiny(stage), **options)


@pytest.mark.parametrize("stage", [*DEFAULTS, "strips"])
def test_two_steps_then_resumed_then_exported(stage, tmp_path, caplog):
    out, weights, manifest = tmp_path / "run", tmp_path / "weights", tmp_path / "manifest.json"
    _, first = _run(stage, out, max_steps=1)
    with caplog.at_level(logging.INFO):
        network, figures = _run(stage, out, max_steps=2)

    assert first["steps"] == 1
    assert figures["steps"] == 2
    assert np.isfinite([first["loss"], figures["loss"]]).all()
    assert "resumed" in caplog.text
    assert not network.training

    entry = export(
        stage,
        out / "checkpoint.pt",
        provenance=provenance_now(command="test", data="simulator", minutes=0.1, metrics={"x": 1}),
        architecture=_tiny(stage),
        weights_dir=weights,
        manifest=manifest,
    )
    assert entry.file == f"{stage}.safetensors"
    assert [read.sha256 for read in read_manifest(manifest)] == [entry.sha256]
    (status,) = verify_all(weights_dir=weights, manifest=manifest)
    assert status.ok, status.why
    loaded = load_network(entry, weights_dir=weights)
    state = network.state_dict()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, state[name].to(value.dtype), rtol=2e-3, atol=1e-6)


def test_the_command_trains_and_prints_the_line_that_exports(tmp_path, capsys):
    out = tmp_path / "run"
    options = ["--source", "simulator", "--out", str(out), "--backbone", BACKBONE]
    limits = ["--minutes", "60", "--max-steps", "1", "--batch", "1", "--workers", "0"]

    assert main(["train", "stage1", *options, *limits]) == 0

    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"python -m ecg_digitize export stage1 {out}/stage1.safetensors")
    half = load_file(out / "stage1.safetensors")
    assert {str(t.dtype) for t in half.values() if t.is_floating_point()} == {"torch.float16"}
    shipped = ["--weights", str(tmp_path / "w"), "--manifest", str(tmp_path / "m.json")]
    assert main([*shlex.split(line)[3:], *shipped]) == 0
    (entry,) = read_manifest(tmp_path / "m.json")
    assert entry.provenance.metrics["steps"] == 1
    assert entry.provenance.command.startswith("ecg-digitize train stage1 --source simulator")
    assert entry.input.shape == (1, 3, 896, 1152)


@pytest.mark.parametrize(("stage", "loss"), [("stage1", "mask"), ("stage2", "nonsense")])
def test_a_loss_that_the_stage_does_not_have_is_refused(stage, loss, tmp_path):
    with pytest.raises(InputError, match="stage2 alone has some: column"):
        _run(stage, tmp_path, max_steps=1, loss=loss)


def test_stage_2_trains_by_another_loss(tmp_path):
    _, usual = _run("stage2", tmp_path / "a", max_steps=1)
    _, other = _run("stage2", tmp_path / "b", max_steps=1, loss="snr")

    assert np.isfinite(other["loss"])
    assert other["loss"] != pytest.approx(usual["loss"])


def test_an_earlier_network_can_be_started_from(tmp_path):
    _run("stage1", tmp_path / "a", max_steps=1)
    state = torch.load(tmp_path / "a" / "checkpoint.pt", weights_only=True)["network"]
    initial = tmp_path / "initial.safetensors"
    save_file({name: value.contiguous() for name, value in state.items()}, initial)

    network, _ = _run("stage1", tmp_path / "b", max_steps=1, initial=initial)

    name, moved = next((n, p) for n, p in network.state_dict().items() if p.ndim == 4)
    # The first step warms up at a hundredth of the learning rate.
    torch.testing.assert_close(moved, state[name], rtol=0.1, atol=1e-3)


def test_the_mean_of_trainings_can_be_exported(tmp_path):
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path, value in zip(paths, (1.0, 2.0), strict=True):
        state = RefineNet().state_dict()
        save_file({k: torch.full_like(v, value) for k, v in state.items()}, path)
    shipped = ["--weights", str(tmp_path / "w"), "--manifest", str(tmp_path / "m.json")]
    told = ["--minutes", "1", "--command", "", "--data", ""]

    given = ["refine", str(paths[0]), "--average-with", str(paths[1])]
    assert main(["export", *given, *told, *shipped]) == 0

    for name, value in load_file(tmp_path / "w" / "refine.safetensors").items():
        expected = 1.5 if value.is_floating_point() else 1
        assert set(value.flatten().tolist()) == {expected}, name


def test_export_refuses_another_stage(tmp_path):
    _run("stage1", tmp_path, max_steps=1)
    told = provenance_now(command="", data="", minutes=1, metrics={})

    with pytest.raises(WeightsError, match="does not fit Stage0Net"):
        export(
            "stage0",
            tmp_path / "checkpoint.pt",
            provenance=told,
            architecture=_tiny("stage0"),
            weights_dir=tmp_path / "w",
            manifest=tmp_path / "m.json",
        )
    assert not (tmp_path / "m.json").exists()


def test_the_refinement_has_no_encoder_to_start_from(tmp_path):
    with pytest.raises(InputError, match="leave --encoder out"):
        _run("refine", tmp_path, max_steps=1, encoder=tmp_path / "lite0.safetensors")
    with pytest.raises(InputError, match="leave --backbone out"):
        architecture_of("refine", backbone=BACKBONE)


def test_members_are_of_stage_2_alone():
    assert architecture_of("stage2", member="series-shared").name == "SeriesNet"
    with pytest.raises(InputError, match="stage2 alone has some: whole, series-conv2d"):
        architecture_of("stage1", member="series-shared")
    with pytest.raises(InputError, match="no member 'huge'"):
        architecture_of("stage2", member="huge")


def test_the_refinement_decodes_pages_in_a_worker(tmp_path, monkeypatch):
    """Where pages are decoded by threads, although this process has begun threads of its own."""
    torch.set_num_threads(2)
    decode(true_trace_map(np.full((4, 5000), 600, np.float32)))
    limits = TrainOptions(out=tmp_path, minutes=60, batch=1, workers=1, seed=3, max_steps=1)
    monkeypatch.undo()  # only what its module names can be sent to a worker
    samples = refine.Samples(SimulatorSource(), seed=3, first_pages=1, draws=2)

    figures = train(RefineNet(), refine.loss_of, samples, limits)

    assert figures["steps"] == 1


@pytest.fixture
def _small_courses(monkeypatch):
    small = {name: replace(course, batch=1) for name, course in together.COURSES.items()}
    monkeypatch.setattr(together, "COURSES", small)
    monkeypatch.setattr(together, "FIRST_PAGES", 1)


@pytest.mark.usefixtures("_small_courses")
def test_all_stages_train_in_one_run(tmp_path, capsys):
    out = tmp_path / "run"
    options = ["--source", "simulator", "--out", str(out), "--minutes", "60", "--max-steps", "1"]

    assert main(["train-all", *options, "--workers", "1", "--initial", str(HOME / "weights")]) == 0

    lines = capsys.readouterr().out.splitlines()
    for stage, said, line in zip(DEFAULTS, lines[::2], lines[1::2], strict=True):
        assert said.startswith(f"{out}/{stage}.safetensors: ")
        assert line.startswith(f"python -m ecg_digitize export {stage} {out}/{stage}.safetensors")
        shipped = ["--weights", str(tmp_path / "w"), "--manifest", str(tmp_path / "m.json")]
        assert main([*shlex.split(line)[3:], *shipped]) == 0
    statuses = verify_all(weights_dir=tmp_path / "w", manifest=tmp_path / "m.json")
    assert all(status.ok for status in statuses)
    for entry in read_manifest(tmp_path / "m.json"):
        assert entry.provenance.metrics["steps"] >= 1
        before = load_file(HOME / "weights" / entry.file)
        after = load_file(tmp_path / "w" / entry.file)
        name = next(name for name in before if name.endswith("weight") and before[name].ndim == 4)
        assert not torch.equal(before[name], after[name])
        torch.testing.assert_close(before[name], after[name], rtol=0.1, atol=0.01)


@pytest.mark.usefixtures("_small_courses")
def test_the_refinement_alone_learns_from_the_stage_2_given(tmp_path):
    options = TrainOptions(out=tmp_path, minutes=60, workers=0, max_steps=1)

    with pytest.raises(InputError, match="give it by --initial"):
        together.train_together(SimulatorSource(), options, stages=("refine",))
    with pytest.raises(InputError, match=r"expected a folder with STAGE\.safetensors"):
        together.train_together(SimulatorSource(), options, initial=tmp_path)
    trained = together.train_together(
        SimulatorSource(), options, stages=("refine",), initial=HOME / "weights"
    )

    assert trained["refine"]["steps"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["refine.safetensors"]


def test_time_too_short_for_a_step_is_said(tmp_path):
    options = TrainOptions(out=tmp_path, minutes=1e-9, workers=0)

    with pytest.raises(InputError, match="stage0: no step in the time"):
        together.train_together(SimulatorSource(), options, stages=("stage0",))
    assert not any(tmp_path.iterdir())


def test_an_initial_network_of_another_kind_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="does not fit Stage1Net"):
        _run("stage1", tmp_path, max_steps=1, initial=HOME / "weights" / "stage0.safetensors")


def test_a_page_that_cannot_be_made_ends_the_training(tmp_path):
    class Broken(SimulatorSource):
        def get(self, index):
            raise InputError("no record")

    options = TrainOptions(out=tmp_path, minutes=60, workers=0, max_steps=1)
    with pytest.raises(InputError, match="no record"):
        together.train_together(Broken(), options)


@pytest.mark.parametrize(("minutes", "max_steps"), [(0.02, 10**9), (60, 400)])
def test_a_training_ends_at_its_end_whether_of_time_or_of_steps(
    minutes, max_steps, tmp_path, monkeypatch
):
    """The learning rate falls by the share that is over."""
    shares, learn = [], loop.Trainee.learn

    def noted(self, batch, *, progress):
        shares.append(progress)
        learn(self, batch, progress=progress)

    monkeypatch.setattr(loop.Trainee, "learn", noted)
    options = TrainOptions(out=tmp_path, minutes=minutes, workers=0, max_steps=max_steps)
    network = torch.nn.Linear(2, 1)
    train(
        network,
        lambda network, batch: network(batch["x"]).square().mean(),
        lambda index: [{"x": np.ones(2, np.float32)}],
        options,
    )

    assert shares[0] < 0.1
    assert 0.9 < shares[-1] <= 1
    assert (np.diff(shares) >= 0).all()


def test_the_published_recipe_is_what_was_published():
    recipe = RECIPES["published"]
    (whole,) = stage2.Samples(SimulatorSource(), 1, width_px=recipe.width_px)(0)

    assert whole["image"].shape == (3, 1280, 5600)
    assert MIXTURES[recipe.loss] == Mixture(mask=1.0, positive_weight=20.0, is_plain=True)
    assert (recipe.batch, recipe.weight_decay, recipe.steps(977)) == (4, 0.01, 50 * 977 // 4)
    assert 5e-4 <= recipe.learning_rate <= 1e-3


@pytest.mark.parametrize("member", ["whole-b7", "series-b6-conv2d"])
def test_the_command_trains_by_the_published_recipe(member, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(run, "train", lambda *arguments: seen.append(arguments) or {})
    monkeypatch.setattr(run, "start_from", lambda *_, **__: RefineNet())
    monkeypatch.setattr(exporting, "save_half", lambda *_, **__: None)
    monkeypatch.setattr(making, "_say_how_to_ship", lambda *_, **__: None)

    command = ["train", "stage2", "--recipe", "published", "--member", member]
    limits = ["--source", "simulator", "--minutes", "60", "--out", str(tmp_path)]
    assert main([*command, *limits]) == 0
    assert main(["train", "stage1", "--recipe", "published", *limits]) == 2

    ((_, loss_of, samples, options),) = seen
    assert loss_of.keywords["mixture"] == MIXTURES["published mask"]
    assert samples.width_px == 5600
    assert (options.batch, options.learning_rate) == (4, 5e-4)
    assert options.max_steps == 50 * len(SimulatorSource()) // 4
