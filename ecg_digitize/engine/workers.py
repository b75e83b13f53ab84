"""Processes that work side by side: tasks out, results in."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Final, Generic, TypeVar

from ecg_digitize.engine.seats import Seat
from ecg_digitize.engine.stop import Stop
from ecg_digitize.errors import EcgDigitizeError
from ecg_digitize.runtime import limit_threads

log = logging.getLogger(__name__)
Task = TypeVar("Task")
Result = TypeVar("Result")

Make = Callable[[Seat], Callable[[Task], Result]]
"""Loads the networks in a worker and returns what does one task. It is sent to other processes, so
it must be a function or a frozen dataclass that can be pickled; so must tasks and results."""


@dataclass(frozen=True)
class WorkerOptions:
    """How patient the crew is."""

    limit_s: float = 900.0
    """A task that takes longer is given up and its worker ended: fifteen times the slowest page
    that the time budget is made for."""
    tries: int = 2
    """A task is tried again where its worker died: another program may have taken the memory."""
    starts: int = 3
    """A worker that dies so often before it is ready is given up."""


DEFAULTS: Final = WorkerOptions()


@dataclass(frozen=True)
class Lost:
    """A task without a result."""

    why: str


def work_on(
    tasks: Iterable[Task],
    make: Make[Task, Result],
    seats: Sequence[Seat],
    *,
    stop: Stop | None = None,
    apart: bool | None = None,
    options: WorkerOptions = DEFAULTS,
) -> Iterator[tuple[Task, Result | Lost]]:
    """Do tasks side by side and yield each with its result, as they are done.

    Args:
        tasks: What is to be done; the next one is taken when a worker is free for it.
        make: Prepares a worker.
        seats: Where they run, one each.
        stop: Once it is wanted, no further task is begun.
        apart: Work in processes of their own; None: only where there are several seats. What a
            page does to its process is then no danger to the others.
        options: See there.

    Raises:
        EcgDigitizeError: No worker can be made; with the reason of the last one.
    """
    stop = stop or Stop()
    if apart or (apart is None and len(seats) > 1):
        yield from _Crew(make, seats, options).work(iter(tasks), stop)
        return
    do = make(seats[0])
    for task in tasks:
        yield task, do(task)
        if stop.is_wanted:
            return


class _Worker(Generic[Task, Result]):
    """One process and the task that it has."""

    def __init__(self, make: Make[Task, Result], seat: Seat) -> None:
        self.make, self.seat = make, seat
        self.starts = 0
        self.start()

    def start(self) -> None:
        # Not by fork: a forked child cannot use CUDA, nor the threads of torch.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, self.make, self.seat), daemon=True
        )
        self.process.start()
        theirs.close()
        self.starts += 1
        self.is_ready = False
        self.task: Task | None = None
        self.began_s = 0.0

    def give(self, task: Task) -> None:
        self.task, self.began_s = task, time.monotonic()
        self.connection.send(task)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        if not self.connection.closed:
            self.connection.close()


class _Crew(Generic[Task, Result]):
    """The workers, and the tasks that came back from dead ones."""

    def __init__(
        self, make: Make[Task, Result], seats: Sequence[Seat], options: WorkerOptions
    ) -> None:
        self.make, self.seats, self.options = make, seats, options
        self.again: deque[Task] = deque()
        self.deaths: dict[int, int] = {}  # id of a task -> workers that it cost
        self.workers: list[_Worker[Task, Result]] = []

    def work(self, tasks: Iterator[Task], stop: Stop) -> Iterator[tuple[Task, Result | Lost]]:
        try:
            self.workers = [_Worker(self.make, seat) for seat in self.seats]
            is_more = True
            while self.workers:
                for worker in self.workers:
                    if is_more and worker.is_ready and worker.task is None:
                        is_more = self._give(worker, tasks, stop)
                is_more = is_more or (bool(self.again) and not stop.is_wanted)
                is_busy = any(worker.task is not None for worker in self.workers)
                if not is_busy and (stop.is_wanted or not is_more):
                    return
                yield from self._gather()
        finally:
            for worker in self.workers:
                worker.end()

    def _give(self, worker: _Worker[Task, Result], tasks: Iterator[Task], stop: Stop) -> bool:
        """Give a worker the next task; say whether there was one."""
        if stop.is_wanted:
            return False
        try:
            task = self.again.popleft() if self.again else next(tasks)
        except StopIteration:
            return False
        try:
            worker.give(task)
        except OSError:  # it died idle; _gather will see
            self.again.append(task)
            worker.task = None
        return True

    def _gather(self) -> Iterator[tuple[Task, Result | Lost]]:
        """Wait for what comes next: a result, a death, or the end of someone's time."""
        running_s = [w.began_s for w in self.workers if w.task is not None]
        limit_s = self.options.limit_s
        patience_s = max(0.0, min(running_s) + limit_s - time.monotonic()) if running_s else None
        heard = wait([worker.connection for worker in self.workers], timeout=patience_s)
        for worker in list(self.workers):
            if worker.connection in heard:
                yield from self._hear(worker)
            elif worker.task is not None and time.monotonic() - worker.began_s > limit_s:
                task = worker.task
                self._replace(worker)
                yield task, Lost(f"took longer than {limit_s:.0f} s and was given up")

    def _hear(self, worker: _Worker[Task, Result]) -> Iterator[tuple[Task, Result | Lost]]:
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        if kind == "failed":
            self._dismiss(worker, content)
            return
        if kind == "ready":
            worker.is_ready, worker.starts = True, 0
            return
        task, worker.task = worker.task, None
        assert task is not None  # only a worker that has one answers
        yield task, content

    def _bury(self, worker: _Worker[Task, Result]) -> Iterator[tuple[Task, Result | Lost]]:
        """Replace a worker that died; its task is tried again or given up."""
        worker.process.join()
        task, code = worker.task, worker.process.exitcode
        log.warning("a worker died (exit code %s)", code)
        self._replace(worker)
        if task is None:
            return
        self.deaths[id(task)] = self.deaths.get(id(task), 0) + 1
        if self.deaths[id(task)] < self.options.tries:
            self.again.append(task)
        else:
            del self.deaths[id(task)]
            why = "killed, likely for want of memory" if code == -signal.SIGKILL else f"code {code}"
            yield task, Lost(f"the process that read it died {self.options.tries} times ({why})")

    def _replace(self, worker: _Worker[Task, Result]) -> None:
        if worker.starts < self.options.starts:
            worker.end()
            worker.start()
            return
        self._dismiss(
            worker,
            f"its process ended with exit code {worker.process.exitcode} before it was ready; "
            "free memory or ask for fewer workers",
        )

    def _dismiss(self, worker: _Worker[Task, Result], why: str) -> None:
        """Go on without a worker, if there is another one."""
        self.workers.remove(worker)
        worker.end()
        if not self.workers:
            raise EcgDigitizeError(f"no worker can be started on {worker.seat.device}: {why}")
        log.warning("going on without a worker on %s: %s", worker.seat.device, why)


def _serve(connection: "Connection[Any, Any]", make: Make[Any, Any], seat: Seat) -> None:
    """Do tasks until the other end closes."""
    # The terminal sends Ctrl-C to all processes; the one that hands out the tasks decides.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        limit_threads(seat.threads)
        do = make(seat)
    except Exception as error:
        ours = isinstance(error, EcgDigitizeError)
        connection.send(("failed", str(error) if ours else _told(error)))
        return
    connection.send(("ready", None))
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            result = do(task)
        except Exception as error:
            log.exception("unexpected")
            result = Lost(_told(error))
        try:
            connection.send(("done", result))
        except (TypeError, ValueError, AttributeError) as error:  # it cannot be pickled
            connection.send(("done", Lost(_told(error))))


def _leave_with_parent() -> None:
    """End this process when the one that made it has died, even in the middle of a page."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
