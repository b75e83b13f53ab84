"""The commands that make pages and weights."""

import argparse
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_digitize.commands.shared import DONE, bar
from ecg_digitize.errors import InputError

if TYPE_CHECKING:
    from ecg_digitize.training.loop import TrainOptions


def synth(arguments: argparse.Namespace) -> int:
    """Write synthetic pages, a contact sheet, or the shipped samples."""
    from ecg_digitize.synth.folder import write_pages
    from ecg_digitize.synth.samples import SAMPLES, write_samples
    from ecg_digitize.synth.signals import open_source

    if not (arguments.out or arguments.contact_sheet or arguments.samples):
        raise InputError("synth: nothing to write; give -o DIR, --contact-sheet or --samples")
    if arguments.samples:
        with bar(len(SAMPLES)) as step:
            n_bytes = write_samples(arguments.samples, progress=lambda sample: step())
        print(f"{arguments.samples}: {n_bytes} bytes", file=sys.stderr)
    if not (arguments.out or arguments.contact_sheet):
        return DONE
    source = open_source(arguments.source)
    started = time.perf_counter()
    with bar(arguments.count) as step:
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
    from ecg_digitize.systems.registry import TRAINABLE
    from ecg_digitize.training.export import save_half
    from ecg_digitize.training.recipes import OWN, RECIPES
    from ecg_digitize.training.run import architecture_of, train_stage

    stage = arguments.stage
    if arguments.recipe != OWN and stage != "stage2":
        raise InputError(f"--recipe {arguments.recipe}: expected stage2, but got {stage}")
    recipe, source = RECIPES[arguments.recipe], open_source(arguments.source)
    options = replace(
        _train_options(arguments),
        batch=arguments.batch or recipe.batch,
        learning_rate=arguments.learning_rate or recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        max_steps=arguments.max_steps or recipe.steps(len(source)),
    )
    loss = arguments.loss or (recipe.loss if stage == "stage2" else None)
    architecture = architecture_of(stage, member=arguments.member, backbone=arguments.backbone)
    network, figures = train_stage(
        stage,
        source,
        options,
        architecture=architecture,
        encoder=arguments.encoder,
        initial=arguments.initial,
        loss=loss,
        width_px=recipe.width_px,
        labels=arguments.labels,
        digitized=arguments.digitized,
    )
    path = arguments.out / f"{stage}.safetensors"
    save_half(network, path, figures=figures)
    if stage in TRAINABLE:
        told = f"{figures['steps']:.0f} steps, loss {figures['loss']:.4f}"
        print(f"{path}: {told}; name its folder's parent in --trained")
        return DONE
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


def _train_options(arguments: argparse.Namespace) -> "TrainOptions":
    from ecg_digitize.runtime import choose_device
    from ecg_digitize.training.loop import TrainOptions

    return TrainOptions(
        out=arguments.out,
        minutes=arguments.minutes,
        workers=arguments.workers,
        seed=arguments.seed,
        max_steps=arguments.max_steps,
        device=choose_device(arguments.device),
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
    from ecg_digitize.commands import diagnosing
    from ecg_digitize.training import export as exporting
    from ecg_digitize.training.run import architecture_of

    if arguments.stage == "diagnose":
        return diagnosing.ship(arguments)
    if arguments.beside and (arguments.stage != "stage2" or arguments.member is None):
        raise InputError("--beside: expected stage2 and a --member, which ships beside it")
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
        member=arguments.member if arguments.beside else None,
        weights_dir=arguments.weights,
        manifest=arguments.manifest,
    )
    print(f"{entry.file}: {entry.bytes} bytes, SHA-256 {entry.sha256}")
    return DONE


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
