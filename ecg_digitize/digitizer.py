"""The library's object: networks that are loaded once, and results in the forms that others take.

>>> from ecg_digitize import Digitizer
>>> from ecg_digitize.shipped import sample_page
>>> with Digitizer(preset="quick") as digitizer:
...     reading = digitizer.digitize(sample_page())
>>> reading.verdict, reading.recording.layout.name
('ok', '3x4+1')
>>> table = reading.to_dataframe()  # mV, a row a sample, NaN where a lead is not printed
>>> table.index.name, list(table.columns)[:3], int(table["II"].count())
('time_s', ['I', 'II', 'III'], 5000)
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import BoundedSemaphore
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ecg_digitize.engine.seats import devices_named
from ecg_digitize.errors import InputError
from ecg_digitize.extras import load
from ecg_digitize.failures import attempt
from ecg_digitize.formats.description import Provenance, quality_of
from ecg_digitize.formats.writers import WRITERS, formats_named
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.inputs import PageRef, Source, name_of, read_page
from ecg_digitize.layout import LEADS
from ecg_digitize.layouts import family_named
from ecg_digitize.many import Overrides, digitize_told
from ecg_digitize.models import BEST, TORCH, Models
from ecg_digitize.openvino import device_for, load_by
from ecg_digitize.render.chart import draw_chart
from ecg_digitize.render.overlay import draw_overlay
from ecg_digitize.sheet.marks import Marks, marks_of
from ecg_digitize.types import Digitization, Failure, Image, Page, Recording

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DigitizedPage:
    """What was read of a page."""

    page: Page
    digitization: Digitization
    provenance: Provenance  # for the files that are written

    @property
    def recording(self) -> Recording:
        """The signals, (12, n) float32 mV, and what is known of them."""
        return self.digitization.recording

    @property
    def verdict(self) -> str:
        """Return "ok"; "check" if something speaks against it; "reject" if it is wrong."""
        return self.recording.verdict

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against it, in words."""
        return self.digitization.doubts

    @property
    def quality(self) -> dict[str, float]:
        """The probability of each printed lead that it is right."""
        return quality_of(self.recording)

    def to_dataframe(self) -> "pd.DataFrame":
        """Return a table: index `time_s`, a column a printed lead, mV, NaN where nothing is."""
        import pandas as pd

        recording = self.recording
        times_s = np.arange(recording.signals_mv.shape[1]) / recording.fs_hz
        leads = recording.layout.leads
        columns = {lead: recording.signals_mv[LEADS.index(lead)] for lead in leads}
        return pd.DataFrame(columns, index=pd.Index(times_s, name="time_s"))

    def to_xarray(self) -> Any:
        """Return an `xarray.DataArray` in mV with the axes `lead` and `time_s`.

        Raises:
            InputError: The package xarray is not installed.
        """
        table = self.to_dataframe()
        quality = [self.quality.get(lead, np.nan) for lead in table.columns]
        return load("xarray", extra="xarray").DataArray(
            table.to_numpy().T,
            dims=("lead", "time_s"),
            coords={
                "lead": list(table.columns),
                "time_s": table.index.to_numpy(),
                "quality": ("lead", quality),
            },
            name="ecg",
            attrs={"units": "mV", "fs_hz": self.recording.fs_hz, "verdict": self.verdict},
        )

    def write(self, stem: str | Path, *, format: str = "csv") -> tuple[Path, ...]:
        """Write its signals.

        Args:
            stem: Path without suffix.
            format: One or several of docs/formats.md, joined by commas.

        Returns:
            The files.

        Raises:
            InputError: There is no such format, its package is missing, or it cannot hold this.
            OSError: The folder is not writable.
        """
        stem = Path(stem)
        names = formats_named(format, fs_hz=self.recording.fs_hz)
        written: list[Path] = []
        for name in names:
            WRITERS[name].write(self.recording, stem, self.provenance)
            written += WRITERS[name].files(stem)
        return tuple(written)

    def to_wfdb(self, stem: str | Path) -> tuple[Path, ...]:
        """Write a WFDB record; see ``write``."""
        return self.write(stem, format="wfdb")

    def marks(self) -> Marks:
        """Return where the grid, the rows and the leads were found, to be moved and read again.

        wrong = digitizer.digitize("page.png")
        marks = dataclasses.replace(wrong.marks(), strips=("V1",))
        right = digitizer.digitize("page.png", marks=marks)
        """
        return marks_of(self.digitization, self.page)

    def overlay(self) -> Image:
        """Return the traces drawn on the picture, (H, W, 3) uint8 RGB."""
        return draw_overlay(self.page, self.digitization)

    def plot(self, axes: Any = None) -> Any:
        """Draw the signals on ECG paper, as they were printed, at 25 mm/s and 10 mm/mV.

        Args:
            axes: Of matplotlib, to draw on; None makes a figure.

        Returns:
            The axes.

        Raises:
            InputError: The package matplotlib is not installed.
        """
        return draw_chart(self.recording, axes)


