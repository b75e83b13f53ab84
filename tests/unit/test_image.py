"""Every kind of picture becomes upright RGB on white, and every fault one clear ImageError."""

import io
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from PIL import TiffImagePlugin

from ecg_digitize import image as image_module
from ecg_digitize.errors import ImageError
from ecg_digitize.image import image_from_array, read_image

H, W = 160, 200
CASES = Path(__file__).parents[3] / "shared" / "data" / "cases"


@pytest.fixture
def save(tmp_path):
    def _save(array_or_picture, name, **options):
        picture = array_or_picture
        if isinstance(picture, np.ndarray):
            picture = PIL.Image.fromarray(picture)
        path = tmp_path / name
        picture.save(path, **options)
        return path

    return _save


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm"])
def test_lossless_formats_come_back_exactly(colour, save, suffix):
    path = save(colour, f"page.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    page = read_image(path)
    assert page.source == str(path)
    assert page.image.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(page.image, colour)


def test_jpeg(colour, save):
    image = read_image(str(save(colour, "page.JPG", quality=95))).image
    np.testing.assert_allclose(image, colour, atol=12)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(colour, save, suffix, orientation):
    stored = {  # what a camera stores so that the viewer, turning it, sees `colour`
        1: colour,
        2: colour[:, ::-1],
        3: colour[::-1, ::-1],
        4: colour[::-1],
        5: colour.swapaxes(0, 1),
        6: np.rot90(colour),
        7: np.rot90(colour, 2).swapaxes(0, 1),
        8: np.rot90(colour, -1),
    }[orientation]
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = save(np.ascontiguousarray(stored), f"page.{suffix}", exif=exif, quality=95)
    np.testing.assert_allclose(read_image(path).image, colour, atol=16)


def test_damaged_exif_is_no_reason_to_fail(colour, save):
    path = save(colour, "page.png", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff\x12\x01")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(read_image(path).image, colour)


def test_transparency_is_white_paper(colour, save):
    alpha = np.full((H, W, 1), 255, np.uint8)
    alpha[:50], alpha[50:60] = 0, 128
    image = read_image(save(np.concatenate([colour, alpha], axis=-1), "page.png")).image
    assert (image[:50] == 255).all()
    np.testing.assert_allclose(image[55], 255 - (255 - colour[55].astype(float)) / 2, atol=1)
    np.testing.assert_array_equal(image[60:], colour[60:])


def test_grey_with_alpha(save):
    grey = np.zeros((H, W, 2), np.uint8)
    grey[80:, :, 1] = 255
    picture = PIL.Image.merge("LA", [PIL.Image.fromarray(grey[..., k].copy()) for k in (0, 1)])
    image = read_image(save(picture, "page.png")).image
    assert (image[:80] == 255).all()
    assert (image[80:] == 0).all()


@pytest.mark.parametrize("transparency", [3, bytes([255, 255, 255, 0])])
def test_palette_with_transparency(save, transparency):
    picture = PIL.Image.fromarray(np.repeat(np.arange(4, dtype=np.uint8), 50)[None].repeat(H, 0))
    picture = picture.convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    path = save(picture, "page.png", transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(path).image
    assert image[0, ::50].tolist() == [[0, 0, 0], [255, 0, 0], [0, 255, 0], [255, 255, 255]]


def test_one_bit(save):
    bits = np.zeros((H, W), bool)
    bits[:, 100:] = True
    image = read_image(save(PIL.Image.fromarray(bits), "page.png")).image
    np.testing.assert_array_equal(image, np.repeat(bits[..., None] * np.uint8(255), 3, 2))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_grey_is_scaled_by_its_depth(save, suffix, bits):
    ramp = np.linspace(0, 2**bits - 1, W).astype(np.uint16)[None].repeat(H, 0)
    image = read_image(save(ramp, f"page.{suffix}")).image
    np.testing.assert_allclose(image[0, :, 1], np.linspace(0, 255, W), atol=1)


def test_deep_grey_tiff_where_zero_is_white(save):
    ramp = np.linspace(0, 65535, W).astype(np.uint16)[None].repeat(H, 0)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[262] = 0
    path = save(ramp, "page.tif", tiffinfo=info)
    with PIL.Image.open(path) as picture:
        assert picture.tag_v2[262] == 0
    np.testing.assert_allclose(read_image(path).image[0, :, 0], np.linspace(255, 0, W), atol=1)


@pytest.mark.parametrize(("dtype", "top"), [(np.int32, 65535), (np.float32, 1), (np.float32, 255)])
def test_wide_grey_tiff(save, dtype, top):
    ramp = np.linspace(0, top, W)[None].repeat(H, 0).astype(dtype)
    image = read_image(save(ramp, "page.tif")).image
    np.testing.assert_allclose(image[0, :, 2], np.linspace(0, 255, W), atol=1)


def _without_adobe_marker(jpeg):
    start = jpeg.index(b"\xff\xee")
    (length,) = struct.unpack(">H", jpeg[start + 2 : start + 4])
    return jpeg[:start] + jpeg[start + 2 + length :]


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpeg_inverted_only_with_adobe_marker(tmp_path, adobe):
    paper_with_red = np.zeros((H, W, 4), np.uint8)  # no ink
    paper_with_red[:, 100:, 1:3] = 255  # magenta and yellow
    stored = paper_with_red if adobe else 255 - paper_with_red  # Pillow inverts when it writes
    buffer = io.BytesIO()
    PIL.Image.fromarray(stored, mode="CMYK").save(buffer, "JPEG", quality=100)
    data = buffer.getvalue()
    path = tmp_path / "page.jpg"
    path.write_bytes(data if adobe else _without_adobe_marker(data))
    image = read_image(path).image
    np.testing.assert_allclose(image[:, 10], 255, atol=2)
    np.testing.assert_allclose(image[:, 190], np.tile([255, 0, 0], (H, 1)), atol=4)


def test_cmyk_tiff(save):
    picture = PIL.Image.new("CMYK", (W, H), (0, 255, 255, 0))
    assert read_image(save(picture, "page.tif")).image[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif", "png"])
def test_first_frame_of_several_counts(save, suffix):
    frames = [PIL.Image.new("RGB", (W, H), c) for c in ("red", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(frames[0], f"page.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert read_image(path).image[5, 5].tolist() == [255, 0, 0]


# -------------------------------------------------------------------------------- faults
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_cut_off_files_are_image_errors(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(noise).save(buffer, PIL.Image.registered_extensions()[f".{suffix}"])
    path = tmp_path / f"page.{suffix}"
    data = buffer.getvalue()
    path.write_bytes(data[: int(share * len(data))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on the damage
        with pytest.raises(ImageError, match=rf"page\.{suffix}: .*export it again"):
            read_image(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"hello", "expected PNG, JPEG"), (b"%!PS-Adobe-3.0 EPSF-3.0\n", "expected")],
)
def test_files_that_are_no_pictures(tmp_path, content, message):
    path = tmp_path / "page.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"page\.png: .*{message}"):
        read_image(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png: there is no such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="this is a folder"):
        read_image(tmp_path)


def _png_header(width, height):
    """A grey 8 bit PNG of any size that breaks off where the pixels begin."""
    parts = b"\x89PNG\r\n\x1a\n"
    for kind, body in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", b""),
    ):
        parts += struct.pack(">I", len(body)) + kind + body
        parts += struct.pack(">I", zlib.crc32(kind + body))
    return parts


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((1, 1), "expected at least 150 px a side, but got 1 x 1"),
        ((4000, 149), "but got 4000 x 149"),
        ((160, 32767), "at most 32766 px a side, but got 160 x 32767; cut the strip"),
        ((20000, 15000), "at most 200 megapixels, but got 20000 x 15000 = 300"),
        ((10000, 9500), "damaged or cut off"),  # Pillow would warn of a bomb here
    ],
)
def test_sizes_are_judged_before_decoding_and_without_warnings(tmp_path, size, message):
    path = tmp_path / "page.png"
    path.write_bytes(_png_header(*size))
    limit = PIL.Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=message):
            read_image(path)
    assert limit == PIL.Image.MAX_IMAGE_PIXELS


# -------------------------------------------------------------------------------- arrays
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_arrays(colour, dtype, channels):
    picture = colour[..., 0] if channels is None else colour[..., :1] if channels == 1 else colour
    picture = np.maximum(picture, 0).copy()
    picture[0, 0] = 255
    if channels == 4:
        picture = np.concatenate([picture, np.full((H, W, 1), 255, np.uint8)], axis=-1)
    scale = {np.uint8: 1, np.uint16: 257}.get(dtype, 1 / 255)
    page = image_from_array((picture.astype(float) * scale).astype(dtype), source="mine")
    want = picture[..., None] if channels is None else picture[..., :3]
    np.testing.assert_array_equal(page.image, np.broadcast_to(want, (H, W, 3)))
    assert page.source == "mine"


def test_array_is_copied(colour):
    page = image_from_array(colour)
    colour[:] = 0
    assert page.image.any()


def test_bool_array_and_transparent_array():
    assert image_from_array(np.ones((H, W), bool)).image.min() == 255
    assert image_from_array(np.zeros((H, W, 4), np.uint8)).image.min() == 255


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, H, W), np.uint8), "channels come last"),
        (np.zeros((2, H, W, 3), np.uint8), "one picture at a time|one picture is given"),
        (np.zeros((H, W), np.int64), "but got int64"),
        (np.full((H, W), 255.0), r"floats in \[0, 1\], but got 255 to 255"),
        (np.full((H, W), np.nan), "nan"),
        (np.zeros((0, 0), np.uint8), "but got 0 x 0"),
        (np.zeros((H, 20, 3), np.uint8), "but got 20 x 160"),
    ],
)
def test_arrays_that_are_no_pictures(array, message):
    with pytest.raises(ImageError, match=message) as caught:
        image_from_array(array, source="mine")
    assert str(caught.value).startswith("mine: ")


