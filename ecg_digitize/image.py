"""Read any picture to upright 8 bit RGB, or say in one sentence why not."""

import io
import itertools
import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import IO, Any, Final, Literal

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageChops
from PIL.Image import Transpose

from ecg_digitize.errors import ImageError
from ecg_digitize.frames import MM_PER_INCH
from ecg_digitize.memory import bound_kept_memory, give_back_memory
from ecg_digitize.types import Image, Page

SUFFIXES: Final = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".avif",
)  # fmt: skip
"""Of the formats that are read here; ``inputs.SUFFIXES`` has all."""
HEAD_BYTES: Final = 1024
"""So many bytes of a file tell what it is."""

MIN_SIDE_PX: Final = 150
"""Below this a 2.5 mV wave on a 12-lead page is a handful of pixels."""
MAX_SIDE_PX: Final = 32_766
"""OpenCV looks nothing up in longer pictures. It is 2.8 m at 300 dpi."""
MAX_PIXELS: Final = 200_000_000
_MAX_PIXELS_OF: Final = {"WEBP": 100_000_000, "JPEG2000": 75_000_000, "HEIF": 150_000_000}
"""Decoders that take 16, 20 and 10 bytes a pixel; with those of the other formats the largest
picture stays below 2.5 GB all the way."""
_SLOW_DECODERS: Final = ("ppm", "ppm_plain", "bmp_rle")
_MAX_PIXELS_SLOW: Final = 10_000_000
"""Pillow decodes PNM of odd depths and packed BMP in Python, at 2 to 6 s a megapixel."""
WORKING_PIXELS: Final = 50_000_000
"""Larger pictures are reduced on reading. A4 at 600 dpi, 35 megapixels, stays as it is; the largest
are halved, which leaves four times the dots that a print of 300 dpi needs."""

# Named one by one because Pillow would start Ghostscript for an EPS, and leave files of other
# formats to plug-ins that nobody tests with pages.
_FORMATS: Final = (
    "PNG", "JPEG", "MPO", "TIFF", "BMP", "DIB", "WEBP", "GIF", "JPEG2000", "AVIF", "PPM", "HEIF",
)  # fmt: skip
_READABLE: Final = "PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000, PNM, PDF or HEIC"

_UPRIGHT: Final = {  # EXIF orientation -> what sets the picture upright
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_JPEG_BLOCK_PIXELS: Final = 64
"""Each block of so many takes one bit of the file at least."""
_ORIENTATION: Final = 0x0112
_PHOTOMETRIC: Final = 262
_SUBFILE: Final = 254
_NO_PAGE: Final = 0b101
"""Bits of that tag: a smaller copy of another frame; a mask of one."""

_HEIC_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
)
_HEIF_BRANDS: Final = frozenset({b"mif1", b"msf1"})  # which AVIF has, too
_TIFF_HEADS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_log = logging.getLogger(__name__)
_pillow_lock = Lock()


def kind_of(head: bytes) -> Literal["PDF", "HEIC", "TIFF"] | None:
    """Say what a file is by its first HEAD_BYTES; None: one of the others that are read here."""
    if head.lstrip(b"\xef\xbb\xbf\0\t\n\f\r ").startswith(b"%PDF-"):
        return "PDF"
    if head.startswith(_TIFF_HEADS):
        return "TIFF"
    if head[4:8] == b"ftyp":
        size = int.from_bytes(head[:4], "big")
        brands = {head[8:12], *(head[k : k + 4] for k in range(16, min(size, len(head)), 4))}
        if brands & _HEIC_BRANDS or (head[8:12] in _HEIF_BRANDS and b"avif" not in brands):
            return "HEIC"
    return None


def page_label(source: str, page_number: int | None) -> str:
    """Return what messages and reports call a page, as addresses name those of a PDF (RFC 8118)."""
    return source if page_number is None else f"{source}#page={page_number}"


def existing_file(path: str | Path, source: str) -> Path:
    """Return the path of a file that is there and not empty.

    Args:
        path: The file.
        source: What messages call it.

    Raises:
        ImageError: There is none.
    """
    path = Path(path)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
        n_bytes = path.stat().st_size if is_file else 0
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise ImageError(f"{source}: there is no such file ({error}); check the path") from error
    if is_folder:
        raise ImageError(
            f"{source}: expected a picture file, but this is a folder; name the files in it"
        )
    if not is_file:
        raise ImageError(f"{source}: there is no such file; check the path")
    if n_bytes == 0:
        raise ImageError(f"{source}: the file is empty (0 bytes); copy or export it again")
    return path


