"""What a user gets from the package index: a wheel that digitizes from any folder."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MANIFEST = json.loads((ROOT / "weights_manifest.json").read_text())


def run(*command, **options):
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=300, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (path,) = folder.glob("*.whl")
    return path


def test_weights_manifest_and_a_sample_travel_inside(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    shipped = {name.removeprefix("ecg_digitize/shipped/") for name in names if "shipped/" in name}

    assert {f"weights/{entry['file']}" for entry in MANIFEST["files"]} <= shipped
    assert {"weights_manifest.json", "sample.png"} <= shipped
    parts = {f"ecg_digitize/report/page.{suffix}" for suffix in ("html", "css", "js")}
    assert {"ecg_digitize/py.typed", *parts} <= names
    assert not [name for name in names if name.startswith(("tests", "weights", "docs"))]
    assert wheel.stat().st_size < 60_000_000  # 100 MB is where the package index stops


def test_an_installed_wheel_digitizes_from_an_empty_folder(wheel, tmp_path):
    """The environment is empty but for what the wheel depends on, which is borrowed from this one.

    A line in a .pth file borrows a folder of packages without the .pth files in it: the check-out
    that an editable installation adds stays out.
    """
    venv.create(tmp_path / "venv", with_pip=False)
    scheme = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    scripts = Path(sysconfig.get_path("scripts", "venv", scheme))
    options = ["--quiet", "--no-deps", "--no-index", "--no-cache-dir"]
    run(sys.executable, "-m", "pip", "--python", scripts / "python", "install", *options, wheel)
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    where = [scripts / "python", "-c", "import ecg_digitize; print(ecg_digitize.__file__)"]
    assert run(*where, cwd=elsewhere).stdout.startswith(str(packages))
    done = run(scripts / "ecg-digitize", "digitize", "--sample", "-o", "out", cwd=elsewhere)

    assert "1 of 1 pages" in done.stderr
    header, *rows = (elsewhere / "out" / "sample.csv").read_text().splitlines()
    assert header.split(",")[:3] == ["time_s", "I", "II"]
    assert len(rows) == 5000
    assert (elsewhere / "out" / "sample.overlay.png").stat().st_size > 100_000
