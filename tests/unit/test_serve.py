"""The server: who may ask, what it holds, and what it answers."""

import http.client
import io
import json
import socket
import threading
import time
import zipfile
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from ecg_digitize.digitizer import DigitizedPage
from ecg_digitize.errors import InputError, StageError
from ecg_digitize.formats.csv import read_csv
from ecg_digitize.formats.description import Provenance
from ecg_digitize.frames import GRID_COLUMNS, GRID_ROWS, crossings_mm
from ecg_digitize.layout import COMPETITION
from ecg_digitize.signals import printed_recording
from ecg_digitize.types import Digitization, GridMap, Trace

uvicorn = pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("fastapi_offline", reason="the extra serve is not installed")

from ecg_digitize.serve.app import app_for  # noqa: E402
from ecg_digitize.serve.desk import Desk, DeskOptions, FullError, Told  # noqa: E402

BROKEN_PX = 230
"""Height of the pictures on which nothing is found."""


class FakeReader:
    """Reads a wave from every picture, at once, unless it is told to wait."""

    def __init__(self):
        self.asked = []
        self.goes_on = threading.Event()
        self.goes_on.set()

    def digitize(self, page, *, fs_hz, **told):
        self.asked.append({**told, "size": page.image.shape[:2]})
        assert self.goes_on.wait(30)
        if page.image.shape[0] == BROKEN_PX:
            raise StageError("sheet", f"{page.source}: nothing is printed on it")
        grid = GridMap(
            np.float32(crossings_mm() * 5), np.ones((GRID_ROWS, GRID_COLUMNS), np.float32), 0.1
        )
        whole_mv = np.tile(np.sin(2 * np.pi * np.arange(5000) / 500), (12, 1)).astype(np.float32)
        recording = replace(
            printed_recording(whole_mv, fs_hz=fs_hz), quality=np.full(12, 0.9, np.float32)
        )
        trace = Trace(*np.ones((2, *COMPETITION.shape), np.float32))
        result = Digitization(page.source, recording, trace, grid, None, {})
        return DigitizedPage(
            page, result, Provenance.of_now(None, name="a", picture_sha256="0" * 64, options={})
        )


def picture(height_px=300, *, format="PNG", pages=1):
    frames = [PIL.Image.new("RGB", (400, height_px), (255, 250, 250 - k)) for k in range(pages)]
    packed = io.BytesIO()
    frames[0].save(
        packed, format, **({"save_all": True, "append_images": frames[1:]} if pages > 1 else {})
    )
    return packed.getvalue()


@pytest.fixture
def reader():
    return FakeReader()


@pytest.fixture
def served(reader):
    """Start a server; returns what asks it: method, path, body, headers -> status, body."""
    started = []

    def start(*, token=None, most_bytes=2_000_000, **options):
        desk = Desk(reader, options=DeskOptions(**options))
        app = app_for(desk, hosts=("127.0.0.1", "localhost"), token=token, most_bytes=most_bytes)
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        started.append((server, thread, desk))
        port = listening.getsockname()[1]

        def ask(method, path, body=None, headers=()):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            if isinstance(body, dict):
                body, headers = json.dumps(body), {"content-type": "application/json"}
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            content = answer.read()
            ask.headers = answer.headers
            kind = answer.headers.get("content-type", "")
            return answer.status, json.loads(
                content
            ) if kind == "application/json" and content else content

        return ask

    yield start
    reader.goes_on.set()
    for server, thread, desk in started:
        server.should_exit = True
        thread.join()
        desk.close()


def test_a_picture_is_read_and_taken_away(served):
    ask = served()
    status, (page,) = ask("POST", "/api/pages?name=dir/a%20b.png&wait=true", picture())
    assert status == 201
    assert (page["name"], page["state"], page["times_read"]) == ("a b.png", "done", 1)
    assert page["reading"]["verdict"] == "ok"
    assert page["reading"]["leads"][1] == {
        **{"lead": "II", "start_s": 0.0, "stop_s": 10.0, "quality": 0.9, "unseen": 0.0}
    }
    assert page["size_px"] == [400, 300]
    assert ask("GET", "/api/pages") == (200, [page])
    assert ask("GET", f"/api/pages/{page['key']}") == (200, page)
    status, signals = ask("GET", f"/api/pages/{page['key']}/signals")
    assert signals["fs_hz"] == 500
    assert signals["leads_mv"]["II"][125] == 1.0
    assert signals["leads_mv"]["V1"][:2500] == [None] * 2500
    for which in ("picture", "overlay", "thumb"):
        status, content = ask("GET", f"/api/pages/{page['key']}/{which}.webp")
        assert PIL.Image.open(io.BytesIO(content)).format == "WEBP"
    status, packed = ask("GET", f"/api/pages/{page['key']}/files/csv,parquet")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.namelist() == ["a b.csv", "a b.json", "a b.parquet"]
    status, content = ask("GET", f"/api/pages/{page['key']}/files/parquet")
    assert content[:4] == b"PAR1"
    told = "attachment; filename=\"a_b.parquet\"; filename*=UTF-8''a%20b.parquet"
    assert ask.headers["content-disposition"] == told
    assert ask("DELETE", f"/api/pages/{page['key']}")[0] == 204
    assert ask("GET", f"/api/pages/{page['key']}")[0] == 404
    assert ask("DELETE", f"/api/pages/{page['key']}")[0] == 404


