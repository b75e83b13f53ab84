"""The model card: what the weights are, what they are for, how well they do, how to check it.

Every figure of the card comes from the manifest or from a file that `evaluate --json` wrote.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ecg_digitize.errors import InputError
from ecg_digitize.manifest import ManifestEntry
from ecg_digitize.training.results import Summary

WEAK_DB: Final = 15.0
"""Pages below this capped SNR are listed as failures."""
TASKS: Final = {
    "stage0": "finds the lead names and the orientation of the page",
    "stage1": "finds the crossings of the 5 mm grid",
    "stage2": "marks the four traces, column by column",
    "refine": "moves the decoded lines onto the middle of the ink",
    "strips": "marks the trace of one row of a sheet of any layout",
    "names": "reads the lead names of sheets of any layout",
    "text": "reads the speed and the gain that a sheet tells in words",
    "diagnose": "names classes that signals suggest, for `classify`: research only",
}
"""What each stage's network does, in the order of the pipeline."""

_INTENDED = """\
## Intended use

The weights turn pictures of printed 12-lead ECGs into signals in millivolts. They are meant for
research and for the Kaggle competition *PhysioNet \u2013 Digitization of ECG Images*. A person must
look at the overlay of each page before the signals are used.

**Not for:** The package is no medical device. Nobody may use it to diagnose, to monitor or to
treat a patient. It must not decide anything without a person who looks at the page."""

_LIMITS = f"""\
### Documented limits

* The package reads the layouts that `ecg_digitize/layouts.py` lists. What it reads least well are
  tall strokes on rows that lie closer than 25 mm; nearly all of these get the verdict "check".
* The text on a sheet and calibration pulses tell the gain and the speed. Without either the package
  takes the sheet for 10 mm/mV and 25 mm/s, and says so unless it is the competition's.
* The grid must be visible for full accuracy. Without it a page is taken as flat.
* Without a visible grid the package refuses or rejects a sheet of another layout than the
  competition's.
* Pen over the trace is followed where its ink looks like the trace's.
* Traces that cross a neighbour's are followed by continuity and can swap there.
* Signals are what is printed: 2.5 s a lead, and no finer than the print.

The list above shows pages below {WEAK_DB:g} dB only. A page above that figure can still be wrong in
one lead."""

_EVALUATION = """\
## Evaluation

The figures are signal-to-noise ratios as the competition measures them. Each lead may be shifted
by 0.2 s and by a constant. "Capped" stops at the leaderboard's largest value for each page. A page
that failed counts as twelve leads of zeros. An evaluation file does not say which records were
trained on: compare the records of its pages with the training data before you call them unseen."""


@dataclass(frozen=True)
class Evaluation:
    """What one file of `evaluate --json` says.

    Attributes:
        title: Stem of the file's name.
        overall: Means over all pages.
        by_kind: Means of each kind, in the file's order.
        capped_db: By kind, the capped SNR of each page, dB; None where it is not finite.
    """

    title: str
    overall: Summary
    by_kind: tuple[Summary, ...]
    capped_db: Mapping[str, tuple[float | None, ...]]

    @classmethod
    def from_json(cls, title: str, document: Any) -> "Evaluation":
        """Take what `EvaluationReport.to_json` made.

        Args:
            title: Stem of the file's name.
            document: The parsed JSON.

        Returns:
            The evaluation.

        Raises:
            ValueError: Counts of pages do not agree, or a figure is no number.
            KeyError: A part is missing.
            TypeError: A part is not what it should be.
        """
        pages: dict[str, list[float | None]] = {}
        for image in document["images"]:
            capped_db = _figure(image["score"]["snr_capped_db"])
            pages.setdefault(str(image["kind"]), []).append(capped_db)
        overall = _summary(document["overall"])
        by_kind = tuple(map(_summary, document["by_kind"]))
        counted = {summary.name: summary.n_images for summary in by_kind}
        if counted != {kind: len(values) for kind, values in pages.items()}:
            raise ValueError("by_kind and images do not hold the same pages")
        if overall.n_images != sum(counted.values()) or not counted:
            raise ValueError(f"overall says {overall.n_images} pages, not {sum(counted.values())}")
        return cls(title, overall, by_kind, {kind: tuple(v) for kind, v in pages.items()})


