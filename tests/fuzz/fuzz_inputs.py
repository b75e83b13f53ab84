"""Feed damaged pictures and tables to everything that reads, and see that only our errors come out.

    python tests/fuzz/fuzz_inputs.py --minutes 30            pictures, tables and the whole way
    python tests/fuzz/fuzz_inputs.py --minutes 1 --no-pages  without the networks
    python tests/fuzz/fuzz_inputs.py --first 7421 --count 1  one input again

Input k is a pure function of (seed, k). Exit code 1 on a fault; the input that caused it is saved.
"""

import argparse
import contextlib
import functools
import importlib
import io
import logging
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import PIL.Image

from ecg_digitize.competition import MAX_ROWS, page_requests, read_test_table
from ecg_digitize.errors import EcgDigitizeError
from ecg_digitize.image import WORKING_PIXELS
from ecg_digitize.inputs import pages_of, read_page
from ecg_digitize.layout import LEADS
from ecg_digitize.types import Image

MAX_PEAK_GB: Final = 3.0
TABLE_SHARE: Final = 0.3
PAGE_SHARE: Final = 0.02
"""Of the pictures that can be read, those that go the whole way: a page takes seconds, reading it
milliseconds."""
INPUTS_PER_PICTURE: Final = 16
"""To make a picture takes ten times as long as to damage and read it."""
SAMPLES: Final = Path(__file__).parents[1] / "samples"

Digitize = Callable[[Path], object]


@dataclass(frozen=True)
class Fault:
    """An input that did what none may."""

    seed: int
    index: int
    path: Path
    error: str


@dataclass(frozen=True)
class Outcome:
    """What became of a run."""

    counts: Counter[str]
    fault: Fault | None
    peak_gb: float
    slowest_s: float
    slowest_index: int


# ------------------------------------------------------------------------------ pictures
_FORMATS: Final = (
    *("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM", "AVIF", "PDF"),
    *(("HEIF",) if find_spec("pillow_heif") else ()),
)
_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F")
_TIFF_COMPRESSIONS: Final = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4")
_SIDES_PX: Final = (1, 2, 149, 150, 151, 160, 300, 640, 1000)


def make_picture(rng: np.random.Generator, page: PIL.Image.Image) -> bytes:
    """Make a picture file of any kind, of noise or of a page, undamaged."""
    size = (int(rng.choice(_SIDES_PX)), int(rng.choice(_SIDES_PX)))
    if rng.random() < 0.5:
        picture = page.resize((int(rng.integers(400, 1100)), int(rng.integers(300, 850))))
    else:
        picture = PIL.Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    mode = str(rng.choice(_MODES))
    if mode in ("I;16", "I", "F"):
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        factor = float(rng.choice([1, 257, 1 / 255 if mode == "F" else 4]))
        picture = PIL.Image.fromarray((np.asarray(picture.convert("L")) * factor).astype(dtype))
    elif mode == "LAB":
        picture = PIL.Image.merge("LAB", picture.split())
    elif mode == "PA":
        picture = picture.convert("P").convert("PA")
    else:
        picture = picture.convert(mode)
    exif = PIL.Image.Exif()
    exif[0x0112] = int(rng.integers(0, 12))
    dpi = tuple(float(rng.choice([0, 1, 72, 300, 1e6])) for _ in range(2))
    options = {"exif": exif, "dpi": dpi, "quality": int(rng.integers(1, 101))}
    kind = str(rng.choice(_FORMATS))
    if kind == "TIFF":
        options["compression"] = rng.choice(_TIFF_COMPRESSIONS)
    elif kind == "JPEG":
        options |= {"progressive": bool(rng.random() < 0.5), "subsampling": int(rng.integers(0, 3))}
    elif kind == "AVIF":
        options["speed"] = 10
    if kind in ("TIFF", "GIF", "PNG", "WEBP", "PDF") and rng.random() < 0.3:
        options |= {"save_all": True, "append_images": [picture] * 2}
    for saved_as in (kind, "PNG", "TIFF"):  # not every format holds every mode
        stream = io.BytesIO()
        try:
            picture.save(stream, saved_as, **options)
        except Exception:  # Pillow refuses in many ways
            continue
        return stream.getvalue()
    return b""