def test_files_of_all_pages_come_in_one_zip(served, tmp_path):
    ask = served()
    assert ask("GET", "/api/files/csv")[0] == 409
    for _ in range(2):
        ask("POST", "/api/pages?name=a.png&wait=true", picture())
    ask("POST", "/api/pages?name=broken.png&wait=true", picture(BROKEN_PX))
    status, packed = ask("GET", "/api/files/csv")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert len(archive.namelist()) == 4  # two pages, each with a side file
        archive.extractall(tmp_path)
    recording = read_csv(tmp_path / "a.csv")
    assert recording.fs_hz == 500
    status, told = ask("GET", "/api/files/wav")
    assert status == 422
    assert "expected one or several of csv" in told["detail"]


def test_names_that_no_system_holds_spoil_nothing(served):
    ask = served()
    names = ["nul%00l.png", "x" * 251 + ".png", "..%5C..%5Cevil.png", "CON.png", "A.png", "a.png"]
    names += ["a%23b.png", "%2e%2e%2Fup.png", "q%22%0D%0AX-Evil%3A%201.png"]
    for name in names:
        ask("POST", f"/api/pages?name={name}&wait=true", picture())
    status, packed = ask("GET", "/api/files/parquet")
    assert status == 200
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        stems = [name.removesuffix(".parquet") for name in archive.namelist()]
    assert len({stem.casefold() for stem in stems}) == len(names)
    assert {"nul_l", "evil", "_CON", "a#b", "up"} <= set(stems)
    assert all(len(stem) < 250 for stem in stems)
    assert not any(set(stem) & set('\\/:"\r\n\0') for stem in stems)


def test_those_who_wait_leave_room_for_others(served, reader):
    ask = served()
    reader.goes_on.clear()
    waiting = [
        threading.Thread(target=ask, args=("POST", "/api/pages?wait=true", picture()))
        for _ in range(50)
    ]
    for thread in waiting:
        thread.start()
    while len(ask("GET", "/api/pages")[1]) < 50:
        time.sleep(0.05)
    assert ask("GET", "/")[0] == 200
    reader.goes_on.set()
    for thread in waiting:
        thread.join()


def test_all_pages_of_a_file_are_read(served, reader):
    ask = served()
    _, pages = ask("POST", "/api/pages?name=scan.tif&wait=1", picture(format="TIFF", pages=3))
    assert [page["name"] for page in pages] == [f"scan.tif#page={n}" for n in (1, 2, 3)]
    assert {page["state"] for page in pages} == {"done"}


def test_a_page_that_cannot_be_read_says_why_and_can_be_marked(served, reader):
    ask = served()
    _, (page,) = ask("POST", "/api/pages?name=a.png&wait=true", picture(BROKEN_PX))
    assert page["state"] == "failed"
    assert page["error"] == "a.png: nothing is printed on it"
    assert page["marks"]["layout"] == "3x4"
    assert ask("GET", f"/api/pages/{page['key']}/signals")[0] == 409
    marks = {**page["marks"], "squares": [20, 10]}
    ask("POST", f"/api/pages/{page['key']}/correction?wait=true", {"marks": marks})
    told = reader.asked[-1]["marks"]
    assert told.squares == (20, 10)
    assert told.grid is None
    _, (other,) = ask("POST", "/api/pages?name=b.png&wait=true", b"GIF89a no picture at all")
    assert other["state"] == "failed"
    assert other["marks"] is None


