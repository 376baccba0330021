"""Scores that are not means over examples: kappa of the age buckets, balanced accuracy and AUC of gender."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agegender_jax import array_checks
from agegender_jax.metrics.accuracy import check_labels, confusion, nearest_bucket, predicted_bucket, right_genders
from agegender_jax.metrics.intervals import Estimate, from_counts, from_weights, has_groups

AGREEMENT = ("age_kappa", "gender_balanced_accuracy", "gender_auc")


def kappa(counts: np.ndarray) -> Estimate:
    """Return Cohen's kappa with quadratic weights (Cohen 1968), in [-1, 1], and its interval.

    1 - sum_ij n_ij (i - j)^2 / sum_ij e_ij (i - j)^2, where e are the counts expected by chance for these rows and
    columns. None if all labels and predictions are of the same class.

    Args:
      counts: int [A, A], labels by row and predictions by column, as `confusion` gives them.
    """
    array_checks.check(counts=(counts, "int A A"))
    truth, predicted = (bucket.reshape(-1) for bucket in np.indices(counts.shape))
    moments = np.stack([(truth - predicted) ** 2, truth, predicted, truth**2, predicted**2], -1)

    def statistic(drawn: np.ndarray) -> np.ndarray:
        sums = drawn @ moments  # integers: exact in any order
        return _kappa(*np.moveaxis(sums / drawn.sum(-1)[..., None], -1, 0))

    return from_counts(counts.reshape(-1), statistic)


def balanced_accuracy(counts: np.ndarray) -> Estimate:
    """Return the mean of the classes' recalls, and its interval; None if a class has no example.

    Args:
      counts: int [G, G], labels by row and predictions by column.
    """
    array_checks.check(counts=(counts, "int G G"))

    def statistic(drawn: np.ndarray) -> np.ndarray:
        table = drawn.reshape(*drawn.shape[:-1], *counts.shape)
        return (np.diagonal(table, axis1=-2, axis2=-1) / table.sum(-1)).mean(-1)

    return from_counts(counts.reshape(-1), statistic)


def auc(scores: Sequence[np.ndarray], positive: np.ndarray) -> list[Estimate]:
    """Return the area under the ROC curve of each of K scores, with intervals from the same redraws of the examples.

    This is the share of pairs of a positive and a negative example whose scores are in the right order; ties count
    half. None if there are no positive or no negative examples.

    Args:
      scores: K times [N]. positive: bool [N].
    """
    for score in scores:
        array_checks.check(scores=(score, "number N"), positive=(positive, "bool N"))
    ranked = [_ranks(np.asarray(score), positive) for score in scores]

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.stack([_area(weights, *ranks) for ranks in ranked], -1)

    return from_weights(len(positive), statistic) or [(None, None)] * len(scores)


def agreement(
    probs: Sequence[Any], age: np.ndarray, gender: np.ndarray, group: np.ndarray | None = None
) -> list[dict[str, Estimate]]:
    """Return the AGREEMENT scores of each model: `kappa`, `balanced_accuracy`, and the `auc` of P(female).

    Args:
      probs: for each model, an object with `age` [N, A] and `gender` [N, 2].
      age: int [N, 2], first and last correct bucket; gender: int [N]; group: see `intervals`.
    """
    if has_groups(group):
        return _estimates(probs, [(i,) for i in range(len(probs))], age, gender, group)
    areas = auc([p.gender[:, 1] for p in probs], np.asarray(gender) == 1)
    counts = [confusion(p.age, p.gender, age, gender) for p in probs]
    return [
        dict(zip(AGREEMENT, (kappa(of["age"]), balanced_accuracy(of["gender"]), area), strict=True))
        for of, area in zip(counts, areas, strict=True)
    ]


def differences(
    probs: Sequence[Any],
    pairs: Sequence[tuple[int, int]],
    age: np.ndarray,
    gender: np.ndarray,
    group: np.ndarray | None = None,
) -> list[dict[str, Estimate]]:
    """Return for each pair (i, j) the AGREEMENT scores of model i minus those of model j, with paired intervals.

    Args:
      The rest as `agreement`.
    """
    return _estimates(probs, pairs, age, gender, group)


def _estimates(
    probs: Sequence[Any],
    choices: Sequence[tuple[int, ...]],
    age: np.ndarray,
    gender: np.ndarray,
    group: np.ndarray | None,
) -> list[dict[str, Estimate]]:
    """Return the AGREEMENT scores of the model of each choice (i,), or their difference for (i, j)."""
    age, gender = np.asarray(age), np.asarray(gender)
    columns = [_moments(p, age, gender) for p in probs]
    ranked = [_ranks(np.asarray(p.gender)[:, 1], gender == 1) for p in probs]

    def statistic(weights: np.ndarray) -> np.ndarray:
        scores = []
        for column, ranks in zip(columns, ranked, strict=True):
            sums = weights @ column  # of integers: exact in any order
            moments, recalls = np.split(sums / weights.sum(-1, keepdims=True), (5,), -1)
            count, right = np.split(recalls, 2, -1)
            scores.append(np.stack([_kappa(*moments.T), (right / count).mean(-1), _area(weights, *ranks)], -1))
        return np.concatenate([scores[i] - scores[j[0]] if j else scores[i] for i, *j in choices], -1)

    width = len(AGREEMENT)
    rows = (from_weights(len(gender), statistic, group) if choices else []) or [(None, None)] * (width * len(choices))
    return [dict(zip(AGREEMENT, rows[width * k : width * (k + 1)], strict=True)) for k in range(len(choices))]


def _moments(probs: Any, age: np.ndarray, gender: np.ndarray) -> np.ndarray:
    """Return [N, 5 + 2 G], from whose weighted means kappa and the recalls are computed."""
    check_labels(probs.age, probs.gender, age, gender)
    bucket, predicted = predicted_bucket(probs.age, age), np.argmax(probs.gender, -1)
    truth = nearest_bucket(bucket, age)
    of = right_genders(gender, np.shape(probs.gender)[1])
    squares = np.stack([(truth - bucket) ** 2, truth, bucket, truth**2, bucket**2], -1)
    return np.concatenate([squares, of, of & (predicted == gender)[:, None]], -1).astype(float)


def _kappa(
    observed: np.ndarray,
    truth: np.ndarray,
    predicted_mean: np.ndarray,
    truth_square: np.ndarray,
    predicted_square: np.ndarray,
) -> np.ndarray:
    """Return kappa from the mean squared difference, the means of labels and predictions, and of their squares."""
    chance = truth_square + predicted_square - 2 * truth * predicted_mean
    return 1 - observed / np.where(chance > 1e-12, chance, np.nan)


def _ranks(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the indices of positives and of negatives, both by rising score.

    And for each negative how many positives are below it, and how many are below or equal.
    """
    up, down = (chosen[np.argsort(score[chosen])] for chosen in (np.flatnonzero(positive), np.flatnonzero(~positive)))
    return up, down, *(np.searchsorted(score[up], score[down], side) for side in ("left", "right"))


def _area(weights: np.ndarray, up: np.ndarray, down: np.ndarray, below: np.ndarray, at_most: np.ndarray) -> np.ndarray:
    of_up, of_down = np.zeros((len(weights), len(up) + 1)), weights[:, down]
    np.cumsum(weights[:, up], axis=1, out=of_up[:, 1:])
    above = of_up[:, -1:] - (of_up[:, below] + of_up[:, at_most]) / 2
    return (of_down * above).sum(1) / (of_up[:, -1] * of_down.sum(1))
