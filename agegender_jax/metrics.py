"""Scores of predicted probabilities, their intervals, and the alarm for heads that have collapsed. numpy only.

The three scores, each the mean over examples of an integer (`outcomes`):
  age_accuracy: the most probable bucket lies in the label's range [first, last].
  gender_accuracy: the more probable gender is the label's.
  aabd: max(first - bucket, bucket - last, 0), the absolute difference of bucket indices (arXiv 2010.03791).
Where there is no example to average over, a score and its interval are None, never NaN.
"""

import numpy as np

from agegender_jax.labels import AGE_BUCKETS, GENDERS, RACES

SCORES = ("age_accuracy", "gender_accuracy", "aabd")
RESAMPLES = 2000
ONE_CLASS_PERCENT = 98  # a head that gives one class to so many of the examples has collapsed
MAJORITY_PERCENT = 1  # as has a gender head whose accuracy is this near the majority rate


def nearest_bucket(bucket: np.ndarray, age: np.ndarray) -> np.ndarray:
    """The bucket of each label's range [first, last] (`age`, int [N, 2]) that is nearest to `bucket` (int [N])."""
    return np.clip(bucket, age[:, 0], age[:, 1])


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


def scores(age_probs, gender_probs, age, gender) -> dict[str, float | None]:
    """Means of `outcomes` (same arguments): both accuracies in [0, 1], aabd in buckets."""
    found = outcomes(age_probs, gender_probs, age, gender)
    return {name: _mean(values) for name, values in found.items()}


def losses(age_probs, gender_probs, age, gender) -> dict[str, float | None]:
    """Mean cross-entropies in nats (arguments as `outcomes`): loss_age, loss_gender, and loss, their sum.

    An age label with a range counts minus the log of the range's summed probability.
    """
    age_probs, gender_probs = np.asarray(age_probs, np.float64), np.asarray(gender_probs, np.float64)
    age, gender = np.asarray(age), np.asarray(gender)
    if not len(gender):
        return {"loss": None, "loss_age": None, "loss_gender": None}
    bucket = np.arange(age_probs.shape[1])
    inside = (age[:, :1] <= bucket) & (bucket <= age[:, 1:])
    of_age = (age_probs * inside).sum(-1)
    of_gender = gender_probs[np.arange(len(gender)), gender]
    least = np.finfo(np.float32).tiny  # float32 softmax underflows to 0
    loss_age, loss_gender = (float(-np.log(np.maximum(p, least)).mean()) for p in (of_age, of_gender))
    return {"loss": loss_age + loss_gender, "loss_age": loss_age, "loss_gender": loss_gender}


def intervals(age_probs, gender_probs, age, gender) -> dict[str, list[float] | None]:
    """95 % intervals [low, high] of `scores` (same arguments).

    The accuracies are proportions and get Wilson's score interval (Wilson 1927; recommended for small n and for
    rates near 0 or 1 by Brown, Cai, DasGupta 2001); aabd gets the percentile bootstrap over examples (Efron 1979).
    """
    found = outcomes(age_probs, gender_probs, age, gender)
    return {name: bootstrap(values) if name == "aabd" else wilson(values) for name, values in found.items()}


def paired_difference(probs_a, probs_b, age, gender) -> dict[str, dict]:
    """Scores of `probs_a` minus scores of `probs_b` on the same examples, with paired bootstrap 95 % intervals.

    Args:
      probs_a, probs_b: anything with the fields `age` [N, A] and `gender` [N, 2], such as structs.Probs.
      age: int [N, 2]; gender: int [N].

    Returns:
      For each of SCORES {"difference": float, "ci95": [low, high]}, both None where N is 0.
    """
    a = outcomes(probs_a.age, probs_a.gender, age, gender)
    b = outcomes(probs_b.age, probs_b.gender, age, gender)
    return {name: {"difference": _mean(a[name] - b[name]), "ci95": bootstrap(a[name] - b[name])} for name in SCORES}


def wilson(right: np.ndarray) -> list[float] | None:
    """Wilson's 95 % score interval of the mean of 0/1 values [N]."""
    count = len(right)
    if not count:
        return None
    z2, p = 1.959964**2, float(np.mean(right))
    middle = p + z2 / (2 * count)
    half = np.sqrt(z2 * (p * (1 - p) / count + z2 / (4 * count**2)))
    low, high = (middle - half) / (1 + z2 / count), (middle + half) / (1 + z2 / count)
    return [float(max(0.0, min(low, p))), float(min(1.0, max(high, p)))]


