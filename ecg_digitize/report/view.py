"""What the report shows of one page, packed small."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg_digitize.formats.description import quality_of, windows_s
from ecg_digitize.layout import LEADS, Layout
from ecg_digitize.types import Digitization, Float32, Image, Recording

MV_PER_COUNT: Final = 0.005
"""Resolution of the signals in the report: half the width of a printed line is 0.02 mV."""
NOT_SEEN: Final = -(2**15)
"""The count of samples that are NaN."""
MOST_FS_HZ: Final = 250.0
"""Sampling rate of the signals in the report at most: ten samples a printed millimetre."""
THUMB_PX: Final = 360  # longer side
OVERLAY_BYTES: Final = 100_000
"""Of an overlay at most: 300 pages then stay below 60 MB."""
_OVERLAY_TRIES: Final = ((1400, 60), (1400, 30), (1000, 30), (700, 20))
"""Longer side in pixels and quality of the WebP, tried in this order until one is small enough.
Only pages of dithered dots need the last ones."""
_THUMB_QUALITY: Final = 60


@dataclass(frozen=True)
class ShownLead:
    """A lead, as the report's table has it."""

    lead: str
    start_s: float  # of its printed window
    stop_s: float
    quality: float | None  # probability that it is right, see quality.py; None: it is not known
    unseen: float  # share of its window that was not seen


