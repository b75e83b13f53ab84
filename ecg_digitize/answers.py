"""One page of test.csv -> the values of its rows; what a worker does for a submission."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from ecg_digitize.competition import PageRequest, fitting_lengths
from ecg_digitize.engine.seats import Seat
from ecg_digitize.engine.spare import WithSpare, load_on
from ecg_digitize.failures import attempt
from ecg_digitize.files import sha256_of
from ecg_digitize.image import read_image
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.models import PRESETS, Models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.runtime import Clock
from ecg_digitize.types import Digitization, Failure, Float32, Page, Recording

FALLBACK_MV: Final = 0.0
"""The metric removes each lead's offset: any constant scores the same 0.16 dB, and only a wrong
shape can score less."""


@dataclass(frozen=True)
class Question:
    """A page that is to be read."""

    request: PageRequest
    source: Path
    preset: str  # a key of models.PRESETS


@dataclass(frozen=True)
class Answer:
    """What a page's rows get."""

    values_mv: Mapping[str, Float32]  # lead -> (number_of_rows,), finite
    n_filled: int  # samples that had to be interpolated
    preset: str
    timings_s: Mapping[str, float]  # stage -> seconds
    picture_sha256: str


Ask = Callable[[Question], Answer | Failure]


@dataclass(frozen=True)
class Answering:
    """Prepares a worker, see ``engine.workers.Make``."""

    weights_dir: Path | None = None

    def __call__(self, seat: Seat) -> Ask:
        """Load the networks and return what answers a question.

        Raises:
            WeightsError: If the weights are missing or altered.
        """
        on_device = functools.partial(load_on, weights_dir=self.weights_dir)
        spare = WithSpare(on_device(seat.device), functools.partial(on_device, "cpu"))

        def digitize(page: Page, question: Question) -> Digitization:
            return spare(lambda models: digitize_asked(page, question, models))

        return functools.partial(answer, digitize=digitize)


def digitize_asked(page: Page, question: Question, models: Models) -> Digitization:
    """Digitize a page of the competition's sheet as it is asked for.

    Raises:
        StageError: If a stage cannot carry the page further.
    """
    return digitize_page(
        page,
        replace(models, preset=PRESETS[question.preset]),
        fs_hz=question.request.fs_hz,
        lengths=fitting_lengths(question.request),
        layout=COMPETITION,
        rhythm=COMPETITION.strip_lead,
    )


def answer(
    question: Question, *, digitize: Callable[[Page, Question], Digitization]
) -> Answer | Failure:
    """Read a page's picture, digitize it, and cut out what is asked; what goes wrong is told."""

    def work() -> Answer:
        clock = Clock()
        page = read_image(question.source)
        picture_sha256 = sha256_of(question.source)
        clock.lap("read")
        result = digitize(page, question)
        cut = {
            lead: lead_values(result.recording, lead, n_samples)
            for lead, n_samples in question.request.lengths.items()
        }
        return Answer(
            values_mv={lead: values for lead, (values, _) in cut.items()},
            n_filled=sum(n_filled for _, n_filled in cut.values()),
            preset=question.preset,
            timings_s={**clock.laps_s, **result.timings_s},
            picture_sha256=picture_sha256,
        )

    return attempt(work, str(question.source))


def lead_values(recording: Recording, lead: str, n_samples: int) -> tuple[Float32, int]:
    """Cut one lead's printed window out of a recording, finite and of the wanted length.

    Args:
        recording: NaN outside the windows.
        lead: One of LEADS.
        n_samples: Wanted; a window that is shorter is continued with its last value.

    Returns:
        (n_samples,) float32 mV, and how many of them had to be filled in.
    """
    signal = recording.signals_mv[LEADS.index(lead)]
    start, _ = COMPETITION.window(lead, signal.size)
    values = np.full(n_samples, np.nan, dtype=np.float32)
    window = signal[start : start + n_samples]
    values[: window.size] = window
    bad = ~np.isfinite(values)
    n_bad = int(bad.sum())
    if n_bad == n_samples:
        values[:] = FALLBACK_MV
    elif n_bad:
        values[bad] = np.interp(np.flatnonzero(bad), np.flatnonzero(~bad), values[~bad])
    return values, n_bad
