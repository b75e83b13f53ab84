"""Every command and every Python block of the docs is run here, or a list says why not.

Commands are the lines of ``sh`` blocks, and what stands in backticks and begins with a program.
Those of this package are also parsed, whether they are run or not. They run in an empty folder, on
the pages of `tests/samples` under the names that the docs use.
"""

import argparse
import io
import json
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import pandas as pd
import PIL.Image
import pytest

from ecg_digitize.cli import main, parser
from ecg_digitize.openvino import CACHE_VARIABLE
from ecg_digitize.shipped import sample_page

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "tests" / "samples"
OURS = "ecg-digitize "
BLOCK = r"^```(\w+)\n(.*?)^```$"
SPAN = r"`((?:ecg-digitize|pip|python3?|\.venv/bin/\S+|uv|kaggle|bash) [^`]+)`"
MENTION = r"ecg-digitize ([\w-]+)"  # a command without arguments, amid a sentence

PROGRAMS_NOT_RUN = {
    "pip": "downloads; test_wheel.py installs the package",
    "kaggle": "needs an account",
    "uv": "downloads; makes constraints.txt anew",
    "export": "sets a variable for pip",
    "curl": "needs the server; unit/test_serve.py asks it the same",
}
MINUTES = "takes minutes or hours; tests/training and unit/test_bench.py run shorter ones"
FIGURES = "takes minutes, and a file with signals; tests/training/test_compare.py runs shorter ones"
SET_UP = 'python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e ".[dev]" && '
RECORDS = "--source wfdb:records500"
BANK = "--source bank:bank.npz"
LABELLED = f"{BANK} --labels labels.csv"
EXPORT = "ecg-digitize export stage2"
BIG = (
    "--weights big --manifest big/weights_manifest.json --minutes 900 "
    '--command "..." --data "PTB-XL"'
)
MEMBERS = "needs networks that a large GPU trains; unit/test_members.py runs small ones"
DIAGNOSES = "needs records with labels, and minutes; unit/test_diagnoses.py runs it on made ones"
NOT_RUN = {
    # README.md
    f"{SET_UP}.venv/bin/python build_kernel.py --smoke tests/samples": "test_smoke.py does",
    f"{SET_UP}.venv/bin/python -m pytest": "is what runs this",
    "ecg-digitize digitize-many pages.csv -o /shared/archive --engine ray --address auto": (
        "needs a cluster; unit/test_archive.py runs Ray where it is installed"
    ),
    "ecg-digitize serve --open": "serves until it is stopped; browser/test_desk_page.py uses it",
    # docs/
    ".venv/bin/python build_kernel.py --check --owner NAME": "writes here; test_build_kernel.py",
    "python tests/fuzz/fuzz_inputs.py --minutes 30": "fuzz/test_fuzz_inputs.py runs seconds of it",
    "ecg-digitize compare decoders --source bank:bank.npz --pages 4": FIGURES,
    "ecg-digitize compare looks --source bank:bank.npz --pages 2": FIGURES,
    "ecg-digitize compare resampling --source bank:bank.npz --pages 50": FIGURES,
    "ecg-digitize compare geometry --source bank:bank.npz --pages 1": FIGURES,
    "ecg-digitize compare geometry --paired photos.csv": FIGURES,
    f"ecg-digitize compare overlap --pages 100 --preset fast {BANK} --trained runs": (
        "takes minutes; training/test_compare_overlap.py reads fewer"
    ),
    "ecg-digitize compare severity --source bank:bank.npz --kind photo scan --pages 20 "
    "--picture severity.png": "takes minutes; training/test_compare_severity.py runs shorter",
    "ecg-digitize bench --repeat 3": "takes minutes; unit/test_bench.py",
    "ecg-digitize bench --feed stage1": "takes minutes; unit/test_bench.py",
    "ecg-digitize compare sheets --printed tests/unpaired_sheets.csv --pictures DIR": (
        "needs pictures that may not be passed on; unit/test_compare_sheets.py"
    ),
    "ecg-digitize validate --layout any": "takes an hour; is only parsed",
    "ecg-digitize validate --source bank:bank.npz --each-kind --true-geometry --pages 20": MINUTES,
    "ecg-digitize validate --source bank:bank.npz --each-kind --pages 40 --megapixels 12": MINUTES,
    f"ecg-digitize synth {RECORDS} --contact-sheet pages.png --count 24": (
        "wants a folder of records; unit/test_cli.py makes such a sheet"
    ),
    f"ecg-digitize train stage2 {RECORDS} --minutes 240 --out runs/stage2 "
    "--encoder lite0.safetensors": MINUTES,
    f"ecg-digitize train refine {RECORDS} --minutes 60 --out runs/refine --batch 16 "
    "--learning-rate 2e-3": MINUTES,
    f"ecg-digitize validate {RECORDS} --pages 20 --each-kind": MINUTES,
    f"ecg-digitize train-all {RECORDS} --minutes 60 --out runs/all --initial weights "
    "--workers 14": MINUTES,
    'python -c "import timm, safetensors.torch as s; s.save_file(timm.create_model('
    "'tf_efficientnet_lite0', pretrained=True).state_dict(), 'lite0.safetensors')\"": "downloads",
    # docs/ensemble.md
    "ecg-digitize train stage2 --member whole-b7 --recipe published --encoder b7.safetensors "
    f"{RECORDS} --minutes 2000 --workers 14 --out runs/whole-b7": MINUTES,
    'python -c "import timm, safetensors.torch as s; s.save_file(timm.create_model('
    "'tf_efficientnet_b7', pretrained=True).state_dict(), 'b7.safetensors')\"": "downloads",
    f"{EXPORT} runs/whole-b7/stage2.safetensors --member whole-b7 {BIG}": MEMBERS,
    f"{EXPORT} runs/whole-v2l/stage2.safetensors --member whole-v2l --beside {BIG}": MEMBERS,
    "ecg-digitize digitize scans/ -o out --weights big --preset ensemble": MEMBERS,
    "ecg-digitize bench --members": "takes a minute; training/test_member_cost.py runs one",
    # docs/systems.md and docs/diagnoses.md
    "ecg-digitize compare systems --paired photos.csv paired.csv pairs.csv --pages 25 "
    f"--trained runs {BANK}": "takes an hour; training/test_compare_systems.py",
    f"ecg-digitize train regression {BANK} --minutes 30 --batch 8 --learning-rate 2e-3 "
    "--out runs/regression": MINUTES,
    f"ecg-digitize train resunet {BANK} --minutes 55 --batch 4 --out runs/resunet": MINUTES,
    f"ecg-digitize train overlap {BANK} --minutes 25 --batch 8 --learning-rate 2e-3 "
    "--out runs/overlap": MINUTES,
    "ecg-digitize train stage2 --member series-shared --initial weights/strips.safetensors "
    f"{BANK} --minutes 20 --batch 4 --learning-rate 8e-5 --out runs/series-shared": MINUTES,
    f"ecg-digitize compare diagnoses {LABELLED} --paired photos.csv --pages 23 --preset fast": (
        DIAGNOSES
    ),
    f"ecg-digitize print-and-read -o read.npz {LABELLED} --pages 2400 --preset fast": DIAGNOSES,
    f"ecg-digitize train diagnose-signals {LABELLED} --digitized read.npz --minutes 40 "
    "--batch 64 --learning-rate 3e-3 --workers 0 --out runs/diagnose-signals": DIAGNOSES,
    f"ecg-digitize train diagnose-pictures {LABELLED} --encoder lite0.safetensors --minutes 34 "
    "--batch 8 --learning-rate 6e-4 --out runs/diagnose-pictures": DIAGNOSES,
    # .github/CONTRIBUTING.md
    "ecg-digitize synth --kind NAME --contact-sheet sheet.png": "NAME stands for a kind",
    "python tests/test_example_notebook.py": "writes here; test_example_notebook.py runs it",
}
RECORDS_OF_TRAININGS = ROOT / "docs" / "model_card.md"  # what it has in backticks is no advice


