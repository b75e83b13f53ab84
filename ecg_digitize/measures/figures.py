"""Figures a clinician reads: rate, intervals, axis and ST, each None where it is not certain."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from ecg_digitize.layout import LEADS
from ecg_digitize.measures.beats import (
    FS_HZ,
    LEAST_FS_HZ,
    Beats,
    MeanBeats,
    NotMeasured,
    find_beats,
    mean_beats,
    neurokit,
    resampled,
)
from ecg_digitize.measures.synchrony import check_synchronous
from ecg_digitize.measures.waves import Waves, find_waves
from ecg_digitize.types import Float64, Mask, Recording

NOTE: Final = "research figures, not for diagnosis"
ST_AFTER_J_S: Final = 0.06
"""ST is read 60 ms after the J point, where T waves do not yet begin at fast rates either; 60 and
80 ms are both in use (Fletcher et al., AHA exercise standards, Circulation 128:873, 2013)."""
ST_MEAN_S: Final = 0.008
"""Half the width of what is averaged there."""
LEVEL_S: Final = 0.016
"""ST is relative to the mean of so long before the QRS complex, the end of the PR segment."""
LEAST_LEAD_BEATS: Final = 2
"""Of which ST and the axis are a mean."""
ST_APART_MV: Final = 0.15
"""ST is None where beats of a lead differ by more (most minus least)."""
LEAST_LEADS: Final = 3
"""That intervals are measured on."""
LEAST_AXIS_SHARE: Final = 0.15
"""The axis is None where the net area is a smaller share of the area under all deflections."""
LEAST_QUALITY: Final = 0.5
"""Leads that are less probably right are left out, see quality.py."""
MOST_IRREGULAR: Final = 0.15
"""Standard deviation of the RR intervals by their mean, above which no QT is corrected by them."""
P_ALIKE: Final = 0.5
"""Correlation of a beat's P wave with that of the other beats, from which on it counts as seen."""
LEAST_SHARE_P: Final = 0.7
"""Share of the beats that have a P wave, without which there is no PR interval."""


