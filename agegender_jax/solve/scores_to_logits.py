"""Turn scores into logits: fit a factor, and for two classes an offset, on held-out examples."""

import numpy as np
from scipy.optimize import minimize, minimize_scalar

FACTORS = (-12.0, 12.0)  # logarithms


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean of -log of the summed probability of the correct classes.

    Args:
      logits: [N, K].
      targets: [N, K], 1 for each class that counts as correct.
    """
    shifted = logits - logits.max(1, keepdims=True)
    total = np.exp(shifted).sum(1)
    right = (np.exp(shifted) * (targets > 0)).sum(1)
    return float(np.mean(np.log(total) - np.log(np.maximum(right, 1e-300))))


def factor(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Return (a, cross-entropy) of the best a > 0 in softmax(a * scores): [N, K], [N, K]."""

    def loss(log_a: float) -> float:
        return cross_entropy(np.exp(log_a) * scores, targets)

    result = minimize_scalar(loss, bounds=FACTORS, method="bounded", options={"xatol": 1e-3})
    return float(np.exp(result.x)), float(result.fun)


def line(scores: np.ndarray, gender: np.ndarray) -> tuple[float, float]:
    """Return (a, c) of the logit a * score + c of class 1: [N], int [N]. As in Platt 1999, without smoothed targets."""
    targets = np.eye(2)[gender]

    def loss(x: np.ndarray) -> float:
        return cross_entropy(np.stack([np.zeros_like(scores), np.exp(x[0]) * scores + x[1]], 1), targets)

    a, c = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return float(np.exp(a)), float(c)
