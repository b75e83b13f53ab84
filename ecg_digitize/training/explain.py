"""What a page's score is lost to, with the truth in sight.

Each remedy mends one kind of error in what was read and leaves the rest; the metric then scores the
page again, and the rise is what that kind of error costs. Remedies overlap: the figures do not add
up. They are fitted to the signals as the metric aligns them, a whole-sample shift and a constant a
lead, at the truth's own rate.

Signs: an error is truth - read, in mV. ``gain`` is read over truth, so that 1.1 is a tenth too
tall. A positive time is late. Differences of the truth y are those of 500 Hz whatever its rate is:
the first is (y(t + 2 ms) - y(t - 2 ms)) / 2, the second y(t + 2 ms) - 2 y(t) + y(t - 2 ms), along a
spline where the truth has no sample. A read that is late by 2 ms has a first coefficient of 1; one
blurred by a Gaussian whose sigma is s times 2 ms has a second coefficient of -s^2 / 2: its tips
come short.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from ecg_digitize.layout import COMPETITION
from ecg_digitize.metrics import image_snr
from ecg_digitize.training.aligned import AlignedPage, align_page
from ecg_digitize.types import Float64, Mask


class ExplainOptions(NamedTuple):
    """Constants of the explanation.

    Attributes:
        slow_hz: Errors below it are slow: a wandering baseline.
        knot_s: Distance of the knots between which a shift of time changes linearly.
        shift_ms: How far a knot is expected to be from the mean of all: the standard deviation of
            its prior. On 25 real photos 2 ms gives back 0.62 dB by the other rows' beats, 0.5 ms
            0.63 dB, 0.25 ms 0.65 dB but less of the wander.
        shift_rounds: How often a shift is improved by what it leaves.
        qrs_s: A QRS complex reaches this far to both sides of its steepest moment.
        beat_gap_s: Two QRS complexes are at least this far apart.
        beat_smooth_s: Standard deviation over which the steepness of a QRS is averaged.
        beat_share: How steep it must be, as a share of the page's steep ones.
        most_db: Without an error a page has this many dB.
    """

    slow_hz: float = 1.0
    knot_s: float = 1.0
    shift_ms: float = 0.5
    shift_rounds: int = 3
    qrs_s: float = 0.06
    beat_gap_s: float = 0.25
    beat_smooth_s: float = 0.02
    beat_share: float = 0.25
    most_db: float = 120.0


DEFAULTS = ExplainOptions()


@dataclass(frozen=True)
class Worth:
    """What a page's score rises by when one kind of error is undone, dB.

    Attributes:
        capped_db: Of the score that stops at the metric's cap: 0 for a page that is there already.
        db: Of the score without cap.
    """

    capped_db: float
    db: float


@dataclass(frozen=True)
class Explanation:
    """What is lost to what on one page; the module says the signs.

    Attributes:
        snr_capped_db: The page's score, stopped at the metric's cap.
        snr_db: Without cap; `ExplainOptions.most_db` where there is no error.
        gain: Read over truth, one factor for all leads.
        gain_worth: Of dividing by it.
        slow_mv: RMS of the error below `ExplainOptions.slow_hz`.
        slow_worth: Of taking that off.
        late_ms: How late the page is, one time for all leads, before the metric aligns them.
        late_worth: Of shifting it back; the metric forgives whole samples already.
        shared_ms: RMS of the smooth shift that rows share, about its mean.
        shared_worth: Of undoing the smooth shift of the other rows: each row by what its neighbours
            say, so that noise earns nothing.
        own_ms: RMS of the smooth shifts that fit each row by itself, about `late_ms`.
        own_worth: Of undoing these. They are judged on what they were fitted to: no less is lost
            to smooth time, but some of it is noise.
        qrs_share: Share of the error's energy within QRS complexes, 0 where there is no error.
        first: Coefficient of the truth's first difference in the error within QRS complexes.
        first_worth: Of taking that part off.
        second: Of its second difference, fitted together with the first.
        second_worth: Of taking that part off.
    """

    snr_capped_db: float
    snr_db: float
    gain: float
    gain_worth: Worth
    slow_mv: float
    slow_worth: Worth
    late_ms: float
    late_worth: Worth
    shared_ms: float
    shared_worth: Worth
    own_ms: float
    own_worth: Worth
    qrs_share: float
    first: float
    first_worth: Worth
    second: float
    second_worth: Worth


def explain(
    truth_mv: NDArray[np.floating[Any]],
    read_mv: NDArray[np.floating[Any]],
    *,
    fs_hz: float,
    options: ExplainOptions = DEFAULTS,
) -> Explanation:
    """Say what a page's score is lost to.

    Args:
        truth_mv: (12, n) floating, LEADS order, mV; a lead's window is where it is finite.
        read_mv: Same shape and unit; what is not finite was not read, and counts as lost whatever
            else is mended.
        fs_hz: Sampling rate of both.
        options: Constants.

    Returns:
        The figures, all finite.

    Raises:
        ValueError: The shapes do not fit, or no lead of the truth has a finite sample.
    """
    truth, read = np.asarray(truth_mv, np.float64), np.asarray(read_mv, np.float64)

    def score_db(read_mv: Float64) -> tuple[float, float]:
        score = image_snr(truth, read_mv, fs_hz=fs_hz)
        return score.snr_capped_db, min(score.snr_db, options.most_db)

    capped_db, db = score_db(read)
    page = align_page(truth, read, fs_hz=fs_hz)

    def worth(error_mv: Float64) -> Worth:
        mended_mv = np.full(truth.shape, np.nan)
        kept = page.known
        mended_mv[page.lead[kept], page.sample[kept]] = (page.truth_mv - error_mv)[kept]
        after_capped_db, after_db = score_db(mended_mv)
        return Worth(after_capped_db - capped_db, after_db - db)

    error_mv = page.error_mv()
    # What is wrong with the voltages.
    gain, factor = _gain(page)
    slow_mv = _slow_part(page, error_mv, options)
    # What is wrong with the time: of the page, of the other rows, of each row.
    knots_s = np.linspace(
        0, COMPETITION.duration_s, round(COMPETITION.duration_s / options.knot_s) + 1
    )
    late_s = _fit_shift(page, page.known, np.zeros(1), options)
    shared_s, own_s = np.zeros((2, page.time_s.size))
    for row in np.unique(page.row):
        here = page.row == row
        shared_s[here] = _fit_shift(page, page.known & ~here, knots_s, options)[here]
        own_s[here] = _fit_shift(page, page.known & here, knots_s, options)[here]
    # What is wrong with the QRS complexes.
    in_qrs = _in_qrs(page, fs_hz, options)
    shapes_mv = page.differences_mv() * (in_qrs & page.known)
    first, second = np.linalg.lstsq(shapes_mv.T, error_mv, rcond=None)[0]
    energy = error_mv**2
    return Explanation(
        snr_capped_db=capped_db,
        snr_db=db,
        gain=gain,
        gain_worth=worth(page.truth_mv - factor * (page.truth_mv - error_mv)),
        slow_mv=_rms(slow_mv),
        slow_worth=worth(error_mv - slow_mv),
        late_ms=1e3 * float(late_s[0]),
        late_worth=worth(page.error_mv(late_s - page.taken_s)),
        shared_ms=1e3 * _rms(shared_s - shared_s.mean()),
        shared_worth=worth(page.error_mv(shared_s - page.taken_s)),
        own_ms=1e3 * _rms(own_s - late_s),
        own_worth=worth(page.error_mv(own_s - page.taken_s)),
        qrs_share=float(energy[in_qrs].sum() / max(energy.sum(), np.finfo(float).tiny)),
        first=float(first),
        first_worth=worth(error_mv - first * shapes_mv[0]),
        second=float(second),
        second_worth=worth(error_mv - second * shapes_mv[1]),
    )


def mean(explanations: Sequence[Explanation]) -> Explanation:
    """Return the mean of every figure over one page or more."""
    figures: dict[str, Any] = {}
    for name in (field.name for field in fields(Explanation)):
        values = [getattr(explanation, name) for explanation in explanations]
        if isinstance(values[0], Worth):
            capped_db = float(np.mean([value.capped_db for value in values]))
            figures[name] = Worth(capped_db, float(np.mean([value.db for value in values])))
        else:
            figures[name] = float(np.mean(values))
    return Explanation(**figures)


def _gain(page: AlignedPage) -> tuple[float, float]:
    """Return read over truth, and the factor that brings the read closest to the truth."""
    truth = page.centred(page.truth_mv, page.known)
    read = page.centred(page.truth_mv - page.error_mv(), page.known)
    both = float(truth @ read)
    gain = both / (truth @ truth) if truth.any() else 1.0
    return float(gain), float(both / (read @ read)) if read.any() else 1.0


def _slow_part(page: AlignedPage, error_mv: Float64, options: ExplainOptions) -> Float64:
    """Return (n,) what cosines below the limit explain of each lead's error, mV."""
    slow_mv = np.zeros_like(error_mv)
    for lead in page.curves:
        here = page.known & (page.lead == lead)
        if not here.any():
            continue
        time_s = page.time_s[here]
        since_s, length_s = time_s - time_s[0], time_s[-1] - time_s[0] + 1e-9
        waves = np.arange(int(2 * length_s * options.slow_hz) + 1)
        cosines = np.cos(np.pi * waves * since_s[:, None] / length_s)
        slow_mv[here] = cosines @ np.linalg.lstsq(cosines, error_mv[here], rcond=None)[0]
    return page.centred(slow_mv, page.known)


