"""The addresses of the server: those of the page, and those of programs."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Annotated, Final
from urllib.parse import quote
from zipfile import ZIP_DEFLATED, ZipFile

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline

from ecg_digitize import __version__
from ecg_digitize.errors import InputError
from ecg_digitize.formats.writers import WRITERS, formats_named
from ecg_digitize.serve.desk import Desk, FullError, Item
from ecg_digitize.serve.documents import About, Correction, PageDocument, Signals, about
from ecg_digitize.serve.guard import DOCS, Guard

MOST_WAIT_S: Final = 600.0
LOOK_EVERY_S: Final = 0.1
_PICTURES: Final = ("picture", "overlay", "thumb")
_STATIC: Final = {
    "": ("serve", "desk.html", "text/html"),
    "desk.css": ("serve", "desk.css", "text/css"),
    "desk.js": ("serve", "desk.js", "text/javascript"),
    "marks.js": ("serve", "marks.js", "text/javascript"),
    "page.css": ("report", "page.css", "text/css"),
    "shared.js": ("report", "shared.js", "text/javascript"),
}
"""What the page loads: package, file, type."""
_RAW_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
DESCRIPTION: Final = (
    "Send a picture to POST /api/pages?wait=true, take what was read from the answer, and the "
    "signals from /api/pages/{key}/signals or /api/pages/{key}/files/{format}. Research use only: "
    "signals are read from pictures, and are not for diagnosis."
)
Wait = Annotated[bool, Query(description="answer when the page is read, not at once")]


def app_for(
    desk: Desk, *, hosts: Collection[str], token: str | None = None, most_bytes: int = 100_000_000
) -> Guard:
    """Return the application, an ASGI one.

    Args:
        desk: Where pages are held and read.
        hosts: See ``Guard``.
        token: Likewise.
        most_bytes: Likewise.
    """
    app = FastAPIOffline(
        title="ecg_digitize",
        version=__version__,
        description=DESCRIPTION,
        docs_url=DOCS,
        redoc_url=None,
    )
    _add_page(app)
    _add_api(app, desk)
    _add_files(app, desk)

    @app.exception_handler(InputError)
    def unusable(request: Request, error: InputError) -> JSONResponse:
        status = 507 if isinstance(error, FullError) else 422
        return JSONResponse({"detail": str(error)}, status)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # What was sent is left out: it may be what JSON cannot hold, NaN for instance.
        said = [{"loc": list(one["loc"]), "msg": one["msg"]} for one in error.errors()]
        return JSONResponse({"detail": said}, 422)

    return Guard(app, hosts=hosts, token=token, most_bytes=most_bytes)


def _add_page(app: FastAPI) -> None:
    """Add the page for people, and what it loads."""
    for path, (package, name, kind) in _STATIC.items():
        content = (files(f"ecg_digitize.{package}") / name).read_bytes()
        answer = Response(content, media_type=f"{kind}; charset=utf-8")
        app.add_api_route(f"/{path}", _always(answer), include_in_schema=False)


def _always(answer: Response) -> Callable[[], Awaitable[Response]]:
    async def given() -> Response:
        return answer

    return given


def _add_api(app: FastAPI, desk: Desk) -> None:
    """Add what pages are brought, looked at and corrected by."""

    @app.get("/api/about")
    def get_about() -> About:
        """Tell the layouts, formats, speeds and gains there are."""
        return about()

    @app.post("/api/pages", status_code=201, openapi_extra=_RAW_BODY)
    async def add_pages(
        request: Request,
        name: Annotated[str, Query(description="of the file")] = "picture",
        wait: Wait = False,
    ) -> list[PageDocument]:
        """Bring a picture: its bytes are the body. A PDF or TIFF gives all its pages."""
        content = await request.body()
        items = await run_in_threadpool(desk.add, name.replace("\\", "/").split("/")[-1], content)
        if wait:
            items = await _waited(desk, items, request)
        return [PageDocument.of(item) for item in items]

    @app.get("/api/pages")
    def get_pages() -> list[PageDocument]:
        """Tell of all pages, in the order in which they were brought."""
        return [PageDocument.of(item) for item in desk.items()]

    @app.get("/api/pages/{key}")
    def get_page(key: str) -> PageDocument:
        """Tell of a page."""
        return PageDocument.of(_item(desk, key))

    @app.delete("/api/pages/{key}", status_code=204)
    def remove_page(key: str) -> None:
        """Forget a page."""
        if not desk.remove(key):
            raise _unknown(key)

    @app.post("/api/pages/{key}/correction")
    async def correct_page(
        key: str, correction: Correction, request: Request, wait: Wait = False
    ) -> PageDocument:
        """Have a page read again, by what you tell of it."""
        item = desk.correct(key, correction.to_told(_item(desk, key)))
        if item is None:
            raise _unknown(key)
        if wait:
            (item,) = await _waited(desk, [item], request) or [item]
        return PageDocument.of(item)

    @app.get("/api/pages/{key}/signals")
    def get_signals(key: str) -> Signals:
        """Tell the signals, mV."""
        item = _item(desk, key)
        if item.recording is None:
            raise _not_read(item)
        return Signals.of(item.recording)


def _add_files(app: FastAPI, desk: Desk) -> None:
    """Add what is taken away."""

    @app.get("/api/pages/{key}/{which}.webp", response_class=Response)
    def get_picture(key: str, which: str) -> Response:
        """Give the picture of a page: "picture", "overlay" with the traces drawn on it, "thumb"."""
        item = _item(desk, key)
        if which not in _PICTURES:
            raise HTTPException(404, f"expected one of {', '.join(_PICTURES)}, but got {which}")
        content: bytes = getattr(item, which)
        if not content:
            raise _not_read(item)
        return Response(content, media_type="image/webp")

    @app.get("/api/pages/{key}/files/{formats}", response_class=Response)
    def get_files(key: str, formats: str) -> Response:
        """Give the files of a page; several are in a zip. Formats are joined by commas."""
        item = _item(desk, key)
        if item.recording is None:
            raise _not_read(item)
        return _download([item], formats, item.stem)

    @app.get("/api/files/{formats}", response_class=Response)
    def get_all_files(formats: str) -> Response:
        """Give the files of all pages that were read, in a zip."""
        items = [item for item in desk.items() if item.recording is not None]
        if not items:
            raise HTTPException(409, "no page is read yet")
        return _download(items, formats, "ecg", always_zip=True)


def _download(
    items: Iterable[Item], formats: str, stem: str, *, always_zip: bool = False
) -> Response:
    """Write files into a folder that is removed at once, and give what lies in it."""
    with TemporaryDirectory(prefix="ecg-digitize-") as folder:
        taken: set[str] = set()
        for item in items:
            assert item.recording is not None
            assert item.provenance is not None
            is_taken = item.stem.casefold() in taken  # some systems know no upper and lower case
            here = f"{item.stem}-{item.key}" if is_taken else item.stem
            taken.add(item.stem.casefold())
            for name in formats_named(formats, fs_hz=item.recording.fs_hz):
                WRITERS[name].write(item.recording, Path(folder) / here, item.provenance)
        written = sorted(Path(folder).iterdir())
        if len(written) == 1 and not always_zip:
            return _attached(written[0].read_bytes(), written[0].name, "application/octet-stream")
        packed = BytesIO()
        with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
            for path in written:
                archive.write(path, path.name)
    return _attached(packed.getvalue(), f"{stem}.zip", "application/zip")


def _attached(content: bytes, name: str, kind: str) -> Response:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    told = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"
    return Response(content, media_type=kind, headers={"Content-Disposition": told})


def _item(desk: Desk, key: str) -> Item:
    item = desk.get(key)
    if item is None:
        raise _unknown(key)
    return item


async def _waited(desk: Desk, items: list[Item], request: Request) -> list[Item]:
    """Wait until pages are read, nobody waits any more, or the server ends; hold no thread."""
    keys = [item.key for item in items]
    ends = monotonic() + MOST_WAIT_S
    while monotonic() < ends and not desk.is_closed and not await request.is_disconnected():
        if not desk.are_waited_for(keys):
            break
        await asyncio.sleep(LOOK_EVERY_S)
    return [item for item in map(desk.get, keys) if item is not None]


def _unknown(key: str) -> HTTPException:
    return HTTPException(404, f'there is no page "{key}"; it was removed, or never brought')


def _not_read(item: Item) -> HTTPException:
    why = item.error or f"it is {item.state}"
    return HTTPException(409, f"{item.name} is not read: {why}")