def read_evaluation(path: Path) -> Evaluation:
    """Read a file that `evaluate --json` wrote.

    Args:
        path: The file; its stem becomes the title.

    Returns:
        The evaluation.

    Raises:
        InputError: The file is missing, or it is no such file.
    """
    try:
        return Evaluation.from_json(path.stem, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected a file of `ecg-digitize evaluate TABLE.csv --json FILE` with "
            f"overall, by_kind and images, but got {type(error).__name__}: {error}; write it anew"
        ) from error


def model_card(entries: Sequence[ManifestEntry], evaluations: Sequence[Evaluation]) -> str:
    """Return the model card of the shipped weights.

    Args:
        entries: What the manifest says of the weight files.
        evaluations: What was measured with these files; the titles differ.

    Returns:
        Markdown. The same arguments give the same text.

    Raises:
        InputError: A stage has no weight file, there is no evaluation, or two have one title.
    """
    by_stage = {entry.stage: entry for entry in entries}
    if missing := [stage for stage in TASKS if stage not in by_stage]:
        raise InputError(
            f"weights_manifest.json: expected a weight file for each of {', '.join(TASKS)}, "
            f"but {', '.join(missing)} has none; export it first"
        )
    titles = [evaluation.title for evaluation in evaluations]
    if not titles or len(set(titles)) < len(titles):
        raise InputError(
            "model card: expected evaluations, each with a file name of its own, "
            f"but got {', '.join(titles) or 'none'}; rename the files"
        )
    shipped = [by_stage[stage] for stage in TASKS]
    parts = [
        "# Model card",
        "This page is made by `ecg-digitize model-card`. Do not edit it by hand.",
        "## Model details",
        "The networks read a page one after the other. `names` and `text` are for other sheets. "
        "`diagnose` reads none:\nit looks at signals.",
        *map(_details, shipped),
        _INTENDED,
        _training_data(shipped),
        _EVALUATION,
        _table(_OVERALL, [(evaluation.title, evaluation.overall) for evaluation in evaluations]),
        *map(_by_kind, evaluations),
        _weak_pages(evaluations),
        _LIMITS,
        _reproduction(titles),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(item: Mapping[str, Any]) -> Summary:
    return Summary(**{key: v if key == "name" else _figure(v) for key, v in item.items()})


def _figure(value: Any) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{value!r} where a figure should be")
    return value


def _details(entry: ManifestEntry) -> str:
    made = entry.provenance
    options = ", ".join(f"{name} = {value}" for name, value in entry.architecture.options.items())
    metrics = ", ".join(f"{name} {value:.6g}" for name, value in made.metrics.items())
    rows = {
        "does": TASKS[entry.stage],
        "architecture": entry.architecture.name + (f" ({options})" if options else ""),
        "bytes": str(entry.bytes),
        "SHA-256": f"`{entry.sha256}`",
        "licence": entry.licence,
        "training date": made.date,
        "training time": f"{made.minutes:.6g} minutes",
        "command": f"`{made.command}`",
        "data": made.data,
        "metrics": metrics or "none recorded",
    }
    lines = [f"### {entry.stage}: `{entry.file}`", "", "| what | value |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {_cell(value)} |" for name, value in rows.items())])


