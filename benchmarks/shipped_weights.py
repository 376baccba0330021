"""Score the weights of the package on aligned chips with labels: accuracy, intervals, doubts, and groups of faces.

python -m benchmarks.fairface_split --source=aligned/fairface_10k,aligned/fairface_10k_25k --out=fairface_split.csv
python -m benchmarks.shipped_weights --source=aligned/fairface_10k,aligned/fairface_10k_25k \
    --splits=fairface_split.csv --split=held_out --name=...

The chips are those of `launch.align`. --splits is data.splits. A split is test, held_out (val and test,
never trained on; val chose the step and fitted the doubts) or all. Where the nets have an open last group of ages, such
as "70+", it is one group in predictions and labels, as in the predictions of `Predictor`. Writes a row to
results/shipped_weights.json, in place of one of the same name. --workdir compares nets, stored in 16 bits, with the
runs that they were written from.
"""

import dataclasses
import functools
import pathlib
import sys

import jax
import numpy as np
from absl import app, flags

from agegender_jax import Predictor, ensemble, evaluation, load, weights
from agegender_jax import config as config_lib
from agegender_jax.cli.exits import guard
from agegender_jax.labels import GENDERS, RACES
from agegender_jax.metrics.accuracy import range_name
from agegender_jax.metrics.intervals import wilson
from agegender_jax.prediction import intervals, minimum_age
from agegender_jax.run.dataset import load_dataset
from agegender_jax.run.host import ynnpack
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.workdir import provenance
from agegender_jax.structs import Probs
from benchmarks import machine, open_group, result_files

SOURCE = flags.DEFINE_string("source", None, "Aligned chips, as data.source.", required=True)
SPLIT = flags.DEFINE_enum("split", "all", ["test", "held_out", "all"], "Which images.")
SPLITS = flags.DEFINE_string("splits", "", "CSV with the split of each chip, as data.splits.")
NAME = flags.DEFINE_string("name", None, "Of the row.", required=True)
WORKDIR = flags.DEFINE_multi_string("workdir", [], "Run that a net was written from; repeat for several nets.")

COVERAGE, OTHER_COVERAGES, AGES, MAX_ERROR, BATCH_SIZE = 0.9, (0.5, 0.7, 0.8, 0.95, 0.99), (18, 25), 0.01, 64
NETS = weights.card(weights.DEFAULT).members
IN_GROUPS = ("n", "age_accuracy", "gender_accuracy", "aabd")
SCORES = ("age_accuracy", "adjacent_accuracy", "gender_accuracy", "gender_auc", "aabd", "age_mae")


def members(predictor, dataset, chosen):
    """Return an evaluation.Member for each net: calibrated probabilities of the chosen images."""
    scored = []
    for member in predictor.members:
        alone = Predictor(weights=member.name, detector="none", batch_size=BATCH_SIZE)
        probs = alone.probs({member.image_size: dataset.prepared.images(member.image_size)[chosen]})
        probs = Probs(open_group.join(probs.age, predictor.calibration.open_from), probs.gender)
        count = sum(leaf.size for leaf in jax.tree.leaves(member.variables["params"]))
        scored.append(evaluation.Member(member.name, "", 0, count, probs, member.config["model"]["gender_to_age"]))
    return scored


def doubts(calibration, probs, age, gender, age_years, race):
    """Return what intervals, `unsure` and `over` are worth on these images."""
    merged = intervals.merge_open(np.asarray(probs.age), calibration.open_from)
    last = merged.shape[1] - 1
    truth = np.minimum(age, last)

    def held_by(coverage):
        bounds = intervals.intervals(merged, calibration.rest(coverage))
        return (bounds[:, 0] <= truth[:, 1]) & (truth[:, 0] <= bounds[:, 1]), float((bounds @ (-1, 1) + 1).mean())

    held, width = held_by(COVERAGE)
    confidence, right = probs.gender.max(-1), probs.gender.argmax(-1) == gender
    sure = confidence >= calibration.unsure["threshold"]
    groups = {GENDERS[i]: gender == i for i in range(2)} | {RACES[i]: race == i for i in np.unique(race[race >= 0])}
    groups |= {range_name(a, b, probs.age.shape[1]): (age == (a, b)).all(-1) for a, b in np.unique(age, axis=0)}
    return {
        "coverage": {"promised": COVERAGE, "measured": _share(held), "groups": width},
        "other_coverages": {str(c): float(held_by(c)[0].mean()) for c in OTHER_COVERAGES},
        "coverage_by_group": {name: _share(held[of]) for name, of in groups.items()},
        "sure": {"share": _share(sure), "gender_accuracy": _share(right[sure])},
        "over": {years: _over(calibration, probs, age, age_years, years) for years in AGES},
    }


def _over(calibration, probs, age, age_years, years):
    p = minimum_age.probability(probs.age, years)
    thresholds = minimum_age.row(calibration.over, years, MAX_ERROR)
    decisions = np.array([minimum_age.decide(value, *thresholds) for value in p])
    below = np.where(age_years >= 0, age_years < years, 10 * age[:, 1] + 9 < years)
    above = np.where(age_years >= 0, age_years >= years, 10 * age[:, 0] >= years)
    return {
        "yes_below": _share(decisions[below] == minimum_age.YES),
        "no_above": _share(decisions[above] == minimum_age.NO),
        "unsure": _share(decisions == minimum_age.UNSURE),
    }