def _fit_shift(
    page: AlignedPage, chosen: Mask, knots_s: Float64, options: ExplainOptions
) -> Float64:
    """Return (n,) how late the chosen samples are, s, linear between knots; one is a constant."""
    hats = np.stack([np.interp(page.time_s, knots_s, hat) for hat in np.eye(knots_s.size)])
    apart = np.eye(knots_s.size) - 1 / knots_s.size  # what is common to all knots is free
    shifts_s = np.full(knots_s.size, np.median(page.taken_s[chosen]) if chosen.any() else 0.0)
    for _ in range(options.shift_rounds):
        now_s = shifts_s @ hats - page.taken_s
        moves = page.centred(hats * page.slope_mv_s(now_s), chosen)
        error_mv = page.centred(page.error_mv(now_s), chosen)
        noise_mv2 = np.sum(error_mv**2) / max(chosen.sum(), 1)
        prior = noise_mv2 / (1e-3 * options.shift_ms) ** 2 * apart
        normal = moves @ moves.T + prior
        shifts_s += np.linalg.lstsq(normal, moves @ error_mv - prior @ shifts_s, rcond=None)[0]
    return np.asarray(shifts_s @ hats)


def _in_qrs(page: AlignedPage, fs_hz: float, options: ExplainOptions) -> Mask:
    """Return (n,) the samples near moments at which the truth's leads are steep together."""
    steep, count = np.zeros((2, page.sample.max() + 1))
    first_mv = page.differences_mv()[0]
    for lead in page.curves:
        here = page.lead == lead
        power = first_mv[here] ** 2
        steep[page.sample[here]] += power / max(np.percentile(power, 99), np.finfo(float).tiny)
        count[page.sample[here]] += 1
    envelope = gaussian_filter1d(steep / np.maximum(count, 1), options.beat_smooth_s * fs_hz)
    beats, _ = find_peaks(
        envelope,
        height=options.beat_share * np.percentile(envelope, 98),
        distance=max(1, options.beat_gap_s * fs_hz),
    )
    near = np.zeros(envelope.size, np.bool_)
    reach = round(options.qrs_s * fs_hz)
    for beat in beats:
        near[max(0, beat - reach) : beat + reach + 1] = True
    return near[page.sample]


def _rms(values: Float64) -> float:
    return float(np.sqrt(np.mean(values**2)))
