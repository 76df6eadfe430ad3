"""Work on many things with a few threads, results in order, memory bounded."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")

MAX_WORKERS = 8
"""More threads hold more decoded pictures at once and gain little: the disk is shared."""


def default_workers() -> int:
    """Return how many threads this process may well use."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(MAX_WORKERS, cores)


def in_order(
    work: Callable[[Job], Result], jobs: Iterable[Job], workers: int | None = None
) -> Iterator[Result]:
    """Yield ``work(job)`` for each job, in the order of the jobs.

    Pillow decodes and resizes outside Python's lock, so threads use all cores. At most twice as
    many results as threads wait to be taken. Closing the iterator drops what has not begun.

    Args:
        work: called in a thread; its exception is raised here, at its turn.
        jobs: what to work on.
        workers: number of threads; by default one per core.
    """
    count = workers or default_workers()
    pending: collections.deque[Future[Result]] = collections.deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="glitch-prepare")
    try:
        for job in jobs:
            pending.append(pool.submit(work, job))
            if len(pending) >= 2 * count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # A generator that is dropped half-way comes here too, when it is collected.
        pool.shutdown(wait=True, cancel_futures=True)
