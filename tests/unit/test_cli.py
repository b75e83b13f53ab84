"""The command: exit codes, files and messages, with tiny networks behind it."""

import errno
import io
import json
import re
import shlex
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import PIL.Image
import pyarrow.parquet as pq
import pytest

from ecg_digitize import batch, models, page_files, pipeline
from ecg_digitize.batch import STORE_NAME, find_pages
from ecg_digitize.cli import EXAMPLES, FORMAT_HELP, STAGES, main, parser
from ecg_digitize.engine.stop import Stop
from ecg_digitize.engine.store import open_store
from ecg_digitize.files import sha256_of
from ecg_digitize.formats.csv import read_csv
from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, crossings_mm
from ecg_digitize.image import read_image
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.manifest import MANIFEST_VARIABLE
from ecg_digitize.page_files import Writing
from ecg_digitize.signals import printed_recording
from ecg_digitize.synth.dataset import make_page
from ecg_digitize.synth.folder import true_recording
from ecg_digitize.synth.samples import MAX_BYTES, SAMPLES
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.training import export, run
from ecg_digitize.types import Digitization, GridMap, Recording, Trace

ROOT = Path(__file__).parents[2]
SAMPLE_FOLDER = ROOT / "tests" / "samples"


@pytest.fixture
def pictures(tmp_path):
    """Two pictures of one name in two folders, and a broken one."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).save(tmp_path / folder / "page.png")
    (tmp_path / "b" / "broken.png").write_text("no picture")
    return tmp_path


@pytest.fixture
def made_readings(monkeypatch, tiny_weights):
    """In place of reading pages, which takes seconds: a flat line each, at once."""

    def digitize_told(page, models, *, fs_hz, overrides):
        grid = GridMap(
            np.float32(crossings_mm() * 5), np.ones((GRID_ROWS, GRID_COLUMNS), np.float32), 0.1
        )
        signals_mv = np.zeros((len(LEADS), round(10 * fs_hz)), np.float32)
        trace = Trace(*np.ones((2, *COMPETITION.shape), np.float32))
        return Digitization(page.source, Recording(signals_mv, fs_hz), trace, grid, None, {})

    monkeypatch.setattr(page_files, "digitize_told", digitize_told)


def visible(folder):
    """Return what a user sees below a folder."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if not path.parts[0].startswith("."))


def test_stages_are_called_the_same_everywhere():
    assert tuple(export.INPUTS) == tuple(run.DEFAULTS) == models.STAGES == STAGES


def test_samples_are_small_and_have_truth():
    files = list(SAMPLE_FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) < MAX_BYTES
    names = sorted(sample.name for sample in SAMPLES)
    assert sorted(file.name for file in files if file.suffix == ".png") == [
        f"{name}.png" for name in names
    ]
    for name in names:
        assert read_csv(SAMPLE_FOLDER / f"{name}.csv", fs_hz=500).fs_hz == 500
        height, width = read_image(SAMPLE_FOLDER / f"{name}.png").image.shape[:2]
        assert 1.6e6 < height * width < 4e6


