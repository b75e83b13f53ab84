"""The whole way from a picture to twelve signals. READ THIS FIRST.

    Page -> stage 0 -> Registration -> stage 1 -> GridMap -> one remap -> RectifiedPage
         -> stage 2 -> TraceMap -> decode -> Trace -> refine -> Trace -> set in time -> Trace
         -> signals -> Recording

`digitize_page` walks it for one page; everything else here loads networks and walks many pages.
"""

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import cv2
import numpy as np
import torch
from torch import nn

from ecg_digitize import geometry
from ecg_digitize.alignment import Reading, find_start, set_in_time, set_upright_in_time
from ecg_digitize.doubts import doubts_about, doubts_about_sheet, grid_doubts, has_gaps
from ecg_digitize.errors import ImageError, InputError, StageError, WeightsError
from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, NORM, SQUARE_MM, TRACE_FS_HZ
from ecg_digitize.image import read_image
from ecg_digitize.layout import COMPETITION, Layout
from ecg_digitize.manifest import read_manifest
from ecg_digitize.runtime import autocast_dtype, choose_device, placed
from ecg_digitize.sheet.calibration import calibrated_layout, told_in_text
from ecg_digitize.sheet.find import FoundSheet, Reader, placed_names
from ecg_digitize.sheet.find import find_sheet as find_any_sheet
from ecg_digitize.sheet.flat import flat_sheet, unframed
from ecg_digitize.sheet.match import PlacedName, contradicts
from ecg_digitize.sheet.names import Name, find_names
from ecg_digitize.sheet.read import read_rows, timed, with_strips
from ecg_digitize.sheet.text import NOTHING_TOLD, Cut, Line, Told, cut_lines, read_lines, told_by
from ecg_digitize.signals import to_recording
from ecg_digitize.stage0.normalize import TRUSTED_NAMES, as_scanned, register, unstretched
from ecg_digitize.stage0.prepare import stage0_input
from ecg_digitize.stage1.ends import find_ends, start_by_ink
from ecg_digitize.stage1.grid import fit_grid, unseen_grid
from ecg_digitize.stage1.lines import refine_grid
from ecg_digitize.stage1.pulses import Pulse, calibrated, find_pulses
from ecg_digitize.stage1.rectify import flattened, norm_image, page_from_norm, rectify
from ecg_digitize.stage1.ripples import follow_ripples
from ecg_digitize.stage1.rows import place_rows
from ecg_digitize.stage1.timing import follow_lines
from ecg_digitize.stage2.decode import decode
from ecg_digitize.stage2.refine import PASSES, REACH_PX, bands_from, flipped, refine_input
from ecg_digitize.stage2.whole import column_probability, trace_map_of
from ecg_digitize.types import (
    Digitization,
    Failure,
    Float32,
    Float64,
    GridMap,
    Image,
    Page,
    RectifiedPage,
    Registration,
    Trace,
    TraceMap,
)
from ecg_digitize.weights import load_network

log = logging.getLogger(__name__)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

STAGES: Final = ("stage0", "stage1", "stage2", "refine")
"""Those that have a network."""
READERS: Final = ("names", "text")
"""Networks that read other sheets than the competition's, and are not needed for that one."""

SPECKS_PX: Final = 5
"""Specks up to half of this are gone from a filtered page, strokes of letters are not."""

SEEN_WELL: Final = 0.9
"""Mean over the crossings of the lattice, below which stage 1 looks once more through them."""
TRUSTED_CONFIDENCE: Final = 0.2
"""That mean when most of them were found."""
CLEARLY: Final = 1.2
"""How much more of them must be found for another look at the sheet to be the right one."""


@dataclass(frozen=True)
class Preset:
    """What is spent on a page."""

    flips: bool  # whether the refinement sees its bands upside down and backwards too


PRESETS: Final = {"fast": Preset(flips=False), "best": Preset(flips=True)}
BEST: Final = "best"


@dataclass(frozen=True)
class Models:
    """The networks on their device, in evaluation mode, and how they are used."""

    stage0: nn.Module
    stage1: nn.Module
    stage2: nn.Module
    refine: nn.Module
    device: torch.device
    names: nn.Module | None = None  # what other sheets than the competition's are read by,
    text: nn.Module | None = None  # and what they tell in words
    preset: Preset = PRESETS[BEST]


