"""test.csv: a bad line costs no other, and whatever is not answered is told."""

import math
from pathlib import Path

import numpy as np
import pytest

from ecg_digitize.competition import (
    MAX_NAME_CHARS,
    MAX_ROWS,
    TestRow,
    fitting_lengths,
    page_requests,
    read_test_table,
)
from ecg_digitize.errors import InputError
from ecg_digitize.layout import LEADS

HEADER = "id,lead,fs,number_of_rows\n"
GOOD = ("a,I,500,1250", "a,II,500,5000")
CASES = Path(__file__).parents[3] / "shared" / "data" / "cases"


@pytest.fixture
def table(tmp_path):
    """Return a function that reads a table of the header and the given lines, or of bytes."""

    def read(*lines):
        content = lines[0]
        if not isinstance(content, bytes):
            content = (HEADER + "\n".join(lines) + "\n").encode()
        (tmp_path / "test.csv").write_bytes(content)
        return read_test_table(tmp_path / "test.csv")

    return read


def test_good_tables_have_no_problems(table):
    asked = table("007,I,500,1250", "007,II,500.0,5e3", "é b,aVR,1025,0")
    assert asked.problems == ()
    assert asked.rows == (
        TestRow("007", "I", 500.0, 1250),
        TestRow("007", "II", 500.0, 5000),
        TestRow("é b", "aVR", 1025.0, 0),
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("b,I,fast,10", "'fast'"),
        ("b,I,,10", "fs of 10 to 10000 Hz, but got ''"),
        ("b,I,nan,10", "'nan'"),
        ("b,I,inf,10", "'inf'"),
        ("b,I,0,10", "'0'"),
        ("b,I,-500,10", "'-500'"),
        ("b,I,9.9,10", "'9.9'"),
        ("b,I,1e6,10", "'1e6'"),
        ("b,v1,500,10", "expected a lead of I II III"),
        (f"b,{'I' * 100},500,10", "but got 'IIIII"),
    ],
)
def test_rows_that_cannot_be_asked_are_kept_with_their_problem(table, line, problem):
    asked = table(GOOD[0], line, GOOD[1])
    assert [row.n_samples for row in asked.rows] == [1250, 10, 5000]
    assert asked.rows[0].problem is asked.rows[2].problem is None
    assert problem in asked.rows[1].problem
    assert len(asked.rows[1].problem) < 120
    assert asked.problems == ()
    assert list(page_requests(asked.rows)) == ["a"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("b,I,500,-1", "number_of_rows, but got '-1'"),
        ("b,I,500,1.5", "'1.5'"),
        ("b,I,500,nan", "'nan'"),
        ("b,I,500,inf", "'inf'"),
        ("b,I,500,many", "'many'"),
        ("b,I,500,", "but got ''"),
        ("b,I,500", "but got ''"),
        ("b", "expected a lead, but got ''"),
        (",I,500,10", "expected an id, but got ''"),
        ('"b,I,500,10', "expected a lead, but got ''"),  # a quote without its pair
        (f"{'b' * (MAX_NAME_CHARS + 1)},I,500,10", "expected an id, but got 'bbbb"),
        (f"{'b' * 200_000},I,500,10", "field larger than field limit"),
        (f"b,{'I' * 300},500,10", "expected a lead, but got 'IIII"),
        (f"b,I,500,{'9' * 500}", "expected a whole number_of_rows"),
    ],
)
def test_lines_whose_rows_cannot_be_written_are_left_out_and_told(table, line, told):
    asked = table(GOOD[0], line, GOOD[1])
    assert [row.lead for row in asked.rows] == ["I", "II"]
    assert len(asked.problems) == 1
    assert asked.problems[0].startswith("line 3: left out, ")
    assert told in asked.problems[0]
    assert len(asked.problems[0]) < 120


def test_more_rows_than_ten_seconds_hold_are_bounded(table):
    asked = table(*(f"b,{lead},500,1000000000" for lead in LEADS), "c,I,500,20000")
    assert [row.n_samples for row in asked.rows] == [MAX_ROWS] * 12 + [20000]
    assert all(row.problem is None for row in asked.rows)
    assert len(asked.problems) == 12
    assert asked.problems[0] == "line 2: number_of_rows 1e+09 was cut to 100000"


def test_lines_without_content_are_no_lines(table):
    asked = table(GOOD[0], "", "   ", GOOD[1], "")
    assert len(asked.rows) == 2
    assert asked.problems == ()


def test_a_lead_asked_twice_is_answered_twice(table):
    asked = table("a,I,500,10", "a,I,500,20")
    assert [row.n_samples for row in asked.rows] == [10, 20]
    assert asked.problems == ("line 3: lead I of image a is asked again, and answered again",)
    assert page_requests(asked.rows)["a"].lengths == {"I": 20}


