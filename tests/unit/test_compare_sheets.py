"""What sheets are read as against what a person sees on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecg_digitize.cli import main
from ecg_digitize.errors import InputError
from ecg_digitize.layout import COMPETITION
from ecg_digitize.training.compare_sheets import compare_sheets, differences, read_printed
from ecg_digitize.types import Recording

HEADER = "image,layout,strips,mm_per_s,mm_per_mv\n"
TABLE = Path(__file__).parents[1] / "unpaired_sheets.csv"


def table(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "printed.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def test_the_table_made_by_hand_can_be_read() -> None:
    sheets = read_printed(TABLE)
    assert len(sheets) == 61
    assert {sheet.layout for sheet in sheets} == {"3x4", "6x2", "6x1 chest", "3x5"}


def test_differences_are_said(tmp_path: Path) -> None:
    right, unknown, other = read_printed(
        table(tmp_path, "a,3x4,II,25,10", "b,3x4,?,25,10", "c,6x2,,50,5")
    )
    assert differences(right, COMPETITION) == []
    assert differences(unknown, COMPETITION) == []
    assert differences(other, COMPETITION) == [
        "read as 3x4, is 6x2", "strips II, are none", "25 mm/s, is 50", "10 mm/mV, is 5",
    ]  # fmt: skip


def test_pages_are_right_wrong_or_refused(tmp_path: Path) -> None:
    paths = table(tmp_path, *(f"{name},3x4,I,25,10" for name in "abcd"))
    good = Recording(np.zeros((12, 5000), np.float32), 500.0)

    def digitize(path: Path) -> Recording:
        if path.name == "a":
            raise InputError("no grid")
        return replace(good, is_rejected=path.name == "b")

    steps = []
    compared = compare_sheets(paths, tmp_path, digitize, progress=lambda: steps.append(1))
    assert [how for _, how, _ in compared.rows] == ["refused", "refused", "wrong", "wrong"]
    assert "InputError: no grid" in compared.to_text()
    assert "4 sheets: 0 right, 2 refused, 2 wrong" in compared.to_text()
    assert len(steps) == 4


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("image,layout\na,3x4\n", "lacks the columns strips", id="columns"),
        pytest.param(HEADER + "a,3x4,V9,25,10\n", "strips of no lead: V9", id="lead"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "printed.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_printed(path)


def test_the_command_wants_table_and_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "sheets"]) == 2
    assert "expected --printed CSV and --pictures DIR" in capsys.readouterr().err