@dataclass(frozen=True)
class Measures:
    """What was measured on a recording: research figures, not for diagnosis.

    Attributes:
        rate_per_min: Mean ventricular rate.
        pr_ms: Begin of P to begin of QRS.
        qrs_ms: Duration of the QRS complex.
        qt_ms: Begin of QRS to end of T.
        qtc_bazett_ms: QT / RR^0.5.
        qtc_fridericia_ms: QT / RR^(1/3).
        axis_deg: Of the QRS complex in the frontal plane: 0 is lead I, 90 is aVF; (-180, 180].
        st_mv: Lead -> ST level; only leads where it was measured.
        n_beats: Beats found.
        leads: Figure -> the leads that it was measured on.
        notes: Why figures are missing.
    """

    rate_per_min: float | None = None
    pr_ms: float | None = None
    qrs_ms: float | None = None
    qt_ms: float | None = None
    qtc_bazett_ms: float | None = None
    qtc_fridericia_ms: float | None = None
    axis_deg: float | None = None
    st_mv: Mapping[str, float] = field(default_factory=dict)
    n_beats: int = 0
    leads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the figures, rounded to what they are worth, as what JSON can hold."""
        return {
            "note": NOTE,
            "rate_per_min": _rounded(self.rate_per_min, 1),
            **{name: _rounded(getattr(self, name), 0) for name in INTERVALS},
            "axis_deg": _rounded(self.axis_deg, 0),
            "st_mv": {lead: round(mv, 3) for lead, mv in self.st_mv.items()},
            "n_beats": self.n_beats,
            "leads": {figure: list(leads) for figure, leads in self.leads.items()},
            "notes": list(self.notes),
        }


INTERVALS: Final = ("pr_ms", "qrs_ms", "qt_ms", "qtc_bazett_ms", "qtc_fridericia_ms")
FIGURES: Final = ("rate_per_min", *INTERVALS, "axis_deg")
"""The figures of a page that are one number; ST is one a lead."""


def measure(recording: Recording) -> Measures:
    """Measure rate, intervals, axis and ST; research figures, not for diagnosis.

    Beats are found on the rhythm strip, or the lead that is seen longest. Intervals are measured
    on the median beats of all leads together, see ``waves``; ST on each lead's own.

    Args:
        recording: Signals as printed: NaN outside the leads' windows.

    Raises:
        InputError: neurokit2 is not installed.
    """
    neurokit()
    if recording.fs_hz < LEAST_FS_HZ:
        return Measures(notes=(f"expected 100 Hz or more, but got {recording.fs_hz:g} Hz",))
    if recording.is_rejected:
        return Measures(notes=("nothing: the reading is rejected",))
    signals_mv = resampled(recording)
    doubted = _doubted(recording)
    signals_mv[[LEADS.index(lead) for lead in doubted]] = np.nan
    notes = [f"{lead} left out: it is probably wrong" for lead in doubted]
    try:
        beats = find_beats(signals_mv, strip=recording.rhythm)
    except NotMeasured as error:
        return Measures(notes=(*notes, f"nothing: {error}"))
    mean = mean_beats(signals_mv, beats)
    on_beat = Measures(
        rate_per_min=beats.rate_per_min,
        n_beats=len(beats.r_s),
        leads={"rate_per_min": (beats.lead,)},
    )
    whole = np.asarray(np.isfinite(mean.beats_mv).all(axis=1))
    try:
        if whole.sum() < LEAST_LEADS:
            raise NotMeasured(f"fewer than {LEAST_LEADS} leads show a whole beat")
        check_synchronous(signals_mv, mean)
        waves = find_waves(mean.times_s, mean.beats_mv[whole])
    except NotMeasured as error:
        return replace(on_beat, notes=(*notes, f"no intervals, axis and ST: {error}"))
    interval_leads = tuple(lead for lead, one in zip(LEADS, whole.tolist(), strict=True) if one)
    figures, st_mv, why = _figures(beats, mean, waves)
    leads = {name: ("I", "aVF") if name == "axis_deg" else interval_leads for name in figures}
    return replace(
        on_beat,
        **figures,
        st_mv=st_mv,
        leads={**on_beat.leads, **leads, "st_mv": tuple(st_mv)},
        notes=(*notes, *why),
    )


def _doubted(recording: Recording) -> list[str]:
    if recording.quality is None:
        return []
    pairs = zip(LEADS, recording.quality.tolist(), strict=True)
    return [lead for lead, right in pairs if right < LEAST_QUALITY]


def _figures(
    beats: Beats, mean: MeanBeats, waves: Waves
) -> tuple[dict[str, Any], dict[str, float], list[str]]:
    """Return the figures but for the rate, ST of leads, and why others are missing."""
    figures: dict[str, Any] = {"qrs_ms": 1e3 * (waves.qrs_off_s - waves.qrs_on_s)}
    notes = []
    if waves.t_off_s is None:
        notes.append(f"no QT: {waves.why['T']}")
    else:
        qt_s = waves.t_off_s - waves.qrs_on_s
        figures["qt_ms"] = 1e3 * qt_s
        if beats.irregularity > MOST_IRREGULAR:
            notes.append("no QTc: the beats are irregular")
        else:
            figures["qtc_bazett_ms"] = bazett_ms(qt_s, beats.rr_s)
            figures["qtc_fridericia_ms"] = fridericia_ms(qt_s, beats.rr_s)
    try:
        figures["pr_ms"] = _pr_ms(waves, mean, beats)
    except NotMeasured as error:
        notes.append(f"no PR: {error}")
    try:
        figures["axis_deg"] = _axis_deg(mean, waves)
    except NotMeasured as error:
        notes.append(f"no axis: {error}")
    st_mv = {}
    for lead in LEADS:
        try:
            st_mv[lead] = _st_mv(mean, waves, lead)
        except NotMeasured as error:
            notes.append(f"no ST in {lead}: {error}")
    return figures, st_mv, notes


def bazett_ms(qt_s: float, rr_s: float) -> float:
    """Return QT / RR^(1/2), RR in seconds (Bazett, Heart 7:353, 1920)."""
    return 1e3 * qt_s / math.sqrt(rr_s)


def fridericia_ms(qt_s: float, rr_s: float) -> float:
    """Return QT / RR^(1/3), RR in seconds (Fridericia, Acta Med Scand 53:469, 1920)."""
    return float(1e3 * qt_s / rr_s ** (1 / 3))


def axis_deg(i_area: float, avf_area: float) -> float:
    """Return the frontal axis of net QRS areas, in degrees within (-180, 180].

    An augmented lead is sqrt(3)/2 as long as lead I, so that the axis is
    atan2(2 aVF, sqrt(3) I) (Novosel et al., Croat Med J 40:77, 1999).
    """
    return math.degrees(math.atan2(2 * avf_area, math.sqrt(3) * i_area))


def _pr_ms(waves: Waves, mean: MeanBeats, beats: Beats) -> float:
    """Return the PR interval, if the lead of the beats shows the same P wave in most of them."""
    if waves.p_on_s is None:
        raise NotMeasured(waves.why["P"])
    around = (mean.times_s >= waves.p_on_s - 0.03) & (mean.times_s <= waves.qrs_on_s)
    each = mean.each_mv[beats.lead][:, around]
    each = each[np.isfinite(each).all(axis=1)]
    if len(each) < LEAST_LEAD_BEATS + 1:
        raise NotMeasured("too few beats show what is before QRS")
    seen = 0
    for k, one in enumerate(each):
        others = np.median(np.delete(each, k, axis=0), axis=0)
        seen += np.corrcoef(one, others)[0, 1] >= P_ALIKE  # NaN of a flat line is not
    if seen < LEAST_SHARE_P * len(each):
        raise NotMeasured(f"only {seen} of {len(each)} beats in {beats.lead} show the same P wave")
    return 1e3 * (waves.qrs_on_s - waves.p_on_s)


def _axis_deg(mean: MeanBeats, waves: Waves) -> float:
    net, total = {}, 0.0
    for lead in ("I", "aVF"):
        qrs = _qrs_mv(mean, waves, lead)
        net[lead] = float(qrs.sum())
        total = max(total, float(np.abs(qrs).sum()))
    if max(map(abs, net.values())) < LEAST_AXIS_SHARE * total:
        raise NotMeasured("the QRS complexes of I and aVF are as much above as below the line")
    return axis_deg(net["I"], net["aVF"])


def _qrs_mv(mean: MeanBeats, waves: Waves, lead: str) -> Float64:
    inside = (mean.times_s >= waves.qrs_on_s) & (mean.times_s <= waves.qrs_off_s)
    before = _before_qrs(mean, waves)
    index = LEADS.index(lead)
    if mean.n_beats[index, inside | before].min() < LEAST_LEAD_BEATS:
        raise NotMeasured(f"fewer than {LEAST_LEAD_BEATS} beats in {lead}")
    mv = mean.beats_mv[index]
    level: Float64 = mv[inside] - mv[before].mean()
    return level


def _st_mv(mean: MeanBeats, waves: Waves, lead: str) -> float:
    """Return the mean over a lead's beats of ST_AFTER_J_S after QRS, relative to before QRS."""
    at_s = waves.qrs_off_s + ST_AFTER_J_S
    at = np.abs(mean.times_s - at_s) <= ST_MEAN_S + 0.5 / FS_HZ
    before = _before_qrs(mean, waves)
    each = mean.each_mv[lead]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        st_mv = each[:, at].mean(axis=1) - each[:, before].mean(axis=1)
    st_mv = st_mv[np.isfinite(st_mv)]
    if len(st_mv) < LEAST_LEAD_BEATS:
        raise NotMeasured(f"fewer than {LEAST_LEAD_BEATS} beats")
    if waves.t_off_s is not None and waves.t_off_s <= at_s:
        raise NotMeasured("T ends before")
    if np.ptp(st_mv) > ST_APART_MV:
        raise NotMeasured(f"its beats differ by {np.ptp(st_mv):.2f} mV")
    return float(st_mv.mean())


def _before_qrs(mean: MeanBeats, waves: Waves) -> Mask:
    after_s = mean.times_s - waves.qrs_on_s
    return (after_s >= -LEVEL_S) & (after_s <= 0.5 / FS_HZ)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits or None)