def load_models(
    *,
    weights_dir: Path | None = None,
    device: torch.device | None = None,
    stages: Collection[str] = STAGES,
    preset: str = BEST,
) -> Models:
    """Load the networks the manifest names.

    Args:
        weights_dir: Folder of the weight files; None searches the usual places.
        device: Where they run; None chooses.
        stages: Those wanted, for training and judging a part of the way; the others are empty.
        preset: A key of PRESETS.

    Raises:
        InputError: If there is no such preset.
        WeightsError: If the manifest lacks a stage, or a file is missing or altered.
    """
    if preset not in PRESETS:
        raise InputError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
    device = choose_device() if device is None else device
    entries = {entry.stage: entry for entry in read_manifest(weights_dir=weights_dir)}
    missing = [stage for stage in stages if stage not in entries]
    if missing:
        raise WeightsError(
            f"weights_manifest.json has no weights for {', '.join(missing)}; "
            'train them with "python -m ecg_digitize train STAGE"'
        )
    networks: dict[str, nn.Module] = {stage: nn.Identity() for stage in STAGES}
    for stage in stages:
        network = load_network(entries[stage], weights_dir=weights_dir)
        networks[stage] = placed(network, device)
    if set(stages) == set(STAGES) and set(READERS) <= set(entries):
        for stage in READERS:
            networks[stage] = placed(load_network(entries[stage], weights_dir=weights_dir), device)
    return Models(**networks, device=device, preset=PRESETS[preset])


def digitize_page(
    page: Page,
    models: Models,
    *,
    layout: Layout | None = None,
    mm_per_s: float | None = None,
    mm_per_mv: float | None = None,
    fs_hz: float = TRACE_FS_HZ,
    lengths: Mapping[str, int] | None = None,
    rhythm: str | None = None,
    fusion: bool = True,
    passes: int = PASSES,
) -> Digitization:
    """Digitize one page.

    Args:
        page: The picture.
        models: See load_models.
        layout: COMPETITION, where it is known that the page is its sheet: then nothing of it is
            looked for, nor doubted. None: its rows, at the speed and the gain that calibration
            pulses tell.
        mm_per_s: Paper speed, whatever the pulses say; None asks them.
        mm_per_mv: Gain, likewise.
        fs_hz: Samples a second wanted; nothing is filtered, see `signals.to_recording`.
        lengths: Samples wanted of each lead's window; None follows from fs_hz.
        rhythm: The lead of the rhythm strip; None takes the one that it repeats, if any.
        fusion: Blend limb leads that follow from each other where they agree; what it is worth
            is in docs/ablation.md. Other sheets' leads are never blended: it cost 1 to 2.5 dB.
        passes: How often the decoded lines are refined on the ink; see refine.PASSES.

    Returns:
        The recording and what every stage found on the way.

    Raises:
        InputError: If the layout is another one.
        StageError: If a stage cannot carry the page further.
    """
    if layout not in (None, COMPETITION):
        raise InputError(f"only the layout {COMPETITION.name} can be read, but got {layout.name}")
    clock = _Clock()
    wanted = _Wanted(mm_per_s, mm_per_mv, fs_hz, lengths, rhythm, fusion, passes)
    registration, grid, missed = None, None, None
    try:
        registration = find_sheet(page, models)
        clock.lap("stage0")
        grid = find_grid(page, registration, models)
        clock.lap("stage1")
    except StageError as error:
        missed = error
    usual, reader = None, _reader(models)
    if registration is not None and grid is not None:
        usual = _Usual(registration, grid)
        if layout is None:
            pulses = find_pulses(page.image, grid, COMPETITION)
            ends_mm = find_ends(page.image, grid, COMPETITION, pulses)
            usual = _Usual(registration, grid, pulses, ends_mm)
            clock.lap("calibration")
            if reader is not None:
                usual = _with_print(page, usual, reader)
                clock.lap("print")
    if reader is not None and layout is None and (usual is None or not looks_usual(page, usual)):
        found = find_any_sheet(page.image, reader)
        clock.lap("sheet")
        if found is not None and not (usual is not None and is_cut(found, usual)):
            return _digitize_any(page, found, models, wanted, clock)
    if usual is None:
        assert missed is not None
        raise missed
    return _digitize_usual(page, usual, models, wanted, layout, clock)