def _share(values):
    """Return {"value", "ci95", "n"} of booleans; None for none."""
    if not len(values):
        return None
    return {"value": float(np.mean(values)), "ci95": wilson(np.asarray(values, float)), "n": len(values)}


def by_storage(dataset, chosen):
    """Return for each net of --workdir how far its probabilities are from those of the run in float32."""
    differences = {}
    for run in WORKDIR.value:
        variables = load(run)[1]
        rounded = jax.tree.map(lambda leaf: np.asarray(leaf, np.float16).astype(np.float32), variables)
        predictors = (Predictor(weights=name, detector="none", batch_size=BATCH_SIZE) for name in NETS)
        (stored,) = (p for p in predictors if _equal(p.members[0].variables, rounded))  # the net of this run
        images = {stored.sizes[0]: dataset.prepared.images(stored.sizes[0])[chosen]}
        probs, open_from, (member,) = stored.probs(images), stored.calibration.open_from, stored.members
        stored.members = [dataclasses.replace(member, variables=jax.device_put(variables))]
        exact = stored.probs(images)
        pairs = {
            "age": [open_group.join(p.age, open_from) for p in (probs, exact)],
            "gender": (probs.gender, exact.gender),
        }
        differences[member.name] = {
            head: {"largest": float(np.abs(a - b).max()), "other_answers": int((a.argmax(-1) != b.argmax(-1)).sum())}
            for head, (a, b) in pairs.items()
        }
    return differences


def _equal(a, b):
    same = jax.tree.structure(a) == jax.tree.structure(b)
    return same and all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def mirrored(dataset, chosen, age, gender):
    """Return the scores of the mean over each image and its mirror image, and what `unsure` is worth there."""
    predictor = Predictor(detector="none", batch_size=BATCH_SIZE, views="flip")
    probs = predictor.probs({size: dataset.prepared.images(size)[chosen] for size in predictor.sizes})
    probs = Probs(open_group.join(probs.age, predictor.calibration.open_from), probs.gender)
    sure = probs.gender.max(-1) >= predictor.calibration.unsure["threshold"]
    right = probs.gender.argmax(-1) == gender
    scores = ensemble.evaluate([probs], age, gender)
    return scores | {"sure": {"share": _share(sure), "gender_accuracy": _share(right[sure])}}


def command():
    """Return the command with the names of the source's folders instead of their paths; those in aligned/ keep it."""
    parts = [pathlib.Path(part) for part in SOURCE.value.split(",")]
    names = ",".join(f"aligned/{part.name}" if part.parent.name == "aligned" else part.name for part in parts)
    splits = f" --splits={pathlib.Path(SPLITS.value).name}" if SPLITS.value else ""
    runs = "".join(f" --workdir=runs/{pathlib.Path(run).name}" for run in WORKDIR.value)
    options = f"--source={names}{splits} --split={SPLIT.value}{runs}"
    return f"python -m benchmarks.shipped_weights {options} --name='{NAME.value}'"


def main(_):
    ynnpack.avoid()  # as the commands do
    predictor = Predictor(detector="none")
    config = config_lib.default()
    config.data.source, config.data.splits = SOURCE.value, SPLITS.value
    with Progress() as progress:
        dataset = load_dataset(config, progress.prepare)
    splits = {"held_out": ("val", "test"), "test": ("test",), "all": ("train", "val", "test")}[SPLIT.value]
    faces, chosen = dataset.prepared, np.flatnonzero(np.isin(dataset.assignment, splits))
    scored = members(predictor, dataset, chosen)
    age, gender, race, years = (getattr(faces, name)[chosen] for name in ("age", "gender", "race", "age_years"))
    age = open_group.join_labels(age, predictor.calibration.open_from)
    probs = evaluation.ensemble_probs(scored)
    results = evaluation.results(
        scored, age, gender, race, age_years=years, age_text=[faces.age_text[i] for i in chosen], split=SPLIT.value,
        source={"name": faces.name, "fingerprint": faces.fingerprint}, allow_leak=False, group=faces.group[chosen],
    )  # fmt: skip
    groups = {
        kind: {name: {key: group[key] for key in IN_GROUPS} for name, group in results["groups"][kind].items()}
        for kind in ("gender", "race", "age")
    }
    row = {
        "name": NAME.value,
        **{key: results[key] for key in ("split", "n", "source", "majority")},
        "weights": {card.name: card.sha256 for card in predictor.cards if card.sha256},
        "models": [
            {"name": m["name"], **{s: m[s] for s in SCORES}, "ci95": m["ci95"]} for m in results["models"]
        ],
        "groups": groups,
        **doubts(predictor.calibration, probs, age, gender, years, race),
        "mirrored": mirrored(dataset, chosen, age, gender),
        **({"storage": by_storage(dataset, chosen)} if WORKDIR.value else {}),
        "made_by": provenance.made_by(sys.argv) | {"command": command(), "machine": machine.machine()},
    }  # fmt: skip
    path = result_files.RESULTS / "shipped_weights.json"
    rows = {old["name"]: old for old in (result_files.read("shipped_weights") if path.exists() else [])}
    result_files.write(path, [*(rows | {row["name"]: row}).values()])
    for model in row["models"]:
        print(model["name"], {name: model[name] for name in SCORES})
    print({key: row[key] for key in ("n", "coverage", "sure", "over", "mirrored", "storage") if key in row})


if __name__ == "__main__":
    app.run(lambda argv: guard(functools.partial(main, argv)))
