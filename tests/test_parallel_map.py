import concurrent.futures
import os
import threading

import pytest

from agegender_jax.data import parallel_map as module
from agegender_jax.data.parallel_map import parallel_map


def test_results_come_in_order_and_few_items_are_taken_ahead(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    for i, result in enumerate(parallel_map(lambda i: i * i, items())):
        assert result == i * i and len(taken) <= i + 3 * module.AHEAD
    assert i == 99


def test_ready_results_do_not_wait_for_later_items(monkeypatch):
    class AtOnce(concurrent.futures.ThreadPoolExecutor):
        def submit(self, work, item):
            future = super().submit(work, item)
            future.result()
            return future

    monkeypatch.setattr(concurrent.futures, "ThreadPoolExecutor", AtOnce)
    events = []
    for i in parallel_map(lambda i: i, (events.append(f"item {i}") or i for i in range(3))):
        events.append(f"result {i}")
    assert events == ["item 0", "result 0", "item 1", "result 1", "item 2", "result 2"]


def test_results_of_the_items_before_an_error_of_the_iterable_come_first():
    """Also through a second map, as in `Predictor.pictures`."""

    def items():
        yield from range(10)
        raise OSError("unplugged")

    results = []
    with pytest.raises(OSError, match="unplugged"):
        for result in parallel_map(lambda i: i + 1, parallel_map(lambda i: 2 * i, items()), threads=2):
            results.append(result)
    assert results == [2 * i + 1 for i in range(10)]


def test_threads_and_items_ahead(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    taken, both = [], threading.Barrier(2, timeout=5)
    results = parallel_map(lambda i: both.wait() and None, (taken.append(i) or i for i in range(8)), threads=2, ahead=2)
    next(results)
    assert len(taken) <= 4 and len(list(results)) == 7


def test_an_error_and_an_early_end_leave_no_thread():
    before = threading.active_count()
    results = parallel_map(lambda i: 1 // (5 - i), range(1000))
    with pytest.raises(ZeroDivisionError):
        list(results)
    results = parallel_map(str, range(1000))
    next(results)
    results.close()
    assert threading.active_count() == before
