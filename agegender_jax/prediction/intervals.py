"""Conformal sets of adjacent age groups, which contain the true group at least as often as stated.

Split conformal prediction (Vovk, Gammerman, Shafer 2005) on sets that grow from the most probable group to the more
probable neighbour (Romano, Sesia, Candès 2020, arXiv 2006.02544, without their randomisation).
"""

import numpy as np

from agegender_jax import array_checks

COVERAGES = tuple(round(0.01 * i, 2) for i in range(50, 100))


def merge_open(probs: np.ndarray, open_from: int | None) -> np.ndarray:
    """Return [N, open_from + 1], the groups from `open_from` on summed in the last one; [N, A] itself for None."""
    if open_from is None:
        return np.asarray(probs, np.float64)
    probs = np.asarray(probs, np.float64)
    return np.concatenate([probs[:, :open_from], probs[:, open_from:].sum(-1, keepdims=True)], -1)


def quantiles(probs: np.ndarray, age: np.ndarray) -> list[float | None]:
    """Return for each of COVERAGES the threshold of the probability outside a set; None if N is too small.

    Args:
      probs: float [N, K]; age: int [N, 2], first and last group that count as correct.
    """
    array_checks.check(probs=(probs, "float N K"), age=(age, "int N 2"))
    scores = -np.sort(-_scores(probs, age))
    ranks = [int(np.ceil((len(scores) + 1) * coverage - 1e-9)) for coverage in COVERAGES]
    return [float(scores[rank - 1]) if rank <= len(scores) else None for rank in ranks]


def intervals(probs: np.ndarray, rest: float | None) -> np.ndarray:
    """Return int [N, 2], the first and last group of each set.

    Args:
      probs: float [N, K].
      rest: as from `quantiles`: sets grow while at least this probability is outside; None for all groups.
    """
    array_checks.check(probs=(probs, "float N K"))
    if rest is None:
        return np.tile([0, probs.shape[1] - 1], (len(probs), 1))
    first = probs.argmax(-1)
    bounds, growing = np.stack([first, first], -1), np.ones(len(probs), bool)
    for _ in range(probs.shape[1] - 1):
        grown = _grow(probs, bounds)
        growing &= _outside(probs, grown) >= rest * (1 - 1e-6)
        bounds = np.where(growing[:, None], grown, bounds)
    return bounds


def smallest(probs: np.ndarray, coverage: float) -> np.ndarray:
    """Return the smallest of these sets that contain at least `coverage` of the probability, int [N, 2]."""
    bounds = intervals(probs, 1 - coverage)
    short = _outside(probs, bounds) > (1 - coverage) * (1 + 1e-6)
    return np.where(short[:, None], _grow(probs, bounds), bounds)


def _scores(probs: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Return float [N], the probability outside the first set of each row that contains a correct group.

    It is 1 if the most probable group is correct, because every set has that group, whatever the threshold.
    """
    first = probs.argmax(-1)
    bounds = np.stack([first, first], -1)
    score = np.where(_holds(bounds, age), 1.0, np.nan)
    for _ in range(probs.shape[1] - 1):
        bounds = _grow(probs, bounds)
        score = np.where(np.isnan(score) & _holds(bounds, age), _outside(probs, bounds), score)
    return score


def _holds(bounds: np.ndarray, age: np.ndarray) -> np.ndarray:
    return (bounds[:, 0] <= age[:, 1]) & (age[:, 0] <= bounds[:, 1])


def _outside(probs: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return the probability outside sets, float64 [N], as a sum; 1 minus the inside would lose precision."""
    group = np.arange(probs.shape[1])
    outside = (group < bounds[:, :1]) | (group > bounds[:, 1:])
    return np.where(outside, np.asarray(probs, np.float64), 0).sum(-1)


def _grow(probs: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return the sets extended by their more probable neighbour; sets of all groups are unchanged."""
    padded = np.full((len(probs), probs.shape[1] + 2), -1.0)  # np.pad is slow on small arrays
    padded[:, 1:-1] = probs
    rows = np.arange(len(probs))
    below, above = padded[rows, bounds[:, 0]], padded[rows, bounds[:, 1] + 2]
    up = above > below
    grown = bounds + np.stack([np.where(up, 0, -1), np.where(up, 1, 0)], -1)
    return np.where(np.maximum(below, above)[:, None] >= 0, grown, bounds)
