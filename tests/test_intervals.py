"""Intervals against published values and plain resampling; scores of models and pairs against scikit-learn."""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from agegender_jax import metrics
from agegender_jax.structs import Probs

ROOT = Path(__file__).parents[1]
YEARS_OF_BUCKET = list(10 * np.arange(12) + 4.0)


def plain(count, statistic, seed=1):
    """Return the interval of `statistic(indices)` over redraws in a loop."""
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = [statistic(rng.integers(0, count, count)) for _ in range(metrics.RESAMPLES)]
    return np.nanquantile(result, [0.025, 0.975])


def near(actual, expected):
    """Assert that both ends agree within a tenth of the interval's width; the redraws differ."""
    np.testing.assert_allclose(actual, expected, atol=0.1 * (expected[1] - expected[0]))


def faces(count, seed=0):
    """Return labels, and predictions that correlate with them, with ties: age, gender, age_years, probs."""
    rng = np.random.default_rng(seed)
    years, gender = rng.integers(0, 100, count), rng.integers(0, 2, count)
    bucket = years // 10
    logits = rng.normal(size=(count, 12))
    logits[np.arange(count), bucket] += 2
    age_probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    female = np.round(np.clip(0.5 + 0.3 * (gender - 0.5) + 0.3 * rng.normal(size=count), 0, 1), 2)
    probs = Probs(age_probs, np.stack([1 - female, female], 1))
    return np.stack([bucket, bucket], 1), gender, years, probs


def one(probs, age, gender, years, bucket_years=YEARS_OF_BUCKET):
    return metrics.scored([probs], [bucket_years], age, gender, years)[0]


@pytest.mark.parametrize(
    "right, count, expected",
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_as_published_and_mirrored(right, count, expected):
    low, high = expected  # Newcombe 1998, Table I, method 3
    values = np.repeat([1, 0], [right, count - right])
    assert metrics.wilson(values) == pytest.approx([low, high], abs=5e-5)
    assert metrics.wilson(1 - values) == pytest.approx([1 - high, 1 - low], abs=5e-5)


@pytest.mark.parametrize("kind", ["few integers", "many numbers"])
def test_bootstrap_is_plain_resampling_and_repeats(kind):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 4, 400) if kind == "few integers" else rng.exponential(size=400)
    result = metrics.bootstrap(values)
    near(result, plain(400, lambda i: values[i].mean()))
    assert metrics.bootstrap(values) == result


def test_columns_share_their_resamples():
    x = np.random.default_rng(0).normal(size=300)
    (low, high), shifted, doubled = metrics.bootstrap_means(np.stack([x, x + 5, -2 * x], 1))
    assert shifted == pytest.approx([low + 5, high + 5]) and doubled == pytest.approx([-2 * high, -2 * low])


@pytest.mark.parametrize("count", [3, 37, 300])
def test_scores_of_a_model_do_not_depend_on_the_other_models(count):
    age, gender, years, probs = faces(count)
    others = [faces(count, seed)[3] for seed in (1, 2, 3)]
    alone = one(probs, age, gender, years)
    for position, models in ((0, [probs, others[0]]), (0, [probs, *others]), (3, [*others, probs])):
        scored = metrics.scored(models, [YEARS_OF_BUCKET] * len(models), age, gender, years)
        assert scored[position] == alone
    pair = metrics.paired([probs, others[0]], [YEARS_OF_BUCKET] * 2, [(0, 1)], age, gender, years)
    pairs = metrics.paired([probs, *others], [YEARS_OF_BUCKET] * 4, [(3, 0), (0, 2), (0, 1)], age, gender, years)
    assert pairs[2] == pair[0]


ON_ANOTHER_PROCESSOR = """
import json, types
import numpy as np
from agegender_jax import metrics

rng = np.random.default_rng(0)
years, gender = rng.integers(0, 100, 101), rng.integers(0, 2, 101)
probs = types.SimpleNamespace(age=rng.dirichlet(np.ones(12), 101), gender=rng.dirichlet(np.ones(2), 101))
age, bucket_years = np.stack([years // 10] * 2, 1), 10 * np.arange(12) + 4.1
print(json.dumps(metrics.scored([probs] * 3, [bucket_years] * 3, age, gender, years)))
"""


