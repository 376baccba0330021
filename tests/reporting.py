"""Answers to drawn labels, and a results dict with everything that a report can show."""

import numpy as np

from agegender_jax import report
from agegender_jax.config import default
from agegender_jax.labels import GENDERS, RACES, age_bucket
from agegender_jax.structs import Probs

BANDS = ("0-17", "18-29", "30-44", "45-59", "60+")
BUCKET_YEARS = [10 * b + 4.5 for b in range(12)]
EDGES = np.array([18, 30, 45, 60])


def labels(count, seed=0):
    """years [N], age [N, 2], gender [N], race [N]."""
    rng = np.random.default_rng(seed)
    years = np.minimum(rng.gamma(2.2, 16, count), 95).astype(int)
    bucket = np.array([age_bucket(y) for y in years], int)
    race = rng.choice(5, count, p=(0.4, 0.2, 0.2, 0.15, 0.05))
    return years, np.stack([bucket] * 2, 1).reshape(-1, 2), rng.integers(0, 2, count), race


def member(name, age, gender, seed):
    """A net that is right more often than not and too sure of itself."""
    rng = np.random.default_rng(seed)
    far = np.abs(np.arange(12) - (age[:, :1] + rng.normal(0, 0.7, (len(age), 1))))
    of_age = np.exp(-1.6 * far + rng.normal(0, 0.6, far.shape))
    p = 1 / (1 + np.exp(-(2 * gender - 1) * rng.normal(2.4, 2, len(gender))))
    probs = Probs(
        (of_age / of_age.sum(1, keepdims=True)).astype(np.float32), np.stack([1 - p, p], 1).astype(np.float32)
    )
    return report.Member(name, f"runs/{name}", 700, 1882710, probs, "probs")


def results(members, years, age, gender, race, source="synthetic", split="test"):
    """`report.results` and the fields that come with calibration, years and cells, computed the plain way."""
    found = report.results(
        members,
        age,
        gender,
        race,
        split=split,
        source={"name": source, "fingerprint": "9b867f4213a8da6a" + "0" * 48},
        allow_leak=False,
    )
    probs = [m.probs for m in members] + ([report.answers(members)] if len(members) > 1 else [])
    for model, p in zip(found["models"], probs, strict=True):
        model |= more_scores(p, years, age, gender)
        model["calibration"] = {
            "age": calibration(p.age.max(-1), p.age.argmax(-1) == age[:, 0], "members" in model),
            "gender": calibration(p.gender.max(-1), p.gender.argmax(-1) == gender, "members" in model),
        }
    found["calibrated"] = True
    for pair in found["paired"]:
        pair |= {name: {"difference": 0.01, "ci95": [-0.02, 0.04]} for name in ("adjacent_accuracy", "age_mae", "cs5")}
    add_groups(found["groups"], probs[-1], years, age, gender, race)
    return found


def more_scores(p, years, age, gender):
    away = np.abs(p.age.argmax(-1) - age[:, 0])
    error = np.abs(p.age @ np.array(BUCKET_YEARS) - years)
    values = {
        "adjacent_accuracy": np.mean(away <= 1) if len(years) else None,
        "age_mae": error.mean() if len(years) else None,
        "cs5": np.mean(error <= 5) if len(years) else None,
        "age_kappa": 0.8 if len(years) else None,
        "gender_balanced_accuracy": np.mean(p.gender.argmax(-1) == gender) if len(years) else None,
        "gender_auc": 0.95 if len(years) else None,
        "minors_as_adults": 0.25 if len(years) else None,
    }
    ends = {
        name: None if value is None else [float(value) * 0.95, float(value) * 1.02] for name, value in values.items()
    }
    numbers = {name: None if value is None else float(value) for name, value in values.items()}
    return numbers | {"n_minors": int((years < 18).sum()), "ci95": _ci(p, age, gender) | ends}


def _ci(p, age, gender):
    from agegender_jax import metrics

    return metrics.intervals(p.age, p.gender, age, gender)