@dataclass(frozen=True)
class _Usual:
    """What the competition's sheet is read by."""

    registration: Registration
    grid: GridMap
    pulses: tuple[Pulse, ...] = ()
    ends_mm: Float64 | None = None  # see stage1.ends; None where the sheet is known
    names: tuple[PlacedName, ...] = ()  # as they are printed, wherever
    told: Told = NOTHING_TOLD


@dataclass(frozen=True)
class _Wanted:
    """What the caller of ``digitize_page`` wants; see there."""

    mm_per_s: float | None
    mm_per_mv: float | None
    fs_hz: float
    lengths: Mapping[str, int] | None
    rhythm: str | None
    fusion: bool
    passes: int


def _digitize_usual(
    page: Page,
    usual: _Usual,
    models: Models,
    wanted: _Wanted,
    layout: Layout | None,
    clock: "_Clock",
) -> Digitization:
    """Read the competition's sheet, or one that is like it but for the heights of its rows."""
    grid, told, start_mm = usual.grid, layout, None
    if usual.ends_mm is not None:
        told = calibrated(COMPETITION, usual.pulses) or told_in_text(COMPETITION, usual.told)
        if grid.rows_mm is not None:  # the competition's names tell where its traces begin
            start_mm = start_by_ink(usual.ends_mm, COMPETITION, usual.pulses)
    layout = told or COMPETITION
    layout = layout.calibrated(
        mm_per_s=wanted.mm_per_s or layout.mm_per_s,
        mm_per_mv=wanted.mm_per_mv or layout.mm_per_mv,
    )

    def read_from(start_mm: float) -> Reading:
        moved = replace(grid, start_mm=start_mm)
        rectified = rectify(page, moved)
        clock.lap("rectify")
        trace = read_rectified(rectified, models, passes=wanted.passes, lap=clock.lap)
        return set_in_time(moved, trace, layout, wanted.rhythm)

    readings = [read_from(start_mm or 0.0)]
    if start_mm is None and (by_leads_mm := find_start(readings[0].paper)):
        readings.append(read_from(by_leads_mm))
    read = min(readings, key=lambda one: one.einthoven_mv)
    recording = to_recording(
        read.upright, fs_hz=wanted.fs_hz, lengths=wanted.lengths, fusion=wanted.fusion
    )
    if usual.ends_mm is not None:
        doubts = doubts_about(
            page.image,
            usual.registration,
            read.grid,
            read.upright,
            pulses=usual.pulses,
            text=usual.told,
            ends_mm=usual.ends_mm,
            is_calibrated=told is not None or None not in (wanted.mm_per_s, wanted.mm_per_mv),
            einthoven_mv=read.einthoven_mv,
        )
        recording = replace(recording, doubts=doubts)
    clock.lap("signals")
    return Digitization(
        page.source,
        recording,
        read.trace,
        read.grid,
        usual.registration,
        clock.laps_s,
        read.einthoven_mv,
    )


def _digitize_any(
    page: Page, found: FoundSheet, models: Models, wanted: _Wanted, clock: "_Clock"
) -> Digitization:
    """Read a sheet of any layout."""
    sheet = found.sheet
    calibration = calibrated_layout(found, mm_per_s=wanted.mm_per_s, mm_per_mv=wanted.mm_per_mv)
    read = partial(read_rectified, models=models, passes=wanted.passes, lap=clock.lap)
    plain = unframed(
        page.image,
        found.flat,
        found.strokes,
        rows_mm=sheet.match.rows_mm,
        ends_mm=(float(sheet.places.starts_mm[0]), sheet.places.end_mm),
    )
    trace = read_rows(Page(plain, page.source), sheet, read)
    paper = with_strips(timed(trace, sheet, calibration.layout))
    reading = set_upright_in_time(sheet.grid, trace, paper)
    # Nobody knows whether the rows of other sheets show the same instants: leads are not blended.
    recording = to_recording(reading.upright, fs_hz=wanted.fs_hz)
    doubts = doubts_about_sheet(
        found,
        trace,
        reading.upright,
        about_scale=calibration.doubts,
        einthoven_mv=reading.einthoven_mv,
    )
    clock.lap("signals")
    return Digitization(
        page.source,
        replace(recording, doubts=doubts),
        trace,
        sheet.grid,
        None,
        clock.laps_s,
        reading.einthoven_mv,
    )


