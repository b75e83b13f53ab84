"""The page on which pictures are read and readings are mended, as a user sees it."""

import socket
import threading
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("fastapi_offline", reason="the extra serve is not installed")

import uvicorn

from ecg_digitize import Digitizer
from ecg_digitize.serve.app import app_for
from ecg_digitize.serve.desk import Desk

SAMPLE = Path(__file__).parents[1] / "samples" / "sample_render.png"
READ_MS = 120_000
"""Patience with a machine that has other things to do."""


@pytest.fixture(scope="module")
def address():
    """A server with the shipped networks."""
    with Digitizer(preset="quick") as digitizer:
        desk = Desk(digitizer)
        app = app_for(desk, hosts=("127.0.0.1",))
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join()
        desk.close()


@pytest.fixture
def page(chromium, address):
    """The page in a window; the test fails if a script does, or asks anybody else."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
    errors, asked = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text))  # among them refused requests
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    for item in page.locator("#pages li").all():
        item.locator("button").click()
        page.click("#remove")
    page.wait_for_selector("#pages li", state="detached")
    page.close()
    refused = "Failed to load resource"  # that is told on the page
    assert [error for error in errors if not error.startswith(refused)] == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def wait_until_read(page, *, times):
    """Wait until the only page was read so many times."""
    page.wait_for_selector(f'#pages li[data-stamp="done {times}"]', timeout=READ_MS)
    page.wait_for_selector("#paper svg")


def bring(page, path):
    page.set_input_files("#files", path)
    wait_until_read(page, times=1)


def downloaded(page, tmp_path):
    """Download the page as plain csv, and read it."""
    page.select_option("#format", "csv-plain")
    with page.expect_download() as coming:
        page.click("#download")
    assert coming.value.suggested_filename == "sample_render.csv"
    coming.value.save_as(tmp_path / "page.csv")
    return np.genfromtxt(tmp_path / "page.csv", delimiter=",", names=True)


def drag(page, handle, by_px):
    """Drag a mark by so many pixels of the screen."""
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by_px[0], y + by_px[1], steps=4)
    page.mouse.up()


def test_a_picture_is_read_corrected_and_taken_away(page, tmp_path):
    bring(page, SAMPLE)
    assert page.inner_text("#page-verdict") == "ok"
    assert "read as 3x4+1, 25 mm/s, 10 mm/mV" in page.inner_text("#facts")
    assert page.locator("#leads tr").count() == 12
    assert page.locator("#paper path[stroke-linejoin]").count() == 13
    assert "overlay.webp" in page.locator("#image").get_attribute("href")
    page.uncheck("#show-traces")
    assert "picture.webp" in page.locator("#image").get_attribute("href")
    first = downloaded(page, tmp_path)

    page.check("#show-marks")
    px_per_page_px = page.locator("#sheet svg").bounding_box()["width"] / 2200
    eighth_s_px = 0.125 * 25 * 7.874 * px_per_page_px
    for name in ("begin of column 1", "end of the last column"):
        drag(page, page.get_by_label(name), (eighth_s_px, 0))
    page.locator("[name=strip]").select_option("V1")
    page.select_option("[name=mm_per_mv]", "5")
    page.click("#again")
    wait_until_read(page, times=2)
    assert "5 mm/mV" in page.inner_text("#facts")
    moved = downloaded(page, tmp_path)
    assert np.isfinite(moved["V1"]).all()  # it is the strip now
    late = 2 * first["I"][62:1062]
    likeness = np.corrcoef(moved["I"][:1000], late)[0, 1]
    assert likeness > 0.97
    assert np.std(moved["I"][:1000]) == pytest.approx(np.std(late), rel=0.1)

    page.click("#forget")
    wait_until_read(page, times=3)
    assert "10 mm/mV" in page.inner_text("#facts")


def test_marks_are_moved_by_the_keyboard(page):
    bring(page, SAMPLE)
    page.check("#show-marks")
    corner = page.get_by_label("upper left corner")
    before = float(corner.get_attribute("cy"))
    corner.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    assert float(corner.get_attribute("cy")) == pytest.approx(before + 11)
    page.click("#undo")
    after = float(page.get_by_label("upper left corner").get_attribute("cy"))
    assert after == pytest.approx(before)


def test_a_layout_lays_the_marks(page):
    bring(page, SAMPLE)
    page.check("#show-marks")
    assert page.locator(".handle.zero").count() == 4
    page.select_option("[name=layout]", "6x2")
    assert page.locator(".handle.zero").count() == 7
    assert page.locator(".handle.border").count() == 3
    lowest = page.locator(".handle.zero").last
    drag(page, page.locator(".handle.zero").first, (0, lowest.bounding_box()["y"]))
    heights = [float(one.get_attribute("cy")) for one in page.locator(".handle.zero").all()]
    assert heights == sorted(heights)  # a row dragged past others takes their name


def test_what_is_no_ecg_says_so_and_can_be_turned(page, tmp_path):
    picture = tmp_path / "nothing.png"
    PIL.Image.new("RGB", (900, 600), "white").save(picture)
    page.set_input_files("#files", picture)
    page.wait_for_selector('#pages li[data-stamp="failed 1"]', timeout=READ_MS)
    assert "nothing.png: expected an ECG" in page.inner_text("#error")
    assert page.locator(".handle.corner").count() == 4
    assert not page.locator("#download").is_visible()
    page.click("#turn-left")
    page.wait_for_selector('#pages li[data-stamp="failed 2"]', timeout=READ_MS)
    assert page.locator("#sheet svg").get_attribute("viewBox") == "0 0 600 900"


def test_a_page_that_is_read_again_never_shows_another_ones_data(page):
    """While one page is read the user looks at another one, and comes back."""
    page.set_input_files("#files", [SAMPLE, SAMPLE.with_name("sample_scan.png")])
    page.wait_for_selector("#pages li:nth-child(2)[data-stamp='done 1']", timeout=READ_MS)
    first, second = page.locator("#pages li button").all()
    first.click()
    page.select_option("[name=mm_per_mv]", "5")
    page.click("#again")
    second.click()
    first = page.locator("#pages li button").first
    first.click()
    key = page.locator("#pages li").first.get_attribute("data-key")
    assert page.inner_text("#page-name") == "sample_render.png"
    assert key in page.locator("#image").get_attribute("href")
    assert key in page.locator("#download").get_attribute("href")
    page.wait_for_selector("#pages li:nth-child(1)[data-stamp='done 2']", timeout=READ_MS)
    page.click("#turn-left")
    page.wait_for_selector("#pages li:nth-child(1)[data-stamp='done 3']", timeout=READ_MS)
    assert "5 mm/mV" in page.inner_text("#facts")  # what was told stays


def test_a_file_that_is_not_taken_is_named_until_the_next_try(page, tmp_path):
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    page.set_input_files("#files", [empty, SAMPLE])
    wait_until_read(page, times=1)
    assert "empty.png: is empty" in page.inner_text("#failure")
    page.set_input_files("#files", SAMPLE)
    page.wait_for_selector("#pages li:nth-child(2)[data-stamp='done 1']", timeout=READ_MS)
    assert page.inner_text("#failure") == ""
