"""Calibration: whether probabilities match observed frequencies, and the temperature that makes them match.

All functions take probs [N, K] and right, bool [N, K], the classes that count as correct: one, or all of a range. A
range is treated as one class, whose probability is the sum of its members', by NLL, Brier score and temperatures. For
the ECE and the reliability diagram, the confidence is that of the most probable class alone, so the ECE of labels that
are ranges is too high, unless an open last group has been joined (`metrics.join_open_group`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from agegender_jax import array_checks
from agegender_jax.metrics.intervals import from_weights, weighted_sums, wilson

MEASURES = ("nll", "brier", "ece")
BINS = 15
LEAST = float(np.finfo(np.float32).tiny)  # float32 softmax underflows to 0
ENOUGH = 30  # examples to fit a temperature
COLDEST, HOTTEST = 0.1, 10.0  # where all of val is right, or wrong, there is no minimum


def nll(probs: np.ndarray, right: np.ndarray) -> float | None:
    """Return the mean of -log sum_right p in nats; None without examples."""
    _check(probs, right)
    return float(_nll(probs, right).mean()) if len(probs) else None


def reliability(probs: np.ndarray, right: np.ndarray, group: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Return how often the most probable class is right, by its probability (Guo et al. 2017, arXiv 1706.04599).

    Args:
      probs, right: both [N, K]. group: int [N], see `intervals`.

    Returns:
      For each of BINS bins, ](i - 1) / BINS, i / BINS], {"n", "confidence", "accuracy", "ci95"}, the last for the
        accuracy; all but n are None in an empty bin.
    """
    _check(probs, right)
    bin_index, confidence, hit = _binned(probs, right)
    rows = []
    for members in (np.flatnonzero(bin_index == i) for i in range(BINS)):
        means = [float(x[members].mean()) if len(members) else None for x in (confidence, hit)]
        interval = wilson(hit[members], None if group is None else np.asarray(group)[members])
        rows.append({"n": len(members), "confidence": means[0], "accuracy": means[1], "ci95": interval})
    return rows


def scored(
    stages: Mapping[str, np.ndarray | None], right: np.ndarray, group: np.ndarray | None = None
) -> dict[str, dict[str, Any] | None]:
    """Return how far probabilities "before" and "after" a temperature are from the labels, and the change.

    nll: see `nll`. brier: mean of (1 - sum_right p)^2 + sum_wrong p^2, squared distance to the one-hot label, in [0, 2]
    (Brier 1950). ece: sum_bins n / N |accuracy - confidence| over the bins of `reliability`.

    Args:
      stages: both [N, K]; after may be None. group: int [N], see `intervals`.

    Returns:
      Each stage as {measure: float, "ci95": {measure: [low, high]}}, None where it has no probabilities; "change",
      after minus before, {measure: {"difference", "ci95"}}, or None. All intervals are by the bootstrap over examples.
      ECE and its change have none (their `ci95` is missing or None): a sample biases ECE upwards, and resampling once
      more, the more so the better the calibration, so that intervals would seldom contain the true value.
    """
    columns = {}
    for stage in ("before", "after"):
        if (probs := stages[stage]) is not None:
            _check(probs, right)
            columns[stage] = _columns(probs, right)
    known = list(columns)

    def statistic(weights: np.ndarray) -> np.ndarray:
        means = [_means(weights, *columns[stage]) for stage in known]
        return np.concatenate([*means, *(after - means[0] for after in means[1:])], -1)

    rows = from_weights(len(right), statistic, group) or [(None, None)] * (len(MEASURES) * (2 * len(known) - 1))
    parts = [dict(zip(MEASURES, rows[i:], strict=False)) for i in range(0, len(rows), len(MEASURES))]
    rows_by_stage: dict[str, dict[str, Any] | None] = {"before": None, "after": None, "change": None}
    for stage, part in zip(known, parts, strict=False):
        values = {name: value for name, (value, _) in part.items()}
        rows_by_stage[stage] = values | {"ci95": {name: part[name][1] for name in ("nll", "brier")}}
    for part in parts[len(known) :]:
        rows_by_stage["change"] = {
            name: {"difference": value, "ci95": None if name == "ece" else ci95} for name, (value, ci95) in part.items()
        }
    return rows_by_stage


