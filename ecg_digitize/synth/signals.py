"""Where the signals of synthetic pages come from.

A source hands out ten-second records of the eight independent leads (I, II, V1..V6) in millivolt
at 500 Hz. The other four follow from I and II, so whatever augmentation does to the eight leads,
Einthoven's law holds on the page.
"""

import bisect
import itertools
import logging
import zlib
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from scipy import signal as dsp

from ecg_digitize.errors import InputError
from ecg_digitize.frames import TRACE_FS_HZ
from ecg_digitize.layout import COMPETITION
from ecg_digitize.synth.augment import LEADS_8, N_SAMPLES, augment
from ecg_digitize.types import Float32, Float64

__all__ = [
    "LEADS_8",
    "N_SAMPLES",
    "UNLIMITED",
    "BankSource",
    "DeepfakeSource",
    "JoinedSource",
    "SignalSource",
    "WfdbSource",
    "augment",
    "open_source",
    "to_twelve",
]

log = logging.getLogger(__name__)

UNLIMITED: Final = 2**31 - 1
"""Length of sources that make a new record for every index."""

_MV_PER_UNIT: Final = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "µv": 1e-3, "nv": 1e-6}
_HELD_OUT_OF: Final = 16


class SignalSource(Protocol):
    """A numbered collection of ECG records; `get` is a pure function of the index."""

    name: str

    def __len__(self) -> int:
        """Return the number of records."""
        ...

    def get(self, index: int) -> Float32:
        """Return record `index`: (8, 5000) float32 mV at 500 Hz, leads I II V1..V6."""
        ...


def to_twelve(leads8_mv: Float32) -> Float32:
    """Derive the limb leads.

    Args:
        leads8_mv: (8, n) float32 mV, leads I II V1..V6.

    Returns:
        (12, n) float32 mV in layout.LEADS order.
    """
    i, ii = leads8_mv[0], leads8_mv[1]
    limb = np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2])
    return np.concatenate([limb, leads8_mv[2:]]).astype(np.float32)


class BankSource:
    """Windows of real ECGs kept in one npz file.

    The file holds `delta_uv` (n, 8, 5000) int16, whose running sum along time is microvolt at
    500 Hz, and `validation` (n,) bool. Training and validation windows never mix.
    """

    def __init__(self, path: str | Path, *, validation: bool = False) -> None:
        """Load one side of the split; it stays in memory as int16 (80 kB a record).

        Args:
            path: The npz file.
            validation: Take the held-out windows instead of the training windows.

        Raises:
            InputError: The file is missing or holds something else.
        """
        self.name = f"bank:{'validation' if validation else 'train'}"
        self._path, self._validation = path, validation
        try:
            with np.load(path, allow_pickle=False) as bank:
                chosen = bank["validation"] == validation
                delta_uv = bank["delta_uv"][chosen]
                self.ids: tuple[str, ...] = tuple(bank["ids"][chosen].tolist())
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{path}: expected a signal bank (npz with delta_uv, ids, validation), "
                f"but got {error}; name an existing bank or use the source 'simulator'"
            ) from error
        if delta_uv.ndim != 3 or delta_uv.shape[1:] != (len(LEADS_8), N_SAMPLES):
            raise InputError(
                f"{path}: delta_uv must be (n, {len(LEADS_8)}, {N_SAMPLES}), "
                f"but got {delta_uv.shape}; resample the windows to 500 Hz"
            )
        # The deltas compress well but only the int16 sum (which wraps back) is worth keeping.
        self._uv = np.cumsum(delta_uv, axis=2, dtype=np.int16)
        self._uv.setflags(write=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process as the file's name: a hundred megabytes a process take long."""
        return partial(BankSource, validation=self._validation), (self._path,)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._uv)

    def get(self, index: int) -> Float32:
        """Return window `index` as (8, 5000) float32 mV."""
        uv: Float32 = self._uv[index].astype(np.float32)
        return uv / np.float32(1000)


