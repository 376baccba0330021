"""Comparison of two ways to train, over seeds and images together."""

from typing import Any

import numpy as np

from agegender_jax import array_checks
from agegender_jax.metrics.intervals import RESAMPLES, group_indices


def compare(a: np.ndarray, b: np.ndarray, group: np.ndarray | None = None) -> dict[str, Any]:
    """Return the mean difference a - b of the outcomes of two ways to train, with an interval.

    Args:
      a, b: int [S, N], an outcome (see metrics.outcomes) of every image for every seed. Row s of both was trained
        with the same seed, column i is of the same image everywhere.
      group: int [N], see `intervals`.

    Returns:
      {"difference": float, "ci95": [low, high], "by_seed": S floats, "range": [lowest, highest of by_seed]}; None and
      [] if there is no image.
    """
    array_checks.check(a=(a, "number S N"), b=(b, "number S N"))
    differences = np.asarray(a) - np.asarray(b)
    if not differences.size:
        return {"difference": None, "ci95": None, "by_seed": [], "range": None}
    by_seed = differences.mean(1)
    return {
        "difference": float(differences.mean()),
        "ci95": crossed_bootstrap(differences, group),
        "by_seed": by_seed.tolist(),
        "range": [float(by_seed.min()), float(by_seed.max())],
    }


def crossed_bootstrap(values: np.ndarray, group: np.ndarray | None = None) -> list[float]:
    """Return the 95 % percentile bootstrap interval of the mean of integers [S, N], resampling both rows and columns.

    Each resample draws S seeds and N images with replacement, and takes the mean over the drawn rows and columns: all
    seeds see the same images, so an image that is drawn twice counts twice in every row (Owen 2007, The pigeonhole
    bootstrap, Annals of Applied Statistics 1). With one row it is the bootstrap over images. Its coverage is a little
    above 95 % if seed and image interact, and lower with few rows: with three seeds that differ much more than images
    do, about seven in ten intervals cover the true value.

    Drawing columns draws the count of each distinct column from a multinomial, so the cost does not grow with N.
    With groups of near-duplicates (int [N]) whole groups are drawn. The same input gives the same interval.
    """
    array_checks.check(values=(values, "number S N"))
    seeds, images = values.shape
    index = group_indices(group, images)
    sums = np.stack([np.bincount(index, row) for row in values] + [np.bincount(index)])  # the last row: sizes
    (*columns, sizes), counts = np.unique(sums, axis=1, return_counts=True)
    rng = np.random.default_rng(0)
    drawn_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES)
    drawn_groups = rng.multinomial(counts.sum(), counts / counts.sum(), size=RESAMPLES)
    means = ((drawn_seeds @ np.array(columns)) * drawn_groups).sum(1) / (seeds * (drawn_groups * sizes).sum(1))
    return np.quantile(means, [0.025, 0.975]).tolist()
