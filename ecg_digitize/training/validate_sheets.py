"""How well sheets of any layout are read, and whether the quality of a lead means what it says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np

from ecg_digitize.errors import InputError
from ecg_digitize.failures import attempt
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import LEADS
from ecg_digitize.layouts import FAMILIES
from ecg_digitize.metrics import LeadScore, image_snr, of_length
from ecg_digitize.models import Models
from ecg_digitize.pipeline import digitize_page
from ecg_digitize.quality import DEFAULTS as QUALITY
from ecg_digitize.quality import RIGHT_DB, Evidence, QualityOptions, fit, quality_of
from ecg_digitize.synth.sheets import DEFAULTS as SHEETS
from ecg_digitize.synth.sheets import SyntheticSheet, make_sheet
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.types import Digitization, Failure, Float32, Float64, Image, Mask, Page

DAMAGES: Final = ("cut", "covered", "mirrored", "mislabelled")
DAMAGED_EVERY: Final = 5
"""One sheet in so many is damaged, each way in turn."""
USELESS_DB: Final = 10.0
_LEAST_SEEN: Final = 0.1
STEPS: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class LeadCheck:
    """A lead that was read, or should have been."""

    lead: str
    snr_db: float  # -inf where nothing of it is printed; NaN where nothing was read
    evidence: Evidence | None  # None where nothing was read


@dataclass(frozen=True)
class SheetCheck:
    """What one sheet gave."""

    index: int
    layout: str  # what is printed
    damage: str  # one of DAMAGES or ""
    read_as: str  # "" where it was refused
    verdict: str  # "ok", "check", "reject" or "failed"
    leads: tuple[LeadCheck, ...]
    error: str | None


@dataclass(frozen=True)
class SheetsReport:
    """Every sheet's check."""

    checks: tuple[SheetCheck, ...]

    def evidence(self) -> tuple[Float64, Float64]:
        """Return (n, evidences) of the leads that were read and not rejected, and their (n,) dB."""
        leads = [
            lead
            for check in self.checks
            if check.verdict in ("ok", "check")
            for lead in check.leads
            if lead.evidence is not None
        ]
        evidence = np.array([lead.evidence for lead in leads], np.float64)
        return evidence.reshape(-1, len(Evidence._fields)), np.array([x.snr_db for x in leads])

    def to_text(self, options: QualityOptions = QUALITY) -> str:
        """Return the tables to read."""
        lines = [
            f"{'sheets':<14}{'n':>5}{'failed':>8}{'rejected':>10}{'ok':>5}{'right':>7}{'dB':>8}"
            f"{'> 10 dB':>9}{'missed':>8}{'invented':>10}"
        ]
        whole = [check for check in self.checks if not check.damage]
        names = sorted({check.layout.partition("+")[0] for check in whole})
        groups = [(n, [c for c in whole if c.layout.partition("+")[0] == n]) for n in names]
        groups.append(("whole", whole))
        groups += [(d, [c for c in self.checks if c.damage == d]) for d in DAMAGES]
        lines += [_line(name, members) for name, members in groups if members]
        evidence, snr_db = self.evidence()
        if len(snr_db):
            lines += ["", *_calibration(evidence, snr_db, options)]
        return "\n".join(lines) + "\n"

    def to_json(self) -> list[dict[str, Any]]:
        """Return all checks as what `json.dumps` takes."""
        return [
            {
                "index": check.index,
                "layout": check.layout,
                "damage": check.damage,
                "read_as": check.read_as,
                "verdict": check.verdict,
                "error": check.error,
                "leads": {
                    one.lead: {"snr_db": one.snr_db if np.isfinite(one.snr_db) else None}
                    | ({} if one.evidence is None else one.evidence._asdict())
                    for one in check.leads
                },
            }
            for check in self.checks
        ]