class JoinedSource:
    """Several sources as one: the records of the first, then those of the next."""

    def __init__(self, sources: Sequence[SignalSource]) -> None:
        """Join; sources without an end belong nowhere but at the end.

        Args:
            sources: At least one.
        """
        self.sources = tuple(sources)
        self.name = ",".join(source.name for source in self.sources)
        self._ends = list(itertools.accumulate(map(len, self.sources)))

    def __len__(self) -> int:
        """Return the number of all records."""
        return self._ends[-1]

    @property
    def ids(self) -> tuple[str, ...]:
        """What the records are called, up to a source without end; "" where they have no names."""
        ends = itertools.takewhile(lambda source: len(source) < UNLIMITED, self.sources)
        named = (getattr(source, "ids", ("",) * len(source)) for source in ends)
        return tuple(itertools.chain.from_iterable(named))

    def get(self, index: int) -> Float32:
        """Return record `index` of all, (8, 5000) float32 mV."""
        which = bisect.bisect_right(self._ends, index)
        return self.sources[which].get(index - (self._ends[which - 1] if which else 0))


class WfdbSource:
    """Every whole ten-second window of the WFDB records below a folder, PTB-XL for example."""

    def __init__(
        self, folder: str | Path, *, pattern: str = "**/*.hea", validation: bool = False
    ) -> None:
        """Read all headers; signals are read from disk one window at a time.

        One record in 16, chosen by a hash of its name, is held out for validation.

        Args:
            folder: Searched with `pattern`, so "records500" of PTB-XL avoids its 100 Hz copies.
            pattern: Glob of header files below the folder.
            validation: Take the held-out records instead of the others.

        Raises:
            InputError: wfdb is not installed, or no record holds the eight leads for ten seconds.
        """
        try:
            import wfdb
        except ImportError as error:
            raise InputError(
                'reading WFDB records needs wfdb; run pip install "ecg-digitize[wfdb]"'
            ) from error
        self.name = f"wfdb:{Path(folder).name}"
        self._wfdb: Any = wfdb
        self._windows: list[tuple[str, int, int]] = []  # record path, start and stop sample
        headers = sorted(Path(folder).glob(pattern))
        for header in headers:
            if (zlib.crc32(header.stem.encode()) % _HELD_OUT_OF == 0) == validation:
                self._windows += self._windows_of(header.with_suffix(""))
        if not self._windows:
            raise InputError(
                f"{folder}: expected WFDB records with leads {' '.join(LEADS_8)} of at least "
                f"{COMPETITION.duration_s:g} s, but none of {len(headers)} headers matching "
                f"{pattern!r} fits "
                f"(validation={validation}); see the log for reasons"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the module out: modules cannot be pickled."""
        return {key: value for key, value in self.__dict__.items() if key != "_wfdb"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Import wfdb again."""
        import wfdb

        self.__dict__.update(state)
        self._wfdb = wfdb

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._windows)

    def get(self, index: int) -> Float32:
        """Return window `index` as (8, 5000) float32 mV at 500 Hz."""
        path, start, stop = self._windows[index]
        record = self._wfdb.rdrecord(path, sampfrom=start, sampto=stop)
        column = {name.strip().upper(): k for k, name in enumerate(record.sig_name)}
        leads8 = np.empty((len(LEADS_8), stop - start))
        for row, lead in zip(leads8, LEADS_8, strict=True):
            k = column[lead]
            row[:] = _bridge_gaps(record.p_signal[:, k]) * _MV_PER_UNIT[record.units[k].lower()]
        if record.fs != TRACE_FS_HZ:
            ratio = Fraction(TRACE_FS_HZ / record.fs).limit_denominator(1000)
            leads8 = dsp.resample_poly(
                leads8, ratio.numerator, ratio.denominator, axis=1, padtype="line"
            )
        short = max(N_SAMPLES - leads8.shape[1], 0)  # one sample at uneven rates
        return np.pad(leads8, ((0, 0), (0, short)), mode="edge")[:, :N_SAMPLES].astype(np.float32)

    def _windows_of(self, path: Path) -> list[tuple[str, int, int]]:
        """List the windows of one record; none, with a log line, if it cannot be used."""
        try:
            header = self._wfdb.rdheader(str(path))
        except (OSError, ValueError, IndexError) as error:
            log.warning("%s: skipped, unreadable header: %s", path, error)
            return []
        names = [name.strip().upper() for name in header.sig_name or ()]
        lacking = [lead for lead in LEADS_8 if lead not in names]
        if lacking:
            log.info("%s: skipped, lacks %s", path, " ".join(lacking))
            return []
        units = {header.units[names.index(lead)].lower() for lead in LEADS_8}
        if not units <= _MV_PER_UNIT.keys():
            log.info("%s: skipped, units %s are no voltages", path, sorted(units))
            return []
        n = round(COMPETITION.duration_s * header.fs)
        if header.sig_len < n:
            log.info("%s: skipped, %d samples at %g Hz", path, header.sig_len, header.fs)
        return [(str(path), start, start + n) for start in range(0, header.sig_len - n + 1, n)]