def test_help_needs_no_torch_and_no_opencv():
    code = (
        "import sys; from ecg_digitize.cli import parser; parser().format_help(); "
        "sys.exit(bool({'torch', 'cv2'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("before", "after"), [("", "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(run_python, before, after):
    code = f"""
import os, sys
os.environ.pop("OMP_WAIT_POLICY", None)
if {before!r}: os.environ["OMP_WAIT_POLICY"] = {before!r}
from ecg_digitize.cli import main
assert main(["digitize", "-o", "out"]) == 2
print(os.environ["OMP_WAIT_POLICY"])
"""
    assert run_python(code).stdout.split() == [after]


@pytest.mark.usefixtures("tiny_weights", "sheet_given")
def test_digitize_a_batch_with_a_failure(pictures, capsys):
    out = pictures / "out"

    sheet = pictures / "sheet.png"
    where = [str(pictures / "a"), str(pictures / "b"), "-o", str(out)]

    code = main(["digitize", *where, "--contact-sheet", str(sheet)])

    assert code == 3
    assert visible(out) == [
        *("page-2.csv", "page-2.json", "page-2.overlay.png"),
        *("page.csv", "page.json", "page.overlay.png", "report.html", "run_report.json"),
    ]
    assert len(read_csv(out / "page.csv", fs_hz=500).signals_mv) == len(LEADS)
    report = json.loads((out / "run_report.json").read_text())
    assert (report["pages"], report["digitized"]) == (3, 2)
    output = report["outputs"][str(pictures / "b" / "page.png")]
    assert output["files"] == {"csv": [str(out / "page-2.csv"), str(out / "page-2.json")]}
    assert set(output) == {
        *("files", "layout", "rhythm", "windows_s", "mm_per_s", "mm_per_mv", "einthoven_mv"),
        *("verdict", "doubts", "quality", "measures", "by_lines"),
    }
    assert output["layout"] == "3x4+1"
    assert output["windows_s"]["aVR"] == [2.5, 5.0]
    assert set(output["quality"]) == set(LEADS)
    assert report["overrides"] == {}
    assert output["verdict"] in (("check", "reject") if output["doubts"] else ("ok",))
    assert read_image(sheet).image.shape == (488, 2 * 708, 3)
    (failure,) = report["failures"]
    assert failure["source"] == str(pictures / "b" / "broken.png")
    assert failure["stage"] == "read"
    assert failure["source"] in capsys.readouterr().err


@pytest.mark.usefixtures("tiny_weights", "sheet_given")
def test_digitize_without_overlay_at_another_rate(pictures):
    out = pictures / "deep" / "out"

    code = main(
        ["digitize", str(pictures / "a/page.png"), "-o", str(out), "--fs", "250", "--no-overlay"]
    )

    assert code == 0
    assert visible(out) == ["page.csv", "page.json", "report.html", "run_report.json"]
    assert read_csv(out / "page.csv").fs_hz == 250


@pytest.mark.usefixtures("tiny_weights", "sheet_given")
def test_digitize_at_a_gain_and_a_speed_that_the_user_knows(pictures, capsys):
    out = pictures / "out"
    page = str(pictures / "a/page.png")

    code = main(["digitize", page, "-o", str(out), "--gain", "5", "--speed", "50"])

    assert code == 0
    report = json.loads((out / "run_report.json").read_text())
    assert (report["outputs"][page]["mm_per_s"], report["outputs"][page]["mm_per_mv"]) == (50, 5)
    assert "it is printed at 50 mm/s and 5 mm/mV" in report["outputs"][page]["doubts"]
    assert report["overrides"] == {"mm_per_s": 50, "mm_per_mv": 5}
    assert f"{report['outputs'][page]['verdict']:<7} {page}: " in capsys.readouterr().err
    assert len(pd.read_csv(out / "page.csv")) == 2500  # five seconds at 500 Hz


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digitize", "{}/empty", "-o", "{}/out"], "no pictures in this folder"),
        (["digitize", "{}/a", "-o", "{}/a/page.png"], "cannot be the output folder"),
        (["digitize", "{}/a", "-o", "{}/out", "--device", "abacus"], "abacus"),
        (["digitize", "{}/a", "-o", "{}/out", "--layout", "7x9"], "one of 3x4, 3x4 Cabrera, 6x2"),
        (["digitize", "{}/a", "-o", "{}/out", "--format", "csv,gif"], 'but got "gif"'),
        (["digitize", "{}/a", "-o", "{}/out", "--format", "csv,csv-plain"], "both write NAME.csv"),
        (["digitize", "{}/a", "-o", "{}/out", "--format", "dicom", "--fs", "100"], "200 to 1000"),
        (["validate", "--layout", "7x9"], "expected any, 3x4, 3x4 Cabrera, 6x2"),
        (["evaluate", "{}/nothing.csv"], "nothing.csv"),
        (["synth"], "nothing to write"),
        (["synth", "-o", "{}/out", "--kind", "papyrus"], "papyrus"),
        (["synth", "-o", "{}/out", "--severity", "2.5"], "severity"),
        (["synth", "-o", "{}/out", "--source", "tea-leaves"], "tea-leaves"),
        (["bench", "{}/nothing.png"], "nothing.png"),
        (["export", "stage1", "{}/x.pt", "--minutes", "1", "--command", "", "--data", ""], "x.pt"),
    ],
)
@pytest.mark.usefixtures("tiny_weights")
def test_unusable_arguments_are_one_line_and_exit_code_2(pictures, capsys, arguments, message):
    (pictures / "empty").mkdir()

    code = main([argument.format(pictures) for argument in arguments])

    assert code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("ecg-digitize: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["digitize"],
        ["digitize", "x", "-o", "y", "--fs", "-1"],
        ["synth", "--count", "0"],
        ["train", "stage9", "--minutes", "1", "--source", "simulator", "--out", "x"],
        ["export", "stage1", "x", "--metric", "px"],
    ],
)
def test_wrong_syntax_exits_with_2(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_missing_weights_exit_with_2(pictures, monkeypatch, capsys):
    manifest = pictures / "weights_manifest.json"
    manifest.write_text('{"format": 1, "files": []}')
    monkeypatch.setenv(MANIFEST_VARIABLE, str(manifest))

    assert main(["digitize", str(pictures / "a"), "-o", str(pictures / "out")]) == 2
    assert "stage0, stage1, stage2, refine" in capsys.readouterr().err
    assert main(["weights"]) == 2
    assert "lists no files" in capsys.readouterr().err


def test_submit_is_handed_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["submit", "--test-csv", "nothing.csv"]) == 2