def calibration(sure, right, is_ensemble):
    at = np.minimum((sure * 15).astype(int), 14)
    bins = [
        {
            "n": int((at == b).sum()),
            "confidence": float(sure[at == b].mean()) if (at == b).any() else None,
            "accuracy": float(right[at == b].mean()) if (at == b).any() else None,
        }
        for b in range(15)
    ]
    after = [row | {"accuracy": row["accuracy"] and 0.5 * (row["accuracy"] + row["confidence"])} for row in bins]
    return {
        "temperature": None if is_ensemble else 1.7,
        "before": {"nll": 1.05, "brier": 0.52, "ece": 0.085},
        "after": {"nll": 0.98, "brier": 0.5, "ece": 0.021},
        "reliability": {"before": bins, "after": after},
    }


def add_groups(groups, p, years, age, gender, race):
    from agegender_jax import metrics

    def row(of):
        told = (p.age[of], p.gender[of], age[of], gender[of])
        return {
            "n": int(of.sum()),
            "small": bool(of.sum() < 30),
            **metrics.scores(*told),
            "ci95": metrics.intervals(*told),
        }

    masks = {
        "gender": {name: gender == i for i, name in enumerate(GENDERS)},
        "race": {name: race == i for i, name in enumerate(RACES)},
        "age": {metrics.range_name(*r): (age == r).all(-1) for r in np.unique(age, axis=0)},
    }
    for kind, named in masks.items():
        groups[kind] = {name: row(of) for name, of in named.items() if of.any()}
    band = np.searchsorted(EDGES, years, "right")
    groups["cells"] = [
        {"age": BANDS[b], "gender": GENDERS[g], "race": RACES[r]} | row(of)
        for b in range(5)
        for g in range(2)
        for r in range(5)
        if (of := (band == b) & (gender == g) & (race == r)).any()
    ]
    gap = {"largest": 0.123, "between": ["male", "female"]}
    groups["gaps"] = {
        kind: {"age_accuracy": gap, "gender_accuracy": gap, "aabd": None} for kind in ("gender", "race", "age", "cells")
    }


def run(name):
    """The facts of a finished quickstart."""
    config = default()
    config.update({"num_epochs": 7})
    config.data.source = "synthetic:6000"
    rows = [
        {
            "step": 100 * e,
            "epoch": float(e),
            "split": split,
            "loss": 3 / e + (split == "val") * 0.1,
            "age_accuracy": 0.6 - 0.5 / e,
            "gender_accuracy": 0.9 - 0.4 / e,
            "images_per_second": 400.0,
        }
        for e in range(1, 8)
        for split in ("train", "val")
    ]
    return report.Run(
        name,
        700,
        config.to_dict(),
        {
            "command": ["/somewhere/launch/train.py", "--config=configs/quickstart.py:ran", f"--workdir=runs/{name}"],
            "started": "2026-01-02T03:04:05+00:00",
            "versions": {"python": "3.11.7", "jax": "0.10.2", "torch": None},
            "devices": {"platform": "cpu", "kind": "cpu", "count": 1, "processes": 1},
            "git_revision": "f" * 40,
            "source": {"name": "synthetic", "fingerprint": "9b867f4213a8da6a" + "0" * 48},
            "starts": [{}],
        },
        {"train": 4800, "val": 600, "test": 600},
        rows,
        {"age_temperature": 1.7, "gender_temperature": 1.2, "n": 600, "bucket_years": BUCKET_YEARS},
    )


def everything(count=600, names=("ran", "resnet"), source="synthetic", picture=None):
    """members, results, runs, examples and people of `count` images."""
    years, age, gender, race = labels(count)
    members = [member(name, age, gender, i) for i, name in enumerate(names)]
    found = results(members, years, age, gender, race, source)
    picture = picture or (lambda i: np.full((40, 30, 3), 7 * i % 256, np.uint8))
    examples = report.Examples(
        found["models"][-1]["name"], report.answers(members), years, age, gender, picture, np.array(BUCKET_YEARS)
    )
    people = report.Population(source, years, age, gender, np.ones(count, bool))
    return found, [run(name) for name in names], examples, people
