import csv
import dataclasses
import io
import json

import jax
import numpy as np
import pytest

from agegender_jax import evaluation, metrics
from agegender_jax.labels import AGE_BUCKETS
from agegender_jax.structs import Probs

N = 24
AGE = np.stack([np.arange(N) % 12] * 2, 1)
GENDER, RACE, YEARS = np.arange(N) % 2, np.arange(N) % 5, 10 * AGE[:, 0] + 3
SCORES = {"age_accuracy", "gender_accuracy", "aabd"}
MORE = {
    "aabd_median",
    "adjacent_accuracy",
    "age_mae",
    "cs5",
    "age_kappa",
    "gender_balanced_accuracy",
    "gender_auc",
    "minors_as_adults",
}
YEARS_OF_BUCKET = [10 * i + 4.5 for i in range(12)]


def member(name, seed, count=N):
    rng = np.random.default_rng(seed)
    probs = Probs(rng.dirichlet(np.ones(12), count).astype(np.float32), rng.dirichlet(np.ones(2), count).astype("f4"))
    return evaluation.Member(name, f"runs/{name}", 7, 1234, probs, "probs", YEARS_OF_BUCKET)


def results(members, count=N, source="faces", years=YEARS, group=None, pairs=False):
    rows = np.arange(count) // 2 if pairs else np.arange(count)
    return evaluation.results(
        members,
        AGE[rows],
        GENDER[rows],
        RACE[rows],
        age_years=years[rows],
        age_text=years[rows].astype(str),
        split="test",
        source={"name": source, "fingerprint": "f" * 64},
        allow_leak=False,
        group=group,
    )


def intervals(content, path=()):
    """Yield (path, low, high) of all intervals in nested results."""
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from intervals(value, (*path, key))
        if "ci95" in path and len(content) == 2 and isinstance(content, list):
            yield path, *content


def test_all_intervals_treat_near_duplicates_as_one_unit():
    """With pairs of copies as units, every interval is wider, by about the root of 2."""
    members = [member("ran", 0), member("resnet", 1).calibrate(2.0, 0.5)]
    rows = np.arange(N) // 2
    heads = [{name: jax.tree.map(lambda x: x[rows], getattr(of, name)) for name in ("probs", "raw")} for of in members]
    members = [dataclasses.replace(of, **probs) for of, probs in zip(members, heads, strict=True)]
    alone, grouped = (list(intervals(results(members, group=group, pairs=True))) for group in (None, rows))
    assert [path for path, *_ in alone] == [path for path, *_ in grouped]
    width = np.array([[high - low for _, low, high in of] for of in (alone, grouped)])
    parts = np.array(["reliability" if "reliability" in path else path[0] for path, *_ in alone])
    for part in ("models", "paired", "groups", "reliability"):
        before, after = width[:, parts == part]
        assert (after >= before - 0.02).all() and np.median(after[before > 0] / before[before > 0]) > 1.2, part


def test_results_of_one_member_have_the_promised_form():
    result = results([member("ran", 0)])
    assert (result["schema"], result["split"], result["n"], result["allow_leak"]) == (1, "test", N, False)
    assert result["age_buckets"] == list(AGE_BUCKETS)
    (model,) = result["models"]
    facts = {"name", "workdir", "step", "parameters", "gender_to_age", "views"}
    facts |= {"collapsed", "n_minors", "calibration", "ci95"}
    assert set(model) == facts | SCORES | MORE and set(model["ci95"]) == SCORES | MORE
    for name in SCORES | MORE:
        low, high = model["ci95"][name]
        assert low - 1e-9 <= model[name] <= high + 1e-9
    assert set(result["groups"]) == {"gender", "race", "age", "cells", "gaps"}
    assert set(result["groups"]["gender"]["female"]) == {"n", "small", "ci95"} | SCORES
    assert set(result["groups"]["cells"][0]) == {"age", "gender", "race", "n", "small", "ci95"} | SCORES
    assert sum(group["n"] for group in result["groups"]["race"].values()) == N