def text_of(document):
    """Return what a document says; of a notebook, its prose."""
    text = document.read_text(encoding="utf-8")
    if document.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    prose = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] != "code")
    return re.sub(r"^    (.*)$", r"```sh\n\1\n```", prose, flags=re.MULTILINE)


def steps_of(document):
    """Return what a document says to do, in order: ("sh", a line) or ("python", a block)."""
    steps = []
    for kind, block, span in re.findall(f"{BLOCK}|{SPAN}", text_of(document), re.M | re.S):
        if kind == "python":
            steps.append((kind, block))
        elif kind == "sh":
            lines = [re.sub(r"\s{2,}#.*", "", line).strip() for line in block.splitlines()]
            steps += [("sh", line) for line in lines if line]
        elif span and document != RECORDS_OF_TRAININGS:
            command = " ".join(span.split())
            if not re.fullmatch(MENTION, command):
                steps.append(("sh", command))
    return steps


DOCUMENTS = [
    *(ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md"),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "docs" / "example.ipynb",
]
STEPS = {document: steps for document in DOCUMENTS if (steps := steps_of(document))}
COMMANDS = sorted({step for steps in STEPS.values() for kind, step in steps if kind == "sh"})


def is_run(command):
    return command not in NOT_RUN and command.split()[0] not in PROGRAMS_NOT_RUN


def arguments_of(command):
    """Return the arguments of a command of ours, and the file that is its standard input."""
    words, _, stdin = command.removeprefix(OURS).partition(" < ")
    return shlex.split(words), stdin


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """A folder with what the docs take for granted."""
    folder = tmp_path_factory.mktemp("reader")
    pages = {name: SAMPLES / f"sample_{name}.png" for name in ("render", "scan", "photo")}
    for place in ("scans", "example/pages"):
        (folder / place).mkdir(parents=True)
        shutil.copy(pages["scan"], folder / place / "page.png")
    shutil.copy(pages["render"], folder / "page.png")
    PIL.Image.open(pages["photo"]).convert("RGB").save(folder / "photo.jpg", quality=95)
    for name in ("letter.pdf", "scans.pdf"):
        PIL.Image.open(pages["scan"]).convert("RGB").save(folder / name, resolution=200)
    pd.DataFrame({"path": ["page.png"]}).to_csv(folder / "pages.csv", index=False)
    truth = pages["render"].with_suffix(".csv")
    row = {"image": ["page.png"], "truth": [str(truth)], "fs": [500], "kind": ["render"]}
    for name in ("TABLE", "table", "paired", "photos"):
        pd.DataFrame(row).to_csv(folder / f"{name}.csv", index=False)
    (folder / "docs").mkdir()
    return folder


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.startswith(OURS)])
def test_options_of_every_command_exist(command):
    arguments, _ = arguments_of(command)
    parser().parse_args(arguments)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_commands_and_options_that_are_mentioned_exist(document):
    (subparsers,) = (
        one for one in parser()._actions if isinstance(one, argparse._SubParsersAction)
    )
    options = {
        option for one in subparsers.choices.values() for option in one._option_string_actions
    }
    text = " ".join(text_of(document).split())
    assert set(re.findall(f"`{MENTION}`", text)) <= set(subparsers.choices)
    assert set(re.findall(r"`(--[a-z-]+)", text)) <= options