def _training_data(entries: Sequence[ManifestEntry]) -> str:
    stages: dict[str, list[str]] = {}
    for entry in entries:
        stages.setdefault(entry.provenance.data, []).append(entry.stage)
    return "\n".join(
        [
            "## Training data and licences",
            "",
            "Pages for training are drawn by this package on the fly. The manifest names the "
            "signals on them:",
            "",
            *(f"* {', '.join(names)}: {data}." for data, names in stages.items()),
            "",
            '"ImageNet start" means that the network began from timm\'s ImageNet weights of '
            "EfficientNet-Lite0\n(Apache-2.0). The weight files are licensed as named above: "
            f"{', '.join(sorted({entry.licence for entry in entries}))}.",
        ]
    )


def _by_kind(evaluation: Evaluation) -> str:
    def worst_db(summary: Summary) -> str:
        values = evaluation.capped_db[summary.name]
        return _number(None if None in values else min(v for v in values if v is not None), 2)

    columns: _Columns = {**_KIND, "worst page dB": worst_db, "failed": _OVERALL["failed"]}
    table = _table(columns, [(summary.name, summary) for summary in evaluation.by_kind])
    return f"### {evaluation.title}, by kind of page\n\n{table}"


def _weak_pages(evaluations: Sequence[Evaluation]) -> str:
    lines = []
    for evaluation in evaluations:
        for kind, values in evaluation.capped_db.items():
            weak = sorted(-float("inf") if v is None else v for v in values if not _good(v))
            if weak:
                figures = ", ".join(_number(v, 2) for v in weak)
                row = (evaluation.title, _cell(kind), f"{len(weak)} of {len(values)}", figures)
                lines.append(f"| {' | '.join(row)} |")
    head = ["| evaluation | kind of page | pages | capped dB of each |", "|---|---|---:|---|"]
    found = [*head, *lines] if lines else ["No page of these evaluations is below it."]
    intro = f"Pages below {WEAK_DB:g} dB, capped:"
    return "\n".join(["## Known failures", "", intro, "", *found])


def _reproduction(titles: Sequence[str]) -> str:
    files = [shlex.quote(f"{title}.json") for title in titles]
    return "\n".join(
        [
            "## How to reproduce",
            "",
            "The first command checks the weight files by SHA-256 and by what they compute. "
            "`TABLE.csv` has the\ncolumns `image`, `truth`, `fs` and `kind`; "
            "docs/accuracy.md says more. "
            "The last command writes this page.\nThe command that trained each file stands "
            "under Model details.",
            "",
            "```sh",
            "ecg-digitize weights",
            *(f"ecg-digitize evaluate TABLE.csv --json {file}" for file in files),
            f"ecg-digitize model-card --evaluation {' '.join(files)} -o docs/model_card.md",
            "```",
        ]
    )


_Columns = dict[str, Callable[[Summary], str]]

_KIND: Final[_Columns] = {
    "n": lambda summary: str(summary.n_images),
    "mean capped dB": lambda summary: _number(summary.snr_capped_db, 2),
}
_OVERALL: Final[_Columns] = {
    **_KIND,
    "score dB": lambda summary: _number(summary.score_db, 2),
    "mean dB without cap": lambda summary: _number(summary.snr_db, 2),
    "pearson": lambda summary: _number(summary.pearson, 4),
    "RMSE mV": lambda summary: _number(summary.rmse_mv, 4),
    "failed": lambda summary: str(summary.n_failed),
}


def _table(columns: _Columns, rows: Sequence[tuple[str, Summary]]) -> str:
    lines = [f"| pages | {' | '.join(columns)} |", f"|---{'|---:' * len(columns)}|"]
    for name, summary in rows:
        figures = " | ".join(text(summary) for text in columns.values())
        lines.append(f"| {_cell(name)} | {figures} |")
    return "\n".join(lines)


def _good(capped_db: float | None) -> bool:
    return capped_db is not None and capped_db >= WEAK_DB


def _number(value: float | None, digits: int) -> str:
    """Return the figure; the report writes None for what is not finite."""
    return "not finite" if value is None or abs(value) == float("inf") else f"{value:.{digits}f}"


def _cell(text: str) -> str:
    """Return text that stays within one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
