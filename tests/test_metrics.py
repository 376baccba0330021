"""Scores of constant answers against numbers counted by hand."""

import types

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from agegender_jax import ensemble, metrics
from agegender_jax.data import pipeline
from agegender_jax.structs import Outputs

# true buckets 2, 2, 3, 7 and 70+; genders; races
AGE = np.array([[2, 2], [2, 2], [3, 3], [7, 7], [7, 11]], np.int32)
GENDER = np.array([0, 1, 1, 1, 0], np.int32)
RACE = np.array([0, 0, 1, 4, 4], np.int32)
EMPTY = (np.zeros((0, 12)), np.zeros((0, 2)), np.zeros((0, 2), int), np.zeros(0, int))


class Constant(nn.Module):
    """Bucket 2 with probability 1/2, each of the others 1/22; female with 3/4."""

    @nn.compact
    def __call__(self, images, *, train):
        age = jnp.full(12, 1 / 22).at[2].set(0.5)
        return Outputs(*(jnp.log(jnp.tile(p, (len(images), 1))) for p in (age, jnp.array([0.25, 0.75]))))


def answer(buckets, genders):
    """Probabilities that are certain of these answers."""
    return np.eye(12)[np.asarray(buckets)], np.eye(2)[np.asarray(genders)]


def test_a_constant_model_by_hand():
    images = np.zeros((5, 8, 8, 3), np.uint8)
    batches = pipeline.eval_batches(images, AGE, GENDER, indices=np.arange(5), batch_size=2)
    probs = ensemble.predict_all(Constant(), {}, batches)
    expected = {"age_accuracy": 2 / 5, "gender_accuracy": 3 / 5, "aabd": (0 + 0 + 1 + 5 + 5) / 5}
    assert metrics.scores(probs.age, probs.gender, AGE, GENDER) == pytest.approx(expected)
    assert ensemble.evaluate([probs, probs], AGE, GENDER) == pytest.approx(expected)
    loss = metrics.losses(probs.age, probs.gender, AGE, GENDER)
    loss_age = -(2 * np.log(1 / 2) + 2 * np.log(1 / 22) + np.log(5 / 22)) / 5
    loss_gender = -(3 * np.log(3 / 4) + 2 * np.log(1 / 4)) / 5
    assert loss["loss_age"] == pytest.approx(loss_age, rel=1e-6)
    assert loss["loss_gender"] == pytest.approx(loss_gender, rel=1e-6)
    assert loss["loss"] == loss["loss_age"] + loss["loss_gender"]


@pytest.mark.parametrize("bucket, right, distance", [(6, 0, 1), (7, 1, 0), (9, 1, 0), (11, 1, 0), (0, 0, 7)])
def test_seventy_and_over_is_a_range(bucket, right, distance):
    found = metrics.scores(*answer([bucket], [0]), np.array([[7, 11]]), np.array([0]))
    assert (found["age_accuracy"], found["aabd"]) == (right, distance)


def test_accuracies_are_those_of_sklearn():
    rng = np.random.default_rng(0)
    age_probs, gender_probs = rng.dirichlet(np.ones(12), 300), rng.dirichlet(np.ones(2), 300)
    bucket, gender = rng.integers(12, size=300), rng.integers(2, size=300)
    given = (age_probs, gender_probs, np.stack([bucket, bucket], 1), gender)
    found, counts = metrics.scores(*given), metrics.confusion(*given)
    assert found["age_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(bucket, age_probs.argmax(1)))
    assert found["gender_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(gender, gender_probs.argmax(1)))
    assert found["aabd"] == pytest.approx(sklearn_metrics.mean_absolute_error(bucket, age_probs.argmax(1)))
    labels = range(12)
    want = sklearn_metrics.confusion_matrix(bucket, age_probs.argmax(1), labels=labels)
    np.testing.assert_array_equal(counts["age"], want)
    want = sklearn_metrics.confusion_matrix(gender, gender_probs.argmax(1))
    np.testing.assert_array_equal(counts["gender"], want)


def test_confusion_counts_ranges_on_the_diagonal_where_right():
    given = (*answer([2, 4, 3, 6, 9], [0, 0, 1, 1, 1]), AGE, GENDER)
    counts = metrics.confusion(*given)
    assert counts["age"].sum() == counts["gender"].sum() == 5
    assert {(i, j) for i, j in np.argwhere(counts["age"])} == {(2, 2), (2, 4), (3, 3), (7, 6), (9, 9)}
    np.testing.assert_array_equal(counts["gender"], [[1, 1], [1, 2]])
    found = metrics.scores(*given)
    assert np.trace(counts["age"]) / 5 == found["age_accuracy"]
    assert np.trace(counts["gender"]) / 5 == found["gender_accuracy"]


@pytest.mark.parametrize(
    "right, count, low, high",
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),  # the third, mirrored
    ],
)
def test_wilson_as_published(right, count, low, high):
    assert metrics.wilson(np.repeat([1, 0], [right, count - right])) == pytest.approx([low, high], abs=5e-5)


