"""Ages in years from the probabilities of buckets."""

import numpy as np

from agegender_jax import array_checks
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.metrics.accuracy import right_ages

ADULT = 18  # years
NEAR = 5  # years, of the cumulative score


def bucket_years(age: np.ndarray, age_years: np.ndarray, num_buckets: int = NUM_AGE_BUCKETS) -> list[float] | None:
    """Return the mean age in years of the examples in each bucket, float [A]; None if no age is known.

    A bucket without examples gets its middle, 10 i + 4.5 (ages are whole years).

    Args:
      age: int [N, 2], first and last bucket. age_years: int [N], -1 where unknown. num_buckets: A.

    Raises:
      ValueError: the arrays do not fit together, or contain other buckets.
    """
    array_checks.check(age=(age, "int N 2"), age_years=(age_years, "int N"))
    right_ages(age, num_buckets)
    known = age_years >= 0
    if not known.any():
        return None
    bucket = age[known, 0]
    counts = np.bincount(bucket, minlength=num_buckets)
    sums = np.bincount(bucket, age_years[known], minlength=num_buckets)
    middles = 10 * np.arange(num_buckets) + 4.5
    return np.where(counts > 0, sums / np.maximum(counts, 1), middles).tolist()


def expected_age(age_probs: np.ndarray, bucket_years: np.ndarray) -> np.ndarray:
    """Return sum_b p_b years_b: float64 [N] from [N, A] and [A]."""
    array_checks.check(age_probs=(age_probs, "number N A"), bucket_years=(bucket_years, "number A"))
    return (np.asarray(age_probs, np.float64) * np.asarray(bucket_years, np.float64)).sum(-1)  # see `weighted_sums`