def read_image(
    file: str | Path | IO[bytes], *, page_number: int | None = None, name: str | None = None
) -> Page:
    """Read a picture file; ``inputs.read_page`` also takes PDFs, HEIC, bytes and arrays.

    EXIF orientation is applied, transparency is laid on white paper, 16 bit grey is scaled, CMYK
    and palettes are converted; of an animation the first frame counts. A picture of more than
    WORKING_PIXELS is reduced by a whole factor, and so is the resolution that its file states.

    Args:
        file: The file, or a stream of its bytes that can seek.
        page_number: Which page of a TIFF, from 1; None: the first, and the doubts of its reading
            say if there are others.
        name: What messages call the file, if not by its path.

    Returns:
        The page, (H, W, 3) uint8 RGB, its source being the path as given, or the name; with
        "#page=2" if that page was asked for.

    Raises:
        ImageError: The file is missing, empty, damaged, no picture, too small or too large, or has
            no such page.
    """
    is_path = isinstance(file, str | Path)
    source = page_label(name or (str(file) if is_path else "stream"), page_number)
    opened = existing_file(file, source) if isinstance(file, str | Path) else file
    try:
        with _limit_lifted():
            picture = _open(opened)
        with closing(picture):  # frees the pixels at once, too
            n_pages = _choose_page(picture, page_number, source)
            check_size(*picture.size, source, max_pixels=_max_pixels(picture))
            if picture.format in ("JPEG", "MPO"):
                _check_jpeg(*picture.size, _n_bytes(opened), source)
            with _alone_if_large(picture):
                reduced, factor = _load(picture)
                upright = _turned(reduced, _orientation(picture, source))
                image = _rgb(upright, negative=_is_negative(picture))
            stated = _px_per_mm(picture)
            return Page(
                image,
                source,
                n_pages=n_pages,
                px_per_mm=None if stated is None else stated / factor,
                page_number=page_number,
            )
    except ImageError:
        raise
    except PIL.UnidentifiedImageError:
        raise ImageError(f"{source}: {_unidentified(opened)}") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        why = " ".join(str(error).split())  # some have several lines
        raise ImageError(
            f"{source}: the picture is damaged or cut off ({type(error).__name__}: {why}); "
            "copy or export it again"
        ) from error


def count_pages(source: Path | IO[bytes]) -> int:
    """Return how many pages a TIFF has, without decoding any.

    Raises:
        Exception: It is damaged; Pillow raises nearly anything.
    """
    with _limit_lifted():
        picture = _open(source)
    with closing(picture):
        return len(_page_frames(picture))


def image_from_array(array: NDArray[Any], *, source: str = "array") -> Page:
    """Make a page from a picture in memory.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA; bool, uint8, uint16 or floats
            in [0, 1]. RGBA is laid on white.
        source: A name for messages.

    Returns:
        The page, which shares no memory with the array.

    Raises:
        ImageError: Another shape, dtype or range, too small or too large.
    """
    array = np.asarray(array)
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(
            f"{source}: expected a picture (H, W), (H, W, 3) or (H, W, 4), but got {shape}; "
            "channels come last, and one picture is given at a time"
        )
    check_size(shape[1], shape[0], source)
    if array.dtype == np.bool_:
        array = array * np.uint8(255)
    elif array.dtype == np.uint16:
        array = _eight_bits(array)
    elif np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # NaN fails both
            raise ImageError(
                f"{source}: expected floats in [0, 1], but got {array.min():g} to "
                f"{array.max():g}; scale them, or pass uint8"
            )
        array = np.rint(array * 255.0).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ImageError(
            f"{source}: expected bool, uint8, uint16 or floats in [0, 1], but got {array.dtype}; "
            "convert it to one of these"
        )
    if array.shape[2] == 4:
        return Page(image=_rgb(PIL.Image.fromarray(np.ascontiguousarray(array))), source=source)
    return Page(image=np.array(np.broadcast_to(array, (*shape[:2], 3)), order="C"), source=source)


