"""The tables of `compare diagnoses`: how good, and how many decisions flip on digitized pages."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from torch import nn

from ecg_digitize.diagnoses.classes import Labelled
from ecg_digitize.diagnoses.classify import NOTICE
from ecg_digitize.diagnoses.inputs import input_of
from ecg_digitize.diagnoses.judge import DecidedPage, Flips, Judged, flips_of, flips_to_text, judge
from ecg_digitize.diagnoses.pictures.net import picture_input
from ecg_digitize.diagnoses.pictures.training import MEGAPIXELS
from ecg_digitize.diagnoses.records import OneRecord, records_of, targets_array
from ecg_digitize.diagnoses.signals.net import SignalNet
from ecg_digitize.diagnoses.thresholds import (
    ScoredRecords,
    probabilities_of,
    seen_as_printed,
    thresholds_of,
)
from ecg_digitize.failures import attempt
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.inputs import read_page
from ecg_digitize.models import Models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.signals import printed_recording
from ecg_digitize.synth.dataset import KINDS, make_page
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.pairs import Pair, truths_of
from ecg_digitize.training.validate import pages_of_each_kind
from ecg_digitize.types import Digitization, Failure, Mask, Page, Recording

_PTBXL: Final = re.compile(r"(?<!\d)(\d{5})_[hl]r(?![A-Za-z0-9])")
"""A PTB-XL record in the name of a file: its copy at 500 Hz, or that at 100 Hz."""


@dataclass(frozen=True)
class DiagnosesCompared:
    """How good the decisions of a network of signals are.

    Attributes:
        judged: On records kept for judging, as their pages would show them.
        synthetic: Flips on synthetic pages of such records, by kind.
        paired: Flips on pictures with truth, by kind; empty if none were given.
        left_out: Those of these pictures whose record the network learned from.
    """

    judged: Judged
    synthetic: tuple[Flips, ...]
    paired: tuple[Flips, ...]
    left_out: tuple[str, ...]

    def to_text(self) -> str:
        """Return the tables to read."""
        parts = [
            f"signals as printed, records kept for judging ({NOTICE})\n{self.judged.to_text()}",
            f"synthetic pages, read against true\n{flips_to_text(self.synthetic)}",
        ]
        if self.paired:
            parts.append(f"pictures with truth, read against true\n{flips_to_text(self.paired)}")
        if self.left_out:
            parts.append(
                "left out, since the network learned from these records: "
                f"{', '.join(self.left_out)}\n"
            )
        return "\n".join(parts)


def compare_diagnoses(
    network: SignalNet,
    source: SignalSource,
    labels: Mapping[str, Labelled],
    models: Models,
    *,
    pages: int,
    seed: int,
    pairs: tuple[Pair, ...] = (),
    progress: Callable[[], None] | None = None,
) -> DiagnosesCompared:
    """Judge a network of signals, and its decisions on digitized pages.

    Args:
        network: With its thresholds.
        source: Records kept for judging.
        labels: Of them, and of those that were learned from.
        models: What reads the pages.
        pages: Synthetic ones of each kind.
        seed: Their family.
        pairs: Pictures with truth.
        progress: Called after each page.
    """
    records = records_of(source, labels, validation=True)
    judged = judge(seen_as_printed(network, source, records), network.thresholds)
    step = progress or (lambda: None)
    kept, left_out = without_learned(pairs, labels)
    synthetic = _synthetic(network, source, models, pages=pages, seed=seed)
    paired = _paired(network, models, kept)

    def counted(decided: Iterator[DecidedPage]) -> tuple[Flips, ...]:
        pages = []
        for page in decided:
            pages.append(page)
            step()
        return flips_of(pages)

    return DiagnosesCompared(judged, counted(synthetic), counted(paired) if kept else (), left_out)


def n_pages(pages: int, pairs: tuple[Pair, ...], labels: Mapping[str, Labelled]) -> int:
    """Return how many pages ``compare_diagnoses`` reads."""
    return pages * len(KINDS) + len(without_learned(pairs, labels)[0])


def without_learned(
    pairs: tuple[Pair, ...], labels: Mapping[str, Labelled]
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Leave out pictures of records that may have been learned from; and name those."""
    learned = {pair.image: _is_learned(pair, labels) for pair in pairs}
    return (
        tuple(pair for pair in pairs if not learned[pair.image]),
        tuple(pair.image for pair in pairs if learned[pair.image]),
    )


def _is_learned(pair: Pair, labels: Mapping[str, Labelled]) -> bool:
    named = _PTBXL.search(Path(pair.image).name)
    known = labels.get(f"{named[1]}_hr") if named else None
    return known is not None and not known.validation


def _decisions(network: SignalNet, recording: Recording) -> Mask:
    (probabilities,) = probabilities_of(network, input_of(recording)[None])
    return np.asarray(probabilities >= np.array(network.thresholds), np.bool_)


def _decided(
    network: SignalNet, kind: str, truth: Recording, read: Digitization | Failure
) -> DecidedPage:
    decided = None if isinstance(read, Failure) else _decisions(network, read.recording)
    return DecidedPage(kind, _decisions(network, truth), decided)


def _synthetic(
    network: SignalNet, source: SignalSource, models: Models, *, pages: int, seed: int
) -> Iterator[DecidedPage]:
    for index, page in pages_of_each_kind(source, pages=pages, seed=seed):
        truth = printed_recording(page.signals_mv, fs_hz=TRACE_FS_HZ, layout=page.style.layout)
        picture = Page(page.image, f"{page.kind} {index}")
        read = attempt(partial(digitize_page, picture, models), picture.source)
        yield _decided(network, page.kind, truth, read)


def _paired(network: SignalNet, models: Models, pairs: tuple[Pair, ...]) -> Iterator[DecidedPage]:
    def read(path: Path, fs_hz: float) -> Digitization:
        return digitize_page(read_page(path), models, fs_hz=fs_hz)

    truths = truths_of(pairs, lambda path, fs_hz: read(path, fs_hz).recording)
    for pair, truth in zip(pairs, truths, strict=True):
        found = attempt(partial(read, pair.image_path, pair.fs_hz), pair.image)
        yield _decided(network, pair.kind, truth, found)


def compare_pictures(
    network: nn.Module,
    learned: SignalSource,
    kept: SignalSource,
    labels: Mapping[str, Labelled],
    *,
    pages: int,
    seed: int,
    progress: Callable[[], None] | None = None,
) -> Judged:
    """Judge a network of pictures on synthetic pages, rectified by their true geometry.

    Args:
        network: Of pictures.
        learned: Records that were learned from: pages of these give the thresholds.
        kept: Records kept for judging.
        labels: Of both.
        pages: Of each of the two; records are printed in turn.
        seed: Family of the pages.
        progress: Called after each page.
    """

    def seen(source: SignalSource, *, validation: bool) -> ScoredRecords:
        records = records_of(source, labels, validation=validation)
        order = np.random.default_rng(seed).permutation(len(records))
        drawn = tuple(records[int(order[k % len(records)])] for k in range(pages))
        parts = []
        for index, record in enumerate(drawn):
            one = OneRecord(source, record)
            page = make_page(
                one, seed=seed, index=index, vary_signals=False, max_megapixels=MEGAPIXELS
            )
            parts.append(probabilities_of(network, picture_input(page.image, page.grid)[None])[0])
            if progress is not None:
                progress()
        return ScoredRecords(np.stack(parts), targets_array(drawn))

    thresholds = thresholds_of(seen(learned, validation=False))
    return judge(seen(kept, validation=True), thresholds)