def test_every_extra_that_is_named_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        extra
        for document in DOCUMENTS
        for extras in re.findall(r'install .*?"[\w.-]+\[([\w,]+)\]"', text_of(document))
        for extra in extras.split(",")
    }
    assert len(named) > 8
    assert named <= set(project["optional-dependencies"])


def test_the_list_of_what_is_not_run_is_of_commands_that_the_docs_have():
    assert set(NOT_RUN) <= set(COMMANDS)
    assert set(PROGRAMS_NOT_RUN) <= {command.split()[0] for command in COMMANDS}


def test_what_is_run_can_be_run_here():
    """Fails for a new command: let it begin with our name, or say above why it is not run."""
    assert [one for one in COMMANDS if is_run(one) and not one.startswith(OURS)] == []


@pytest.mark.parametrize("document", STEPS, ids=lambda document: document.name)
def test_a_reader_can_do_all_of_it(document, stand_ins, monkeypatch):
    steps = [(kind, step) for kind, step in STEPS[document] if kind == "python" or is_run(step)]
    if not steps:
        pytest.skip("nothing in it is to be run")
    for package in ("matplotlib", "openvino", "pydicom", "pypdfium2", "wfdb", "xarray"):
        pytest.importorskip(package, reason=f"the docs use {package}")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv(CACHE_VARIABLE, str(stand_ins / "cache"))
    monkeypatch.chdir(stand_ins)
    for kind, step in steps:
        if kind == "python":
            exec(compile(step, document.name, "exec"), {})
            continue
        arguments, stdin = arguments_of(step)
        if stdin:
            content = io.BytesIO(Path(stdin).read_bytes())
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
        assert main(arguments) == 0, step


def test_the_table_in_the_readme_is_what_comes_out(stand_ins, monkeypatch):
    (shown,) = re.findall(r"^```\n(time_s,.*?)^```$", text_of(ROOT / "README.md"), re.M | re.S)
    rows = [row.split(",") for row in shown.replace("…\n", "").splitlines()]
    monkeypatch.chdir(stand_ins)

    assert main(["digitize", "--sample", "-o", "alone"]) == 0

    table = pd.read_csv(f"alone/{sample_page().stem}.csv", index_col="time_s")
    assert rows[0] == ["time_s", *table.columns]
    for at_s, *shown_mv in rows[1:]:
        got_mv = table.loc[float(at_s)].tolist()
        wanted_mv = [float(mv or "nan") for mv in shown_mv]
        assert got_mv == pytest.approx(wanted_mv, abs=0.01, nan_ok=True)
