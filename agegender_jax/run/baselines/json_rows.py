"""The rows of baselines.json: scores with intervals, sizes and times of each system, and paired differences."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from agegender_jax import ensemble, metrics, models
from agegender_jax.errors import ConfigError
from agegender_jax.evaluation.members import ENSEMBLE
from agegender_jax.models import sizes
from agegender_jax.run.baselines import speed
from agegender_jax.run.baselines.systems import OTHER_SOURCE, REFERENCE, SYSTEMS, System
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.workdir import Workdir, finished_runs
from agegender_jax.structs import Probs

SCHEMA, FIT = 2, "fit.json"
OWN = ("ran56", "resnet18")  # members of the ensemble, this library's nets
HEAD_OF = {"age_accuracy": "age", "age_one_off": "age", "gender_accuracy": "gender", "aabd": "age"}
COMPARED = ("age_accuracy", "gender_accuracy", "aabd")


def results(systems: Sequence[System], folder: Workdir, dataset: Dataset, against: Sequence[Workdir]) -> dict:
    """Return a row for each finished system in `folder`, the ensemble of OWN, and the names of the other systems.

    Args:
      against: finished runs outside the table; every row is also compared with each of them and with their ensemble.
    """
    rows, predictions, missing = [], {}, []
    for system in systems:
        run = Workdir(folder.path / system.name)
        if system.name in OTHER_SOURCE:
            continue
        if not run.is_tested():
            missing.append(system.name)
            continue
        predictions[system.name] = finished_runs.predictions(run, dataset)
        rows.append(_row(system, run))
    if set(OWN) <= predictions.keys():
        predictions[ENSEMBLE] = ensemble.mean_probs([predictions[name] for name in OWN])
        members = [row for row in rows if row["name"] in OWN]
        rows.insert(len(OWN), _ensemble_row(members, predictions[ENSEMBLE], dataset))
    references = {name: predictions[name] for name in (REFERENCE, "ran56", ENSEMBLE) if name in predictions}
    references |= others(against, dataset)
    for row in rows:
        row["differences"] = {
            name: _difference(predictions[row["name"]], probs, row["heads"], dataset)
            for name, probs in references.items()
            if name != row["name"]
        }
    return {
        "schema": SCHEMA,
        "split": "test",
        "n": len(dataset.indices("test")),
        "source": {"name": dataset.prepared.name, "fingerprint": dataset.prepared.fingerprint},
        "references": list(references),
        "against": {run.path.name: _fields_of(run) for run in against},
        "missing": missing,
        "systems": rows,
    }


def others(against: Sequence[Workdir], dataset: Dataset) -> dict[str, Probs]:
    """Return the test predictions of finished runs by folder name; for several runs, also those of their ensemble.

    Raises:
      ConfigError: a run is not finished, has other images in its test split, or has trained only one head.
    """
    predictions: dict[str, Probs] = {}
    for run in against:
        fix = "name a finished run of the same data.source and data.split_seed or data.splits"
        config = run.read_config() if run.is_tested() else None
        if config is None:
            raise ConfigError("a run to compare with is not finished", f"--against={run.argument}", fix)
        if not all(config["loss"][f"{head}_weight"] for head in ("age", "gender")):
            raise ConfigError(
                "a run to compare with has only one head", f"--against={run.argument}", "name a run of both heads"
            )
        if run.path.name in predictions or run.path.name in (*(system.name for system in SYSTEMS), ENSEMBLE):
            raise ConfigError(f"two rows are called {run.path.name}", f"--against={run.argument}", "rename its folder")
        predictions[run.path.name] = finished_runs.predictions(run, dataset, fix)
    if len(predictions) > 1:
        predictions[" + ".join(predictions)] = ensemble.mean_probs(list(predictions.values()))
    return predictions


def _fields_of(run: Workdir) -> dict[str, Any]:
    config: dict = run.read_config() or {}
    return {
        "model": config["model"]["name"],
        "width": config["model"]["width"],
        "image_size": config["data"]["image_size"],
        "epochs": None if (run.path / FIT).exists() else config["num_epochs"],
        "allow_leak": finished_runs.saw_test_images(run),
    }


def _row(system: System, run: Workdir) -> dict[str, Any]:
    tested, fit = finished_runs.tested(run), run.path / FIT
    seconds = json.loads(fit.read_bytes())["seconds"] if fit.exists() else finished_runs.seconds(run)
    config: dict = run.read_config() or {}
    heads = [head for head in ("age", "gender") if config["loss"][f"{head}_weight"]]
    fields = _fields_of(run)
    of_prediction, multiply_adds = sizes.count(models.from_config(config["model"]), fields["image_size"])
    return {
        "name": system.name,
        "cites": system.cites,
        "differs": system.differs,
        "starts_from": system.starts_from or config.get("init_from") or "scratch",
        "heads": heads,
        **fields,
        "parameters": tested["parameters"],
        "prediction_parameters": of_prediction,
        "multiply_adds": multiply_adds,
        "seconds": seconds,
        "images_per_second": speed.read(run),
        **_scores(tested, heads),
    }


def _ensemble_row(members: Sequence[dict[str, Any]], probs: Probs, dataset: Dataset) -> dict[str, Any]:
    """Return the row of the ensemble, whose sizes and times are sums over its members, which run one after another."""
    faces, test = dataset.prepared, dataset.indices("test")
    probs = Probs(np.asarray(probs.age), np.asarray(probs.gender))
    (scored,) = metrics.scored([probs], [None], *dataset.targets("test"), faces.age_years[test], faces.group[test])
    totals = {name: sum(row[name] for row in members) for name in ("parameters", "multiply_adds", "seconds")}
    speeds = [row["images_per_second"] for row in members]
    heads = ["age", "gender"]
    return {
        "name": ENSEMBLE,
        "cites": "this library",
        "differs": f"mean of {' and '.join(OWN)}",
        "starts_from": "",
        "heads": heads,
        **totals,
        "images_per_second": round(1 / sum(1 / x for x in speeds), 1) if all(speeds) else None,
        **_scores(scored, heads),
    }


def _scores(scored: dict[str, Any], heads: Sequence[str]) -> dict[str, Any]:
    """Return the scores of the heads, and their intervals as ci95; None for the other head."""
    source = {name: "adjacent_accuracy" if name == "age_one_off" else name for name in HEAD_OF}
    sources = {name: source[name] for name, head in HEAD_OF.items() if head in heads}
    return {name: scored[sources[name]] if name in sources else None for name in HEAD_OF} | {
        "ci95": {name: scored["ci95"][of] for name, of in sources.items()}
    }


def _difference(a: Probs, b: Probs, heads: Sequence[str], dataset: Dataset) -> dict[str, Any]:
    """Return `metrics.compare` of a's outcomes with b's on the test split for each score of the heads."""
    labels, group = dataset.targets("test"), dataset.prepared.group[dataset.indices("test")]
    outcomes = [metrics.outcomes(np.asarray(p.age), np.asarray(p.gender), *labels) for p in (a, b)]
    return {
        name: metrics.compare(outcomes[0][name][None], outcomes[1][name][None], group)
        if HEAD_OF[name] in heads
        else None
        for name in COMPARED
    }