def looks_usual(page: Page, usual: _Usual) -> bool:
    """Say whether a page shows the competition's sheet: its grid, its rows, its names, no gaps."""
    if usual.grid.rows_mm is not None or has_gaps_in(usual):
        return False
    if any(grid_doubts(page.image, usual.registration, usual.grid)):
        return False
    return not contradicts(usual.names, COMPETITION)


def _with_print(page: Page, usual: _Usual, reader: Reader) -> _Usual:
    """Read what is printed on the sheet."""
    size_mm = SQUARE_MM * (GRID_COLUMNS - 1), SQUARE_MM * (GRID_ROWS - 1)
    flat = flat_sheet(page.image, usual.grid, size_mm)
    names = placed_names(reader.names(flat.seen), flat)
    return replace(usual, names=names, told=told_by(reader.lines(cut_lines(page.image, flat))))


def is_cut(found: FoundSheet, usual: _Usual) -> bool:
    """Say whether a sheet is the competition's after all, of which the picture shows a part.

    Its rows lie where the competition's do, and it has the same layout: three rows of four.
    """
    family = found.sheet.match.family.name
    at_home = usual.grid.rows_mm is None and np.isfinite(usual.grid.residual_px)
    return at_home and family in ("3x4", "3x2 limb", "3x2 chest") and not has_gaps_in(usual)


def has_gaps_in(usual: _Usual) -> bool:
    """Say whether the rows have gaps between their leads; the competition's have none."""
    return usual.ends_mm is not None and has_gaps(usual.ends_mm)


@dataclass(frozen=True)
class _Reader:
    """Reads what is printed, see ``sheet.find.Reader``."""

    of_names: nn.Module
    of_text: nn.Module
    device: torch.device

    def names(self, seen: Image) -> Sequence[Name]:
        return find_names(self.of_names, seen, self.device)

    def lines(self, cuts: Sequence[Cut]) -> Sequence[Line]:
        return read_lines(self.of_text, cuts, self.device)


def _reader(models: Models) -> _Reader | None:
    if models.names is None or models.text is None:
        return None
    return _Reader(models.names, models.text, models.device)


def read_rectified(
    rectified: RectifiedPage,
    models: Models,
    *,
    passes: int = PASSES,
    lap: Callable[[str], None] = lambda _: None,
) -> Trace:
    """Stage 2, as a whole; lap is called with the name of each step when it is done."""
    trace_map = find_traces(rectified, models)
    lap("stage2")
    trace = decode(trace_map, rectified.image)
    lap("decode")
    trace = refine_trace(rectified, trace_map, trace, models, passes=passes)
    lap("refine")
    return replace(trace, shown=rectified.shown)


def find_sheet(page: Page, models: Models) -> Registration:
    """Stage 0: lead names and orientation -> where the sheet lies.

    The network reads names in all directions, but best upright: a page on which few names agree is
    looked at again on its other sides, and the side with most names wins. One of which no side
    shows enough gets a second look with its specks filtered out.
    """
    found, errors = _look_at_all_sides(page, models, faint=False)
    if all(registration.n_inliers < TRUSTED_NAMES for registration in found):
        filtered = np.asarray(cv2.medianBlur(page.image, SPECKS_PX), np.uint8)
        found += _look_at_all_sides(Page(filtered, page.source), models, faint=True)[0]
    if not found:
        raise errors[0]
    return max(found, key=lambda registration: registration.n_inliers)


def _look_at_all_sides(
    page: Page, models: Models, *, faint: bool
) -> tuple[list[Registration], list[StageError]]:
    """Turn a page until enough names agree; return what was found and why the rest was not."""
    found: list[Registration] = []
    errors: list[StageError] = []
    for turns in range(4):
        try:
            found.append(_find_sheet_turned(page, models, turns, faint=faint))
        except StageError as error:
            errors.append(error)
        if found and found[-1].n_inliers >= TRUSTED_NAMES:
            break
    return found, errors


