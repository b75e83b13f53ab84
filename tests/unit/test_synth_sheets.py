"""Synthetic sheets of all layouts, and what strips and truths are cut out of them."""

from dataclasses import replace

import numpy as np
import pytest

from ecg_digitize.layout import LEADS
from ecg_digitize.layouts import FAMILIES
from ecg_digitize.synth.page import default_style
from ecg_digitize.synth.sheets import (
    DEFAULTS,
    SheetStyle,
    SyntheticSheet,
    draw_sheet,
    layout_of,
    make_sheet,
)
from ecg_digitize.synth.signals import to_twelve
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.training.strips import Samples, strip_of
from ecg_digitize.training.validate_sheets import damaged, truth_of

SOURCE = SimulatorSource(seed=3)
DARK = 140


def any_sheet(index: int, kind: str = "render", **options: object) -> SyntheticSheet:
    chosen = DEFAULTS._replace(inverted=0.0, **options)  # type: ignore[arg-type]
    return make_sheet(SOURCE, seed=7, index=index, kind=kind, options=chosen)


def family_alone(name: str) -> tuple[float, ...]:
    return tuple(float(family.name == name) for family in FAMILIES)


@pytest.mark.parametrize("index", range(6))
def test_lines_lie_on_ink(index: int) -> None:
    sheet = any_sheet(index)
    height, width = sheet.image.shape[:2]
    for row in sheet.sheet.lines_mm:
        for line in row:
            at = np.rint(sheet.warp.page_from_sheet(line[::20])).astype(int)
            inside = ((at >= 0) & (at < (width, height))).all(axis=1)
            darkest = [
                sheet.image[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].min()
                for x, y in at[inside]
            ]
            assert np.mean(np.array(darkest) < DARK) > 0.95


def test_a_sheet_is_a_function_of_its_arguments() -> None:
    one, same, other = (any_sheet(k, "scan") for k in (4, 4, 5))
    assert np.array_equal(one.image, same.image)
    assert one.image.shape != other.image.shape or not np.array_equal(one.image, other.image)


def test_handwriting_adds_ink_and_leaves_the_rest_as_it_is() -> None:
    plain, written = (any_sheet(2, written_on=share) for share in (0.0, 1.0))
    assert written.image.shape == plain.image.shape
    changed = (written.image != plain.image).any(axis=2)
    assert 1e-4 < changed.mean() < 0.2
    assert written.image[changed].mean() < plain.image[changed].mean()
    for row, same in zip(written.sheet.lines_mm, plain.sheet.lines_mm, strict=True):
        for line, its in zip(row, same, strict=True):
            np.testing.assert_array_equal(line, its)


def test_a_layout_has_its_leads_gains_and_strips() -> None:
    six = next(family for family in FAMILIES if family.name == "6x2")
    layout = layout_of(
        six, ["II"], zero_mm=[30.0 + 20 * k for k in range(7)], duration_s=10.0,
        mm_per_s=25.0, mm_per_mv=10.0, chest_mm_per_mv=5.0,
    )  # fmt: skip
    assert layout.name == "6x2+1"
    assert layout.leads == LEADS
    assert layout.mv_per_row_mv("V1") == 2.0
    assert layout.mv_per_row_mv("I") == 1.0
    assert layout.strip_lead == "II"
    assert layout.window("V4", 5000) == (2500, 5000)


def test_minus_avr_is_drawn_upside_down() -> None:
    cabrera = next(family for family in FAMILIES if family.name == "12x1 Cabrera")
    zero_mm = [20.0 * (k + 1) for k in range(12)]
    layout = layout_of(cabrera, [], zero_mm=zero_mm, duration_s=10.0, mm_per_s=25.0, mm_per_mv=10.0)
    look = replace(default_style(), layout=layout)
    signals_mv = to_twelve(SOURCE.get(0))
    drawn = draw_sheet(signals_mv, SheetStyle(look, (15.0,), "", "", None, (), False))
    row = [segments[0].lead for segments in (row.segments for row in layout.rows)].index("aVR")
    above_mm = zero_mm[row] - drawn.lines_mm[row][0][:, 1]
    assert np.allclose(above_mm, -10 * signals_mv[LEADS.index("aVR")], atol=1e-4)


def test_a_strip_has_its_row_in_the_middle_and_its_label_on_ink() -> None:
    sheet = any_sheet(1, mislabelled=0.0)
    begin_mm = sheet.sheet.lines_mm[1][0][0, 0]
    strip = strip_of(sheet, row=1, x0_mm=begin_mm, width_px=400, off_mm=(0.0, 0.0))
    assert strip.image.shape == (480, 400, 3)
    columns = np.flatnonzero(np.isfinite(strip.y_px[0]))[5:-5:10]
    rows = np.rint(strip.y_px[0, columns]).astype(int)
    inside = (rows > 3) & (rows < 476)
    ink = [
        strip.image[y - 3 : y + 4, x].min()
        for y, x in zip(rows[inside], columns[inside], strict=True)
    ]
    assert np.mean(np.array(ink) < DARK) > 0.9
    assert abs(np.median(strip.y_px[0, columns]) - 240) < 40


def test_samples_are_of_one_size_and_their_labels_move_with_an_error() -> None:
    samples = Samples(SOURCE, seed=1)(3)
    assert {sample["image"].shape for sample in samples} == {(3, 480, 1024)}
    assert all(np.isfinite(sample["y_px"]).any() for sample in samples)
    sheet = any_sheet(2)
    one, other = (
        strip_of(sheet, row=0, x0_mm=20.0, width_px=200, off_mm=(0.0, off)) for off in (0.0, 0.5)
    )
    moved = one.y_px - other.y_px
    assert np.allclose(moved[np.isfinite(moved)], 0.5 * 8, atol=1e-3)


def test_truth_has_what_is_to_be_seen() -> None:
    sheet = any_sheet(2, families=family_alone("3x4"))
    whole = truth_of(sheet, np.ones(sheet.image.shape[:2], np.bool_))
    assert np.isfinite(whole).any(axis=1).all()
    for damage in ("cut", "covered", "mirrored", ""):
        image, seen = damaged(sheet, damage, np.random.default_rng(1))
        left = np.isfinite(truth_of(sheet, seen)).sum()
        assert (left < np.isfinite(whole).sum()) == (damage in ("cut", "covered"))
        assert (image.shape == sheet.image.shape) == (damage != "cut")


def test_mislabelled_sheets_bear_names_of_other_leads() -> None:
    style = any_sheet(3, mislabelled=1.0).sheet.style
    assert style.names != LEADS
    assert sorted(style.names) == sorted(LEADS)
