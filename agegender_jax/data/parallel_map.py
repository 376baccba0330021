"""Map a function over many items in threads, with only a few items in memory at a time."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 4  # items for each thread, running or waiting


def parallel_map(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None, ahead: int = AHEAD
) -> Iterator[Result]:
    """Yield `work(item)` of each item in order, each as soon as it and those before it are ready.

    If `items` raises, the results of the items before are yielded first.

    Args:
      threads: that compute; one for each core if None.
      ahead: items for each thread that are taken ahead of the consumer at most.
    """
    threads = threads or os.cpu_count() or 1
    pending: collections.deque[concurrent.futures.Future] = collections.deque()
    left, problem = iter(items), None
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        try:
            while problem is None:
                try:
                    item = next(left)
                except StopIteration:
                    break
                except Exception as error:
                    problem = error
                    break
                pending.append(pool.submit(work, item))
                while pending and (pending[0].done() or len(pending) >= ahead * threads):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
            if problem is not None:
                raise problem
        finally:
            for future in pending:
                future.cancel()
