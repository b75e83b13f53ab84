"""docs/inputs.md names a test for each outcome; each of them exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")


def test_every_named_test_exists():
    named = re.findall(r"`(\w+)::(test_\w+)`", TABLE)
    assert len(named) > 20
    for module, name in named:
        code = (ROOT / "tests" / "unit" / f"test_{module}.py").read_text(encoding="utf-8")
        assert f"def {name}(" in code, name


def test_every_outcome_names_a_test():
    rows = [line for line in TABLE.split("## Memory")[0].splitlines() if line.startswith("| ")]
    for row in rows[1:]:
        *_, outcome, _, test, _ = (cell.strip() for cell in row.split("|"))
        assert bool(outcome) == bool(test), row