def test_bootstrap_covers_the_mean_as_its_standard_error_says():
    values = np.repeat([0, 1, 2, 5], [200, 120, 60, 20])
    low, high = metrics.bootstrap(values)
    error = values.std() / np.sqrt(len(values))
    assert [low, high] == pytest.approx([values.mean() - 1.96 * error, values.mean() + 1.96 * error], abs=0.2 * error)
    assert metrics.bootstrap(values[::-1]) == [low, high]
    assert metrics.bootstrap(np.full(9, 3)) == [3.0, 3.0]


def test_paired_differences():
    a, b = (types.SimpleNamespace(age=p[0], gender=p[1]) for p in (answer([2] * 5, [0] * 5), answer([3] * 5, GENDER)))
    same = metrics.paired_difference(a, a, AGE, GENDER)
    assert same == {name: {"difference": 0.0, "ci95": [0.0, 0.0]} for name in metrics.SCORES}
    found = metrics.paired_difference(a, b, AGE, GENDER)
    differences = [found[name]["difference"] for name in metrics.SCORES]
    assert differences == pytest.approx([1 / 5, -3 / 5, (0 + 0 + 1 + 5 + 5) / 5 - (1 + 1 + 0 + 4 + 4) / 5])
    back = metrics.paired_difference(b, a, AGE, GENDER)
    assert [back[name]["difference"] for name in metrics.SCORES] == pytest.approx([-d for d in differences])


def collapsed(buckets, genders, true_buckets, true_genders, half_done=True):
    age = np.stack([true_buckets, true_buckets], 1)
    return metrics.collapsed(*answer(buckets, genders), age, np.asarray(true_genders), half_done)


def test_collapse_alarm():
    spread, half = np.arange(100) % 10, np.arange(100) % 2
    assert collapsed(spread, half, spread, half) == []
    assert collapsed([2] * 100, [1] * 100, spread, half, half_done=False) == ["age", "gender"]
    assert collapsed([2] * 98 + [3, 4], half, spread, half) == ["age"]
    assert collapsed([2] * 97 + [3, 4, 5], half, spread, half) == []
    assert collapsed([2] * 100, [1] * 100, [2] * 100, [1] * 100) == []  # there is nothing to tell apart
    ninety = np.repeat([0, 1], [90, 10])
    for wrong, stuck in ((8, False), (9, True), (10, True), (11, True), (12, False)):
        answers = np.concatenate([1 - ninety[:wrong], ninety[wrong:]])
        assert collapsed(spread, answers, spread, ninety) == ["gender"] * stuck
        assert collapsed(spread, answers, spread, ninety, half_done=False) == []


def test_groups_and_majority():
    given = (*answer([2, 4, 3, 6, 9], [0, 0, 1, 1, 1]), AGE, GENDER)
    found = metrics.by_group(*given, RACE)
    assert found["gender"]["male"] == {"n": 2, "age_accuracy": 1.0, "gender_accuracy": 0.5, "aabd": 0.0}
    assert {kind: {name: g["n"] for name, g in groups.items()} for kind, groups in found.items()} == {
        "gender": {"male": 2, "female": 3},
        "race": {"White": 2, "Black": 1, "Others": 2},
        "age": {"20-29": 2, "30-39": 1, "70-79": 1, "70+": 1},
    }
    assert metrics.majority(AGE, GENDER) == pytest.approx({"age_accuracy": 0.4, "gender_accuracy": 0.6, "aabd": 2.2})


def test_no_examples_give_none():
    nothing = dict.fromkeys(metrics.SCORES)
    assert metrics.scores(*EMPTY) == metrics.intervals(*EMPTY) == metrics.majority(*EMPTY[2:]) == nothing
    assert set(metrics.losses(*EMPTY).values()) == {None} and metrics.collapsed(*EMPTY, True) == []
    assert metrics.confusion(*EMPTY)["age"].sum() == 0
    assert metrics.by_group(*EMPTY, np.zeros(0, int)) == {"gender": {}, "race": {}, "age": {}}
    with pytest.raises(ValueError, match="expected"):
        metrics.scores(np.zeros((3, 12)), *EMPTY[1:])
