"""Judge a reading: what speaks against it, how likely each lead is right, and whether to reject it.

The sentences are in `doubts.py`, the probabilities in `quality.py`; here both are asked, for the
competition's sheet and for others.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ecg_digitize.alignment import Reading
from ecg_digitize.doubts import (
    doubts_about,
    doubts_about_sheet,
    grid_confidence,
    is_another_sheet,
    is_astray,
    is_hopeless,
    layout_doubts,
    most_wrong,
    page_doubts,
    quality_doubts,
)
from ecg_digitize.frames import SQUARE_MM
from ecg_digitize.layout import COMPETITION, NAME_KEYS
from ecg_digitize.quality import Evidence, PageEvidence, evidence_of, quality_of
from ecg_digitize.sheet.calibration import Calibration
from ecg_digitize.sheet.find import FoundSheet
from ecg_digitize.sheet.leftover import leftover_mm
from ecg_digitize.sheet.match import contradicts
from ecg_digitize.sheet.read import Sheet
from ecg_digitize.types import GridMap, Page, Recording, Trace
from ecg_digitize.usual import Usual, layout_seen

Evidences = Mapping[str, Evidence]


def judged_usual(
    recording: Recording, page: Page, usual: Usual, read: Reading, *, is_calibrated: bool
) -> tuple[Recording, Evidences]:
    """Judge a reading of the competition's sheet, or of one like it.

    Args:
        recording: What was read.
        page: The picture.
        usual: What it was read by; its ends are known.
        read: The traces.
        is_calibrated: Whether pulses, text or somebody told the speed and the gain.

    Returns:
        The recording with doubts, quality and verdict, and the evidence of each lead.
    """
    assert usual.ends_mm is not None
    grid, upright = read.grid, read.upright
    at_home = grid.rows_mm is None
    evidence = evidence_of(
        upright,
        is_astray(grid, upright),
        PageEvidence(
            read.einthoven_mv,
            usual.registration.n_inliers / len(NAME_KEYS),
            grid_confidence(page.image, grid),
            is_calibrated or at_home,
            _px_per_mm(grid),
        ),
        {},
    )
    quality = quality_of(evidence)
    doubts = doubts_about(
        page.image,
        usual.registration,
        grid,
        upright,
        pulses=usual.pulses,
        text=usual.told,
        ends_mm=usual.ends_mm,
        is_calibrated=is_calibrated,
        einthoven_mv=read.einthoven_mv,
    )
    doubts = (*doubts, *page_doubts(page, usual.names))
    is_renamed = contradicts(usual.names, COMPETITION)
    if is_renamed:
        doubts = (*doubts, "lead names stand where others belong, and no layout explains them")
    judged = replace(
        recording,
        layout=layout_seen(upright),
        doubts=doubts,
        is_rejected=is_renamed
        or is_hopeless(grid, upright, read.einthoven_mv)
        or is_another_sheet(page.image, usual.registration, grid),
        quality=quality,
    )
    return judged, evidence


def judged_sheet(
    recording: Recording,
    page: Page,
    found: FoundSheet,
    trace: Trace,
    read: Reading,
    calibration: Calibration,
) -> tuple[Recording, Evidences]:
    """Judge a reading of a sheet of any layout.

    Args:
        recording: What was read.
        page: The picture.
        found: The sheet, and what it was found by.
        trace: By place, see ``sheet.read.read_rows``.
        read: The traces by time.
        calibration: The speed and the gain, and what speaks against them.

    Returns:
        As ``judged_usual``.
    """
    sheet, upright = found.sheet, read.upright
    left_mm = leftover_mm(found.strokes.lines, sheet, trace)
    evidence = evidence_of(
        upright,
        is_astray(sheet.grid, upright),
        PageEvidence(
            read.einthoven_mv,
            sheet.match.named / sheet.match.n_leads,
            found.confidence,
            calibration.is_told,
            _px_per_mm(sheet.grid),
            is_disputed=calibration.is_told and bool(calibration.doubts),
            score=sheet.match.score / sheet.match.n_leads,
            has_usual_length=sheet.places.is_usual(),
            names_off_mm=_names_off_mm(sheet),
        ),
        left_mm,
    )
    quality = quality_of(evidence)
    doubts = doubts_about_sheet(
        found,
        upright,
        left_mm,
        about_scale=calibration.doubts,
        einthoven_mv=read.einthoven_mv,
    )
    doubts = (*doubts, *page_doubts(page, found.names), *quality_doubts(quality))
    judged = replace(
        recording,
        doubts=(*layout_doubts(upright.layout, quality, doubts), *doubts),
        is_rejected=is_hopeless(sheet.grid, upright, read.einthoven_mv) or most_wrong(quality),
        quality=quality,
    )
    return judged, evidence


def _names_off_mm(sheet: Sheet) -> float:
    """Return how far right of the leads' begins the names stand; 0 without names."""
    off_mm = sheet.match.names_mm - sheet.places.starts_mm
    known = off_mm[np.isfinite(off_mm)]
    return float(np.median(known)) if known.size else 0.0


def _px_per_mm(grid: GridMap) -> float:
    """Return the scale of the picture, px of it a mm of the sheet."""
    sides_px = np.linalg.norm(np.diff(grid.crossings_xy_px, axis=1), axis=-1)
    return float(np.median(sides_px)) / SQUARE_MM
