"""The models of an evaluation: members, and the ensemble of them."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from agegender_jax import ensemble
from agegender_jax.structs import Probs

ENSEMBLE = "ensemble"


@dataclasses.dataclass(frozen=True)
class Member:
    """A net's predictions for N examples.

    Attributes:
      name: its name in the results.
      workdir: the folder of its run.
      step: of the checkpoint.
      parameters: number of parameters.
      probs: numpy Probs to be scored.
      gender_to_age: the gender input of its age head.
      bucket_years: mean age of each bucket in its train split, float [A]; None if unknown.
      temperatures: of age and gender, applied to `probs`; None if none were.
      raw: `probs` before the temperatures; None if none were applied.
      views: of an image, whose predictions `probs` averages; see `data.views`.
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
    views: str = "none"

    def calibrate(self, age_temperature: float, gender_temperature: float) -> "Member":
        """Return the member with the temperatures applied to both heads."""
        probs = _as_numpy(ensemble.calibrate(self.probs, age_temperature, gender_temperature))
        temperatures = (age_temperature, gender_temperature)
        return dataclasses.replace(self, probs=probs, temperatures=temperatures, raw=self.probs)


def ensemble_probs(members: Sequence[Member]) -> Probs:
    """Return the average of the members' probabilities; for a single member, its own."""
    return _as_numpy(ensemble.mean_probs([m.probs for m in members]))


def raw_ensemble_probs(members: Sequence[Member]) -> Probs | None:
    """Return `ensemble_probs` before any temperature; None if no member has one."""
    if not any(m.temperatures for m in members):
        return None
    return _as_numpy(ensemble.mean_probs([m.raw or m.probs for m in members]))


def bucket_years(members: Sequence[Member]) -> list[float] | None:
    """Return the mean of the members' bucket_years; None unless all are known."""
    years = [m.bucket_years for m in members]
    return None if any(y is None for y in years) else np.mean(years, 0).tolist()


def _as_numpy(probs: Probs) -> Probs:
    return Probs(np.asarray(probs.age), np.asarray(probs.gender))
