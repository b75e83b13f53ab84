"""Fill the shards with the machines of a Ray cluster.

The unit of work is a shard: Ray Data hands its number to an actor, which reads the pages that are
left of it and writes the file. The actor does not read pages itself but has a worker of our own
engine for that. So a page that kills its process costs what it costs without Ray, two tries and a
row that says so, and Ray sees a shard that takes a little longer. Should the actor or its machine
die, Ray gives the shard to another actor, which goes on after the pages that are kept.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from ecg_digitize.archive.rows import Row, Task, row_from
from ecg_digitize.archive.shards import STORE_NAME, Archive
from ecg_digitize.engine.seats import GPU_BYTES_A_WORKER, Seat
from ecg_digitize.engine.stop import Stop
from ecg_digitize.engine.workers import Lost, Make, work_on
from ecg_digitize.errors import EcgDigitizeError, InputError

LOOK_EVERY_S: Final = 0.5
"""How often it is asked whether a stop is wanted."""
_GPU_STEP: Final = 1e-4  # what Ray counts shares of a GPU by


@dataclass(frozen=True)
class Crew:
    """The actors."""

    n_actors: int
    seat: Seat  # of each
    gpus: float  # of a GPU, for each


def connect(address: str | None) -> tuple[float, float]:
    """Join a cluster, or start one of this machine, and return its cores and GPUs.

    Args:
        address: Of a running cluster, or "auto"; None starts one that ends with this program.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    ray = _ray()
    if not ray.is_initialized():
        try:
            ray.init(address=address or "local", log_to_driver=False, include_dashboard=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"at {address} " if address else ""
            raise InputError(f"no Ray cluster {where}can be used: {error}") from error
    found = ray.cluster_resources()
    return float(found.get("CPU", 1)), float(found.get("GPU", 0))


def crew_for(
    cores: float, gpus: float, *, device: str | None = None, workers: int | None = None,
    gpu_bytes: int = 16 << 30,
) -> Crew:  # fmt: skip
    """Share a cluster out: an actor a core, several on a GPU as far as its memory holds them.

    Args:
        cores: Of all machines.
        gpus: Of all machines; they are used if there are any and the device is not "cpu".
        device: "cpu" or "cuda".
        workers: Actors; fewer than cores have several threads each.
        gpu_bytes: Memory of a GPU.

    Raises:
        InputError: A GPU is asked for where there is none, or no device of Ray's.
    """
    if device not in (None, "cpu", "cuda"):
        raise InputError(f'--engine ray: expected the device "cpu" or "cuda", but got "{device}"')
    if device == "cuda" and not gpus:
        raise InputError('device "cuda": the Ray cluster has no GPU; leave it out or say "cpu"')
    on_gpu = gpus > 0 and device != "cpu"
    most = max(1, int(cores))
    if on_gpu:
        most = min(most, int(gpus) * max(1, gpu_bytes // GPU_BYTES_A_WORKER))
    n_actors = min(workers, max(1, int(cores))) if workers else most
    share = min(1.0, math.floor(gpus / n_actors / _GPU_STEP) * _GPU_STEP) if on_gpu else 0.0
    threads = max(1, int(cores) // n_actors) if not on_gpu else 1
    return Crew(n_actors, Seat("cuda" if on_gpu else "cpu", threads), share)


def fill_on_ray(
    archive: Archive,
    left: Mapping[int, Sequence[int]],
    *,
    make: Make[Task, Row],
    crew: Crew,
    stop: Stop,
    told: Callable[[int], None],
) -> None:
    """Give each open shard to an actor; see the module, and ``fill_locally``.

    The folder of the archive must be one that all machines write to.

    Raises:
        EcgDigitizeError: An actor cannot be made, or cannot write.
    """
    if not left:
        return
    ray = _ray()
    asked = archive.out / STORE_NAME / "stop"
    # A block is a shard, so that Ray retries and holds back by shards.
    shards = ray.data.from_items([{"shard": k} for k in left], override_num_blocks=len(left))
    filled = shards.map_batches(
        _Filler,
        batch_size=1,
        fn_constructor_args=(ray.put(archive), asked, make, crew.seat),
        # No shard waits at a busy actor while another one is idle.
        compute=ray.data.ActorPoolStrategy(
            size=min(crew.n_actors, len(left)), max_tasks_in_flight_per_actor=1
        ),
        num_cpus=crew.seat.threads,
        num_gpus=crew.gpus or None,
    )
    try:
        with _handed_on(stop, asked):
            for row in filled.iter_rows():
                told(int(row["pages"]))
                if stop.is_wanted:
                    return
    except Exception as error:  # Ray's own, and whatever an actor raised
        raise EcgDigitizeError(f"Ray gave up ({error}); the same command goes on") from error


@contextmanager
def _handed_on(stop: Stop, asked: Path) -> Iterator[None]:
    """Make a file once a stop is wanted: actors look for it before each page.

    Ray gives nothing back before a shard is done, which can take minutes.
    """
    asked.unlink(missing_ok=True)
    is_over = Event()

    def look() -> None:
        while not is_over.wait(LOOK_EVERY_S):
            if stop.is_wanted:
                asked.touch()
                return

    looking = Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        is_over.set()
        looking.join()


class _Filler:
    """An actor of Ray's: fills one shard after the other."""

    def __init__(self, archive: Any, asked: Path, make: Make[Task, Row], seat: Seat) -> None:
        self.archive: Archive = _ray().get(archive)
        self.asked = asked
        self.read = _OneByOne(make, seat)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[int]]:
        (shard,) = (int(one) for one in batch["shard"])
        if self.archive.is_closed(shard):  # an actor wrote it and died before it said so
            return {"pages": [0]}
        n_read = 0
        for number in self.archive.left(shard):
            if self.asked.exists():
                return {"pages": [n_read]}
            task = self.archive.manifest.task(number)
            self.archive.keep(number, row_from(self.read(task), task))
            n_read += 1
        self.archive.close(shard)
        return {"pages": [n_read]}


class _OneByOne:
    """A worker of ``engine.workers`` that is asked for one task at a time."""

    def __init__(self, make: Make[Task, Row], seat: Seat) -> None:
        self._waiting: deque[Task] = deque()
        self._done = work_on(self._tasks(), make, [seat], apart=True)

    def __call__(self, task: Task) -> Row | Lost:
        self._waiting.append(task)
        return next(self._done)[1]

    def _tasks(self) -> Iterator[Task]:
        while self._waiting:  # the next one is there before it is asked for
            yield self._waiting.popleft()


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError('--engine ray: Ray is missing; pip install "ecg-digitize[ray]"') from error
    return ray
