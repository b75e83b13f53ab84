"""How often stage 0 looks at a picture, and which look it takes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ecg_digitize import stages
from ecg_digitize.errors import StageError
from ecg_digitize.stage0.normalize import TRUSTED_NAMES, registration_from_homography
from ecg_digitize.stages import SPECKS_PX, find_sheet
from ecg_digitize.types import Page

SPECKLED = np.random.default_rng(0).integers(0, 2, (60, 80, 3)).astype(np.uint8) * 255
FOUND = registration_from_homography(np.diag([8.0, 8.0, 1.0]))


@pytest.mark.parametrize(
    ("names", "filtered_names", "taken"),
    [
        (None, 8, 8),  # nothing was found before
        (3, 13, 13),  # a few specks agreed on something
        (4, None, 4),  # and nothing more is seen without them
        (3, 3, 3),
        (TRUSTED_NAMES, 13, TRUSTED_NAMES),  # enough: not looked at again
    ],
)
def test_specks_are_filtered_out_where_few_names_agree(
    monkeypatch, tiny_models, names, filtered_names, taken
) -> None:
    looks = []

    def look(page, models, turns, *, faint):
        looks.append((turns, faint))
        filtered = (page.image == cv2.medianBlur(SPECKLED, SPECKS_PX)).all()
        seen = filtered_names if filtered else names
        if seen is None or turns != 0:
            raise StageError("stage0", "no names")
        return replace(FOUND, n_inliers=seen)

    monkeypatch.setattr(stages, "_find_sheet_turned", look)

    assert find_sheet(Page(SPECKLED, "page"), tiny_models).n_inliers == taken
    assert any(faint for _, faint in looks) == (names is None or names < TRUSTED_NAMES)


def test_one_look_is_at_the_page_as_it_lies(monkeypatch, tiny_models) -> None:
    looks = []

    def look(page, models, turns, *, faint):
        looks.append((turns, faint))
        return replace(FOUND, n_inliers=2)

    monkeypatch.setattr(stages, "_find_sheet_turned", look)
    assert find_sheet(Page(SPECKLED, "page"), tiny_models, once=True).n_inliers == 2
    assert looks == [(0, False)]
