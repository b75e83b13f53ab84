"""How good the stages are on fresh synthetic pages, drawn from signals that training never saw."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from ecg_digitize import geometry
from ecg_digitize.failures import attempt
from ecg_digitize.frames import RECT, SQUARE_MM, TRACE_FS_HZ, crossings_mm
from ecg_digitize.many import ordered_map
from ecg_digitize.metrics import ImageScore, competition_score, image_snr, of_length
from ecg_digitize.models import Models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.signals import printed_recording, to_recording
from ecg_digitize.stage1.rectify import rectify
from ecg_digitize.stage1.rows import levelled
from ecg_digitize.stage2.decode import decode, true_trace_map
from ecg_digitize.stages import read_rectified
from ecg_digitize.synth.dataset import KINDS, SyntheticPage, make_page
from ecg_digitize.synth.page import default_style, draw_page
from ecg_digitize.synth.signals import SignalSource, to_twelve
from ecg_digitize.types import Digitization, Failure, Float32, Mask, Page, RectifiedPage

VALIDATION_SEED: Final = 990_001
"""A family of pages that no training uses; `TrainOptions.seed` counts from 1."""

CONFIDENCE_STEPS: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)

POOR_DB: Final = 8.0
"""A page below it is lost: its error is two fifths of its signal."""


@dataclass(frozen=True)
class PageCheck:
    """What one page gave."""

    index: int
    kind: str
    turns_right: bool | None  # None: stage 0 was not asked
    grid_errors_px: Float32 | None  # (n,) of the crossings in the picture, px; None: no grid
    grid_confidence: Float32 | None  # (n,) of the same
    slipped: bool  # by whole squares, which the errors leave out
    score: ImageScore  # a failed page scores as twelve leads of zeros
    error: str | None


@dataclass(frozen=True)
class KindSummary:
    """Figures of the pages of one kind."""

    kind: str
    n_pages: int
    n_failed: int
    n_turned_wrong: int
    n_without_grid: int
    n_slipped: int
    n_poor: int  # below POOR_DB
    grid_median_px: float  # over all crossings inside the pictures, px of the picture
    grid_p95_px: float
    snr_db: float  # mean without cap
    snr_median_db: float
    snr_capped_db: float  # mean, each page at most what the competition counts
    score_db: float  # the competition's

    def to_line(self) -> str:
        """Return one line of the table."""
        return (
            f"{self.kind:<9}{self.n_pages:6d}{self.n_failed:8d}{self.n_turned_wrong:8d}"
            f"{self.n_without_grid:9d}{self.n_slipped:7d}{self.n_poor:7d}"
            f"{self.grid_median_px:9.2f}{self.grid_p95_px:8.2f}"
            f"{self.snr_db:9.2f}{self.snr_median_db:9.2f}"
            f"{self.snr_capped_db:8.2f}{self.score_db:8.2f}"
        )


@dataclass(frozen=True)
class ValidationReport:
    """Every page's check, and the means over them."""

    checks: tuple[PageCheck, ...]
    true_geometry: bool

    def summaries(self) -> list[KindSummary]:
        """Return one summary a kind, in the order of KINDS, and "all"."""
        seen = {check.kind for check in self.checks}
        kinds = [kind for kind in KINDS if kind in seen]
        parts = [(kind, [c for c in self.checks if c.kind == kind]) for kind in kinds]
        return [_summarize(name, members) for name, members in [*parts, ("all", self.checks)]]

    def to_text(self) -> str:
        """Return the table to read; without stages 0 and 1, their columns say nothing."""
        lines = [
            f"{'kind':<9}{'pages':>6}{'failed':>8}{'turned':>8}{'no grid':>9}"
            f"{'slips':>7}{'<8 dB':>7}{'grid px':>9}{'p95 px':>8}{'SNR dB':>9}{'median':>9}"
            f"{'capped':>8}{'score':>8}",
            *(summary.to_line() for summary in self.summaries()),
            *(f"page {c.index} {c.kind}: {c.error}" for c in self.checks if c.error),
            *self._confidence_lines(),
        ]
        return "\n".join(lines) + "\n"

    def _confidence_lines(self) -> list[str]:
        """Say how far crossings of each confidence are off."""
        found = [c for c in self.checks if c.grid_errors_px is not None and c.grid_errors_px.size]
        if not found:
            return []
        error_px = np.concatenate([c.grid_errors_px for c in found])
        confidence = np.concatenate([c.grid_confidence for c in found])
        lines = ["", f"{'confidence':<12}{'crossings':>10}{'grid px':>9}{'p95 px':>8}"]
        for low, high in itertools.pairwise(CONFIDENCE_STEPS):
            off_px = error_px[(confidence >= low) & (confidence <= high)]
            if off_px.size:
                median, p95 = np.percentile(off_px, [50, 95])
                lines.append(f"{low:.1f} to {high:.1f}  {off_px.size:10d}{median:9.2f}{p95:8.2f}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the report as a dict for `json.dumps`; NaN becomes None."""
        pages = []
        for check in self.checks:
            errors = check.grid_errors_px
            median = None if errors is None or not errors.size else float(np.median(errors))
            pages.append(
                {
                    "index": check.index,
                    "kind": check.kind,
                    "turns_right": check.turns_right,
                    "grid_median_px": median,
                    "slipped": check.slipped,
                    "snr_db": check.score.snr_db,
                    "error": check.error,
                }
            )
        kinds = [
            {k: None if v != v else v for k, v in vars(summary).items()}
            for summary in self.summaries()
        ]
        return {"true_geometry": self.true_geometry, "kinds": kinds, "pages": pages}


def validate_pages(
    source: SignalSource,
    models: Models,
    *,
    pages: int,
    each_kind: bool = False,
    kinds: Sequence[str] = tuple(KINDS),
    seed: int = VALIDATION_SEED,
    other_machines: bool = False,
    laser_prints: bool = False,
    max_megapixels: float = 5.0,
    severity: float = 1.0,
    true_geometry: bool = False,
    passes: int | None = None,
    progress: Callable[[PageCheck], None] | None = None,
) -> ValidationReport:
    """Digitize fresh synthetic pages of all kinds and compare with what is known of them.

    Args:
        source: Validation signals.
        models: See `models.load_models`.
        pages: How many.
        each_kind: So many of every kind, all of the same records, printed as they are; False
            mixes the kinds and augments the records as training does.
        kinds: Those meant by each_kind.
        seed: Family of pages.
        other_machines: Sheets laid out otherwise than the competition's.
        laser_prints: All prints as laser printers make them and phones develop them.
        max_megapixels: Size limit of photos.
        severity: How bad the pages look, see ``make_page``.
        true_geometry: Rectify by the labels, so that only stage 2 and what follows is judged.
        passes: How often the decoded lines are refined; None: as the preset says.
        progress: Called after each page.

    Returns:
        The report.
    """
    check = check_stage2 if true_geometry else check_page
    pages_of = partial(pages_of_each_kind, kinds=kinds) if each_kind else _mixed_pages
    made = pages_of(
        source,
        pages=pages,
        seed=seed,
        other_machines=other_machines,
        laser_prints=laser_prints,
        max_megapixels=max_megapixels,
        severity=severity,
    )
    checks = []
    for index, page in made:
        checks.append(check(index, page, models, passes=passes))
        if progress is not None:
            progress(checks[-1])
    return ValidationReport(tuple(checks), true_geometry)


def _mixed_pages(
    source: SignalSource,
    *,
    pages: int,
    seed: int,
    other_machines: bool,
    laser_prints: bool,
    max_megapixels: float,
    severity: float,
) -> Iterator[tuple[int, SyntheticPage]]:
    def make(index: int) -> SyntheticPage:
        return make_page(
            source,
            seed=seed,
            index=index,
            other_machines=float(other_machines),
            laser_prints=float(laser_prints),
            max_megapixels=max_megapixels,
            severity=severity,
        )

    return enumerate(ordered_map(make, range(pages), workers=1))


def pages_of_each_kind(
    source: SignalSource,
    *,
    pages: int,
    kinds: Sequence[str] = tuple(KINDS),
    seed: int = VALIDATION_SEED,
    other_machines: bool = False,
    laser_prints: bool = False,
    max_megapixels: float = 5.0,
    severity: float = 1.0,
) -> Iterator[tuple[int, SyntheticPage]]:
    """Make the fixed pages by which kinds are compared, one ahead of the reader.

    Args:
        source: Validation signals.
        pages: Of each kind; all kinds show the same records as they are.
        kinds: Those wanted, in their order.
        seed: Family of pages.
        other_machines: Sheets laid out otherwise than the competition's.
        laser_prints: All prints as laser printers make them and phones develop them.
        max_megapixels: Size limit of photos.
        severity: How bad the pages look, see ``make_page``.

    Yields:
        The index among those of a kind, and the page.
    """
    wanted = [(index, kind) for kind in kinds for index in range(pages)]

    def make(one: tuple[int, str]) -> tuple[int, SyntheticPage]:
        index, kind = one
        return index, make_page(
            source,
            seed=seed,
            index=index,
            kind=kind,
            vary_signals=False,
            other_machines=float(other_machines),
            laser_prints=float(laser_prints),
            max_megapixels=max_megapixels,
            severity=severity,
        )

    return ordered_map(make, wanted, workers=1)


def check_page(
    index: int, page: SyntheticPage, models: Models, *, passes: int | None = None
) -> PageCheck:
    """Send a page through all stages."""
    picture = Page(page.image, f"page {index}")
    result = attempt(lambda: digitize_page(picture, models, passes=passes), picture.source)
    if isinstance(result, Failure):
        signals_mv = np.zeros_like(page.signals_mv)
        error = f"{result.stage}: {result.error}"
        score = page_score(page, signals_mv)
        return PageCheck(index, page.kind, False, None, None, False, score, error)
    errors_px, slipped = grid_errors_px(page, result)
    return PageCheck(
        index=index,
        kind=page.kind,
        turns_right=_quarter_turns(result) == page.quarter_turns,
        grid_errors_px=errors_px,
        grid_confidence=None if errors_px is None else result.grid.confidence[_inside(page)],
        slipped=slipped,
        score=page_score(page, result.recording.signals_mv),
        error=None,
    )


def check_stage2(
    index: int, page: SyntheticPage, models: Models, *, passes: int | None = None
) -> PageCheck:
    """Send a page, rectified by its labels, through stage 2."""
    trace = read_rectified(rectified_by_labels(page), models, passes=passes)
    strip = trace.layout.with_strip(page.style.layout.strip_lead)
    paper = replace(levelled(trace, page.grid), layout=strip)
    recording = to_recording(paper, fs_hz=TRACE_FS_HZ)
    none = np.empty(0, np.float32)
    score = page_score(page, recording.signals_mv)
    return PageCheck(index, page.kind, None, none, none, False, score, None)


def rectified_by_labels(page: SyntheticPage) -> RectifiedPage:
    """Rectify a page by its true geometry."""
    return rectify(Page(page.image, "synthetic page"), page.grid)


def round_trip_db(
    source: SignalSource, *, windows: int, progress: Callable[[float], None] | None = None
) -> list[float]:
    """Draw windows, decode their true masks, and score the signals: what decoding alone costs.

    Args:
        source: Validation signals; its first windows are taken.
        windows: How many at most.
        progress: Called with each window's dB.

    Returns:
        Uncapped SNR of each window, dB.
    """
    results = []
    for index in range(min(windows, len(source))):
        signals_mv = to_twelve(source.get(index))
        page = draw_page(signals_mv, default_style(), np.random.default_rng([0, index]))
        y_px = (page.rows_mm - RECT.origin_mm_xy[1]) * RECT.px_per_mm_xy[1]
        trace = decode(true_trace_map(y_px.astype(np.float32)))
        recording = to_recording(trace, fs_hz=TRACE_FS_HZ)
        truth = printed_recording(signals_mv, fs_hz=TRACE_FS_HZ)
        score = image_snr(truth.signals_mv, recording.signals_mv, fs_hz=TRACE_FS_HZ, cap_ratio=None)
        results.append(score.snr_db)
        if progress is not None:
            progress(score.snr_db)
    return results


def _quarter_turns(result: Digitization) -> int | None:
    """Return the turns that set a page upright; None of a sheet that was read without stage 0."""
    return None if result.registration is None else result.registration.quarter_turns


def grid_errors_px(page: SyntheticPage, result: Digitization) -> tuple[Float32 | None, bool]:
    """Return how far the crossings inside the picture are off, and whether by whole squares too.

    Args:
        page: What is known.
        result: What was found.

    Returns:
        Distances, px, from the lattice as it was found, whatever its first column and row; None if
        stage 1 found no grid.
    """
    if not np.isfinite(result.grid.residual_px):
        return None, False
    true, inside = page.crossings_xy_px, _inside(page)
    node_mm, found = crossings_mm()[inside], result.grid.crossings_xy_px
    some = slice(None, None, 7)
    at_mm = geometry.sheet_from_page(found, true[inside][some])
    slip = np.rint(np.nanmedian(at_mm - node_mm[some], axis=0) / SQUARE_MM) * SQUARE_MM
    slip = np.nan_to_num(slip)
    off_px = geometry.page_from_sheet(found, node_mm + slip) - true[inside]
    # On other machines' sheets any first row will do.
    late_mm = abs(float(slip[0]) - result.grid.start_mm)
    slipped = late_mm > SQUARE_MM / 2 or (bool(slip[1]) and page.grid.rows_mm is None)
    return np.linalg.norm(off_px, axis=-1).astype(np.float32), slipped


def _inside(page: SyntheticPage) -> Mask:
    """Return (44, 57) bool: which crossings lie in the picture."""
    height, width = page.image.shape[:2]
    xy_px = page.crossings_xy_px
    return np.asarray(((xy_px >= 0) & (xy_px <= [width - 1, height - 1])).all(axis=-1), np.bool_)


def page_score(page: SyntheticPage, signals_mv: Float32) -> ImageScore:
    """Score (12, n) signals at 500 Hz against what is printed of a page."""
    truth = printed_recording(page.signals_mv, fs_hz=TRACE_FS_HZ, layout=page.style.layout)
    read_mv = of_length(signals_mv, truth.signals_mv.shape[1])
    return image_snr(truth.signals_mv, read_mv, fs_hz=TRACE_FS_HZ)


def _summarize(kind: str, checks: Iterable[PageCheck]) -> KindSummary:
    members = list(checks)
    found = [c.grid_errors_px for c in members if c.grid_errors_px is not None]
    errors = np.concatenate(found) if found else np.empty(0, np.float32)
    median, p95 = np.percentile(errors, [50, 95]) if errors.size else (np.nan, np.nan)
    snr_db = [check.score.snr_db for check in members]
    return KindSummary(
        kind=kind,
        n_pages=len(members),
        n_failed=sum(check.error is not None for check in members),
        n_turned_wrong=sum(check.turns_right is False for check in members),
        n_without_grid=sum(check.grid_errors_px is None for check in members),
        n_slipped=sum(check.slipped for check in members),
        n_poor=sum(check.score.snr_db < POOR_DB for check in members),
        grid_median_px=float(median),
        grid_p95_px=float(p95),
        snr_db=float(np.mean(snr_db)),
        snr_median_db=float(np.median(snr_db)),
        snr_capped_db=float(np.mean([check.score.snr_capped_db for check in members])),
        score_db=competition_score(check.score.ratio for check in members),
    )
