"""The command `ecg-digitize`: its arguments; `commands/` does what they ask.

Exit codes: 0 all done, 2 unusable arguments or inputs, 3 some pages failed, 130 or 143 stopped by
Ctrl-C or SIGTERM.
"""

import argparse
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ecg_digitize import __version__
from ecg_digitize.commands import comparing, diagnosing, judging, making, using
from ecg_digitize.commands.shared import UNUSABLE
from ecg_digitize.environment import set_environment
from ecg_digitize.errors import EcgDigitizeError
from ecg_digitize.stage2.members import MEMBERS
from ecg_digitize.systems.registry import TRAINABLE

PRESETS: Final = ("quick", "fast", "best", "ensemble")
STAGES: Final = ("stage0", "stage1", "stage2", "refine")
TRAINED: Final = (*STAGES, "strips", "names", "text")  # each by itself
SHIPPED: Final = (*TRAINED, "diagnose")
FED: Final = STAGES[:2]  # whose training samples are a page each
PRESET_HELP: Final = (
    "quick: no refinement; fast: each network looks once; best: from several sides (default); "
    "ensemble: several networks of stage 2 too"
)
PATHS_HELP: Final = "pictures and PDFs, or folders of them; - reads one from standard input"
BACKEND_HELP: Final = "what runs the networks on a CPU, see docs/cpu.md (default: torch)"
SOURCE_HELP: Final = "simulator (default), bank:FILE.npz, wfdb:FOLDER, deepfake; commas join"
FORMAT_HELP: Final = (
    "csv (default: with times, and a side file), csv-plain, parquet, wfdb, edf, dicom, fhir; "
    "commas join"
)
USING: Final = ("digitize", "serve", "digitize-many", "classify", "submit", "bench", "weights")
EXAMPLES: Final = {
    "digitize": """examples:
  ecg-digitize digitize --sample -o out           try it; then open out/report.html
  ecg-digitize digitize scans/ photo.jpg -o out   files and folders
  ecg-digitize digitize letter.pdf -o out --format csv,wfdb,dicom
  ecg-digitize digitize half_gain.png -o out --gain 5
  ecg-digitize digitize - -o out < page.png

exit codes: 0 all done, 2 unusable arguments, 3 some pages failed, 130 and 143 stopped""",
    "serve": """examples:
  ecg-digitize serve --open                       a page in the browser, on this machine alone
  ecg-digitize serve --host 0.0.0.0 --called ecg.example.org   for others, by a token
  curl --data-binary @page.png "http://127.0.0.1:8765/api/pages?wait=true&name=page.png"

exit codes: 0 ended by Ctrl-C, 2 unusable arguments, or the port is taken""",
    "digitize-many": """examples:
  ecg-digitize digitize-many pages.csv -o archive
  ecg-digitize digitize-many scans/ -o archive --engine ray --address auto

exit codes: 0 all done, 2 unusable arguments, 3 some pages failed, 130 and 143 stopped""",
}
CLASSIFIED_HELP: Final = (
    "pictures, PDFs, folders of them; a folder or csv files that digitize wrote"
)
TRAINED_HELP: Final = "folder of trainings of published systems, each in a folder of its name"
LABELS_HELP: Final = "what is known of the records, for diagnoses"
MEASURE_HELP: Final = "research figures, not for diagnosis (extra: measures)"
Command = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    set_environment()
    if argv[:1] == ["submit"]:  # has its own parser, which travels in the notebook
        from ecg_digitize import submission

        return submission.main(argv[1:])
    arguments = parser().parse_args(argv)
    arguments.argv = argv
    chatty = arguments.verbose or arguments.command in ("train", "train-all")
    logging.basicConfig(
        level=logging.INFO if chatty else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    try:
        code: int = arguments.run(arguments)
    except (EcgDigitizeError, OSError) as error:
        print(f"ecg-digitize: {error}", file=sys.stderr)
        return UNUSABLE
    return code


def parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands; `run` is the function of the one chosen."""
    top = argparse.ArgumentParser(
        prog="ecg-digitize", description="Pictures of 12-lead ECG printouts to millivolts, offline."
    )
    top.add_argument("--version", action="version", version=__version__)
    top.add_argument("-v", "--verbose", action="store_true", help="log what is being done")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    texts: dict[str, str] = {}

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        added = subparsers.add_parser(
            name,
            description=text[0].upper() + text[1:] + ".",
            epilog=EXAMPLES.get(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        texts[name] = text
        return added

    _add_using(command)
    subparsers.add_parser("submit")
    texts["submit"] = "Kaggle's test.csv and pictures to submission.parquet"
    _add_making(command)
    top.epilog = _groups(texts)
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    return top


def _groups(texts: Mapping[str, str]) -> str:
    """Return the commands for `--help`: those of users, and those of whoever works on it."""
    width = max(map(len, texts)) + 2

    def group(title: str, names: Sequence[str]) -> str:
        return "\n".join([title, *(f"  {name:<{width}}{texts[name]}" for name in names)])

    developing = [name for name in texts if name not in USING]
    return "\n\n".join(
        [
            group("commands to use it:", USING),
            group("commands to develop it:", developing),
            "ecg-digitize COMMAND --help says more.",
        ]
    )


def _add_using(command: Command) -> None:
    """Add the commands that use the shipped weights."""
    add = command("digitize", using.digitize, "signals and an overlay for each page").add_argument
    add("paths", nargs="*", type=_path, metavar="PATH", help=PATHS_HELP)
    add("--sample", action="store_true", help="the page that comes with the package, to try it")
    add("-o", "--out", type=Path, required=True, metavar="DIR")
    _add_reading(add)
    add("--format", default="csv", metavar="NAME,...", help=FORMAT_HELP)
    add("--no-overlay", action="store_true", help="write signals only")
    add("--no-report", action="store_true", help="do not write report.html")
    add("--measure", action="store_true", help=f"also rate, intervals, axis, ST: {MEASURE_HELP}")
    add("--contact-sheet", type=Path, metavar="PNG", help="draw the first 96 overlays on one sheet")
    add("--workers", type=_count, help="processes (default: one a core, from eight pages on)")
    add("--no-resume", action="store_true", help="read again what an earlier run has done")
    add("--dry-run", action="store_true", help="say what would be read and written, and stop")
    add("--quiet", action="store_true", help="say nothing but what failed")
    add("--json", action="store_true", help="print run_report.json on standard output, too")
    _add_model_options(add)

    add = command(
        "serve", using.serve, "a page in the browser: look, correct, download; and REST"
    ).add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this one)")
    add("--port", type=_port, default=8765, help="default: 8765; 0: any that is free")
    add("--open", action="store_true", help="open the page in the browser")
    add("--token", type=_token, metavar="TEXT", help="what others must know (default: made up)")
    add("--called", nargs="+", default=[], metavar="NAME", help="other names of this machine")
    add("--most-mb", type=_positive, default=100.0, metavar="MB", help="of a file (default: 100)")
    add("--fs", type=_positive, default=500.0, help="samples a second, not filtered (default: 500)")
    _add_model_options(add)

    add = command(
        "digitize-many",
        using.digitize_many,
        "a list of pages to parquet files; goes on if ended",
    ).add_argument
    add("manifest", metavar="MANIFEST", help="csv or parquet with path, page_number; or a folder")
    add("-o", "--out", type=Path, required=True, metavar="DIR")
    add("--engine", choices=("local", "ray"), default="local", help="default: local")
    add("--address", metavar="ADDR", help="of a Ray cluster (default: this machine alone)")
    add("--shard-pages", type=_count, default=64, help="pages a file (default: 64)")
    _add_reading(add)
    add("--workers", type=_count, help="processes, or actors on Ray (default: one a core)")
    add("--no-resume", action="store_true", help="remove what an earlier run has done")
    _add_model_options(add)

    add = command(
        "classify", diagnosing.classify, "classes that pages suggest, for research only"
    ).add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help=CLASSIFIED_HELP)
    add("-o", "--out", type=Path, required=True, metavar="DIR", help="for classify.csv")
    _add_model_options(add)

    add = command(
        "evaluate", judging.evaluate, "score the weights on pictures with true signals"
    ).add_argument
    add("paired_csv", type=Path, help="columns image, fs, kind, truth or reference")
    add("--explain", action="store_true", help="say what each page's score is lost to")
    add("--measure", action="store_true", help=f"compare rate, PR, ... too: {MEASURE_HELP}")
    add("--survey", action="store_true", help="errors a lead, leads found, synchrony between leads")
    add("--no-fusion", action="store_true", help="do not blend limb leads that follow from others")
    _add_passes(add)
    _add_json(add)
    _add_model_options(add)

    add = command("bench", judging.bench, "time one picture, stage by stage").add_argument
    add("image", type=Path, nargs="?", help="default: the sample page")
    add("--repeat", type=_count, default=5, help="default: 5")
    add("--threads", type=_count, default=2, help="default: 2")
    add("--floors-at-most", type=_positive, metavar="N", help="exit with 3 if a page takes more")
    add("--feed", choices=FED, help="time the making of its training pages instead, with")
    add("--workers", type=_count, help="so many processes (default: one a core; 2 with --feed),")
    add("--samples", type=_count, default=100, help="so many pages (default: 100) and")
    add("--source", default="simulator", metavar="SPEC", help=SOURCE_HELP)
    add("--members", action="store_true", help="say what networks of stage 2 cost to train, for")
    add("--records", type=_count, default=977, help="so many records (default: 977), on a GPU of")
    add("--tflops", type=_positive, default=20.0, help="10^12 operations a second (default: 20)")
    _add_json(add)
    _add_model_options(add)

    judge = command("validate", judging.validate, "judge the stages on fresh synthetic pages")
    add = judge.add_argument
    add("--pages", type=_count, default=200, help="default: 200")
    add("--each-kind", action="store_true", help="--pages of each kind, records as they are")
    add("--kind", nargs="+", default=[], metavar="KIND", help="as --each-kind, of these alone")
    _add_other_machines(add)
    add("--laser-prints", action="store_true", help="prints as laser printers and phones make them")
    add("--megapixels", type=_positive, default=5.0, help="of photos at most (default: 5)")
    _add_severity(add)
    _add_validation(add)
    add("--layout", metavar="NAME", help="sheets of a layout instead, one in five damaged, or any")
    add("--fit", action="store_true", help="with --layout: fit the quality of leads to these")
    which = judge.add_mutually_exclusive_group()
    which.add_argument("--true-geometry", action="store_true", help="judge stage 2 alone")
    which.add_argument("--round-trip", action="store_true", help="judge the decoder alone")
    _add_passes(add)
    _add_json(add)
    _add_model_options(add)

    add = command(
        "compare", comparing.compare, "measure what ships against what was tried in its place"
    ).add_argument
    add("subject", choices=tuple(comparing.SUBJECTS))
    add(
        "--pages",
        type=_count,
        default=20,
        help="of each kind or folder; records for resampling, crops for overlap (default: 20)",
    )
    help_text = "tables of real pictures, as for evaluate: for geometry, diagnoses and systems"
    add("--paired", type=Path, nargs="+", metavar="CSV", help=help_text)
    add("--labels", type=Path, metavar="CSV", help=LABELS_HELP)
    add("--trained", type=Path, metavar="DIR", help=TRAINED_HELP)
    _add_json(add)
    add("--printed", type=Path, metavar="CSV", help="what a person sees on sheets, for sheets")
    add("--pictures", type=Path, metavar="DIR", help="where those sheets are")
    add("--kind", nargs="+", default=[], metavar="KIND", help="of pages, for severity (all)")
    add("--picture", type=Path, metavar="PNG", help="draw the curves, for severity (extra: plot)")
    _add_validation(add)
    _add_model_options(add)

    add = command(
        "weights", using.weights, "check every weight file against the manifest"
    ).add_argument
    add("--weights", type=Path, metavar="DIR", help="folder of the weight files")


def _add_making(command: Command) -> None:
    """Add the commands that make pages and weights."""
    add = command("synth", making.synth, "make synthetic pages with truth and labels").add_argument
    add("-o", "--out", type=Path, metavar="DIR", help="for pages and paired.csv")
    add("--count", type=_count, default=12, help="default: 12")
    add("--seed", type=int, default=0, help="family of pages (default: 0)")
    add("--kind", help="e.g. scan_bw; a wrong name lists all (default: mixed)")
    _add_severity(add)
    add("--source", default="simulator", metavar="SPEC", help=SOURCE_HELP)
    _add_other_machines(add)
    add("--laser-prints", action="store_true", help="prints as laser printers and phones make them")
    add("--fs", type=_positive, default=500.0, help="of the truths (default: 500)")
    add("--contact-sheet", type=Path, metavar="PNG", help="draw the first 48 on one sheet")
    add("--samples", type=Path, metavar="DIR", help="make the shipped samples again, there")

    add = command(
        "print-and-read",
        diagnosing.print_and_read,
        "print labelled records and digitize the pages, to train on; goes on if ended",
    ).add_argument
    add("-o", "--out", type=Path, required=True, metavar="NPZ", help="what was read")
    add("--source", required=True, metavar="SPEC", help=SOURCE_HELP)
    add("--labels", type=Path, required=True, metavar="CSV", help=LABELS_HELP)
    add("--pages", type=_count, default=2000, help="default: 2000")
    add("--seed", type=int, default=61, help="family of pages (default: 61)")
    _add_model_options(add)

    add = command("train", making.train, "train one stage; resumes what lies in --out").add_argument
    add("stage", choices=(*TRAINED, *TRAINABLE))
    _add_training(add, initial="weights of an earlier training, safetensors")
    _add_network(add)
    add("--loss", help="of stage 2, e.g. mask; a wrong name lists all (default: the one shipped)")
    add("--labels", type=Path, metavar="CSV", help=LABELS_HELP)
    add("--digitized", type=Path, metavar="NPZ", help="what print-and-read kept, for diagnoses")
    add("--recipe", choices=("own", "published"), default="own", help="of stage 2 (default: own)")
    add("--batch", type=_count, help="default: as the recipe, 4")
    add("--learning-rate", type=_positive, help="default: as the recipe; 0.001 in its own")
    add("--workers", type=_none_or_more, default=1, help="processes that make pages (default: 1)")

    add = command(
        "train-all",
        making.train_all,
        "train several stages on the same pages, where a GPU waits for them",
    ).add_argument
    add("--stages", nargs="+", choices=STAGES, default=STAGES, help="those to train (default: all)")
    _add_training(add, initial="folder of weights of an earlier training")
    add("--workers", type=_none_or_more, default=4, help="processes that make pages (default: 4)")

    add = command(
        "export", making.export, "put trained weights into weights/ and the manifest"
    ).add_argument
    add("stage", choices=SHIPPED)
    add("trained", type=Path, help="checkpoint.pt or safetensors of a training")
    add(
        "--average-with",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help="ship their mean",
    )
    add("--minutes", type=_positive, required=True, help="provenance: training time")
    add("--command", dest="provenance_command", required=True, help="provenance: command line")
    add("--data", required=True, help="provenance: signals it was trained on")
    add("--source", metavar="SPEC", help="training signals, for the thresholds of diagnose")
    add("--labels", type=Path, metavar="CSV", help=LABELS_HELP)
    add("--metric", type=_metric, action="append", default=[], metavar="NAME=VALUE")
    _add_network(add)
    add("--beside", action="store_true", help="ship the member of stage 2 beside what there is")
    add("--weights", type=Path, metavar="DIR", help="folder to write to (default: weights/)")
    add("--manifest", type=Path, help="default: weights_manifest.json")

    add = command(
        "model-card", making.model_card, "write the model card from manifest and evaluations"
    ).add_argument
    help_text = "files that evaluate --json wrote; the card names them by their stem"
    add("--evaluation", nargs="+", type=Path, required=True, metavar="JSON", help=help_text)
    add("-o", "--out", type=Path, required=True, metavar="FILE", help="e.g. docs/model_card.md")
    add("--manifest", type=Path, help="default: weights_manifest.json")


def _add_training(add: Callable[..., Any], *, initial: str) -> None:
    """Add what `train` and `train-all` share."""
    add("--minutes", type=_positive, required=True, help="wall-clock budget")
    add("--source", required=True, metavar="SPEC", help=SOURCE_HELP)
    add("--out", type=Path, required=True, metavar="DIR", help="for checkpoint and weights")
    add("--encoder", type=Path, help="ImageNet weights of the backbone, safetensors")
    add("--initial", type=Path, help=initial)
    add("--seed", type=int, default=1, help="default: 1")
    add("--device", help="cpu or cuda (default: the best there is)")
    add("--max-steps", type=_count, help="stop early, for a quick try")


def _add_validation(add: Callable[..., Any]) -> None:
    add("--source", default="simulator", metavar="SPEC", help=SOURCE_HELP)
    add("--seed", type=int, default=990_001, help="family of pages; training uses small ones")


def _add_other_machines(add: Callable[..., Any]) -> None:
    add("--other-machines", action="store_true", help="sheets laid out as other machines do")


def _add_severity(add: Callable[..., Any]) -> None:
    help_text = "how bad pages look: 0 mild, 1 usual, 2 worst (default: 1)"
    add("--severity", type=float, default=1.0, help=help_text)


def _add_passes(add: Callable[..., Any]) -> None:
    help_text = "how often lines are refined (default: as the preset; 0: as stage 2 has them)"
    add("--passes", type=int, choices=(0, 1, 2, 3), help=help_text)


def _add_network(add: Callable[..., Any]) -> None:
    add("--member", choices=tuple(MEMBERS), help="which network stage 2 is (default: whole)")
    add("--backbone", help="timm name, in place of the network's usual one")


def _add_json(add: Callable[..., Any]) -> None:
    add("--json", type=Path, metavar="FILE", help="write the figures there too")


def _add_reading(add: Callable[..., Any]) -> None:
    add("--fs", type=_positive, default=500.0, help="samples a second, not filtered (default: 500)")
    add("--layout", metavar="NAME", help="say 6x2, 12x1, ... (default: what the sheet shows)")
    add("--speed", type=_positive, metavar="MM/S", help="paper speed (default: by text and pulses)")
    add("--gain", type=_positive, metavar="MM/MV", help="gain (default: by text and pulses)")


def _add_model_options(add: Callable[..., Any]) -> None:
    add("--preset", choices=PRESETS, default="best", help=PRESET_HELP)
    add("--device", help="cpu or cuda (default: the best there is)")
    add("--backend", choices=("torch", "openvino"), default="torch", help=BACKEND_HELP)
    add("--weights", type=Path, metavar="DIR", help="folder of the weight files")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, but got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, but got {text}")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**16:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, but got {text}")
    return value


def _token(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{8,}", text):
        raise argparse.ArgumentTypeError("expected 8 or more of A-Z, a-z, 0-9, _ and -")
    return text


def _path(text: str) -> str | Path:
    return text if text == using.STANDARD_INPUT else Path(text)


def _none_or_more(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, but got {text}")
    return value


def _metric(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, but got {text}") from None
