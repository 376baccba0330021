"""The closed form of an extreme learning machine and of ridge regression (Huang et al. 2012):

    beta = (I / C + H^T H)^-1 H^T T,    T one-hot in {-1, 1}; a group of ages is 1 in each of its buckets.

H^T H and H^T T are summed batch by batch in float64, so memory grows with the number of units, not of examples. One
eigendecomposition H^T H = V diag(w) V^T gives beta for every C: V ((V^T H^T T) / (w + 1/C)). The sums of the first
units alone are leading blocks of the sums of all, so one pass over the examples serves every number of units, too.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from agegender_jax.solve import scores_to_logits
from agegender_jax.structs import Batch

LOG2_C = range(-20, 17, 2)
UNITS = (250, 500, 1000)
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

    def first(self, units: int) -> "Sums":
        """Return the sums of the first units alone."""
        part = Sums()
        part.gram, part.right, part.count = self.gram[:units, :units], self.right[:units], self.count
        return part


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


def unit_counts(most: int) -> tuple[int, ...]:
    """Return the numbers of units to choose from: `most`, and those of UNITS that are smaller."""
    return (*(count for count in UNITS if count < most), most)


def random_layer(key: int, units: int, mean: np.ndarray, deviation: np.ndarray, spread: float):
    """Return kernel [F, L] and bias [L] of sigmoid((x - mean) / deviation W + b), written as one layer of x.

    W is uniform in (-1, 1) times spread / sqrt(F), b in (-1, 1). Unscaled weights saturate every sigmoid.
    """
    draw = np.random.default_rng(key)
    kernel = draw.uniform(-1, 1, (len(mean), units)) * spread / np.sqrt(len(mean))
    bias = draw.uniform(-1, 1, units)
    kernel /= deviation[:, None]
    return kernel.astype(np.float32), (bias - mean @ kernel).astype(np.float32)


def select(
    sums: Sums, hidden: np.ndarray, right: np.ndarray, units: Sequence[int] = ()
) -> tuple[np.ndarray, dict[str, float]]:
    """Return beta [L, 2 + A], each head with the constants that minimise the cross-entropy on held-out examples.

    The constants are C, a factor and the number of units; the rows of beta of further units are 0.

    Args:
      hidden: H [N, L] of the held-out examples.
      right: `one_hot` of their labels.
      units: numbers of units to choose from, at most L; empty for L alone.

    Returns:
      beta, multiplied by the factors, and units_age, log2_c_age, factor_age, val_loss_age and the same for gender.
    """
    report: dict[str, float] = {}
    parts = {"gender": slice(0, 2), "age": slice(2, None)}
    beta = np.zeros((hidden.shape[1], right.shape[1]))
    for count in units or (hidden.shape[1],):
        solver = Solver(sums.first(count))
        for log2_c in LOG2_C:
            solution = solver(2.0**log2_c)
            for head, columns in parts.items():
                scores = hidden[:, :count] @ solution[:, columns]
                factor, loss = scores_to_logits.factor(scores, right[:, columns])
                # not `<`, so that the report is complete if every loss is NaN
                if not loss >= report.get(f"val_loss_{head}", np.inf):
                    beta[:, columns] = 0
                    beta[:count, columns] = solution[:, columns] * factor
                    report |= {f"units_{head}": count, f"log2_c_{head}": log2_c}
                    report |= {f"factor_{head}": factor, f"val_loss_{head}": loss}
    return beta, report


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
