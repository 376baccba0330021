"""Thresholds for the uncertainty of nets, fitted on val, as JSON in answers.json and in the cards of weights."""

import dataclasses
from typing import Any

import numpy as np

from agegender_jax import metrics
from agegender_jax.image_constants import LUMA
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.prediction import intervals, minimum_age
from agegender_jax.structs import Probs

ENOUGH = 100  # examples of val for any statement
CONFIDENT = 0.99  # accuracy of gender where the status is not `unsure`
NEVER = 2.0  # threshold that no probability reaches
CHILD = 10  # years, below which gender is flagged
_OUTER = 0.1, 99.9  # percentiles of brightness and contrast


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Thresholds of an ensemble of nets, or of one net.

    Attributes:
      n: examples of val.
      open_from: first bucket of an open last group of ages, such as "more than 70"; None for single buckets.
      bucket_years: [A], the age in years that represents each bucket.
      rests: threshold of the interval for each of `intervals.COVERAGES`, see `intervals.quantiles`.
      unsure: {"threshold", "accuracy", "share", "promised"}; the lowest confidence of a gender that is not unsure
        (NEVER if all are unsure), the share of val that reaches it, and the accuracy there.
      child: {"below", "gender_accuracy", "n"} on val below that age.
      over: see `minimum_age.thresholds`.
      image: {"brightness", "contrast"}: [low, high] of nearly all chips of val; None if unknown.
    """

    n: int
    open_from: int | None
    bucket_years: list[float]
    rests: list[float | None]
    unsure: dict[str, Any]
    child: dict[str, Any]
    over: dict[str, Any]
    image: dict[str, list[float]] | None = None

    def rest(self, coverage: float) -> float | None:
        """Return the threshold for the smallest of `intervals.COVERAGES` that is at least `coverage`."""
        return next(
            (rest for c, rest in zip(intervals.COVERAGES, self.rests, strict=True) if c >= coverage - 1e-9), None
        )


def parse(fields: Any) -> Calibration:
    """Return the Calibration of a JSON value.

    Raises:
      Exception: one of `files.MALFORMED`: fields are missing or have impossible values.
    """
    parsed = Calibration(**fields)
    open_from, image = parsed.open_from, parsed.image
    rows = [*parsed.over[minimum_age.YES], *parsed.over[minimum_age.NO]]
    numbers = [parsed.n, parsed.unsure["threshold"], parsed.child["below"], *parsed.bucket_years]
    numbers += [value for row in (parsed.rests, *rows) for value in row if value is not None]
    numbers += [] if image is None else [*image["brightness"], *image["contrast"]]
    sizes = (len(parsed.bucket_years), len(parsed.rests), len(rows), *{len(row) for row in rows})
    if not np.isfinite(np.array(numbers, np.float64)).all():
        raise ValueError("a number is not finite")
    if sizes != (NUM_AGE_BUCKETS, len(intervals.COVERAGES), 2 * len(minimum_age.AGES), len(minimum_age.ERRORS)):
        raise ValueError("a list has another length")
    if not (open_from is None or (isinstance(open_from, int) and 0 < open_from < NUM_AGE_BUCKETS)):
        raise ValueError(f"open_from {open_from!r}")
    return parsed


def fit(
    probs: Probs,
    age: np.ndarray,
    gender: np.ndarray,
    age_years: np.ndarray,
    bucket_years: list[float] | None,
    images: np.ndarray | None = None,
    train_age: np.ndarray | None = None,
) -> dict[str, Any] | None:
    """Return the fields of a Calibration; None for fewer than ENOUGH examples.

    Args:
      probs: of the N examples of val, after temperatures.
      age: int [N, 2]; gender: int [N]; age_years: int [N], -1 where unknown.
      bucket_years: mean ages in train, see `metrics.bucket_years`; None for the middles of the groups.
      images: uint8 [N, S, S, 3] or None.
      train_age: int [M, 2], of train, for `open_group`.
    """
    if len(gender) < ENOUGH:
        return None
    open_from = open_group(age, train_age)
    p_gender = np.asarray(probs.gender)
    merged = intervals.merge_open(np.asarray(probs.age), open_from)
    last = merged.shape[1] - 1
    return dataclasses.asdict(
        Calibration(
            n=len(gender),
            open_from=open_from,
            bucket_years=bucket_years or middles(open_from),
            rests=intervals.quantiles(merged, np.minimum(age, last)),
            unsure=_unsure(p_gender, gender),
            child=_child(p_gender, gender, age, age_years),
            over=minimum_age.thresholds(np.asarray(probs.age), age, age_years),
            image=None if images is None else image_ranges(images),
        )
    )


def open_group(age: np.ndarray, train_age: np.ndarray | None = None) -> int | None:
    """Return the first bucket of an open last group of ages, see `metrics.open_group`; None if there is none.

    Args:
      age: int [N, 2], first and last bucket, of val.
      train_age: int [M, 2], of train. Its open group counts if val has none, which may be too small.
    """
    start = metrics.open_group(age)
    return metrics.open_group(train_age) if start is None and train_age is not None else start


def middles(open_from: int | None) -> list[float]:
    """Return the middle of each bucket in years; 5 years into an open group."""
    years = [10 * i + 4.5 for i in range(NUM_AGE_BUCKETS)]
    return years if open_from is None else years[:open_from] + [10 * open_from + 5.0] * (NUM_AGE_BUCKETS - open_from)


def brightness_and_contrast(chips: np.ndarray) -> np.ndarray:
    """Return float64 [N, 2], mean and standard deviation of the luma of chips, uint8 [N, S, S, 3]."""
    luma = np.asarray(chips, np.float32) @ np.array(LUMA, np.float32)
    return np.stack([luma.mean((1, 2)), luma.std((1, 2))], -1).astype(np.float64)


def image_ranges(chips: np.ndarray) -> dict[str, list[float]]:
    """Return the ranges that contain 99.8 % of chips, uint8 [N, S, S, 3]."""
    parts = [brightness_and_contrast(chips[i : i + 256]) for i in range(0, len(chips), 256)]
    low, high = np.percentile(np.concatenate(parts), _OUTER, axis=0)
    return {
        name: [round(float(low[i]), 2), round(float(high[i]), 2)] for i, name in enumerate(("brightness", "contrast"))
    }


def _unsure(probs: np.ndarray, gender: np.ndarray) -> dict[str, Any]:
    confidence, right = probs.max(-1).astype(np.float64), probs.argmax(-1) == gender
    order = np.argsort(-confidence, kind="stable")
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last = np.append(np.diff(confidence[order]) < 0, True)  # of several that are equally confident
    good = np.flatnonzero((accuracy >= CONFIDENT) & last)
    count = int(good[-1]) + 1 if len(good) else 0
    return {
        "promised": CONFIDENT,
        "threshold": float(confidence[order[count - 1]]) if count else NEVER,
        "accuracy": round(float(accuracy[count - 1]), 4) if count else None,
        "share": round(count / len(order), 4),
    }


def _child(probs: np.ndarray, gender: np.ndarray, age: np.ndarray, age_years: np.ndarray) -> dict[str, Any]:
    young = np.where(age_years >= 0, age_years < CHILD, age[:, 1] == 0)
    right = probs.argmax(-1) == gender
    return {
        "below": CHILD,
        "gender_accuracy": round(float(right[young].mean()), 4) if young.any() else None,
        "n": int(young.sum()),
    }
