"""The models of an evaluation: members, and the ensemble of them."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from agegender_jax import ensemble
from agegender_jax.structs import Probs

ENSEMBLE = "ensemble"


@dataclasses.dataclass(frozen=True)
class Member:
    """A net's answers to N examples.

    Attributes:
      name: as in the results; workdir: where it was trained; probs: numpy Probs, what is scored.
      gender_to_age: what its age head is fed.
      bucket_years: the mean age of each bucket where it was trained, float [A]; None where unknown.
      temperatures: of age and gender, that `probs` have been given; None where none.
      raw: what `probs` were before that.
    """

    name: str
    workdir: str
    step: int
    parameters: int
    probs: Probs
    gender_to_age: str
    bucket_years: Sequence[float] | None = None
    temperatures: tuple[float, float] | None = None
    raw: Probs | None = None

    def calibrate(self, age_temperature: float, gender_temperature: float) -> "Member":
        """With the temperatures applied to both heads."""
        probs = _as_numpy(ensemble.calibrate(self.probs, age_temperature, gender_temperature))
        temperatures = (age_temperature, gender_temperature)
        return dataclasses.replace(self, probs=probs, temperatures=temperatures, raw=self.probs)


def answers(members: Sequence[Member]) -> Probs:
    """The last model's probabilities: the ensemble's, or the only member's."""
    return _mean([m.probs for m in members])


def raw_answers(members: Sequence[Member]) -> Probs | None:
    """`answers` before any temperature; None where no member has one."""
    return _mean([m.raw or m.probs for m in members]) if any(m.temperatures for m in members) else None


def bucket_years(members: Sequence[Member]) -> list[float] | None:
    """The mean of the members' bucket_years; None unless all know theirs."""
    years = [m.bucket_years for m in members]
    return None if any(y is None for y in years) else np.mean(years, 0).tolist()


def _mean(members: Sequence[Probs]) -> Probs:
    return _as_numpy(ensemble.mean_probs(members))


def _as_numpy(probs: Probs) -> Probs:
    return Probs(np.asarray(probs.age), np.asarray(probs.gender))
