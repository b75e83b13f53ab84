"""The report, as a user sees it."""

from dataclasses import replace

import numpy as np
import pytest

from ecg_digitize.layout import COMPETITION
from ecg_digitize.report.html import write_report
from ecg_digitize.report.view import view_page
from ecg_digitize.types import Digitization, Failure, Recording, Trace


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of two pages and a failure."""
    folder = tmp_path_factory.mktemp("report")
    time_s = np.arange(5000) / 500
    signals_mv = np.tile(np.sin(2 * np.pi * time_s), (12, 1)).astype(np.float32)
    signals_mv[0, 100:200] = np.nan
    trace = Trace(*np.ones((2, *COMPETITION.shape), np.float32))
    good = Recording(signals_mv, 500.0, quality=np.full(12, 0.9, np.float32))
    doubtful = replace(good, doubts=("no gain is printed",), quality=np.full(12, 0.4, np.float32))
    drawn = np.full((600, 800, 3), 200, np.uint8)
    pages = [
        view_page(name, Digitization(f"{name}.png", recording, trace, None, None), drawn)
        for name, recording in (("good", good), ("doubtful", doubtful))
    ]
    write_report(folder / "report.html", pages, [Failure("b.png", "read", "empty")], n_pages=2)
    return folder / "report.html"


@pytest.fixture
def page(chromium, report):
    """The report in a window; the test fails if a script does, or if anything is loaded."""
    page = chromium.new_page(viewport={"width": 1400, "height": 900})
    errors, loaded = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))
    page.on("request", lambda request: loaded.append(request.url))
    page.goto(report.as_uri())
    yield page
    assert not errors
    assert [url for url in loaded if not url.startswith("data:")] == [report.as_uri()]
    page.close()


def names(page):
    return page.locator("#pages .name").all_text_contents()


def test_the_worst_pages_come_first(page):
    assert names(page) == ["b.png", "doubtful", "good"]
    page.select_option("select[name=order]", "given")
    assert names(page) == ["good", "doubtful", "b.png"]


def test_pages_are_filtered(page):
    page.uncheck("input[value=failed]")
    assert names(page) == ["doubtful", "good"]
    page.fill("input[type=search]", "GAIN")
    assert names(page) == ["doubtful"]
    assert page.inner_text("#counts").startswith("1 of 3 pages shown")


def test_a_page_is_shown_and_left_by_the_keyboard_alone(page):
    page.locator("#pages button").first.focus()
    page.keyboard.press("Enter")
    assert page.inner_text("#detail-name") == "doubtful"
    assert page.inner_text("#doubts") == "no gain is printed"
    assert page.locator("#leads tr").count() == 12
    assert "40 %" in page.inner_text("#leads")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#detail-name") == "good"
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()
    assert page.evaluate("document.activeElement.className") == "card"


def test_the_picture_is_enlarged(page):
    page.locator("#pages button").first.click()
    before = page.locator("#overlay").bounding_box()["width"]
    page.click("#zoom-in")
    assert page.locator("#overlay").bounding_box()["width"] == pytest.approx(1.5 * before, rel=0.01)
    page.click("#zoom-fit")
    assert page.locator("#overlay").bounding_box()["width"] == pytest.approx(before, rel=0.01)


def test_signals_are_drawn_in_millimetres(page):
    page.locator("#pages button").last.click()
    page.wait_for_selector("#paper svg")
    paths = page.locator("#paper path[stroke-linejoin]")
    assert paths.count() == 13  # twelve leads and the strip
    box = paths.last.evaluate("path => { const b = path.getBBox(); return [b.width, b.height]; }")
    assert box[0] == pytest.approx(250, abs=0.2)  # ten seconds
    assert box[1] == pytest.approx(20, abs=0.2)  # from -1 mV to 1 mV
    first = paths.first.get_attribute("d")
    assert first.count("M") == 2  # what was not seen is a gap


def test_colours_are_the_users(page):
    def background():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.emulate_media(color_scheme="dark")
    assert background() == "rgb(20, 22, 26)"
    page.select_option("select[name=theme]", "light")
    assert background() == "rgb(255, 255, 255)"
    page.select_option("select[name=theme]", "dark")
    page.emulate_media(color_scheme="light")
    assert background() == "rgb(20, 22, 26)"
