"""How large a printed grid is in a picture: its period, found in the picture alone.

A grid repeats itself: the mean brightness of its columns is like itself moved by one square. Ink is
left out, so that traces and letters do not hide the grid. The columns' means are taken in low bands
of the picture, and the rows' in narrow ones, and the likeness is the mean over the bands: in the
mean of a whole side, lines that are askew would blur.
"""

from typing import Final, NamedTuple

import cv2
import numpy as np

from ecg_digitize.frames import SQUARE_MM
from ecg_digitize.types import Float32, Float64, Image, Mask

_FINER: Final = 4  # steps of a pixel in which periods are first looked for

_Scale = tuple[float, float]  # px per mm, and how alike the grid is to itself at its period


class GridScaleOptions(NamedTuple):
    """What a grid is like."""

    px_per_mm: tuple[float, float] = (3.0, 25.0)  # scales that are looked for
    band_px: int = 48  # width of the bands
    ink: float = 0.6  # of the paper's brightness; what is darker is no line of the grid
    alike: float = 0.15  # least likeness of a grid to itself, moved by its period
    as_alike: float = 0.8  # of the greatest likeness; the first as great as this is the period
    same: float = 0.1  # how far the scales of both directions may be from each other
    inner: float = 0.12  # least likeness, of that at the period, at a fifth of it and its multiples
    stands_out: float = 1.08  # how much more alike a grid is every fifth line, if these are thicker
    wide_px: float = 18.0  # a period from here on is a square of 5 mm, where nothing else tells
    sigma_px: float = 0.8  # of a blur: lines on whole pixels are unevenly apart


DEFAULTS: Final = GridScaleOptions()


def grid_scale(image: Image, *, options: GridScaleOptions = DEFAULTS) -> float | None:
    """Measure how many pixels a millimetre of the grid has.

    Args:
        image: (H, W, 3) uint8 RGB, a picture of a grid whose lines lie along its sides, to a few
            degrees.
        options: What a grid is like.

    Returns:
        px per mm, the mean of both directions if both show the grid; None if none does, or if they
        contradict each other.
    """
    darkness, ink = _darkness(image, options)
    across, down = _scales(np.where(ink, np.float32(np.nan), darkness), options)
    if across is None or down is None:
        for scale, alike in filter(None, (across, down)):
            if alike >= options.alike:
                return scale
        # Lines may be as dark as ink, as on scans in black and white. Traces then stay in the
        # picture, and beats repeat themselves, too: both directions must show the same.
        across, down = _scales(darkness, options)
    if across is None or down is None or abs(across[0] / down[0] - 1) > options.same:
        return None
    return (across[0] + down[0]) / 2


def _scales(lines: Float32, options: GridScaleOptions) -> tuple[_Scale | None, _Scale | None]:
    """Measure across and down."""
    return _scale_along(lines, options), _scale_along(lines.T, options)


def _darkness(image: Image, options: GridScaleOptions) -> tuple[Float32, Mask]:
    """Return (H, W) darkness as a share of the paper's brightness, and (H, W) whether it is ink."""
    reach = 2 * round(options.band_px / 2) + 1
    darkest = image.min(axis=2)  # the channel that shows a coloured grid best
    brightest = image.max(axis=2)  # the channel that shows it least
    paper = cv2.blur(cv2.dilate(brightest, np.ones((reach, reach), np.uint8)), (reach, reach))
    ink = cv2.dilate((brightest < options.ink * paper).astype(np.uint8), np.ones((3, 3), np.uint8))
    darkness = 1 - darkest.astype(np.float32) / np.maximum(paper, 1)
    return darkness, np.asarray(ink > 0, np.bool_)


