"""What was tried in place of what ships, measured side by side: decoders and looks."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import cv2
import numpy as np

from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import COMPETITION
from ecg_digitize.metrics import ImageScore
from ecg_digitize.models import PRESETS, Models
from ecg_digitize.signals import to_recording
from ecg_digitize.stage2.decode import decode
from ecg_digitize.stage2.ridges import DEFAULTS, DecodeOptions
from ecg_digitize.stages import find_traces, refine_trace
from ecg_digitize.synth.dataset import KINDS, SyntheticPage
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.training.validate import (
    VALIDATION_SEED,
    page_score,
    pages_of_each_kind,
    rectified_by_labels,
)
from ecg_digitize.types import Float32, Float64, Image, RectifiedPage, Trace, TraceMap


@dataclass(frozen=True)
class Comparison:
    """Mean figures in dB: a row a way of doing it, a column a kind of page or a rate."""

    subject: str
    columns: tuple[str, ...]
    rows: dict[str, Float64]  # name -> (len(columns),) dB

    def to_text(self) -> str:
        """Return the table to read."""
        width = max(map(len, (*self.rows, self.subject)))
        apart = [max(10, len(name) + 2) for name in self.columns]
        names = zip(self.columns, apart, strict=True)
        lines = [f"{self.subject:<{width}}" + "".join(f"{name:>{n}}" for name, n in names)]
        for name, values_db in self.rows.items():
            values = zip(values_db, apart, strict=True)
            lines.append(f"{name:<{width}}" + "".join(f"{value:{n}.2f}" for value, n in values))
        return "\n".join(lines) + "\n"


# --- decoders -------------------------------------------------------------------------------------


def _certain(trace_map: TraceMap, bins: Float64) -> Trace:
    y_px = bins * trace_map.px_per_bin + trace_map.first_px
    return Trace(y_px.astype(np.float32), np.ones(COMPETITION.shape, np.float32))


def _around_highest(trace_map: TraceMap, reach: int) -> tuple[Float64, Float64]:
    """Return the (4, 5000) highest bin and the (4, 2 reach + 1, 5000) probabilities round it."""
    p = trace_map.probability
    highest = p.argmax(axis=1).clip(reach, p.shape[1] - 1 - reach)
    index = highest[:, None] + np.arange(-reach, reach + 1)[None, :, None]
    return highest.astype(np.float64), np.take_along_axis(p, index, axis=1).astype(np.float64)


def highest_bin(trace_map: TraceMap) -> Trace:
    """The middle of each column's most probable bin."""
    return _certain(trace_map, _around_highest(trace_map, 0)[0])


def parabola(trace_map: TraceMap) -> Trace:
    """The vertex of the parabola through the logarithms of the highest bin and its neighbours."""
    highest, around = _around_highest(trace_map, 1)
    below, at, above = np.log(around + 1e-12).swapaxes(0, 1)
    bend = below - 2 * at + above
    vertex = np.divide(below - above, 2 * bend, out=np.zeros_like(bend), where=bend < -1e-9)
    return _certain(trace_map, highest + vertex.clip(-1, 1))


def soft_argmax(trace_map: TraceMap, *, reach: int) -> Trace:
    """The mean of a fixed window round the highest bin."""
    highest, around = _around_highest(trace_map, reach)
    offset = np.arange(-reach, reach + 1)[None, :, None]
    return _certain(trace_map, highest + (around * offset).sum(1) / (around.sum(1) + 1e-12))


def centroid(trace_map: TraceMap) -> Trace:
    """The mean of each whole column."""
    p = trace_map.probability.astype(np.float64)
    bins = np.arange(p.shape[1])[None, :, None]
    return _certain(trace_map, (p * bins).sum(1) / (p.sum(1) + 1e-12))


def _path(options: DecodeOptions) -> Callable[[TraceMap, Image | None], Trace]:
    return lambda trace_map, image: decode(trace_map, image, options=options)


_NO_GAPS: Final = DEFAULTS._replace(foreign_cost=0, blank_cost=0, max_gap=0)
DECODERS: Final[Mapping[str, Callable[[TraceMap, Image | None], Trace]]] = {
    "highest bin": lambda trace_map, _: highest_bin(trace_map),
    "parabola through it": lambda trace_map, _: parabola(trace_map),
    "soft-argmax of 9 bins": lambda trace_map, _: soft_argmax(trace_map, reach=4),
    "centroid of the column": lambda trace_map, _: centroid(trace_map),
    "path at no price": _path(_NO_GAPS._replace(jump_cost=0)),
    "path across blank paper": _path(_NO_GAPS),
    "path through any ink": _path(DEFAULTS._replace(foreign_cost=0)),
    "best path (ships)": decode,
}


