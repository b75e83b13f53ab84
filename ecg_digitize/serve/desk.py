"""The pages that somebody brought, in memory, and the thread that reads one after the other."""

import re
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import Final, Literal, NamedTuple, Protocol

import numpy as np

from ecg_digitize.digitizer import DigitizedPage
from ecg_digitize.errors import InputError
from ecg_digitize.failures import attempt
from ecg_digitize.files import short_name
from ecg_digitize.formats.description import Provenance
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.image import page_label
from ecg_digitize.inputs import count_pages, read_page
from ecg_digitize.layouts import FAMILIES, family_named
from ecg_digitize.report.view import thumb_of, webp_of
from ecg_digitize.sheet.marks import Marks, guessed_marks
from ecg_digitize.types import Failure, Image, Page, Recording

SHOWN_PX: Final = 2000
"""Longer side of a picture that is shown, at most."""
_SUFFIX_BYTES: Final = 64
"""Room for what is added to the name of a file that is taken away."""
_UNSAFE: Final = re.compile(
    r"""[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u200e\u200f\u202a-\u202e\u2066-\u2069]"""
)
_RESERVED: Final = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))]
)
"""Names that Windows keeps for devices."""
_QUALITY: Final = 80  # of WebP


class DeskOptions(NamedTuple):
    """What the desk holds.

    Attributes:
        most_pages: Pages at a time; what is read of one takes about 1 MB.
        most_bytes: Of the files that were brought, together.
    """

    most_pages: int = 300
    most_bytes: int = 1_000_000_000


DEFAULTS: Final = DeskOptions()
State = Literal["waiting", "reading", "done", "failed"]


class FullError(InputError):
    """The desk holds as many pages as it can."""


@dataclass(frozen=True)
class Told:
    """What somebody told of a page; None asks the page."""

    layout: str | None = None
    mm_per_s: float | None = None
    mm_per_mv: float | None = None
    marks: Marks | None = None
    turns: int = 0  # counter-clockwise quarter turns that set the picture upright
    is_mirrored: bool = False


class Reads(Protocol):
    """What reads pages: a ``Digitizer``."""

    def digitize(
        self,
        source: Page,
        *,
        fs_hz: float,
        layout: str | None,
        mm_per_s: float | None,
        mm_per_mv: float | None,
        marks: Marks | None,
    ) -> DigitizedPage:
        """Read a page, see ``Digitizer.digitize``."""
        ...


@dataclass(frozen=True)
class Item:
    """A page on the desk. A new one takes its place when something happens to it."""

    key: str  # names it in addresses
    file_name: str
    content: bytes = field(repr=False)  # of the file
    page_number: int | None
    told: Told = Told()
    state: State = "waiting"
    times_read: int = 0
    error: str | None = None  # why it could not be read
    size_px: tuple[int, int] | None = None  # of the picture, turned as told; None before it is read
    picture: bytes = field(default=b"", repr=False)  # WebP
    overlay: bytes = field(default=b"", repr=False)  # WebP, with the traces; empty if not read
    thumb: bytes = field(default=b"", repr=False)  # the same, small
    recording: Recording | None = None
    provenance: Provenance | None = None
    marks: Marks | None = None  # where everything was found, or guessed

    @property
    def name(self) -> str:
        """What messages call it."""
        return page_label(self.file_name, self.page_number)

    @property
    def stem(self) -> str:
        """What files of it are called, without suffix: a name that any system can hold."""
        stem = _UNSAFE.sub("_", Path(self.file_name).stem).strip(" .")
        stem = f"_{stem}" if not stem or stem.casefold() in _RESERVED else stem
        stem = short_name(stem, spare_bytes=_SUFFIX_BYTES)
        return stem if self.page_number is None else f"{stem}_page{self.page_number}"


