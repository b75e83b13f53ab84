"""The model card: its figures are those of its inputs, and the committed one is not stale."""

import copy
import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from ecg_digitize.cli import SHIPPED, main, parser
from ecg_digitize.errors import InputError
from ecg_digitize.manifest import read_manifest
from ecg_digitize.training.model_card import (
    TASKS,
    Evaluation,
    model_card,
    read_evaluation,
)

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "weights_manifest.json"
COMMITTED = (ROOT / "docs" / "model_card.md").read_text(encoding="utf-8")


def summary(name, capped_db, n_failed=0):
    return {
        "name": name,
        "n_images": len(capped_db),
        "n_failed": n_failed,
        "score_db": 21.23,
        "snr_capped_db": sum(capped_db) / len(capped_db),
        "snr_db": None,  # a page read without any error
        "pearson": 0.98765,
        "rmse_mv": 0.01234,
        "seconds": 77.77,
    }


def image(kind, capped_db):
    return {
        "image": "/home/somebody/secret/page.png",
        "kind": kind,
        "group": "secret",
        "score": {"snr_capped_db": capped_db},
        "seconds": 77.77,
        "error": None,
    }


@pytest.fixture
def document():
    """What `evaluate --json` writes, of four pages: three good ones and a failed one."""
    return {
        "overall": summary("all", [25.84, 20.52, 14.99, 0.25], n_failed=1),
        "by_kind": [
            summary("scan | flat", [25.84, 20.52]),
            summary("photo", [14.99, 0.25], n_failed=1),
        ],
        "by_group": [],
        "images": [
            image("scan | flat", 25.84),
            image("photo", 14.99),
            image("scan | flat", 20.52),
            image("photo", 0.25),
        ],
    }


@pytest.fixture
def entries():
    return read_manifest(MANIFEST)


def card_of(entries, document, title="pages"):
    return model_card(entries, [Evaluation.from_json(title, document)])


