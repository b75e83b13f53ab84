"""Synthetic pages on disk: picture, truth, labels, and the table that `evaluate` reads."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
from PIL.ExifTags import Base

from ecg_digitize.files import replacing
from ecg_digitize.formats.csv import write_csv
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import COMPETITION, NAME_KEYS, Layout
from ecg_digitize.render.overlay import save_png
from ecg_digitize.render.sheet import thumbnail
from ecg_digitize.signals import printed_recording, resample_window
from ecg_digitize.synth.dataset import KINDS, SyntheticPage, make_page
from ecg_digitize.synth.signals import SignalSource
from ecg_digitize.types import Float32, Image, Recording

PAIRED_NAME: Final = "paired.csv"
MAX_SHEET_PAGES: Final = 48

ORIENTATIONS: Final = (1, 6, 3, 8)
"""In EXIF, of sensors that see things turned by 0 to 3 quarters, counter-clockwise."""


def write_pages(
    source: SignalSource,
    out: Path | None,
    *,
    count: int,
    seed: int = 0,
    kind: str | None = None,
    other_machines: bool = False,
    laser_prints: bool = False,
    severity: float = 1.0,
    fs_hz: float = TRACE_FS_HZ,
    progress: Callable[[SyntheticPage], None] | None = None,
) -> list[tuple[str, Image]]:
    """Make pages 0..count-1 of a seed and write them, with a table of pictures and truths.

    Args:
        source: Where the signals come from.
        out: Folder for page_000000.png, .csv (truth), .json (labels, of the pictures as EXIF sets
            them upright) and paired.csv; None writes nothing.
        count: How many.
        seed: Family of samples.
        kind: One of `dataset.KINDS`; None mixes them.
        other_machines: Sheets laid out otherwise than the competition's.
        laser_prints: All prints as laser printers make them and phones develop them.
        severity: How bad the pages look, see ``make_page``.
        fs_hz: Sampling rate of the truths.
        progress: Called after each page.

    Returns:
        Caption and thumbnail of the first pages, for `contact_sheet`.
    """
    thumbs = []
    rows = []
    for index in range(count):
        page = make_page(
            source,
            seed=seed,
            index=index,
            kind=kind,
            other_machines=float(other_machines),
            laser_prints=float(laser_prints),
            severity=severity,
        )
        name = f"page_{index:06d}"
        if out is not None:
            _save_picture(page, out / f"{name}.png", held=index % 4)
            write_labels(page, out / f"{name}.json")
            truth = true_recording(page.signals_mv, fs_hz=fs_hz, layout=page.style.layout)
            write_csv(truth, out / f"{name}.csv")
        rows.append((f"{name}.png", f"{name}.csv", f"{fs_hz:g}", page.kind))
        if index < MAX_SHEET_PAGES:
            caption = f"{index} {page.kind} ({KINDS[page.kind].competition_type})"
            thumbs.append((caption, thumbnail(page.image)))
        if progress is not None:
            progress(page)
    if out is not None:
        with (
            replacing(out / PAIRED_NAME) as partial,
            partial.open("w", newline="", encoding="utf-8") as stream,
        ):
            csv.writer(stream).writerows([("image", "truth", "fs", "kind"), *rows])
    return thumbs


def true_recording(signals_mv: Float32, *, fs_hz: float, layout: Layout = COMPETITION) -> Recording:
    """Return what a perfect digitization of a page gives.

    Args:
        signals_mv: (12, 5000) float32 mV, whole leads at 500 Hz.
        fs_hz: Wanted sampling rate; what is drawn at those instants, not filtered.
        layout: What is printed where.

    Returns:
        The recording, NaN outside each lead's printed window.
    """
    count, step = round(layout.duration_s * fs_hz), TRACE_FS_HZ / fs_hz
    leads = [
        resample_window(lead.astype(np.float64), first=0.0, step=step, count=count)
        for lead in signals_mv
    ]
    return printed_recording(np.stack(leads), fs_hz=fs_hz, layout=layout)


def _save_picture(page: SyntheticPage, path: Path, *, held: int) -> None:
    """Write a picture; a photo as a sensor saw it, in a phone held `held` quarter turns askew.

    EXIF says how to undo that, so that the picture as read is the page's.
    """
    if not KINDS[page.kind].turns or held == 0:
        save_png(path, page.image)
        return
    exif = PIL.Image.Exif()
    exif[Base.Orientation] = ORIENTATIONS[held]
    seen = PIL.Image.fromarray(np.rot90(page.image, held))
    with replacing(path) as partial:
        seen.save(partial, format="PNG", exif=exif, compress_level=1)


def write_labels(page: SyntheticPage, path: Path) -> None:
    """Write where everything is in a page's picture as JSON, page px; null where not printed."""
    names = zip(NAME_KEYS, page.names_xy_px, strict=True)
    document: dict[str, Any] = {
        "kind": page.kind,
        "quarter_turns": page.quarter_turns,
        "size_px": [page.image.shape[1], page.image.shape[0]],
        "names_xy_px": {key: _rounded(xy) if np.isfinite(xy).all() else None for key, xy in names},
        "crossings_xy_px": _rounded(page.crossings_xy_px),
    }
    with replacing(path) as partial:
        partial.write_text(json.dumps(document) + "\n", encoding="utf-8")


def _rounded(xy_px: Float32) -> Any:
    return np.round(xy_px.astype(np.float64), 2).tolist()