def test_a_file_states_its_resolution_and_its_pages(tmp_path) -> None:
    picture = PIL.Image.fromarray(np.full((H, W, 3), 255, np.uint8))
    picture.save(tmp_path / "scan.png", dpi=(254, 254))
    picture.save(tmp_path / "askew.png", dpi=(254, 100))
    picture.save(tmp_path / "plain.png")
    picture.save(tmp_path / "two.tif", save_all=True, append_images=[picture])
    assert read_image(tmp_path / "scan.png").px_per_mm == pytest.approx(10.0, abs=0.01)
    assert read_image(tmp_path / "askew.png").px_per_mm is None
    assert read_image(tmp_path / "plain.png").px_per_mm is None
    assert [read_image(tmp_path / name).n_pages for name in ("plain.png", "two.tif")] == [1, 2]


# ------------------------------------------------------------------------ large pictures
@pytest.fixture
def few_pixels(monkeypatch):
    """Let a quarter of the pixels of `colour` be what pictures are reduced to."""
    monkeypatch.setattr("ecg_digitize.image.WORKING_PIXELS", H * W // 4)


def _halved(array):
    return array.reshape(H // 2, 2, W // 2, 2, -1).mean(axis=(1, 3))


@pytest.mark.usefixtures("few_pixels")
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp", "ppm", "jp2"])
def test_large_pictures_are_halved(colour, save, suffix):
    options = {"webp": {"lossless": True}, "jpg": {"quality": 95, "dpi": (508, 508)}}
    path = save(colour, f"page.{suffix}", **options.get(suffix, {}))
    page = read_image(path)
    assert page.image.shape == (H // 2, W // 2, 3)
    np.testing.assert_allclose(page.image, _halved(colour), atol=12 if suffix == "jpg" else 1)
    if suffix == "jpg":
        assert page.px_per_mm == pytest.approx(10.0)


@pytest.mark.usefixtures("few_pixels")
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_large_pictures_of_any_mode_are_halved(colour, save, mode):
    picture = PIL.Image.fromarray(colour)
    if mode in ("I;16", "I", "F"):
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        picture = PIL.Image.fromarray(np.asarray(picture.convert("L")).astype(dtype) * dtype(257))
    else:
        picture = picture.convert(mode)
    path = save(picture, "page.tif" if mode in ("CMYK", "F", "I") else "page.png")
    image = read_image(path).image
    want = colour if mode in ("P", "RGBA", "CMYK") else np.asarray(picture.convert("L"))
    if mode in ("I;16", "I", "F"):
        want = np.asarray(PIL.Image.fromarray(colour).convert("L"))
    elif mode == "1":
        want = np.asarray(picture) * 255.0
    elif mode == "P":
        want = np.asarray(picture.convert("RGB"))
    got = np.broadcast_to(_halved(want), image.shape)
    assert image.shape == (H // 2, W // 2, 3)
    np.testing.assert_allclose(image, got, atol=2)


@pytest.mark.usefixtures("few_pixels")
@pytest.mark.parametrize("suffix", ["jpg", "tif", "png"])
def test_large_pictures_are_turned(colour, save, suffix):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    stored = np.ascontiguousarray(np.rot90(colour))
    path = save(stored, f"page.{suffix}", exif=exif, quality=95)
    np.testing.assert_allclose(read_image(path).image, _halved(colour), atol=16)


@pytest.mark.usefixtures("few_pixels")
def test_large_negatives_stay_negatives(save):
    ramp = np.linspace(0, 65535, W).astype(np.uint16)[None].repeat(H, 0)
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[262] = 0
    image = read_image(save(ramp, "page.tif", tiffinfo=info)).image
    assert image.shape == (H // 2, W // 2, 3)
    assert image[0, 0, 0] > 250
    assert image[0, -1, 0] < 5


@pytest.mark.parametrize(("suffix", "megapixels"), [("webp", 100), ("jp2", 75)])
def test_formats_whose_decoders_need_more_memory_have_a_limit_of_their_own(
    colour, save, monkeypatch, suffix, megapixels
):
    path = save(colour, f"page.{suffix}")
    limits = image_module._MAX_PIXELS_OF
    of_format = {"webp": "WEBP", "jp2": "JPEG2000"}[suffix]
    assert limits[of_format] == megapixels * 1_000_000
    monkeypatch.setitem(limits, of_format, H * W - 1)
    with pytest.raises(ImageError, match=f"megapixels, but got {W} x {H}"):
        read_image(path)


def test_files_that_are_decoded_in_python_have_a_limit_of_their_own(tmp_path):
    path = tmp_path / "page.ppm"
    for depth, message in ((255, "damaged or cut off"), (254, "at most 10 megapixels")):
        path.write_bytes(b"P6\n4000 3000\n%d\n" % depth)
        with pytest.raises(ImageError, match=message):
            read_image(path)


def _white_png(path, width, height):
    """Write an RGB page without holding it."""

    def chunk(kind, body):
        sum_ = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + sum_

    pack = zlib.compressobj(1)
    row = b"\0" + b"\xff" * (3 * width)
    body = b"".join(pack.compress(row) for _ in range(height)) + pack.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", body), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of the memory")
def test_two_hundred_megapixels_are_read_within_the_memory(tmp_path, run_python):
    _white_png(tmp_path / "page.png", 16_000, 12_500)
    code = """
import re
from ecg_digitize.image import read_image
print(read_image(PATH).image.shape)
print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read()).group(1))
""".replace("PATH", repr(str(tmp_path / "page.png")))
    shape, peak_kb = run_python(code).stdout.splitlines()
    assert shape == "(6250, 8000, 3)"
    assert int(peak_kb) < 2_000_000


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the shared pictures")
def test_a_header_that_says_huge_is_refused():
    with pytest.raises(ImageError, match="says 20000 x 10000 px, but 118572 bytes"):
        read_image(CASES / "header_says_huge.jpg")


@pytest.mark.parametrize("letter", ["a", "é"])
def test_names_of_255_bytes_are_read(colour, tmp_path, letter):
    stem = letter * (251 // len(letter.encode()))
    path = tmp_path / f"{stem}{'x' * (251 - len(stem.encode()))}.png"
    assert len(path.name.encode()) == 255
    PIL.Image.fromarray(colour).save(path)
    assert read_image(path).source == str(path)
    with pytest.raises(ImageError, match="there is no such file"):
        read_image(tmp_path / f"{'a' * 300}.png")
