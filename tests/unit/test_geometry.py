import cv2
import numpy as np
import pytest

from ecg_digitize import geometry
from ecg_digitize.frames import NORM, RECT, crossings_mm
from ecg_digitize.layout import COMPETITION

CAMERA = np.array([[13.0, 0.6, 60], [-0.4, 12.5, 80], [1e-4, 2e-4, 1]])


def curled_table() -> np.ndarray:
    """Return crossings of a page seen by a tilted camera, bent by about two squares."""
    mm = crossings_mm()
    table = geometry.apply_homography(CAMERA, mm)
    table[..., 0] += 12 * np.cos(mm[..., 1] / 60)
    table[..., 1] += 60 * np.sin(mm[..., 0] / 120)
    return table


def blob(width: int, height: int, x: float, y: float) -> np.ndarray:
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 4.0**2))


def centroid(image: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(image.shape)
    return np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 4])
def test_quarter_turning_follows_rot90_exactly(turns: int) -> None:
    image = np.arange(3 * 5).reshape(3, 5)
    rows, columns = np.indices(image.shape)
    page = np.stack([columns, rows], axis=-1)

    turned = geometry.apply_homography(geometry.quarter_turning(turns, (5, 3)), page).astype(int)

    assert np.array_equal(np.rot90(image, turns)[turned[..., 1], turned[..., 0]], image)


@pytest.mark.parametrize("size", [(60, 45), (40, 30), (300, 240), (77, 67)])
def test_resizing_is_where_opencv_puts_a_blob(size: tuple[int, int]) -> None:
    image = blob(120, 90, 51.3, 40.8)

    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    expected = geometry.apply_homography(geometry.resizing((120, 90), size), [51.3, 40.8])
    assert centroid(resized) == pytest.approx(expected, abs=0.02)


def test_fit_homography_recovers_the_camera_and_heeds_weights() -> None:
    seen = geometry.apply_homography(CAMERA, COMPETITION.names_mm)
    weights = np.ones(13)
    seen[4] += 500
    weights[4] = 0

    fitted = geometry.fit_homography(COMPETITION.names_mm, seen, weights=weights)

    assert fitted == pytest.approx(CAMERA, rel=1e-6, abs=1e-9)


def test_fit_homography_refuses_a_line_and_too_few_points() -> None:
    line = np.column_stack([np.arange(6.0), 2 * np.arange(6.0)])
    with pytest.raises(ValueError, match="degenerate"):
        geometry.fit_homography(line, line)
    with pytest.raises(ValueError, match="needs 4"):
        geometry.fit_homography(COMPETITION.names_mm[:3], COMPETITION.names_mm[:3])


@pytest.mark.parametrize("fit", [geometry.fit_affine, geometry.fit_similarity])
def test_lesser_fits_recover_a_similarity(fit) -> None:
    turned = np.array([[0.0, -8.0, 900], [8.0, 0.0, 30], [0, 0, 1]])
    seen = geometry.apply_homography(turned, COMPETITION.names_mm[:5])

    assert fit(COMPETITION.names_mm[:5], seen, weights=np.arange(1.0, 6)) == pytest.approx(
        turned, abs=1e-9
    )


def test_every_candidate_of_true_points_is_the_camera() -> None:
    seen = geometry.apply_homography(CAMERA, COMPETITION.names_mm)

    candidates = geometry.candidate_homographies(COMPETITION.names_mm, seen)

    assert len(candidates) > 300  # 715 quadruples less those with three names in a line
    assert np.allclose(candidates, CAMERA, rtol=1e-6, atol=1e-8)


def test_mirrored_points_have_no_candidates() -> None:
    mirrored = COMPETITION.names_mm * [-1, 1]
    assert len(geometry.candidate_homographies(COMPETITION.names_mm, mirrored)) == 0


def test_jacobian_is_the_slope_of_the_homography() -> None:
    at = np.array([100.0, 150.0])
    h = 1e-4

    slope = geometry.jacobian(CAMERA, at)

    nearby = geometry.apply_homography(CAMERA, at + h * np.eye(2))
    expected = (nearby - geometry.apply_homography(CAMERA, at)) / h
    assert np.allclose(slope.T, expected, rtol=1e-4)


@pytest.mark.parametrize("frame", [RECT, NORM], ids=["rect", "norm"])
def test_mesh_maps_agree_with_the_point_map(frame) -> None:
    table = curled_table()

    map_x, map_y = geometry.mesh_maps(table.astype(np.float32), frame)

    rng = np.random.default_rng(0)
    rows = rng.integers(0, frame.height_px, 300)
    columns = rng.integers(0, frame.width_px, 300)
    mm = frame.mm_from_px(np.column_stack([columns, rows]))
    expected = geometry.page_from_sheet(table, mm)
    assert map_x.dtype == map_y.dtype == np.float32
    assert map_x.shape == (frame.height_px, frame.width_px)
    found = np.column_stack([map_x[rows, columns], map_y[rows, columns]])
    assert np.abs(found - expected).max() < 2e-3


def test_the_mesh_passes_through_its_crossings_and_follows_the_bend_between() -> None:
    table = curled_table()
    mm = crossings_mm()

    assert geometry.page_from_sheet(table, mm) == pytest.approx(table, abs=1e-8)
    between = mm[:-1, :-1] + 2.5
    truth = geometry.apply_homography(CAMERA, between)
    truth[..., 0] += 12 * np.cos(between[..., 1] / 60)
    truth[..., 1] += 60 * np.sin(between[..., 0] / 120)
    assert np.abs(geometry.page_from_sheet(table, between) - truth).max() < 1e-3


def test_points_that_no_sheet_point_reaches_are_nan() -> None:
    table = curled_table()
    assert np.isnan(geometry.sheet_from_page(table, [[1e9, -1e9]])).all()
