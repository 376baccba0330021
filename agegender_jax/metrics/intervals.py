"""95 % intervals: Wilson's for proportions, the percentile bootstrap over examples (Efron 1979) for everything else.

Examples that are copies of each other carry less information than the same number of independent ones. Functions with a
`group` argument (int [N], equal for near-duplicates) treat whole groups as independent units; with None, or with groups
of one example, each example is independent.

A score and its bootstrap use the same computation, once on the examples and once on RESAMPLES resamples of the groups
with replacement. If there are only a few kinds of units, a resample is a multinomial draw of the counts of the kinds,
whose cost does not grow with N (`from_counts`); otherwise it is a weight for every example, in blocks (`from_weights`).
The same input gives the same interval.
"""

from collections.abc import Callable

import numpy as np

from agegender_jax import array_checks

RESAMPLES = 2000
FEW = 200  # kinds
BLOCK = 2**19  # weights at a time

Estimate = tuple[float | None, list[float] | None]  # a score and its interval, both None where nothing can be said


def group_indices(group: np.ndarray | None, count: int) -> np.ndarray:
    """Return the number of each example's group, int [N], from 0 in the order of their first examples."""
    if group is None:
        return np.arange(count)
    array_checks.check(group=(group, "int N"))
    if len(group) != count:
        raise ValueError(f"group must be int [N] where N = {count}, got {len(group)} numbers")
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def has_groups(group: np.ndarray | None) -> bool:
    """Return whether any group has more than one example."""
    return group is not None and len(np.unique(group)) < len(group)


def wilson(right: np.ndarray, group: np.ndarray | None = None) -> list[float] | None:
    """Return Wilson's 95 % score interval of the mean of values [N] in [0, 1] (Wilson 1927); None if N is 0.

    Recommended for small n and for rates near 0 or 1 by Brown, Cai, DasGupta 2001. With groups, n is divided by the
    design effect, the ratio of the variance of the mean with groups as units to that with examples as units (Korn and
    Graubard 1998), but at least 1. If all values are equal, or there is a single group, the design effect is that of
    perfectly correlated groups, sum of squared sizes / N (Kish 1965).
    """
    array_checks.check(right=(right, "number N"))
    if not len(right):
        return None
    count, p, z2 = _effective_count(right, group), float(np.mean(right)), 1.959964**2
    middle = p + z2 / (2 * count)
    half = np.sqrt(z2 * (p * (1 - p) / count + z2 / (4 * count**2)))
    low, high = (middle - half) / (1 + z2 / count), (middle + half) / (1 + z2 / count)
    return [float(max(0.0, min(low, p))), float(min(1.0, max(high, p)))]


def _effective_count(values: np.ndarray, group: np.ndarray | None) -> float:
    count = len(values)
    if not has_groups(group):
        return count
    index, p = group_indices(group, count), np.mean(values)
    if 0 < p < 1 and index.max():  # the deviations of a single group always sum to 0
        effect = (np.bincount(index, values - p) ** 2).sum() / (count * p * (1 - p))
    else:
        effect = (np.bincount(index) ** 2).sum() / count
    return count / max(effect, 1.0)


def bootstrap(values: np.ndarray, group: np.ndarray | None = None) -> list[float] | None:
    """Return the bootstrap interval of the mean of numbers [N]; None if N is 0."""
    array_checks.check(values=(values, "number N"))
    index = group_indices(group, len(values))
    groups = np.stack([np.bincount(index, values), np.bincount(index)], 1)  # sum and size
    kinds, counts = np.unique(groups, axis=0, return_counts=True)
    if len(kinds) > FEW:
        return bootstrap_means(np.asarray(values)[:, None], group)[0]
    sums, sizes = kinds.T
    return from_counts(counts, lambda drawn: (drawn * sums).sum(-1) / (drawn * sizes).sum(-1))[1]


def bootstrap_varied(values: np.ndarray, group: np.ndarray | None = None) -> list[float] | None:
    """Return `bootstrap`; None if resampling says nothing about the mean: all numbers are equal, or of one group."""
    is_one = group is not None and len(np.unique(group)) == 1
    return None if is_one or len(np.unique(values)) < 2 else bootstrap(values, group)


def bootstrap_means(values: np.ndarray, group: np.ndarray | None = None) -> list[list[float] | None]:
    """Return the bootstrap intervals of the mean of each column of [N, K], from the same resamples."""
    array_checks.check(values=(values, "number N K"))
    values = np.asarray(values, np.float64)
    estimates = from_weights(
        len(values), lambda weights: weighted_sums(weights, values) / weights.sum(-1, keepdims=True), group
    )
    return [interval for _, interval in estimates] or [None] * values.shape[1]


def from_counts(counts: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    """Return `statistic` of units of K kinds, and its interval.

    Args:
      counts: int [K], number of units of each kind.
      statistic: counts [..., K] -> [...], NaN if it is undefined; resamples in which it is undefined are left out.
    """
    total = int(counts.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(counts)) if total else np.nan
        if np.isnan(value):
            return None, None
        drawn = np.random.default_rng(0).multinomial(total, counts / total, size=RESAMPLES)
        return value, _percentiles(statistic(drawn))


def from_weights(
    count: int, statistic: Callable[[np.ndarray], np.ndarray], group: np.ndarray | None = None
) -> list[Estimate]:
    """Return K statistics of N examples, with intervals from the same resamples; [] if N is 0.

    Args:
      count: N.
      statistic: weights float64 [b, N], how often each example was drawn -> [b, K], NaN if undefined. With groups of
        several examples, the weights of a resample need not sum to N.
    """
    if not count:
        return []
    index = group_indices(group, count)
    groups = int(index.max()) + 1
    rng, rows = np.random.default_rng(0), max(1, BLOCK // count)
    redrawn = []
    with np.errstate(divide="ignore", invalid="ignore"):
        values = statistic(np.ones((1, count)))[0]
        for start in range(0, RESAMPLES, rows):
            drawn = rng.integers(0, groups, (min(rows, RESAMPLES - start), groups))
            weights = np.stack([np.bincount(row, minlength=groups) for row in drawn]).astype(float)
            redrawn.append(statistic(np.take(weights, index, axis=1) if groups < count else weights))
    columns = np.concatenate(redrawn).T
    return [
        (None, None) if np.isnan(value) else (float(value), _percentiles(column))
        for value, column in zip(values, columns, strict=True)
    ]


def weighted_sums(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return weights @ values, [b, N] and [N, K] -> [b, K], the same to the last bit on every machine.

    Each column is summed separately, in NumPy's order. BLAS adds in an order that depends on the processor, the number
    of threads and K, so that the interval of a model would depend on the models that are scored with it.
    """
    return np.stack([(weights * column).sum(-1) for column in values.T], -1)


def _percentiles(redrawn: np.ndarray) -> list[float] | None:
    known = redrawn[~np.isnan(redrawn)]
    return [float(x) for x in np.quantile(known, [0.025, 0.975])] if len(known) else None