def rows_of(card, heading):
    """The cells of each row of the first table below a heading."""
    below = card.split(heading + "\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE).group()
    lines = table.replace("\\|", "¦").splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_stage_has_its_task():
    assert tuple(TASKS) == SHIPPED


def test_headings_stand_in_the_usual_order(entries, document):
    headings = re.findall(r"^## (.*)$", card_of(entries, document), re.MULTILINE)
    assert headings == [
        "Model details",
        "Intended use",
        "Training data and licences",
        "Evaluation",
        "Known failures",
        "How to reproduce",
    ]


def test_details_are_those_of_the_manifest(entries, document):
    card = card_of(entries, document)
    for entry in entries:
        details = dict(rows_of(card, f"### {entry.stage}: `{entry.file}`"))
        assert details["bytes"] == str(entry.bytes)
        assert details["SHA-256"] == f"`{entry.sha256}`"
        assert details["licence"] == entry.licence
        assert details["training date"] == entry.provenance.date
        assert float(details["training time"].split()[0]) == entry.provenance.minutes
        assert details["command"] == f"`{entry.provenance.command}`"
        assert details["data"] == entry.provenance.data
        assert details["architecture"].startswith(entry.architecture.name)
        assert f"loss {entry.provenance.metrics['loss']:.6g}" in details["metrics"]


def test_tables_hold_mean_worst_and_failed(entries, document):
    card = card_of(entries, document)
    (overall,) = rows_of(card, "## Evaluation")
    assert overall == ["pages", "4", "15.40", "21.23", "not finite", "0.9877", "0.0123", "1"]
    assert rows_of(card, "### pages, by kind of page") == [
        ["scan ¦ flat", "2", "23.18", "20.52", "0"],
        ["photo", "2", "7.62", "0.25", "1"],
    ]


def test_weak_pages_are_counted_by_kind_and_not_named(entries, document):
    card = card_of(entries, document)
    assert rows_of(card, "## Known failures") == [["pages", "photo", "2 of 2", "0.25, 14.99"]]
    assert "secret" not in card
    assert "page.png" not in card
    assert "77.77" not in card  # times are the machine's, not the weights'


def test_a_page_of_15_db_is_not_weak(entries, document):
    document["images"][1]["score"]["snr_capped_db"] = 15.0
    card = card_of(entries, document)
    assert rows_of(card, "## Known failures") == [["pages", "photo", "1 of 2", "0.25"]]


def test_no_weak_page_is_said_in_words(entries, document):
    for page in document["images"]:
        page["score"]["snr_capped_db"] = 20.0
    assert "No page of these evaluations is below it." in card_of(entries, document)


def test_a_page_without_finite_figure_is_weak_and_worst(entries, document):
    document["images"][2]["score"]["snr_capped_db"] = None
    card = card_of(entries, document)
    assert rows_of(card, "## Known failures")[0] == [
        *("pages", "scan ¦ flat", "1 of 2", "not finite")
    ]
    assert rows_of(card, "### pages, by kind of page")[0][3] == "not finite"


def test_a_changed_figure_changes_the_card_there_and_nowhere_else(entries, document):
    changed = copy.deepcopy(document)
    changed["by_kind"][1]["snr_capped_db"] = 8.88
    before = card_of(entries, document).splitlines()
    after = card_of(entries, changed).splitlines()
    differing = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert differing == [("| photo | 2 | 7.62 | 0.25 | 1 |", "| photo | 2 | 8.88 | 0.25 | 1 |")]


def test_a_changed_manifest_changes_the_card(entries, document):
    altered = [dataclasses.replace(entries[0], sha256="0" * 64), *entries[1:]]
    assert entries[0].sha256 not in card_of(altered, document)
    assert "0" * 64 in card_of(altered, document)


def test_equal_inputs_give_equal_cards_in_any_order_of_the_manifest(entries, document):
    again = card_of(entries[::-1], copy.deepcopy(document))
    assert card_of(entries, document) == again


def test_a_missing_stage_is_named(entries, document):
    rest = [entry for entry in entries if entry.stage != "stage1"]
    with pytest.raises(InputError, match=r"weights_manifest\.json: expected .* but stage1 has"):
        card_of(rest, document)


@pytest.mark.parametrize("titles", [[], ["same", "same"]])
def test_evaluations_have_names_of_their_own(entries, document, titles):
    evaluations = [Evaluation.from_json(title, document) for title in titles]
    with pytest.raises(InputError, match="a file name of its own"):
        model_card(entries, evaluations)


def _without_images(document):
    del document["images"]


def _with_words(document):
    document["by_kind"][0]["snr_capped_db"] = "good"


def _with_one_page_less(document):
    document["images"].pop()


def _with_another_count(document):
    document["overall"]["n_images"] = 5


def _without_means(document):
    del document["overall"]["pearson"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_without_images, "images"),
        (_with_words, "'good' where a figure should be"),
        (_with_one_page_less, "do not hold the same pages"),
        (_with_another_count, "5 pages, not 4"),
        (_without_means, "pearson"),
    ],
)
def test_an_unusable_document_is_an_input_error(tmp_path, document, spoil, reason):
    spoil(document)
    path = tmp_path / "spoiled.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"spoiled\.json: expected a file of .*evaluate") as caught:
        read_evaluation(path)
    assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"overall": []}'])
def test_other_json_is_an_input_error(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"other\.json: expected a file of .*evaluate"):
        read_evaluation(path)


def test_the_command_writes_the_card(tmp_path, entries, document):
    for name in ("scans", "phone photos"):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    out = tmp_path / "docs" / "card.md"
    files = [str(tmp_path / "scans.json"), str(tmp_path / "phone photos.json")]

    code = main(["model-card", "--evaluation", *files, "-o", str(out), "--manifest", str(MANIFEST)])

    assert code == 0
    titles = ("scans", "phone photos")
    expected = model_card(entries, [Evaluation.from_json(title, document) for title in titles])
    assert out.read_text(encoding="utf-8") == expected
    assert str(tmp_path) not in expected


def test_the_command_names_an_unusable_file(tmp_path, capsys):
    missing = tmp_path / "nothing.json"
    assert main(["model-card", "--evaluation", str(missing), "-o", str(tmp_path / "x.md")]) == 2
    error = capsys.readouterr().err
    assert str(missing) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.md").exists()


def test_the_committed_card_is_of_the_shipped_weights():
    for entry in read_manifest(MANIFEST):
        assert f"### {entry.stage}: `{entry.file}`" in COMMITTED
        assert f"| bytes | {entry.bytes} |" in COMMITTED
        assert f"| SHA-256 | `{entry.sha256}` |" in COMMITTED


def test_the_committed_card_shows_commands_that_exist():
    lines = re.findall(r"^ecg-digitize (.*)$", COMMITTED, re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        parser().parse_args(shlex.split(line))


def test_the_committed_card_repeats_the_limits_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    limits = readme.split("## Limits\n", 1)[1].split("\n## ", 1)[0]
    for words in (
        "calibration pulses tell the gain and the speed",
        "The grid must be visible for full accuracy",
        "2.5 s a",
    ):
        assert words in limits
        assert words in COMMITTED
