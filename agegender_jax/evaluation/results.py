"""results.json: every member alone, the ensemble of all, their paired differences, and groups."""

import itertools
from collections.abc import Sequence

import numpy as np

from agegender_jax import metrics
from agegender_jax.evaluation.members import ENSEMBLE, Member, bucket_years, ensemble_probs, raw_ensemble_probs
from agegender_jax.labels import AGE_BUCKETS
from agegender_jax.structs import Probs

SCHEMA = 1


def results(
    members: Sequence[Member],
    age: np.ndarray,
    gender: np.ndarray,
    race: np.ndarray,
    *,
    age_years: np.ndarray,
    age_text: Sequence[str],
    split: str,
    source: dict,
    allow_leak: bool,
    group: np.ndarray | None = None,
) -> dict:
    """Return results.json as a dict.

    Args:
      members: their probs are of the same N examples.
      age: int [N, 2]; gender, race: int [N].
      age_years: int [N], -1 where unknown; age_text: [N], the labels as text.
      group: int [N], equal for near-duplicates, which intervals treat as one unit; None if all are independent.
      source: its name and fingerprint.
    """
    facts = [
        {name: getattr(m, name) for name in ("name", "workdir", "step", "parameters", "gender_to_age", "views")}
        for m in members
    ]
    probs, raw = [m.probs for m in members], [m.raw for m in members]
    years, temperatures = [m.bucket_years for m in members], [m.temperatures for m in members]
    pairs = []
    if len(members) > 1:
        facts.append({"name": ENSEMBLE, "members": [m.name for m in members]})
        probs, raw = [*probs, ensemble_probs(members)], [*raw, raw_ensemble_probs(members)]
        years, temperatures = [*years, bucket_years(members)], [*temperatures, None]
        pairs = [(len(members), i) for i in range(len(members))]  # the ensemble first
        pairs += itertools.combinations(range(len(members)), 2)
    scored = metrics.scored(probs, years, age, gender, age_years, group)
    paired = metrics.paired(probs, years, pairs, age, gender, age_years, group)
    group_of = metrics.group_indices(group, len(gender))
    bands = metrics.age_bands(age_years, age_text)
    return {
        "schema": SCHEMA,
        "split": split,
        "n": len(gender),
        "source": source,
        "age_buckets": list(AGE_BUCKETS),
        "allow_leak": allow_leak,
        "calibrated": any(temperatures),
        "intervals": {"unit": "group of near-duplicates", "n": len(np.unique(group_of))},
        "majority": metrics.majority(age, gender),
        "models": [
            {
                **facts[i],
                "collapsed": metrics.collapsed(probs[i].age, probs[i].gender, age, gender, half_done=True),
                **scored[i],
                "calibration": _calibration(probs[i], raw[i], temperatures[i], age, gender, group),
            }
            for i in range(len(facts))
        ],
        "paired": [
            {"a": facts[i]["name"], "b": facts[j]["name"]} | row for (i, j), row in zip(pairs, paired, strict=True)
        ],
        "groups": metrics.by_group(probs[-1].age, probs[-1].gender, age, gender, race, bands, group),
    }


def _calibration(
    probs: Probs,
    raw: Probs | None,
    temperatures: tuple[float, float] | None,
    age: np.ndarray,
    gender: np.ndarray,
    group: np.ndarray | None,
) -> dict:
    """Return the calibration of both heads before the temperatures (`raw`) and after, and the change.

    "after" and "change" are None where there are no temperatures.
    """
    before, after = (probs, None) if raw is None else (raw, probs)
    right = {
        "age": metrics.right_ages(age, probs.age.shape[1]),
        "gender": metrics.right_genders(gender, probs.gender.shape[1]),
    }
    heads = {}
    for head, temperature in zip(right, temperatures or (None, None), strict=True):
        stages = {"before": getattr(before, head), "after": getattr(after, head, None)}
        if head == "age":
            stages = {stage: p if p is None else metrics.join_open_group(p, age) for stage, p in stages.items()}
        heads[head] = {
            "temperature": temperature,
            **metrics.calibration.scored(stages, right[head], group),
            "reliability": {
                stage: None if p is None else metrics.calibration.reliability(p, right[head], group)
                for stage, p in stages.items()
            },
        }
    return heads


def rows(results: dict) -> list[tuple[str, str, str, str, str]]:
    """Return the models of a results dict as text: name, parameters, and each score with its interval."""
    table = []
    for model in results["models"]:
        parameters = f"{model['parameters']:,}" if "parameters" in model else " + ".join(model["members"])
        table.append((model["name"], parameters, *(_cell(model, name) for name in metrics.SCORES)))
    return table


def details(results: dict) -> list[tuple[str, ...]]:
    """Return more of the models as text: name, age_mae, cs5, adjacent_accuracy, gender_auc, and both heads' ECE."""
    scores = (("age_mae", 2), ("cs5", 3), ("adjacent_accuracy", 3), ("gender_auc", 3))
    return [
        (
            model["name"],
            *(_number(model[name], digits) for name, digits in scores),
            *(_before_and_after(model["calibration"][head], "ece") for head in ("age", "gender")),
        )
        for model in results["models"]
    ]


def _cell(model: dict, name: str) -> str:
    if model[name] is None:
        return "n/a"
    low, high = model["ci95"][name]
    return f"{model[name]:.3f} [{low:.3f}, {high:.3f}]"


def _number(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def _before_and_after(head: dict, measure: str) -> str:
    values = [_number(head[stage][measure]) for stage in ("before", "after") if head[stage]]
    return " -> ".join(values)
