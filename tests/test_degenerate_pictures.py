"""Any picture is digitized or refused with a reason; nothing else ever comes out."""

from contextlib import suppress

import numpy as np
import PIL.Image
import pytest

from ecg_digitize.errors import ImageError, StageError
from ecg_digitize.layout import COMPETITION, LEADS
from ecg_digitize.many import digitize, digitize_many
from ecg_digitize.types import Digitization, Failure


def _noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _exif_turned():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


# name -> picture, file name, options of save, whether a page fits in
PICTURES = {
    "1x1": (_noise(1, 1, 3), "a.png", {}, False),
    "10x10": (_noise(10, 10, 3), "a.png", {}, False),
    "smallest": (_noise(150, 150, 3), "a.png", {}, False),
    "ribbon": (_noise(150, 3000, 3), "a.png", {}, False),
    "grey": (_noise(600, 800), "a.png", {}, True),
    "rgba": (_noise(600, 800, 4), "a.png", {}, True),
    "transparent": (np.zeros((600, 800, 4), np.uint8), "a.png", {}, True),
    "16 bit": (_noise(600, 800).astype(np.uint16) * 257, "a.png", {}, True),
    "black": (np.zeros((600, 800, 3), np.uint8), "a.png", {}, True),
    "white": (np.full((600, 800, 3), 255, np.uint8), "a.png", {}, True),
    "cmyk": (PIL.Image.fromarray(_noise(600, 800, 4), "CMYK"), "a.jpg", {}, True),
    "exif": (_noise(600, 800, 3), "a.jpg", _exif_turned(), True),
    "3000 px": (_noise(2250, 3000, 3), "a.jpg", {}, True),
}


@pytest.fixture(params=PICTURES)
def picture(request, tmp_path):
    """A picture file, and whether a page fits in."""
    content, name, options, large = PICTURES[request.param]
    if isinstance(content, np.ndarray):
        content = PIL.Image.fromarray(content)
    content.save(tmp_path / name, **options)
    return tmp_path / name, large


def _check_finite(result):
    signals_mv = result.recording.signals_mv
    assert signals_mv.shape == (12, 5000)
    layout = COMPETITION.with_strip(result.recording.rhythm)
    for lead, signal_mv in zip(LEADS, signals_mv, strict=True):
        start, stop = layout.window(lead, 5000)
        assert np.isfinite(signal_mv[start:stop]).all()


@pytest.mark.usefixtures("sheet_given")
def test_every_picture_of_usable_size_walks_all_the_way(picture, tiny_models):
    path, large = picture
    if large:
        _check_finite(digitize(path, models=tiny_models))
    else:
        with pytest.raises((ImageError, StageError)):
            digitize(path, models=tiny_models)


def test_random_networks_find_a_page_or_say_why_not(picture, tiny_models):
    path, _ = picture
    with suppress(ImageError, StageError):
        _check_finite(digitize(path, models=tiny_models))


@pytest.mark.usefixtures("sheet_given")
def test_a_batch_survives_its_bad_pictures_in_order(tmp_path, tiny_models):
    PIL.Image.fromarray(_noise(600, 800, 3)).save(tmp_path / "good.png")
    content = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    names = ["cut.png", "good.png", "missing.png", "text.png", "empty.png"]

    results = list(digitize_many([tmp_path / name for name in names], tiny_models))

    assert [result.source for result in results] == [str(tmp_path / name) for name in names]
    assert isinstance(results[1], Digitization)
    for failure in results[:1] + results[2:]:
        assert isinstance(failure, Failure)
        assert failure.stage == "read"
        assert failure.source in failure.error
