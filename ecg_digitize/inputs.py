"""Anything that shows a page, to a page: picture files, PDF, HEIC, bytes, streams, arrays.

PDF and HEIC need a package each, which ``pip install "ecg-digitize[pdf,heic]"`` installs. The
notebook, which has neither, reads its pictures by ``image`` alone.
"""

import importlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from ecg_digitize import image, pdf
from ecg_digitize.errors import ImageError
from ecg_digitize.image import existing_file, image_from_array, kind_of, page_label, read_image
from ecg_digitize.types import Page

SUFFIXES: Final = (*image.SUFFIXES, ".pdf", ".heic", ".heif")
"""What counts as a picture in a folder."""
_HEIC_PACKAGES: Final = ("pi_heif", "pillow_heif")
"""Two builds of one library. The first only reads, and so does without an encoder under the GPL."""


@dataclass(frozen=True)
class PageRef:
    """A page of a file."""

    path: Path
    page_number: int | None = None  # from 1; None: the file has one
    name: str | None = None  # what messages call the file; None: its path

    @property
    def label(self) -> str:
        """What messages and reports call the page, for instance "scan.pdf#page=2"."""
        return page_label(self.name or str(self.path), self.page_number)


Source = str | Path | PageRef | bytes | IO[bytes] | NDArray[Any] | Page
"""A file by its path, a page of one, the content of one, a stream of that, pixels, or a page that
was read already."""


def pages_of(path: str | Path, *, name: str | None = None) -> tuple[PageRef, ...]:
    """List the pages of a file, without decoding any.

    Args:
        path: A picture file; a PDF and a TIFF can have several pages.
        name: What messages call it, if not by its path.

    Returns:
        Its pages. Of a file that cannot be read there is one, and ``read_page`` says why not.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            n_pages = count_pages(stream)
    except OSError:  # whoever reads it will say why not
        n_pages = 1
    if n_pages == 1:
        return (PageRef(path, name=name),)
    return tuple(PageRef(path, number, name) for number in range(1, n_pages + 1))


def count_pages(stream: IO[bytes]) -> int:
    """Return how many pages a file has, without decoding any; 1 of one that cannot be read."""
    try:
        kind = kind_of(stream.read(image.HEAD_BYTES))
        stream.seek(0)
        if kind == "PDF":
            return pdf.count_pages(stream)
        return image.count_pages(stream) if kind == "TIFF" else 1
    except Exception:  # whoever reads it will say why not
        return 1


def read_page(source: Source, *, page_number: int | None = None, name: str | None = None) -> Page:
    """Read a page.

        read_page("photo.heic")
        read_page("scans.pdf", page_number=2)
        [read_page(ref) for ref in pages_of("scans.tif")]
        read_page(response.content)
        read_page(sys.stdin.buffer, name="stdin")
        read_page(cv2.imread("page.png")[..., ::-1])

    Args:
        source: A file, a page of one, the bytes of one, a binary stream of these from where it
            stands, or an array as ``image_from_array`` takes it: RGB, not BGR. A page is given
            back as it is.
        page_number: Which page of a PDF or TIFF, from 1; None: the first, and the doubts of its
            reading say if there are others.
        name: What messages call it, if not by its path.

    Returns:
        The page, (H, W, 3) uint8 RGB; its source is the path as given, or the name, and
        "#page=2" if that page was asked for.

    Raises:
        ImageError: It cannot be read, has no such page, or a package for it is missing.
    """
    if isinstance(source, Page):
        return source
    if isinstance(source, PageRef):
        page_number = source.page_number if page_number is None else page_number
        name, source = name or source.name, source.path
    name = name or name_of(source)
    label = page_label(name, page_number)
    if isinstance(source, np.ndarray):
        if page_number not in (None, 1):
            raise ImageError(image.no_such_page(label, page_number or 0, 1))
        return image_from_array(source, source=name)
    if isinstance(source, str | Path):
        path = existing_file(source, label)
        try:
            with path.open("rb") as stream:
                return _read(stream, path, page_number, name)
        except OSError as error:
            raise ImageError(f"{label}: cannot be read ({error}); check the file") from error
    return _read(io.BytesIO(_content(source, label)), None, page_number, name)


def name_of(source: Source) -> str:
    """Return what messages call a source that nobody named: its path, or what it is."""
    if isinstance(source, PageRef):
        return source.label
    if isinstance(source, Page):
        return source.source
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, np.ndarray):
        return "array"
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes"
    told = getattr(source, "name", None)
    return told if isinstance(told, str) and told else "stream"


def _read(stream: IO[bytes], path: Path | None, page_number: int | None, name: str) -> Page:
    """Read the page of a stream that can seek, which is that of a path if there is one."""
    kind = kind_of(stream.read(image.HEAD_BYTES))
    stream.seek(0)
    if kind == "PDF":
        return pdf.read_pdf(stream, page_number=page_number, name=name)
    if kind == "HEIC":
        _prepare_heic(page_label(name, page_number))
    # By its path where it has one: libtiff then reads from the disk what it needs.
    return read_image(path or stream, page_number=page_number, name=name)


def _content(source: Any, label: str) -> bytes:
    """Return the bytes of what is neither a path nor an array."""
    try:
        content = source.read() if hasattr(source, "read") else source
    except Exception as error:  # a stream can be a network's or a user's own
        raise ImageError(
            f"{label}: cannot be read ({type(error).__name__}: {error}); check where it comes from"
        ) from error
    if not isinstance(content, bytes | bytearray | memoryview):
        raise ImageError(
            f"{label}: expected a path, bytes, a stream opened with mode 'rb' or an array, but got "
            f"{type(content).__name__}"
        )
    if not len(content):
        raise ImageError(f"{label}: is empty (0 bytes); check where it comes from")
    return bytes(content)


def _prepare_heic(label: str) -> None:
    """Let Pillow read HEIC.

    Raises:
        ImageError: The package for it is missing.
    """
    for package in _HEIC_PACKAGES:
        try:
            module = importlib.import_module(package)
            break
        except ImportError:
            continue
    else:
        raise ImageError(
            f'{label}: HEIC needs pi-heif: pip install "ecg-digitize[heic]"; or save the picture '
            "as JPEG"
        )
    # Without thumbnails: a picture that is to be reduced must not come back as one of these.
    module.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
