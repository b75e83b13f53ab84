from dataclasses import replace

import numpy as np
import pytest

from ecg_digitize import geometry, stages
from ecg_digitize.errors import StageError
from ecg_digitize.layout import COMPETITION, NAME_KEYS
from ecg_digitize.stage0 import normalize
from ecg_digitize.stage1.grid import unseen_grid
from ecg_digitize.types import Page

MAP_SIZE = (360, 288)  # width, height of the marker maps
PAGE_FROM_MAP = geometry.resizing(MAP_SIZE, (2160, 1728))
UPRIGHT = np.array([1, 0, 0, 0], np.float32)
UNSURE = np.full(4, 0.25, np.float32)


def camera(turns: int = 0) -> np.ndarray:
    """Return page_from_sheet of a slightly tilted page turned clockwise by quarter turns."""
    upright = np.array([[7.2, 0.15, 60], [-0.1, 7.4, 50], [5e-5, 1e-4, 1]])
    return geometry.quarter_turning(-turns, (2160, 1728)) @ upright


def marker_maps(page_from_sheet: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (13, h, w) discs of radius 5 px round the names, with soft edges and noise."""
    names = geometry.apply_homography(
        np.linalg.inv(PAGE_FROM_MAP) @ page_from_sheet, COMPETITION.names_mm
    )
    rows, columns = np.mgrid[0 : MAP_SIZE[1], 0 : MAP_SIZE[0]]
    away = np.hypot(columns - names[:, 0, None, None], rows - names[:, 1, None, None])
    maps = 0.95 / (1 + np.exp(np.minimum(2 * (away - 5), 50))) + 0.05 * rng.random(away.shape)
    return maps.astype(np.float32)


def noisy_names(page_from_sheet, rng, *, sigma_mm: float = 0.7) -> np.ndarray:
    mm = COMPETITION.names_mm + rng.normal(0, sigma_mm, COMPETITION.names_mm.shape)
    return geometry.apply_homography(page_from_sheet, mm).astype(np.float32)


def area_error_mm(fitted: np.ndarray, truth: np.ndarray) -> float:
    corners = np.array([[15, 70], [265, 70], [265, 205], [15, 205.0]])
    seen = geometry.apply_homography(np.linalg.inv(truth) @ fitted, corners)
    return float(np.linalg.norm(seen - corners, axis=1).max())


def test_names_are_found_to_a_fraction_of_a_map_pixel() -> None:
    maps = marker_maps(camera(), np.random.default_rng(0))
    maps[3] *= 0.1

    xy_px, confidence = normalize.find_names(maps)

    truth = geometry.apply_homography(np.linalg.inv(PAGE_FROM_MAP) @ camera(), COMPETITION.names_mm)
    assert np.isnan(xy_px[3]).all()
    assert confidence[3] == 0
    assert np.abs(np.delete(xy_px - truth, 3, axis=0)).max() < 0.15
    assert np.delete(confidence, 3).min() > 0.9


def test_a_disc_at_the_edge_of_the_map_is_found() -> None:
    maps = np.zeros((13, 40, 50), np.float32)
    maps[0, :4, 46:] = 0.9

    xy_px, _ = normalize.find_names(maps)

    assert xy_px[0] == pytest.approx([47.5, 1.5])


@pytest.mark.parametrize("turns", [0, 2])
def test_register_from_maps(turns: int) -> None:
    maps = marker_maps(camera(turns), np.random.default_rng(1))
    orientation = np.eye(4, dtype=np.float32)[turns]

    registration = normalize.register(maps, orientation, page_from_map=PAGE_FROM_MAP)

    assert registration.n_inliers == 13
    assert registration.quarter_turns == turns
    assert area_error_mm(registration.page_from_sheet, camera(turns)) < 0.5


@pytest.mark.parametrize("turns", range(4))
def test_quarter_turns_set_the_page_upright(turns: int) -> None:
    turned_size = (2160, 1728) if turns % 2 == 0 else (1728, 2160)

    assert normalize.quarter_turns(camera(turns)) == turns
    upright = geometry.quarter_turning(turns, turned_size) @ camera(turns)
    assert normalize.quarter_turns(upright) == 0


def test_wrong_and_missing_names_are_outvoted() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        names = noisy_names(camera(), rng)
        lost, wrong = np.split(rng.permutation(13)[:6], 2)
        names[lost] = np.nan
        names[wrong] = rng.uniform([0, 0], [2160, 1728], (3, 2))
        confidence = rng.uniform(0.4, 1, 13).astype(np.float32)

        registration = normalize.registration_from_names(names, confidence, UPRIGHT)

        assert 6 <= registration.n_inliers <= 8
        assert area_error_mm(registration.page_from_sheet, camera()) < 15
        assert (registration.names_confidence[lost] == 0).all()


def test_confused_ii_and_rhythm_cost_two_names() -> None:
    names = noisy_names(camera(), np.random.default_rng(3), sigma_mm=0.2)
    ii, rhythm = NAME_KEYS.index("II"), NAME_KEYS.index("rhythm")
    names[[ii, rhythm]] = names[[rhythm, ii]]

    registration = normalize.registration_from_names(names, np.ones(13, np.float32), UNSURE)

    assert registration.n_inliers == 11
    assert area_error_mm(registration.page_from_sheet, camera()) < 1.5


@pytest.mark.parametrize("n_names", [3, 4, 5, 6])
def test_the_stiff_fit_beats_the_lesser_and_the_freer_maps(n_names: int) -> None:
    rng = np.random.default_rng(n_names)
    errors = {"stiff": [], "similarity": [], "affine": [], "homography": []}
    for _ in range(60):
        use = rng.choice(13, n_names, replace=False)
        tilted = camera() @ np.array([[1, 0, 0], [0, 1, 0], [*rng.normal(0, 3e-4, 2), 1]])
        mm, px = COMPETITION.names_mm[use], noisy_names(tilted, rng)[use].astype(float)
        fits = {
            "stiff": normalize.fit_stiff_homography(mm, px, weights=np.ones(n_names, np.float32)),
            "similarity": geometry.fit_similarity(mm, px),
            "affine": geometry.fit_affine(mm, px),
        }
        if n_names > 4:
            fits["homography"] = geometry.fit_homography(mm, px)
        for name, fit in fits.items():
            errors[name].append(area_error_mm(fit, tilted))

    median = {name: np.median(values) for name, values in errors.items() if values}
    assert min(median, key=median.__getitem__) == "stiff", median


def test_with_all_names_the_stiff_fit_is_the_plain_homography() -> None:
    names = noisy_names(camera(), np.random.default_rng(4)).astype(float)

    stiff = normalize.fit_stiff_homography(
        COMPETITION.names_mm, names, weights=np.ones(13, np.float32)
    )

    assert area_error_mm(stiff, geometry.fit_homography(COMPETITION.names_mm, names)) < 0.3


def test_six_names_outvote_the_orientation_head_but_three_do_not() -> None:
    rng = np.random.default_rng(5)
    names = noisy_names(camera(), rng)
    upside_down = np.eye(4, dtype=np.float32)[2]
    confidence = np.ones(13, np.float32)

    assert normalize.registration_from_names(names, confidence, upside_down).quarter_turns == 0

    names[3:] = np.nan
    assert normalize.registration_from_names(names, confidence, UPRIGHT).n_inliers == 3
    with pytest.raises(StageError, match="found 3"):
        normalize.registration_from_names(names, confidence, upside_down)


def test_a_picture_without_names_says_what_to_do() -> None:
    with pytest.raises(StageError, match=r"holiday.jpg: .* found 0 \(none\).*retake") as caught:
        normalize.register(
            np.zeros((13, 20, 20), np.float32),
            UNSURE,
            page_from_map=np.eye(3),
            source="holiday.jpg",
        )
    assert caught.value.stage == "stage0"


def test_faint_names_are_read_if_five_agree() -> None:
    maps = 0.1 * marker_maps(camera(), np.random.default_rng(3))
    with pytest.raises(StageError):
        normalize.register(maps, UPRIGHT, page_from_map=PAGE_FROM_MAP)

    registration = normalize.register(maps, UPRIGHT, page_from_map=PAGE_FROM_MAP, faint=True)

    assert registration.n_inliers == 13
    assert area_error_mm(registration.page_from_sheet, camera()) < 1
    maps[4:] = 0
    with pytest.raises(StageError, match=r"found 4 .* and 5 must"):
        normalize.register(maps, UPRIGHT, page_from_map=PAGE_FROM_MAP, faint=True)


def test_random_peaks_are_rarely_taken_for_a_page() -> None:
    rng = np.random.default_rng(6)
    accepted = 0
    for _ in range(40):
        names = rng.uniform([0, 0], [2160, 1728], (13, 2)).astype(np.float32)
        try:
            normalize.registration_from_names(names, np.ones(13, np.float32), UNSURE)
            accepted += 1
        except StageError:
            pass
    assert accepted <= 2


@pytest.mark.parametrize(
    "bad",
    [
        np.diag([-7.0, 7, 1]),  # mirrored
        np.diag([9.0, 4, 1]),  # squeezed
        np.diag([0.8, 0.8, 1]),  # tiny
        np.array([[7, 0, 0], [0, 7, 0], [-6e-3, 0, 1.0]]),  # the horizon within the sheet
        np.array([[7, 0, 0], [0, 7, 0], [9e-3, 0, 1.0]]),  # along the paper
        np.full((3, 3), np.nan),
    ],
)
def test_absurd_homographies_are_refused(bad: np.ndarray) -> None:
    assert not normalize.is_plausible(bad)
    with pytest.raises(StageError, match="corners"):
        normalize.registration_from_homography(bad)


def test_a_known_homography_makes_a_registration() -> None:
    registration = normalize.registration_from_homography(3 * camera(1))

    assert registration.quarter_turns == 1
    assert registration.n_inliers == 13
    assert registration.page_from_sheet == pytest.approx(camera(1) / camera(1)[2, 2])


@pytest.mark.parametrize("stretch", [0.7, 0.85, 1.2])
@pytest.mark.parametrize("turns", range(4))
def test_rows_closer_together_do_not_stretch_the_sheet(stretch: float, turns: int) -> None:
    similar = np.array([[7.2, 0.3, 60], [-0.3, 7.2, 50], [0, 0, 1]])
    truth = geometry.quarter_turning(-turns, (2160, 1728)) @ similar
    mm = COMPETITION.names_mm * [1, stretch] + np.random.default_rng(0).normal(
        0, 0.5, COMPETITION.names_mm.shape
    )
    names = geometry.apply_homography(truth, mm).astype(np.float32)
    as_usual = normalize.registration_from_names(names, np.ones(13, np.float32), UNSURE)

    mended = normalize.unstretched(as_usual)

    assert mended is not None
    assert mended.quarter_turns == turns
    got, want = mended.page_from_sheet[:2, :2], truth[:2, :2]
    assert np.linalg.norm(got - want) < 0.02 * np.linalg.norm(want)
    seen = geometry.apply_homography(np.linalg.inv(mended.page_from_sheet), names)
    off_mm = seen - COMPETITION.names_mm
    assert np.abs(off_mm[:, 0]).max() < 3
    assert np.ptp(off_mm[:, 1]) == pytest.approx(
        abs(1 - stretch) * np.ptp(COMPETITION.names_mm[:, 1]), abs=4
    )


def test_a_sheet_that_lies_flat_is_not_stretched() -> None:
    flat = np.array([[7.2, 0.3, 60], [-0.3, 7.2, 50], [0, 0, 1]])
    names = noisy_names(flat, np.random.default_rng(0))
    registration = normalize.registration_from_names(names, np.ones(13, np.float32), UPRIGHT)
    assert normalize.unstretched(registration) is None
    few = names.copy()
    few[2:] = np.nan
    assert normalize.unstretched(replace(registration, names_xy_px=few)) is None


def test_names_alone_place_a_scanned_sheet_better_by_a_similarity_map() -> None:
    flat = np.array([[7.2, 0.3, 60], [-0.3, 7.2, 50], [0, 0, 1]])
    worst = {"homography": [], "similarity": []}
    for seed in range(20):
        names = noisy_names(flat, np.random.default_rng(seed))
        registration = normalize.registration_from_names(names, np.ones(13, np.float32), UPRIGHT)
        scanned = normalize.as_scanned(registration)
        assert scanned is not None
        worst["homography"].append(area_error_mm(registration.page_from_sheet, flat))
        worst["similarity"].append(area_error_mm(scanned.page_from_sheet, flat))
    assert np.median(worst["similarity"]) < 0.5 * np.median(worst["homography"])


def test_a_grid_that_nothing_shows_is_flat_if_the_names_allow_it(monkeypatch) -> None:
    def none_seen(page, registration, models):
        return unseen_grid(registration.page_from_sheet)

    monkeypatch.setattr(stages, "find_crossings", none_seen)
    page = Page(np.full((1600, 2100, 3), 255, np.uint8), "page")
    flat = np.array([[7.2, 0.3, 60], [-0.3, 7.2, 50], [0, 0, 1]])
    names = noisy_names(flat, np.random.default_rng(1))
    registration = normalize.registration_from_names(names, np.ones(13, np.float32), UPRIGHT)

    grid = stages.find_grid(page, registration, None)

    assert np.isinf(grid.residual_px)
    sides = np.diff(grid.crossings_xy_px.astype(float), axis=1)
    np.testing.assert_allclose(sides, np.broadcast_to(sides[0, 0], sides.shape), atol=1e-3)


def test_a_sheet_seen_at_a_slight_slant_is_placed_as_such() -> None:
    """Where a camera's map is the better one, it is kept; 3e-4 a mm are 7 mm in a corner."""
    refused = 0
    rng = np.random.default_rng(3)
    for _ in range(20):
        angle = rng.uniform(0, 2 * np.pi)
        slope = 3e-4 * np.array([np.cos(angle), np.sin(angle)])
        slanted = camera() @ np.array([[1, 0, 0], [0, 1, 0], [*slope, 1]])
        names = noisy_names(slanted, rng)
        registration = normalize.registration_from_names(names, np.ones(13, np.float32), UPRIGHT)
        refused += normalize.as_scanned(registration) is None
    assert refused >= 16


def test_a_sheet_seen_at_a_slant_was_not_scanned() -> None:
    slanted = camera() @ np.array([[1, 0, 0], [0, 1, 0], [4e-4, 6e-4, 1]])
    names = noisy_names(slanted, np.random.default_rng(0))
    registration = normalize.registration_from_names(names, np.ones(13, np.float32), UPRIGHT)
    assert normalize.as_scanned(registration) is None
    # A name that does not belong to the sheet is no reason.
    flat = noisy_names(np.diag([7.2, 7.2, 1]), np.random.default_rng(0))
    flat[4] += 200
    registration = normalize.registration_from_names(flat, np.ones(13, np.float32), UPRIGHT)
    assert normalize.as_scanned(registration) is not None
