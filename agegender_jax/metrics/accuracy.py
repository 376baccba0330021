"""How often answers are right, and how far off.

The three scores, each the mean over examples of an integer (`outcomes`):
  age_accuracy: the most probable bucket lies in the label's range [first, last].
  gender_accuracy: the more probable gender is the label's.
  aabd: max(first - bucket, bucket - last, 0), the absolute difference of bucket indices (arXiv 2010.03791).
"""

import numpy as np

from agegender_jax.labels import AGE_BUCKETS, GENDERS
from agegender_jax.metrics.calibration import nll

SCORES = ("age_accuracy", "gender_accuracy", "aabd")


def nearest_bucket(bucket: np.ndarray, age: np.ndarray) -> np.ndarray:
    """The bucket of each label's range [first, last] (`age`, int [N, 2]) that is nearest to `bucket` (int [N])."""
    return np.clip(bucket, age[:, 0], age[:, 1])


def right_ages(age: np.ndarray, num_buckets: int = len(AGE_BUCKETS)) -> np.ndarray:
    """The buckets inside each label's range [first, last]: bool [N, A]."""
    bucket, age = np.arange(num_buckets), np.asarray(age)
    return (age[:, :1] <= bucket) & (bucket <= age[:, 1:])


def right_genders(gender: np.ndarray) -> np.ndarray:
    """bool [N, 2], True at each label."""
    return np.asarray(gender)[:, None] == np.arange(len(GENDERS))


def outcomes(
    age_probs: np.ndarray, gender_probs: np.ndarray, age: np.ndarray, gender: np.ndarray
) -> dict[str, np.ndarray]:
    """The scores of every single example: int [N] for each of SCORES.

    Args:
      age_probs: [N, A], any monotone score will do.
      gender_probs: [N, 2].
      age: int [N, 2], first and last bucket that count as right.
      gender: int [N].

    Raises:
      ValueError: the shapes do not belong together.
    """
    age, gender = np.asarray(age), np.asarray(gender)
    count = len(gender)
    if gender.shape != (count,) or age.shape != (count, 2) or len(age_probs) != count or len(gender_probs) != count:
        shapes = [np.shape(x) for x in (age_probs, gender_probs, age, gender)]
        raise ValueError(f"expected [N, A], [N, 2], [N, 2] and [N]; got {shapes}")
    bucket = np.argmax(age_probs, -1)
    distance = np.abs(bucket - nearest_bucket(bucket, age))
    right = np.argmax(gender_probs, -1) == gender
    return {"age_accuracy": (distance == 0).astype(int), "gender_accuracy": right.astype(int), "aabd": distance}


def scores(
    age_probs: np.ndarray, gender_probs: np.ndarray, age: np.ndarray, gender: np.ndarray
) -> dict[str, float | None]:
    """Means of `outcomes` (same arguments): both accuracies in [0, 1], aabd in buckets."""
    found = outcomes(age_probs, gender_probs, age, gender)
    return {name: _mean(values) for name, values in found.items()}


def losses(
    age_probs: np.ndarray, gender_probs: np.ndarray, age: np.ndarray, gender: np.ndarray
) -> dict[str, float | None]:
    """Mean cross-entropies in nats (arguments as `outcomes`): loss_age, loss_gender, and loss, their sum.

    An age label with a range counts minus the log of the range's summed probability.
    """
    of_age = nll(age_probs, right_ages(age, np.shape(age_probs)[1]))
    of_gender = nll(gender_probs, right_genders(gender))
    if of_age is None or of_gender is None:
        return {"loss": None, "loss_age": None, "loss_gender": None}
    return {"loss": of_age + of_gender, "loss_age": of_age, "loss_gender": of_gender}


def majority(age: np.ndarray, gender: np.ndarray) -> dict[str, float | None]:
    """Scores of always answering the commonest bucket and the commonest gender of these labels."""
    if not len(gender):
        return dict.fromkeys(SCORES)
    counts = right_ages(age).sum(0), right_genders(gender).sum(0)
    of_age, of_gender = (np.broadcast_to(c == c.max(), (len(gender), len(c))) for c in counts)
    return scores(of_age, of_gender, age, gender)


def confusion(
    age_probs: np.ndarray, gender_probs: np.ndarray, age: np.ndarray, gender: np.ndarray
) -> dict[str, np.ndarray]:
    """Counts, true class by row and predicted by column: {"age": int [A, A], "gender": int [2, 2]}.

    A label with a range stands in the row of its bucket nearest to the prediction: the diagonal is what is right.
    """
    bucket, answer = np.argmax(age_probs, -1), np.argmax(gender_probs, -1)
    counts = {"age": np.zeros((len(AGE_BUCKETS),) * 2, int), "gender": np.zeros((len(GENDERS),) * 2, int)}
    np.add.at(counts["age"], (nearest_bucket(bucket, np.asarray(age)), bucket), 1)
    np.add.at(counts["gender"], (np.asarray(gender), answer), 1)
    return counts


def range_name(first: int, last: int) -> str:
    """ "20-29" for one bucket, "70+" for all from one up, "70-89" for some."""
    if first == last:
        return AGE_BUCKETS[first]
    return f"{10 * first}+" if last == len(AGE_BUCKETS) - 1 else f"{10 * first}-{10 * last + 9}"


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
