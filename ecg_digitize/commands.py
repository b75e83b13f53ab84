"""What the subcommands do: parsed arguments in, files and tables out, an exit code back.

Modules that need torch or OpenCV are imported by the commands that use them, so that --help and
wrong arguments are answered at once.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ecg_digitize.errors import InputError
from ecg_digitize.shipped import sample_page

if TYPE_CHECKING:
    from ecg_digitize.layouts import Family
    from ecg_digitize.models import Models
    from ecg_digitize.synth.signals import SignalSource
    from ecg_digitize.training.loop import TrainOptions

DONE: Final = 0
UNUSABLE: Final = 2
PAGES_FAILED: Final = 3
SKIPPED_NAMED: Final = 5
"""Files that are no pictures are named on the terminal up to this number."""


def digitize(arguments: argparse.Namespace) -> int:
    """Write a csv and an overlay for each picture."""
    from ecg_digitize.batch import APART_FROM_PAGES, digitize_into, find_pages
    from ecg_digitize.engine.seats import devices_named, seats_for
    from ecg_digitize.engine.stop import stop_on_signals
    from ecg_digitize.many import Overrides
    from ecg_digitize.openvino import device_for
    from ecg_digitize.page_files import Writing

    paths = [*arguments.paths, *([sample_page()] if arguments.sample else [])]
    if not paths:
        raise InputError("digitize: no pictures; name files or folders, or say --sample")
    found = find_pages(paths, out=arguments.out)
    n_pages = len(found.pictures)
    workers = arguments.workers or (1 if n_pages < APART_FROM_PAGES else None)
    devices = devices_named(device_for(arguments.backend, arguments.device))
    writing = Writing(
        out=arguments.out,
        weights_dir=arguments.weights,
        preset=arguments.preset,
        backend=arguments.backend,
        fs_hz=arguments.fs,
        overrides=Overrides(_family(arguments.layout), arguments.speed, arguments.gain),
        overlay=not arguments.no_overlay,
        thumbs=arguments.contact_sheet is not None,
    )
    with _bar(n_pages) as step, stop_on_signals() as stop:
        report = digitize_into(
            arguments.out,
            found.pictures,
            writing,
            seats=seats_for(devices, workers=workers, n_pages=n_pages),
            sheet=arguments.contact_sheet,
            skipped=found.skipped,
            resume=not arguments.no_resume,
            stop=stop,
            progress=lambda picture, failure: step(),
        )
    for failure in report.failures:
        named = failure.error.startswith(failure.source)
        reason = failure.error if named else f"{failure.source}: {failure.error}"
        print(f"{reason} ({failure.stage})", file=sys.stderr)
    for path in report.skipped[:SKIPPED_NAMED]:
        print(f"{path}: skipped, its suffix is not that of a picture", file=sys.stderr)
    if (more := len(report.skipped) - SKIPPED_NAMED) > 0:
        print(f"{more} more files skipped; run_report.json names them", file=sys.stderr)
    again = f", {report.resumed} of them by an earlier run" if report.resumed else ""
    print(f"{arguments.out}: {len(report.outputs)} of {n_pages} pages{again}", file=sys.stderr)
    for source, doubts in report.doubts().items():
        print(f"{report.outputs[source].verdict} {source}: {'; '.join(doubts)}", file=sys.stderr)
    if report.stopped:
        print(f"ecg-digitize: {report.stopped}", file=sys.stderr)
        return stop.exit_code
    return PAGES_FAILED if report.failures else DONE


def digitize_many(arguments: argparse.Namespace) -> int:
    """Digitize a list of pages into parquet files."""
    from ecg_digitize.archive import command
    from ecg_digitize.many import Overrides

    told = Overrides(_family(arguments.layout), arguments.speed, arguments.gain)
    return command.digitize_many(arguments, told)


def _family(name: str | None) -> "Family | None":
    from ecg_digitize.layouts import FAMILIES

    if name is None:
        return None
    known = {family.name.casefold(): family for family in FAMILIES}
    if name.casefold() not in known:
        names = ", ".join(family.name for family in FAMILIES)
        raise InputError(f'--layout: expected one of {names}, but got "{name}"')
    return known[name.casefold()]


def evaluate(arguments: argparse.Namespace) -> int:
    """Score the shipped weights on pictures with truth."""
    from ecg_digitize.image import read_image
    from ecg_digitize.pipeline import digitize_page
    from ecg_digitize.training.evaluate import EvaluationReport
    from ecg_digitize.training.evaluate import evaluate as score
    from ecg_digitize.types import Recording

    models = _models(arguments)

    def digitize_file(path: Path, fs_hz: float) -> Recording:
        return digitize_page(
            read_image(path),
            models,
            fs_hz=fs_hz,
            fusion=not arguments.no_fusion,
            passes=arguments.passes,
        ).recording

    def keep(report: EvaluationReport) -> None:
        result = report.results[-1]
        outcome = f"{result.score.snr_capped_db:.2f} dB capped" if not result.error else "FAILED"
        print(
            f"[{len(report.results)}/{report.n_pages}] {result.image}: {outcome}, "
            f"{result.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )
        _write_json(arguments.json, report.to_json())

    report = score(arguments.paired_csv, digitize_file, explain=arguments.explain, progress=keep)
    print(report.to_text(), end="")
    return PAGES_FAILED if report.failures else DONE


def synth(arguments: argparse.Namespace) -> int:
    """Write synthetic pages, a contact sheet, or the shipped samples."""
    from ecg_digitize.synth.folder import write_pages
    from ecg_digitize.synth.samples import SAMPLES, write_samples
    from ecg_digitize.synth.signals import open_source

    if not (arguments.out or arguments.contact_sheet or arguments.samples):
        raise InputError("synth: nothing to write; give -o DIR, --contact-sheet or --samples")
    if arguments.samples:
        with _bar(len(SAMPLES)) as step:
            n_bytes = write_samples(arguments.samples, progress=lambda sample: step())
        print(f"{arguments.samples}: {n_bytes} bytes", file=sys.stderr)
    if not (arguments.out or arguments.contact_sheet):
        return DONE
    source = open_source(arguments.source)
    started = time.perf_counter()
    with _bar(arguments.count) as step:
        thumbs = write_pages(
            source,
            arguments.out,
            count=arguments.count,
            seed=arguments.seed,
            kind=arguments.kind,
            other_machines=arguments.other_machines,
            laser_prints=arguments.laser_prints,
            severity=arguments.severity,
            fs_hz=arguments.fs,
            progress=lambda page: step(),
        )
    took_s = time.perf_counter() - started
    written = ", files written" if arguments.out else ""
    print(
        f"{arguments.count} pages in {took_s:.1f} s, "
        f"{arguments.count / took_s:.2f} pages/s in one process{written}",
        file=sys.stderr,
    )
    if arguments.contact_sheet:
        from ecg_digitize.render.overlay import save_png
        from ecg_digitize.render.sheet import contact_sheet

        save_png(arguments.contact_sheet, contact_sheet(thumbs))
    return DONE


def train(arguments: argparse.Namespace) -> int:
    """Train one stage and print the line that exports it."""
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training.export import save_half
    from ecg_digitize.training.run import architecture_of, train_stage

    stage = arguments.stage
    options = _train_options(
        arguments, batch=arguments.batch, learning_rate=arguments.learning_rate
    )
    architecture = architecture_of(stage, member=arguments.member, backbone=arguments.backbone)
    network, figures = train_stage(
        stage,
        open_source(arguments.source),
        options,
        architecture=architecture,
        encoder=arguments.encoder,
        initial=arguments.initial,
        loss=arguments.loss,
    )
    path = arguments.out / f"{stage}.safetensors"
    save_half(network, path)
    _say_how_to_ship(
        stage, path, arguments, figures, member=arguments.member, backbone=arguments.backbone
    )
    return DONE


def train_all(arguments: argparse.Namespace) -> int:
    """Train stages on the same pages and print the lines that export them."""
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training.together import train_together

    trained = train_together(
        open_source(arguments.source),
        _train_options(arguments),
        stages=arguments.stages,
        initial=arguments.initial,
        encoder=arguments.encoder,
    )
    for stage, figures in trained.items():
        path = arguments.out / f"{stage}.safetensors"
        _say_how_to_ship(stage, path, arguments, figures, member=None, backbone=None)
    return DONE


def _train_options(arguments: argparse.Namespace, **more: Any) -> "TrainOptions":
    from ecg_digitize.runtime import choose_device
    from ecg_digitize.training.loop import TrainOptions

    return TrainOptions(
        out=arguments.out,
        minutes=arguments.minutes,
        workers=arguments.workers,
        seed=arguments.seed,
        max_steps=arguments.max_steps,
        device=choose_device(arguments.device),
        **more,
    )


def _say_how_to_ship(
    stage: str, path: Path, arguments: argparse.Namespace, figures: Mapping[str, float], *,
    member: str | None, backbone: str | None,
) -> None:  # fmt: skip
    from ecg_digitize.training.export import export_line

    print(f"{path}: {figures['steps']:.0f} steps, loss {figures['loss']:.4f}; ship it with")
    print(
        export_line(
            stage,
            path,
            member=member,
            backbone=backbone,
            command=shlex.join(["ecg-digitize", *arguments.argv]),
            data=arguments.source,
            minutes=figures["minutes"],
            metrics={"loss": figures["loss"], "steps": figures["steps"]},
        )
    )


def export(arguments: argparse.Namespace) -> int:
    """Put trained weights where they ship from."""
    from ecg_digitize.training import export as exporting
    from ecg_digitize.training.run import architecture_of

    entry = exporting.export(
        arguments.stage,
        arguments.trained,
        provenance=exporting.provenance_now(
            command=arguments.provenance_command,
            data=arguments.data,
            minutes=arguments.minutes,
            metrics=dict(arguments.metric),
        ),
        averaged_with=arguments.average_with,
        architecture=architecture_of(
            arguments.stage, member=arguments.member, backbone=arguments.backbone
        ),
        weights_dir=arguments.weights,
        manifest=arguments.manifest,
    )
    print(f"{entry.file}: {entry.bytes} bytes, SHA-256 {entry.sha256}")
    return DONE


def validate(arguments: argparse.Namespace) -> int:
    """Judge the stages on fresh synthetic pages, or the decoder on true masks."""
    from ecg_digitize.synth.dataset import KINDS
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training import validate as validating

    source = open_source(arguments.source, validation=True)
    if arguments.layout is not None:
        return _validate_sheets(arguments, source)
    kinds = arguments.kind or (list(KINDS) if arguments.each_kind else [])
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise InputError(f"validate: no kind {unknown[0]!r}; there are {', '.join(KINDS)}")
    if arguments.round_trip and (kinds or arguments.other_machines):
        raise InputError(
            "validate: --round-trip draws no pages; leave kinds and --other-machines out"
        )
    if arguments.round_trip:
        with _bar(arguments.pages) as step:
            snr_db = validating.round_trip_db(
                source, windows=arguments.pages, progress=lambda value: step()
            )
        mean_db = sum(snr_db) / len(snr_db)
        print(f"round trip: {len(snr_db)} windows, mean {mean_db:.2f} dB, min {min(snr_db):.2f} dB")
        _write_json(arguments.json, {"round_trip_db": snr_db, "mean_db": mean_db})
        return DONE
    unused = ("stage0", "stage1") if arguments.true_geometry else ()
    models = _models(arguments, unused=unused)
    with _bar(arguments.pages * max(1, len(kinds))) as step:
        report = validating.validate_pages(
            source,
            models,
            pages=arguments.pages,
            each_kind=bool(kinds),
            kinds=kinds,
            seed=arguments.seed,
            other_machines=arguments.other_machines,
            laser_prints=arguments.laser_prints,
            max_megapixels=arguments.megapixels,
            severity=arguments.severity,
            true_geometry=arguments.true_geometry,
            passes=arguments.passes,
            progress=lambda check: step(),
        )
    print(report.to_text(), end="")
    _write_json(arguments.json, report.to_json())
    return PAGES_FAILED if any(check.error for check in report.checks) else DONE


def _validate_sheets(arguments: argparse.Namespace, source: "SignalSource") -> int:
    from ecg_digitize.training.validate_sheets import fitted, validate_sheets

    models = _models(arguments)
    with _bar(arguments.pages) as step:
        report = validate_sheets(
            source,
            models,
            pages=arguments.pages,
            seed=arguments.seed,
            layout=arguments.layout,
            progress=lambda check: step(),
        )
    print(report.to_text(), end="")
    if arguments.fit:
        options = fitted(report)
        print(f"\nfitted to these sheets: {options}\n\n{report.to_text(options)}", end="")
    _write_json(arguments.json, report.to_json())
    return DONE


def _compare_sheets(arguments: argparse.Namespace) -> int:
    from ecg_digitize.image import read_image
    from ecg_digitize.pipeline import digitize_page
    from ecg_digitize.training.compare_sheets import compare_sheets, read_printed

    if arguments.printed is None or arguments.pictures is None:
        raise InputError("compare sheets: expected --printed CSV and --pictures DIR")
    models = _models(arguments)
    with _bar(len(read_printed(arguments.printed))) as step:
        compared = compare_sheets(
            arguments.printed,
            arguments.pictures,
            lambda path: digitize_page(read_image(path), models).recording,
            progress=step,
        )
    print(compared.to_text(), end="")
    return DONE


def compare(arguments: argparse.Namespace) -> int:
    """Measure what ships against what was tried in its place."""
    from ecg_digitize.synth.dataset import KINDS
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training.compare import Comparison, compare_decoders, compare_looks
    from ecg_digitize.training.compare_geometry import compare_geometry, compare_geometry_of
    from ecg_digitize.training.compare_overlap import OverlapComparison, compare_overlap
    from ecg_digitize.training.compare_resampling import compare_resampling
    from ecg_digitize.training.pairs import read_pairs

    table: Comparison | OverlapComparison
    if arguments.paired is not None:
        if arguments.subject != "geometry":
            raise InputError(f"--paired: expected with geometry, but got {arguments.subject}")
        models = _models(arguments)
        with _bar(len(read_pairs(arguments.paired))) as step:
            table = compare_geometry_of(arguments.paired, models, progress=step)
        print(table.to_text(), end="")
        return DONE
    if arguments.subject == "sheets":
        return _compare_sheets(arguments)
    source = open_source(arguments.source, validation=True)
    pages, seed = arguments.pages, arguments.seed
    if arguments.subject == "resampling":
        with _bar(pages) as step:
            table = compare_resampling(source, windows=pages, progress=step)
    elif arguments.subject == "overlap":
        models = _models(arguments)
        with _bar(2 * pages) as step:
            table = compare_overlap(source, models, crops=pages, seed=seed, progress=step)
    else:
        compare_pages, unused = {
            "decoders": (compare_decoders, ("stage0", "stage1", "refine")),
            "geometry": (compare_geometry, ()),
            "looks": (compare_looks, ("stage0", "stage1")),
        }[arguments.subject]
        models = _models(arguments, unused=unused)
        with _bar(pages * len(KINDS)) as step:
            table = compare_pages(source, models, pages=pages, seed=seed, progress=step)
    print(table.to_text(), end="")
    return DONE


def bench(arguments: argparse.Namespace) -> int:
    """Time one picture, or the making of training samples."""
    from ecg_digitize.engine.seats import usable_cores
    from ecg_digitize.runtime import limit_threads
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training.bench import bench as measure
    from ecg_digitize.training.bench import bench_feed

    if arguments.feed is not None:
        source = open_source(arguments.source)
        workers, samples = arguments.workers or 2, arguments.samples
        with _bar(workers + samples) as step:
            feed = bench_feed(
                arguments.feed, source, samples=samples, workers=workers, progress=step
            )
        print(feed.to_text(), end="")
        _write_json(arguments.json, feed.to_json())
        return DONE
    limit_threads(arguments.threads)
    image = arguments.image or sample_page()
    models = _models(arguments)
    with _bar((arguments.repeat + 1) * (1 + (arguments.workers or usable_cores()))) as step:
        report = measure(
            image,
            models,
            preset=arguments.preset,
            weights_dir=arguments.weights,
            repeat=arguments.repeat,
            workers=arguments.workers,
            progress=step,
        )
    print(report.to_text(), end="")
    _write_json(arguments.json, report.to_json())
    most = arguments.floors_at_most
    if most is not None and report.page_floors > most:
        print(f"a page takes {report.page_floors:.0f} floors, allowed {most:.0f}", file=sys.stderr)
        return PAGES_FAILED
    return DONE


def weights(arguments: argparse.Namespace) -> int:
    """Check every weight file against the manifest."""
    from ecg_digitize.weights import verify_all

    table = verify_all(weights_dir=arguments.weights)
    for status in table:
        verdict = "ok" if status.ok else "BAD"
        print(f"{status.stage:<8}{status.file:<24}{status.bytes:>10}  {verdict:<4}{status.why}")
    if not table:
        raise InputError("weights_manifest.json lists no files; train and export the stages first")
    return DONE if all(status.ok for status in table) else UNUSABLE


def model_card(arguments: argparse.Namespace) -> int:
    """Write the model card of the shipped weights."""
    from ecg_digitize.files import replacing
    from ecg_digitize.manifest import read_manifest
    from ecg_digitize.training import model_card as card

    evaluations = [card.read_evaluation(path) for path in arguments.evaluation]
    text = card.model_card(read_manifest(arguments.manifest), evaluations)
    with replacing(arguments.out) as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"{arguments.out}: {len(evaluations)} evaluations", file=sys.stderr)
    return DONE


# --- what they share ------------------------------------------------------------------------------


def _models(arguments: argparse.Namespace, *, unused: Collection[str] = ()) -> "Models":
    from ecg_digitize import models, openvino, runtime

    if getattr(arguments, "passes", None) == 0:
        unused = (*unused, "refine")
    loaded = models.load_models(
        weights_dir=arguments.weights,
        device=runtime.choose_device(openvino.device_for(arguments.backend, arguments.device)),
        stages=[stage for stage in models.STAGES if stage not in unused],
        preset=arguments.preset,
        is_final=arguments.backend == models.TORCH,
    )
    return openvino.on_backend(arguments.backend, loaded)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar, in terminals only; the function given moves it on by one page."""
    from tqdm import tqdm

    with tqdm(total=total, unit="page", disable=None) as bar:
        yield lambda: bar.update()


def _write_json(path: Path | None, document: Any) -> None:
    from ecg_digitize.files import replacing

    if path is not None:
        with replacing(path) as partial:
            partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
