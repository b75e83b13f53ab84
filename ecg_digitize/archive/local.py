"""Fill the shards with the cores and GPUs of this machine."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from ecg_digitize.archive.rows import Row, Task, row_from
from ecg_digitize.archive.shards import Archive
from ecg_digitize.engine.seats import Seat
from ecg_digitize.engine.stop import Stop
from ecg_digitize.engine.workers import DEFAULTS, Make, WorkerOptions, work_on


def fill_locally(
    archive: Archive,
    left: Mapping[int, Sequence[int]],
    *,
    make: Make[Task, Row],
    seats: Sequence[Seat],
    stop: Stop,
    told: Callable[[int], None],
    apart: bool = True,
    options: WorkerOptions = DEFAULTS,
) -> None:
    """Read pages in the order of the list and close each shard when its pages are there.

    A page may take ``options.limit_s``, and those after it do not wait: they are kept on the disk
    in shards that are open a while longer. Memory does not grow with them.

    Args:
        archive: Where they go.
        left: By open shard, the pages that are to be read.
        make: Prepares a worker.
        seats: Where the workers run.
        stop: Once it is wanted, no further page is begun.
        told: Called with the number of pages that are newly done.
        apart: Work in processes of their own, so that one that dies costs a page and not the run.
        options: See there.

    Raises:
        EcgDigitizeError: No worker can be made.
        OSError: The disk is full, or not writable.
    """
    open_pages = {shard: len(numbers) for shard, numbers in left.items()}

    def tasks() -> Iterator[Task]:
        for shard, numbers in left.items():
            if not numbers:  # an earlier run was ended between its last page and its file
                archive.close(shard)
            yield from map(archive.manifest.task, numbers)

    for task, result in work_on(tasks(), make, seats, stop=stop, apart=apart, options=options):
        archive.keep(task.number, row_from(result, task))
        shard = archive.shard_of(task.number)
        open_pages[shard] -= 1
        if not open_pages[shard]:
            archive.close(shard)
        told(1)
