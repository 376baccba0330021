"""Evaluation of probabilities: scores, intervals, calibration, groups, and detection of collapsed heads.

Everything is NumPy, except that SciPy finds one minimum. An undefined score and its interval are None, never NaN.
"""

from agegender_jax.metrics import calibration, label_noise
from agegender_jax.metrics.accuracy import (
    SCORES,
    bucket_names,
    calibrated_losses,
    confusion,
    join_from,
    join_open_group,
    losses,
    majority,
    mean,
    median_bucket,
    nearest_bucket,
    open_group,
    outcomes,
    predicted_bucket,
    range_name,
    right_ages,
    right_genders,
    scores,
)
from agegender_jax.metrics.age_years import bucket_years, expected_age
from agegender_jax.metrics.collapse import collapsed
from agegender_jax.metrics.comparison import COMPARED, PROPORTIONS, paired, per_example, scored
from agegender_jax.metrics.groups import SMALL, age_bands, by_group
from agegender_jax.metrics.intervals import (
    RESAMPLES,
    bootstrap,
    bootstrap_means,
    bootstrap_varied,
    group_indices,
    wilson,
)
from agegender_jax.metrics.kappa_and_auc import auc, balanced_accuracy, kappa
from agegender_jax.metrics.over_seeds import compare, crossed_bootstrap

__all__ = [
    "COMPARED",
    "PROPORTIONS",
    "RESAMPLES",
    "SCORES",
    "SMALL",
    "age_bands",
    "auc",
    "balanced_accuracy",
    "bootstrap",
    "bootstrap_means",
    "bootstrap_varied",
    "bucket_names",
    "bucket_years",
    "by_group",
    "calibrated_losses",
    "calibration",
    "collapsed",
    "compare",
    "confusion",
    "crossed_bootstrap",
    "expected_age",
    "group_indices",
    "join_from",
    "join_open_group",
    "kappa",
    "label_noise",
    "losses",
    "majority",
    "mean",
    "median_bucket",
    "nearest_bucket",
    "open_group",
    "outcomes",
    "paired",
    "per_example",
    "predicted_bucket",
    "range_name",
    "right_ages",
    "right_genders",
    "scored",
    "scores",
    "wilson",
]
