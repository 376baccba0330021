"""Data that the figures show."""

import dataclasses
from collections.abc import Callable
from functools import cached_property

import numpy as np

from agegender_jax import metrics
from agegender_jax.labels import GENDERS
from agegender_jax.structs import Probs
from agegender_jax.subsets import evenly_spaced


@dataclasses.dataclass(frozen=True)
class Population:
    """Labels of all M images of a source.

    Attributes:
      name: of the source.
      years: int [M], -1 where only an age group is known.
      age: int [M, 2], first and last correct bucket.
      gender: int [M].
      scored: bool [M], whether the image was evaluated.
    """

    name: str
    years: np.ndarray
    age: np.ndarray
    gender: np.ndarray
    scored: np.ndarray


@dataclasses.dataclass(frozen=True)
class Examples:
    """N evaluated images with the predictions of a model.

    Attributes:
      name: of the model.
      probs: its predictions, NumPy.
      years: int [N], -1 where only an age group is known.
      age: int [N, 2], first and last correct bucket.
      gender: int [N].
      picture: returns the image of an example, uint8 RGB [H, W, 3].
      group: int [N], equal for near-duplicates, which intervals treat as one unit.
      bucket_years: float [A], mean age of each bucket, or None if it is unknown.
    """

    name: str
    probs: Probs
    years: np.ndarray
    age: np.ndarray
    gender: np.ndarray
    picture: Callable[[int], np.ndarray]
    group: np.ndarray
    bucket_years: np.ndarray | None = None

    @cached_property
    def predicted_bucket(self) -> np.ndarray:
        """int [N]"""
        return metrics.predicted_bucket(self.probs.age, self.age)

    @cached_property
    def predicted_gender(self) -> np.ndarray:
        """int [N]"""
        return np.asarray(self.probs.gender).argmax(-1)

    @cached_property
    def age_correct(self) -> np.ndarray:
        """bool [N]"""
        return metrics.nearest_bucket(self.predicted_bucket, self.age) == self.predicted_bucket

    def label(self, i: int) -> str:
        """Return "female 34" if years are known, else "female 30-39"."""
        return f"{GENDERS[self.gender[i]]} {self.age_text(i)}"

    def age_text(self, i: int) -> str:
        """Return the age in the label: years if they are known, else the age group."""
        return str(self.years[i]) if self.years[i] >= 0 else metrics.range_name(*self.age[i])

    def across_ages(self, count: int) -> np.ndarray:
        """Return the indices of at most `count` examples, evenly spaced when sorted by age, youngest first."""
        order = np.lexsort((self.years, self.age[:, 0]))
        return order[evenly_spaced(len(order), count)]
