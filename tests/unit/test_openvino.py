"""OpenVINO computes what torch computes, and converts a network once."""

import importlib.util
import json
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ecg_digitize import openvino
from ecg_digitize.cli import main
from ecg_digitize.errors import InputError, WeightsError
from ecg_digitize.models import Models, run_batch
from ecg_digitize.openvino import CACHE_VARIABLE, cache_folder, on_openvino
from ecg_digitize.sheet.names_net import NamesNet
from ecg_digitize.sheet.text_net import TextNet
from ecg_digitize.stage0.net import Stage0Net
from ecg_digitize.stage2.refine import RefineNet
from ecg_digitize.stage2.strip import StripNet

CPU = torch.device("cpu")

needs_openvino = pytest.mark.skipif(  # asked so that OpenVINO is not imported with its telemetry
    importlib.util.find_spec("openvino") is None,
    reason='OpenVINO is not installed; pip install "ecg-digitize[cpu]"',
)


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Compute in float32 on every CPU, so that outputs can be compared closely."""
    monkeypatch.setattr(openvino, "autocast_dtype", lambda _: None)
    monkeypatch.setattr("ecg_digitize.runtime.autocast_dtype", lambda _: None)


def only(**networks: nn.Module) -> Models:
    """Return models that hold these networks alone."""
    none = dict.fromkeys(("stage0", "stage1", "stage2", "refine"), nn.Identity())
    return Models(**(none | networks), device=CPU)


def tiny_refine(seed: int = 0) -> RefineNet:
    torch.manual_seed(seed)
    network = RefineNet(stem=(4, 4, 4, 4), width=8, dilations=(1,))
    nn.init.normal_(network.head.weight)
    return network.eval()


NETWORKS = {
    "stage0": lambda: Stage0Net(decoder=(8, 8, 8)),
    "refine": tiny_refine,
    "names": lambda: NamesNet(stem=4, fine=8, letters=1, coarse=8, dilations=(1,)),
    "text": lambda: TextNet(widths=(4, 8, 8), letters=8, context=1),
    "strips": lambda: StripNet(decoder=(8, 8, 8), detail=4),
}
SHAPES = {
    "stage0": [(1, 3, 256, 256), (1, 3, 96, 160)],
    "refine": [(4, 10, 64, 130), (1, 10, 64, 20)],
    "names": [(1, 3, 104, 72)],
    "text": [(3, 1, 24, 50), (1, 1, 24, 8)],
    # Odd numbers of cells on the way down, which are padded otherwise than even ones.
    "strips": [(1, 3, 480, 128), (1, 3, 236, 332), (2, 3, 60, 36)],
}


@needs_openvino
@pytest.mark.parametrize("stage", NETWORKS)
def test_outputs_are_those_of_torch_at_any_size(stage, tmp_path):
    torch.manual_seed(0)
    network = NETWORKS[stage]().eval()
    models = on_openvino(only(**{stage: network}), cache_dir=tmp_path)
    dtype = np.float32 if stage == "refine" else np.uint8
    rng = np.random.default_rng(0)
    for shape in SHAPES[stage]:
        x = torch.from_numpy(rng.integers(0, 256, shape).astype(dtype))

        got = run_batch(getattr(models, stage), x, CPU)

        for want, found in zip(run_batch(network, x, CPU), got, strict=True):
            torch.testing.assert_close(found, want, atol=1e-4 * float(want.abs().max()), rtol=0)


@needs_openvino
def test_a_network_is_converted_once_and_anew_where_its_file_is_broken(tmp_path, monkeypatch):
    library = openvino._import_openvino()
    convert, converted = library.convert_model, []

    def counting(network, **options):
        converted.append(network)
        return convert(network, **options)

    monkeypatch.setattr(library, "convert_model", counting)
    models, x = only(refine=tiny_refine()), torch.rand(1, 10, 64, 20)
    first = on_openvino(models, cache_dir=tmp_path)
    (file,) = tmp_path.rglob("*.blob")
    whole = file.read_bytes()

    second = on_openvino(models, cache_dir=tmp_path, threads=1)
    assert len(converted) == 1
    assert second.backend == "openvino"
    assert second.refine.compiled.get_property("INFERENCE_NUM_THREADS") == 1
    torch.testing.assert_close(second.refine(x), first.refine(x))

    for broken in (b"", whole[: len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(broken)
        again = on_openvino(models, cache_dir=tmp_path)
        torch.testing.assert_close(again.refine(x), first.refine(x))
        assert len(file.read_bytes()) == len(whole)
    assert len(converted) == 4

    on_openvino(only(refine=tiny_refine(seed=1)), cache_dir=tmp_path)
    assert len(converted) == 5
    assert len(list(tmp_path.rglob("*.blob"))) == 2


@needs_openvino
def test_a_folder_that_cannot_be_written_is_named(tmp_path, caplog):
    (tmp_path / "openvino").write_text("a file")

    models = on_openvino(only(refine=tiny_refine()), cache_dir=tmp_path)

    assert models.refine(torch.rand(1, 10, 64, 20)).shape == (1, 20)
    assert CACHE_VARIABLE in caplog.text


@needs_openvino
def test_a_network_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    library = openvino._import_openvino()
    convert, other = library.convert_model, tiny_refine(seed=1)
    monkeypatch.setattr(library, "convert_model", lambda _, **options: convert(other, **options))

    with pytest.raises(WeightsError, match="refine: OpenVINO is off by"):
        on_openvino(only(refine=tiny_refine()), cache_dir=tmp_path)
    assert not list(tmp_path.rglob("*.blob"))


@needs_openvino
def test_nobody_is_told_that_openvino_is_used(run_python, tmp_path):
    code = """