class Desk:
    """Holds pages and reads them. Threads may share it."""

    def __init__(
        self, digitizer: Reads, *, fs_hz: float = TRACE_FS_HZ, options: DeskOptions = DEFAULTS
    ) -> None:
        """Begin to read what will be brought.

        Args:
            digitizer: What reads.
            fs_hz: Samples a second wanted.
            options: See there.
        """
        self._digitizer, self._fs_hz, self._options = digitizer, fs_hz, options
        self._items: dict[str, Item] = {}
        self._queue: deque[str] = deque()
        self._changed = threading.Condition()
        self._ends = False
        self._thread = threading.Thread(target=self._work, name="desk", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Forget everything; a page that is being read is finished first."""
        with self._changed:
            self._ends = True
            self._queue.clear()
            self._items.clear()
            self._changed.notify_all()
        self._thread.join()

    def add(self, name: str, content: bytes) -> list[Item]:
        """Put the pages of a file on the desk.

        Raises:
            FullError: There is no room for them.
            InputError: The file is empty.
        """
        if not content:
            raise InputError(f"{name}: is empty (0 bytes); check where it comes from")
        n_pages = count_pages(BytesIO(content))
        numbers: Sequence[int | None] = [None] if n_pages == 1 else range(1, n_pages + 1)
        items = [Item(token_hex(8), name, content, number) for number in numbers]
        with self._changed:
            held = {id(item.content): len(item.content) for item in self._items.values()}
            if len(self._items) + n_pages > self._options.most_pages:
                raise FullError(
                    f"{name}: there is room for {self._options.most_pages} pages at a time; remove "
                    "some, or use the command for many pages: ecg-digitize digitize"
                )
            if sum(held.values()) + len(content) > self._options.most_bytes:
                raise FullError(f"{name}: the memory for pictures is full; remove some pages")
            for item in items:
                self._items[item.key] = item
                self._queue.append(item.key)
            self._changed.notify_all()
        return items

    def items(self) -> list[Item]:
        """Return all pages, in the order in which they were brought."""
        with self._changed:
            return list(self._items.values())

    def get(self, key: str) -> Item | None:
        """Return a page."""
        with self._changed:
            return self._items.get(key)

    def remove(self, key: str) -> bool:
        """Forget a page; say whether there was one."""
        with self._changed:
            return self._items.pop(key, None) is not None

    def correct(self, key: str, told: Told) -> Item | None:
        """Have a page read again, by what somebody told.

        Raises:
            InputError: There is no such layout.
        """
        family_named(told.layout)
        with self._changed:
            item = self._items.get(key)
            if item is None:
                return None
            self._items[key] = changed = replace(item, told=told, state="waiting", error=None)
            if key not in self._queue:
                self._queue.append(key)
            self._changed.notify_all()
            return changed

    @property
    def is_closed(self) -> bool:
        """Whether nothing is read any more."""
        return self._ends

    def are_waited_for(self, keys: Sequence[str]) -> bool:
        """Say whether one of some pages is still to be read."""
        with self._changed:
            items = [self._items.get(key) for key in keys]
        return any(item is not None and item.state in ("waiting", "reading") for item in items)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ends or bool(self._queue))
                if self._ends:
                    return
                key = self._queue.popleft()
                item = self._items.get(key)
                if item is None:  # it was removed
                    continue
                self._items[key] = item = replace(item, state="reading")
            read = attempt(partial(self._read, item), item.name)
            if isinstance(read, Failure):
                read = replace(item, state="failed", error=read.error)
            with self._changed:
                now = self._items.get(key)
                if now is not None and now.told is item.told:  # else it is read again anyway
                    self._items[key] = read
                self._changed.notify_all()

    def _read(self, item: Item) -> Item:
        """Read a page; what goes wrong is told in it."""
        told, times_read = item.told, item.times_read + 1
        page = attempt(lambda: _page_of(item), item.name)
        if isinstance(page, Failure):
            return replace(item, state="failed", error=page.error, times_read=times_read)
        item = replace(
            item,
            times_read=times_read,
            size_px=(page.image.shape[1], page.image.shape[0]),
            picture=_webp(page.image),
        )
        result = attempt(lambda: self._digitized(page, told), item.name)
        if isinstance(result, Failure):
            family = family_named(told.layout) or FAMILIES[0]
            guessed = attempt(lambda: told.marks or guessed_marks(page, family=family), item.name)
            return replace(
                item,
                state="failed",
                error=result.error,
                overlay=b"",
                thumb=b"",
                recording=None,
                provenance=None,
                marks=None if isinstance(guessed, Failure) else guessed,
            )
        drawn = result.overlay()
        told_here = {"turns": told.turns} if told.turns else {}
        told_here |= {"is_mirrored": True} if told.is_mirrored else {}
        provenance = replace(
            result.provenance,
            picture_sha256=sha256(item.content).hexdigest(),
            options={**result.provenance.options, **told_here},
        )
        return replace(
            item,
            state="done",
            error=None,
            overlay=_webp(drawn),
            thumb=thumb_of(drawn),
            recording=result.recording,
            provenance=provenance,
            marks=result.marks(),
        )

    def _digitized(self, page: Page, told: Told) -> DigitizedPage:
        return self._digitizer.digitize(
            page,
            fs_hz=self._fs_hz,
            layout=None if told.marks else told.layout,
            mm_per_s=told.mm_per_s,
            mm_per_mv=told.mm_per_mv,
            marks=told.marks,
        )


def _page_of(item: Item) -> Page:
    """Read a picture, and turn it as told."""
    page = read_page(item.content, page_number=item.page_number, name=item.file_name)
    if not (item.told.turns or item.told.is_mirrored):
        return page
    image = np.rot90(page.image, item.told.turns)
    image = image[:, ::-1] if item.told.is_mirrored else image
    return replace(page, image=np.ascontiguousarray(image), lines=None)  # these lie as the file has


def _webp(image: Image) -> bytes:
    return webp_of(image, longer_px=SHOWN_PX, quality=_QUALITY)
