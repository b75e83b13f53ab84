"""Pages of PDFs to pixels, by PDFium.

A page that is a scan is drawn with the scan's own pixels, which then come out as they are stored.
Whatever else a page has, lines and text, is drawn at DPI.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from ecg_digitize.errors import ImageError
from ecg_digitize.frames import MM_PER_INCH
from ecg_digitize.image import (
    MAX_PIXELS,
    WORKING_PIXELS,
    check_size,
    no_such_page,
    page_label,
)
from ecg_digitize.pdf_lines import TRACE_SEGMENTS, LineCollector
from ecg_digitize.types import Image, Page

if TYPE_CHECKING:
    from ecg_digitize.vector import VectorLines

DPI: Final = 300.0
"""At which lines and text are drawn: twelve pixels to a millimetre, as on a good scan."""
LEAST_LONG_PX: Final = 2000
"""A small page is drawn larger: figures in papers, and sheets that were scaled down."""
LARGE_SHARE: Final = 0.1
"""Pictures that cover less of a page, such as logos, do not tell its resolution."""
SCAN_SHARE: Final = 0.9
"""A page is a scan if pictures cover so much of it and nothing else is drawn."""

_MAX_PIXELS_OF: Final = {"JPXDecode": 75_000_000}  # as image has it for JPEG 2000
_POINTS_PER_INCH: Final = 72.0
_TAIL_BYTES: Final = 1 << 20
_ROUNDING: Final = 1e-6
_lock = Lock()
"""PDFium bears one thread at a time, whatever the document."""


@dataclass(frozen=True)
class _Content:
    """What is drawn on a page."""

    native_px_per_point: float  # of its finest large picture; 0 if there is none
    is_scan: bool
    lines: LineCollector

    @property
    def is_vector(self) -> bool:
        """Whether it draws traces as lines."""
        return self.lines.n_slanted >= TRACE_SEGMENTS


def read_pdf(file: IO[bytes], *, page_number: int | None = None, name: str = "PDF") -> Page:
    """Draw a page of a PDF, turned and cropped as the PDF says.

    Args:
        file: Its bytes, a stream that can seek.
        page_number: From 1; None: the first.
        name: What messages call the file.

    Returns:
        The page, (H, W, 3) uint8 RGB on white, of at most WORKING_PIXELS; ``px_per_mm`` is what it
        was drawn at.

    Raises:
        ImageError: It is encrypted, damaged, too small or too large, has no such page, or pypdfium2
            is missing.
    """
    label = page_label(name, page_number)
    with _opened(file, label) as document:
        n_pages, number = len(document), 1 if page_number is None else page_number
        if not 1 <= number <= n_pages:
            raise ImageError(no_such_page(label, number, n_pages))
        with _closing(document[number - 1]) as page:
            width, height = page.get_size()
            content = _content(page, label)
            scale = _scale(width, height, content)
            check_size(_n_px(width, scale), _n_px(height, scale), label)
            with _closing(page.render(scale=scale, rev_byteorder=True)) as bitmap:
                image = np.array(bitmap.to_numpy(), order="C")
            lines = _vector_lines(page, content, image) if content.is_vector else None
    return Page(
        image,
        label,
        n_pages=n_pages,
        px_per_mm=scale * _POINTS_PER_INCH / MM_PER_INCH,
        page_number=page_number,
        is_vector=content.is_vector,
        lines=lines,
    )


def count_pages(file: IO[bytes], *, name: str = "PDF") -> int:
    """Return how many pages a PDF has.

    Raises:
        ImageError: It cannot be opened, or pypdfium2 is missing.
    """
    with _opened(file, name) as document:
        return len(document)


@contextmanager
def _opened(file: IO[bytes], label: str) -> Iterator[Any]:
    """Open a PDF, alone; errors of PDFium become ours."""
    try:
        import pypdfium2
    except (ImportError, OSError) as error:
        raise ImageError(
            f'{label}: PDF needs pypdfium2: pip install "ecg-digitize[pdf]"; or export the page as '
            "PNG"
        ) from error
    if not _is_whole(file):
        raise ImageError(f"{label}: the PDF is cut off, its end is missing; copy it again")
    with _lock:
        try:
            with pypdfium2.PdfDocument(file) as document:
                yield document
        except ImageError:
            raise
        except pypdfium2.PdfiumError as error:
            raise ImageError(f"{label}: {_why(error, file)}") from error
        except Exception as error:  # what pypdfium2 does not expect of PDFium
            raise ImageError(
                f"{label}: the PDF is damaged ({type(error).__name__}: {error}); export it again"
            ) from error


def _why(error: Any, file: IO[bytes]) -> str:
    from pypdfium2 import raw

    if error.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY):
        file.seek(0)
        if b"/Encrypt" in file.read():  # else that is the last file's code, and this has no pages
            return "the PDF is encrypted; save it without a password"
    return f"the PDF is damaged or has no pages ({error}); export it again"


def _is_whole(file: IO[bytes]) -> bool:
    """Say whether a PDF has an end; PDFium draws what is left without it, and does not complain."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read()
    file.seek(0)
    return b"%%EOF" in tail


