"""Scans in PDFs come out as they are stored, the rest is drawn sharply, and faults are told."""

import io
import sys

import numpy as np
import PIL.Image
import pytest

from ecg_digitize import pdf
from ecg_digitize.errors import ImageError
from ecg_digitize.inputs import pages_of, read_page
from ecg_digitize.many import ordered_map

pdfium = pytest.importorskip("pypdfium2", reason="pypdfium2 is an extra")

H, W = 300, 400
A4 = (595, 842)
WAVE = " ".join(f"{0.1 * k} {100 + k % 7} l" for k in range(1, 5000))


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)


def scan(*pictures, dpi=150):
    """A PDF as scanners make it: a picture a page."""
    stream = io.BytesIO()
    quality = {} if pictures[0].mode == "1" else {"quality": 95}
    pictures[0].save(
        stream, "PDF", resolution=dpi, save_all=True, append_images=pictures[1:], **quality
    )
    return stream.getvalue()


def drawn(content, *, size=A4, more=b"", trailer=b""):
    """A page with the given drawing, as PDFs are written."""
    width, height = size
    things = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width} {height}]/Contents 4 0 R/Resources"
        "<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>/XObject<</I 5 0 R>>>>>>"
        "".encode(),
        f"<</Length {len(content)}>>stream\n{content}\nendstream".encode(),
        *([more] if more else []),
    ]
    body, places = b"%PDF-1.4\n", []
    for number, thing in enumerate(things, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, thing)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return b"%sxref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R%s>>\n" % (
        *(body, len(things) + 1, table, len(things) + 1, trailer),
    ) + b"startxref\n%d\n%%%%EOF\n" % len(body)


def altered(data, alter):
    """Return a PDF after PDFium has changed it."""
    with pdfium.PdfDocument(data) as document:
        alter(document)
        stream = io.BytesIO()
        document.save(stream)
    return stream.getvalue()


@pytest.mark.parametrize("dpi", [75, 300, 611])
@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_scan_comes_out_pixel_by_pixel(noise, mode, dpi):
    picture = PIL.Image.fromarray(noise).convert(mode)

    page = read_page(scan(picture, dpi=dpi))

    stored = picture
    if mode != "1":  # Pillow puts a JPEG into the PDF
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=95)
        stored = PIL.Image.open(stream)
    np.testing.assert_array_equal(page.image, np.asarray(stored.convert("RGB")))
    assert page.px_per_mm == pytest.approx(dpi / 25.4, rel=1e-4)
    assert (page.n_pages, page.page_number, page.is_vector) == (1, None, False)


