"""results.json: every member alone, the ensemble of all, their paired differences, and groups."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from agegender_jax import ensemble, metrics
from agegender_jax.labels import AGE_BUCKETS
from agegender_jax.structs import Probs

SCHEMA = 1
ENSEMBLE = "ensemble"


@dataclasses.dataclass(frozen=True)
class Member:
    """A net's answers to N examples.

    Attributes:
      name: as in the results; workdir: where it was trained; probs: numpy Probs.
      gender_to_age: what its age head is fed.
    """

    name: str
    workdir: str
    step: int
    parameters: int
    probs: Probs
    gender_to_age: str


def answers(members: Sequence[Member]) -> Probs:
    """The last model's probabilities: the ensemble's, or the only member's."""
    averaged = ensemble.mean_probs([m.probs for m in members])
    return Probs(np.asarray(averaged.age), np.asarray(averaged.gender))


def results(
    members: Sequence[Member],
    age: np.ndarray,
    gender: np.ndarray,
    race: np.ndarray,
    *,
    split: str,
    source: dict,
    allow_leak: bool,
) -> dict:
    """results.json as a dict.

    Args:
      members: their probs are of the same N examples.
      age: int [N, 2]; gender, race: int [N].
      source: its name and fingerprint.
    """
    last = answers(members)
    models = [
        {"name": m.name, "workdir": m.workdir, "step": m.step, "parameters": m.parameters}
        | {"gender_to_age": m.gender_to_age}
        | _scores(m.probs, age, gender)
        for m in members
    ]
    paired = []
    if len(members) > 1:
        models.append({"name": ENSEMBLE, "members": [m.name for m in members]} | _scores(last, age, gender))
        paired = [{"a": ENSEMBLE, "b": m.name} | metrics.paired_difference(last, m.probs, age, gender) for m in members]
    return {
        "schema": SCHEMA,
        "split": split,
        "n": len(gender),
        "source": source,
        "age_buckets": list(AGE_BUCKETS),
        "allow_leak": allow_leak,
        "majority": metrics.majority(age, gender),
        "models": models,
        "paired": paired,
        "groups": metrics.by_group(last.age, last.gender, age, gender, race),
    }


def _scores(probs: Probs, age: np.ndarray, gender: np.ndarray) -> dict:
    told = (probs.age, probs.gender, age, gender)
    return {
        "collapsed": metrics.collapsed(*told, half_done=True),
        **metrics.scores(*told),
        "ci95": metrics.intervals(*told),
    }


def rows(found: dict) -> list[tuple[str, str, str, str, str]]:
    """The models of a results dict as text: name, parameters, and each score with its interval."""
    table = []
    for model in found["models"]:
        parameters = f"{model['parameters']:,}" if "parameters" in model else " + ".join(model["members"])
        table.append((model["name"], parameters, *(_cell(model, name) for name in metrics.SCORES)))
    return table


def _cell(model: dict, name: str) -> str:
    if model[name] is None:
        return "n/a"
    low, high = model["ci95"][name]
    return f"{model[name]:.3f} [{low:.3f}, {high:.3f}]"
