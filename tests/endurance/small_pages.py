"""Small pictures for long runs: mixed types and layouts, some of them broken."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from ecg_digitize.render.overlay import save_png
from ecg_digitize.synth.dataset import make_page
from ecg_digitize.synth.sheets import make_sheet
from ecg_digitize.synth.simulator import SimulatorSource

LONGEST_PX: Final = 1100
"""Long side: about 4 px/mm, the least that sheets are read at."""
BREAKS: Final = ("cut", "empty", "text", "tiny")


def write_small_pages(
    folder: Path, *, count: int, broken: float = 0.0, seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[str]:  # fmt: skip
    """Make those pages that are not there yet and return the names of the broken ones.

    Every third is a sheet of another layout; a page is the same whatever the count.
    """
    source = SimulatorSource()
    names = []
    for index in range(count):
        # By the share, so that the first sixty already hold some.
        is_broken = int((index + 1) * broken) > int(index * broken)
        path = folder / f"page_{index:05d}.png"
        if is_broken:
            names.append(path.name)
        if path.exists():
            continue
        make = make_sheet if index % 3 == 2 else make_page
        image = make(source, seed=seed, index=index, max_megapixels=1.5).image
        scale = min(1.0, LONGEST_PX / max(image.shape[:2]))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if is_broken:
            _write_broken(path, np.ascontiguousarray(image), BREAKS[len(names) % len(BREAKS)])
        else:
            save_png(path, np.ascontiguousarray(image))
        if progress is not None:
            progress(index)
    return names


def _write_broken(path: Path, image: np.ndarray, how: str) -> None:
    if how == "tiny":
        save_png(path, image[:40, :40])
        return
    whole = path.with_suffix(".whole.png")
    save_png(whole, image)
    content = whole.read_bytes()
    whole.unlink()
    made = {"cut": content[: len(content) // 3], "empty": b"", "text": b"no picture, " * 99}
    path.write_bytes(made[how])


def count_argument(text: str) -> int:
    """Parse a number of pages."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, but got {text}")
    return value
