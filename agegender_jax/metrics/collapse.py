"""Detection of heads that have collapsed."""

import numpy as np

from agegender_jax.metrics.accuracy import check_labels, predicted_bucket

ONE_CLASS_PERCENT = 98  # a head that predicts one class for this share of the examples has collapsed
MAJORITY_PERCENT = 1  # so has a gender head whose accuracy is this close to the majority rate


def collapsed(
    age_probs: np.ndarray, gender_probs: np.ndarray, age: np.ndarray, gender: np.ndarray, half_done: bool
) -> list[str]:
    """Return the names of the heads ("age", "gender") that are no better than a constant prediction.

    A head is listed if it puts 98 % or more of the examples in one class (an open last group of ages is one), and the
    gender head also if, after half of the run, its accuracy is within 0.01 of the majority rate. A head is not listed
    if all labels are of one class.
    """
    check_labels(age_probs, gender_probs, age, gender)
    count = len(gender)
    heads: list[str] = []
    if not count:
        return heads
    predictions = predicted_bucket(age_probs, age), np.argmax(gender_probs, -1)
    for name, predicted, truth in zip(("age", "gender"), predictions, map(np.asarray, (age, gender)), strict=True):
        largest = np.bincount(predicted).max()
        stuck = 100 * largest >= ONE_CLASS_PERCENT * count
        if name == "gender" and half_done:
            right, most = int((predicted == truth).sum()), int(np.bincount(truth).max())
            stuck |= 100 * abs(right - most) <= MAJORITY_PERCENT * count
        if stuck and len(np.unique(truth, axis=0)) > 1:
            heads.append(name)
    return heads
