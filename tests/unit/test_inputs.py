"""Whatever shows a page is read, page by page; whatever does not is told."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from PIL.TiffImagePlugin import AppendingTiffWriter

from ecg_digitize import many, pages_of, read_page
from ecg_digitize.batch import find_pages
from ecg_digitize.errors import ImageError
from ecg_digitize.image import kind_of, read_image
from ecg_digitize.inputs import PageRef
from ecg_digitize.many import digitize, digitize_many
from ecg_digitize.types import Failure

H, W = 160, 200


@pytest.fixture
def two_pages(tmp_path):
    """A TIFF with a red page and a larger blue one."""
    path = tmp_path / "two.tif"
    with AppendingTiffWriter(path, new=True) as writer:
        for more_px, colour_name, dpi in ((0, "red", 127), (10, "blue", 254)):
            picture = PIL.Image.new("RGB", (W + more_px, H), colour_name)
            picture.save(writer, "TIFF", dpi=(dpi, dpi))
            writer.newFrame()
    return path


# ----------------------------------------------------------------------------------- sources
def test_every_kind_of_source_gives_the_same_page(colour, tmp_path):
    path = tmp_path / "page.png"
    PIL.Image.fromarray(colour).save(path)
    data = path.read_bytes()
    with path.open("rb") as stream:
        pages = {
            str(path): read_page(str(path)),
            "": read_page(path, name="mine"),
            "ref": read_page(PageRef(path, name="mine")),
            "array": read_page(colour),
            "bytes": read_page(data),
            "bytearray": read_page(bytearray(data)),
            "stream": read_page(io.BytesIO(data)),
            "file": read_page(stream),
        }
    for page in pages.values():
        np.testing.assert_array_equal(page.image, colour)
    assert [page.source for page in pages.values()] == [
        *(str(path), "mine", "mine", "array", "bytes", "bytes", "stream", str(path))
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "bytes: is empty"),
        (b"hello", "bytes: expected PNG, JPEG"),
        (io.StringIO("text"), "a stream opened with mode 'rb' or an array, but got str"),
        (7, "expected a path, bytes, .* but got int"),
        (SimpleNamespace(read=lambda: 1 / 0, name="lost"), "lost: cannot be read .*division"),
        (np.zeros((5, 5), np.uint8), "array: expected at least 150 px"),
        ("gone.pdf", r"gone\.pdf: there is no such file"),
    ],
)
def test_what_is_no_page_is_an_image_error(source, message):
    with pytest.raises(ImageError, match=message):
        read_page(source)


@pytest.mark.parametrize("source", ["page.png", "array"])
def test_there_is_no_second_page_of_one(colour, tmp_path, source):
    PIL.Image.fromarray(colour).save(tmp_path / "page.png")
    file = colour if source == "array" else tmp_path / source
    assert read_page(file, page_number=1).image.shape == (H, W, 3)
    with pytest.raises(ImageError, match="#page=2: expected a page number from 1 to 1, but got 2"):
        read_page(file, page_number=2)


def test_the_library_takes_all_of_them(colour, two_pages, monkeypatch):
    monkeypatch.setattr(many, "digitize_page", lambda page, models, **_: page)
    assert digitize(two_pages, page_number=2, models=object()).source == f"{two_pages}#page=2"
    sources = [*pages_of(two_pages), two_pages.read_bytes(), colour, "gone.png"]
    *pages, gone = digitize_many(sources, object())
    assert [page.source for page in pages] == [
        *(f"{two_pages}#page=1", f"{two_pages}#page=2", "bytes", "array")
    ]
    assert isinstance(gone, Failure)
    assert (gone.source, gone.stage) == ("gone.png", "read")


# ------------------------------------------------------------------------------- TIFF pages
def test_each_page_of_a_tiff_has_its_own_size_and_resolution(two_pages):
    first, second = (read_page(ref) for ref in pages_of(two_pages))
    assert (first.image.shape, second.image.shape) == ((H, W, 3), (H, W + 10, 3))
    assert (first.image[5, 5].tolist(), second.image[5, 5].tolist()) == ([255, 0, 0], [0, 0, 255])
    assert (first.page_number, second.page_number, second.n_pages) == (1, 2, 2)
    assert (first.px_per_mm, second.px_per_mm) == pytest.approx((5, 10))
    unasked = read_page(two_pages)
    assert (unasked.page_number, unasked.n_pages, unasked.source) == (None, 2, str(two_pages))
    np.testing.assert_array_equal(unasked.image, first.image)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg", "group4"])
def test_each_page_of_a_tiff_is_upright_and_read_from_memory_too(colour, tmp_path, compression):
    path = tmp_path / "turned.tif"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    pages = [PIL.Image.fromarray(np.rot90(colour).copy()) for _ in range(2)]
    if compression == "group4":
        pages = [page.convert("1") for page in pages]
    pages[0].save(path, save_all=True, append_images=pages[1:], exif=exif, compression=compression)
    for source in (path, path.read_bytes()):
        second = read_page(source, page_number=2).image
        assert second.shape == (H, W, 3)
        np.testing.assert_array_equal(second, read_page(source, page_number=1).image)


def test_previews_and_masks_are_no_pages(colour, tmp_path):
    path = tmp_path / "scan.tif"
    frames = [PIL.Image.fromarray(colour) for _ in range(4)]
    with AppendingTiffWriter(path, new=True) as writer:
        for frame, kind in zip(frames, (0, 1, 4, 2), strict=True):  # 2: a page of several
            frame.save(writer, "TIFF", tiffinfo={254: kind})
            writer.newFrame()
    assert [ref.page_number for ref in pages_of(path)] == [1, 2]
    assert read_page(path, page_number=2).n_pages == 2


def _place(path, page_number, tag):
    """Return where the value of a tag of a page stands in a file of Pillow's."""
    with PIL.Image.open(path) as picture:
        picture.seek(page_number - 1)
        place = picture._frame_pos[page_number - 1]
    data = path.read_bytes()
    for entry in range(int.from_bytes(data[place : place + 2], "little")):
        start = place + 2 + 12 * entry
        if int.from_bytes(data[start : start + 2], "little") == tag:
            return start + 8
    raise AssertionError(f"no tag {tag}")


