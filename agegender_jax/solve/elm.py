"""The closed form of an extreme learning machine and of ridge regression (Huang et al. 2012):

    beta = (I / C + H^T H)^-1 H^T T,    T one-hot in {-1, 1}; a group of ages is 1 in each of its buckets.

H^T H and H^T T are summed batch by batch in float64, so memory grows with the number of units, not of examples. One
eigendecomposition H^T H = V diag(w) V^T gives beta for every C: V ((V^T H^T T) / (w + 1/C)).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from agegender_jax.solve import scores_to_logits
from agegender_jax.structs import Batch

LOG2_C = range(-20, 17, 2)
FLOOR = 1e-3  # of the largest deviation: units that are dead in training are not blown up


class Sums:
    """G = H^T H [L, L], R = H^T T [L, K] and the number of examples, of the batches so far, in float64."""

    def __init__(self) -> None:
        self.gram: Any = 0.0
        self.right: Any = 0.0
        self.count = 0

    def add(self, hidden: np.ndarray, targets: np.ndarray) -> None:
        """Add examples: H [B, L] and T [B, K]."""
        hidden = np.asarray(hidden, np.float64)
        self.gram = self.gram + hidden.T @ hidden
        self.right = self.right + hidden.T @ np.asarray(targets, np.float64)
        self.count += len(hidden)


class Solver:
    """beta [L, K] for any C, of sums."""

    def __init__(self, sums: Sums) -> None:
        self.values, self.vectors = np.linalg.eigh(sums.gram)
        self.values = np.maximum(self.values, 0)  # negative by rounding alone
        self.right = self.vectors.T @ sums.right

    def __call__(self, c: float) -> np.ndarray:
        return self.vectors @ (self.right / (self.values + 1 / c)[:, None])


def one_hot(age: np.ndarray, gender: np.ndarray, num_age_classes: int) -> np.ndarray:
    """Return 0 or 1 for the two genders and all buckets: int [N, 2], int [N] -> [N, 2 + A]."""
    bucket = np.arange(num_age_classes)
    right = (age[:, :1] <= bucket) & (bucket <= age[:, 1:])
    return np.concatenate([np.eye(2)[gender], right], 1).astype(np.float64)


def standardisation(features: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation [F] over all batches [B, F], the latter at least FLOOR times the largest."""
    count, total, squares = 0, np.zeros(()), np.zeros(())
    shift: Any = None
    for batch in features:
        batch = np.asarray(batch, np.float64)
        shift = batch[0] if shift is None else shift
        count, total, squares = (
            count + len(batch),
            total + (batch - shift).sum(0),
            squares + ((batch - shift) ** 2).sum(0),
        )
    deviation = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0))
    deviation = np.maximum(deviation, max(FLOOR * deviation.max(), 1e-12))
    return shift + total / count, deviation


def random_layer(key: int, units: int, mean: np.ndarray, deviation: np.ndarray, spread: float):
    """Return kernel [F, L] and bias [L] of sigmoid((x - mean) / deviation W + b), written as one layer of x.

    W is uniform in (-1, 1) times spread / sqrt(F), b in (-1, 1). Unscaled weights saturate every sigmoid.
    """
    draw = np.random.default_rng(key)
    kernel = draw.uniform(-1, 1, (len(mean), units)) * spread / np.sqrt(len(mean))
    bias = draw.uniform(-1, 1, units)
    kernel /= deviation[:, None]
    return kernel.astype(np.float32), (bias - mean @ kernel).astype(np.float32)


def select(sums: Sums, hidden: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Return beta [L, 2 + A], each head with the C and the factor that minimise the cross-entropy on held-out examples.

    Args:
      hidden: H [N, L] of the held-out examples.
      right: `one_hot` of their labels.

    Returns:
      beta, multiplied by the factors, and log2_c_age, factor_age, val_loss_age and the same for gender.
    """
    solver = Solver(sums)
    report: dict[str, float] = {}
    betas = {c: solver(2.0**c) for c in LOG2_C}
    parts = []
    for head, columns in (("gender", slice(0, 2)), ("age", slice(2, None))):
        fits = {c: scores_to_logits.factor(hidden @ beta[:, columns], right[:, columns]) for c, beta in betas.items()}
        best = min(fits, key=lambda c: fits[c][1])
        parts.append(betas[best][:, columns] * fits[best][0])
        report |= {f"log2_c_{head}": best, f"factor_{head}": fits[best][0], f"val_loss_{head}": fits[best][1]}
    return np.concatenate(parts, 1), report


def hidden_batches(
    hidden: Callable[[np.ndarray], Any], batches: Iterable[Batch], num_age_classes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield H [B, L] and `one_hot` [B, 2 + A] of each batch, without its padding.

    Args:
      hidden: uint8 images [B, S, S, 3] -> [B, L].
    """
    for batch in batches:
        real = np.asarray(batch.mask) > 0
        age, gender = np.asarray(batch.age)[real], np.asarray(batch.gender)[real]
        yield np.asarray(hidden(batch.image))[real], one_hot(age, gender, num_age_classes)
