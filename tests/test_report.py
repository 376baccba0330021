import csv
import io

import numpy as np
import pytest

from agegender_jax import report
from agegender_jax.labels import AGE_BUCKETS
from agegender_jax.structs import Probs

N = 24
AGE = np.stack([np.arange(N) % 12] * 2, 1)
GENDER, RACE = np.arange(N) % 2, np.arange(N) % 5
SCORES = {"age_accuracy", "gender_accuracy", "aabd"}


def member(name, seed, count=N):
    rng = np.random.default_rng(seed)
    probs = Probs(rng.dirichlet(np.ones(12), count).astype(np.float32), rng.dirichlet(np.ones(2), count).astype("f4"))
    return report.Member(name, f"runs/{name}", 7, 1234, probs, "probs")


def results(members, count=N, source="faces"):
    return report.results(
        members,
        AGE[:count],
        GENDER[:count],
        RACE[:count],
        split="test",
        source={"name": source, "fingerprint": "f" * 64},
        allow_leak=False,
    )


def test_results_of_one_member_have_the_promised_form():
    found = results([member("ran", 0)])
    assert (found["schema"], found["split"], found["n"], found["allow_leak"]) == (1, "test", N, False)
    assert found["age_buckets"] == list(AGE_BUCKETS)
    (model,) = found["models"]
    assert set(model) == {"name", "workdir", "step", "parameters", "gender_to_age", "collapsed", "ci95"} | SCORES
    for name in SCORES:
        low, high = model["ci95"][name]
        assert low <= model[name] <= high
    assert set(found["groups"]) == {"gender", "race", "age"}
    assert set(found["groups"]["gender"]["female"]) == {"n"} | SCORES
    assert sum(group["n"] for group in found["groups"]["race"].values()) == N


def test_the_ensemble_stands_last_and_averages():
    members = [member("ran", 0), member("resnet", 1)]
    found = results(members)
    assert [model["name"] for model in found["models"]] == ["ran", "resnet", "ensemble"]
    assert found["models"][-1]["members"] == ["ran", "resnet"]
    averaged = (members[0].probs.age + members[1].probs.age) / 2
    assert found["models"][-1]["age_accuracy"] == pytest.approx((averaged.argmax(1) == AGE[:, 0]).mean())
    for pair, model in zip(found["paired"], found["models"], strict=False):
        difference = found["models"][-1]["aabd"] - model["aabd"]
        assert (pair["a"], pair["b"]) == ("ensemble", model["name"])
        assert pair["aabd"]["difference"] == pytest.approx(difference)


def test_predictions_are_sorted_and_exact():
    probs = member("ran", 0, 3).probs
    text = report.predictions(["b.jpg", "a,ü.jpg", "c.jpg"], ["30", "20", "more than 70"], np.array([0, 1, 1]), probs)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["file", "true_age", "true_gender", "age_bucket", "gender", "p_female"] + [
        f"p_age_{i}" for i in range(12)
    ]
    assert [row["file"] for row in rows] == ["a,ü.jpg", "b.jpg", "c.jpg"]
    assert [row["true_age"] for row in rows] == ["20", "30", "more than 70"]
    assert [row["true_gender"] for row in rows] == ["female", "male", "female"]
    assert rows[0]["p_female"] == f"{probs.gender[1, 1]:.6f}"
    assert rows[0]["age_bucket"] == AGE_BUCKETS[probs.age[1].argmax()]
    for row in rows:
        assert sum(float(row[f"p_age_{i}"]) for i in range(12)) == pytest.approx(1, abs=1e-5)
