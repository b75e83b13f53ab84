"""Kernels run wherever their machine code may or may not be kept."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import ecg_digitize

PACKAGE = Path(ecg_digitize.__file__).parent
SOLVE = """
import numpy as np
import ecg_digitize
from ecg_digitize.stage1.surface import factor_banded, solve_factored
right, bands = np.array([[8.0, 27.0]]), np.array([[4.0, 0.0], [9.0, 0.0]])
factor_banded(bands)
solve_factored(bands, right)
print(right.ravel().tolist(), ecg_digitize.__file__)
"""


def read_only(folder: Path) -> list[str]:
    """Make a folder read-only for a child process; return what its command begins with."""
    if os.geteuid() != 0:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        return []
    # Root may write anywhere, but not to a folder that is mounted read-only.
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    prefix = ["unshare", "-m", "sh", "-c", mount, str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("root may not mount anything here")
    return prefix


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
@pytest.mark.parametrize("home", ["writable", "locked/home"])
def test_a_read_only_package_runs(tmp_path, run_python, home):
    locked, home = tmp_path / "locked", tmp_path / home
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, locked / "ecg_digitize", ignore=ignored)
    home.mkdir()
    prefix = read_only(locked)

    done = run_python(
        SOLVE,
        prefix=prefix,
        cwd=tmp_path,
        PYTHONPATH=str(locked),
        HOME=str(home),
        XDG_CACHE_HOME=str(home / "cache"),
        NUMBA_CACHE_DIR="",
    )

    assert done.stdout == f"[2.0, 3.0] {locked / 'ecg_digitize' / '__init__.py'}\n"
    assert ("compiled anew" in done.stderr) == (home.parent == locked)
    assert bool(list(tmp_path.rglob("*.nbc"))) == (home.parent != locked)
