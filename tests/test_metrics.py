"""Constant answers with hand-computed scores."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from agegender_jax import metrics
from agegender_jax.structs import Probs


def answers(buckets, genders):
    return np.eye(12, dtype=np.float32)[buckets], np.eye(2, dtype=np.float32)[genders]


def labels(firsts, lasts=None):
    return np.stack([firsts, firsts if lasts is None else lasts], 1)


def test_scores_by_hand():
    age, gender = labels([2, 2, 5, 0]), np.array([0, 1, 1, 1])
    found = metrics.scores(*answers([2, 3, 1, 0], [0, 1, 0, 1]), age, gender)
    assert found == {"age_accuracy": 0.5, "gender_accuracy": 0.75, "aabd": (0 + 1 + 4 + 0) / 4}


def test_open_group_counts_nothing_inside_and_the_distance_to_its_first_bucket_else():
    age = labels([7, 7, 7], [11, 11, 11])
    found = metrics.scores(*answers([7, 11, 5], [0, 0, 0]), age, np.zeros(3, int))
    assert found["age_accuracy"] == pytest.approx(2 / 3) and found["aabd"] == pytest.approx(2 / 3)


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    first, gender = rng.integers(0, 12, 500), rng.integers(0, 2, 500)
    age_probs, gender_probs = rng.dirichlet(np.ones(12), 500), rng.dirichlet(np.ones(2), 500)
    found = metrics.scores(age_probs, gender_probs, labels(first), gender)
    assert found["age_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(first, age_probs.argmax(1)))
    assert found["aabd"] == pytest.approx(sklearn_metrics.mean_absolute_error(first, age_probs.argmax(1)))
    counts = metrics.confusion(age_probs, gender_probs, labels(first), gender)
    expected = sklearn_metrics.confusion_matrix(first, age_probs.argmax(1), labels=range(12))
    np.testing.assert_array_equal(counts["age"], expected)
    loss = metrics.losses(age_probs, gender_probs, labels(first), gender)
    assert loss["loss_age"] == pytest.approx(sklearn_metrics.log_loss(first, age_probs, labels=range(12)))
    assert loss["loss"] == pytest.approx(loss["loss_age"] + sklearn_metrics.log_loss(gender, gender_probs))


def test_wilson_interval_of_a_published_example():
    low, high = metrics.wilson(np.repeat([1, 0], [81, 182]))  # Newcombe 1998, Table I, method 3
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_bootstrap_is_near_the_normal_interval_and_repeats():
    values = np.random.default_rng(1).integers(0, 4, 2000)
    half = 1.96 * values.std() / np.sqrt(2000)
    found = metrics.bootstrap(values)
    np.testing.assert_allclose(found, [values.mean() - half, values.mean() + half], atol=0.1 * half)
    assert metrics.bootstrap(values) == found


def test_paired_difference():
    age, gender = labels(np.arange(12)), np.tile([0, 1], 6)
    right, wrong = Probs(*answers(np.arange(12), gender)), Probs(*answers(np.full(12, 0), gender))
    same = metrics.paired_difference(right, right, age, gender)
    assert all(value == {"difference": 0.0, "ci95": [0.0, 0.0]} for value in same.values())
    found = metrics.paired_difference(right, wrong, age, gender)
    assert found["age_accuracy"]["difference"] == pytest.approx(11 / 12) and found["aabd"]["difference"] == -5.5
    low, high = found["aabd"]["ci95"]
    assert low < -5.5 < high < 0


@pytest.mark.parametrize(
    "buckets, genders, half_done, heads",
    [
        ([0] * 98 + [5] * 2, [0, 1] * 50, False, ["age"]),
        ([0] * 97 + [5] * 3, [0, 1] * 50, False, []),
        (list(range(10)) * 10, [1] * 98 + [0] * 2, False, ["gender"]),
        (list(range(10)) * 10, [1, 0] * 50, False, []),
        (list(range(10)) * 10, [0] * 50 + [1] * 50, True, ["gender"]),  # half right: the majority rate
        (list(range(10)) * 10, [0] * 50 + [1] * 50, False, []),
    ],
)
def test_collapse_alarm(buckets, genders, half_done, heads):
    told = answers(np.array(buckets), np.array(genders))
    gender = np.tile([0, 1], 50)
    assert metrics.collapsed(*told, labels(np.arange(100) % 12), gender, half_done) == heads


def test_majority_and_groups():
    age, gender, race = labels([2, 2, 3]), np.array([1, 1, 0]), np.array([0, 0, 4])
    assert metrics.majority(age, gender)["gender_accuracy"] == pytest.approx(2 / 3)
    groups = metrics.by_group(*answers([2, 3, 3], [1, 1, 0]), age, gender, race)
    assert groups["gender"]["female"] == {"n": 2, "age_accuracy": 0.5, "gender_accuracy": 1.0, "aabd": 0.5}
    assert set(groups["race"]) == {"White", "Others"} and groups["age"]["30-39"]["n"] == 1


def test_nothing_to_score_is_none_and_no_warning():
    none = (np.zeros((0, 12)), np.zeros((0, 2)), np.zeros((0, 2), int), np.zeros(0, int))
    assert metrics.scores(*none) == dict.fromkeys(metrics.SCORES)
    assert metrics.intervals(*none) == dict.fromkeys(metrics.SCORES)
    assert metrics.losses(*none)["loss"] is None and metrics.collapsed(*none, half_done=True) == []


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="expected"):
        metrics.scores(*answers([1, 2], [0, 1]), labels([1]), np.array([0]))
