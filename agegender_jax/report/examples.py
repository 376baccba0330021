"""What the figures are drawn from."""

import dataclasses
from collections.abc import Callable
from functools import cached_property

import numpy as np

from agegender_jax import metrics
from agegender_jax.labels import GENDERS
from agegender_jax.structs import Probs


@dataclasses.dataclass(frozen=True)
class Population:
    """The labels of all M images of a source.

    Attributes:
      name: of the source.
      years: int [M], -1 where only a group is known. age: int [M, 2]; gender: int [M].
      scored: bool [M], the images that were evaluated.
    """

    name: str
    years: np.ndarray
    age: np.ndarray
    gender: np.ndarray
    scored: np.ndarray


@dataclasses.dataclass(frozen=True)
class Examples:
    """N evaluated images and the answers to them.

    Attributes:
      name: of the model that answered. probs: its numpy Probs.
      years: int [N], -1 where only a group is known. age: int [N, 2], first and last right bucket; gender: int [N].
      picture: gives an example's image, uint8 RGB [H, W, 3].
      bucket_years: float [A], mean age of each bucket, or None where it is not known.
    """

    name: str
    probs: Probs
    years: np.ndarray
    age: np.ndarray
    gender: np.ndarray
    picture: Callable[[int], np.ndarray]
    bucket_years: np.ndarray | None = None

    @cached_property
    def bucket(self) -> np.ndarray:
        return self.probs.age.argmax(-1)

    @cached_property
    def answer(self) -> np.ndarray:
        return self.probs.gender.argmax(-1)

    @cached_property
    def age_right(self) -> np.ndarray:
        return metrics.nearest_bucket(self.bucket, self.age) == self.bucket

    def label(self, i: int) -> str:
        """ "female 34" where years are known, else "female 30-39"."""
        return f"{GENDERS[self.gender[i]]} {self.age_text(i)}"

    def age_text(self, i: int) -> str:
        return str(self.years[i]) if self.years[i] >= 0 else metrics.range_name(*self.age[i])

    def across_ages(self, count: int) -> np.ndarray:
        """At most `count` examples, youngest label first, at even distances in the order of the ages."""
        return spread(np.lexsort((self.years, self.age[:, 0])), count)


def spread(where: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the places, at even distances."""
    return where[np.unique(np.linspace(0, len(where) - 1, count, dtype=int))] if len(where) else where