def _bridge_gaps(values: Float64) -> Float64:
    """Fill missing (NaN) samples with straight lines; a lead without samples becomes zero."""
    known = np.isfinite(values)
    if known.all():
        return values
    if not known.any():
        return np.zeros_like(values)
    where = np.arange(len(values))
    bridged: Float64 = np.interp(where, where[known], values[known])
    return bridged


class DeepfakeSource:
    """Records from the generator in the PyPI package deepfake-ecg (MIT, Thambawita et al. 2021).

    A Pulse2Pulse network turns (8, 5000) uniform noise into the eight leads; its output times
    6000 is microvolt. Nearly all are sinus rhythm at 60-85 bpm.
    """

    name = "deepfake"

    def __init__(self, *, seed: int = 0, validation: bool = False) -> None:
        """Load the generator on the CPU.

        Args:
            seed: Seed of the noise.
            validation: Draw from a stream of noise that training never sees.

        Raises:
            InputError: The package is not installed.
        """
        try:
            import deepfakeecg
            import torch
        except ImportError as error:
            raise InputError(
                "the source 'deepfake' needs deepfake-ecg; "
                'run pip install "ecg-digitize[deepfake]"'
            ) from error
        self._stream = (seed, int(validation))
        checkpoint = Path(deepfakeecg.__file__).parent / "checkpoints" / "g_stat.pt"
        self._net: Any = deepfakeecg.Generator()
        # The package's own generate() reloads the network on every call and writes text files.
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        self._net.load_state_dict(state["stat_dict"])
        self._net.eval()

    def __len__(self) -> int:
        """Return the number of indices that may be asked for."""
        return UNLIMITED

    def get(self, index: int) -> Float32:
        """Return record `index` as (8, 5000) float32 mV."""
        import torch

        rng = np.random.default_rng((*self._stream, index))
        noise = rng.uniform(-1, 1, (1, len(LEADS_8), N_SAMPLES)).astype(np.float32)
        with torch.inference_mode():
            leads8: Float32 = self._net(torch.from_numpy(noise))[0].numpy() * np.float32(6)
        return leads8


def open_source(spec: str, *, validation: bool = False) -> SignalSource:
    """Open a source by name.

    Args:
        spec: "simulator", "bank:PATH", "wfdb:FOLDER" or "deepfake"; or several of these, joined by
            commas.
        validation: Open the part that training never sees.

    Returns:
        The source.

    Raises:
        InputError: The specification is not understood or the source cannot be opened.
    """
    if "," in spec:
        return JoinedSource([open_source(one, validation=validation) for one in spec.split(",")])
    kind, _, place = spec.partition(":")
    if kind == "bank" and place:
        return BankSource(place, validation=validation)
    if kind == "wfdb" and place:
        return WfdbSource(place, validation=validation)
    if spec == "deepfake":
        return DeepfakeSource(validation=validation)
    if spec == "simulator":
        from ecg_digitize.synth.simulator import SimulatorSource

        return SimulatorSource(validation=validation)
    raise InputError(
        f"signal source {spec!r}: expected 'simulator', 'bank:PATH', 'wfdb:FOLDER' or 'deepfake'"
    )