def test_each_page_is_read_by_its_number(noise, tmp_path):
    colours = ["red", "lime", "blue"]
    pictures = [PIL.Image.new("RGB", (W + 10 * k, H), c) for k, c in enumerate(colours)]
    path = tmp_path / "scans.pdf"
    path.write_bytes(scan(*pictures))

    pages = [read_page(ref) for ref in pages_of(path)]

    assert [page.image.shape for page in pages] == [(H, W + 10 * k, 3) for k in range(3)]
    assert [np.argmax(page.image[5, 5]) for page in pages] == [0, 1, 2]
    assert [page.source for page in pages] == [f"{path}#page={k}" for k in (1, 2, 3)]
    assert [(page.page_number, page.n_pages) for page in pages] == [(1, 3), (2, 3), (3, 3)]
    for number in (0, 4):
        with pytest.raises(ImageError, match=f"page={number}: expected a page number from 1 to 3"):
            read_page(path, page_number=number)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_page_is_turned_as_the_pdf_says(noise, degrees):
    data = scan(PIL.Image.fromarray(noise))

    turned = read_page(altered(data, lambda document: document[0].set_rotation(degrees)))

    np.testing.assert_array_equal(turned.image, np.rot90(read_page(data).image, -degrees // 90))


def test_a_page_is_cropped_as_the_pdf_says(noise):
    data = scan(PIL.Image.fromarray(noise), dpi=72)  # a pixel a point

    cropped = read_page(altered(data, lambda document: document[0].set_cropbox(100, 0, 400, 200)))

    np.testing.assert_array_equal(cropped.image, read_page(data).image[100:, 100:])


def test_a_scan_in_a_group_of_its_own_is_one(noise):
    def nest(document):
        group = (
            document.capture_page_as_xobject(0)
            if hasattr(document, "capture_page_as_xobject")
            else document.page_as_xobject(0, document)
        )
        thing = group.as_pageobject()
        thing.set_matrix(pdfium.PdfMatrix().scale(2, 2))
        page = document.new_page(2 * W * 0.48, 2 * H * 0.48)
        page.insert_obj(thing)
        page.gen_content()

    data = scan(PIL.Image.fromarray(noise))  # 150 dpi are 0.48 points a pixel

    nested = read_page(altered(data, nest), page_number=2)

    assert nested.px_per_mm == pytest.approx(75 / 25.4, rel=1e-3)
    np.testing.assert_array_equal(nested.image, read_page(data).image)


@pytest.mark.parametrize(("mode", "dpi"), [(3, 72), (0, 300)])
def test_text_over_a_scan_counts_if_it_is_seen(mode, dpi):
    pixels = b"\xff" * (W * H)
    picture = b"<</Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray" % (W, H)
    picture += b"/BitsPerComponent 8/Length %d>>stream\n%s\nendstream" % (len(pixels), pixels)
    content = f"q {W} 0 0 {H} 0 0 cm /I Do Q BT /F 20 Tf {mode} Tr 50 50 Td (V1) Tj ET"
    page = read_page(drawn(content, size=(W, H), more=picture))
    if mode == 3:
        assert page.px_per_mm == pytest.approx(dpi / 25.4, rel=1e-4)
        assert page.image.min() == 255
    else:
        assert page.px_per_mm == pytest.approx(pdf.LEAST_LONG_PX / W * 72 / 25.4, rel=1e-4)
        assert page.image.min() < 50


# ------------------------------------------------------------------------------- drawn pages
def test_lines_are_drawn_at_300_dpi():
    page = read_page(drawn("2 w 0 421 m 595 421 l S"))

    assert page.px_per_mm == pytest.approx(300 / 25.4, rel=1e-4)
    assert page.image.shape == (3509, 2480, 3)
    dark = np.flatnonzero((page.image < 128).all(axis=(1, 2)))
    assert dark.mean() == pytest.approx(3508.3 / 2, abs=1)
    assert len(dark) == pytest.approx(2 * 300 / 72, abs=1)


@pytest.mark.parametrize(
    ("size", "shape"), [((60, 45), (1500, 2000)), ((14400, 7200), (5000, 10000))]
)
def test_odd_page_sizes_are_drawn_at_usable_ones(size, shape):
    page = read_page(drawn("0 0 m 10 10 l S", size=size))

    assert page.image.shape[:2] == pytest.approx(shape, abs=2)
    assert page.image.shape[0] * page.image.shape[1] <= 50_000_000
    assert page.px_per_mm == pytest.approx(page.image.shape[1] / size[0] * 72 / 25.4, rel=1e-3)


@pytest.mark.parametrize(
    ("content", "is_vector"),
    [
        (f"0 100 m {WAVE} S", True),
        (" ".join(f"{k} 5 m {k + 1} {5 + k % 3} l S" for k in range(5000)), True),
        (f"0 100 m {WAVE} f", False),  # a shape, not a line
        (" ".join(f"{k} 0 m {k} 900 l S" for k in range(5000)), False),  # a grid
        (" ".join(f"0 0 m {k} 9 l S" for k in range(pdf.TRACE_SEGMENTS // 2)), False),
    ],
    ids=["a curve", "many pieces", "a shape", "a grid", "a few arrows"],
)
def test_traces_that_are_lines_are_seen(content, is_vector):
    assert read_page(drawn(content)).is_vector is is_vector


# ------------------------------------------------------------------------------------ faults
ENCRYPTED = drawn(
    "",
    trailer=b"/ID[<00><00>]/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>"
    % (b"41" * 32, b"42" * 32),
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ENCRYPTED, "is encrypted; save it without a password"),
        (b"%PDF-1.4\nnothing\n%%EOF", "damaged or has no pages"),
        (drawn("")[:300], "cut off, its end is missing; copy it again"),
        (drawn("").replace(b"/Kids[3 0 R]/Count 1", b"/Kids[]/Count 0     "), "has no pages"),
        (drawn("", size=(9000, 9)), "at least 150 px a side, but got 37500 x 38|150 px a side"),
    ],
    ids=["encrypted", "damaged", "cut off", "empty", "a ribbon"],
)
def test_unusable_files_are_image_errors(tmp_path, data, message):
    path = tmp_path / "page.pdf"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=rf"page\.pdf: .*({message})") as caught:
        read_page(path)
    assert str(caught.value).count("\n") == 0
    assert [ref.page_number for ref in pages_of(path)] == [None]


def test_an_empty_file_is_not_called_encrypted_after_one_that_is():
    empty = altered(drawn(""), lambda document: document.del_page(0))
    for data, message in ((ENCRYPTED, "encrypted"), (empty, "no pages")):
        with pytest.raises(ImageError, match=message):
            read_page(data)


def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded():
    picture = b"<</Type/XObject/Subtype/Image/Width 20000/Height 15000/ColorSpace/DeviceGray"
    picture += b"/BitsPerComponent 8/Length 3>>stream\nabc\nendstream"
    with pytest.raises(ImageError, match="at most 200 megapixels, but got 20000 x 15000 = 300"):
        read_page(drawn("q 595 0 0 842 0 0 cm /I Do Q", more=picture))


def test_without_the_package_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    path = tmp_path / "page.pdf"
    path.write_bytes(drawn(""))
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(ImageError, match=r'page\.pdf: .*pip install "ecg-digitize\[pdf\]"'):
        read_page(path)
    assert len(pages_of(path)) == 1


def test_threads_take_turns(noise):
    data = scan(*[PIL.Image.fromarray(noise)] * 8)
    expected = read_page(data).image
    pages = ordered_map(lambda k: read_page(data, page_number=k), range(1, 9), workers=4)
    assert all((page.image == expected).all() for page in pages)
