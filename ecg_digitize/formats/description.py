"""What is told of a recording besides its samples, in the same words in every format.

``describe`` gives a document for JSON, ``told_lines`` the same as lines of text for formats that
have only comments.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecg_digitize import __version__
from ecg_digitize.files import sha256_of
from ecg_digitize.layout import LEADS, Layout, Row, Segment
from ecg_digitize.manifest import read_manifest
from ecg_digitize.types import Float32, Recording

KIND: Final = "ecg-digitize recording"
VERSION: Final = 1
"""Of the document; grows when a key changes its meaning."""

SOFTWARE: Final = "ecg-digitize"
RESEARCH_NOTE: Final = (
    "Read by software from a picture of a printed ECG. "
    "For research: it must not be used to diagnose."
)
GAPS_NOTE: Final = "Samples that are not printed, or that the picture does not show, are missing."
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Provenance:
    """Where a recording comes from. Nothing in it is about the patient."""

    picture: str  # file name, without its folder; of a PDF or TIFF with the page
    picture_sha256: str  # 64 hexadecimal digits
    package_version: str
    made_at: datetime  # when it was digitized, with a time zone
    options: Mapping[str, Any]  # preset, backend, ...: what JSON can hold
    weights_sha256: Mapping[str, str]  # file -> 64 hexadecimal digits

    def __post_init__(self) -> None:
        """Check that the time is one."""
        if self.made_at.tzinfo is None:
            raise ValueError("Provenance.made_at must have a time zone, but got a naive time")

    @classmethod
    def of_now(
        cls,
        picture: Path,
        *,
        name: str | None = None,
        picture_sha256: str | None = None,
        options: Mapping[str, Any],
        weights_dir: Path | None = None,
    ) -> "Provenance":
        """Return the provenance of a picture that this package has just read.

        Args:
            picture: Its file.
            name: What it is called, "scan.pdf#page=2" for instance; None: as its file.
            picture_sha256: None computes it.
            options: See the class.
            weights_dir: See ``manifest.find_manifest``.

        Raises:
            WeightsError: There is no usable manifest.
            OSError: The picture cannot be read.
        """
        entries = read_manifest(weights_dir=weights_dir)
        return cls(
            picture=printable(name or picture.name),
            picture_sha256=picture_sha256 or sha256_of(picture),
            package_version=__version__,
            made_at=datetime.now(UTC).replace(microsecond=0),
            options=options,
            weights_sha256={entry.file: entry.sha256 for entry in entries},
        )


def describe(recording: Recording, provenance: Provenance) -> dict[str, Any]:
    """Return all that is known of a recording but its samples, as what JSON can hold."""
    layout = recording.layout
    return {
        "kind": KIND,
        "version": VERSION,
        "note": RESEARCH_NOTE,
        "fs_hz": recording.fs_hz,
        "n_samples": recording.signals_mv.shape[1],
        "unit": "mV",
        "windows_s": {lead: list(window) for lead, window in windows_s(layout).items()},
        "quality": quality_of(recording),
        "verdict": recording.verdict,
        "doubts": list(recording.doubts),
        "rhythm": recording.rhythm,
        **({"by_lines": round(recording.by_lines, 4)} if recording.by_lines else {}),
        "mm_per_s": layout.mm_per_s,
        "mm_per_mv": layout.mm_per_mv,
        "layout": {"name": layout.name, "rows": [asdict(row) for row in layout.rows]},
        "provenance": {
            "software": SOFTWARE,
            "package_version": provenance.package_version,
            "made_at": provenance.made_at.isoformat(timespec="seconds"),
            "picture": provenance.picture,
            "picture_sha256": provenance.picture_sha256,
            "options": dict(provenance.options),
            "weights_sha256": dict(provenance.weights_sha256),
        },
    }


def recording_from(document: Mapping[str, Any], signals_mv: Float32) -> Recording:
    """Return the recording that ``describe`` told of.

    Raises:
        KeyError: A key is missing.
        TypeError: A value is of another kind.
        ValueError: A value cannot be.
    """
    rows = [
        Row(**{**row, "segments": tuple(Segment(**segment) for segment in row["segments"])})
        for row in document["layout"]["rows"]
    ]
    layout = Layout(
        document["layout"]["name"],
        tuple(rows),
        mm_per_s=float(document["mm_per_s"]),
        mm_per_mv=float(document["mm_per_mv"]),
    )
    quality = [float(document["quality"].get(lead, np.nan)) for lead in LEADS]
    return Recording(
        signals_mv,
        float(document["fs_hz"]),
        layout,
        doubts=tuple(map(str, document["doubts"])),
        is_rejected=document["verdict"] == "reject",
        quality=np.array(quality, np.float32) if document["quality"] else None,
        by_lines=float(document.get("by_lines", 0.0)),
    )


def told_lines(recording: Recording, provenance: Provenance) -> list[str]:
    """Return all that ``describe`` tells, but for the layout's geometry, as lines of text."""
    layout = recording.layout
    options = json.dumps(dict(provenance.options), sort_keys=True)
    lines = [
        RESEARCH_NOTE,
        GAPS_NOTE,
        f"digitized: {SOFTWARE} {provenance.package_version}, "
        f"{provenance.made_at.isoformat(timespec='seconds')}",
        f"picture: {provenance.picture}",
        f"picture SHA-256: {provenance.picture_sha256}",
        f"options: {options}",
        *(f"weights SHA-256: {file} {sha}" for file, sha in provenance.weights_sha256.items()),
        f"layout: {layout.name}, {layout.mm_per_s:g} mm/s, {layout.mm_per_mv:g} mm/mV, strip "
        f"{recording.rhythm or 'none'}",
        f"sampling rate: {recording.fs_hz:.10g} Hz",
        *([f"read from vector lines: {recording.by_lines:.1%}"] if recording.by_lines else []),
        f"verdict: {recording.verdict}",
        *(f"doubt: {doubt}" for doubt in recording.doubts),
        *(f"lead {lead}: {told_of_lead(recording, lead)}" for lead in LEADS),
    ]
    return [printable(line) for line in lines]