def validate_sheets(
    source: SignalSource,
    models: Models,
    *,
    pages: int,
    seed: int,
    layout: str = "any",
    first: int = 0,
    progress: Callable[[SheetCheck], None] | None = None,
) -> SheetsReport:
    """Digitize fresh sheets and compare them with their truth.

    Args:
        source: Signals that training never saw.
        models: The networks.
        pages: How many sheets.
        seed: Family of sheets.
        layout: Name of a family, or "any".
        first: Index of the first.
        progress: Called after each sheet.

    Raises:
        InputError: No family has that name.
    """
    names = [family.name for family in FAMILIES]
    if layout not in ("any", *names):
        raise InputError(f"layout {layout!r}: expected any, {', '.join(names)}")
    options = SHEETS
    if layout != "any":
        options = options._replace(families=tuple(float(name == layout) for name in names))
    checks = []
    for index in range(first, first + pages):
        rng = np.random.default_rng([seed, index, 22])
        damage = ""
        if index % DAMAGED_EVERY == 0:
            damage = DAMAGES[index // DAMAGED_EVERY % len(DAMAGES)]
        wrong = options._replace(mislabelled=1.0) if damage == "mislabelled" else options
        sheet = make_sheet(source, seed=seed, index=index, options=wrong)
        image, seen = damaged(sheet, damage, rng)
        page = Page(image, f"sheet {index}")
        outcome = attempt(partial(digitize_page, page, models), page.source)
        checks.append(_checked(sheet, index, damage, seen, outcome))
        if progress is not None:
            progress(checks[-1])
    return SheetsReport(tuple(checks))


def damaged(sheet: SyntheticSheet, damage: str, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Damage a picture.

    Args:
        sheet: The picture.
        damage: One of DAMAGES; what is mislabelled is drawn so.
        rng: Source of randomness.

    Returns:
        The picture, and (H, W) bool in the picture before: what is still to be seen.
    """
    image = sheet.image.copy()
    height, width = image.shape[:2]
    seen = np.ones((height, width), np.bool_)
    if damage == "cut":
        share = rng.uniform(0.15, 0.5)
        left, right, top, bottom = 0, width, 0, height
        side = int(rng.integers(4))
        if side == 0:
            left = round(share * width)
        elif side == 1:
            right = round((1 - share) * width)
        elif side == 2:
            top = round(share * height)
        else:
            bottom = round((1 - share) * height)
        seen[:] = False
        seen[top:bottom, left:right] = True
        image = np.ascontiguousarray(image[top:bottom, left:right])
    elif damage == "covered":
        size = (rng.uniform(0.15, 0.5, 2) * (width, height)).astype(int)
        x, y = (rng.uniform(0, 1, 2) * ((width, height) - size)).astype(int)
        box = slice(y, y + size[1]), slice(x, x + size[0])
        image[box], seen[box] = int(rng.choice([0, 120, 235])), False
    elif damage == "mirrored":
        image = np.ascontiguousarray(cv2.flip(image, 1))
    return image, seen


def truth_of(sheet: SyntheticSheet, seen: Mask) -> Float32:
    """Return (12, n) mV: what of each lead's window is to be seen, NaN elsewhere."""
    layout = sheet.layout
    n = layout.n_columns
    truth_mv = np.full((len(LEADS), n), np.nan, np.float32)
    height, width = seen.shape
    for lead in layout.leads:
        row, columns = layout.place(lead)
        index = [segment.lead for segment in layout.rows[row].segments].index(lead)
        line_mm = sheet.sheet.lines_mm[row][index]
        zero_mm = np.column_stack([line_mm[:, 0], np.full(len(line_mm), layout.zero_mm[row])])
        at_px = np.rint(sheet.warp.page_from_sheet(zero_mm)).astype(np.int64)
        inside = ((at_px >= 0) & (at_px < (width, height))).all(axis=1)
        is_seen = np.zeros(len(line_mm), np.bool_)
        is_seen[inside] = seen[at_px[inside, 1], at_px[inside, 0]]
        if is_seen.mean() >= _LEAST_SEEN:
            window = truth_mv[LEADS.index(lead), columns]
            window[is_seen] = sheet.signals_mv[LEADS.index(lead), columns][is_seen]
    return truth_mv


def area_under_curve(score: Float64, is_right: Mask) -> float:
    """Return how likely a right one has a higher score than a wrong one; NaN without either."""
    n_right, n_wrong = int(is_right.sum()), int((~is_right).sum())
    if not n_right or not n_wrong:
        return float("nan")
    from scipy.stats import rankdata

    ranks = rankdata(score)[is_right].sum()
    return float((ranks - n_right * (n_right + 1) / 2) / (n_right * n_wrong))


def fitted(report: SheetsReport) -> QualityOptions:
    """Fit the weights of the evidence to what a report holds."""
    evidence, snr_db = report.evidence()
    return fit(evidence, snr_db >= RIGHT_DB)


def _checked(
    sheet: SyntheticSheet,
    index: int,
    damage: str,
    seen: Mask,
    outcome: Digitization | Failure,
) -> SheetCheck:
    name = sheet.layout.name
    if isinstance(outcome, Failure):
        return SheetCheck(index, name, damage, "", "failed", (), outcome.error)
    recording = outcome.recording
    truth_mv = truth_of(sheet, seen)
    read_mv = of_length(recording.signals_mv, truth_mv.shape[1])
    is_printed = np.asarray(np.isfinite(truth_mv).any(axis=1))
    is_read = np.asarray(np.isfinite(read_mv).sum(axis=1) > _LEAST_SEEN * TRACE_FS_HZ)
    scores: Mapping[str, LeadScore] = {}
    if is_printed.any():
        scores = image_snr(truth_mv, read_mv, fs_hz=TRACE_FS_HZ).leads
    if damage == "mirrored":  # whatever was read runs backwards
        scores = {lead: replace(one, snr_db=-np.inf) for lead, one in scores.items()}
    leads = []
    for k, lead in enumerate(LEADS):
        evidence = outcome.evidence.get(lead) if is_read[k] else None
        snr_db = scores[lead].snr_db if lead in scores else -np.inf
        if is_printed[k] or is_read[k]:
            leads.append(LeadCheck(lead, snr_db if is_read[k] else np.nan, evidence))
    return SheetCheck(
        index, name, damage, recording.layout.name, recording.verdict, tuple(leads), None
    )


def _line(name: str, checks: Sequence[SheetCheck]) -> str:
    accepted = [check for check in checks if check.verdict in ("ok", "check")]
    leads = [lead for check in accepted for lead in check.leads]
    read_db = np.array([lead.snr_db for lead in leads if lead.evidence is not None])
    printed_db = read_db[np.isfinite(read_db)]
    verdicts = [check.verdict for check in checks]
    right = sum(check.read_as == check.layout for check in accepted)
    return (
        f"{name:<14}{len(checks):5d}{verdicts.count('failed'):8d}{verdicts.count('reject'):10d}"
        f"{verdicts.count('ok'):5d}{right:7d}"
        f"{np.mean(printed_db) if len(printed_db) else np.nan:8.2f}"
        f"{np.mean(read_db >= USELESS_DB) if len(read_db) else np.nan:9.2f}"
        f"{sum(lead.evidence is None for lead in leads):8d}{int(np.isinf(read_db).sum()):10d}"
    )


def _calibration(evidence: Float64, snr_db: Float64, options: QualityOptions) -> list[str]:
    """Say how often leads of each quality are right, and how well it tells them apart."""
    leads = {str(k): Evidence(*row) for k, row in enumerate(evidence)}
    quality = np.array(
        [quality_of({LEADS[0]: one}, options=options)[0] for one in leads.values()], np.float64
    )
    is_right = snr_db >= RIGHT_DB
    lines = [f"{'quality':<14}{'leads':>7}{'mean':>7}{'right':>7}{'< 10 dB':>9}"]
    for low, high in pairwise(STEPS):
        within = (quality >= low) & ((quality < high) | (high == 1.0))
        if within.any():
            lines.append(
                f"{low:4.2f} to {high:4.2f}  {int(within.sum()):7d}{quality[within].mean():7.2f}"
                f"{is_right[within].mean():7.2f}{int((snr_db[within] < USELESS_DB).sum()):9d}"
            )
    called = quality >= options.right
    useless = int((snr_db[called] < USELESS_DB).sum())
    area = area_under_curve(quality, is_right)
    lines.append(f"area under the curve of the quality against {RIGHT_DB:g} dB: {area:.3f}")
    lines.append(
        f"{int(called.sum())} of {len(called)} leads are called ok; {useless} of them, "
        f"{useless / max(int(called.sum()), 1):.2%}, are below {USELESS_DB:g} dB"
    )
    return lines
