"""95 % intervals: Wilson's for proportions, the percentile bootstrap over examples (Efron 1979) for all else.

A score and its bootstrap are one computation, done once on the examples and once on RESAMPLES redraws of N of them
with replacement. Where the examples are of few kinds, a redraw is a multinomial draw of the kinds' counts, whose cost
does not grow with N (`from_counts`); else it is a weight for every example, in blocks (`from_weights`). The same input
gives the same interval.
"""

from collections.abc import Callable

import numpy as np

from agegender_jax import arguments

RESAMPLES = 2000
FEW = 200  # kinds
BLOCK = 2**19  # weights at a time

Estimate = tuple[float | None, list[float] | None]  # a score and its interval, both None where nothing can be said


def wilson(right: np.ndarray) -> list[float] | None:
    """Wilson's 95 % score interval of the mean of 0/1 values [N] (Wilson 1927).

    Recommended for small n and for rates near 0 or 1 by Brown, Cai, DasGupta 2001.
    """
    arguments.check(right=(right, "number N"))
    count = len(right)
    if not count:
        return None
    z2, p = 1.959964**2, float(np.mean(right))
    middle = p + z2 / (2 * count)
    half = np.sqrt(z2 * (p * (1 - p) / count + z2 / (4 * count**2)))
    low, high = (middle - half) / (1 + z2 / count), (middle + half) / (1 + z2 / count)
    return [float(max(0.0, min(low, p))), float(min(1.0, max(high, p)))]


def bootstrap(values: np.ndarray) -> list[float] | None:
    """Bootstrap interval of the mean of numbers [N]."""
    arguments.check(values=(values, "number N"))
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) > FEW:
        return bootstrap_means(np.asarray(values)[:, None])[0]
    return from_counts(counts, lambda drawn: drawn @ levels / len(values))[1]


def bootstrap_varied(values: np.ndarray) -> list[float] | None:
    """`bootstrap`; None where all numbers are equal, as one is: redraws do not tell how far the mean may be off."""
    return bootstrap(values) if len(np.unique(values)) > 1 else None


def bootstrap_means(values: np.ndarray) -> list[list[float] | None]:
    """Bootstrap intervals of the mean of each column of [N, K], from the same redraws."""
    arguments.check(values=(values, "number N K"))
    values = np.asarray(values, np.float64)
    found = from_weights(len(values), lambda weights: weighted_sums(weights, values) / len(values))
    return [interval for _, interval in found] or [None] * values.shape[1]


def from_counts(counts: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    """`statistic` of N examples of K kinds, and its interval.

    Args:
      counts: int [K], how many examples are of each kind.
      statistic: counts [..., K] -> [...], NaN where they say nothing; redraws that say nothing are left out.
    """
    total = int(counts.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(counts)) if total else np.nan
        if np.isnan(value):
            return None, None
        drawn = np.random.default_rng(0).multinomial(total, counts / total, size=RESAMPLES)
        return value, _percentiles(statistic(drawn))


def from_weights(count: int, statistic: Callable[[np.ndarray], np.ndarray]) -> list[Estimate]:
    """K statistics of N examples, with intervals from the same redraws; [] where N is 0.

    Args:
      count: N.
      statistic: weights float64 [b, N], how often each example was drawn -> [b, K], NaN where they say nothing.
    """
    if not count:
        return []
    rng, rows = np.random.default_rng(0), max(1, BLOCK // count)
    redrawn = []
    with np.errstate(divide="ignore", invalid="ignore"):
        values = statistic(np.ones((1, count)))[0]
        for start in range(0, RESAMPLES, rows):
            drawn = rng.integers(0, count, (min(rows, RESAMPLES - start), count))
            redrawn.append(statistic(np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(float)))
    columns = np.concatenate(redrawn).T
    return [
        (None, None) if np.isnan(value) else (float(value), _percentiles(column))
        for value, column in zip(values, columns, strict=True)
    ]


def weighted_sums(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return weights @ values, [b, N] and [N, K] -> [b, K], the same to the last bit on every machine.

    Each column is summed alone, in NumPy's order. BLAS adds in an order that depends on the processor, on the number of
    threads and on K, so that a model's interval would depend on the models that are scored beside it.
    """
    return np.stack([(weights * column).sum(-1) for column in values.T], -1)


def _percentiles(redrawn: np.ndarray) -> list[float] | None:
    """Of what could be said in the redraws."""
    known = redrawn[~np.isnan(redrawn)]
    return [float(x) for x in np.quantile(known, [0.025, 0.975])] if len(known) else None