class Digitizer:
    """Reads pages with networks that are loaded once.

    Threads may share one. Pages are then read one after the other, since each takes up to 3 GB;
    `at_once` allows more.
    """

    def __init__(
        self,
        *,
        device: str | None = None,
        preset: str = BEST,
        backend: str = TORCH,
        weights_dir: Path | None = None,
        at_once: int = 1,
    ) -> None:
        """Load the networks.

        Args:
            device: "cpu", "cuda", "cuda:1" or "mps"; None takes a GPU if there is one.
            preset: "best", "fast" or "quick".
            backend: "torch" or "openvino", see docs/cpu.md.
            weights_dir: Folder of the weight files; None takes those that were installed.
            at_once: Pages that threads may read at the same time.

        Raises:
            InputError: There is no such device, preset or backend.
            WeightsError: The weights are missing or altered.
        """
        told = devices_named(device_for(backend, device))[0]
        self._models: Models | None = load_by(backend, told, weights_dir=weights_dir, preset=preset)
        self._weights_dir = weights_dir
        self._options = {"preset": preset, "backend": backend}
        self._free = BoundedSemaphore(at_once)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the networks go."""
        self.close()

    def close(self) -> None:
        """Let the networks go; nothing can be read any more."""
        self._models = None

    def digitize(
        self,
        source: Source,
        *,
        page_number: int | None = None,
        fs_hz: float = TRACE_FS_HZ,
        layout: str | None = None,
        mm_per_s: float | None = None,
        mm_per_mv: float | None = None,
        marks: Marks | None = None,
    ) -> DigitizedPage:
        """Read a page.

        Args:
            source: A file, a ``PageRef``, bytes, a binary stream or an RGB array.
            page_number: Of a PDF or TIFF, from 1; None: the first.
            fs_hz: Samples a second wanted.
            layout: What is printed, "6x2" for instance; None asks the page.
            mm_per_s: Paper speed; None asks the page.
            mm_per_mv: Gain; None asks the page.
            marks: Where somebody saw the grid, the rows and the leads, see ``DigitizedPage.marks``;
                then `layout` is not asked. None searches them.

        Raises:
            ImageError: It cannot be read.
            StageError: It cannot be digitized.
            InputError: There is no such layout, or the digitizer is closed.
        """
        if self._models is None:
            raise InputError("this Digitizer is closed; make another one")
        overrides = Overrides(marks or family_named(layout), mm_per_s, mm_per_mv)
        options = {**self._options, "fs_hz": fs_hz, **overrides.to_json()}
        with self._free:
            page = read_page(source, page_number=page_number)
            result = digitize_told(page, self._models, fs_hz=fs_hz, overrides=overrides)
        path = source.path if isinstance(source, PageRef) else source
        provenance = Provenance.of_now(
            Path(path) if isinstance(path, str | Path) else Path(page.source),
            name=Path(page.source).name,
            picture_sha256=_sha256_of_pixels(page) if not isinstance(path, str | Path) else None,
            options=options,
            weights_dir=self._weights_dir,
        )
        return DigitizedPage(page, result, provenance)

    def digitize_many(
        self, sources: Iterable[Source], **options: Any
    ) -> Iterator[DigitizedPage | Failure]:
        """Read pages one after the other; one that fails is a Failure, and the others go on.

        Args:
            sources: As ``digitize`` takes them; ``pages_of`` lists the pages of a file.
            options: As those of ``digitize``.
        """
        for source in sources:
            label = source.label if isinstance(source, PageRef) else name_of(source)
            yield attempt(partial(self.digitize, source, **options), label)


def _sha256_of_pixels(page: Page) -> str:
    """Return what names a picture that has no file."""
    return sha256(page.image.tobytes()).hexdigest()
