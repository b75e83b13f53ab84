"""What a release says of itself: citation, versions, changelog, workflows."""

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import ecg_digitize

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = ROOT / "CITATION.cff"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CHECKER = "check_jsonschema"
PYTHON = "Programming Language :: Python :: "


def loaded(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs():
    return [
        pytest.param(job, id=f"{path.stem}-{name}")
        for path in WORKFLOWS
        for name, job in loaded(path)["jobs"].items()
    ]


def minor(version):
    return tuple(map(int, version.split(".")))


@pytest.fixture(scope="module")
def tested_pythons():
    jobs = loaded(ROOT / ".github/workflows/tests.yml")["jobs"]
    return jobs["tests"]["strategy"]["matrix"]["python-version"]


@pytest.mark.skipif(find_spec(CHECKER) is None, reason="check-jsonschema is not installed")
@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.citation-file-format", [CITATION]),
    ],
)
def test_files_fit_their_schema(schema, files):
    """The schemas travel with check-jsonschema, so no network is needed."""
    assert files
    done = subprocess.run(
        [sys.executable, "-m", CHECKER, "--builtin-schema", schema, *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_version_everywhere():
    assert ecg_digitize.__version__ == PROJECT["version"]
    assert loaded(CITATION)["version"] == PROJECT["version"]


def test_the_citation_says_what_the_package_says():
    citation = loaded(CITATION)
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == [{"name": "The ecg_digitize founders"}]
    assert {"title", "message", "abstract", "keywords"} <= set(citation)


def test_the_changelog_dates_the_version_as_the_citation_does():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    released = f"{PROJECT['version']} ({loaded(CITATION)['date-released']})"
    assert headings[:2] == ["Unreleased", released]


def test_the_oldest_python_is_tested(tested_pythons):
    oldest = re.fullmatch(r">=(\d+\.\d+)", PROJECT["requires-python"]).group(1)
    assert min(tested_pythons, key=minor) == oldest


def test_no_python_between_oldest_and_newest_is_left_out(tested_pythons):
    numbers = [minor(version)[1] for version in tested_pythons]
    assert {minor(version)[0] for version in tested_pythons} == {3}
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_classifiers_name_the_tested_pythons(tested_pythons):
    """A package without classifiers of a minor version promises none."""
    named = [line.removeprefix(PYTHON) for line in PROJECT.get("classifiers", [])]
    promised = [version for version in named if re.fullmatch(r"\d+\.\d+", version)]
    if not promised:
        pytest.skip("pyproject.toml has no classifiers of Python versions")
    assert sorted(promised, key=minor) == tested_pythons


@pytest.mark.parametrize("job", jobs())
def test_other_jobs_use_a_tested_python(job, tested_pythons):
    used = [
        step["with"]["python-version"]
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/setup-python@")
    ]
    assert set(used) <= {*tested_pythons, "${{ matrix.python-version }}"}


@pytest.mark.parametrize("job", jobs())
def test_jobs_ask_for_little(job):
    """No job keeps a token in its check-out, and actions cannot change under a moved tag."""
    assert job["permissions"] in ({"contents": "read"}, {"id-token": "write"})
    for step in job["steps"]:
        action = step.get("uses")
        if action is None:
            continue
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action
        if action.startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_only_the_publishing_job_can_publish():
    jobs = loaded(ROOT / ".github/workflows/release.yml")["jobs"]
    able = [name for name, job in jobs.items() if "id-token" in job["permissions"]]
    assert able == ["publish"]
    assert jobs["publish"]["environment"] == "pypi"
    assert jobs["publish"]["needs"] == "build"


def test_the_type_marker_is_there():
    assert (ROOT / "ecg_digitize" / "py.typed").is_file()
