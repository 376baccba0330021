"""Ages in years out of probabilities of buckets."""

import numpy as np

from agegender_jax.labels import NUM_AGE_BUCKETS

ADULT = 18  # years
NEAR = 5  # years, of the cumulative score


def bucket_years(age: np.ndarray, age_years: np.ndarray) -> list[float] | None:
    """The mean age in years of the examples of each bucket, float [A]; None where no age is known.

    A bucket without an example has its middle, 10 i + 4.5 (ages are whole years).

    Args:
      age: int [N, 2], first and last bucket. age_years: int [N], -1 where unknown.
    """
    known = age_years >= 0
    if not known.any():
        return None
    bucket = age[known, 0]
    counts = np.bincount(bucket, minlength=NUM_AGE_BUCKETS)
    sums = np.bincount(bucket, age_years[known], minlength=NUM_AGE_BUCKETS)
    middles = 10 * np.arange(NUM_AGE_BUCKETS) + 4.5
    return np.where(counts > 0, sums / np.maximum(counts, 1), middles).tolist()


def expected_age(age_probs: np.ndarray, bucket_years: np.ndarray) -> np.ndarray:
    """sum_b p_b years_b: float64 [N] from [N, A] and [A]."""
    return (np.asarray(age_probs, np.float64) * np.asarray(bucket_years, np.float64)).sum(-1)  # see `weighted_sums`
