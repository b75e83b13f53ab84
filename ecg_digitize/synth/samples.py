"""The pages of tests/samples: made by this package alone, small enough to ship."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import PIL.Image

from ecg_digitize.files import replacing
from ecg_digitize.formats.csv import write_csv
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.synth.dataset import SyntheticPage, make_page
from ecg_digitize.synth.folder import true_recording
from ecg_digitize.synth.simulator import SimulatorSource
from ecg_digitize.types import Image

SEED: Final = 20260
MAX_MEGAPIXELS: Final = 2.4
MAX_BYTES: Final = 6_000_000
"""Of all pictures and truths together."""


@dataclass(frozen=True)
class Sample:
    """One page to ship."""

    name: str
    kind: str  # one of dataset.KINDS
    index: int  # chosen by eye: readable, and typical of its kind
    colors: int  # of the palette; sensor noise in 24 bits would take 6 MB a page


SAMPLES: Final = (
    Sample("sample_render", "render", 7, 256),
    Sample("sample_scan", "scan", 12, 64),
    Sample("sample_scan_bw", "scan_bw", 25, 16),
    Sample("sample_photo", "photo", 41, 64),
)


def write_samples(out: Path, *, progress: Callable[[Sample], None] | None = None) -> int:
    """Make the samples again: NAME.png and, beside it, NAME.csv of the true signals at 500 Hz.

    Args:
        out: Folder, tests/samples.
        progress: Called after each page.

    Returns:
        Bytes written.
    """
    source = SimulatorSource(validation=True)
    written = 0
    for sample in SAMPLES:
        page = sample_page(sample, source)
        picture, truth = out / f"{sample.name}.png", out / f"{sample.name}.csv"
        with replacing(picture) as partial:
            indexed = with_palette(page.image, sample.colors)
            indexed.save(partial, format="PNG", optimize=True)
        write_csv(true_recording(page.signals_mv, fs_hz=TRACE_FS_HZ), truth)
        written += picture.stat().st_size + truth.stat().st_size
        if progress is not None:
            progress(sample)
    return written


def sample_page(sample: Sample, source: SimulatorSource) -> SyntheticPage:
    """Make one sample's page."""
    return make_page(
        source, seed=SEED, index=sample.index, kind=sample.kind, max_megapixels=MAX_MEGAPIXELS
    )


def with_palette(image: Image, colors: int) -> PIL.Image.Image:
    """Reduce a picture to a palette, without dithering: that would be noise to compress."""
    picture = PIL.Image.fromarray(np.ascontiguousarray(image))
    return picture.quantize(
        colors, method=PIL.Image.Quantize.MEDIANCUT, dither=PIL.Image.Dither.NONE
    )
