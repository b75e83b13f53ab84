"""The two looks at the page: stage 1's small one, and the rectified page stage 2 measures.

Each output pixel is taken once from the original pixels. Where the picture is finer than the
output, as in 12 megapixel photos, a single look-up would skip pixels: the small one is taken from
a picture averaged by a whole factor first; the rectified page is looked up on a finer raster in
the direction that needs it and averaged after, so that a photo loses nothing along the other.
"""

from dataclasses import replace
from typing import Final

import cv2
import numpy as np

from ecg_digitize import geometry
from ecg_digitize.frames import (
    NORM,
    RECT,
    SQUARE_MM,
    TRACE_X0_PX,
    Frame,
    crossings_mm,
    rect_showing,
)
from ecg_digitize.layout import COMPETITION, Layout
from ecg_digitize.runtime import side_by_side
from ecg_digitize.stage1.feed import fed
from ecg_digitize.stage1.ripples import ripple_at
from ecg_digitize.stage1.rows import as_printed, laid_out
from ecg_digitize.stage1.sight import seen_in
from ecg_digitize.types import (
    Float32,
    Float64,
    GridMap,
    Image,
    Mask,
    Page,
    RectifiedPage,
    Registration,
)

MAX_STEP: Final = 1.5
"""Source pixels one look-up may advance: bilinear look-ups then still touch every pixel."""

BESIDE_PX: Final = 8.0
"""Rect px, 1 mm: paper round its baseline that a row must show; else its trace may lie outside."""
EVERY_COLUMNS: Final = 20  # 1 mm: how finely it is asked whether a row is shown

_WHITE: Final = (255, 255, 255)
_BAND_ROWS: Final = 128
"""Rows rectified at a time: two float32 maps of the whole finer raster would take 115 MB."""


def page_from_norm(registration: Registration) -> Float64:
    """Return the (3, 3) homography from norm px to page px."""
    norm_from_sheet = geometry.frame_from_sheet(NORM)
    return np.asarray(registration.page_from_sheet @ np.linalg.inv(norm_from_sheet))