def test_outputs_never_collide(tmp_path):
    names = ["a/x.png", "b/X.png", "a/x.jpg", "a/x-2.png", "y.png"]
    found = find_pages(tmp_path / name for name in names)
    assert [one.name for one in found.pictures] == ["x", "X-2", "x-3", "x-2-2", "y"]


def test_folders_are_walked_and_nothing_is_left_out_in_silence(tmp_path):
    for name in (
        *("b.png", "a.overlay.png", "sub/deep/c.JPG", "sub/b.png", "notes.txt", "sub/d.heic"),
        *("sub/scan.PDF", "sub/letter.docx"),
        *(".hidden/e.png", ".f.png", "out/g.png", "out/g.csv"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    found = find_pages([tmp_path], out=tmp_path / "out")

    assert [one.name for one in found.pictures] == [
        *("b", "sub/b", "sub/d", "sub/scan", "sub/deep/c")
    ]
    assert found.skipped == (tmp_path / "notes.txt", tmp_path / "sub/letter.docx")
    overlay = tmp_path / "a.overlay.png"
    assert [one.source for one in find_pages([overlay]).pictures] == [overlay]


@pytest.mark.usefixtures("made_readings")
def test_each_page_of_a_file_has_its_outputs_and_is_read_once(tmp_path, capsys):
    out, file = tmp_path / "out", tmp_path / "scans.tif"
    pages = [PIL.Image.new("RGB", (side, 300), "white") for side in (400, 100, 500)]
    pages[0].save(file, save_all=True, append_images=pages[1:])
    plain = ["--no-overlay", "--format", "csv-plain"]
    command = ["digitize", str(file), "-o", str(out), *plain]

    assert main(command) == 3

    assert visible(out) == ["report.html", "run_report.json", "scans-p1.csv", "scans-p3.csv"]
    report = json.loads((out / "run_report.json").read_text())
    assert list(report["outputs"]) == [f"{file}#page=1", f"{file}#page=3"]
    (failure,) = report["failures"]
    assert failure["source"] == f"{file}#page=2"
    assert f"{file}#page=2: expected at least 150 px a side" in capsys.readouterr().err
    (out / "scans-p3.csv").unlink()
    assert main(command) == 3
    assert "2 of 3 pages, 1 of them by an earlier run" in capsys.readouterr().err
    assert visible(out) == ["report.html", "run_report.json", "scans-p1.csv", "scans-p3.csv"]


def shown_in(report):
    """Return what the index of a report.html holds."""
    index = re.search(r'id="index">(.*?)</script>', report.read_text("utf-8"), re.DOTALL)
    return json.loads(index[1])


@pytest.mark.usefixtures("made_readings")
def test_the_report_shows_all_pages_of_all_runs(pictures):
    out, page = pictures / "out", pictures / "a" / "page.png"
    assert main(["digitize", str(page), "-o", str(out)]) == 0
    assert main(["digitize", str(pictures / "a"), str(pictures / "b"), "-o", str(out)]) == 3

    shown = shown_in(out / "report.html")

    assert [one["name"] for one in shown["pages"]] == ["page", "page-2"]
    assert shown["pages"][0]["files"] == ["page.csv", "page.json", "page.overlay.png"]
    assert shown["pages"][0]["overlay_file"] == "page.overlay.png"
    assert [one["source"] for one in shown["failures"]] == [str(pictures / "b" / "broken.png")]
    assert 'id="overlay-1"' in (out / "report.html").read_text("utf-8")


@pytest.mark.usefixtures("made_readings")
def test_the_report_shows_the_worst_of_many_pages(pictures, monkeypatch):
    monkeypatch.setattr(batch, "MOST_SHOWN", 1)
    output = page_files._output

    def rejected_in_b(result, files, **options):
        is_bad = Path(result.source).parent.name == "b"
        return replace(
            output(result, files, **options), **({"verdict": "reject"} if is_bad else {})
        )

    monkeypatch.setattr(page_files, "_output", rejected_in_b)
    paths = [str(pictures / name) for name in ("a", "b/page.png")]
    assert main(["digitize", *paths, "-o", str(pictures / "out")]) == 0
    shown = shown_in(pictures / "out" / "report.html")
    assert [one["name"] for one in shown["pages"]] == ["page-2"]
    assert shown["left_out"] == 1


@pytest.mark.usefixtures("made_readings")
def test_no_report_is_written_on_request(pictures):
    out = pictures / "out"
    command = ["digitize", str(pictures / "a"), "-o", str(out), "--no-overlay", "--no-report"]
    assert main(command) == 0
    assert visible(out) == ["page.csv", "page.json", "run_report.json"]


@pytest.mark.usefixtures("made_readings")
def test_a_report_that_cannot_be_written_costs_no_page(pictures, capsys):
    out = pictures / "out"
    (out / "report.html").mkdir(parents=True)
    assert main(["digitize", str(pictures / "a"), "-o", str(out)]) == 2
    assert "report.html: cannot be written" in capsys.readouterr().err
    assert json.loads((out / "run_report.json").read_text())["digitized"] == 1


@pytest.mark.usefixtures("made_readings")
def test_a_line_a_page_says_what_happened(pictures, capsys):
    command = ["digitize", str(pictures / "a"), str(pictures / "b/broken.png")]
    assert main([*command, "-o", str(pictures / "out")]) == 3
    read, failed, last = capsys.readouterr().err.splitlines()
    assert read == f"ok      {pictures}/a/page.png: 3x4+1, 25 mm/s, 10 mm/mV"
    assert failed.startswith(f"failed  {pictures}/b/broken.png: ")
    assert last == (
        f"{pictures}/out: 1 of 2 pages (1 ok, 1 failed); look at {pictures}/out/report.html"
    )


@pytest.mark.usefixtures("made_readings")
def test_quiet_says_what_failed_and_json_goes_to_programs(pictures, capsys):
    command = ["digitize", str(pictures / "a"), str(pictures / "b/broken.png"), "--quiet"]
    assert main([*command, "--json", "-o", str(pictures / "out")]) == 3
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("failed  ")
    assert said.out == (pictures / "out" / "run_report.json").read_text()
    assert json.loads(said.out)["digitized"] == 1


def test_a_dry_run_says_what_would_be_written(pictures, capsys):
    out = pictures / "out"
    assert main(["digitize", str(pictures / "a"), "-o", str(out), "--dry-run"]) == 0
    assert capsys.readouterr().out == (
        f"{pictures}/a/page.png -> {out}/page.csv, {out}/page.json\n"
    )
    assert not out.exists()


def test_help_names_each_command_once_in_its_group():
    help_text = parser().format_help()
    use, develop = help_text.split("commands to use it:")[1].split("commands to develop it:")
    named = [re.findall(r"^  (\S+)  ", part, re.MULTILINE) for part in (use, develop)]
    (choices,) = (action.choices for action in parser()._actions if action.dest == "command")
    assert sorted(named[0] + named[1]) == sorted(choices)
    assert named[0][0] == "digitize"
    assert "train" in named[1]


def test_the_examples_of_the_help_parse():
    examples = "\n".join(EXAMPLES.values())
    lines = re.findall(r"^  ecg-digitize (.*?)(?:  .*| < .*)?$", examples, re.MULTILINE)
    assert len(lines) == 9
    for line in lines:
        parser().parse_args(shlex.split(line))


@pytest.mark.usefixtures("made_readings")
def test_standard_input_is_one_more_file(pictures, monkeypatch, capsys):
    out, page = pictures / "out", pictures / "a" / "page.png"
    plain = ["--no-overlay", "--format", "csv-plain"]

    def sent(data, is_terminal=False):
        stdin = SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: is_terminal)
        monkeypatch.setattr(sys, "stdin", stdin)
        return main(["digitize", "-", str(page), "-o", str(out), *plain])

    assert sent(page.read_bytes()) == 0
    assert visible(out) == ["page.csv", "report.html", "run_report.json", "stdin.csv"]
    assert list(json.loads((out / "run_report.json").read_text())["outputs"]) == [
        *("stdin", str(page))
    ]
    capsys.readouterr()
    assert sent(page.read_bytes()) == 0
    assert "2 of them by an earlier run" in capsys.readouterr().err
    assert sent(b"") == 3
    assert "stdin: the file is empty (0 bytes)" in capsys.readouterr().err
    assert sent(b"", is_terminal=True) == 2
    assert 'it is the terminal; say "< FILE"' in capsys.readouterr().err


@pytest.mark.usefixtures("made_readings")
def test_a_missing_package_costs_its_files_and_no_others(pictures, monkeypatch, capsys):
    (pictures / "a" / "scan.pdf").write_bytes(b"%PDF-1.4\n%%EOF")
    (pictures / "a" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    for name in ("pypdfium2", "pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)

    assert main(["digitize", str(pictures / "a"), "-o", str(pictures / "out")]) == 3

    said = capsys.readouterr().err
    for name, package in (("scan.pdf", "pdf"), ("photo.heic", "heic")):
        assert re.search(rf'{name}: .*pip install "ecg-digitize\[{package}\]".*\(read\)', said)
    assert "1 of 3 pages" in said


@pytest.mark.usefixtures("made_readings")
def test_a_second_run_reads_only_what_is_new(pictures, capsys):
    out, name = pictures / "out", "n" * 251 + ".png"  # as long as a name can be
    command = ["digitize", str(pictures / "a"), "-o", str(out), "--contact-sheet"]
    assert main([*command, str(pictures / "1.png")]) == 0
    first = {path: (out / path).read_bytes() for path in visible(out)}

    (pictures / "a" / name).write_bytes((pictures / "a" / "page.png").read_bytes())
    assert main([*command, str(pictures / "2.png")]) == 0

    assert "2 of 2 pages, 1 of them by an earlier run" in capsys.readouterr().err
    report = json.loads((out / "run_report.json").read_text())
    assert (report["digitized"], report["resumed"], report["stopped"]) == (2, 1, None)
    written = [file for one in report["outputs"].values() for file in one["files"]["csv"]]
    assert len(written) == 4
    assert all(Path(file).is_file() for file in written)
    assert (out / "page.csv").read_bytes() == first["page.csv"]
    assert read_image(pictures / "2.png").image.shape[1] == 2 * 708

    (out / "page.overlay.png").unlink()
    assert main([*command, str(pictures / "2.png")]) == 0
    assert "1 of them by" in capsys.readouterr().err
    assert main([*command, str(pictures / "2.png"), "--no-resume"]) == 0
    assert "earlier" not in capsys.readouterr().err
    assert main([*command, str(pictures / "2.png"), "--fs", "250"]) == 0
    assert "earlier" not in capsys.readouterr().err


@pytest.mark.usefixtures("made_readings")
def test_a_signal_ends_a_batch_after_the_page_under_way(pictures, monkeypatch, capsys):
    out = pictures / "out"
    command = ["digitize", str(pictures / "a"), str(pictures / "b/page.png"), "-o", str(out)]
    write, stop = page_files.Writing.write, Stop()

    def stopped(writing, picture, spare):
        stop.number = signal.SIGINT
        return write(writing, picture, spare)

    with monkeypatch.context() as patch:
        # In place of a real signal, which would reach the process that runs the tests.
        patch.setattr("ecg_digitize.engine.stop.stop_on_signals", lambda: nullcontext(stop))
        patch.setattr(page_files.Writing, "write", stopped)
        assert main(command) == 130

    said = "stopped by SIGINT: 1 of 2 pages are done; the same command goes on"
    assert capsys.readouterr().err.count(said) == 1
    report = json.loads((out / "run_report.json").read_text())
    assert (report["digitized"], report["stopped"]) == (1, said)
    assert main(command) == 0
    assert "2 of 2 pages, 1 of them by an earlier run" in capsys.readouterr().err


@pytest.mark.usefixtures("made_readings")
def test_two_runs_into_one_folder_are_refused(pictures, capsys):
    out = pictures / "out"
    with open_store(out / STORE_NAME, settings="another run's"):
        assert main(["digitize", str(pictures / "a"), "-o", str(out)]) == 2
    assert "another run is writing there" in capsys.readouterr().err


@pytest.mark.usefixtures("made_readings")
def test_a_full_disk_costs_the_page_that_it_does_not_take(pictures, monkeypatch, capsys):
    whole = page_files.WRITERS["csv"]

    def full(recording, stem, provenance):
        if stem.name == "page":
            raise OSError(errno.ENOSPC, "No space left on device", str(stem))
        whole.write(recording, stem, provenance)

    monkeypatch.setitem(page_files.WRITERS, "csv", replace(whole, write=full))
    folders = [str(pictures / name) for name in ("a", "b/page.png")]
    assert main(["digitize", *folders, "-o", str(pictures / "out")]) == 3
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "free space or name another folder (write)" in said
    assert visible(pictures / "out") == [
        *("page-2.csv", "page-2.json", "page-2.overlay.png", "report.html", "run_report.json")
    ]


@pytest.mark.usefixtures("made_readings")
def test_formats_are_written_listed_and_resumed(pictures, monkeypatch, capsys):
    out, page = pictures / "out", pictures / "a" / "page.png"
    command = ["digitize", str(page), "-o", str(out), "--no-overlay", "--gain", "5"]

    assert main([*command, "--format", "csv-plain, Parquet,fhir,parquet"]) == 0

    assert visible(out) == [
        *("page.csv", "page.fhir.json", "page.parquet", "report.html", "run_report.json")
    ]
    files = json.loads((out / "run_report.json").read_text())["outputs"][str(page)]["files"]
    assert files == {
        "csv-plain": [str(out / "page.csv")],
        "parquet": [str(out / "page.parquet")],
        "fhir": [str(out / "page.fhir.json")],
    }
    assert (out / "page.csv").read_text().startswith("I,II,III,aVR")
    told = json.loads(pq.read_schema(out / "page.parquet").metadata[b"ecg_digitize"])
    assert told["provenance"]["picture"] == "page.png"
    assert told["provenance"]["picture_sha256"] == sha256_of(page)
    assert told["provenance"]["options"] == {
        **{"preset": "best", "backend": "torch", "fs_hz": 500.0, "mm_per_mv": 5.0}
    }
    assert "stage0.safetensors" in told["provenance"]["weights_sha256"]

    assert main([*command, "--format", "csv-plain,parquet,fhir"]) == 0
    assert "1 of them by an earlier run" in capsys.readouterr().err
    (out / "page.fhir.json").unlink()
    assert main([*command, "--format", "csv-plain,parquet,fhir"]) == 0
    assert "earlier" not in capsys.readouterr().err
    assert (out / "page.fhir.json").is_file()
    assert main([*command, "--format", "csv"]) == 0  # NAME.csv is there, but of the other form
    assert "earlier" not in capsys.readouterr().err
    assert read_csv(out / "page.csv").fs_hz == 500


@pytest.mark.usefixtures("made_readings")
@pytest.mark.parametrize(
    ("name", "package"), [("wfdb", "wfdb"), ("edf", "edfio"), ("dicom", "pydicom")]
)
def test_formats_of_extras_are_written_and_resumed(pictures, capsys, name, package):
    pytest.importorskip(package)
    out, page = pictures / "out", pictures / "Be fund \u00e4.png"
    page.write_bytes((pictures / "a" / "page.png").read_bytes())
    command = ["digitize", str(page), "-o", str(out), "--no-overlay", "--format", name]

    assert main(command) == 0

    report = json.loads((out / "run_report.json").read_text())
    written = report["outputs"][str(page)]["files"][name]
    reports = [str(out / one) for one in ("report.html", "run_report.json")]
    assert sorted([*written, *reports]) == [str(out / one) for one in visible(out)]
    assert main(command) == 0
    assert "1 of them by an earlier run" in capsys.readouterr().err


def test_help_names_every_format():
    assert not [name for name in page_files.WRITERS if name not in FORMAT_HELP]


def test_no_file_of_a_picture_is_another_ones_or_the_report():
    for names in (["x.png", "x.fhir.png"], ["x.fhir.png", "x.png"], ["run_report.png", "x.png"]):
        pictures = find_pages(names).pictures
        files = [
            path.as_posix().casefold()
            for picture in pictures
            for paths in Writing(Path("out"), formats=("csv", "fhir")).files(picture).values()
            for path in paths
        ]
        assert len({*files, "out/run_report.json"}) == len(files) + 1


@pytest.mark.usefixtures("sheet_given")
def test_synth_takes_a_severity_and_prints_its_pace(tmp_path, capsys):
    sheets = []
    for severity in ("0", "1"):
        sheet = tmp_path / f"{severity}.png"
        options = ["--kind", "photo", "--count", "1", "--severity", severity]

        assert main(["synth", *options, "--contact-sheet", str(sheet)]) == 0

        assert "pages/s in one process" in capsys.readouterr().err
        sheets.append(np.asarray(PIL.Image.open(sheet)))
    assert (sheets[0] != sheets[1]).any()


@pytest.mark.usefixtures("tiny_weights", "sheet_given")
def test_what_synth_writes_evaluate_reads(tmp_path, capsys):
    options = ["--count", "2", "--seed", "7", "--fs", "250"]
    sheet = tmp_path / "sheet.png"

    assert main(["synth", "-o", str(tmp_path), *options, "--contact-sheet", str(sheet)]) == 0
    assert main(["evaluate", str(tmp_path / "paired.csv"), "--json", str(tmp_path / "r.json")]) == 0

    table = pd.read_csv(tmp_path / "paired.csv")
    assert table["image"].tolist() == ["page_000000.png", "page_000001.png"]
    assert "page_000001.png" in capsys.readouterr().out
    report = json.loads((tmp_path / "r.json").read_text())
    assert [image["fs_hz"] for image in report["images"]] == [250, 250]
    assert PIL.Image.open(sheet).size == (2 * 448, 368)
    page = make_page(SimulatorSource(), seed=7, index=1)
    labels = json.loads((tmp_path / "page_000001.json").read_text())
    assert labels["kind"] == page.kind == table["kind"][1]
    assert np.shape(labels["crossings_xy_px"]) == crossings_mm().shape
    np.testing.assert_array_equal(read_image(tmp_path / "page_000001.png").image, page.image)


def test_evaluate_reports_failures_and_every_step_changes_something(tmp_path, capsys):
    assert main(["synth", "-o", str(tmp_path), "--count", "1", "--kind", "render"]) == 0
    table = tmp_path / "paired.csv"
    scores = []
    for options in ([], ["--no-fusion"], ["--passes", "0"]):
        assert main(["evaluate", str(table), *options, "--json", str(tmp_path / "r.json")]) == 0
        scores.append(json.loads((tmp_path / "r.json").read_text())["overall"]["snr_db"])
    assert len(set(scores)) == 3
    table.write_text(table.read_text() + "gone.png,page_000000.csv,500,render\n")
    capsys.readouterr()

    assert main(["evaluate", str(table)]) == 3
    assert "FAILED gone.png" in capsys.readouterr().out


@pytest.mark.usefixtures("tiny_weights", "sheet_given")
def test_evaluate_tells_each_page_and_keeps_it(tmp_path, capsys, monkeypatch):
    assert main(["synth", "-o", str(tmp_path), "--count", "2", "--kind", "render"]) == 0
    table, kept = tmp_path / "paired.csv", tmp_path / "report.json"
    table.write_text(table.read_text() + "gone.png,page_000000.csv,500,render\n")
    digitize_page = pipeline.digitize_page

    def interrupted(page, *args, **options):
        if page.source.endswith("page_000001.png"):
            raise KeyboardInterrupt
        return digitize_page(page, *args, **options)

    capsys.readouterr()
    monkeypatch.setattr(pipeline, "digitize_page", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(["evaluate", str(table), "--explain", "--json", str(kept)])
    partial = json.loads(kept.read_text())
    lines = capsys.readouterr().err.splitlines()
    monkeypatch.undo()

    assert partial["complete"] is False
    assert [image["image"] for image in partial["images"]] == ["page_000000.png"]
    assert partial["images"][0]["explanation"] is not None
    assert [path for path in tmp_path.iterdir() if "partial" in path.name] == []
    assert len(lines) == 1
    assert re.fullmatch(r"\[1/3\] page_000000\.png: -?[\d.]+ dB capped, [\d.]+ s", lines[0])


def test_truth_at_another_rate_is_the_same_signal():
    time_s = np.arange(5000) / 500
    signals_mv = np.sin(2 * np.pi * (1 + np.arange(12)[:, None]) * time_s).astype(np.float32)

    recording = true_recording(signals_mv, fs_hz=1000)

    fine_s = np.arange(10000) / 1000
    wanted = np.sin(2 * np.pi * (1 + np.arange(12)[:, None]) * fine_s)
    expected = printed_recording(wanted, fs_hz=1000).signals_mv
    assert np.array_equal(np.isnan(recording.signals_mv), np.isnan(expected))
    # The ends of the record are turned over, which bends a sine a little there.
    np.testing.assert_allclose(recording.signals_mv[:, 100:-100], expected[:, 100:-100], atol=2e-3)
