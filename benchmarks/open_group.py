"""An open last group of ages, such as "70+", as one group of predictions and labels."""

import numpy as np

from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.prediction import intervals


def join(age_probs, open_from):
    """Return probabilities [N, A] with those of the open last group in its first bucket."""
    if open_from is None:
        return age_probs
    merged = intervals.merge_open(age_probs, open_from).astype(np.float32)
    return np.pad(merged, ((0, 0), (0, age_probs.shape[1] - merged.shape[1])))


def join_labels(age, open_from):
    """Return labels, int [N, 2], in which all of the open last group are right for each of its ages."""
    inside = np.zeros(len(age), bool) if open_from is None else age[:, 0] >= open_from
    return np.where(inside[:, None], (open_from or 0, NUM_AGE_BUCKETS - 1), age)