# ------------------------------------------------------------------------------- tables
_ENCODINGS: Final = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "cp037")
_IDS: Final = ("1", "007", "a b", "é", "", "x" * 300, "=1+1", "a,b", 'a"b', "../../etc", "\t", "中")
_NUMBERS: Final = (
    *("500", "1000", "0", "-1", "1e6", "1e9", "nan", "inf", "-inf", "1e400", "", "5_0", " 500 "),
    *("0x10", "1,5", "٣", "9" * 400, "1250.0", "1250.5", "2562", "100001", "1e-300"),
)


def make_table(rng: np.random.Generator) -> bytes:
    """Make a test.csv, some of whose values are odd."""
    columns = ["id", "lead", "fs", "number_of_rows"]
    if rng.random() < 0.1:
        rng.shuffle(columns)
    if rng.random() < 0.03:
        columns.pop()
    oddity = float(rng.choice([0.0, 0.02, 0.2]))
    separator = ";" if rng.random() < 0.02 else ","
    lines = [separator.join(columns)]
    for lead in (*LEADS, *LEADS)[: int(rng.choice([0, 1, 12, 12, 24]))]:
        values = {"id": "1", "lead": lead, "fs": "500", "number_of_rows": "1250"}
        for name, choices in (
            ("id", _IDS),
            ("lead", (*LEADS, "", "v1", "II ", "L" * 300)),
            ("fs", _NUMBERS),
            ("number_of_rows", _NUMBERS),
        ):
            if rng.random() < oddity:
                values[name] = str(choices[rng.integers(len(choices))])
        quoted = [f'"{values[name]}"' if rng.random() < 0.01 else values[name] for name in columns]
        if rng.random() < oddity / 4:
            quoted[0] = "y" * 200_000
        lines.append(separator.join(quoted))
    newline = str(rng.choice(["\n", "\r\n", "\r"]))
    return newline.join(lines).encode(str(rng.choice(_ENCODINGS)), errors="replace")


# ------------------------------------------------------------------------------- damage
def damage(rng: np.random.Generator, data: bytes) -> bytes:
    """Spoil bytes in one to three of the ways in which files get spoilt."""
    for _ in range(int(rng.integers(1, 4))):
        if len(data) < 2:
            return data
        data = _DAMAGES[rng.integers(len(_DAMAGES))](rng, bytearray(data))
    return data


def _flip(rng: np.random.Generator, data: bytearray) -> bytes:
    for place in rng.integers(0, len(data), int(rng.integers(1, 20))):
        data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _alter_header(rng: np.random.Generator, data: bytearray) -> bytes:
    for place in rng.integers(0, min(len(data), 256), int(rng.integers(1, 6))):
        data[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)]))
    return bytes(data)


def _cut(rng: np.random.Generator, data: bytearray) -> bytes:
    return bytes(data[: int(len(data) * rng.random() ** 0.3)])


def _double(rng: np.random.Generator, data: bytearray) -> bytes:
    first, last = sorted(rng.integers(0, len(data), 2))
    return bytes(data[:last] + data[first:last] + data[last:])


def _drop(rng: np.random.Generator, data: bytearray) -> bytes:
    first = int(rng.integers(len(data)))
    return bytes(data[:first] + data[first + int(rng.integers(1, 64)) :])


def _fill(rng: np.random.Generator, data: bytearray) -> bytes:
    first, size = int(rng.integers(len(data))), int(rng.integers(1, 512))
    data[first : first + size] = bytes([int(rng.choice([0, 0xFF]))]) * size
    return bytes(data)


_DAMAGES: Final = (_flip, _alter_header, _cut, _double, _drop, _fill)