def norm_image(page: Page, registration: Registration) -> Image:
    """Warp the page by stage 0's homography for stage 1.

    Args:
        page: The picture.
        registration: Where the sheet lies in it.

    Returns:
        (896, 1152, 3) uint8 RGB, norm frame, white outside the picture.
    """
    warp = page_from_norm(registration)
    image, shrunk_from_page = _shrunk(page.image, warp)
    return np.asarray(
        cv2.warpPerspective(
            image,
            shrunk_from_page @ warp,
            (NORM.width_px, NORM.height_px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=_WHITE,
        ),
        np.uint8,
    )


def flattened(page: Page, crossings_xy_px: Float32) -> Image:
    """Warp the page by crossings for another look of stage 1, see ``norm_image``."""
    mm = crossings_mm().reshape(-1, 2)
    near = geometry.fit_homography(NORM.px_from_mm(mm), crossings_xy_px.reshape(-1, 2))
    image, shrunk_from_page = _shrunk(page.image, near)
    there = geometry.apply_homography(shrunk_from_page, crossings_xy_px.astype(np.float64))
    return seen_in(NORM, image, there.astype(np.float32))


def _shrunk(image: Image, page_from_norm_px: Float64) -> tuple[Image, Float64]:
    """Shrink a picture by blocks if the norm frame would skip pixels; and the (3, 3) map to it."""
    height, width = image.shape[:2]
    centre = ((NORM.width_px - 1) / 2, (NORM.height_px - 1) / 2)
    step = np.sqrt(abs(np.linalg.det(geometry.jacobian(page_from_norm_px, centre))))
    if step <= MAX_STEP:
        return image, np.eye(3)
    factor = round(float(step))
    size = (max(width // factor, 1), max(height // factor, 1))
    # The last few pixels that make no whole block are cut, so that the shrinking is exact.
    whole = image[: size[1] * factor, : size[0] * factor]
    shrunk = np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)
    return shrunk, geometry.scaling((1 / factor, 1 / factor))


def rectify(
    page: Page,
    grid: GridMap,
    *,
    layout: Layout = COMPETITION,
    height_px: int = RECT.height_px,
    interpolation: int = cv2.INTER_LINEAR,
) -> RectifiedPage:
    """Remap the page, once from its original pixels, to the rect frame.

    Args:
        page: The picture.
        grid: Where the crossings of the sheet lie in it.
        layout: What is printed where.
        height_px: Of the picture wanted, rect px.
        interpolation: cv2.INTER_LINEAR, INTER_CUBIC or INTER_LANCZOS4.

    Returns:
        The rectified page, white outside the picture.
    """
    anew = laid_out(grid)
    frame = replace(rect_showing(layout.n_columns), height_px=height_px)
    finer_x, finer_y = _oversampling(anew.crossings_xy_px, frame)
    image = np.empty((frame.height_px, frame.width_px, 3), np.uint8)

    def look_up(top: int) -> int:
        """Fill a band of the image; return how many look-ups fell inside the picture."""
        band = _finer(_rows_of(frame, top, top + _BAND_ROWS), finer_x, finer_y)
        map_x, map_y = geometry.mesh_maps(anew.crossings_xy_px, band)
        if grid.ripple_mm is not None:
            x_mm = np.arange(band.width_px) / band.px_per_mm_xy[0] + band.origin_mm_xy[0]
            y_mm = np.arange(band.height_px) / band.px_per_mm_xy[1] + band.origin_mm_xy[1]
            ripple_mm = _ripple_mm(grid, *np.meshgrid(x_mm, y_mm))
            for along in (map_x, map_y):  # small ripples: the slope of the map carries them
                slope = np.diff(along, axis=1, append=2 * along[:, -1:] - along[:, -2:-1])
                along += slope * (ripple_mm * np.float32(band.px_per_mm_xy[0]))
        if grid.feed_px is not None:
            map_x += np.interp(map_x, np.arange(len(grid.feed_px)), grid.feed_px).astype(np.float32)
        rows = image[top : top + _BAND_ROWS]
        seen = cv2.remap(
            page.image,
            map_x,
            map_y,
            interpolation,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=_WHITE,
        )
        if (finer_x, finer_y) == (1, 1):
            rows[:] = seen
        else:
            rows[:] = cv2.resize(seen, rows.shape[1::-1], interpolation=cv2.INTER_AREA)
        return _count_inside(map_x[:, ::4], map_y[:, ::4], page.image)

    inside = sum(side_by_side(look_up, range(0, frame.height_px, _BAND_ROWS)))
    looked_up = frame.height_px * finer_y * len(range(0, frame.width_px * finer_x, 4))
    return RectifiedPage(image, inside / looked_up, _shown(page, grid, layout), layout)


def _shown(page: Page, grid: GridMap, layout: Layout) -> Mask:
    """Return (rows, columns) bool: the baselines, and BESIDE_PX about them, are on the page."""
    columns = np.arange(TRACE_X0_PX, TRACE_X0_PX + layout.n_columns, EVERY_COLUMNS)
    beside = np.add.outer(layout.zero_px, (-BESIDE_PX, BESIDE_PX))  # (4, 2)
    xy_px = np.stack(np.broadcast_arrays(columns, beside[..., None]), axis=-1)  # (4, 2, 250, 2)
    at_px = page_from_rect(grid, xy_px.reshape(-1, 2)).reshape(xy_px.shape)
    size_px = np.array(page.image.shape[1::-1])
    inside = ((at_px >= 0) & (at_px <= size_px - 1)).all(axis=(1, 3))
    return np.asarray(np.repeat(inside, EVERY_COLUMNS, axis=1), np.bool_)


def page_from_rect(grid: GridMap, xy_px: Float64) -> Float64:
    """Map (n, 2) rect px to page px."""
    xy_mm = RECT.mm_from_px(np.asarray(xy_px, np.float64))
    if grid.ripple_mm is not None:
        xy_mm[:, 0] += _ripple_mm(grid, xy_mm[:, 0], xy_mm[:, 1])
    page_px = geometry.page_from_sheet(laid_out(grid).crossings_xy_px, xy_mm)
    return page_px if grid.feed_px is None else fed(page_px, grid.feed_px)


def _oversampling(crossings_xy_px: Float32, frame: Frame) -> tuple[int, int]:
    """Return how many look-ups across and down each pixel of a frame needs."""
    factors = []
    for axis, px_per_mm in ((1, frame.px_per_mm_xy[0]), (0, frame.px_per_mm_xy[1])):
        squares = np.linalg.norm(np.diff(crossings_xy_px, axis=axis), axis=-1)
        step = float(np.median(squares)) / (SQUARE_MM * px_per_mm)
        factors.append(max(int(np.ceil(step / MAX_STEP)), 1))
    return factors[0], factors[1]


def _rows_of(frame: Frame, top: int, bottom: int) -> Frame:
    """Return the frame of some rows of a frame."""
    y_mm = frame.origin_mm_xy[1] + top / frame.px_per_mm_xy[1]
    height_px = min(bottom, frame.height_px) - top
    return replace(frame, height_px=height_px, origin_mm_xy=(frame.origin_mm_xy[0], y_mm))


def _finer(frame: Frame, finer_x: int, finer_y: int) -> Frame:
    """Return the frame of the sub-pixels that average to a frame's pixels."""
    scale = (frame.px_per_mm_xy[0] * finer_x, frame.px_per_mm_xy[1] * finer_y)
    first = frame.mm_from_px(np.array([0.5 / finer_x - 0.5, 0.5 / finer_y - 0.5]))
    return Frame(
        frame.width_px * finer_x,
        frame.height_px * finer_y,
        scale,
        (float(first[0]), float(first[1])),
    )


def _ripple_mm(grid: GridMap, x_mm: Float64, y_mm: Float64) -> Float32:
    """Return the ripples of a sheet with such, at points of the sheet as it is laid out anew."""
    assert grid.ripple_mm is not None
    return ripple_at(grid.ripple_mm, x_mm + grid.start_mm, as_printed(y_mm, grid.rows_mm))


def _count_inside(map_x: Float32, map_y: Float32, image: Image) -> int:
    """Count the look-ups that fall inside the picture."""
    height, width = image.shape[:2]
    inside = (map_x >= -0.5) & (map_x <= width - 0.5) & (map_y >= -0.5) & (map_y <= height - 0.5)
    return int(np.count_nonzero(inside))
