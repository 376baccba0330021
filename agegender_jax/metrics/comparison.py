"""Everything that is scored about models, alone and in pairs, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agegender_jax import arguments
from agegender_jax.metrics.accuracy import SCORES, confusion, outcomes
from agegender_jax.metrics.agreement import AGREEMENT, auc, balanced_accuracy, differences, kappa
from agegender_jax.metrics.intervals import bootstrap, bootstrap_means, wilson
from agegender_jax.metrics.years import ADULT, NEAR, expected_age

MEANS = (*SCORES, "adjacent_accuracy", "age_mae", "cs5", "minors_as_adults")  # over examples
COMPARED = (*MEANS, *AGREEMENT)
PROPORTIONS = ("age_accuracy", "gender_accuracy", "adjacent_accuracy", "cs5", "minors_as_adults")


def per_example(
    probs: Any, bucket_years: np.ndarray | None, age: np.ndarray, gender: np.ndarray, age_years: np.ndarray
) -> dict[str, np.ndarray]:
    """The numbers whose means are the scores of MEANS.

    Args:
      probs: anything with the fields `age` [N, A] and `gender` [N, 2], such as structs.Probs.
      bucket_years: float [A], or None where the model knows none.
      age: int [N, 2], first and last right bucket; gender: int [N]; age_years: int [N], -1 where unknown.

    Returns:
      [N] for each score; age_mae (|expected age - age|, years) and cs5 (whether that is 5 at most) have the examples
      of known age only, minors_as_adults (whether the expected age is 18 or more) those of them under 18, and all three
      none where `bucket_years` is None.
    """
    arguments.check(age_years=(age_years, "int N"), gender=(gender, "int N"))
    found = outcomes(probs.age, probs.gender, age, gender)
    known = age_years >= 0
    error, adult = np.zeros(0), np.zeros(0, int)
    if bucket_years is not None:
        expected, true = expected_age(probs.age[known], bucket_years), age_years[known]
        error, adult = np.abs(expected - true), (expected[true < ADULT] >= ADULT).astype(int)
    return found | {
        "adjacent_accuracy": (found["aabd"] <= 1).astype(int),
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
) -> list[dict[str, Any]]:
    """The scores of each model, "ci95" with their intervals, and n_minors, how many are known to be under 18.

    age_kappa, gender_balanced_accuracy and gender_auc (of P(female)) are described in `agreement`.

    Args:
      probs, bucket_years: one for each model; the rest as `per_example`.
    """
    examples = [per_example(p, years, age, gender, age_years) for p, years in zip(probs, bucket_years, strict=True)]
    errors = _intervals([e["age_mae"] for e in examples])
    areas = auc([p.gender[:, 1] for p in probs], np.asarray(gender) == 1)
    minors = (age_years >= 0) & (age_years < ADULT)
    models = []
    for p, values, error, area in zip(probs, examples, errors, areas, strict=True):
        counts = confusion(p.age, p.gender, age, gender)
        intervals = {name: wilson(values[name]) for name in PROPORTIONS}
        intervals |= {"aabd": bootstrap(values["aabd"]), "age_mae": error}
        estimates = {name: (_mean(values[name]), intervals[name]) for name in MEANS} | {
            "age_kappa": kappa(counts["age"]),
            "gender_balanced_accuracy": balanced_accuracy(counts["gender"]),
            "gender_auc": area,
        }
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
) -> list[dict[str, dict[str, Any]]]:
    """For each pair (i, j) the COMPARED scores of model i minus those of model j on the same examples.

    Args:
      probs, bucket_years: one for each model; the rest as `per_example`.

    Returns:
      For each pair {score: {"difference": float, "ci95": [low, high]}}, by paired bootstrap; both None where a model
      has no such score.
    """
    examples = [per_example(p, years, age, gender, age_years) for p, years in zip(probs, bucket_years, strict=True)]
    means = [{name: _minus(examples[i][name], examples[j][name]) for name in MEANS} for i, j in pairs]
    errors = _intervals([d["age_mae"] for d in means])
    agreement = differences(probs, pairs, age, gender)
    found = []
    for values, error, rest in zip(means, errors, agreement, strict=True):
        estimates = {
            name: (_mean(of), error if name == "age_mae" else bootstrap(of)) for name, of in values.items()
        } | rest
        found.append({name: {"difference": value, "ci95": interval} for name, (value, interval) in estimates.items()})
    return found


def _intervals(columns: Sequence[np.ndarray]) -> list[list[float] | None]:
    """Bootstrap intervals of the means of columns of one length, or of none."""
    full = [column for column in columns if len(column)]
    found = iter(bootstrap_means(np.stack(full, 1)) if full else ())
    return [next(found) if len(column) else None for column in columns]


def _minus(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a - b if len(a) == len(b) else np.zeros(0)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
