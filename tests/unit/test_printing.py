"""Printers and phones: what they do to strokes and tints, and that nothing moves."""

from dataclasses import replace

import numpy as np
import pytest

from ecg_digitize.layout import COMPETITION
from ecg_digitize.synth import degrade
from ecg_digitize.synth.chance import Chance
from ecg_digitize.synth.page import default_style, draw_page, laser_print
from ecg_digitize.synth.printing import DEFAULTS, printed

PX_PER_MM = 7.874


def chance(seed=0):
    rng = np.random.default_rng(seed)
    return Chance(rng, rng)


def squares():
    """White paper with black squares of 10 px, whose middles are returned."""
    image = np.full((400, 500, 3), 255, np.uint8)
    middles = [(x, y) for y in range(30, 380, 60) for x in range(30, 480, 60)]
    for x, y in middles:
        image[y - 5 : y + 5, x - 5 : x + 5] = 0
    return image, np.array(middles) - 0.5


@pytest.mark.parametrize("seed", range(4))
def test_nothing_moves_in_a_printer(seed):
    image, middles = squares()

    page, px_per_mm = printed(image, chance(seed), px_per_mm=PX_PER_MM)

    scale = px_per_mm / PX_PER_MM
    assert px_per_mm == pytest.approx(DEFAULTS.px_per_mm)
    dark = 255.0 - page.mean(axis=2)
    for x, y in (middles + 0.5) * scale - 0.5:
        box = dark[round(y) - 14 : round(y) + 15, round(x) - 14 : round(x) + 15]
        rows, columns = np.indices(box.shape)
        at = np.array([(box * columns).sum(), (box * rows).sum()]) / box.sum()
        np.testing.assert_allclose(at + np.rint([x, y]) - 14, [x, y], atol=0.35)


def test_tints_become_dots_and_the_faintest_are_lost():
    pink = np.full((200, 200, 3), (255, 205, 200), np.uint8)
    sharp = DEFAULTS._replace(hardness=(12, 12), gain_px=(0.2, 0.2))

    dots, _ = printed(pink, chance(), px_per_mm=12, options=sharp._replace(faintest=(0, 0)))
    lost, _ = printed(pink, chance(), px_per_mm=12, options=sharp._replace(faintest=(0.3, 0.3)))

    inside = dots[20:-20, 20:-20]
    assert (inside == 255).all(axis=2).mean() > 0.3
    assert inside.min() < 120
    assert abs(inside.mean() - pink.mean()) < 12
    assert (lost == 255).all()


def test_red_ink_is_darker_than_plotted_red_and_black_is_no_tint():
    red = np.full((60, 60, 3), (255, 0, 0), np.uint8)
    black = np.zeros((60, 60, 3), np.uint8)

    red, _ = printed(red, chance(), px_per_mm=12)
    black, _ = printed(black, chance(), px_per_mm=12)

    r, g, b = red[30, 30].astype(int)
    assert 130 < r < 190
    assert max(g, b) < 60
    assert 15 < black.max() < 90
    assert np.ptp(black) <= 1


def test_black_ink_aside_takes_its_labels_along():
    signals_mv = np.zeros((12, 5000), np.float32)
    signals_mv[:, 100::400] = 1.0  # spikes of one sample, on every row at the same places
    style = replace(default_style(), pulses=False)
    rng = np.random.default_rng(0)
    plain = draw_page(signals_mv, style, rng)

    aside = draw_page(signals_mv, replace(style, black_off_mm=((0.5,) * 4,) * 4), rng)

    # Half a millimetre is 10 samples: the ink's tops stand there, and so do its labels.
    at, moved = (np.argmin(page.rows_mm[0, 900:950]) for page in (plain, aside))
    assert moved - at == 10
    off_px = round(0.5 * style.px_per_mm)
    top = round((COMPETITION.zero_mm[0] - 8.0 - style.top_mm) * style.px_per_mm)
    ink = [(page.image[top] < 60).all(axis=1) for page in (plain, aside)]
    assert ink[0].sum() > 20
    assert (np.roll(ink[0], off_px) != ink[1]).sum() < 0.3 * ink[0].sum()


def test_registration_is_off_by_tens_of_microns():
    off_mm = np.concatenate(
        [laser_print(default_style(), np.random.default_rng(k)).black_off_mm for k in range(200)]
    )
    assert off_mm.shape == (800, 12)
    assert 0.02 < off_mm.std() < 0.06
    assert np.abs(off_mm).max() < 0.3


def test_phones_leave_a_halo_and_less_noise():
    rng = np.random.default_rng(0)
    image = np.full((200, 200, 3), 180, np.uint8)
    image[:, 95:105] = 40
    image = np.clip(image + rng.normal(0, 3, image.shape[:2])[..., None], 0, 255).astype(np.uint8)

    pictures = [degrade.develop(image, chance(seed)) for seed in range(20)]

    halo = [picture[:, 92:94].mean() - picture[:, :60].mean() for picture in pictures]
    assert max(halo) > 15
    assert min(halo) > -3
    assert min(picture[:, :80].std() for picture in pictures) < 0.6 * image[:, :80].std()
