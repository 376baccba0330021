"""All scores of models, and of their paired differences, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agegender_jax import array_checks
from agegender_jax.metrics.accuracy import SCORES, mean, median_bucket, nearest_bucket, outcomes
from agegender_jax.metrics.age_years import ADULT, NEAR, expected_age
from agegender_jax.metrics.intervals import bootstrap, bootstrap_means, wilson
from agegender_jax.metrics.kappa_and_auc import AGREEMENT, agreement, differences

MEANS = (*SCORES, "aabd_median", "adjacent_accuracy", "age_mae", "cs5", "minors_as_adults")  # over examples
COMPARED = (*MEANS, *AGREEMENT)
PROPORTIONS = ("age_accuracy", "gender_accuracy", "adjacent_accuracy", "cs5", "minors_as_adults")
IN_YEARS = ("age_mae", "cs5")  # of the examples of known age


def per_example(
    probs: Any, bucket_years: np.ndarray | None, age: np.ndarray, gender: np.ndarray, age_years: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the values per example whose means are the scores in MEANS.

    Args:
      probs: an object with the fields `age` [N, A] and `gender` [N, 2], such as structs.Probs.
      bucket_years: float [A], or None if they are unknown for the model.
      age: int [N, 2], first and last correct bucket; gender: int [N]; age_years: int [N], -1 where unknown.

    Returns:
      [N] for each score. aabd_median is the aabd of `median_bucket`. age_mae (|expected age - age| in years) and cs5
      (whether that is at most 5) cover only examples of known age, and minors_as_adults (whether the expected age is 18
      or more) only those of them under 18; all three are empty if `bucket_years` is None.
    """
    array_checks.check(age_years=(age_years, "int N"), gender=(gender, "int N"))
    values = outcomes(probs.age, probs.gender, age, gender)
    median = median_bucket(probs.age)
    known = age_years >= 0
    error, adult = np.zeros(0), np.zeros(0, int)
    if bucket_years is not None:
        expected, true = expected_age(probs.age[known], bucket_years), age_years[known]
        error, adult = np.abs(expected - true), (expected[true < ADULT] >= ADULT).astype(int)
    return values | {
        "aabd_median": np.abs(median - nearest_bucket(median, np.asarray(age))),
        "adjacent_accuracy": (values["aabd"] <= 1).astype(int),
        "age_mae": error,
        "cs5": (error <= NEAR).astype(int),
        "minors_as_adults": adult,
    }


def scored(
    probs: Sequence[Any],
    bucket_years: Sequence[np.ndarray | None],
    age: np.ndarray,
    gender: np.ndarray,
    age_years: np.ndarray,
    group: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Return the scores of each model, "ci95" with their intervals, and n_minors, how many are known to be under 18.

    age_kappa, gender_balanced_accuracy and gender_auc (of P(female)) are those of `agreement`.

    Args:
      probs, bucket_years: one for each model; group: see `intervals`; the rest as `per_example`.
    """
    examples = [per_example(p, years, age, gender, age_years) for p, years in zip(probs, bucket_years, strict=True)]
    groups = _groups(group, age_years)
    errors = _intervals([values["age_mae"] for values in examples], groups["age_mae"])
    minors = (age_years >= 0) & (age_years < ADULT)
    models = []
    for values, error, agreed in zip(examples, errors, agreement(probs, age, gender, group), strict=True):
        intervals = {
            name: (wilson if name in PROPORTIONS else bootstrap)(
                values[name], groups[name] if len(values[name]) else None
            )
            for name in MEANS
            if name != "age_mae"
        }
        estimates = {name: (mean(values[name]), (intervals | {"age_mae": error})[name]) for name in MEANS} | agreed
        models.append(
            {name: value for name, (value, _) in estimates.items()}
            | {"n_minors": int(minors.sum()) if (age_years >= 0).any() else None}
            | {"ci95": {name: interval for name, (_, interval) in estimates.items()}}
        )
    return models


def paired(
    probs: Sequence[Any],
    bucket_years: Sequence[np.ndarray | None],
    pairs: Sequence[tuple[int, int]],
    age: np.ndarray,
    gender: np.ndarray,
    age_years: np.ndarray,
    group: np.ndarray | None = None,
) -> list[dict[str, dict[str, Any]]]:
    """Return for each pair (i, j) the COMPARED scores of model i minus those of model j on the same examples.

    Args:
      probs, bucket_years: one for each model; group: see `intervals`; the rest as `per_example`.

    Returns:
      For each pair {score: {"difference": float, "ci95": [low, high]}}, by paired bootstrap; both are None if a model
      has no such score.
    """
    examples = [per_example(p, years, age, gender, age_years) for p, years in zip(probs, bucket_years, strict=True)]
    means = [{name: _minus(examples[i][name], examples[j][name]) for name in MEANS} for i, j in pairs]
    groups = _groups(group, age_years)
    errors = _intervals([values["age_mae"] for values in means], groups["age_mae"])
    rows = []
    for values, error, rest in zip(means, errors, differences(probs, pairs, age, gender, group), strict=True):
        intervals = {
            name: error if name == "age_mae" else bootstrap(of, groups[name] if len(of) else None)
            for name, of in values.items()
        }
        estimates = {name: (mean(of), intervals[name]) for name, of in values.items()} | rest
        rows.append({name: {"difference": value, "ci95": interval} for name, (value, interval) in estimates.items()})
    return rows


def _groups(group: np.ndarray | None, age_years: np.ndarray) -> dict[str, np.ndarray | None]:
    """Return the groups of the examples that each score of MEANS has."""
    if group is None:
        return dict.fromkeys(MEANS)
    group, known = np.asarray(group), age_years >= 0
    rows = dict.fromkeys(IN_YEARS, known) | {"minors_as_adults": known & (age_years < ADULT)}
    return {name: group[rows[name]] if name in rows else group for name in MEANS}


def _intervals(columns: Sequence[np.ndarray], group: np.ndarray | None) -> list[list[float] | None]:
    """Return the bootstrap intervals of the means of columns that have all the examples of `group`, or none."""
    full = [column for column in columns if len(column)]
    intervals = iter(bootstrap_means(np.stack(full, 1), group) if full else ())
    return [next(intervals) if len(column) else None for column in columns]


def _minus(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a - b if len(a) == len(b) else np.zeros(0)