import sys
from ecg_digitize.openvino import _import_openvino
_import_openvino()
print([name for name, module in sys.modules.items() if "openvino_telemetry" in name and module])
"""
    done = run_python(code, HOME=str(tmp_path), USERPROFILE=str(tmp_path))
    assert done.stdout.strip() == "[]"
    assert not list(tmp_path.iterdir())  # where it keeps the number that it knows a machine by


@needs_openvino
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
def test_signals_are_handled_after_networks_have_gone(run_python, tmp_path):
    code = """
import signal
import torch
from torch import nn
from ecg_digitize.models import Models
from ecg_digitize.openvino import on_openvino
from ecg_digitize.stage2.refine import RefineNet
networks = nn.Identity(), nn.Identity(), nn.Identity(), RefineNet(width=8, dilations=(1,)).eval()
models = Models(*networks, device=torch.device("cpu"))
first = on_openvino(models)
second = on_openvino(models)
del first
del second
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""
    assert run_python(code, **{CACHE_VARIABLE: str(tmp_path)}).stdout == "handled\n"


@needs_openvino
def test_networks_in_the_form_that_torch_runs_are_refused(tmp_path):
    rounded = nn.Conv2d(1, 1, 1).to(torch.bfloat16)
    with pytest.raises(InputError, match="is_final=False"):
        on_openvino(only(stage2=rounded), cache_dir=tmp_path)


@needs_openvino
def test_only_the_cpu_is_served():
    with pytest.raises(InputError, match='the device is "cuda:0"'):
        on_openvino(replace(only(), device=torch.device("cuda:0")))


@pytest.mark.usefixtures("tiny_weights")
def test_the_command_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)

    assert main(["bench", "--backend", "openvino"]) == 2

    assert 'pip install "ecg-digitize[cpu]"' in capsys.readouterr().err


@needs_openvino
def test_the_report_names_the_backend(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("ecg_digitize.models.load_models", lambda **_: only(refine=tiny_refine()))
    (tmp_path / "broken.png").write_text("no picture")

    where = [str(tmp_path / "broken.png"), "-o", str(tmp_path / "out")]
    assert main(["digitize", *where, "--backend", "openvino"]) == 3

    assert json.loads((tmp_path / "out" / "run_report.json").read_text())["backend"] == "openvino"
    assert list((tmp_path / "cache").rglob("refine-*.blob"))


def test_the_cache_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    monkeypatch.setenv(variable, str(tmp_path))
    assert cache_folder() == tmp_path / "ecg-digitize"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "other"))
    assert cache_folder() == tmp_path / "other"
