"""Bounds on how well labels can be predicted, from pictures that were labelled more than once.

The only assumption is that the labels of a picture are independent draws from that picture's own distribution p over K
classes. Two labels then disagree at the rate d = 1 - E[sum p_k^2], and the best prediction from the picture is its most
probable class, with accuracy E[max p_k]. From max p >= sum p_k^2 and Jensen's inequality

    1 - d  <=  E[max p_k]  <=  (1 + sqrt((K - 1) (K (1 - d) - 1))) / K,

which is the bound of Cover and Hart (1967), inverted: the second label is the prediction of an ideal nearest neighbour.
Both bounds are attained: the lower if every picture is either unambiguous or a coin toss, the upper if all pictures are
equally hard and errors are uniform over the other classes. For gender and symmetric errors at rate e, d = 2 e (1 - e)
and the upper bound is 1 - e.

For a mean absolute difference, the best prediction is the median of p, and the triangle inequality gives
E|a - b| / 2 <= E|a - median| <= E|a - b| for two labels a and b.
"""

import math
from typing import Any

import numpy as np

from agegender_jax import array_checks
from agegender_jax.metrics.intervals import bootstrap, wilson


def ceiling(disagreement: float, classes: int) -> tuple[float, float]:
    """Return the above bounds on the best accuracy, for labels that disagree at the rate `disagreement` in [0, 1]."""
    agreement = 1 - disagreement
    return agreement, (1 + math.sqrt((classes - 1) * max(classes * agreement - 1, 0.0))) / classes


def accuracy_ceiling(differ: np.ndarray, picture: np.ndarray, classes: int) -> dict[str, Any]:
    """Return the best accuracy that labels allow, estimated from pairs of labels.

    Args:
      differ: bool [K], whether the two labels of a pair differ. picture: int [K], which picture a pair is of.
      classes: number of possible labels.

    Returns:
      pairs, pictures: counts. disagreement: mean over pictures of the share of differing pairs; ci95: Wilson's with the
      number of pictures as n, because pairs of one picture are not independent. ceiling: [lower, upper] bound at that
      rate; ceiling_ci95: the lower bound at the interval's upper end, the upper bound at its lower end. None if there
      is no pair.
    """
    shares = _by_picture(differ, picture)
    counts = {"pairs": len(differ), "pictures": len(shares)}
    interval = wilson(shares)
    if interval is None:
        return counts | dict.fromkeys(("disagreement", "ci95", "ceiling", "ceiling_ci95"))
    rate, (low, high) = float(shares.mean()), interval
    bounds = [ceiling(high, classes)[0], ceiling(low, classes)[1]]
    return counts | {
        "disagreement": rate,
        "ci95": [low, high],
        "ceiling": list(ceiling(rate, classes)),
        "ceiling_ci95": bounds,
    }


def distance_floor(apart: np.ndarray, picture: np.ndarray) -> dict[str, Any]:
    """Return the lowest mean absolute error that labels allow, in the unit of `apart` (float [K], NaN: left out).

    Returns:
      pairs, pictures: counts. difference: mean over pictures of the mean over pairs; ci95: bootstrap over pictures.
      floor: [lower, upper] bound; floor_ci95: the same at the interval's ends. None if there is no pair; the intervals
      are also None if all differences are equal, because resampling is then uninformative.
    """
    known = ~np.isnan(apart)
    means = _by_picture(apart[known], picture[known])
    counts = {"pairs": int(known.sum()), "pictures": len(means)}
    if not len(means):
        return counts | dict.fromkeys(("difference", "ci95", "floor", "floor_ci95"))
    mean = float(means.mean())
    summary = counts | {"difference": mean, "ci95": None, "floor": [mean / 2, mean], "floor_ci95": None}
    if np.ptp(means) > 0 and (interval := bootstrap(means)):
        low, high = interval
        summary |= {"ci95": [low, high], "floor_ci95": [low / 2, high]}
    return summary


def _by_picture(values: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Return the mean of the values [K] of each picture [K]."""
    array_checks.check(values=(values, "number K"), picture=(picture, "any K"))
    _, inverse, counts = np.unique(picture, return_inverse=True, return_counts=True)
    return np.bincount(inverse, np.asarray(values, float), len(counts)) / counts
