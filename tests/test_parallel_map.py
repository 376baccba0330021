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


def test_an_error_and_an_early_end_leave_no_thread():
    before = threading.active_count()
    results = parallel_map(lambda i: 1 // (5 - i), range(1000))
    with pytest.raises(ZeroDivisionError):
        list(results)
    results = parallel_map(str, range(1000))
    next(results)
    results.close()
    assert threading.active_count() == before