def check_size(
    width_px: int,
    height_px: int,
    source: str,
    *,
    max_pixels: int = MAX_PIXELS,
    min_side_px: int = MIN_SIDE_PX,
) -> None:
    """Check that a picture has a usable size, before it is decoded.

    Raises:
        ImageError: It has not.
    """
    if min(width_px, height_px) < min_side_px:
        raise ImageError(
            f"{source}: expected at least {min_side_px} px a side, but got {width_px} x "
            f"{height_px}; scan or photograph the page larger"
        )
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise ImageError(
            f"{source}: expected at most {MAX_SIDE_PX} px a side, but got {width_px} x "
            f"{height_px}; cut the strip into pieces, or scale it down"
        )
    if width_px * height_px > max_pixels:
        raise ImageError(
            f"{source}: expected at most {max_pixels / 1e6:.0f} megapixels, but got {width_px} x "
            f"{height_px} = {width_px * height_px / 1e6:.0f}; scale the picture down, 300 dpi is "
            "enough"
        )


def _max_pixels(picture: PIL.Image.Image) -> int:
    if any(tile[0] in _SLOW_DECODERS for tile in getattr(picture, "tile", ())):
        return _MAX_PIXELS_SLOW
    return _MAX_PIXELS_OF.get(picture.format or "", MAX_PIXELS)


def _check_jpeg(width_px: int, height_px: int, n_bytes: int, source: str) -> None:
    """Refuse a header that lies: libjpeg would fill what is missing with grey and not complain."""
    if 8 * n_bytes < width_px * height_px / _JPEG_BLOCK_PIXELS:
        raise ImageError(
            f"{source}: the header says {width_px} x {height_px} px, but {n_bytes} bytes cannot "
            "hold so many; the picture is damaged or cut off, copy or export it again"
        )


@contextmanager
def _limit_lifted() -> Iterator[None]:
    """Lift Pillow's own size limit, a global that warns from 89 and fails from 179 megapixels."""
    with _pillow_lock:
        before = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = before


def _alone_if_large(picture: PIL.Image.Image) -> AbstractContextManager[None]:
    """Lift the limit where the load would warn; threads then read one such picture at a time.

    That also bounds the memory: one of 200 megapixels takes up to 1.9 GB until it is reduced.
    """
    limit = PIL.Image.MAX_IMAGE_PIXELS
    large = limit is not None and picture.width * picture.height > limit
    return _limit_lifted() if large else nullcontext()


def _open(file: Path | IO[bytes]) -> PIL.Image.Image:
    PIL.Image.init()  # registers what this Pillow was built with: AVIF may be missing
    return PIL.Image.open(file, formats=[name for name in _FORMATS if name in PIL.Image.OPEN])


def _n_bytes(file: Path | IO[bytes]) -> int:
    return file.stat().st_size if isinstance(file, Path) else file.seek(0, io.SEEK_END)


def _unidentified(file: Path | IO[bytes]) -> str:
    """Say why Pillow does not know a file."""
    try:
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
            stream.seek(0)
            kind = kind_of(stream.read(HEAD_BYTES))
    except (OSError, ValueError):
        kind = None
    if kind == "PDF":
        return "this is a PDF, which read_image does not read; call ecg_digitize.read_page"
    if kind == "HEIC":
        return "the HEIC picture is damaged or cut off; copy it again, or save it as JPEG"
    return (
        f"expected {_READABLE}, but the file is none of them or its header is damaged; export it "
        "again, for instance as PNG"
    )