def test_what_somebody_tells_reaches_the_reader(served, reader):
    ask = served()
    _, (page,) = ask("POST", "/api/pages?wait=true", picture())
    path = f"/api/pages/{page['key']}/correction?wait=true"
    status, read = ask("POST", path, {"layout": "6x2", "mm_per_mv": 5, "turns": 1})
    assert status == 200
    assert read["times_read"] == 2
    assert reader.asked[-1] == {
        **{"layout": "6x2", "mm_per_s": None, "mm_per_mv": 5.0, "marks": None, "size": (400, 300)}
    }
    assert read["told"]["turns"] == 1
    _, read = ask("POST", path, {"marks": read["marks"], "turns": 1})
    assert reader.asked[-1]["marks"].grid is not None  # its corners are where they were
    _, read = ask("POST", path, {"marks": read["marks"], "is_mirrored": True})
    assert reader.asked[-1]["marks"].grid is None  # the picture is not
    assert reader.asked[-1]["size"] == (300, 400)
    for wrong in (
        {"layout": "7x7"},
        {"marks": {**read["marks"], "squares": [0, 1]}},
        {"turn": 1},
        {"mm_per_s": 0.001},
        {"mm_per_mv": float("nan")},
    ):
        assert ask("POST", path, wrong)[0] == 422
    assert ask("POST", "/api/pages/none/correction", {})[0] == 404


def test_a_correction_while_a_page_is_read_is_not_lost(reader):
    reader.goes_on.clear()
    desk = Desk(reader)
    (item,) = desk.add("a.png", picture())
    while not reader.asked:
        time.sleep(0.01)
    desk.correct(item.key, Told(mm_per_mv=5.0))
    reader.goes_on.set()
    while desk.are_waited_for([item.key]):
        time.sleep(0.01)
    item = desk.get(item.key)
    assert item.state == "done"
    assert [asked["mm_per_mv"] for asked in reader.asked] == [None, 5.0]
    assert item.told.mm_per_mv == 5.0
    assert item.provenance.options == {}
    desk.close()


def test_a_desk_that_is_full_says_so(reader):
    desk = Desk(reader, options=DeskOptions(most_pages=2, most_bytes=2000))
    with pytest.raises(FullError, match="room for 2 pages"):
        desk.add("a.tif", picture(format="TIFF", pages=3)[:])
    with pytest.raises(FullError, match="memory for pictures is full"):
        desk.add("a.png", bytes(3000))
    with pytest.raises(InputError, match="is empty"):
        desk.add("a.png", b"")
    assert desk.items() == []
    desk.close()


def test_other_names_and_other_origins_are_refused(served):
    ask = served()
    assert ask("GET", "/api/pages")[0] == 200
    for host in ("evil.example", "[::1", "evil.example@127.0.0.1", "127.0.0.1/evil", ""):
        assert ask("GET", "/api/pages", headers={"Host": host})[0] in (400, 421), host
    assert ask("GET", "/api/pages", headers={"Origin": "http://evil.example"})[0] == 403
    assert ask("POST", "/api/pages", b"x", {"Sec-Fetch-Site": "cross-site"})[0] == 403
    status, _ = ask("GET", "/")
    assert status == 200
    assert "default-src 'none'" in ask.headers["content-security-policy"]
    assert ask.headers["cache-control"] == "no-store"


def test_what_is_too_large_is_refused(served):
    ask = served(most_bytes=1000)
    status, told = ask("POST", "/api/pages", bytes(1001))
    assert (status, told) == (413, b"expected at most 0.001 MB; send a smaller file")
    status, _ = ask("POST", "/api/pages", iter([b"abc"]), {"Transfer-Encoding": "chunked"})
    assert status == 411
    assert ask("GET", "/api/pages") == (200, [])


def test_a_token_is_asked_for(served):
    ask = served(token="secret")
    assert ask("GET", "/api/pages")[0] == 401
    assert ask("GET", "/?token=wrong")[0] == 401
    assert ask("GET", "/api/pages?token=secret")[0] == 401  # it belongs in no other address
    assert ask("GET", "/api/pages", headers={"Authorization": "Bearer secret"})[0] == 200
    assert ask("GET", "/?token=secret")[0] == 303
    cookie = ask.headers["set-cookie"].partition(";")[0]
    assert "HttpOnly; SameSite=Strict" in ask.headers["set-cookie"]
    assert ask("GET", "/api/pages", headers={"Cookie": cookie})[0] == 200
    beside = f'prefs={{"a": 1}}; {cookie}; odd one'  # of other programs of this machine
    assert ask("GET", "/api/pages", headers={"Cookie": beside})[0] == 200
    assert ask("GET", "/api/pages", headers={"Cookie": f"{cookie}x"})[0] == 401


def test_the_addresses_are_shown_without_a_network(served):
    ask = served()
    status, page = ask("GET", "/docs")
    assert status == 200
    assert b"https://" not in page.replace(b"https://fastapi.tiangolo.com", b"")
    status, schema = ask("GET", "/openapi.json")
    body = schema["paths"]["/api/pages"]["post"]["requestBody"]["content"]
    assert list(body) == ["application/octet-stream"]