def _find_sheet_turned(page: Page, models: Models, turns: int, *, faint: bool) -> Registration:
    """Run stage 0 on np.rot90(page, turns); the registration is that of the page as it lies."""
    height, width = page.image.shape[:2]
    image, map_from_turned = stage0_input(np.ascontiguousarray(np.rot90(page.image, turns)))
    markers, orientation = _run(models.stage0, image, models.device)
    map_from_page = map_from_turned @ geometry.quarter_turning(turns, (width, height))
    upright = torch.softmax(orientation, dim=1)[0].cpu().numpy()
    return register(
        torch.sigmoid(markers)[0].cpu().numpy(),
        np.roll(upright, turns),
        page_from_map=np.linalg.inv(map_from_page).astype(np.float64),
        source=page.source,
        faint=faint,
    )


def find_grid(page: Page, registration: Registration, models: Models) -> GridMap:
    """Stage 1: grid crossings in the picture, sub-pixel, and the rows among them.

    A sheet that shows no crossings, as scans do whose grid was too faint for black and white, is
    taken to be flat if it may be.
    """
    found, seen_as = see_lattice(page, registration, models)
    if not np.isfinite(found.residual_px) and (flat := as_scanned(registration)):
        return unseen_grid(flat.page_from_sheet)
    grid = refine_grid(page.image, found, page_from_sheet=seen_as.page_from_sheet)
    placed_grid = place_rows(page, follow_lines(page.image, grid), registration)
    return follow_ripples(page.image, placed_grid)


def see_lattice(
    page: Page, registration: Registration, models: Models
) -> tuple[GridMap, Registration]:
    """Stage 1's network, in as many looks as it takes: the crossings, and by which registration.

    Where the lead names suggest a stretch the sheet may be laid out otherwise: it is looked at once
    more without it, and taken so if that shows clearly more crossings. Where many crossings were
    missed, the network looks again through those that were found.
    """
    found, seen_as = find_crossings(page, registration, models), registration
    if other := unstretched(registration):
        again = find_crossings(page, other, models)
        clearly = CLEARLY * found.confidence.mean()
        if again.confidence.mean() > max(clearly, TRUSTED_CONFIDENCE):
            found, seen_as = again, other
    if np.isfinite(found.residual_px) and found.confidence.mean() < SEEN_WELL:
        again = look_again(page, found, models)
        if again.confidence.mean() > found.confidence.mean():
            found = again
    return found, seen_as


def find_crossings(page: Page, registration: Registration, models: Models) -> GridMap:
    """Stage 1: grid crossings as the network sees them, and a smooth surface through them."""
    to_page = partial(geometry.apply_homography, page_from_norm(registration))
    return _crossings(norm_image(page, registration), to_page, models)


def look_again(page: Page, found: GridMap, models: Models) -> GridMap:
    """Stage 1 once more, on the sheet flattened by the crossings that it found.

    A homography leaves ripples and folds, which hide crossings from the network.
    """

    def to_page(norm_px: Float64) -> Float64:
        return geometry.page_from_sheet(found.crossings_xy_px, NORM.mm_from_px(norm_px))

    return _crossings(flattened(page, found.crossings_xy_px), to_page, models)


def _crossings(seen: Image, to_page: Callable[[Float64], Float64], models: Models) -> GridMap:
    """Run stage 1 on what is seen in the norm frame."""
    (logits,) = _run(models.stage1, seen, models.device)
    return fit_grid(torch.sigmoid(logits)[0].cpu().numpy(), page_from_norm=to_page)


def find_traces(rectified: RectifiedPage, models: Models) -> TraceMap:
    """Stage 2: where each row's centre line is, column by column; nowhere outside the picture."""
    (logits,) = _run(models.stage2, rectified.image, models.device)
    layout = rectified.layout
    probability = column_probability(logits[0], layout.n_columns)
    return trace_map_of(probability, shown=rectified.shown, layout=layout)


