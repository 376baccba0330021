"""Detection of heads that have collapsed."""

import numpy as np

from agegender_jax.metrics.accuracy import check_labels, majority, outcomes, predicted_bucket

ONE_CLASS_PERCENT = 98  # a head that predicts one class for this share of the examples has collapsed
MAJORITY_PERCENT = 1  # so has a gender head whose accuracy is this close to the majority rate


def collapsed(
    age_probs: np.ndarray, gender_probs: np.ndarray, age: np.ndarray, gender: np.ndarray, half_done: bool
) -> list[str]:
    """Return the names of the heads ("age", "gender") that are no better than a constant prediction.

    A head is listed if it puts 98 % or more of the examples in one class (an open last group of ages is one), and the
    gender head also if, after half of the run, its accuracy is within 0.01 of the majority rate. Where 98 % or more of
    the labels are of one class, a head must also be no more accurate than the majority rate. A head is not listed if
    all labels are of one class.
    """
    check_labels(age_probs, gender_probs, age, gender)
    count = len(gender)
    heads: list[str] = []
    if not count:
        return heads
    predictions = predicted_bucket(age_probs, age), np.argmax(gender_probs, -1)
    of_each, constant = outcomes(age_probs, gender_probs, age, gender), majority(age, gender)
    for name, predicted, truth in zip(("age", "gender"), predictions, map(np.asarray, (age, gender)), strict=True):
        right, most = int(of_each[f"{name}_accuracy"].sum()), round((constant[f"{name}_accuracy"] or 0) * count)
        stuck = 100 * np.bincount(predicted).max() >= ONE_CLASS_PERCENT * count
        if name == "gender" and half_done:
            stuck |= 100 * abs(right - most) <= MAJORITY_PERCENT * count
        if 100 * most >= ONE_CLASS_PERCENT * count:
            stuck &= right <= most
        if stuck and len(np.unique(truth, axis=0)) > 1:
            heads.append(name)
    return heads
