"""The commands that measure: scores on pages with truth, comparisons, times."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_digitize.commands.shared import DONE, PAGES_FAILED, bar, models_of, write_json
from ecg_digitize.errors import InputError
from ecg_digitize.shipped import sample_page

if TYPE_CHECKING:
    from ecg_digitize.synth.signals import SignalSource


def evaluate(arguments: argparse.Namespace) -> int:
    """Score the shipped weights on pictures with truth."""
    from ecg_digitize.inputs import read_page
    from ecg_digitize.measures.beats import neurokit
    from ecg_digitize.pipeline import digitize_page
    from ecg_digitize.training.evaluate import EvaluationReport
    from ecg_digitize.training.evaluate import evaluate as score
    from ecg_digitize.types import Recording

    if arguments.measure:
        neurokit()  # what is missing is said before the first page is read
    models = models_of(arguments)

    def digitize_file(path: Path, fs_hz: float) -> Recording:
        return digitize_page(
            read_page(path),
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
        write_json(arguments.json, report.to_json())

    report = score(
        arguments.paired_csv,
        digitize_file,
        explain=arguments.explain,
        measured=arguments.measure,
        progress=keep,
    )
    print(report.to_text(surveyed=arguments.survey), end="")
    return PAGES_FAILED if report.failures else DONE


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
        with bar(arguments.pages) as step:
            snr_db = validating.round_trip_db(
                source, windows=arguments.pages, progress=lambda value: step()
            )
        mean_db = sum(snr_db) / len(snr_db)
        print(f"round trip: {len(snr_db)} windows, mean {mean_db:.2f} dB, min {min(snr_db):.2f} dB")
        write_json(arguments.json, {"round_trip_db": snr_db, "mean_db": mean_db})
        return DONE
    unused = ("stage0", "stage1") if arguments.true_geometry else ()
    models = models_of(arguments, unused=unused)
    with bar(arguments.pages * max(1, len(kinds))) as step:
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
    write_json(arguments.json, report.to_json())
    return PAGES_FAILED if any(check.error for check in report.checks) else DONE


def _validate_sheets(arguments: argparse.Namespace, source: "SignalSource") -> int:
    from ecg_digitize.training.validate_sheets import fitted, validate_sheets

    models = models_of(arguments)
    with bar(arguments.pages) as step:
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
    write_json(arguments.json, report.to_json())
    return DONE


def bench(arguments: argparse.Namespace) -> int:
    """Time one picture, or the making of training samples."""
    from ecg_digitize.engine.seats import usable_cores
    from ecg_digitize.runtime import limit_threads
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training.bench import bench as measure
    from ecg_digitize.training.bench import bench_feed

    if arguments.members:
        from ecg_digitize.stage2.members import MEMBERS
        from ecg_digitize.training import member_cost

        costs = []
        with bar(len(MEMBERS)) as step:
            for name in MEMBERS:
                costs.append(member_cost.cost_of(name))
                step()
        told = member_cost.to_text(costs, records=arguments.records, tflops=arguments.tflops)
        print(told, end="")
        write_json(arguments.json, [vars(cost) for cost in costs])
        return DONE
    if arguments.feed is not None:
        source = open_source(arguments.source)
        workers, samples = arguments.workers or 2, arguments.samples
        with bar(workers + samples) as step:
            feed = bench_feed(
                arguments.feed, source, samples=samples, workers=workers, progress=step
            )
        print(feed.to_text(), end="")
        write_json(arguments.json, feed.to_json())
        return DONE
    limit_threads(arguments.threads)
    image = arguments.image or sample_page()
    models = models_of(arguments)
    with bar((arguments.repeat + 1) * (1 + (arguments.workers or usable_cores()))) as step:
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
    write_json(arguments.json, report.to_json())
    most = arguments.floors_at_most
    if most is not None and report.page_floors > most:
        print(f"a page takes {report.page_floors:.0f} floors, allowed {most:.0f}", file=sys.stderr)
        return PAGES_FAILED
    return DONE
