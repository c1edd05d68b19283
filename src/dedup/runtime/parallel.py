"""Independent blocks of work on all cores, with the same result on any number of them."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import chain, islice
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Job = TypeVar("Job")
Result = TypeVar("Result")


def n_threads() -> int:
    """``OMP_NUM_THREADS`` where it is set, or else the cores that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if asked.isascii() and asked.isdigit():
        return max(1, int(asked))
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """``work(job)`` for each job, in the jobs' order, several at a time.

    Inside a job, matrix products run on one thread: a sum then has the same bits however many
    threads there are, and many small products do not wait for each other. NumPy leaves Python's
    lock while it computes, so threads suffice.
    """
    threads = n_threads()
    waiting = iter(jobs)
    first = list(islice(waiting, 2))
    with _libraries().limit(limits=1):
        if len(first) < 2 or threads == 1:
            yield from map(work, chain(first, waiting))
            return
        running: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            try:
                for job in chain(first, waiting):
                    running.append(pool.submit(work, job))
                    if len(running) > 4 * threads:  # results wait for their turn, a few at most
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                for future in running:
                    future.cancel()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy's matrix products run on one thread, outside ``in_order`` too; also a decorator.

    What is compared and written then has the same bits however many threads there are.
    """
    with _libraries().limit(limits=1):
        yield


@cache
def _libraries() -> ThreadpoolController:
    """NumPy's linear algebra; looking for it takes milliseconds."""
    return ThreadpoolController()
