"""What is known of a submission's pages while it is made, and its report."""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecg_digitize.answers import Answer
from ecg_digitize.competition import PageRequest, TestTable
from ecg_digitize.engine.seats import Seat
from ecg_digitize.engine.stop import Stop
from ecg_digitize.engine.store import PageStore, Stored
from ecg_digitize.types import Failure, Float32

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunReport:
    """What a run did, written as run_report.json."""

    pages: int
    rows: int  # that were written
    failures: Mapping[str, Failure]  # image id -> why its rows are zeros, in the table's order
    presets: Mapping[str, str]  # image id -> what was spent on it, in the table's order
    resumed: int  # pages that an earlier run had read
    samples_filled: int  # samples of digitized pages that had to be interpolated
    elapsed_s: float
    timings_s: Mapping[str, float]  # stage -> seconds a page, mean over those of this run
    seats: Sequence[Seat] = ()
    stopped: str | None = None  # by what, if the run ended early; then there is no submission
    table_failures: tuple[Failure, ...] = ()  # rows and lines of test.csv that were not answered

    def to_json(self) -> str:
        """Return the report as indented JSON."""
        failures = [
            {"image": image_id, "stage": failure.stage, "error": failure.error}
            for image_id, failure in (
                *self.failures.items(),
                *((failure.source, failure) for failure in self.table_failures),
            )
        ]
        document = {
            "pages": self.pages,
            "digitized": len(self.presets),
            "resumed": self.resumed,
            "stopped": self.stopped,
            "rows": self.rows,
            "samples_filled": self.samples_filled,
            "elapsed_s": round(self.elapsed_s, 3),
            "timings_s": {stage: round(value, 4) for stage, value in self.timings_s.items()},
            "workers": [vars(seat) for seat in self.seats],
            "pages_by_preset": dict(Counter(self.presets.values())),
            "failures": failures,
            "presets": dict(self.presets),
        }
        return json.dumps(document, indent=2) + "\n"


@dataclass
class Progress:
    """What is known of the pages while a run goes on."""

    store: PageStore
    requests: Mapping[str, PageRequest]  # in the table's order
    failures: dict[str, Failure] = field(default_factory=dict)
    presets: dict[str, str] = field(default_factory=dict)
    held: dict[str, Stored] = field(default_factory=dict)  # pages that the disk did not take
    resumed: int = 0
    n_filled: int = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def fail(self, image_id: str, failure: Failure) -> None:
        """Note why a page has no values."""
        log.warning("%s: %s: %s", image_id, failure.stage, failure.error)
        self.failures[image_id] = failure

    def knows(self, request: PageRequest) -> bool:
        """Say whether it is known what became of a page."""
        return request.image_id in self.presets or request.image_id in self.failures

    def recall(self, request: PageRequest, source: Path) -> bool:
        """Say whether an earlier run has read a page."""
        kept = self.store.get(key_of(request), source)
        if kept is None:
            return False
        self._note(request.image_id, kept)
        self.resumed += 1
        return True

    def keep(self, request: PageRequest, answer: Answer) -> None:
        """Keep what was read of a page: on disk, or in memory if the disk is full."""
        meta = {"preset": answer.preset, "n_filled": answer.n_filled}
        kept = Stored(meta, answer.values_mv)
        try:
            self.store.put(
                key_of(request), answer.picture_sha256, meta=kept.meta, arrays=kept.arrays
            )
        except OSError as error:
            log.warning("%s: cannot be kept on disk (%s)", request.image_id, error)
            self.held[request.image_id] = kept
        self._note(request.image_id, kept)
        for stage, value in answer.timings_s.items():
            self.seconds[stage] += value

    def values_mv(self, image_id: str) -> Mapping[str, Float32] | None:
        """Return what was read of a page, lead by lead; None if it failed or was not asked for."""
        if image_id not in self.presets:
            return None
        kept = self.held.get(image_id) or self.store.get(key_of(self.requests[image_id]), None)
        if kept is None:
            del self.presets[image_id]
            self.fail(image_id, Failure(image_id, "write", "what was read of it is gone"))
            return None
        return kept.arrays

    def report(
        self,
        *,
        rows: int,
        table_failures: tuple[Failure, ...],
        elapsed_s: float,
        seats: Sequence[Seat],
        stop: Stop,
    ) -> RunReport:
        """Return the report of the run; rows: how many were written."""
        n_read = len(self.presets) - self.resumed
        n_done, n_pages = len(self.presets) + len(self.failures), len(self.requests)
        return RunReport(
            pages=n_pages,
            rows=rows,
            failures=self._in_order(self.failures),
            presets=self._in_order(self.presets),
            resumed=self.resumed,
            samples_filled=self.n_filled,
            elapsed_s=elapsed_s,
            timings_s={stage: total / n_read for stage, total in self.seconds.items()},
            seats=seats,
            stopped=stop.to_text(n_done=n_done, n_pages=n_pages) if stop.is_wanted else None,
            table_failures=table_failures,
        )

    def _in_order(self, found: Mapping[str, Any]) -> dict[str, Any]:
        return {name: found[name] for name in self.requests if name in found}

    def _note(self, image_id: str, kept: Stored) -> None:
        self.presets[image_id] = kept.meta["preset"]
        self.n_filled += kept.meta["n_filled"]


def key_of(request: PageRequest) -> str:
    """Return what tells a page's values from others: the page, the rate and the lengths."""
    return json.dumps([request.image_id, request.fs_hz, dict(request.lengths)])


def table_failures(table: TestTable, test_csv: Path) -> tuple[Failure, ...]:
    """Return what test.csv itself is to blame for: under its own name, or the image's."""
    of_lines = [Failure(test_csv.name, "table", problem) for problem in table.problems]
    of_rows = [
        Failure(row.image_id, "table", f"lead {row.lead}: {row.problem}")
        for row in table.rows
        if row.problem is not None
    ]
    return (*of_lines, *of_rows)
