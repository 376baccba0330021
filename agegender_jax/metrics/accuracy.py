"""How often predictions are right, and how far off.

The three scores, each the mean over examples of an integer (`outcomes`):
  age_accuracy: the predicted bucket (`predicted_bucket`) lies in the label's range [first, last].
  gender_accuracy: the more probable gender is the label's.
  aabd: max(first - bucket, bucket - last, 0), the absolute difference of bucket indices (arXiv 2010.03791).

The numbers of age buckets A and of genders G are those of the probabilities.
"""

import numpy as np

from agegender_jax import array_checks
from agegender_jax.labels import AGE_BUCKETS
from agegender_jax.metrics.calibration import calibrated_nll, nll

SCORES = ("age_accuracy", "gender_accuracy", "aabd")


def nearest_bucket(bucket: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Return the bucket of each label's range [first, last] (`age`, int [N, 2]) that is nearest to `bucket` (int [N]).

    Raises:
      ValueError: the arguments have other shapes.
    """
    array_checks.check(bucket=(bucket, "int N"), age=(age, "int N 2"))
    return np.clip(bucket, age[:, 0], age[:, 1])


def open_group(age: np.ndarray, num_buckets: int = len(AGE_BUCKETS)) -> int | None:
    """Return the first bucket of an open last group of labels, such as FairFace's "more than 70".

    None if there is no such group, or if labels tell some of its buckets apart.

    Args:
      age: int [N, 2], first and last bucket. num_buckets: A.

    Raises:
      ValueError: `age` has another shape.
    """
    age = np.asarray(age)
    array_checks.check(age=(age, "int N 2"))
    first, last = age.T
    starts = first[(last == num_buckets - 1) & (first < last)]
    if not len(starts):
        return None
    start = starts.min()
    whole = (first == start) & (last == num_buckets - 1)
    return int(start) if (whole | (last < start)).all() else None


def join_open_group(age_probs: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Return [N, A], with the probability of the labels' open last group (`open_group`) in its first bucket.

    Args:
      age_probs: [N, A]. age: int [N, 2], labels, first and last bucket.
    """
    return join_from(age_probs, open_group(age, np.shape(age_probs)[1]))


def join_from(age_probs: np.ndarray, start: int | None) -> np.ndarray:
    """Return [N, A], with the probability of the buckets from `start` on in that one; `age_probs` itself for None."""
    probs = np.asarray(age_probs)
    if start is None:
        return probs
    joined = np.zeros_like(probs)
    joined[:, :start] = probs[:, :start]
    joined[:, start] = probs[:, start:].sum(-1)
    return joined


def predicted_bucket(age_probs: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Return the most probable bucket, int [N].

    If the labels have an open last group, it counts as one class, which its first bucket stands for: a net that was
    trained on such labels divides its probability over all of its buckets.

    Args:
      age_probs: [N, A]. age: int [N, 2], labels, first and last bucket.
    """
    return join_open_group(age_probs, age).argmax(-1)


def bucket_names(age: np.ndarray) -> list[str]:
    """Return the names of AGE_BUCKETS; that of an open last group of labels (int [N, 2]) is like "70+"."""
    names = [*AGE_BUCKETS]
    if (start := open_group(age)) is not None:
        names[start] = range_name(start, len(names) - 1)
    return names


def median_bucket(age_probs: np.ndarray) -> np.ndarray:
    """Return the first bucket up to which half of the probability lies: int [N] from [N, A].

    It minimises the expected absolute difference of bucket indices, whereas the most probable bucket minimises the
    expected error rate.
    """
    array_checks.check(age_probs=(age_probs, "number N A"))
    cumulative = np.cumsum(age_probs, -1, dtype=np.float64)
    return (cumulative >= cumulative[:, -1:] / 2).argmax(-1)


def right_ages(age: np.ndarray, num_buckets: int = len(AGE_BUCKETS)) -> np.ndarray:
    """Return the buckets inside each label's range [first, last]: bool [N, A].

    Args:
      age: int [N, 2], first and last bucket that count as correct. num_buckets: A.

    Raises:
      ValueError: a label is not a range of these buckets.
    """
    bucket, age = np.arange(num_buckets), np.asarray(age)
    array_checks.check(age=(age, "int N 2"))
    if len(age) and not (0 <= age[:, 0].min() and age[:, 1].max() < num_buckets and (age[:, 0] <= age[:, 1]).all()):
        raise ValueError(f"age must hold ranges first <= last of {num_buckets} buckets, 0 to {num_buckets - 1}")
    return (age[:, :1] <= bucket) & (bucket <= age[:, 1:])


def right_genders(gender: np.ndarray, num_genders: int = 2) -> np.ndarray:
    """Return bool [N, G], True at each label.

    Raises:
      ValueError: a label is not in 0 to G - 1.
    """
    gender = np.asarray(gender)
    array_checks.check(gender=(gender, "int N"))
    if len(gender) and not (0 <= gender.min() and gender.max() < num_genders):
        raise ValueError(f"gender must be in 0 to {num_genders - 1}, got {gender.min()} to {gender.max()}")
    return gender[:, None] == np.arange(num_genders)


def check_labels(age_probs: np.ndarray, gender_probs: np.ndarray, age: np.ndarray, gender: np.ndarray) -> None:
    """Raise ValueError unless the probabilities and the labels of N examples (see `outcomes`) belong together."""
    sizes = array_checks.check(
        age_probs=(age_probs, "number N A"),
        gender_probs=(gender_probs, "number N G"),
        age=(age, "int N 2"),
        gender=(gender, "int N"),
    )
    right_ages(age, sizes["A"])
    right_genders(gender, sizes["G"])


def outcomes(
    age_probs: np.ndarray, gender_probs: np.ndarray, age: np.ndarray, gender: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the scores of each example: int [N] for each of SCORES.

    Args:
      age_probs: [N, A]; any monotone score will do, unless the labels have an open last group.
      gender_probs: [N, G].
      age: int [N, 2], first and last bucket that count as correct.
      gender: int [N].

    Raises:
      ValueError: the shapes do not fit together, or a label is not one of the classes.
    """
    age, gender = np.asarray(age), np.asarray(gender)
    check_labels(age_probs, gender_probs, age, gender)
    bucket = predicted_bucket(age_probs, age)
    distance = np.abs(bucket - nearest_bucket(bucket, age))
    right = np.argmax(gender_probs, -1) == gender
    return {"age_accuracy": (distance == 0).astype(int), "gender_accuracy": right.astype(int), "aabd": distance}


def scores(
    age_probs: np.ndarray, gender_probs: np.ndarray, age: np.ndarray, gender: np.ndarray
) -> dict[str, float | None]:
    """Return the means of `outcomes` (same arguments): both accuracies in [0, 1], aabd in buckets."""
    by_example = outcomes(age_probs, gender_probs, age, gender)
    return {name: mean(values) for name, values in by_example.items()}


def losses(
    age_probs: np.ndarray, gender_probs: np.ndarray, age: np.ndarray, gender: np.ndarray
) -> dict[str, float | None]:
    """Return mean cross-entropies in nats (arguments as `outcomes`): loss_age, loss_gender, and loss, their sum.

    The loss of an age label that is a range is minus the log of the summed probability of the range.
    """
    check_labels(age_probs, gender_probs, age, gender)
    loss_age = nll(age_probs, right_ages(age, np.shape(age_probs)[1]))
    loss_gender = nll(gender_probs, right_genders(gender, np.shape(gender_probs)[1]))
    if loss_age is None or loss_gender is None:
        return {"loss": None, "loss_age": None, "loss_gender": None}
    return {"loss": loss_age + loss_gender, "loss_age": loss_age, "loss_gender": loss_gender}


def calibrated_losses(
    age_probs: np.ndarray, gender_probs: np.ndarray, age: np.ndarray, gender: np.ndarray
) -> dict[str, float]:
    """Return loss_age and loss_gender (see `losses`) with a temperature fitted to each head, and the temperatures.

    These are age_temperature and gender_temperature, see `calibration.calibrated_nll`. N must not be 0.
    """
    check_labels(age_probs, gender_probs, age, gender)
    loss_age, age_temperature = calibrated_nll(age_probs, right_ages(age, np.shape(age_probs)[1]))
    loss_gender, gender_temperature = calibrated_nll(gender_probs, right_genders(gender, np.shape(gender_probs)[1]))
    temperatures = {"age_temperature": age_temperature, "gender_temperature": gender_temperature}
    return {"loss_age": loss_age, "loss_gender": loss_gender} | temperatures


def majority(age: np.ndarray, gender: np.ndarray) -> dict[str, float | None]:
    """Return the scores of always predicting the most frequent bucket and the most frequent gender of these labels."""
    if not len(gender):
        return dict.fromkeys(SCORES)
    right = right_ages(age, np.max(age) + 1), right_genders(gender, np.max(gender) + 1)
    of_age, of_gender = (np.broadcast_to(r.sum(0) == r.sum(0).max(), r.shape) for r in right)
    return scores(of_age, of_gender, age, gender)


def confusion(
    age_probs: np.ndarray, gender_probs: np.ndarray, age: np.ndarray, gender: np.ndarray
) -> dict[str, np.ndarray]:
    """Return counts, true class by row and predicted by column: {"age": int [A, A], "gender": int [G, G]}.

    A label that is a range counts in the row of its bucket nearest to the prediction, so that the diagonal is correct.
    """
    check_labels(age_probs, gender_probs, age, gender)
    bucket, predicted = predicted_bucket(age_probs, age), np.argmax(gender_probs, -1)
    counts = {
        "age": np.zeros((np.shape(age_probs)[1],) * 2, int),
        "gender": np.zeros((np.shape(gender_probs)[1],) * 2, int),
    }
    np.add.at(counts["age"], (nearest_bucket(bucket, np.asarray(age)), bucket), 1)
    np.add.at(counts["gender"], (np.asarray(gender), predicted), 1)
    return counts


def range_name(first: int, last: int, num_buckets: int = len(AGE_BUCKETS)) -> str:
    """Return "20-29" for one bucket, "70+" for an open range, "70-89" for a closed one; else plain indices."""
    if num_buckets != len(AGE_BUCKETS):
        return f"{first}" if first == last else f"{first}-{last}"
    if first == last:
        return AGE_BUCKETS[first]
    return f"{10 * first}+" if last == len(AGE_BUCKETS) - 1 else f"{10 * first}-{10 * last + 9}"


def mean(values: np.ndarray) -> float | None:
    """Return the mean of all values; None if there are none."""
    return float(values.mean()) if values.size else None
