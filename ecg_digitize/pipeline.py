"""The whole way from a picture to twelve signals. READ THIS FIRST.

    Page -> stage 0 -> Registration -> stage 1 -> GridMap -> one remap -> RectifiedPage
         -> stage 2 -> TraceMap -> decode -> Trace -> refine -> Trace -> set in time -> Trace
         -> signals -> Recording

`digitize_page` walks it for one page. The stages are in `stages.py`, their networks in `models.py`.
`usual.py` tells the competition's sheet from others, which `sheet/` finds and reads. Where a PDF
draws traces as lines, `vector.py` puts these in the place of the decoded ones. `many.py` walks many
pages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from ecg_digitize.alignment import Reading, find_start, set_in_time, set_upright_in_time
from ecg_digitize.errors import InputError, StageError
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.judge import Evidences, judged_sheet, judged_usual
from ecg_digitize.layout import COMPETITION, Layout
from ecg_digitize.layouts import Family
from ecg_digitize.models import Models, reader_of
from ecg_digitize.runtime import Clock
from ecg_digitize.sheet.bent import straightened
from ecg_digitize.sheet.calibration import calibrated_layout, told_in_text
from ecg_digitize.sheet.find import FoundSheet, is_mirrored
from ecg_digitize.sheet.find import find_sheet as find_any_sheet
from ecg_digitize.sheet.flat import unframed
from ecg_digitize.sheet.read import read_rows, timed, with_strips
from ecg_digitize.signals import to_recording
from ecg_digitize.stage1.ends import start_by_ink
from ecg_digitize.stage1.pulses import calibrated
from ecg_digitize.stage1.rectify import rectify
from ecg_digitize.stages import find_grid, find_sheet, read_rectified
from ecg_digitize.types import Digitization, Page, Registration
from ecg_digitize.usual import (
    Usual,
    has_scale,
    is_cut,
    is_square,
    looks_usual,
    may_be_cut,
    names_fit,
    no_scale,
    unexplained,
    with_calibration,
)


def digitize_page(
    page: Page,
    models: Models,
    *,
    layout: Layout | Family | FoundSheet | None = None,
    mm_per_s: float | None = None,
    mm_per_mv: float | None = None,
    fs_hz: float = TRACE_FS_HZ,
    lengths: Mapping[str, int] | None = None,
    rhythm: str | None = None,
    fusion: bool = True,
    passes: int | None = None,
) -> Digitization:
    """Digitize one page.

    Args:
        page: The picture.
        models: See load_models.
        layout: COMPETITION, where it is known that the page is its sheet: then nothing of it is
            looked for, nor doubted. A family, one of layouts.FAMILIES: that is printed, whatever
            the lead names say. A sheet that was found already. None: what the sheet shows, at the
            speed and the gain that its text and its calibration pulses tell.
        mm_per_s: Paper speed, whatever the sheet tells; None asks it.
        mm_per_mv: Gain, likewise.
        fs_hz: Samples a second wanted; nothing is filtered, see `signals.to_recording`.
        lengths: Samples wanted of each lead's window; None follows from fs_hz.
        rhythm: The lead of the rhythm strip; None takes the one that it repeats, if any.
        fusion: Blend limb leads that follow from each other where they agree; what it is worth
            is in docs/ablation.md. Other sheets' leads are never blended: it cost 1 to 2.5 dB.
        passes: How often the decoded lines are refined on the ink; None: as the preset says.

    Returns:
        The recording and what every stage found on the way.

    Raises:
        InputError: If the layout is another one.
        StageError: If a stage cannot carry the page further.
    """
    clock = Clock()
    wanted = _Wanted(mm_per_s, mm_per_mv, fs_hz, lengths, rhythm, fusion, passes)
    if isinstance(layout, FoundSheet):
        return _digitize_any(page, layout, models, wanted, clock)
    if isinstance(layout, Family):
        return _digitize_told(page, layout, models, wanted, clock)
    if layout not in (None, COMPETITION):
        raise InputError(f"only the layout {COMPETITION.name} can be read, but got {layout.name}")
    reader = reader_of(models) if layout is None else None
    found, usual = None, None
    registration, missed = _registered(page, models, clock, once=reader is not None)
    at_home = names_fit(registration)
    is_looked_at = reader is not None and not (at_home and is_square(page.image, registration))
    if reader is not None and is_looked_at:
        found = find_any_sheet(page, reader)
        clock.lap("sheet")
        other = found is not None and (at_home or not may_be_cut(found))
        if found is None or not (other and found.sheet.match.named):  # it may lie on its side
            registration, missed = _registered(page, models, clock, once=False)
        if not names_fit(registration) and is_mirrored(page.image, found, reader):
            raise StageError("sheet", f"{page.source}: the picture is mirrored; flip it")
        if found is not None and other and (at_home or not names_fit(registration)):
            return _digitize_any(page, found, models, wanted, clock)
    if registration is not None:
        try:
            usual = Usual(registration, find_grid(page, registration, models))
        except StageError as error:
            missed = error
        clock.lap("stage1")
        if usual is not None and layout is None:
            usual = with_calibration(page, usual, reader)
            clock.lap("calibration")
    if reader is not None and (usual is None or not looks_usual(page, usual)):
        if not is_looked_at:
            found = find_any_sheet(page, reader)
            clock.lap("sheet")
        if found is not None and not (usual is not None and is_cut(page, found, usual)):
            return _digitize_any(page, found, models, wanted, clock)
    if usual is None:
        assert missed is not None
        raise missed if reader is None else StageError("sheet", unexplained(page)) from missed
    if reader is not None and not has_scale(usual):
        raise StageError("stage1", no_scale(page, usual))
    return _digitize_usual(page, usual, models, wanted, layout, clock)


def _registered(
    page: Page, models: Models, clock: Clock, *, once: bool
) -> tuple[Registration | None, StageError | None]:
    """Return where the competition's sheet lies, or why it was not found; see ``find_sheet``."""
    try:
        return find_sheet(page, models, once=once), None
    except StageError as error:
        return None, error
    finally:
        clock.lap("stage0")


