"""Evenly spaced subsets."""

import numpy as np
import pytest

from agegender_jax.subsets import evenly_spaced


@pytest.mark.parametrize(
    "total, count, expected",
    [(9, 3, [0, 4, 8]), (10, 4, [0, 3, 6, 9]), (3, 7, [0, 1, 2]), (5, 1, [0]), (0, 3, []), (4, 0, [])],
)
def test_evenly_spaced(total, count, expected):
    rows = evenly_spaced(total, count)
    assert rows.tolist() == expected and rows.dtype == int


def test_more_than_half_of_all_are_distinct():
    assert len(evenly_spaced(100, 64)) == 64 and (np.diff(evenly_spaced(100, 64)) > 0).all()
