"""Decisions whether a person is at least N years old, with a bound on the share of wrong ones.

At most a share `max_error` of people below N get a yes, and at most a share `max_error` of people aged N or above get a
no: the threshold on either side is a class-conditional conformal quantile on val (Vovk 2012, arXiv 1209.2673). If a
label is a group that includes ages on both sides of N, the whole group counts on both sides, so that the bounds hold
whatever the ages in it are.
"""

from typing import Any

import numpy as np

from agegender_jax.labels import NUM_AGE_BUCKETS

YES, NO, UNSURE = "yes", "no", "unsure"
ERRORS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
AGES = tuple(range(1, 100))


def probability(probs: np.ndarray, years: int) -> np.ndarray:
    """Return float64 [N], the probability of an age of `years` or above, with ages uniform inside each bucket.

    Args:
      probs: float [N, A], of buckets of ten years.
    """
    starts = 10 * np.arange(probs.shape[1])
    share = np.clip((starts + 10 - years) / 10, 0, 1)
    return (np.asarray(probs, np.float64) * share).sum(-1)  # as one row alone; a matrix product's last bits differ


def thresholds(probs: np.ndarray, age: np.ndarray, age_years: np.ndarray) -> dict[str, list[list[float | None]]]:
    """Return {"yes": [[threshold for each of ERRORS] for each of AGES], "no": likewise}; None where N is too small.

    Args:
      probs: float [N, A]; age: int [N, 2], first and last bucket; age_years: int [N], -1 where only the buckets are
        known.
    """
    youngest = np.where(age_years >= 0, age_years, 10 * age[:, 0])
    last = np.where(age[:, 1] == NUM_AGE_BUCKETS - 1, 1000, 10 * age[:, 1] + 9)
    oldest = np.where(age_years >= 0, age_years, last)
    table: dict[str, list[list[float | None]]] = {YES: [], NO: []}
    for years in AGES:
        p = probability(probs, years)
        below, above = np.sort(p[youngest < years]), np.sort(p[oldest >= years])
        table[YES].append([_at(below, int(np.ceil((len(below) + 1) * (1 - error) - 1e-9))) for error in ERRORS])
        table[NO].append([_at(above, int(np.floor((len(above) + 1) * error + 1e-9))) for error in ERRORS])
    return table


def decide(p: float, yes: float | None, no: float | None) -> str:
    """Return yes above the threshold for yes, no below that for no, else unsure; None is never reached."""
    is_yes, is_no = yes is not None and p > yes, no is not None and p < no
    if is_yes and is_no:  # between well separated sides
        return YES if p >= 0.5 else NO
    return YES if is_yes else NO if is_no else UNSURE


def row(table: dict[str, Any], years: int, max_error: float) -> tuple[float | None, float | None]:
    """Return the thresholds of yes and no for the largest of ERRORS that is at most `max_error`."""
    column = max(i for i, error in enumerate(ERRORS) if error <= max_error + 1e-12)
    index = AGES.index(years)
    return table[YES][index][column], table[NO][index][column]


def _at(values: np.ndarray, rank: int) -> float | None:
    return float(values[rank - 1]) if 1 <= rank <= len(values) else None
