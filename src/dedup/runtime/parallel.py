"""Ordered thread-parallel map whose results do not depend on the number of cores."""

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
    """Count the threads to use: ``OMP_NUM_THREADS``, or else the cores open to this process."""
    setting = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if setting.isascii() and setting.isdigit():
        return max(1, int(setting))
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Yield ``work(job)`` for each job, in the jobs' order, several at a time.

    Inside a job, matrix products run on one thread. A sum then has the same bits for any number of
    threads, and many small products do not wait for each other. NumPy releases Python's lock while
    it computes, so threads suffice.
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
                    if len(running) > 4 * threads:  # bounds the results that wait for their turn
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                for future in running:
                    future.cancel()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run NumPy's matrix products on one thread; a context manager and a decorator.

    Results that are compared or written then have the same bits for any number of threads.
    """
    with _libraries().limit(limits=1):
        yield


@cache
def _libraries() -> ThreadpoolController:
    """Find NumPy's linear algebra libraries; cached, as the search takes milliseconds."""
    return ThreadpoolController()
