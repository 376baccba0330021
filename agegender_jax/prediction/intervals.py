"""Conformal sets of neighbouring age groups, which hold the true one at least as often as they say.

Split conformal prediction (Vovk, Gammerman, Shafer 2005) on sets that grow from the most probable group to the more
probable neighbour (Romano, Sesia, Candès 2020, arXiv 2006.02544, without their randomisation).
"""

import numpy as np

from agegender_jax import arguments

COVERAGES = tuple(round(0.01 * i, 2) for i in range(50, 100))


def merge_open(probs: np.ndarray, open_from: int | None) -> np.ndarray:
    """Return [N, open_from + 1], the groups from `open_from` on summed in the last one; [N, A] itself for None."""
    if open_from is None:
        return np.asarray(probs, np.float64)
    probs = np.asarray(probs, np.float64)
    return np.concatenate([probs[:, :open_from], probs[:, open_from:].sum(-1, keepdims=True)], -1)


def quantiles(probs: np.ndarray, age: np.ndarray) -> list[float | None]:
    """Return for each of COVERAGES the largest mass of a set, None where N is too small to know.

    Args:
      probs: float [N, K]; age: int [N, 2], first and last group that count as right.
    """
    arguments.check(probs=(probs, "float N K"), age=(age, "int N 2"))
    scores = np.sort(_scores(probs, age))
    ranks = [int(np.ceil((len(scores) + 1) * coverage - 1e-9)) for coverage in COVERAGES]
    return [float(scores[rank - 1]) if rank <= len(scores) else None for rank in ranks]


def intervals(probs: np.ndarray, mass: float | None) -> np.ndarray:
    """Return int [N, 2], the first and last group of each set.

    Args:
      probs: float [N, K].
      mass: of `quantiles`; None for all groups.
    """
    arguments.check(probs=(probs, "float N K"))
    rows = np.arange(len(probs))
    first = probs.argmax(-1)
    bounds = np.stack([first, first], -1)
    if mass is None:
        return np.tile([0, probs.shape[1] - 1], (len(probs), 1))
    growing, total = np.ones(len(probs), bool), probs[rows, first]
    for _ in range(probs.shape[1] - 1):
        side, gain = _next(probs, bounds)
        total = total + gain
        growing &= total <= mass + 1e-9
        bounds = np.where(growing[:, None], _grown(bounds, side), bounds)
    return bounds


def intervals_grown(probs: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return the sets grown to their more probable neighbour, int [N, 2]; sets of all groups stay."""
    side, gain = _next(probs, bounds)
    return np.where(gain[:, None] >= 0, _grown(bounds, side), bounds)


def _scores(probs: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Return float [N], the mass of the first set of each row that holds a right group."""
    rows = np.arange(len(probs))
    first = probs.argmax(-1)
    bounds, total = np.stack([first, first], -1), probs[rows, first].astype(np.float64)
    score = np.where(_holds(bounds, age), total, np.inf)
    for _ in range(probs.shape[1] - 1):
        side, gain = _next(probs, bounds)
        bounds, total = _grown(bounds, side), total + gain
        score = np.where(np.isinf(score) & _holds(bounds, age), total, score)
    return score


def _holds(bounds: np.ndarray, age: np.ndarray) -> np.ndarray:
    return (bounds[:, 0] <= age[:, 1]) & (age[:, 0] <= bounds[:, 1])


def _next(probs: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the side, 0 or 1, of the more probable neighbour of each set, and its probability."""
    padded = np.pad(np.asarray(probs, np.float64), ((0, 0), (1, 1)), constant_values=-1)
    rows = np.arange(len(probs))
    below, above = padded[rows, bounds[:, 0]], padded[rows, bounds[:, 1] + 2]
    return (above > below).astype(int), np.maximum(below, above)


def _grown(bounds: np.ndarray, side: np.ndarray) -> np.ndarray:
    return bounds + np.stack([side - 1, side], -1)
