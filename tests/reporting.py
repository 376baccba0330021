"""Predictions for random labels, and the parts of a report made from them."""

import copy
import functools

import numpy as np

from agegender_jax import evaluation, report
from agegender_jax.config import default
from agegender_jax.labels import age_bucket
from agegender_jax.structs import Probs

BUCKET_YEARS = [10 * b + 4.5 for b in range(12)]


def labels(count, seed=0):
    """Return years [N], age [N, 2], gender [N], race [N]."""
    rng = np.random.default_rng(seed)
    years = np.minimum(rng.gamma(2.2, 16, count), 95).astype(int)
    bucket = np.array([age_bucket(y) for y in years], int)
    race = rng.choice(5, count, p=(0.4, 0.2, 0.2, 0.15, 0.05))
    return years, np.stack([bucket] * 2, 1).reshape(-1, 2), rng.integers(0, 2, count), race


def member(name, age, gender, seed):
    """Return a member that is mostly correct and overconfident."""
    rng = np.random.default_rng(seed)
    distance = np.abs(np.arange(12) - (age[:, :1] + rng.normal(0, 0.7, (len(age), 1))))
    age_scores = np.exp(-1.6 * distance + rng.normal(0, 0.6, distance.shape))
    p = 1 / (1 + np.exp(-(2 * gender - 1) * rng.normal(2.4, 2, len(gender))))
    probs = Probs(
        (age_scores / age_scores.sum(1, keepdims=True)).astype(np.float32), np.stack([1 - p, p], 1).astype(np.float32)
    )
    raw = evaluation.Member(name, f"runs/{name}", 700, 1882710, probs, "probs", BUCKET_YEARS)
    return raw.calibrate(1.7, 1.2)


def results(members, years, age, gender, race, source="synthetic", split="test"):
    return evaluation.results(
        members,
        age,
        gender,
        race,
        age_years=years,
        age_text=[str(y) for y in years],
        split=split,
        source={"name": source, "fingerprint": "9b867f4213a8da6a" + "0" * 48},
        allow_leak=False,
    )


def run(name):
    """Return the run of a finished quickstart."""
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


@functools.cache
def evaluated(count, names):
    """Return the members and results of `count` images; the bootstrap takes a second."""
    years, age, gender, race = labels(count)
    members = [member(name, age, gender, i) for i, name in enumerate(names)]
    return members, results(members, years, age, gender, race)


def everything(count=600, names=("ran", "resnet"), source="synthetic", picture=None):
    """Return results, runs, examples and population of `count` images."""
    years, age, gender, _ = labels(count)
    members, scores = copy.deepcopy(evaluated(count, names))
    scores["source"]["name"] = source
    picture = picture or (lambda i: np.full((40, 30, 3), 7 * i % 256, np.uint8))
    examples = report.Examples(
        scores["models"][-1]["name"],
        evaluation.ensemble_probs(members),
        years,
        age,
        gender,
        picture,
        np.arange(count),
        np.array(BUCKET_YEARS),
    )
    people = report.Population(source, years, age, gender, np.ones(count, bool))
    return scores, [run(name) for name in names], examples, people