def compare_decoders(
    source: SignalSource,
    models: Models,
    *,
    pages: int,
    seed: int = VALIDATION_SEED,
    progress: Callable[[], None] | None = None,
) -> Comparison:
    """Decode the same maps of true geometry in every way; mean capped dB, not refined.

    Args:
        source: Validation signals.
        models: With stage 2.
        pages: Of each kind.
        seed: Family of pages.
        progress: Called after each page.
    """
    scores = Scores()
    for _, page in pages_of_each_kind(source, pages=pages, seed=seed):
        rectified = rectified_by_labels(page)
        trace_map = find_traces(rectified, models)
        for name, decoder in DECODERS.items():
            scores.add(name, page, decoder(trace_map, rectified.image))
        if progress is not None:
            progress()
    return scores.comparison("decoders")


# --- looks: the same page, seen otherwise ---------------------------------------------------------


def _moved(page: RectifiedPage, models: Models, right_px: int) -> Float32:
    moved = replace(page, image=np.roll(page.image, right_px, axis=1))
    p = find_traces(moved, models).probability
    # The last columns went out of sight; the nearest one's distribution stands for them.
    return np.concatenate([p[:, :, right_px:], *[p[:, :, -1:]] * right_px], axis=2)


def _gamma(page: RectifiedPage, models: Models, gamma: float) -> Float32:
    levels = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return _moved(replace(page, image=np.asarray(cv2.LUT(page.image, levels))), models, 0)


def _mirrored(page: RectifiedPage, models: Models) -> Float32:
    # The trace columns lie in the middle of the page.
    backwards = replace(page, image=np.ascontiguousarray(page.image[:, ::-1]))
    return np.ascontiguousarray(_moved(backwards, models, 0)[:, :, ::-1])


def _refined(page: RectifiedPage, trace_map: TraceMap, models: Models) -> Trace:
    return refine_trace(page, trace_map, decode(trace_map, page.image), models)


def compare_looks(
    source: SignalSource,
    models: Models,
    *,
    pages: int,
    seed: int = VALIDATION_SEED,
    progress: Callable[[], None] | None = None,
) -> Comparison:
    """Look at the same pages from several sides and join what was seen; mean capped dB.

    Args:
        source: Validation signals.
        models: With stage 2 and the refinement.
        pages: Of each kind, rectified by their true geometry.
        seed: Family of pages.
        progress: Called after each page.
    """
    fast, best = (replace(models, preset=PRESETS[name]) for name in ("fast", "best"))
    scores = Scores()
    for _, page in pages_of_each_kind(source, pages=pages, seed=seed):
        rectified = rectified_by_labels(page)
        once = find_traces(rectified, models)
        right, *further = (_moved(rectified, models, right_px) for right_px in (2, 5, 11))
        ways = {
            "best: refined on turned bands too": [],
            "page 2 px to the right too": [right],
            "page 2, 5 and 11 px to the right too": [right, *further],
            "page with gamma 0.8 and 1.25 too": [_gamma(rectified, models, g) for g in (0.8, 1.25)],
            "page mirrored too": [_mirrored(rectified, models)],
        }
        traces = {"fast: bands as they lie": _refined(rectified, once, fast)}
        for name, others in ways.items():
            joined = np.mean([once.probability, *others], axis=0)
            traces[name] = _refined(rectified, replace(once, probability=joined), best)
        alone = traces["best: refined on turned bands too"]
        beside = _refined(rectified, replace(once, probability=right), best)
        line_px = np.mean([alone.y_px, beside.y_px], axis=0)
        traces["page 2 px to the right too, lines averaged"] = replace(alone, y_px=line_px)
        for name, trace in traces.items():
            scores.add(name, page, trace)
        if progress is not None:
            progress()
    return scores.comparison("looks")


# --- what they share ------------------------------------------------------------------------------


@dataclass
class Scores:
    """Capped dB by way and kind of page."""

    _by_way: dict[str, dict[str, list[float]]] = field(default_factory=dict, init=False)

    def add(self, way: str, page: SyntheticPage, trace: Trace) -> None:
        """Score what a way makes of a page."""
        score = page_score(page, to_recording(trace, fs_hz=TRACE_FS_HZ).signals_mv)
        self.add_score(way, page.kind, score)

    def add_score(self, way: str, kind: str, score: ImageScore) -> None:
        """Add what a way makes of a page of a kind."""
        self._by_way.setdefault(way, {}).setdefault(kind, []).append(score.snr_capped_db)

    def comparison(self, subject: str, *, kinds: Iterable[str] | None = None) -> Comparison:
        """Return the means, the last column being that of all kinds.

        Args:
            subject: What is compared.
            kinds: Those that were added, in the order of the columns; None: all of KINDS.
        """
        kinds = tuple(KINDS if kinds is None else kinds)
        rows = {}
        for way, by_kind in self._by_way.items():
            means = [float(np.mean(by_kind[kind])) for kind in kinds]
            rows[way] = np.array([*means, np.mean(means)])
        return Comparison(subject, (*kinds, "all"), rows)
