"""Write the report of a run: one HTML file that loads nothing else."""

import base64
import html
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from ecg_digitize import __version__
from ecg_digitize.files import replacing
from ecg_digitize.layout import LEADS
from ecg_digitize.render.chart import MM_PER_MV, MM_PER_S
from ecg_digitize.report.view import MV_PER_COUNT, NOT_SEEN, PageView
from ecg_digitize.types import Failure

REPORT_HTML: Final = "report.html"
MOST_EMBEDDED: Final = 300
"""From more pages on the file holds no overlays: they are loaded from beside it when they are
looked at. A file of 1,000 pages then has 50 MB."""

MOST_SHOWN: Final = 1000
"""Pages that a report shows; whoever calls ``write_report`` chooses them."""


def write_report(
    path: Path,
    pages: Iterable[PageView],
    failures: Iterable[Failure] = (),
    *,
    n_pages: int,
    n_left_out: int = 0,
    title: str = "ECG digitization",
) -> None:
    """Write the report; the file appears whole or not at all.

    Pages are taken one after the other, so that one of them is in memory at a time.

    Args:
        path: The file.
        pages: Those that were read, in the order of the run.
        failures: Those that were not.
        n_pages: How many ``pages`` gives, at most.
        n_left_out: How many more were read, and are better than these.
        title: Of the document.

    Raises:
        OSError: The disk is full, or not writable.
    """
    before, between, after = _template(title)
    embeds = n_pages <= MOST_EMBEDDED
    index: list[Mapping[str, Any]] = []
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(before)
        for number, page in enumerate(pages):
            index.append({**page.to_meta(), "number": number})
            stream.write(_block(f"thumb-{number}", page.thumb))
            stream.write(_block(f"signals-{number}", page.signals))
            if embeds or page.overlay_file is None:
                stream.write(_block(f"overlay-{number}", page.overlay))
        stream.write(between)
        failed = [{"source": f.source, "stage": f.stage, "error": f.error} for f in failures]
        told = {
            "pages": index,
            "failures": failed,
            "left_out": n_left_out,
            "leads": LEADS,
            "paper": {"mm_per_s": MM_PER_S, "mm_per_mv": MM_PER_MV},
            "mv_per_count": MV_PER_COUNT,
            "not_seen": NOT_SEEN,
            "version": __version__,
        }
        stream.write(_json(told))
        stream.write(after)


def _template(title: str) -> tuple[str, str, str]:
    """Return the document in three parts; bytes of the pages and the index go between them."""
    here = files(__package__)
    text = {
        suffix: (here / f"page.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js")
    }
    document = text["html"].replace("{{title}}", html.escape(title))
    document = document.replace("{{css}}", text["css"]).replace("{{js}}", text["js"])
    document = document.replace("{{shared}}", (here / "shared.js").read_text("utf-8"))
    before, rest = document.split("{{blocks}}")
    between, after = rest.split("{{index}}")
    return before, between, after


def _block(name: str, data: bytes) -> str:
    """Return bytes as an element that a browser neither shows nor runs."""
    text = base64.b64encode(data).decode("ascii")
    return f'<script type="text/plain" id="{name}">{text}</script>\n'


def _json(document: Any) -> str:
    """Return JSON that cannot end the element it stands in, whatever files are called."""
    return json.dumps(document, allow_nan=False).replace("<", "\\u003c")