@contextmanager
def _closing(thing: Any) -> Iterator[Any]:
    """Free what PDFium holds while it is ours alone, and not when Python comes to it."""
    try:
        yield thing
    finally:
        thing.close()


def _scale(width: float, height: float, content: _Content) -> float:
    """Return at how many pixels a point a page of that size, in points, is drawn."""
    if width <= 0 or height <= 0:
        return 1.0  # check_size refuses it
    limit = math.sqrt(WORKING_PIXELS / (width * height))
    native = content.native_px_per_point
    if content.is_scan:
        scale = native / max(1, math.ceil(native / limit))  # whole factors keep scans even
    else:
        drawn = max(DPI / _POINTS_PER_INCH, LEAST_LONG_PX / max(width, height))
        scale = min(max(drawn, native), limit)
    scale *= 1 - _ROUNDING  # sides are rounded up: 2480.0001 pixels would be 2481
    while _n_px(width, scale) * _n_px(height, scale) > WORKING_PIXELS:
        scale *= 0.999
    return scale


def _n_px(side: float, scale: float) -> int:
    return math.ceil(side * scale)


def _content(page: Any, label: str) -> _Content:
    """Look at what a page draws, without drawing it.

    Raises:
        ImageError: A picture on it is too large to be decoded.
    """
    from pypdfium2 import raw

    native, covered, is_more, lines = 0.0, 0.0, False, LineCollector()
    for thing in page.get_objects():
        if thing.type == raw.FPDF_PAGEOBJ_IMAGE:
            share, px_per_point = _picture(page, thing, label)
            covered += share
            if share >= LARGE_SHARE:
                native = max(native, px_per_point)
        elif thing.type == raw.FPDF_PAGEOBJ_TEXT:
            # What a scanner has read lies invisible over its picture.
            mode = raw.FPDFTextObj_GetTextRenderMode(thing)
            is_more = is_more or mode != raw.FPDF_TEXTRENDERMODE_INVISIBLE
        elif thing.type == raw.FPDF_PAGEOBJ_PATH:
            is_more = True
            lines.add(thing)
        elif thing.type == raw.FPDF_PAGEOBJ_SHADING:
            is_more = True
    is_scan = native > 0 and covered >= SCAN_SHARE and not is_more
    return _Content(native, is_scan, lines)


def _vector_lines(page: Any, content: _Content, image: Image) -> "VectorLines":
    from ecg_digitize.vector import VectorLines  # which brings torch: pictures are read without it

    height_px, width_px = image.shape[:2]
    return VectorLines(content.lines.lines_px(page, width_px=width_px, height_px=height_px))


def _picture(page: Any, picture: Any, label: str) -> tuple[float, float]:
    """Return which share of the page a picture covers, and at how many pixels a point."""
    width_px, height_px = picture.get_px_size()
    limits = [_MAX_PIXELS_OF.get(name, MAX_PIXELS) for name in picture.get_filters()]
    check_size(width_px, height_px, label, max_pixels=min([MAX_PIXELS, *limits]), min_side_px=0)
    matrix, holder = picture.get_matrix(), picture.container
    while holder is not None:  # a group of things, with a place of its own
        matrix, holder = matrix.multiply(holder.get_matrix()), holder.container
    sides = math.hypot(matrix.a, matrix.b), math.hypot(matrix.c, matrix.d)
    if min(sides) <= 0:
        return 0.0, 0.0
    x_corners = [matrix.e + k * matrix.a + m * matrix.c for k in (0, 1) for m in (0, 1)]
    y_corners = [matrix.f + k * matrix.b + m * matrix.d for k in (0, 1) for m in (0, 1)]
    left, bottom, right, top = page.get_bbox()
    wide = min(right, max(x_corners)) - max(left, min(x_corners))
    high = min(top, max(y_corners)) - max(bottom, min(y_corners))
    if wide <= 0 or high <= 0:
        return 0.0, 0.0
    share = wide * high / ((right - left) * (top - bottom))
    return share, max(width_px / sides[0], height_px / sides[1])
