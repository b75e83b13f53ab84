"""The report holds what was read, loads nothing from elsewhere, and cannot be broken by names."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.report.html import MOST_EMBEDDED, write_report
from ecg_digitize.report.view import (
    MV_PER_COUNT,
    OVERLAY_BYTES,
    PageView,
    pack_signals,
    thinned,
    unpack_signals,
    view_from,
    view_page,
)
from ecg_digitize.types import Digitization, Failure, Recording, Trace


@pytest.fixture
def recording():
    rng = np.random.default_rng(0)
    signals_mv = rng.normal(size=(12, 5000)).astype(np.float32)
    for lead in COMPETITION.leads:
        start, stop = COMPETITION.window(lead, 5000)
        signals_mv[LEADS.index(lead), :start] = np.nan
        signals_mv[LEADS.index(lead), stop:] = np.nan
    quality = np.linspace(0.1, 0.9, 12, dtype=np.float32)
    return Recording(signals_mv, 500.0, doubts=("lead V1 is outside the picture",), quality=quality)


@pytest.fixture
def view(recording):
    trace = Trace(*np.ones((2, *COMPETITION.shape), np.float32))
    page = Digitization("scans/a.png", recording, trace, None, None)
    drawn = np.random.default_rng(1).integers(0, 255, (900, 1700, 3), dtype=np.uint8)
    return view_page("a", page, drawn, files=("a.csv",), overlay_file="a.overlay.png")


def index_of(text):
    (found,) = re.findall(r'<script type="application/json" id="index">(.*?)</script>', text, re.S)
    return json.loads(found)


def written(tmp_path, pages, failures=()):
    write_report(tmp_path / "report.html", pages, failures, n_pages=len(pages))
    return (tmp_path / "report.html").read_text("utf-8")


def test_signals_are_packed_to_half_a_count():
    signals_mv = np.random.default_rng(0).normal(size=(12, 700)).astype(np.float32)
    signals_mv[3] = np.nan
    signals_mv[4, 100:200] = np.nan
    signals_mv[5, 0] = 60.0
    got = unpack_signals(pack_signals(signals_mv))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(signals_mv))
    assert np.nanmax(np.abs(got - signals_mv)) <= MV_PER_COUNT / 2 + 1e-5


def test_voltages_beyond_all_counts_end_at_the_last():
    far_mv = np.full((12, 2), 1e6, np.float32) * np.array([1, -1], np.float32)
    got = unpack_signals(pack_signals(far_mv))
    assert got.max() == pytest.approx((2**15 - 1) * MV_PER_COUNT)
    assert got.min() == pytest.approx((-(2**15) + 1) * MV_PER_COUNT)


@pytest.mark.parametrize(("fs_hz", "wanted_hz"), [(100, 100), (250, 250), (500, 250), (1000, 250)])
def test_signals_are_thinned_to_what_the_paper_shows(fs_hz, wanted_hz):
    signals_mv = np.tile(np.arange(10 * fs_hz, dtype=np.float32), (12, 1))
    got, got_hz = thinned(Recording(signals_mv, fs_hz))
    assert got_hz == wanted_hz
    assert got.shape == (12, 10 * wanted_hz)
    assert got[0, 3] == 3 * fs_hz / wanted_hz


def test_a_page_is_told_as_it_was_read(view):
    assert (view.verdict, view.layout, view.mm_per_s, view.fs_hz) == ("check", "3x4+1", 25, 250)
    assert view.doubts == ("lead V1 is outside the picture",)
    assert [lead.lead for lead in view.leads] == list(LEADS)
    second = view.leads[1]
    assert (second.start_s, second.stop_s, second.unseen) == (0, 10, 0)
    assert second.quality == pytest.approx(0.173, abs=1e-3)
    assert view.rows[1] == (
        ("II", 0.0, 2.5), ("aVL", 2.5, 5.0), ("V2", 5.0, 7.5), ("V5", 7.5, 10.0)
    )  # fmt: skip


def test_samples_that_were_not_seen_are_counted(recording):
    signals_mv = recording.signals_mv.copy()
    signals_mv[0, :625] = np.nan  # half of what is printed of lead I
    trace = Trace(*np.ones((2, *COMPETITION.shape), np.float32))
    page = Digitization("a.png", replace(recording, signals_mv=signals_mv), trace, None, None)
    view = view_page("a", page, np.zeros((200, 300, 3), np.uint8))
    assert view.leads[0].unseen == 0.5
    assert view.leads[2].unseen == 0


def test_even_noise_makes_a_small_picture(view):
    assert 0 < len(view.overlay) <= 2 * OVERLAY_BYTES
    assert len(view.thumb) < 40_000


def test_a_view_is_kept_and_found_again(view):
    meta = json.loads(json.dumps(view.to_meta()))
    again = view_from(meta, view.to_arrays())
    assert isinstance(again, PageView)
    assert again == view


def test_the_file_holds_pages_and_failures(view, tmp_path):
    failure = Failure("b.png", "read", "b.png: the file is empty")
    text = written(tmp_path, [view, replace(view, name="c")], [failure])
    index = index_of(text)
    assert [page["name"] for page in index["pages"]] == ["a", "c"]
    assert index["failures"] == [
        {"source": "b.png", "stage": "read", "error": "b.png: the file is empty"}
    ]
    for name in ("thumb-1", "signals-1", "overlay-1"):
        assert f'<script type="text/plain" id="{name}">' in text


def test_nothing_is_loaded_from_elsewhere(view, tmp_path):
    text = written(tmp_path, [view])
    assert "default-src 'none'" in text
    addresses = set(re.findall(r"https?://[^\"' ]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name of XML, which is not fetched
    assert not re.findall(r"<(?:link|iframe)\b|<script[^>]* src=|@import|url\(", text)


@pytest.mark.parametrize("name", ["</script><b>x", "<!--<script>", "\u2028 é", 'a"b&c'])
def test_names_cannot_end_the_element_that_they_stand_in(view, tmp_path, name):
    pages = [replace(view, name=name, source=name, doubts=(name,))]
    text = written(tmp_path, pages, [Failure(name, "read", name)])
    assert index_of(text)["pages"][0]["name"] == name
    assert index_of(text)["failures"][0]["error"] == name


def test_overlays_of_many_pages_stay_beside_the_file(view, tmp_path):
    tiny = replace(view, thumb=b"t", overlay=b"o", signals=b"s")
    pages = [replace(tiny, name=str(k)) for k in range(MOST_EMBEDDED + 1)]
    pages[7] = replace(pages[7], overlay_file=None)  # where none was written it is embedded still
    text = written(tmp_path, pages)
    assert re.findall(r'id="overlay-(\d+)"', text) == ["7"]
    assert len(re.findall(r'id="thumb-\d+"', text)) == MOST_EMBEDDED + 1


def test_a_report_that_cannot_be_written_leaves_the_old_one(view, tmp_path):
    written(tmp_path, [view])
    before = (tmp_path / "report.html").read_bytes()

    def failing():
        yield view
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_report(tmp_path / "report.html", failing(), n_pages=2)
    assert (tmp_path / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
