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
    """Return (a, cross-entropy) of the best a > 0 in softmax(a * scores): [N, K], [N, K].

    One further example, for which all classes are equally likely, keeps a finite if every example is correct.
    """

    def loss(log_a: float) -> float:
        logits = np.exp(log_a) * scores
        shifted = logits - logits.max(1, keepdims=True)
        unknown = np.log(np.exp(shifted).sum(1)) - shifted.mean(1)
        return cross_entropy(logits, targets) + float(unknown.mean()) / len(scores)

    found = minimize_scalar(loss, bounds=FACTORS, method="bounded", options={"xatol": 1e-3}).x
    return float(np.exp(found)), cross_entropy(np.exp(found) * scores, targets)


def line(scores: np.ndarray, gender: np.ndarray) -> tuple[float, float]:
    """Return (a, c), a > 0, of the logit a * score + c of class 1: [N], int [N].

    As in Platt 1999: with n examples of a class, their target is (n + 1) / (n + 2), so that a stays finite if a
    threshold separates them. Without an example of a class, (1, 0).
    """
    counts = np.bincount(gender, minlength=2)
    if not counts.all():
        return 1.0, 0.0
    of_class_0, of_class_1 = (counts + 1) / (counts + 2)
    target = np.where(gender == 1, of_class_1, 1 - of_class_0)

    def loss(x: np.ndarray) -> float:
        logit = np.exp(x[0]) * scores + x[1]
        return float(np.mean(np.logaddexp(0, logit) - target * logit))

    a, c = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return float(np.exp(a)), float(c)