# ------------------------------------------------------------------------------ the run
def run(
    *,
    seconds: float,
    seed: int = 0,
    first: int = 0,
    count: int | None = None,
    digitize: Digitize | None = None,
    keep: Path = Path("fuzz_faults"),
) -> Outcome:
    """Make, damage and read inputs until the time is over or one of them is a fault.

    Args:
        seconds: How long.
        seed: Another seed gives other inputs.
        first: Number of the first input.
        count: How many at most.
        digitize: What carries a picture the whole way; None only reads.
        keep: Folder for an input that is a fault.
    """
    if find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()  # writes HEIC
    end = time.monotonic() + seconds
    counts: Counter[str] = Counter()
    fault, slowest = None, (0.0, first)
    page = PIL.Image.open(SAMPLES / "sample_render.png").convert("RGB")

    @functools.lru_cache(maxsize=1)
    def picture(number: int) -> bytes:
        return make_picture(np.random.default_rng((seed, number)), page)

    files = [path.read_bytes() for path in sorted(SAMPLES.glob("*.png"))]
    with tempfile.TemporaryDirectory() as folder:
        for index in _numbers(first, count):
            if time.monotonic() > end:
                break
            rng = np.random.default_rng((seed, index))
            is_table = rng.random() < TABLE_SHARE
            if is_table:
                data = make_table(rng)
            elif rng.random() < 0.05:
                data = files[rng.integers(len(files))]
            else:
                data = picture(index // INPUTS_PER_PICTURE)
            if rng.random() < 0.7:
                data = damage(rng, data)
            path = Path(folder) / ("test.csv" if is_table else "picture")
            path.write_bytes(data)
            whole = digitize if rng.random() < PAGE_SHARE else None
            error, began = None, time.monotonic()
            try:
                counts[_read_table(path) if is_table else _read_picture(path, whole)] += 1
            except Exception:  # which is what is looked for
                error = traceback.format_exc()
            slowest = max(slowest, (time.monotonic() - began, index))
            if error is None and _peak_gb() > MAX_PEAK_GB:
                error = f"peak memory {_peak_gb():.2f} GB, at most {MAX_PEAK_GB} allowed"
            if error is not None:
                keep.mkdir(parents=True, exist_ok=True)
                saved = keep / f"{seed}_{index}{path.suffix or '.bin'}"
                saved.write_bytes(data)
                fault = Fault(seed, index, saved, error)
                break
    return Outcome(counts, fault, _peak_gb(), *slowest)


def _read_table(path: Path) -> str:
    try:
        table = read_test_table(path)
    except EcgDigitizeError as error:
        return f"table: {type(error).__name__}"
    requests = page_requests(table.rows)
    assert all(0 <= row.n_samples <= MAX_ROWS and row.image_id for row in table.rows)
    assert all(row.lead in LEADS for row in table.rows if row.problem is None)
    assert {row.image_id for row in table.rows if row.problem is None} == set(requests)
    return "table: told of" if table.problems or len(requests) != 1 else "table: read"


def _read_picture(path: Path, digitize: Digitize | None) -> str:
    pages = pages_of(path)
    for page in pages[1:]:
        with contextlib.suppress(EcgDigitizeError):
            _check(read_page(page).image)
    try:
        image = read_page(pages[0]).image
    except EcgDigitizeError as error:
        return f"picture: {type(error).__name__}"
    _check(image)
    if digitize is None:
        return "picture: read" if len(pages) == 1 else "pages: read"
    try:
        digitize(path)
    except EcgDigitizeError as error:
        return f"page: {type(error).__name__}"
    return "page: digitized"


def _check(image: Image) -> None:
    assert image.shape[0] * image.shape[1] <= WORKING_PIXELS, image.shape


def _numbers(first: int, count: int | None) -> Iterator[int]:
    index = first
    while count is None or index < first + count:
        yield index
        index += 1


def _peak_gb() -> float:
    from ecg_digitize.training.bench import peak_memory_mb

    return (peak_memory_mb() or 0.0) / 1000


def _loaded_pipeline() -> Digitize:
    import torch

    from ecg_digitize.many import digitize
    from ecg_digitize.models import load_models
    from ecg_digitize.runtime import choose_device

    torch.set_num_threads(1)
    models = load_models(device=choose_device("cpu"))
    return lambda path: digitize(path, models=models)


def main() -> int:
    """Run and print what came out; returns 1 on a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--count", type=int, help="how many inputs at most")
    parser.add_argument("--no-pages", action="store_true", help="read only, without the networks")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_faults"), metavar="DIR")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Pillow's remarks on damage
    logging.disable()
    outcome = run(
        seconds=60 * arguments.minutes,
        seed=arguments.seed,
        first=arguments.first,
        count=arguments.count,
        digitize=None if arguments.no_pages else _loaded_pipeline(),
        keep=arguments.keep,
    )
    for name, count in sorted(outcome.counts.items()):
        print(f"{count:8d} {name}")
    print(f"peak memory {outcome.peak_gb:.2f} GB")
    print(f"slowest: input {outcome.slowest_index}, {outcome.slowest_s:.1f} s")
    if outcome.fault is not None:
        fault = outcome.fault
        print(f"FAULT: seed {fault.seed}, input {fault.index}, {fault.path}\n{fault.error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