def told_of_lead(recording: Recording, lead: str) -> str:
    """Return where a lead is printed and how likely it is right, e.g. for a comment."""
    window = windows_s(recording.layout).get(lead)
    if window is None:
        return "not printed"
    right = quality_of(recording).get(lead)
    known = "" if right is None else f", quality {right:g}"
    return f"printed from {window[0]:g} s to {window[1]:g} s{known}"


def windows_s(layout: Layout) -> dict[str, tuple[float, float]]:
    """Return when each printed lead begins and ends."""
    segments = ((lead, layout.segment(lead)) for lead in layout.leads)
    return {lead: (round(one.start_s, 4), round(one.stop_s, 4)) for lead, one in segments}


def quality_of(recording: Recording) -> dict[str, float]:
    """Return the probability of each printed lead that it is right; empty if nobody knows it."""
    if recording.quality is None:
        return {}
    pairs = zip(LEADS, recording.quality, strict=True)
    return {lead: round(float(right), 3) for lead, right in pairs if np.isfinite(right)}


def unseen_inside(recording: Recording, lead: str) -> list[tuple[int, int]]:
    """Return the [start, stop) samples that a lead's printed window should show and does not."""
    start, stop = recording.layout.window(lead, recording.signals_mv.shape[1])
    unseen = np.isnan(recording.signals_mv[LEADS.index(lead), start:stop])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], unseen, [False]]).astype(np.int8)))
    return [(start + int(a), start + int(b)) for a, b in edges.reshape(-1, 2)]


def printable(text: str) -> str:
    """Return a text of one line that UTF-8 can hold: file names need be neither."""
    return _CONTROL.sub(" ", text).encode("utf-8", "replace").decode("utf-8")
