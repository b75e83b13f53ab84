"""The engine: workers that die, time that runs out, pages on disk."""

import importlib
import os
import signal
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_digitize.engine import seats as seating
from ecg_digitize.engine import spare as spares
from ecg_digitize.engine.pace import Pace
from ecg_digitize.engine.seats import Seat, devices_named, seats_for
from ecg_digitize.engine.spare import WithSpare
from ecg_digitize.engine.stop import Stop
from ecg_digitize.engine.store import open_store, settings_hash
from ecg_digitize.engine.workers import Lost, WorkerOptions, work_on
from ecg_digitize.errors import EcgDigitizeError, InputError
from ecg_digitize.files import sha256_of
from ecg_digitize.submission import LEVELS

CHORES = """
    import os, signal, time
    from ecg_digitize.errors import WeightsError

    def make(seat):
        if seat.device == "broken":
            raise WeightsError("no weights here")
        if seat.device == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        return do

    def do(task):
        kind, _, where = task.partition(" ")
        if kind == "fail":
            raise ValueError("surprise")
        if kind == "odd":
            return lambda: None  # cannot be pickled
        if kind == "sleep":
            time.sleep(60)
        if kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "once" and not os.path.exists(where):
            open(where, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return f"{kind} by {seat_of(where)}"

    def seat_of(where):
        return "one"
"""


@pytest.fixture
def chores(tmp_path, monkeypatch):
    """A module that worker processes can import."""
    (tmp_path / "engine_chores.py").write_text(textwrap.dedent(CHORES))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("engine_chores")
    del sys.modules["engine_chores"]


def test_workers_do_all_tasks_whatever_happens_to_them(chores, tmp_path):
    tasks = ["a", "fail", f"once {tmp_path / 'mark'}", "odd", "die", "sleep", "b", "c"]
    options = WorkerOptions(limit_s=4.0)

    done = dict(work_on(tasks, chores.make, [Seat("cpu", 1)] * 2, options=options))

    assert set(done) == set(tasks)
    for good in ("a", "b", "c", tasks[2]):
        assert done[good] == f"{good.partition(' ')[0]} by one"
    assert done["fail"] == Lost("ValueError: surprise")
    assert isinstance(done["odd"], Lost)
    assert "died 2 times" in done["die"].why
    assert "longer than 4 s" in done["sleep"].why


def test_a_worker_that_cannot_be_made_is_done_without(chores):
    seats = [Seat("broken", 1), Seat("cpu", 1)]
    assert dict(work_on(["a", "b"], chores.make, seats)) == {"a": "a by one", "b": "b by one"}


@pytest.mark.parametrize(("device", "why"), [("broken", "no weights here"), ("deadly", "code -9")])
def test_no_worker_at_all_is_an_error(chores, device, why):
    options = WorkerOptions(starts=1)
    with pytest.raises(EcgDigitizeError, match=why):
        list(work_on(["a"], chores.make, [Seat(device, 1)], apart=True, options=options))


def test_a_stop_finishes_what_is_under_way(chores):
    stop = Stop()
    seen = []
    for task, _ in work_on(["a", "b", "c", "d"], chores.make, [Seat("cpu", 1)], stop=stop):
        seen.append(task)
        stop.number = signal.SIGINT if task == "b" else None
    assert seen == ["a", "b"]


SIGNALS = """
import signal, threading
from ecg_digitize.engine.stop import stop_on_signals

before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
with stop_on_signals() as stop:
    signal.raise_signal(signal.SIGTERM)
    assert (stop.is_wanted, stop.exit_code) == (True, 143)
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("ended at once")
assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
told = []
elsewhere = threading.Thread(target=lambda: told.append(stop_on_signals().__enter__()))
elsewhere.start()
elsewhere.join()
assert not told[0].is_wanted
"""


def test_signals_are_wishes_and_the_second_one_is_an_order(run_python):
    assert run_python(SIGNALS).stdout == "ended at once\n"


def test_seats_share_cores_and_devices(monkeypatch):
    monkeypatch.setattr(seating, "usable_cores", lambda: 4)
    assert seats_for(["cpu"]) == (Seat("cpu", 1),) * 4
    assert seats_for(["cpu"], workers=1) == (Seat("cpu", 4),)
    assert seats_for(["cpu"], n_pages=2) == (Seat("cpu", 2),) * 2
    assert [seat.device for seat in seats_for(["a", "b"], workers=3)] == ["a", "b", "a"]
    monkeypatch.setattr(seating, "_room_for", lambda device, cores: 1)
    assert [seat.device for seat in seats_for(["cuda:0", "cuda:1"])] == ["cuda:0", "cuda:1"]
    with pytest.raises(InputError, match="workers"):
        seats_for(["cpu"], workers=0)


def test_devices_are_named_by_argument_or_environment(monkeypatch):
    monkeypatch.delenv(seating.DEVICE_VARIABLE, raising=False)
    assert devices_named("cpu, cpu") == ("cpu", "cpu")
    monkeypatch.setenv(seating.DEVICE_VARIABLE, "cpu,cpu,cpu")
    assert devices_named(None) == ("cpu",) * 3
    with pytest.raises(InputError, match="device"):
        devices_named("abacus")


