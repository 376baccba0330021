"""Scores of constant predictions, computed by hand."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from agegender_jax import ensemble, metrics
from agegender_jax.data import pipeline
from agegender_jax.prediction import intervals
from agegender_jax.structs import Outputs, Probs


def predictions(buckets, genders):
    return np.eye(12, dtype=np.float32)[buckets], np.eye(2, dtype=np.float32)[genders]


def labels(firsts, lasts=None):
    return np.stack([firsts, firsts if lasts is None else lasts], 1)


def test_scores_by_hand():
    age, gender = labels([2, 2, 5, 0]), np.array([0, 1, 1, 1])
    result = metrics.scores(*predictions([2, 3, 1, 0], [0, 1, 0, 1]), age, gender)
    assert result == {"age_accuracy": 0.5, "gender_accuracy": 0.75, "aabd": (0 + 1 + 4 + 0) / 4}


def test_open_group_counts_nothing_inside_and_the_distance_to_its_first_bucket_else():
    age = labels([7, 7, 7], [11, 11, 11])
    result = metrics.scores(*predictions([7, 11, 5], [0, 0, 0]), age, np.zeros(3, int))
    assert result["age_accuracy"] == pytest.approx(2 / 3) and result["aabd"] == pytest.approx(2 / 3)


def test_an_open_last_group_is_one_class_if_nothing_inside_it_is_labelled():
    """0.6 on the five buckets from 70 on, 0.12 each, against 0.4 on 60-69: more probably above 70."""
    age_probs, gender_probs = np.tile([0] * 6 + [0.4] + [0.12] * 5, (3, 1)), np.ones((3, 2)) / 2
    cases = (
        (labels([7, 7, 6], [11, 11, 6]), 7, [0, 0, 1]),
        (labels([7, 7, 8], [11, 11, 8]), 6, [1, 1, 2]),  # the third is known to be in its eighties
        (labels([7, 7, 6], [10, 10, 6]), 6, [1, 1, 0]),  # not open
        (labels([7, 8, 6]), 6, [1, 2, 0]),
        (labels([7, 8, 6], [11, 11, 6]), 6, [1, 2, 0]),  # two groups
        (labels([7, 8, 6], [11, 9, 6]), 6, [1, 2, 0]),
    )
    for age, bucket, distances in cases:
        assert metrics.open_group(age) == (7 if bucket == 7 else None)
        assert metrics.predicted_bucket(age_probs, age).tolist() == [bucket] * 3
        assert metrics.outcomes(age_probs, gender_probs, age, np.zeros(3, int))["aabd"].tolist() == distances
        counts = metrics.confusion(age_probs, gender_probs, age, np.zeros(3, int))["age"]
        assert counts[:, bucket].sum() == 3
    np.testing.assert_allclose(metrics.join_open_group(age_probs, cases[0][0])[0, 6:], [0.4, 0.6, 0, 0, 0, 0])
    assert metrics.open_group(np.zeros((0, 2), int)) is None
    with pytest.raises(ValueError, match="age must be int"):
        metrics.open_group(np.zeros(3, int))


def test_scores_of_an_open_last_group_agree_with_those_of_predictions_for_photos():
    rng = np.random.default_rng(0)
    age_probs = rng.dirichlet(np.ones(12), 200)
    age = np.where(rng.random((200, 1)) < 0.3, [[7, 11]], rng.integers(0, 7, (200, 1)))
    merged = intervals.merge_open(age_probs, 7)
    assert (metrics.predicted_bucket(age_probs, age) == merged.argmax(-1)).all()
    assert (merged.argmax(-1) != age_probs.argmax(-1)).any()
    right = metrics.outcomes(age_probs, np.ones((200, 2)) / 2, age, np.zeros(200, int))["age_accuracy"]
    (model,) = metrics.scored(
        [Probs(age_probs, np.ones((200, 2)) / 2)], [None], age, np.zeros(200, int), np.full(200, -1)
    )
    assert model["age_accuracy"] == right.mean()
    kappa = sklearn_metrics.cohen_kappa_score(age[:, 0], merged.argmax(-1), weights="quadratic")
    assert model["age_kappa"] == pytest.approx(kappa)


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    first, gender = rng.integers(0, 12, 500), rng.integers(0, 2, 500)
    age_probs, gender_probs = rng.dirichlet(np.ones(12), 500), rng.dirichlet(np.ones(2), 500)
    result = metrics.scores(age_probs, gender_probs, labels(first), gender)
    assert result["age_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(first, age_probs.argmax(1)))
    assert result["aabd"] == pytest.approx(sklearn_metrics.mean_absolute_error(first, age_probs.argmax(1)))
    counts = metrics.confusion(age_probs, gender_probs, labels(first), gender)
    expected = sklearn_metrics.confusion_matrix(first, age_probs.argmax(1), labels=range(12))
    np.testing.assert_array_equal(counts["age"], expected)
    loss = metrics.losses(age_probs, gender_probs, labels(first), gender)
    assert loss["loss_age"] == pytest.approx(sklearn_metrics.log_loss(first, age_probs, labels=range(12)))
    assert loss["loss"] == pytest.approx(loss["loss_age"] + sklearn_metrics.log_loss(gender, gender_probs))


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
    probs = predictions(np.array(buckets), np.array(genders))
    gender = np.tile([0, 1], 50)
    assert metrics.collapsed(*probs, labels(np.arange(100) % 12), gender, half_done) == heads


def test_a_head_that_is_right_on_unbalanced_labels_has_not_collapsed():
    bucket, gender = np.repeat([2, 5], [197, 3]), np.repeat([0, 1], [197, 3])
    for half_done in (False, True):
        assert metrics.collapsed(*predictions(bucket, gender), labels(bucket), gender, half_done) == []
        constant = predictions(np.full(200, 2), np.zeros(200, int))
        assert metrics.collapsed(*constant, labels(bucket), gender, half_done) == ["age", "gender"]
        two_right = predictions(np.repeat([2, 5, 2], [197, 2, 1]), np.repeat([0, 1, 0], [197, 2, 1]))
        assert metrics.collapsed(*two_right, labels(bucket), gender, half_done) == []


def test_majority():
    age, gender = labels([2, 2, 3]), np.array([1, 1, 0])
    assert metrics.majority(age, gender) == pytest.approx(
        {"age_accuracy": 2 / 3, "gender_accuracy": 2 / 3, "aabd": 1 / 3}
    )


def test_nothing_to_score_is_none_and_no_warning():
    none = (np.zeros((0, 12)), np.zeros((0, 2)), np.zeros((0, 2), int), np.zeros(0, int))
    assert metrics.scores(*none) == dict.fromkeys(metrics.SCORES)
    assert metrics.majority(*none[2:]) == dict.fromkeys(metrics.SCORES)
    assert metrics.losses(*none)["loss"] is None and metrics.collapsed(*none, half_done=True) == []


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"age must be int \[N, 2\] where N = 2, got int64 \[1, 2\]"):
        metrics.scores(*predictions([1, 2], [0, 1]), labels([1]), np.array([0]))


class Constant(nn.Module):
    """Bucket 2 with probability 1/2, each of the others 1/22; female with 3/4."""

    @nn.compact
    def __call__(self, images, *, train):
        age = jnp.full(12, 1 / 22).at[2].set(0.5)
        return Outputs(*(jnp.log(jnp.tile(p, (len(images), 1))) for p in (age, jnp.array([0.25, 0.75]))))


def test_a_constant_model_from_images_to_scores():
    age, gender = labels([2, 2, 3, 7, 7], [2, 2, 3, 7, 11]), np.array([0, 1, 1, 1, 0])
    images = np.zeros((5, 8, 8, 3), np.uint8)
    batches = pipeline.eval_batches(images, age, gender, indices=np.arange(5), batch_size=2)
    probs = ensemble.predict_all(Constant(), {}, batches)
    expected = {"age_accuracy": 2 / 5, "gender_accuracy": 3 / 5, "aabd": (0 + 0 + 1 + 5 + 5) / 5}
    assert ensemble.evaluate([probs, probs], age, gender) == pytest.approx(expected)
    loss = metrics.losses(probs.age, probs.gender, age, gender)
    loss_age = -(2 * np.log(1 / 2) + 2 * np.log(1 / 22) + np.log(5 / 22)) / 5  # five buckets from 70 up
    loss_gender = -(3 * np.log(3 / 4) + 2 * np.log(1 / 4)) / 5
    assert (loss["loss_age"], loss["loss_gender"]) == pytest.approx((loss_age, loss_gender), rel=1e-6)


def test_the_ensemble_averages_its_members():
    ages, genders = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0.5, 0.5]]), np.array([[0.25, 0.75], [1, 0], [1, 0]])
    mean = ensemble.mean_probs([Probs(age[None], gender[None]) for age, gender in zip(ages, genders, strict=True)])
    np.testing.assert_allclose(mean.age, [[1 / 3, 0.5, 1 / 6]], rtol=1e-6)
    np.testing.assert_allclose(mean.gender, [[0.75, 0.25]], rtol=1e-6)


def test_confusion_has_all_examples_and_the_right_ones_on_the_diagonal():
    age, gender = labels([2, 2, 3, 7, 7], [2, 2, 3, 7, 11]), np.array([0, 1, 1, 1, 0])
    arguments = (*predictions([2, 4, 3, 6, 9], [0, 0, 1, 1, 1]), age, gender)
    counts, result = metrics.confusion(*arguments), metrics.scores(*arguments)
    assert np.argwhere(counts["age"]).tolist() == [[2, 2], [2, 4], [3, 3], [7, 6], [9, 9]]
    np.testing.assert_array_equal(counts["gender"], [[1, 1], [1, 2]])
    for head in ("age", "gender"):
        assert counts[head].sum() == 5 and np.trace(counts[head]) / 5 == result[f"{head}_accuracy"]


@pytest.mark.parametrize("wrong, stuck", [(8, False), (9, True), (11, True), (12, False)])
def test_an_accuracy_within_a_hundredth_of_the_majority_rate_is_a_collapse(wrong, stuck):
    gender = np.repeat([0, 1], [90, 10])
    probs = predictions(np.arange(100) % 10, np.concatenate([1 - gender[:wrong], gender[wrong:]]))
    age = labels(np.arange(100) % 10)
    assert metrics.collapsed(*probs, age, gender, half_done=True) == ["gender"] * stuck
    assert metrics.collapsed(*probs, age, gender, half_done=False) == []


def test_an_open_last_group_is_one_class_that_a_head_can_collapse_to():
    bucket = np.arange(100) % 8
    probs = predictions(7 + np.arange(100) % 5, np.tile([0, 1], 50))
    age = np.stack([bucket, np.where(bucket == 7, 11, bucket)], 1)
    assert metrics.collapsed(*probs, age, np.tile([0, 1], 50), half_done=False) == ["age"]
    assert metrics.collapsed(*probs, labels(bucket), np.tile([0, 1], 50), half_done=False) == []


def test_labels_of_one_class_raise_no_alarm():
    probs = predictions(np.full(50, 2), np.full(50, 1))
    assert metrics.collapsed(*probs, labels(np.full(50, 2)), np.full(50, 1), half_done=True) == []


def test_the_median_bucket_has_the_least_expected_distance():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(12), 300)
    distance = np.abs(np.arange(12)[:, None] - np.arange(12))
    expected = probs @ distance  # of each bucket that could be predicted
    median = metrics.median_bucket(probs)
    np.testing.assert_allclose(expected[np.arange(300), median], expected.min(1), rtol=1e-12)
    assert (median != probs.argmax(1)).mean() > 0.3
    assert metrics.median_bucket(np.array([[0.5, 0.0, 0.5], [0.1, 0.2, 0.7]], np.float32)).tolist() == [0, 2]
    true = np.array([rng.choice(12, p=p) for p in probs])
    result = Probs(probs, np.tile([0.4, 0.6], (300, 1)))
    (model,) = metrics.scored([result], [None], labels(true), np.ones(300, int), np.full(300, -1))
    assert model["aabd_median"] == np.abs(median - true).mean() < model["aabd"]
    assert model["ci95"]["aabd_median"] == metrics.bootstrap(np.abs(median - true))