def _scale_along(lines: Float32, options: GridScaleOptions) -> _Scale | None:
    """Return px per mm across a picture and how alike it is to itself there; None without grid."""
    least, most = options.px_per_mm
    n = lines.shape[1]
    longest = min(round(1.2 * SQUARE_MM * most), n // 2)
    profiles = _profiles(lines, options)
    if not len(profiles) or longest < SQUARE_MM * least:
        return None
    alike = _likeness(profiles, longest, options.sigma_px)
    period = _period(alike, least, options)
    if period is None:
        return None
    period_px, is_square = period
    exact_px = _refined(profiles, period_px)
    per_mm = exact_px / (SQUARE_MM if is_square else 1.0)
    return (per_mm, _at(alike, period_px)) if least <= per_mm <= most else None


def _profiles(lines: Float32, options: GridScaleOptions) -> Float64:
    """Return (bands, n): mean darkness of the columns of each band, without slow changes."""
    height, width = lines.shape
    n_bands = max(height // options.band_px, 1)
    some = []
    for band in np.array_split(lines, n_bands):
        known = np.isfinite(band)
        count = known.sum(axis=0)
        seen = count > 0.3 * len(band)
        if seen.mean() < 0.5:
            continue
        total = np.where(known, band, 0).sum(axis=0, dtype=np.float64)
        mean = np.interp(np.arange(width), np.flatnonzero(seen), total[seen] / count[seen])
        some.append(mean)
    return np.array(some).reshape(-1, width)


def _likeness(profiles: Float64, longest: int, sigma_px: float) -> Float64:
    """Return how alike profiles are to themselves moved by k / _FINER px, k from 0 on."""
    n = profiles.shape[1]
    smooth = np.array([cv2.blur(p[None], (longest | 1, 1))[0] for p in profiles])
    rough = np.array([cv2.GaussianBlur(p[None], (0, 0), sigma_px)[0] for p in profiles]) - smooth
    rough /= np.maximum(rough.std(axis=1, keepdims=True), 1e-6)
    fft = np.fft.rfft(rough, 2 * n)
    power = (np.abs(fft) ** 2).mean(axis=0)
    both = np.fft.irfft(power, 2 * n * _FINER)[: longest * _FINER + 1] * _FINER
    return np.asarray(both / (n - np.arange(len(both)) / _FINER))


def _at(alike: Float64, lag_px: float) -> float:
    """Return the greatest likeness about a lag."""
    k = lag_px * _FINER
    reach = max(0.03 * k, 2)
    around = alike[max(round(k - reach), 0) : round(k + reach) + 1]
    return float(around.max(initial=-1.0))


def _period(
    alike: Float64, least_px: float, options: GridScaleOptions
) -> tuple[float, bool] | None:
    """Return the period in px, and whether it is that of the squares of 5 mm or of those of 1."""
    inner = alike[1:-1]
    peaks = 1 + np.flatnonzero((inner > alike[:-2]) & (inner >= alike[2:]))
    peaks = peaks[peaks >= least_px * _FINER]
    if not peaks.size or alike[peaks].max() < options.alike:
        return None
    greatest = float(alike[peaks].max())
    first = peaks[alike[peaks] >= options.as_alike * greatest][0]
    period_px, at_period = first / _FINER, float(alike[first])

    def repeats(share: int) -> bool:
        """Say whether the grid is like itself at a share of the period, but not between."""
        step_px = period_px / share
        if step_px < least_px:
            return False
        on = min(_at(alike, k * step_px) for k in range(1, share))
        between = max(float(alike[round((k + 0.5) * step_px * _FINER)]) for k in range(share))
        return on >= options.inner * at_period and on > between

    # Lines that were drawn on whole pixels may be more alike two, three or four squares away.
    period_px /= next((share for share in (4, 3, 2) if repeats(share)), 1)
    if repeats(5):
        return period_px, True
    if SQUARE_MM * period_px * _FINER < len(alike):
        *between_fifths, fifth = (_at(alike, k * period_px) for k in (1, 2, 3, 4, 5))
        if fifth > options.stands_out * max(between_fifths):
            return period_px, False
    return period_px, period_px >= options.wide_px


def _refined(profiles: Float64, period_px: float) -> float:
    """Return the period at which the profiles hold the most power, in it and its harmonics."""
    n = profiles.shape[1]
    rough = (profiles - profiles.mean(axis=1, keepdims=True)) * np.hanning(n)
    tried = period_px * np.linspace(0.96, 1.04, 321)
    at = np.arange(n)
    power = np.zeros(len(tried))
    for harmonic in range(1, 6):
        if period_px / harmonic < 2.5:
            break
        waves = np.exp(-2j * np.pi * harmonic * at[:, None] / tried)
        power += (np.abs(rough @ waves) ** 2).mean(axis=0)
    return float(tried[power.argmax()])