@pytest.mark.parametrize(
    ("error", "works_again", "n_tried"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True, 2),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, 1),
    ],
)
def test_a_page_that_a_gpu_fails_at_goes_to_the_cpu(
    tiny_models, monkeypatch, error, works_again, n_tried
):
    on_gpu = replace(tiny_models, device=torch.device("cuda:0"))
    loaded, tried = [], []
    monkeypatch.setattr(spares, "_works", lambda device: works_again)
    spare = WithSpare(on_gpu, lambda: loaded.append(1) or tiny_models)

    def work(models):
        if models.device.type == "cuda":
            tried.append(1)
            raise error
        return models.device.type

    assert [spare(work), spare(work)] == ["cpu", "cpu"]
    assert (len(loaded), len(tried)) == (1, n_tried)


def test_what_goes_wrong_on_the_cpu_too_is_raised(tiny_models):
    def work(models):
        raise RuntimeError("surprise")

    for device in ("cpu", "cuda:0"):
        models = replace(tiny_models, device=torch.device(device))
        with pytest.raises(RuntimeError, match="surprise"):
            WithSpare(models, lambda: tiny_models)(work)


PAGES, BUDGET_S = 1500, 8.5 * 3600
COSTS = tuple(level.cost for level in LEVELS)


def simulate(page_s, *, workers, true_costs=COSTS, slower_from=PAGES, seed=0):
    """Run a time budget on a clock that only pages move; return the levels and the end."""
    rng = np.random.default_rng(seed)
    now_s = 0.0
    pace = Pace(LEVELS, budget_s=BUDGET_S, n_pages=PAGES, n_workers=workers, clock=lambda: now_s)
    costs = dict(zip((level.name for level in LEVELS), true_costs, strict=True))
    ends: list[tuple[float, str, float]] = []  # of the pages under way
    levels = []
    while len(levels) < PAGES or ends:
        if len(ends) < workers and len(levels) < PAGES:
            level = pace.choose()
            levels.append(level and level.name)
            if level is not None:
                drawn = rng.lognormal(0.0, 0.4) / np.exp(0.08) * page_s * costs[level.name]
                drawn *= 1.5 if len(levels) > slower_from else 1.0
                ends.append((now_s + drawn, level.name, drawn))
        else:
            ends.sort()
            now_s, name, took_s = ends.pop(0)
            pace.took(name, took_s)
    return levels, now_s


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("page_s", [0.5, 2, 5, 8, 12, 16, 20, 24, 30, 36, 45, 60])
def test_all_pages_are_done_at_any_pace_that_fits(page_s, workers):
    possible = page_s * COSTS[-1] * PAGES / workers < 0.9 * BUDGET_S
    levels, end_s = simulate(page_s, workers=workers)

    assert end_s < BUDGET_S + 5 * page_s  # the pages under way, for which there is a reserve
    if possible:
        assert None not in levels
        assert end_s < BUDGET_S
    if page_s * COSTS[0] * PAGES / workers < 0.8 * BUDGET_S:
        assert set(levels) == {LEVELS[0].name}
    elif possible:
        assert end_s > 0.75 * BUDGET_S  # the time is used


def test_the_pace_learns_what_levels_cost_and_bears_slower_pages():
    levels, end_s = simulate(24, workers=2, true_costs=(1.1, 1.0, 0.95, 0.9))
    assert end_s < BUDGET_S
    assert None not in levels
    levels, end_s = simulate(30, workers=2, slower_from=1000)
    assert end_s < BUDGET_S
    assert None not in levels


def test_kept_pages_agree_or_are_not_used(tmp_path):
    picture = tmp_path / "page.png"
    picture.write_bytes(b"a picture")
    folder = tmp_path / "kept"
    with open_store(folder, settings="s") as store:
        store.put("key", sha256_of(picture), meta={"n": 1}, arrays={"I": np.arange(3)})
        kept = store.get("key", picture)
        assert kept.meta == {"n": 1}
        np.testing.assert_array_equal(kept.arrays["I"], np.arange(3))
        with pytest.raises(InputError, match="another run"), open_store(folder, settings="s"):
            pass
        (folder / ".x.npz.partial-999999999").touch()
        (tmp_path / ".y.csv.partial-999999999").touch()
        mine = tmp_path / f".z.csv.partial-{os.getpid()}"
        mine.touch()
    with open_store(folder, settings="other") as store:
        assert store.get("key", picture) is None
        assert sorted(path.name for path in tmp_path.rglob(".*")) == [mine.name]
    with open_store(folder, settings="s") as store:
        assert store.get("other key", picture) is None
        (path,) = folder.glob("*.npz")
        content = path.read_bytes()
        path.write_bytes(bytes(len(content)))  # as a power cut leaves it
        assert store.get("key", picture) is None
        path.write_bytes(content)
        assert store.get("key", picture) is not None
        picture.write_bytes(b"another")
        assert store.get("key", picture) is None
        assert store.get("key", None) is not None
        store.remove()
    assert not folder.exists()


def test_settings_change_with_the_options():
    assert settings_hash({"a": 1}) == settings_hash({"a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})