@pytest.mark.filterwarnings("ignore")  # Pillow's remarks on the damage
@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_page_costs_no_other(two_pages, damaged):
    data = bytearray(two_pages.read_bytes())
    data[_place(two_pages, damaged, 259)] = 0xEE  # a compression that nobody knows
    two_pages.write_bytes(data)

    refs = pages_of(two_pages)

    if damaged == 2:
        assert read_page(refs[0]).image[5, 5].tolist() == [255, 0, 0]
        assert len(refs) == 2
    with pytest.raises(ImageError, match=r"two\.tif.*the picture is damaged|expected PNG"):
        read_page(refs[-1])


@pytest.mark.filterwarnings("ignore")
def test_of_a_tiff_that_is_cut_off_the_whole_pages_are_read(two_pages):
    two_pages.write_bytes(two_pages.read_bytes()[:-1000])
    first, second = pages_of(two_pages)
    assert read_page(first).image[5, 5].tolist() == [255, 0, 0]
    with pytest.raises(ImageError, match=r"two\.tif#page=2: the picture is damaged"):
        read_page(second)


def test_pages_are_named_by_their_numbers(two_pages, colour):
    folder = two_pages.parent
    PIL.Image.fromarray(colour).save(folder / "two-p1.png")
    long = folder / ("n" * 251 + ".tif")
    long.write_bytes(two_pages.read_bytes())

    pictures = find_pages([two_pages, folder]).pictures

    by_name = {one.name: one.page.label for one in pictures}
    assert list(by_name)[:2] == ["two-p1", "two-p2"]
    assert by_name["two-p2"] == f"{two_pages}#page=2"
    assert by_name["two-p1-2"] == str(folder / "two-p1.png")
    longs = [one.name for one in pictures if one.source == long]
    assert [name[-3:] for name in longs] == ["-p1", "-p2"]
    assert max(map(len, longs)) <= 255 - len(".overlay.png")


# -------------------------------------------------------------------------- kinds and extras
@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"%PDF-1.7", "PDF"),
        (b"\xef\xbb\xbf\r\n%PDF-1.7", "PDF"),
        (b"II*\0", "TIFF"),
        (b"MM\0+", "TIFF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", None),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", None),
        (b"\x89PNG\r\n\x1a\n %PDF-", None),
        (b"", None),
    ],
)
def test_the_content_tells_what_a_file_is(head, kind):
    assert kind_of(head) == kind


def test_the_reader_of_pictures_says_who_reads_the_rest(tmp_path):
    path = tmp_path / "page.png"
    path.write_bytes(b"%PDF-1.4\n%%EOF")
    with pytest.raises(ImageError, match=r"this is a PDF, .* call ecg_digitize\.read_page"):
        read_image(path)


def test_without_the_package_for_heic_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    for name in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImageError, match=r'photo\.heic: .*pip install "ecg-digitize\[heic\]"'):
        read_page(path)


@pytest.fixture
def heif():
    """The package, if it can write what is to be read."""
    package = pytest.importorskip(
        "pillow_heif", reason="pillow-heif, which writes HEIC, is not installed"
    )
    if not package.libheif_info()["encoders"]:
        pytest.skip("this build of pillow-heif does not write HEIC")
    package.register_heif_opener()
    return package


def test_heic_is_read_upright(colour, tmp_path, heif):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for name, picture, options in (
        ("page.heic", colour, {}),
        ("turned.HEIF", np.rot90(colour).copy(), {"exif": exif.tobytes()}),
        ("odd.png", colour, {}),  # the content tells
    ):
        PIL.Image.fromarray(picture).save(tmp_path / name, "HEIF", quality=90, **options)
        page = read_page(tmp_path / name)
        assert page.n_pages == 1
        np.testing.assert_allclose(page.image, colour, atol=30)
        assert np.abs(page.image - colour.astype(float)).mean() < 4


def test_large_heic_is_reduced_and_damaged_heic_is_told(colour, tmp_path, heif, monkeypatch):
    path = tmp_path / "page.heic"
    PIL.Image.fromarray(colour).save(path, thumbnails=[64])
    with monkeypatch.context() as patch:
        patch.setattr("ecg_digitize.image.WORKING_PIXELS", H * W // 4)
        reduced = read_page(path).image
        assert reduced.shape == (H // 2, W // 2, 3)
        halved = colour.reshape(H // 2, 2, W // 2, 2, 3).mean(axis=(1, 3))
        assert np.abs(reduced - halved).mean() < 4
    data = path.read_bytes()
    for size in (100, len(data) // 2):
        path.write_bytes(data[:size])
        with pytest.raises(ImageError, match=r"page\.heic: .*damaged or cut off") as caught:
            read_page(path)
        assert "\n" not in str(caught.value)