def test_the_ensemble_is_last_and_averages():
    members = [member("ran", 0), member("resnet", 1)]
    result = results(members)
    assert [model["name"] for model in result["models"]] == ["ran", "resnet", "ensemble"]
    assert result["models"][-1]["members"] == ["ran", "resnet"]
    averaged = (members[0].probs.age + members[1].probs.age) / 2
    assert result["models"][-1]["age_accuracy"] == pytest.approx((averaged.argmax(1) == AGE[:, 0]).mean())
    by_name = {model["name"]: model for model in result["models"]}
    expected = [("ensemble", "ran"), ("ensemble", "resnet"), ("ran", "resnet")]
    assert [(pair["a"], pair["b"]) for pair in result["paired"]] == expected
    for pair in result["paired"]:
        assert set(pair) == {"a", "b", *metrics.COMPARED}
        for name in set(pair) - {"a", "b"}:
            assert pair[name]["difference"] == pytest.approx(by_name[pair["a"]][name] - by_name[pair["b"]][name])


def test_calibration_is_reported_before_and_after_and_precedes_averaging():
    plain, warm = member("ran", 0), member("resnet", 1).calibrate(2.0, 0.5)
    result = results([plain, warm])
    assert result["calibrated"] is True
    ran, resnet, both = (model["calibration"]["age"] for model in result["models"])
    assert (ran["temperature"], ran["after"], ran["reliability"]["after"]) == (None, None, None)
    assert resnet["temperature"] == 2.0 and resnet["before"] != resnet["after"]
    assert result["models"][1]["calibration"]["gender"]["temperature"] == 0.5
    root = np.sqrt(warm.raw.age)
    averaged = (plain.probs.age + root / root.sum(1, keepdims=True)) / 2
    right = (np.arange(N), AGE[:, 0])
    assert both["temperature"] is None and both["after"]["nll"] == pytest.approx(-np.log(averaged[right]).mean(), 1e-5)
    before = -np.log((plain.probs.age + warm.raw.age)[right] / 2).mean()
    assert both["before"]["nll"] == pytest.approx(before, 1e-5)
    assert sum(b["n"] for b in both["reliability"]["after"]) == N and len(both["reliability"]["before"]) == 15
    plain = results([plain])
    assert plain["calibrated"] is False and plain["models"][0]["calibration"]["gender"]["after"] is None


def test_the_ensemble_takes_the_mean_of_the_members_bucket_years_or_none():
    first, second = member("ran", 0), member("resnet", 1)
    older = dataclasses.replace(second, bucket_years=[y + 2 for y in YEARS_OF_BUCKET])
    result = results([first, older])["models"][-1]
    expected = evaluation.ensemble_probs([first, older]).age @ (np.array(YEARS_OF_BUCKET) + 1)
    assert result["age_mae"] == pytest.approx(np.abs(expected - YEARS).mean(), 1e-5)
    result = results([first, dataclasses.replace(second, bucket_years=None)])
    assert [model["age_mae"] is None for model in result["models"]] == [False, True, True]
    assert evaluation.details(result)[1][1:3] == ("n/a", "n/a")


def test_results_without_images_and_without_years_are_json():
    members = [member("ran", 0, 0).calibrate(1.5, 1.5), member("resnet", 1, 0)]
    for result in (results(members, 0), results([member("ran", 0), member("b", 1)], years=np.full(N, -1))):
        assert "NaN" not in json.dumps(result)
        assert result["models"][-1]["age_mae"] is None and result["paired"][0]["cs5"]["ci95"] is None


def test_predictions_are_sorted_and_exact():
    probs = member("ran", 0, 3).probs
    probs.age[1] = np.eye(12)[4]
    probs.age[2] = [0] * 6 + [0.4] + [0.12] * 5
    files, age_text, age = ["b.jpg", "a,ü.jpg", "c.jpg"], ["30", "20", "more than 70"], [[3, 3], [2, 2], [7, 11]]
    text = evaluation.predictions(files, age_text, np.array(age), np.array([0, 1, 1]), probs)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["file", "true_age", "true_gender", "age_bucket", "gender", "p_female"] + [
        f"p_age_{i}" for i in range(12)
    ]
    assert [row["file"] for row in rows] == ["a,ü.jpg", "b.jpg", "c.jpg"]
    assert [row["true_age"] for row in rows] == ["20", "30", "more than 70"]
    assert [row["true_gender"] for row in rows] == ["female", "male", "female"]
    assert rows[0]["p_female"] == f"{probs.gender[1, 1]:.6f}"
    assert rows[0]["age_bucket"] == "40-49"
    assert rows[2]["age_bucket"] == "70+"
    for row in rows:
        assert sum(float(row[f"p_age_{i}"]) for i in range(12)) == pytest.approx(1, abs=1e-5)
