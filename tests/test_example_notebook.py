"""The example notebook runs, and what is committed of it is what a run gives.

`python tests/test_example_notebook.py` runs it and writes its outputs anew.
"""

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

nbformat = pytest.importorskip("nbformat", reason="the notebook needs nbformat")
nbclient = pytest.importorskip("nbclient", reason="the notebook needs nbclient to run")
pytest.importorskip("ipykernel", reason="the notebook needs ipykernel to run")

NOTEBOOK = Path(__file__).parents[1] / "docs" / "example.ipynb"
PACKAGES = ("edfio", "matplotlib", "neurokit2", "wfdb", "xarray")
MAX_BYTES = 400_000
CELL_TIMEOUT_S = 300


def executed(folder):
    """Run the notebook in a folder; what it writes lies there. Returns it with its outputs."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        record_timing=False,
        coalesce_streams=True,  # the kernel may cut what a cell prints anywhere
        resources={"metadata": {"path": str(folder)}},
    )
    notebook = client.execute()
    notebook.metadata.language_info = {"name": "python"}  # else the version of Python is written
    return notebook


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def told(output):
    """Return the kind of an output, and the words in it that no machine may change."""
    data = output.get("data", {})
    text = output.get("text", data.get("text/plain", ""))
    words = re.findall(r"\b(?:ok|check|reject|failed|mirrored|missing: \w+|example/\S+)", text)
    return output.output_type, sorted(data), words


def told_by_cell(notebook):
    return [[told(output) for output in cell.outputs] for cell in code_cells(notebook)]


def test_the_committed_notebook_was_run_in_order_without_errors():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert len(cells) > 10
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {
        *("display_data", "execute_result", "stream")
    }
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert NOTEBOOK.stat().st_size < MAX_BYTES


def test_the_notebook_runs_and_gives_what_is_committed(tmp_path, monkeypatch):
    for package in PACKAGES:
        pytest.importorskip(package, reason=f"the notebook needs {package}")
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    folder = tmp_path / "run"
    folder.mkdir()

    notebook = executed(folder)

    assert told_by_cell(notebook) == told_by_cell(nbformat.read(NOTEBOOK, as_version=4))
    assert (folder / "example" / "page.hea").is_file()


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        done = executed(made)
    nbformat.write(done, NOTEBOOK)
    sys.exit(os.EX_OK if NOTEBOOK.stat().st_size < MAX_BYTES else f"more than {MAX_BYTES} bytes")