def refine_trace(
    rectified: RectifiedPage, trace_map: TraceMap, trace: Trace, models: Models, *,
    passes: int = PASSES,
) -> Trace:  # fmt: skip
    """Stage 2: the decoded lines, moved onto the centre of the ink around them."""
    for _ in range(passes):
        line_px, pixels, clues = refine_input(rectified, trace_map, trace)
        both = (False, True) if models.preset.flips else (False,)
        flips = itertools.product(both, repeat=2)
        bands, beside = (torch.from_numpy(part).to(models.device) for part in (pixels, clues))
        seen = [_offset_px(bands, beside, models, *flip) for flip in flips]
        offset_px = np.mean(seen, axis=0)
        if rectified.shown is not None:
            offset_px = np.where(rectified.shown, offset_px, np.float32(0))
        trace = replace(trace, y_px=line_px + offset_px)
    return trace


def _offset_px(
    pixels: torch.Tensor, clues: torch.Tensor, models: Models, upside_down: bool, backwards: bool
) -> Float32:
    """Run the refinement on flipped bands; return (4, 5000) of them as they lie."""
    bands = flipped(pixels, clues, upside_down=upside_down, backwards=backwards)
    (offset_px,) = run_batch(models.refine, bands_from(*bands), models.device)
    offset: Float32 = offset_px.nan_to_num().clamp(-REACH_PX, REACH_PX).cpu().numpy()
    offset = -offset if upside_down else offset
    return offset[:, ::-1] if backwards else offset


def _run(network: nn.Module, image: Image, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Run a network on one (H, W, 3) picture."""
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    return run_batch(network, x, device)


@torch.inference_mode()
def run_batch(
    network: nn.Module, x: torch.Tensor, device: torch.device
) -> tuple[torch.Tensor, ...]:
    """Run a network on (N, C, H, W) in the device's fast precision; outputs float32."""
    dtype = autocast_dtype(device)
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        out = network(x.to(device))
    return tuple(t.float() for t in (out if isinstance(out, tuple) else (out,)))


def digitize(
    path: str | Path, *, fs_hz: float = TRACE_FS_HZ, models: Models | None = None
) -> Digitization:
    """Digitize one picture file.

    Raises:
        ImageError: If it cannot be read.
        StageError: If it cannot be digitized.
        WeightsError: If no models are given and the weights cannot be loaded.
    """
    return digitize_page(read_image(Path(path)), models or load_models(), fs_hz=fs_hz)


def digitize_many(
    sources: Iterable[str | Path], models: Models, *, fs_hz: float = TRACE_FS_HZ, workers: int = 2
) -> Iterator[Digitization | Failure]:
    """Digitize pictures in order; reading the next overlaps the networks. Failures are yielded.

    Args:
        sources: Picture files.
        models: See load_models.
        fs_hz: Samples a second wanted.
        workers: Threads that read ahead.
    """

    def read(source: str | Path) -> Page | Failure:
        return attempt(lambda: read_image(Path(source)), str(source))

    for page in ordered_map(read, sources, workers=workers):
        yield page if isinstance(page, Failure) else attempt_page(page, models, fs_hz=fs_hz)


def attempt_page(
    page: Page, models: Models, *, fs_hz: float, mm_per_s: float | None = None,
    mm_per_mv: float | None = None,
) -> Digitization | Failure:  # fmt: skip
    """Digitize a page, see ``digitize_page``; what goes wrong comes back as a Failure."""
    return attempt(
        lambda: digitize_page(page, models, fs_hz=fs_hz, mm_per_s=mm_per_s, mm_per_mv=mm_per_mv),
        page.source,
    )


def attempt(work: Callable[[], _Result], source: str) -> _Result | Failure:
    """Do one page's work; whatever goes wrong comes back as a Failure and never ends a batch."""
    try:
        return work()
    except ImageError as error:
        return Failure(source, "read", str(error))
    except StageError as error:
        return Failure(source, error.stage, str(error))
    except Exception as error:  # a fault of ours must not cost the other thousand pages
        log.exception("%s: unexpected", source)
        return Failure(source, "unexpected", f"{type(error).__name__}: {error}")


def ordered_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int
) -> Iterator[_Result]:
    """Map over a thread pool, in order, at most 2 * workers items begun and not yet taken."""
    source = iter(items)
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = deque(pool.submit(function, i) for i in itertools.islice(source, 2 * workers))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, i) for i in itertools.islice(source, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps_s: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps_s[name] = self.laps_s.get(name, 0.0) + now - self._last
        self._last = now