def _load(picture: PIL.Image.Image) -> tuple[PIL.Image.Image, int]:
    """Load an opened picture; return it reduced to WORKING_PIXELS, and by which factor.

    A JPEG is decoded at half, a quarter or an eighth of its size. Others are reduced before
    anything else is done with them.
    """
    n_pixels = picture.width * picture.height
    if n_pixels > WORKING_PIXELS:
        give_back_memory()
    else:
        bound_kept_memory()
    factor = _factor(n_pixels)
    if factor > 1:
        picture.draft(None, (picture.width // factor, picture.height // factor))
        drafted = round((n_pixels / (picture.width * picture.height)) ** 0.5)
    else:
        drafted = 1
    picture.load()
    rest = _factor(picture.width * picture.height)
    if rest == 1:
        return picture, drafted
    loaded: PIL.Image.Image = picture
    if picture.mode in ("1", "P"):  # have no means between their values
        colours = "RGBA" if picture.has_transparency_data else "RGB"
        loaded = picture.convert("L" if picture.mode == "1" else colours)
    elif picture.mode.startswith("I;"):
        loaded = picture.convert("I")
    # The function of the class: pictures of JPEG 2000 have an attribute of that name.
    return PIL.Image.Image.reduce(loaded, rest), drafted * rest


def _factor(n_pixels: int) -> int:
    return math.ceil(math.sqrt(n_pixels / WORKING_PIXELS))


def _choose_page(picture: PIL.Image.Image, page_number: int | None, source: str) -> int:
    """Go to a page of an opened picture, the first by default; return how many it has."""
    frames = _page_frames(picture)
    wanted = 1 if page_number is None else page_number
    if not 1 <= wanted <= len(frames):
        raise ImageError(no_such_page(source, wanted, len(frames)))
    if len(frames) > 1:
        _seek(picture, 0)  # else one that is damaged and was looked at last would pass as read
        _seek(picture, frames[wanted - 1])
    return len(frames)


def no_such_page(source: str, page_number: int, n_pages: int) -> str:
    """Return the message for a page number that a file does not have."""
    return f"{source}: expected a page number from 1 to {n_pages}, but got {page_number}"


def _page_frames(picture: PIL.Image.Image) -> list[int]:
    """Return which frames of an opened picture are pages of it.

    Those of a TIFF are, except previews and masks; other formats have further pictures for other
    purposes. A frame that is damaged counts as a page, so that somebody is told of it.
    """
    frames = [0]
    if picture.format != "TIFF":
        return frames
    for frame in itertools.count(1):
        try:
            _seek(picture, frame)
            is_page = not int(getattr(picture, "tag_v2", {}).get(_SUBFILE, 0)) & _NO_PAGE
        except EOFError:
            return frames
        except Exception as error:
            _log.warning("page %d cannot be looked at (%s)", len(frames) + 1, error)
            frames.append(frame)
            if picture.tell() < frame:  # nor is it known where the next one is
                return frames
        else:
            frames += [frame] * is_page
    raise AssertionError("a count has no end")


def _seek(picture: PIL.Image.Image, frame: int) -> None:
    if frame != picture.tell():
        stated = picture.info.pop("dpi", None)  # else a frame without it has that of the one before
        try:
            picture.seek(frame)
        except EOFError:
            if stated is not None:
                picture.info["dpi"] = stated
            raise


def _px_per_mm(picture: PIL.Image.Image) -> float | None:
    """Return the resolution that a file states, if it is the same across and down."""
    dpi = np.array(picture.info.get("dpi", (0.0, 0.0)), np.float64)
    if dpi.shape != (2,) or not (dpi > 0).all() or abs(dpi[0] / dpi[1] - 1) > 0.01:
        return None
    return float(dpi.mean()) / MM_PER_INCH


def _orientation(picture: PIL.Image.Image, source: str) -> int:
    """Return the EXIF orientation; call it after load, when Pillow has turned TIFFs itself."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # a damaged EXIF block must not cost the page
        _log.warning("%s: EXIF data unreadable (%s), picture taken as upright", source, error)
        return 1


def _turned(picture: PIL.Image.Image, orientation: int) -> PIL.Image.Image:
    turn = _UPRIGHT.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _is_negative(picture: PIL.Image.Image) -> bool:
    """Return whether an opened file stores ink where Pillow sees light."""
    if picture.mode == "CMYK":  # Pillow takes that of every JPEG for inverted; Adobe's alone is
        return picture.format == "JPEG" and "adobe" not in picture.info
    deep = picture.mode.startswith("I") or picture.mode == "F"
    return deep and getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == 0  # 0 is white


def _rgb(picture: PIL.Image.Image, *, negative: bool = False) -> Image:
    """Convert a loaded picture of any mode to (H, W, 3) uint8 RGB on white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = _eight_bits(np.asarray(picture))
        return np.repeat((255 - grey if negative else grey)[..., None], 3, axis=2)
    if negative:
        picture = ImageChops.invert(picture)
    if picture.has_transparency_data:
        ink = picture.convert("RGBA")
        picture = PIL.Image.alpha_composite(PIL.Image.new("RGBA", ink.size, "white"), ink)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _eight_bits(values: NDArray[Any]) -> Image:
    """Scale deep grey values to 0..255 by the smallest usual bit depth that holds them.

    Scanners put 10, 12 or 14 bits into 16 bit files; paper is bright, so the maximum tells.
    """
    depths: tuple[float, ...] = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
    if values.dtype.kind == "f":
        depths = (1.0, *depths)
    values = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0).clip(min=0)
    top = float(values.max())
    full = next((depth for depth in depths if top <= depth), top)
    return np.rint(values * np.float32(255 / full)).astype(np.uint8)
