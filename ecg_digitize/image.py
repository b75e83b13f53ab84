"""Read any picture to upright 8 bit RGB, or say in one sentence why not."""

import logging
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, Final

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
"""What counts as a picture in a folder."""

MIN_SIDE_PX: Final = 150
"""Below this a 2.5 mV wave on a 12-lead page is a handful of pixels."""
MAX_PIXELS: Final = 200_000_000
_MAX_PIXELS_OF: Final = {"WEBP": 100_000_000, "JPEG2000": 75_000_000}
"""Decoders that take 16 and 20 bytes a pixel; with those of the other formats the largest picture
stays below 2.5 GB all the way."""
_SLOW_DECODERS: Final = ("ppm", "ppm_plain", "bmp_rle")
_MAX_PIXELS_SLOW: Final = 10_000_000
"""Pillow decodes PNM of odd depths and packed BMP in Python, at 2 to 6 s a megapixel."""
WORKING_PIXELS: Final = 50_000_000
"""Larger pictures are reduced on reading. A4 at 600 dpi, 35 megapixels, stays as it is; the largest
are halved, which leaves four times the dots that a print of 300 dpi needs."""

# Named one by one because Pillow would start Ghostscript for an EPS, and leave files of other
# formats to plug-ins that nobody tests with pages.
_FORMATS: Final = (
    "PNG", "JPEG", "MPO", "TIFF", "BMP", "DIB", "WEBP", "GIF", "JPEG2000", "AVIF", "PPM",
)  # fmt: skip
_READABLE: Final = "PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000 or PNM"

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

_log = logging.getLogger(__name__)
_pillow_lock = Lock()


def read_image(path: str | Path) -> Page:
    """Read a picture file.

    EXIF orientation is applied, transparency is laid on white paper, 16 bit grey is scaled, CMYK
    and palettes are converted; of an animation the first frame counts. A picture of more than
    WORKING_PIXELS is reduced by a whole factor, and so is the resolution that its file states.

    Args:
        path: The file.

    Returns:
        The page, (H, W, 3) uint8 RGB, its source being the path as given.

    Raises:
        ImageError: The file is missing, empty, damaged, no picture, too small or too large.
    """
    source = str(path)
    path = Path(path)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise ImageError(f"{source}: there is no such file ({error}); check the path") from error
    if is_folder:
        raise ImageError(
            f"{source}: expected a picture file, but this is a folder; name the files in it"
        )
    if not is_file:
        raise ImageError(f"{source}: there is no such file; check the path")
    try:
        n_bytes = path.stat().st_size
        if n_bytes == 0:
            raise ImageError(f"{source}: the file is empty (0 bytes); copy or export it again")
        with _limit_lifted():
            picture = _open(path)
        with closing(picture):  # frees the pixels at once, too
            _check_size(*picture.size, source, max_pixels=_max_pixels(picture))
            if picture.format in ("JPEG", "MPO"):
                _check_jpeg(*picture.size, n_bytes, source)
            with _alone_if_large(picture):
                reduced, factor = _load(picture)
                upright = _turned(reduced, _orientation(picture, source))
                image = _rgb(upright, negative=_is_negative(picture))
            stated = _px_per_mm(picture)
            return Page(
                image,
                source,
                n_pages=_n_pages(picture),
                px_per_mm=None if stated is None else stated / factor,
            )
    except ImageError:
        raise
    except PIL.UnidentifiedImageError:
        raise ImageError(
            f"{source}: expected {_READABLE}, but the file is none of them or its header is "
            "damaged; export it again, for instance as PNG (phones: JPEG, not HEIC)"
        ) from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ImageError(
            f"{source}: the picture is damaged or cut off ({type(error).__name__}: {error}); "
            "copy or export it again"
        ) from error


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
    _check_size(shape[1], shape[0], source)
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


def _check_size(
    width_px: int, height_px: int, source: str, *, max_pixels: int = MAX_PIXELS
) -> None:
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise ImageError(
            f"{source}: expected at least {MIN_SIDE_PX} px a side, but got {width_px} x "
            f"{height_px}; scan or photograph the page larger"
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


def _open(path: Path) -> PIL.Image.Image:
    PIL.Image.init()  # registers what this Pillow was built with: AVIF may be missing
    return PIL.Image.open(path, formats=[name for name in _FORMATS if name in PIL.Image.OPEN])


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


def _n_pages(picture: PIL.Image.Image) -> int:
    """Return how many pages a TIFF has; other formats have further pictures for other purposes."""
    if picture.format != "TIFF":
        return 1
    try:
        return int(getattr(picture, "n_frames", 1))
    except Exception as error:  # a damaged second page must not cost the first
        _log.warning("further pages cannot be counted (%s)", error)
        return 1


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