def test_intervals_do_not_depend_on_the_processor():
    """BLAS has kernels for many processors, and each adds in its own order."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(ON_ANOTHER_PROCESSOR, {})
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"}
    command = (sys.executable, "-c", ON_ANOTHER_PROCESSOR)
    assert subprocess.check_output(command, env=environment, text=True) == printed.getvalue()


def test_scores_are_scikit_learns():
    age, gender, years, probs = faces(500)
    result = one(probs, age, gender, years)
    bucket, predicted = probs.age.argmax(1), probs.gender.argmax(1)
    expected = (probs.age * np.array(YEARS_OF_BUCKET)).sum(1)
    assert result["age_mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(years, expected))
    assert result["age_kappa"] == pytest.approx(
        sklearn_metrics.cohen_kappa_score(age[:, 0], bucket, weights="quadratic", labels=range(12))
    )
    recall = sklearn_metrics.balanced_accuracy_score(gender, predicted)
    assert result["gender_balanced_accuracy"] == pytest.approx(recall)
    assert len(np.unique(probs.gender[:, 1])) < 200  # ties
    assert result["gender_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(gender, probs.gender[:, 1]))
    assert result["cs5"] == np.mean([abs(e - y) <= 5 for e, y in zip(expected, years, strict=True)])
    assert result["adjacent_accuracy"] == np.mean(np.abs(bucket - age[:, 0]) <= 1)
    assert result["n_minors"] == (years < 18).sum()
    assert result["minors_as_adults"] == np.mean(expected[years < 18] >= 18)
    assert set(result["ci95"]) == set(result) - {"n_minors", "ci95"}


def test_intervals_are_plain_resampling():
    age, gender, years, probs = faces(150)
    result = one(probs, age, gender, years)["ci95"]
    bucket, predicted, female = probs.age.argmax(1), probs.gender.argmax(1), probs.gender[:, 1]
    error = np.abs(metrics.expected_age(probs.age, YEARS_OF_BUCKET) - years)
    right, distance = predicted == gender, np.abs(bucket - age[:, 0])
    near(result["aabd"], plain(150, lambda i: distance[i].mean()))
    near(result["age_mae"], plain(150, lambda i: error[i].mean()))
    near(
        result["gender_balanced_accuracy"],
        plain(150, lambda i: np.mean([right[i][gender[i] == g].mean() for g in (0, 1)])),
    )

    def kappa(i):
        truth, predicted = age[i, 0], bucket[i]
        return 1 - ((truth - predicted) ** 2).mean() / ((truth[:, None] - predicted) ** 2).mean()

    def auc(i):
        up, down = female[i][gender[i] == 1], female[i][gender[i] == 0]
        return (np.sign(up[:, None] - down) / 2 + 0.5).mean()

    near(result["age_kappa"], plain(150, kappa))
    near(result["gender_auc"], plain(150, auc))
    for name in ("age_accuracy", "gender_accuracy", "adjacent_accuracy", "cs5", "minors_as_adults"):
        low, high = result[name]
        assert 0 <= low < high <= 1


def test_paired_differences_are_those_of_the_models_and_intervals_are_paired():
    age, gender, years, probs = faces(200)
    other = faces(200, seed=5)[3]
    mixed = Probs((3 * probs.age + other.age) / 4, (3 * probs.gender + other.gender) / 4)
    models, bucket_years = [probs, mixed, probs], [YEARS_OF_BUCKET] * 3
    alone = metrics.scored(models, bucket_years, age, gender, years)
    pairs = metrics.paired(models, bucket_years, [(0, 1), (0, 2)], age, gender, years)
    assert set(pairs[0]) == set(metrics.COMPARED)
    for name in metrics.COMPARED:
        assert pairs[0][name]["difference"] == pytest.approx(alone[0][name] - alone[1][name])
        assert pairs[1][name] == {"difference": 0.0, "ci95": [0.0, 0.0]}
    values = [metrics.per_example(p, YEARS_OF_BUCKET, age, gender, years) for p in (probs, mixed)]
    for name in ("age_accuracy", "aabd", "age_mae"):
        difference = values[0][name] - values[1][name]
        near(pairs[0][name]["ci95"], plain(200, lambda i, d=difference: d[i].mean()))

    def by_scikit_learn(name, p, i):
        if name == "gender_auc":
            return sklearn_metrics.roc_auc_score(gender[i], p.gender[i, 1])
        if name == "gender_balanced_accuracy":
            return sklearn_metrics.balanced_accuracy_score(gender[i], p.gender[i].argmax(1))
        return sklearn_metrics.cohen_kappa_score(age[i, 0], p.age[i].argmax(1), weights="quadratic", labels=range(12))

    rng = np.random.default_rng(2)
    redraws = [rng.integers(0, 200, 200) for _ in range(150)]
    for name in ("age_kappa", "gender_balanced_accuracy", "gender_auc"):
        result = [by_scikit_learn(name, probs, i) - by_scikit_learn(name, mixed, i) for i in redraws]
        np.testing.assert_allclose(
            pairs[0][name]["ci95"], np.quantile(result, [0.025, 0.975]), atol=0.4 * np.std(result)
        )


def test_without_years_everything_in_years_is_none():
    age, gender, years, probs = faces(80)
    in_years = {"age_mae", "cs5", "minors_as_adults"}
    unlabelled = one(probs, age, gender, np.full(80, -1))
    unknown = one(probs, age, gender, years, bucket_years=None)
    for result in (unlabelled, unknown):
        assert {name for name in result["ci95"] if result[name] is None} == in_years
        assert {name for name, interval in result["ci95"].items() if interval is None} == in_years
    assert unlabelled["n_minors"] is None and unknown["n_minors"] == (years < 18).sum()
    (pair,) = metrics.paired([probs, probs], [YEARS_OF_BUCKET, None], [(0, 1)], age, gender, years)
    assert pair["age_mae"] == pair["cs5"] == {"difference": None, "ci95": None} and pair["aabd"]["difference"] == 0


def test_years_that_some_labels_carry():
    age, gender, years, probs = faces(120)
    some = np.where(np.arange(120) < 50, years, -1)
    result, half = (
        one(probs, age, gender, some),
        one(Probs(probs.age[:50], probs.gender[:50]), age[:50], gender[:50], years[:50]),
    )
    for name in ("age_mae", "cs5", "minors_as_adults", "n_minors"):
        assert result[name] == half[name]
    assert result["ci95"]["age_mae"] == half["ci95"]["age_mae"]


def test_one_gender_one_face_or_none():
    age, _, years, probs = faces(30)
    result = one(probs, age, np.ones(30, int), years)
    for name in ("gender_balanced_accuracy", "gender_auc"):
        assert result[name] is None and result["ci95"][name] is None
    for count in (0, 1):
        few = one(Probs(probs.age[:count], probs.gender[:count]), age[:count], np.ones(count, int), years[:count])
        assert not [x for x in few.values() if isinstance(x, float) and np.isnan(x)]
        assert (few["aabd"] is None) == (few["age_mae"] is None) == (count == 0)
    right = np.eye(12)[np.full(9, 3)]
    assert metrics.kappa(metrics.confusion(right, np.eye(2)[[0] * 9], np.full((9, 2), 3), [0] * 9)["age"]) == (
        None,
        None,
    )


def test_undefined_resamples_are_left_out():
    ((value, interval),) = metrics.auc([np.array([0.1, 0.9])], np.array([False, True]))  # half of them lack a gender
    assert (value, interval) == (1.0, [1.0, 1.0])


def test_kappa_takes_the_bucket_of_a_range_that_is_nearest_to_the_prediction():
    age, bucket = np.array([[7, 10], [7, 10], [2, 2], [3, 3]]), np.array([9, 5, 2, 4])
    counts = metrics.confusion(np.eye(12)[bucket], np.eye(2)[[0] * 4], age, np.zeros(4, int))
    expected = sklearn_metrics.cohen_kappa_score([9, 7, 2, 3], bucket, weights="quadratic", labels=range(12))
    assert metrics.kappa(counts["age"])[0] == pytest.approx(expected)


def test_bucket_years_are_means_or_middles():
    age = np.array([[2, 2], [2, 2], [7, 7], [0, 0], [7, 11]])
    result = metrics.bucket_years(age, np.array([21, 24, 77, 3, -1]))
    assert result[0] == 3 and result[2] == 22.5 and result[7] == 77 and result[3] == 34.5 and result[11] == 114.5
    assert metrics.bucket_years(age, np.full(5, -1)) is None
