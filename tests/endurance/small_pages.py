"""Small pictures for long runs: mixed types and layouts, some of them broken."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from ecg_digitize.synth.dataset import make_page
from ecg_digitize.synth.sheets import make_sheet
from ecg_digitize.synth.simulator import SimulatorSource

LONGEST_PX: Final = 1100
"""Long side: about 4 px/mm, the least that sheets are read at."""
BREAKS: Final = ("cut", "empty", "text", "tiny")


def write_small_pages(
    folder: Path, *, count: int, broken_every: int | None = None, seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[str]:  # fmt: skip
    """Make those pages that are not there yet and return the names of the broken ones.

    Every third is a sheet of another layout, every second a JPEG; a page is the same whatever the
    count.
    """
    source = SimulatorSource()
    names = []
    for index in range(count):
        is_broken = broken_every is not None and index % broken_every == broken_every // 2
        path = folder / f"page_{index:05d}{('.png', '.jpg')[index % 2]}"
        if is_broken:
            names.append(path.name)
        if path.exists():
            continue
        make = make_sheet if index % 3 == 2 else make_page
        image = make(source, seed=seed, index=index, max_megapixels=1.5).image
        scale = min(1.0, LONGEST_PX / max(image.shape[:2]))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if is_broken:
            _write_broken(path, image, BREAKS[len(names) % len(BREAKS)])
        else:
            path.write_bytes(_encoded(path, image))
        if progress is not None:
            progress(index)
    return names


def _write_broken(path: Path, image: np.ndarray, how: str) -> None:
    content = _encoded(path, image)
    made = {
        "cut": content[: len(content) // 3],
        "empty": b"",
        "text": b"no picture, " * 99,
        "tiny": _encoded(path, image[:40, :40]),
    }
    path.write_bytes(made[how])


def _encoded(path: Path, image: np.ndarray) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 90] if path.suffix == ".jpg" else []
    return cv2.imencode(path.suffix, image[..., ::-1], options)[1].tobytes()


def count_argument(text: str) -> int:
    """Parse a number of pages."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, but got {text}")
    return value
