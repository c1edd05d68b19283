"""Work on several cores: in order, bounded, and the same whatever their number."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from dedup.runtime.parallel import in_order, n_threads


def at_once() -> int:
    """Jobs that may be submitted before the first result is taken."""
    return 4 * n_threads() + 1


def workers() -> set[threading.Thread]:
    return {it for it in threading.enumerate() if it.name.startswith("ThreadPoolExecutor")}


def in_a_process(code: str, threads: str | None) -> str:
    """What a fresh process prints with ``OMP_NUM_THREADS`` set so, or unset."""
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads is not None:
        env["OMP_NUM_THREADS"] = threads
    return subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=env,
        capture_output=True, check=True, text=True,
    ).stdout.strip()  # fmt: skip


@pytest.mark.parametrize("n_jobs", [0, 1, 3, 100])
def test_results_come_in_the_order_of_their_jobs(n_jobs: int) -> None:
    def slow_at_first(job: int) -> int:
        time.sleep(0.003 if job % 7 == 0 else 0)
        return job * job

    assert list(in_order(slow_at_first, range(n_jobs))) == [job * job for job in range(n_jobs)]


def test_jobs_are_taken_a_few_at_a_time() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for job in range(10 * at_once()):
            taken.append(job)
            yield job

    results = in_order(abs, jobs())
    assert taken == []  # nothing runs before it is asked for
    for n_results in range(1, 4):
        next(results)
        assert len(taken) <= at_once() + n_results - 1
    del results
    assert len(taken) <= at_once() + 2


def test_no_more_run_at_once_than_there_are_threads() -> None:
    lock = threading.Lock()
    running, most = 0, 0

    def work(job: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with lock:
            running -= 1
        return job

    assert list(in_order(work, range(60))) == list(range(60))
    assert 1 <= most <= n_threads()


MEETING = """
import threading
from dedup.runtime.parallel import in_order
meeting = threading.Barrier(3, timeout=30)
print(sorted(in_order(lambda _: meeting.wait(), range(3))))
"""


def test_as_many_run_at_once_as_there_are_threads() -> None:
    """Each of three jobs waits until the other two have begun."""
    assert in_a_process(MEETING, "3") == "[0, 1, 2]"


def broken(job: int) -> int:
    if job == 5:
        raise ZeroDivisionError("job 5")
    return job


def broken_jobs() -> Iterator[int]:
    yield from range(3)
    raise ZeroDivisionError("no more jobs")


def test_an_error_comes_in_its_turn_and_ends_the_pool() -> None:
    before = workers()
    results = in_order(broken, range(1000))
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(ZeroDivisionError, match="job 5"):
        next(results)
    assert workers() == before
    assert next(results, None) is None


def test_an_error_of_the_jobs_ends_the_pool() -> None:
    before = workers()
    with pytest.raises(ZeroDivisionError, match="no more jobs"):
        list(in_order(abs, broken_jobs()))
    assert workers() == before


def after_a_break(results: Iterator[int]) -> None:
    for _ in results:
        break


def after_an_error(results: Iterator[int]) -> None:
    def refuse() -> None:
        for job in results:
            raise KeyError(job)

    with pytest.raises(KeyError):
        refuse()


@pytest.mark.parametrize("leave", [after_a_break, after_an_error])
def test_who_stops_asking_ends_the_pool(leave: Callable[[Iterator[int]], None]) -> None:
    """What has not begun by then never does."""
    before, go_on = workers(), threading.Event()
    begun: list[int] = []

    def work(job: int) -> int:
        begun.append(job)
        if job:
            go_on.wait(30)
        return job

    results = in_order(work, range(1000))
    later = threading.Timer(0.5, go_on.set)
    later.start()
    leave(results)
    assert isinstance(results, Generator)
    results.close()
    later.join()
    assert workers() == before
    assert len(begun) < at_once()


LIMITED = """
import numpy
from threadpoolctl import threadpool_info
from dedup.runtime.parallel import in_order
def limits(job):
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
def broken(job):
    raise ZeroDivisionError
print(limits(0))
print(*in_order(limits, range(1)), *in_order(limits, range(3)))
try:
    list(in_order(broken, range(9)))
except ZeroDivisionError:
    print(limits(0))
"""


def test_inside_a_job_products_run_on_one_thread() -> None:
    before, inside, after = in_a_process(LIMITED, "2").splitlines()
    assert inside == "{1} {1} {1} {1}"
    assert before == after


def test_jobs_may_have_jobs() -> None:
    def rows(job: int) -> list[int]:
        return list(in_order(lambda column: job * column, range(3)))

    assert list(in_order(rows, range(3))) == [[0, 0, 0], [0, 1, 2], [0, 2, 4]]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("1", "1"), ("3", "3"), ("0", "1"), ("", None), ("many", None), (None, None)],
)
def test_the_number_of_threads_is_what_omp_num_threads_says(
    asked: str | None, expected: str | None
) -> None:
    found = in_a_process("from dedup.runtime.parallel import n_threads; print(n_threads())", asked)
    assert found == (expected or str(len(os.sched_getaffinity(0))))


RESULTS = """
import hashlib, numpy as np
from dedup.search.cells import Cells
from dedup.search.clustering import nearest_centroids
from dedup.runtime.parallel import in_order
rng = np.random.default_rng(0)
blocks = [rng.normal(size=(200, 300)).astype(np.float32) for _ in range(20)]
vectors = np.concatenate(blocks)[:, :40].copy()
labels = nearest_centroids(vectors, vectors[:9])
borders = Cells.of(vectors, labels, vectors[:9], 3.0).borders
found = [*in_order(lambda block: block @ block.T, blocks), labels, *borders]
print(*(hashlib.sha256(np.ascontiguousarray(part)).hexdigest() for part in found))
"""


def test_the_number_of_threads_changes_no_bit() -> None:
    one, three = (in_a_process(RESULTS, threads) for threads in ("1", "3"))
    assert one == three
    assert len(one.split()) == 25