@dataclass(frozen=True)
class PageView:
    """A page in the report. All but the bytes can be written as JSON."""

    name: str  # of its files, without suffix
    source: str  # the picture
    verdict: str  # "ok", "check" or "reject"
    doubts: tuple[str, ...]
    layout: str
    mm_per_s: float
    mm_per_mv: float
    fs_hz: float  # of the signals below
    leads: tuple[ShownLead, ...]
    rows: tuple[tuple[tuple[str, float, float], ...], ...]
    """What each printed row shows, left to right: lead, start_s, stop_s."""
    files: tuple[str, ...]  # beside the report, to be linked
    overlay_file: str | None  # one of them
    thumb: bytes  # WebP
    overlay: bytes  # WebP
    signals: bytes  # see pack_signals
    by_lines: float = 0.0  # share of the signals that was read from vector lines of a PDF

    def to_arrays(self) -> dict[str, NDArray[np.uint8]]:
        """Return the bytes, for ``engine.store``."""
        return {name: np.frombuffer(getattr(self, name), np.uint8) for name in _BYTES}

    def to_meta(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {name: value for name, value in asdict(self).items() if name not in _BYTES}


_BYTES: Final = ("thumb", "overlay", "signals")


def view_from(meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> PageView:
    """Return the view whose ``to_meta`` and ``to_arrays`` these are, also by way of JSON."""
    told = dict(json.loads(json.dumps(meta)))
    told["leads"] = tuple(ShownLead(**one) for one in told["leads"])
    told["rows"] = tuple(tuple((a, b, c) for a, b, c in row) for row in told["rows"])
    told["doubts"], told["files"] = tuple(told["doubts"]), tuple(told["files"])
    told.update({name: arrays[name].tobytes() for name in _BYTES})
    return PageView(**told)


def view_page(
    name: str, digitization: Digitization, drawn: Image, *, files: tuple[str, ...] = (),
    overlay_file: str | None = None,
) -> PageView:  # fmt: skip
    """Pack what the report shows of a page.

    Args:
        name: Of its files, without suffix.
        digitization: What was read.
        drawn: (H, W, 3) uint8 RGB, see ``render.overlay.draw_overlay``.
        files: Its files, as paths from the report.
        overlay_file: The picture of them.

    Returns:
        The view, 150 kB at most in all.
    """
    recording = digitization.recording
    signals_mv, fs_hz = thinned(recording)
    layout = recording.layout
    return PageView(
        name=name,
        source=digitization.source,
        verdict=recording.verdict,
        doubts=digitization.doubts,
        layout=layout.name,
        mm_per_s=layout.mm_per_s,
        mm_per_mv=layout.mm_per_mv,
        fs_hz=fs_hz,
        leads=shown_leads(recording),
        rows=shown_rows(layout),
        files=files,
        overlay_file=overlay_file,
        thumb=thumb_of(drawn),
        overlay=_small_webp(drawn),
        signals=pack_signals(signals_mv),
        by_lines=recording.by_lines,
    )


def thinned(recording: Recording) -> tuple[Float32, float]:
    """Return every k-th sample of a recording, so that MOST_FS_HZ is not exceeded by much.

    Returns:
        (12, n) float32 mV and its sampling rate.
    """
    every = max(1, round(recording.fs_hz / MOST_FS_HZ))
    return np.ascontiguousarray(recording.signals_mv[:, ::every]), recording.fs_hz / every


def pack_signals(signals_mv: Float32) -> bytes:
    """Pack signals as page.js unpacks them.

    Args:
        signals_mv: (12, n) float32, NaN where a lead is not printed or was not seen.

    Returns:
        Counts of MV_PER_COUNT, NOT_SEEN for NaN, lead after lead; each but the first less the one
        before it, modulo 2**16, little-endian int16; deflated with zlib's header.
    """
    counts = np.rint(signals_mv.astype(np.float64) / MV_PER_COUNT)
    counts = np.where(np.isnan(counts), NOT_SEEN, np.clip(counts, NOT_SEEN + 1, 2**15 - 1))
    flat = counts.astype(np.int64).ravel()
    steps = np.diff(flat, prepend=0).astype(np.int64) & 0xFFFF
    return zlib.compress(steps.astype("<u2").tobytes(), 6)


def unpack_signals(packed: bytes) -> Float32:
    """Return the (12, n) mV of ``pack_signals``, to its resolution."""
    steps = np.frombuffer(zlib.decompress(packed), "<u2").astype(np.int64)
    counts = ((np.cumsum(steps) + 2**15) & 0xFFFF) - 2**15
    signals_mv = np.where(counts == NOT_SEEN, np.nan, counts * MV_PER_COUNT)
    return signals_mv.reshape(len(LEADS), -1).astype(np.float32)


def shown_leads(recording: Recording) -> tuple[ShownLead, ...]:
    """Return what is to be said of each printed lead."""
    layout, right = recording.layout, quality_of(recording)
    leads = []
    for lead, (start_s, stop_s) in windows_s(layout).items():
        start, stop = layout.window(lead, recording.signals_mv.shape[1])
        printed_mv = recording.signals_mv[LEADS.index(lead), start:stop]
        unseen = float(np.isnan(printed_mv).mean()) if printed_mv.size else 1.0
        leads.append(ShownLead(lead, start_s, stop_s, right.get(lead), round(unseen, 3)))
    return tuple(leads)


def shown_rows(layout: Layout) -> tuple[tuple[tuple[str, float, float], ...], ...]:
    """Return what each printed row shows, left to right: lead, start_s, stop_s."""
    return tuple(
        tuple((s.lead, round(s.start_s, 4), round(s.stop_s, 4)) for s in row.segments)
        for row in layout.rows
    )


def thumb_of(drawn: Image) -> bytes:
    """Return the small picture of a page, WebP."""
    return webp_of(drawn, longer_px=THUMB_PX, quality=_THUMB_QUALITY)


def webp_of(image: Image, *, longer_px: int, quality: int) -> bytes:
    """Return a picture as WebP, made smaller if its longer side is above a number of pixels."""
    scale = min(1.0, longer_px / max(image.shape[:2]))
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])
    return encoded.tobytes()


def _small_webp(image: Image) -> bytes:
    """Return a WebP of OVERLAY_BYTES at most, or the smallest that is tried."""
    encoded = b""
    for longer_px, quality in _OVERLAY_TRIES:
        encoded = webp_of(image, longer_px=longer_px, quality=quality)
        if len(encoded) <= OVERLAY_BYTES:
            break
    return encoded