def bootstrap(values: np.ndarray) -> list[float] | None:
    """Percentile bootstrap 95 % interval of the mean of integers [N]; the same input gives the same interval.

    Drawing N examples with replacement draws the count of each distinct value from a multinomial, so the cost does
    not grow with N.
    """
    if not len(values):
        return None
    levels, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(values), counts / len(values), size=RESAMPLES)
    low, high = np.quantile(drawn @ levels / len(values), [0.025, 0.975])
    return [float(low), float(high)]


def majority(age: np.ndarray, gender: np.ndarray) -> dict[str, float | None]:
    """Scores of always answering the commonest bucket and the commonest gender of these labels."""
    if not len(gender):
        return dict.fromkeys(SCORES)
    hits = ((age[:, :1] <= np.arange(len(AGE_BUCKETS))) & (np.arange(len(AGE_BUCKETS)) <= age[:, 1:])).sum(0)
    genders = np.bincount(gender, minlength=len(GENDERS))
    always = (np.broadcast_to(c == c.max(), (len(gender), len(c))) for c in (hits, genders))
    return scores(*always, age, gender)


def collapsed(age_probs, gender_probs, age, gender, half_done: bool) -> list[str]:
    """Names of the heads ("age", "gender") that tell the classes apart no better than a constant.

    A head is named if it puts 98 % or more of the examples in one class, and the gender head also if its accuracy
    is within 0.01 of the majority rate once half of the run is done. Where the labels themselves hold one class
    only, nothing can be said, and the head is not named.
    """
    count, heads = len(gender), []
    if not count:
        return heads
    for name, probs, truth in (("age", age_probs, np.asarray(age)), ("gender", gender_probs, np.asarray(gender))):
        commonest = np.bincount(np.argmax(probs, -1)).max()
        stuck = 100 * commonest >= ONE_CLASS_PERCENT * count
        if name == "gender" and half_done:
            right, most = int((np.argmax(probs, -1) == truth).sum()), int(np.bincount(truth).max())
            stuck |= 100 * abs(right - most) <= MAJORITY_PERCENT * count
        if stuck and len(np.unique(truth, axis=0)) > 1:
            heads.append(name)
    return heads


def confusion(age_probs, gender_probs, age, gender) -> dict[str, np.ndarray]:
    """Counts, true class by row and predicted by column: {"age": int [A, A], "gender": int [2, 2]}.

    A label with a range stands in the row of its bucket nearest to the prediction: the diagonal is what is right.
    """
    bucket, answer = np.argmax(age_probs, -1), np.argmax(gender_probs, -1)
    counts = {"age": np.zeros((len(AGE_BUCKETS),) * 2, int), "gender": np.zeros((len(GENDERS),) * 2, int)}
    np.add.at(counts["age"], (nearest_bucket(bucket, np.asarray(age)), bucket), 1)
    np.add.at(counts["gender"], (np.asarray(gender), answer), 1)
    return counts


def by_group(age_probs, gender_probs, age, gender, race) -> dict[str, dict[str, dict]]:
    """n and scores inside every gender, race and age group that has examples, in the order of the codes.

    Args:
      race: int [N], index into RACES; the rest as `outcomes`.
    """
    found = outcomes(age_probs, gender_probs, age, gender)

    def group(of: np.ndarray) -> dict:
        return {"n": int(of.sum()), **{name: _mean(values[of]) for name, values in found.items()}}

    age, gender, race = np.asarray(age), np.asarray(gender), np.asarray(race)
    ranges = np.unique(age, axis=0)
    return {
        "gender": {name: group(gender == i) for i, name in enumerate(GENDERS) if (gender == i).any()},
        "race": {name: group(race == i) for i, name in enumerate(RACES) if (race == i).any()},
        "age": {range_name(*r): group((age == r).all(-1)) for r in ranges},
    }


def range_name(first: int, last: int) -> str:
    """ "20-29" for one bucket, "70+" for all from one up, "70-89" for some."""
    if first == last:
        return AGE_BUCKETS[first]
    return f"{10 * first}+" if last == len(AGE_BUCKETS) - 1 else f"{10 * first}-{10 * last + 9}"


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
