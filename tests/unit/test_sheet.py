"""Rows, places and layouts of sheets that are not the competition's."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ecg_digitize.frames import Frame, crossings_mm
from ecg_digitize.layout import COMPETITION
from ecg_digitize.layouts import FAMILIES, Family
from ecg_digitize.sheet.find import times_too_large
from ecg_digitize.sheet.flat import find_ink, flat_sheet, strokes_of, unframed
from ecg_digitize.sheet.lattice import refined
from ecg_digitize.sheet.match import Match, PlacedName, contradicts, match_layout
from ecg_digitize.sheet.places import Places, find_places, ink_ends_mm
from ecg_digitize.sheet.read import Sheet, read_rows, start_mm
from ecg_digitize.sheet.rows import find_rows, with_named_rows
from ecg_digitize.sheet.sift import are_alike, near_names, on_picture
from ecg_digitize.sheet.text import NOTHING_TOLD, Told
from ecg_digitize.stage1.grid import unseen_grid
from ecg_digitize.stage1.pulses import Pulse
from ecg_digitize.types import Mask, Page, Trace

PX_PER_MM = 5.0
NOWHERE = np.zeros(1500, np.bool_)


def family(name: str) -> Family:
    return next(one for one in FAMILIES if one.name == name)


def names_of(
    layout: Family, rows_mm: np.ndarray, *, above_mm: float = 8.0, strips: tuple[str, ...] = ()
) -> list[PlacedName]:
    """Every name of a sheet, above its row and somewhat right of where its lead begins."""
    apart_mm = 250.0 / layout.n_columns
    names = [
        PlacedName(lead, 20.0 + column * apart_mm, float(rows_mm[row]) - above_mm, 0.9)
        for row, leads in enumerate(layout.rows)
        for column, lead in enumerate(leads)
    ]
    below = rows_mm[len(layout.rows) :]
    names += [
        PlacedName(lead, 20.0, float(zero_mm) - above_mm, 0.9)
        for lead, zero_mm in zip(strips, below, strict=False)
    ]
    return names


@pytest.mark.parametrize("layout", FAMILIES, ids=lambda one: one.name)
@pytest.mark.parametrize("above_mm", [8.0, -5.6])
def test_every_layout_is_known_by_its_names(layout: Family, above_mm: float) -> None:
    rows_mm = 30.0 + 21.0 * np.arange(len(layout.rows))
    found = match_layout(
        names_of(layout, rows_mm, above_mm=above_mm), rows_mm, np.ones(len(rows_mm))
    )
    assert found is not None
    assert found.family == layout
    assert found.strips == ()
    assert found.named == found.n_leads


@pytest.mark.parametrize("strips", [("II",), ("V1",), ("II", "V1", "V5")])
def test_strips_are_told_by_their_names(strips: tuple[str, ...]) -> None:
    rows_mm = 30.0 + 25.0 * np.arange(3 + len(strips))
    names = names_of(family("3x4"), rows_mm, strips=strips)
    found = match_layout(names, rows_mm, np.ones(len(rows_mm)))
    assert found is not None
    assert (found.family.name, found.strips) == ("3x4", strips)


def test_a_line_of_text_below_the_rows_is_no_strip() -> None:
    rows_mm = np.array([30.0, 55.0, 80.0, 99.0])
    names = names_of(family("3x4"), rows_mm)
    found = match_layout(names, rows_mm, np.array([1.0, 0.9, 1.0, 0.3]))
    assert found is not None
    assert found.rows_mm.tolist() == [30.0, 55.0, 80.0]


def test_some_names_may_be_missing_and_one_misread() -> None:
    rows_mm = 30.0 + 15.0 * np.arange(12)
    names = names_of(family("12x1"), rows_mm)
    names = [*names[:4], *names[6:9], PlacedName("I", 20.0, names[9].y_mm, 0.6), *names[10:]]
    found = match_layout(names, rows_mm, np.ones(12))
    assert found is not None
    assert found.family.name == "12x1"
    assert found.named == 9


def test_names_that_fit_no_layout_are_refused() -> None:
    rows_mm = 30.0 + 25.0 * np.arange(3)
    rng = np.random.default_rng(5)
    leads = rng.permutation([lead for row in family("3x4").rows for lead in row])
    names = [
        PlacedName(str(lead), 20.0 + 62.5 * (k % 4), float(rows_mm[k // 4]) - 8, 0.9)
        for k, lead in enumerate(leads)
    ]
    assert match_layout(names, rows_mm, np.ones(3)) is None


def test_rows_alone_tell_a_layout_where_only_one_has_so_many() -> None:
    rows_mm = 30.0 + 25.0 * np.arange(4)
    found = match_layout([], rows_mm, np.ones(4))
    assert found is not None
    assert (found.family.name, found.strips, found.named) == (
        "3x4",
        (None,),
        0,
    )
    assert match_layout([], 30.0 + 25.0 * np.arange(6), np.ones(6)) is None  # 6x2, or 3x4 + 3?


def test_a_strip_may_be_named_at_every_column() -> None:
    rows_mm = 30.0 + 25.0 * np.arange(4)
    names = names_of(family("3x4"), rows_mm)
    names += [PlacedName("II", 20.0 + 62.5 * k, rows_mm[3] - 8, 0.8) for k in (1, 2, 3)]
    found = match_layout(names, rows_mm, np.ones(4))
    assert found is not None
    assert (found.family.name, found.strips) == ("3x4", ("II",))


def test_a_name_that_is_hardly_read_is_not_the_strips() -> None:
    rows_mm = 30.0 + 25.0 * np.arange(4)
    names = [*names_of(family("3x4"), rows_mm), PlacedName("I", 20.0, rows_mm[3] - 8, 0.55)]
    found = match_layout(names, rows_mm, np.ones(4))
    assert found is not None
    assert found.strips == (None,)  # a faint II: the leads tell which of them it repeats


def test_what_lies_close_below_a_row_is_no_strip() -> None:
    rows_mm = np.array([30.0, 55.0, 80.0, 91.0])
    found = match_layout(names_of(family("3x4"), rows_mm), rows_mm, np.ones(4))
    assert found is not None
    assert found.strips == ()


def test_names_may_stand_somewhat_farther_apart_than_rows() -> None:
    rows_mm = 30.0 + 25.0 * np.arange(3)
    names = names_of(family("3x4"), 30.0 + 28.5 * np.arange(3), above_mm=12.0)
    found = match_layout(names, rows_mm, np.ones(3))
    assert found is not None
    assert found.named == 12


def test_rows_with_one_name_are_no_sheet_of_one_lead() -> None:
    rows_mm = 30.0 + 25.0 * np.arange(4)
    name = PlacedName("V1", 20.0, 22.0, 0.9)
    found = match_layout([name], rows_mm, np.ones(4))
    assert found is None or found.family.name != "1x1"
    single = match_layout([name], rows_mm[:1], np.ones(1))
    assert single is not None
    assert single.family.rows == (("V1",),)


def test_a_family_that_is_told_is_taken_whatever_the_names_say() -> None:
    rows_mm = 30.0 + 25.0 * np.arange(6)
    told = family("6x2")
    names = names_of(family("6x1 chest"), rows_mm)
    found = match_layout(names, rows_mm, np.ones(6), families=(told,))
    assert found is not None
    assert found.family == told
    assert match_layout(names, rows_mm[:5], np.ones(5), families=(told,)) is None


def test_edges_of_desks_are_no_rows() -> None:
    rows_mm = np.array([40.0, 65.0, 90.0, 110.0])
    ink = drawn(rows_mm, [(40.0, 240.0)])
    edge = round(rows_mm[3] * PX_PER_MM)
    ink[edge - 2 : edge + 3, 10:1490] = True
    assert are_alike(ink, rows_mm).tolist() == [True, True, True, False]
    names = names_of(family("3x4"), rows_mm[:3])
    assert near_names(ink, names)[edge].any()
    above = [PlacedName(one.lead, one.x_mm, one.y_mm - 60.0, 0.9) for one in names]
    assert not near_names(ink, above)[edge - 2 :].any()


def test_no_row_is_unlike_others_where_none_has_ink() -> None:
    empty = np.zeros((500, 1400), np.bool_)
    assert are_alike(empty, np.array([30.0, 60.0])).all()


def in_columns(x_mm: list[float], y_mm: list[float], sure: list[float]) -> list[PlacedName]:
    return [PlacedName("V1", *at) for at in zip(x_mm, y_mm, sure, strict=True)]


def test_a_name_without_a_row_tells_where_its_row_is() -> None:
    rows_mm = 30.0 + 14.0 * np.arange(12)
    names = in_columns([19.0] * 12, list(rows_mm - 5.0), [0.9] * 12)
    seen = np.isin(np.arange(12), (7, 9, 10), invert=True)
    found, weights = with_named_rows(rows_mm[seen], np.ones(9), names)
    np.testing.assert_allclose(found, rows_mm)
    assert (weights[~seen] < 1).all()


def test_a_faint_row_between_named_ones_is_none() -> None:
    rows_mm = np.array([10.0, 30.0, 60.0, 82.0, 90.0, 120.0])  # text at 10 and 82 mm
    weights = np.array([0.3, 1.0, 1.0, 0.3, 1.0, 1.0])
    names = in_columns([19.0] * 4, [22.0, 52.0, 82.0, 112.0], [0.9] * 4)
    found, _ = with_named_rows(rows_mm, weights, names)
    np.testing.assert_allclose(found, [10.0, 30.0, 60.0, 90.0, 120.0])


def test_names_read_by_chance_tell_no_rows() -> None:
    rows_mm = 30.0 + 30.0 * np.arange(4)
    y_mm = [*(rows_mm - 8.0), 55.0, 55.0]
    names = in_columns([19.0] * 4 + [120.0, 19.0], y_mm, [0.9] * 5 + [0.6])
    found, _ = with_named_rows(rows_mm, np.ones(4), names)  # one in no column, one hardly read
    np.testing.assert_allclose(found, rows_mm)


def test_shadows_are_no_strokes() -> None:
    ink = np.zeros((400, 1000), np.bool_)
    ink[200:202, 100:900] = True  # a trace, and the edge of a shadow across it
    for x in range(100, 400):
        ink[x - 20 : x, x + 200 : x + 215] = True
    lines = strokes_of(ink, px_per_mm=PX_PER_MM).lines
    assert lines[200:202, 100:300].all()
    assert lines[:190].mean() < 0.1 * ink[:190].mean()


def test_a_row_beyond_the_picture_is_none() -> None:
    sheet = flat_sheet(
        np.full((600, 1000, 3), 255, np.uint8),
        unseen_grid(np.diag([5.0, 5.0, 1.0])),
        (220.0, 150.0),
    )
    assert on_picture(sheet, np.array([30.0, 100.0, 130.0])).tolist() == [True, True, False]


def test_level_lines_as_dark_as_traces_are_not_ink() -> None:
    frame = Frame(1000, 600, (PX_PER_MM, PX_PER_MM), (0.0, 0.0))
    seen = np.full((600, 1000, 3), 240, np.uint8)
    seen[:, ::25] = 215  # faint upright lines
    seen[::25] = 130
    seen[310:313, 50:950] = 60  # a trace
    seen[462, 50:950] = 60
    ink = find_ink(seen, frame)
    assert ink[311, 60:900].mean() > 0.9
    assert ink[::25, 60:900].mean() < 0.05


def test_a_strip_between_two_lines_of_the_grid_has_ink_or_none() -> None:
    seen = np.full((15, 300, 3), 240, np.uint8)
    seen[7:9, 20:280] = 60
    frame = Frame(300, 15, (PX_PER_MM, PX_PER_MM), (0.0, 15.5))
    ink = find_ink(seen, frame)
    assert ink[7:9, 30:270].mean() > 0.9
    assert ink[:5].mean() < 0.05


def test_names_elsewhere_speak_against_the_competition() -> None:
    rows_mm = np.array(COMPETITION.zero_mm)
    usual = names_of(family("3x4"), rows_mm[:3], above_mm=-5.6)
    cabrera = names_of(family("3x4 Cabrera"), rows_mm[:3], above_mm=-5.6)
    assert not contradicts(usual, COMPETITION)
    assert not contradicts([], COMPETITION)
    assert contradicts(cabrera, COMPETITION)


def drawn(rows_mm: np.ndarray, runs_mm: list[tuple[float, float]], *, beats: bool = True) -> Mask:
    """Rows of ink, each with the same runs, in a sheet 300 mm wide."""
    height = round((rows_mm[-1] + 30) * PX_PER_MM)
    ink = np.zeros((height, 1500), np.bool_)
    for zero_mm in rows_mm:
        y = round(zero_mm * PX_PER_MM)
        for left_mm, right_mm in runs_mm:
            left, right = round(left_mm * PX_PER_MM), round(right_mm * PX_PER_MM)
            for x in range(left, right, 50):  # no trace is as straight as a frame
                ink[y : y + 5, x : x + 2] = True
                ink[y + 4 * (x // 50 % 2) :, x : min(x + 50, right)][:2] = True
            for x in range(left + 40, right - 3, 100) if beats else ():
                ink[y - 45 : y + 10, x : x + 3] = True
    return ink


def test_rows_are_where_ink_is_densest() -> None:
    rows_mm = np.array([25.0, 40.0, 55.0, 72.0])
    found_mm, weights = find_rows(drawn(rows_mm, [(20.0, 270.0)]), px_per_mm=PX_PER_MM)
    np.testing.assert_allclose(found_mm, rows_mm, atol=0.5)
    np.testing.assert_allclose(weights, 1.0, atol=0.2)
    assert find_rows(np.zeros((100, 100), np.bool_), px_per_mm=PX_PER_MM)[0].size == 0


def test_letters_and_frames_are_no_traces() -> None:
    ink = drawn(np.array([40.0]), [(20.0, 270.0)])
    trace = ink.copy()
    ink[20:22, 50:1400] = True  # a frame
    ink[20:340, 50:52] = True
    ink[300:315, 100:110] = True  # a letter
    strokes = strokes_of(ink, px_per_mm=PX_PER_MM)
    lines, upright = strokes.lines, strokes.upright.any(axis=0)
    assert not lines[:100, 60:].any()
    assert not lines[290:].any()
    assert upright[50]
    assert upright.sum() < 10
    assert (lines & trace).sum() > 0.9 * trace.sum()


def test_leads_follow_each_other_over_the_length_of_the_rows() -> None:
    rows_mm = np.array([30.0, 60.0, 90.0])
    lines = drawn(rows_mm, [(20.2, 269.8)])
    inked, ends_mm = ink_ends_mm(lines, rows_mm, (), px_per_mm=PX_PER_MM)
    places = find_places(
        inked, ends_mm, (), n_columns=4, n_rows=3, upright=NOWHERE, px_per_mm=PX_PER_MM
    )
    assert places is not None
    assert not places.has_gaps
    np.testing.assert_allclose(places.starts_mm, [20.0, 82.5, 145.0, 207.5], atol=0.3)
    assert places.lead_mm == pytest.approx(62.5)
    assert places.strip_mm == pytest.approx(250.0)


def test_a_pulse_before_the_rows_is_not_the_beginning() -> None:
    rows_mm = np.array([30.0, 60.0])
    lines = drawn(rows_mm, [(11.0, 270.0)])
    pulses = (Pulse(0, 12.0, 5.0, 10.0), Pulse(1, 12.0, 5.0, 10.0))
    inked, ends_mm = ink_ends_mm(lines, rows_mm, pulses, px_per_mm=PX_PER_MM)
    places = find_places(
        inked, ends_mm, pulses, n_columns=2, n_rows=2, upright=NOWHERE, px_per_mm=PX_PER_MM
    )
    assert places is not None
    np.testing.assert_allclose(places.starts_mm, [20.0, 145.0], atol=0.5)


def test_a_row_that_a_pulse_follows_begins_where_its_ink_does() -> None:
    ends_mm = np.array([[5.0, 255.4]] * 3)
    places = find_places(
        np.ones((3, 1500), np.bool_),
        ends_mm,
        [Pulse(row, 255.8, 5.0, 10.0) for row in range(3)],
        n_columns=4,
        n_rows=3,
        upright=NOWHERE,
        px_per_mm=PX_PER_MM,
    )
    assert places is not None
    assert places.starts_mm[0] == 5.0


def test_gaps_between_leads_are_left_out() -> None:
    rows_mm = np.array([30.0, 60.0, 90.0])
    runs = [(15.0, 77.5), (83.5, 146.0), (152.0, 214.5), (220.5, 283.0)]
    lines = drawn(rows_mm, runs)
    inked, ends_mm = ink_ends_mm(lines, rows_mm, (), px_per_mm=PX_PER_MM)
    places = find_places(
        inked, ends_mm, (), n_columns=4, n_rows=3, upright=NOWHERE, px_per_mm=PX_PER_MM
    )
    assert places is not None
    assert places.has_gaps
    np.testing.assert_allclose(places.starts_mm, [15.0, 83.5, 152.0, 220.5], atol=0.4)
    assert places.lead_mm == pytest.approx(62.5, abs=0.4)


def test_narrow_gaps_are_seen_where_every_row_has_them() -> None:
    rows_mm = np.array([40.0, 65.0, 90.0])
    runs_mm = [(20.0 + 64.0 * k, 82.5 + 64.0 * k) for k in range(4)]
    inked, ends_mm = ink_ends_mm(drawn(rows_mm, runs_mm), rows_mm, (), px_per_mm=PX_PER_MM)
    found = find_places(
        inked, ends_mm, (), n_columns=4, n_rows=3, upright=NOWHERE, px_per_mm=PX_PER_MM
    )
    assert found is not None
    assert found.has_gaps
    assert found.starts_mm == pytest.approx([20.0, 84.0, 148.0, 212.0], abs=0.5)
    assert found.lead_mm == pytest.approx(62.5, abs=0.5)


def test_names_tell_the_length_of_rows_behind_which_other_ink_goes_on() -> None:
    rows_mm = np.array([40.0, 65.0, 90.0])
    lines = drawn(rows_mm, [(20.0, 295.0)])
    inked, ends_mm = ink_ends_mm(lines, rows_mm, (), px_per_mm=PX_PER_MM)
    found = find_places(
        inked, ends_mm, (), n_columns=4, n_rows=3, upright=NOWHERE, px_per_mm=PX_PER_MM,
        names_mm=21.0 + 62.4 * np.arange(4),
    )  # fmt: skip
    assert found is not None
    assert found.lead_mm == 62.5
    assert found.starts_mm[0] == pytest.approx(20.0, abs=0.5)


def test_frames_are_painted_over_and_strokes_below_each_other_are_not() -> None:
    image = np.full((400, 1500, 3), 240, np.uint8)
    image[30:33, 50:1450] = image[30:390, 50:53] = 0  # a frame, above and at the left
    image[60:390, 700:703] = 0  # tall beats of rows below each other
    image[200:203, 55:1400] = 0  # a flat trace
    grid = unseen_grid(np.diag([PX_PER_MM, PX_PER_MM, 1.0]))
    flat = flat_sheet(image, grid, (300.0, 80.0))
    strokes = strokes_of(flat.ink, px_per_mm=PX_PER_MM)

    plain = unframed(image, flat, strokes, rows_mm=np.array([40.3]), ends_mm=(10.0, 290.0))

    assert plain[30:33, 60:690].min() > 200
    assert plain[60:190, 50:53].min() > 200
    assert (plain[60:390, 701] == 0).all()
    assert (plain[201, 60:1390] == 0).all()


def test_a_grid_is_led_on_to_its_lines() -> None:
    image = np.full((1000, 1560, 3), 255, np.uint8)
    for step, colour in ((6, (255, 215, 215)), (30, (235, 140, 140))):
        image[::step] = image[:, ::step] = colour
    off = np.array([[6.002, 0.003, 0.6], [-0.003, 5.998, -0.5], [0, 0, 1.0]])
    flat = flat_sheet(image, unseen_grid(off), (255.0, 160.0))

    found = refined(image, flat.grid, reach_mm=(250.0, 150.0))

    inside = (slice(2, 30), slice(2, 50))
    true_px = 6.0 * crossings_mm()
    before_px = np.abs(flat.grid.crossings_xy_px - true_px)[inside]
    after_px = np.abs(found.crossings_xy_px - true_px)[inside]
    assert np.median(before_px) > 0.4
    assert after_px.max() < 0.2
    assert refined(image, flat.grid, reach_mm=(250.0, 400.0)) is flat.grid


def test_a_grid_is_not_led_on_to_what_a_raster_makes_of_its_lines() -> None:
    """Lines on whole pixels are off by up to half of one, traces are not."""
    px_per_mm = 5.9
    image = np.full((1000, 1560, 3), 255, np.uint8)
    for every_mm, colour in ((1, (255, 215, 215)), (5, (235, 140, 140))):
        at = np.rint(np.arange(0, 270, every_mm) * px_per_mm).astype(int)
        image[at[at < 1000]] = colour
        image[:, at[at < 1560]] = colour
    flat = flat_sheet(image, unseen_grid(np.diag([px_per_mm, px_per_mm, 1.0])), (255.0, 160.0))
    assert refined(image, flat.grid, reach_mm=(250.0, 150.0)) is flat.grid


@pytest.mark.parametrize(
    ("width_mm", "height_mm", "told", "confidence", "length_mm", "times"),
    [
        (10.0, 20.9, Told((25.0,), (), None, None), 0.95, 503.0, 2.0),  # squares of half the size
        (5.0, 10.0, Told((50.0,), (), None, None), 0.95, 250.0, None),  # a pulse drawn too narrow
        (10.0, 20.0, NOTHING_TOLD, 0.95, 250.0, None),  # 50 mm/s and 20 mm/mV
        (4.2, 8.5, NOTHING_TOLD, 0.5, 207.5, 0.83),  # a grid that is not sure: as rows are printed
        (10.0, 20.7, NOTHING_TOLD, 0.0, 250.0, 2.0),  # rows of five seconds
        (8.0, 16.0, NOTHING_TOLD, 0.0, 160.0, 1.6),  # rows of no usual length: as pulses say
        (5.1, 10.2, NOTHING_TOLD, 0.5, 250.0, None),
    ],
)
def test_pulses_and_text_tell_a_wrong_scale(
    width_mm: float,
    height_mm: float,
    told: Told,
    confidence: float,
    length_mm: float,
    times: float | None,
) -> None:
    found = SimpleNamespace(
        pulses=[Pulse(row, 5.0, width_mm, height_mm) for row in range(3)],
        told=told,
        confidence=confidence,
        sheet=SimpleNamespace(places=SimpleNamespace(length_mm=length_mm)),
    )
    assert times_too_large(found) == (times if times is None else pytest.approx(times))


def test_a_row_that_ends_just_beyond_the_picture_is_held_there():
    """The last 2 mm of 30 lie beyond the picture, and of a second sheet the last 10."""
    for beyond_mm, hidden_mm in ((2.0, 0.0), (10.0, 10.0)):
        px_per_mm, starts_mm = 8.0, np.array([15.0, 31.0])  # a gap of 1 mm between the leads
        two = Family("1x2", (("I", "II"),))
        places = Places(starts_mm, 15.0, 30.0, True)
        match = Match(two, np.array([20.0]), np.ones(1), (), np.full(2, np.nan), 2.0, 2, 2)
        grid = replace(unseen_grid(np.diag([px_per_mm, px_per_mm, 1.0])), start_mm=start_mm(places))
        width_px = round(px_per_mm * (places.end_mm - beyond_mm))
        page = Page(np.full((320, width_px, 3), 255, np.uint8), "page")

        def ramp(rectified):
            layout = rectified.layout
            y_px = np.arange(layout.n_columns, dtype=np.float32)[None] / 10 + layout.zero_px[0]
            return Trace(y_px, np.ones(layout.shape, np.float32), layout, rectified.shown)

        trace = read_rows(page, Sheet(grid, match, places), ramp, mm_per_mv=10.0)
        end = round(20 * (places.end_mm - starts_mm[0]))  # columns of 0.05 mm
        hidden = ~trace.shown[0, :end]
        assert hidden.sum() / 20 == pytest.approx(hidden_mm, abs=1.0)
        if not hidden_mm:
            (unseen,) = np.nonzero(trace.confidence[0, :end] == 0)
            assert unseen.size / 20 == pytest.approx(beyond_mm, abs=1.0)
            np.testing.assert_array_equal(trace.y_px[0, unseen], trace.y_px[0, unseen[0] - 1])