def fit_temperature(probs: np.ndarray, right: np.ndarray) -> float:
    """Return the T > 0 for which softmax(logits / T), p^(1/T) normalised, has the lowest `nll` (Guo et al. 2017).

    One further example, for which all classes are equally likely, keeps T from collapsing if every example is right, as
    few examples may be. The search is over log T between COLDEST and HOTTEST; 1.0 if no other value is better.
    """
    _check(probs, right)
    import scipy.optimize  # takes half a second, at each start of a program if it were above

    logits = _logits(probs)

    def loss(log_t: float) -> float:
        scaled = logits / np.exp(log_t)
        unknown = _log_sum(scaled) - scaled.mean(-1)
        return float(_scaled_nll(logits, right, np.exp(log_t)).mean() + unknown.mean() / len(logits))

    minimum = scipy.optimize.minimize_scalar(
        loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(minimum.x)) if minimum.fun < loss(0.0) else 1.0


def calibrated_nll(probs: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Return the lowest `nll` over all temperatures, and that temperature, which is 1.0 for fewer than ENOUGH examples.

    This value is lower for a net that is more accurate but over-confident. N must not be 0.
    """
    _check(probs, right)
    temperature = fit_temperature(probs, right) if len(probs) >= ENOUGH else 1.0
    return float(_scaled_nll(_logits(probs), right, temperature).mean()), temperature


def _check(probs: np.ndarray, right: np.ndarray) -> None:
    array_checks.check(probs=(probs, "float N K"), right=(right, "bool N K"))


def _columns(probs: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return NLL and Brier score [N, 2], and hit minus confidence of each example in its bin's column [N, BINS]."""
    bin_index, confidence, hit = _binned(probs, right)
    excess = np.zeros((len(bin_index), BINS))
    excess[np.arange(len(bin_index)), bin_index] = hit - confidence
    return np.stack([_nll(probs, right), _brier(probs, right)], -1), excess


def _means(weights: np.ndarray, scores: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Return the MEASURES of weighted examples: [b, N] -> [b, 3]."""
    ece = np.abs(weighted_sums(weights, excess)).sum(-1, keepdims=True)
    return np.concatenate([weighted_sums(weights, scores), ece], -1) / weights.sum(-1, keepdims=True)


def _binned(probs: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the bin of each example's most probable class, its probability, and whether it is right."""
    top = np.argmax(probs, -1)[:, None]
    confidence, hit = (np.take_along_axis(np.asarray(x, np.float64), top, -1)[:, 0] for x in (probs, right))
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1), confidence, hit


def _nll(probs: np.ndarray, right: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum(_probability(probs, right), LEAST))


def _brier(probs: np.ndarray, right: np.ndarray) -> np.ndarray:
    wrong = np.where(right, 0, np.asarray(probs, np.float64))
    return (1 - _probability(probs, right)) ** 2 + (wrong**2).sum(-1)


def _logits(probs: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probs, np.float64), LEAST))


def _scaled_nll(logits: np.ndarray, right: np.ndarray, temperature: float) -> np.ndarray:
    """Return -log sum_right softmax(logits / temperature), [N]."""
    scaled = logits / temperature
    return _log_sum(scaled) - _log_sum(np.where(right, scaled, -np.inf))


def _probability(probs: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.where(right, np.asarray(probs, np.float64), 0).sum(-1)


def _log_sum(logits: np.ndarray) -> np.ndarray:
    most = logits.max(-1, keepdims=True)
    return most[..., 0] + np.log(np.exp(logits - most).sum(-1))
