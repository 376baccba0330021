"""Deterministic subsets of a sequence."""

import numpy as np


def evenly_spaced(total: int, count: int) -> np.ndarray:
    """Return at most `count` of the indices 0 .. total - 1, evenly spaced, with both ends included: int, ascending."""
    if total < 1 or count < 1:
        return np.zeros(0, int)
    return np.unique(np.linspace(0, total - 1, count, dtype=int))