def test_an_image_is_read_at_the_rate_that_most_of_its_rows_have(table):
    asked = table("a,I,250,10", "a,II,500,10", "a,III,500,10", "b,I,250,10", "b,II,500,10")
    told = [row.problem for row in asked.rows]
    assert told[1:4] == [None] * 3
    assert told[0] == "fs 250 Hz, but the image is read at 500 Hz"
    assert told[4] == "fs 500 Hz, but the image is read at 250 Hz"  # of equals the first
    rates = {name: request.fs_hz for name, request in page_requests(asked.rows).items()}
    assert rates == {"a": 500.0, "b": 250.0}


@pytest.mark.parametrize(
    ("n_strip", "n_other", "fit"),
    [
        (10250, 2562, True),
        (10251, 2562, True),
        (20000, 2562, False),
        (8000, 2000, False),
        (10250, 9000, False),
    ],
)
def test_a_strip_of_another_length_does_not_move_the_other_leads(table, n_strip, n_other, fit):
    rows = (f"a,{lead},1025,{n_strip if lead == 'II' else n_other}" for lead in LEADS)
    request = page_requests(table(*rows).rows)["a"]
    assert request.lengths["II"] == n_strip
    assert fitting_lengths(request) == (request.lengths if fit else None)


def test_page_requests_never_raise():
    rows = [TestRow("a", "I", 500.0, 5), TestRow("a", "II", 250.0, 5), TestRow("a", "I", 500.0, 7)]
    problem = TestRow("b", "?", math.nan, 5, "no lead")
    assert list(page_requests([*rows, problem])) == ["a"]


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "zero bytes"),
        ("utf-32", "UTF-16"),
        ("cp1252", "not UTF-8"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings(table, encoding, told, newline):
    image_id = "a" if encoding in ("utf-16-le", "utf-32") else "é"
    text = HEADER + f"{image_id},I,500,1250\n{image_id},II,500,5000\n"
    asked = table(text.replace("\n", newline).encode(encoding))
    assert [(row.image_id, row.lead) for row in asked.rows] == [(image_id, "I"), (image_id, "II")]
    assert all(row.problem is None for row in asked.rows)
    assert told in " ".join(asked.problems)
    assert bool(asked.problems) == bool(told)


def test_a_line_of_another_encoding_spoils_no_other(table):
    asked = table(HEADER.encode() + "é,I,500,5\n".encode() + b"\xe9,II,500,5\n\x81\x80,I,500,5\n")
    assert [row.image_id for row in asked.rows] == ["é", "é", "\x81\x80"]
    assert asked.problems == (
        "lines that are not UTF-8 were taken for Windows-1252: 2 from line 3",
    )


def test_zero_bytes_are_taken_out(table):
    asked = table(HEADER.encode() + b"a\0,I,5\x0000,5\n")
    assert asked.rows == (TestRow("a", "I", 500.0, 5),)
    assert asked.problems == ("zero bytes were taken out",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no column 'id'"),
        (b"\n \n", "no column 'id'"),
        (b"\xff\xfei\0d\0", "no column 'lead'"),
        (b"id,lead,fs\n1,I,500\n", "no column 'number_of_rows'"),
        (b"id;lead;fs;number_of_rows\n1;I;500;5\n", "no column 'id'"),
        (b"x" * 200_000 + b",id,lead,fs,number_of_rows\n", "no column 'id'"),
        (HEADER.encode(), "no line holds a row"),
        (HEADER.encode() + b"1,I,500,-1\n", "no line holds a row .*line 2: left out"),
    ],
)
def test_tables_without_a_row_are_refused(table, content, told):
    with pytest.raises(InputError, match=told):
        table(content)


def test_a_table_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_test_table(tmp_path)


def test_random_bytes_are_a_table_or_an_input_error(table):
    rng = np.random.default_rng(0)
    good = (HEADER + "\n".join(GOOD)).encode()
    for _ in range(300):
        content = bytearray(good)
        for place in rng.integers(0, len(good), 5):
            content[place] = rng.integers(0, 256)
        try:
            page_requests(table(bytes(content)).rows)
        except InputError as error:
            assert "test.csv" in str(error)  # noqa: PT017 - most of the tables are usable


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the shared pictures")
@pytest.mark.parametrize(
    ("name", "n_rows", "n_asked"),
    [("fs1e6", 120, 0), ("latin1", 15_000, 12), ("n1e9", 12 * MAX_ROWS, 12)],
)
def test_tables_of_the_shared_cases(name, n_rows, n_asked):
    asked = read_test_table(CASES / f"test_{name}.csv")
    assert sum(row.n_samples for row in asked.rows) == n_rows
    assert sum(row.problem is None for row in asked.rows) == n_asked
