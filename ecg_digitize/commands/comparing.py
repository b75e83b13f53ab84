"""What ships against what was tried in its place: the command `compare`, a function a subject."""

import argparse
from collections.abc import Callable, Mapping
from typing import Final

from ecg_digitize.commands import diagnosing
from ecg_digitize.commands.shared import DONE, bar, models_of, write_json
from ecg_digitize.errors import InputError

TAKEN_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "json": ("systems",),
    "kind": ("severity",),
    "labels": ("diagnoses",),
    "paired": ("diagnoses", "geometry", "systems"),
    "picture": ("severity",),
    "pictures": ("sheets",),
    "printed": ("sheets",),
    "trained": ("diagnoses", "overlap", "systems"),
}
"""Options that not all subjects take, and those that do."""


def compare(arguments: argparse.Namespace) -> int:
    """Measure what ships against what was tried in its place."""
    subject = arguments.subject
    for option, subjects in TAKEN_BY.items():
        if getattr(arguments, option) and subject not in subjects:
            expected = " or ".join(subjects)
            raise InputError(f"--{option}: expected with {expected}, but got {subject}")
    if arguments.trained is not None and not arguments.trained.is_dir():
        raise InputError(f"--trained: there is no folder {arguments.trained}")
    return SUBJECTS[subject](arguments)


def _on_pages(arguments: argparse.Namespace) -> int:
    """Compare ways of one step on synthetic pages of each kind."""
    from ecg_digitize.synth.dataset import KINDS
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training.compare import compare_decoders, compare_looks
    from ecg_digitize.training.compare_geometry import compare_geometry

    compare_pages, unused = {
        "decoders": (compare_decoders, ("stage0", "stage1", "refine")),
        "geometry": (compare_geometry, ()),
        "looks": (compare_looks, ("stage0", "stage1")),
    }[arguments.subject]
    source = open_source(arguments.source, validation=True)
    models = models_of(arguments, unused=unused)
    with bar(arguments.pages * len(KINDS)) as step:
        table = compare_pages(
            source, models, pages=arguments.pages, seed=arguments.seed, progress=step
        )
    print(table.to_text(), end="")
    return DONE


def _geometry(arguments: argparse.Namespace) -> int:
    from ecg_digitize.training.compare_geometry import compare_geometry_of
    from ecg_digitize.training.pairs import read_pairs

    if arguments.paired is None:
        return _on_pages(arguments)
    if len(arguments.paired) > 1:
        raise InputError("--paired: geometry takes one table")
    models, (paired,) = models_of(arguments), arguments.paired
    with bar(len(read_pairs(paired))) as step:
        table = compare_geometry_of(paired, models, progress=step)
    print(table.to_text(), end="")
    return DONE


def _resampling(arguments: argparse.Namespace) -> int:
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training.compare_resampling import compare_resampling

    source = open_source(arguments.source, validation=True)
    with bar(arguments.pages) as step:
        table = compare_resampling(source, windows=arguments.pages, progress=step)
    print(table.to_text(), end="")
    return DONE


def _overlap(arguments: argparse.Namespace) -> int:
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training.compare_overlap import compare_overlap

    source = open_source(arguments.source, validation=True)
    models = models_of(arguments)
    with bar(2 * arguments.pages) as step:
        table = compare_overlap(
            source,
            models,
            crops=arguments.pages,
            seed=arguments.seed,
            trained=arguments.trained,
            progress=step,
        )
    print(table.to_text(), end="")
    return DONE


def _sheets(arguments: argparse.Namespace) -> int:
    from ecg_digitize.inputs import read_page
    from ecg_digitize.pipeline import digitize_page
    from ecg_digitize.training.compare_sheets import compare_sheets, read_printed

    if arguments.printed is None or arguments.pictures is None:
        raise InputError("compare sheets: expected --printed CSV and --pictures DIR")
    models = models_of(arguments)
    with bar(len(read_printed(arguments.printed))) as step:
        compared = compare_sheets(
            arguments.printed,
            arguments.pictures,
            lambda path: digitize_page(read_page(path), models).recording,
            progress=step,
        )
    print(compared.to_text(), end="")
    return DONE


def _systems(arguments: argparse.Namespace) -> int:
    from ecg_digitize.manifest import read_manifest
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training.compare_systems import chosen_of, compare_systems
    from ecg_digitize.training.system_ways import notes_of, ways_of

    if arguments.paired is None:
        raise InputError("compare systems: expected --paired CSV, tables of pictures with truth")
    models = models_of(arguments)
    manifest = read_manifest(weights_dir=arguments.weights)
    ways, untrained = ways_of(models, manifest, trained=arguments.trained)
    chosen = chosen_of(arguments.paired, pages=arguments.pages)
    notes = notes_of(
        open_source(arguments.source, validation=True),
        models,
        trained=arguments.trained,
        pages=arguments.pages,
        seed=arguments.seed,
    )
    with bar(len(ways) * sum(map(len, chosen.values()))) as step:
        compared = compare_systems(chosen, models, ways, untrained, notes=notes, progress=step)
    print(compared.to_text(), end="")
    write_json(arguments.json, compared.to_json())
    return DONE


def _severity(arguments: argparse.Namespace) -> int:
    from ecg_digitize.pipeline import digitize_page
    from ecg_digitize.synth.dataset import KINDS
    from ecg_digitize.synth.signals import open_source
    from ecg_digitize.training import compare_severity as severity

    if arguments.picture is not None:
        severity.new_figure()  # what is missing is said before the first page is read
    kinds = arguments.kind or list(KINDS)
    source = open_source(arguments.source, validation=True)
    models = models_of(arguments)
    with bar(arguments.pages * len(kinds) * len(severity.SEVERITIES)) as step:
        compared = severity.compare_severity(
            source,
            lambda page: digitize_page(page, models).recording,
            pages=arguments.pages,
            kinds=kinds,
            seed=arguments.seed,
            progress=step,
        )
    print(compared.to_text(), end="")
    if arguments.picture is not None:
        compared.draw(arguments.picture)
    return DONE


SUBJECTS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "decoders": _on_pages,
    "diagnoses": diagnosing.compare,
    "geometry": _geometry,
    "looks": _on_pages,
    "overlap": _overlap,
    "resampling": _resampling,
    "severity": _severity,
    "sheets": _sheets,
    "systems": _systems,
}
"""What can be compared; their imports are heavy, so each has its own."""
