"""Whether probabilities mean what they say, and the temperature that makes them do so.

Everything takes probs [N, K] and right, bool [N, K], the classes that count as right: one, or all of a range. A range
is taken for one class, whose probability is the sum of its members'.
"""

import numpy as np
import scipy.optimize

BINS = 15
LEAST = np.finfo(np.float32).tiny  # float32 softmax underflows to 0
ENOUGH = 30  # examples to fit a temperature
COLDEST, HOTTEST = 0.1, 10.0  # where all of val is right, or wrong, there is no minimum


def nll(probs: np.ndarray, right: np.ndarray) -> float | None:
    """Mean of -log sum_right p, nats."""
    return float(-np.log(np.maximum(_probability(probs, right), LEAST)).mean()) if len(probs) else None


def brier(probs: np.ndarray, right: np.ndarray) -> float | None:
    """Mean of (1 - sum_right p)^2 + sum_wrong p^2, squared distance to the one-hot label, in [0, 2] (Brier 1950)."""
    if not len(probs):
        return None
    wrong = np.where(right, 0, np.asarray(probs, np.float64))
    return float(((1 - _probability(probs, right)) ** 2 + (wrong**2).sum(-1)).mean())


def reliability(probs: np.ndarray, right: np.ndarray) -> list[dict]:
    """How often the most probable class is right, by its probability (Guo et al. 2017, arXiv 1706.04599).

    Returns:
      For each of BINS bins, ](i - 1) / BINS, i / BINS], {"n", "confidence", "accuracy"}; the means are None without n.
    """
    top = np.argmax(probs, -1)[:, None]
    confidence, hit = (np.take_along_axis(np.asarray(x, np.float64), top, -1)[:, 0] for x in (probs, right))
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    n = np.bincount(place, minlength=BINS)
    sums = (np.bincount(place, x, minlength=BINS) for x in (confidence, hit))
    return [
        {"n": int(c), "confidence": float(p / c) if c else None, "accuracy": float(a / c) if c else None}
        for c, p, a in zip(n, *sums, strict=True)
    ]


def ece(bins: list[dict]) -> float | None:
    """sum_bins n / N |accuracy - confidence| of what `reliability` gives."""
    total = sum(b["n"] for b in bins)
    return sum(b["n"] * abs(b["accuracy"] - b["confidence"]) for b in bins if b["n"]) / total if total else None


def measures(probs: np.ndarray, right: np.ndarray) -> dict[str, float | None]:
    """{"nll", "brier", "ece"}."""
    return {"nll": nll(probs, right), "brier": brier(probs, right), "ece": ece(reliability(probs, right))}


def fit_temperature(probs: np.ndarray, right: np.ndarray) -> float:
    """The T > 0 for which p^(1/T), normalised, that is softmax(logits / T), has the least `nll` (Guo et al. 2017).

    Searched between COLDEST and HOTTEST, over log T; 1.0 where no other is better.
    """
    logits = np.log(np.maximum(np.asarray(probs, np.float64), LEAST))

    def loss(log_t: float) -> float:
        scaled = logits * np.exp(-log_t)
        return float((_log_sum(scaled) - _log_sum(np.where(right, scaled, -np.inf))).mean())

    found = scipy.optimize.minimize_scalar(
        loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def _probability(probs: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.where(right, np.asarray(probs, np.float64), 0).sum(-1)


def _log_sum(logits: np.ndarray) -> np.ndarray:
    most = logits.max(-1, keepdims=True)
    return most[..., 0] + np.log(np.exp(logits - most).sum(-1))