@dataclass(frozen=True)
class _Wanted:
    """What the caller of ``digitize_page`` wants; see there."""

    mm_per_s: float | None
    mm_per_mv: float | None
    fs_hz: float
    lengths: Mapping[str, int] | None
    rhythm: str | None
    fusion: bool
    passes: int | None


def _digitize_usual(
    page: Page, usual: Usual, models: Models, wanted: _Wanted, layout: Layout | None, clock: Clock
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
        if page.lines is not None:
            moved, trace = page.lines.followed(moved, trace)
        return set_in_time(moved, trace, layout, wanted.rhythm)

    readings = [read_from(start_mm or 0.0)]
    if start_mm is None and (by_leads_mm := find_start(readings[0].paper)):
        readings.append(read_from(by_leads_mm))
    read = min(readings, key=lambda one: one.einthoven_mv)
    recording = to_recording(
        read.upright, fs_hz=wanted.fs_hz, lengths=wanted.lengths, fusion=wanted.fusion
    )
    evidence: Evidences = {}
    if usual.ends_mm is not None:
        known = told is not None or None not in (wanted.mm_per_s, wanted.mm_per_mv)
        recording, evidence = judged_usual(recording, page, usual, read, is_calibrated=known)
    clock.lap("signals")
    return Digitization(
        page.source,
        recording,
        read.trace,
        read.grid,
        usual.registration,
        clock.laps_s,
        read.einthoven_mv,
        evidence,
    )


def _digitize_told(
    page: Page, family: Family, models: Models, wanted: _Wanted, clock: Clock
) -> Digitization:
    """Read a sheet whose family somebody told."""
    reader = reader_of(models)
    found = None if reader is None else find_any_sheet(page, reader, families=(family,))
    clock.lap("sheet")
    if found is None:
        rows = f"{len(family.rows)} rows of {family.n_columns} leads"
        raise StageError("sheet", f"{page.source}: expected a grid and {rows}, but saw none")
    return _digitize_any(page, found, models, wanted, clock)


def _digitize_any(
    page: Page, found: FoundSheet, models: Models, wanted: _Wanted, clock: Clock
) -> Digitization:
    """Read a sheet of any layout."""
    sheet = (found := straightened(page, found, models)).sheet
    calibration = calibrated_layout(found, mm_per_s=wanted.mm_per_s, mm_per_mv=wanted.mm_per_mv)
    layout = calibration.layout
    stage2 = partial(
        read_rectified, models=models, network=models.strips, passes=wanted.passes, lap=clock.lap
    )
    plain = unframed(
        found.image,
        found.flat,
        found.strokes,
        rows_mm=sheet.match.rows_mm,
        ends_mm=(float(sheet.places.starts_mm[0]), sheet.places.end_mm),
    )
    trace = read_rows(replace(page, image=plain), sheet, stage2, mm_per_mv=layout.mm_per_mv)
    if page.lines is not None:
        sheet, trace = page.lines.followed_on(sheet, trace)
        found = replace(found, sheet=sheet)
    paper = with_strips(timed(trace, sheet, layout))
    read = set_upright_in_time(sheet.grid, trace, paper)
    # Nobody knows whether the rows of other sheets show the same instants: leads are not blended.
    recording = to_recording(read.upright, fs_hz=wanted.fs_hz)
    recording, evidence = judged_sheet(recording, page, found, trace, read, calibration)
    clock.lap("signals")
    return Digitization(
        page.source, recording, trace, sheet.grid, None, clock.laps_s, read.einthoven_mv, evidence
    )
