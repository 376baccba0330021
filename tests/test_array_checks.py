"""Public functions refuse arrays that do not fit together, traced or not, and count classes from the arrays."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from agegender_jax import array_checks, data, ensemble, losses, metrics, models
from agegender_jax.metrics import calibration, label_noise
from agegender_jax.structs import Batch, Outputs, Probs

IMAGES = np.zeros((4, 8, 8, 3), np.uint8)
INTS = np.zeros(4, int)
AGE = np.zeros((4, 2), int)


class Uniform(nn.Module):
    """Equal probabilities of 12 buckets and 2 genders."""

    @nn.compact
    def __call__(self, images, *, train, gender=None):
        return Outputs(jnp.zeros((len(images), 12)), jnp.zeros((len(images), 2)))


def probs(count=4, ages=12, genders=2):
    return Probs(np.full((count, ages), 1 / ages, np.float32), np.full((count, genders), 1 / genders, np.float32))


@pytest.mark.parametrize(
    "value, expected, message",
    [
        (IMAGES / 255, "uint8 B H W 3", "x must be uint8 [B, H, W, 3], got float64 [4, 8, 8, 3]"),
        (IMAGES[0], "uint8 B H W 3", "x must be uint8 [B, H, W, 3], got uint8 [8, 8, 3]"),
        (IMAGES[..., :1], "uint8 B H W 3", "x must be uint8 [B, H, W, 3], got uint8 [4, 8, 8, 1]"),
        (np.uint8(1), "uint8 ... 3", "x must be uint8 [..., 3], got uint8 []"),
        (np.zeros((2, 3)), "float A A", "x must be float [A, A] where A = 2, got float64 [2, 3]"),
        ([0.5, 1.0], "int N", "x must be int [N], got float64 [2]"),
    ],
)
def test_check_names_the_argument(value, expected, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        array_checks.check(x=(value, expected))


def test_check_returns_sizes():
    bfloat16 = jnp.zeros((3, 5), jnp.bfloat16)
    assert array_checks.check(a=(bfloat16, "float N K"), b=([True] * 3, "number N")) == {"N": 3, "K": 5}
    assert array_checks.check(images=(IMAGES, "uint8 ... 3")) == {}


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
    "function, argument, message",
    [
        (lambda x: ensemble.predict(Uniform(), {}, x), IMAGES.astype("float32") / 255, "images must be uint8"),
        (lambda x: ensemble.predict(Uniform(), {}, x), IMAGES[0], "images must be uint8 [B, H, W, 3], got uint8 [8"),
        (lambda x: ensemble.predict(Uniform(), {}, IMAGES, x), np.zeros(1, int), "gender must be int [B] where B = 4"),
        (lambda x: ensemble.mean_probs([probs(), x]), probs(1), "members[1].age must be float [B, A] where B = 4"),
        (
            lambda x: ensemble.mean_probs([probs(), x]),
            probs(ages=1),
            "members[1].age must be float [B, A] where A = 12",
        ),
        (
            lambda x: ensemble.mean_probs([probs(), probs(), Probs(probs().age, x)]),
            probs(genders=1).gender,
            "members[2].gender must be float [B, G] where G = 2, got float32 [4, 1]",
        ),
        (lambda x: ensemble.mean_probs([x]), Probs(probs().age, probs(1).gender), "members[0].gender must be float"),
        (lambda x: ensemble.calibrate(probs(), x, 1.0), np.ones(12), "age_temperature must be number []"),
        (lambda x: ensemble.calibrate(x, 1.0, 1.0), Probs(probs().age, probs(1).gender), "probs.gender must be float"),
        (data.normalize, IMAGES.astype("float32") / 255, "images must be uint8 [..., 3], got float32"),
        (data.normalize, IMAGES[..., :1], "images must be uint8 [..., 3], got uint8 [4, 8, 8, 1]"),
        (lambda x: losses.age_loss(x, AGE), np.zeros((1, 12), "float32"), "age must be int [B, 2] where B = 1"),
        (lambda x: losses.age_loss(np.zeros((4, 12), "float32"), x), INTS, "age must be int [B, 2], got"),
        (lambda x: losses.gender_loss(np.zeros((4, 2), "float32"), x), INTS[:1], "gender must be int [B] where B = 4"),
    ],
)
def test_wrong_arrays_are_refused(function, argument, message, traced):
    with pytest.raises(ValueError, match=re.escape(message)):
        (jax.jit(function) if traced else function)(argument)


@pytest.mark.parametrize("name", ["resnet18", "ran56", "levi_hassner"])
def test_nets_refuse_images_that_are_not_normalized(name):
    sizes = {"width": 0.125}
    images = np.zeros((1, 32, 32, 3), np.uint8)
    nets = (
        models.build(name, num_age_classes=12, **sizes),
        models.classifier(name, num_classes=3, **sizes),
        models.backbone(name, **sizes),
    )
    for net in nets:
        for wrong in (images, images[0].astype("float32"), images[..., :1].astype("float32")):
            with pytest.raises(ValueError, match=re.escape("images must be float [B, H, W, 3]")):
                jax.eval_shape(lambda x, net=net: net.init(jax.random.key(0), x, train=False), wrong)


def test_predict_all_refuses_nothing_and_batches_that_do_not_belong_together():
    with pytest.raises(ValueError, match="at least one batch"):
        ensemble.predict_all(Uniform(), {}, [])
    batch = Batch(IMAGES, AGE, INTS, np.ones(1, np.float32))
    with pytest.raises(ValueError, match=re.escape("batch.mask must be number [B] where B = 4")):
        ensemble.predict_all(Uniform(), {}, [batch])


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_temperatures_are_refused(temperature):
    with pytest.raises(ValueError, match="gender_temperature must be above 0"):
        ensemble.calibrate(probs(), 1.0, temperature)


NEEDS_LABELS = (metrics.outcomes, metrics.scores, metrics.losses, metrics.confusion)


@pytest.mark.parametrize("function", NEEDS_LABELS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"age_probs": probs(1).age}, "gender_probs must be number [N, G] where N = 1"),
        ({"gender_probs": probs(1).gender}, "gender_probs must be number [N, G] where N = 4"),
        ({"age": AGE[:1]}, "age must be int [N, 2] where N = 4"),
        ({"age": AGE[:, :1]}, "age must be int [N, 2], got"),
        ({"gender": INTS[:1]}, "gender must be int [N] where N = 4"),
        ({"gender": INTS.astype(float)}, "gender must be int [N], got float64"),
        ({"age": AGE + 12}, "age must hold ranges first <= last of 12 buckets"),
        ({"age": AGE - 1}, "age must hold ranges"),
        ({"age": AGE + [1, 0]}, "age must hold ranges"),
        ({"gender": INTS + 2}, "gender must be in 0 to 1, got 2 to 2"),
        ({"gender": INTS - 1}, "gender must be in 0 to 1"),
    ],
)
def test_scores_refuse_labels_that_do_not_belong_to_the_probabilities(function, changes, message):
    options = {"age_probs": probs().age, "gender_probs": probs().gender, "age": AGE, "gender": INTS}
    with pytest.raises(ValueError, match=re.escape(message)):
        function(**options | changes)


RIGHT = np.zeros((4, 12), bool)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda: metrics.collapsed(probs().age, probs().gender, AGE, INTS[:1], False), "gender must be int [N] where"),
        (lambda: metrics.scored([probs()], [None], AGE, INTS, INTS[:1]), "gender must be int [N] where N = 1"),
        (lambda: metrics.by_group(probs().age, probs().gender, AGE, INTS, INTS[:1], ["x"] * 4), "race must be int"),
        (lambda: metrics.by_group(probs().age, probs().gender, AGE, INTS, INTS, ["x"]), "bands must be [N]"),
        (lambda: metrics.expected_age(probs().age, [50.0]), "bucket_years must be number [A] where A = 12"),
        (lambda: metrics.bucket_years(AGE, INTS[:1]), "age_years must be int [N] where N = 4"),
        (lambda: metrics.auc([np.zeros(4)], np.zeros(1, bool)), "positive must be bool [N] where N = 4"),
        (lambda: metrics.kappa(np.zeros((2, 3), int)), "counts must be int [A, A]"),
        (lambda: metrics.balanced_accuracy(np.zeros((2, 3), int)), "counts must be int [G, G]"),
        (lambda: metrics.compare(np.zeros((2, 4), int), np.zeros((2, 1), int)), "b must be number [S, N] where N = 4"),
        (lambda: metrics.compare(np.zeros((2, 4), int), np.zeros((1, 4), int)), "b must be number [S, N] where S = 2"),
        (lambda: metrics.wilson(np.zeros((4, 1))), "right must be number [N]"),
        (lambda: metrics.bootstrap(np.zeros((4, 1))), "values must be number [N]"),
        (lambda: metrics.bootstrap_means(np.zeros(4)), "values must be number [N, K]"),
        (lambda: metrics.nearest_bucket(INTS[:1], AGE), "age must be int [N, 2] where N = 1"),
        (lambda: calibration.nll(probs().age, RIGHT[:1]), "right must be bool [N, K] where N = 4"),
        (lambda: calibration.reliability(probs().age, RIGHT[:, :1]), "right must be bool [N, K] where K = 12"),
        (lambda: calibration.fit_temperature(probs().age, RIGHT.astype(int)), "right must be bool [N, K], got int"),
        (lambda: calibration.scored({"before": probs().age, "after": None}, RIGHT[:1]), "right must be bool"),
        (lambda: label_noise.accuracy_ceiling(RIGHT[:, 0], INTS[:1], 2), "picture must be any [K] where K = 4"),
    ],
)
def test_other_metrics_refuse_arrays_that_do_not_belong_together(function, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        function()


def test_classes_are_counted_from_the_arrays():
    """A net of 20 ages and 3 genders, by scikit-learn."""
    rng = np.random.default_rng(0)
    first, gender = rng.integers(0, 20, 300), rng.integers(0, 3, 300)
    first[:2], gender[:2] = 19, 2
    age = np.stack([first, first], 1)
    result = Probs(rng.dirichlet(np.ones(20), 300), rng.dirichlet(np.ones(3), 300))
    bucket, predicted = result.age.argmax(1), result.gender.argmax(1)
    counts = metrics.confusion(result.age, result.gender, age, gender)
    assert counts["age"].shape == (20, 20) and counts["gender"].shape == (3, 3)
    np.testing.assert_array_equal(counts["age"], sklearn_metrics.confusion_matrix(first, bucket, labels=range(20)))
    cross_entropy = metrics.losses(result.age, result.gender, age, gender)
    assert cross_entropy["loss_age"] == pytest.approx(sklearn_metrics.log_loss(first, result.age, labels=range(20)))
    years = 5 * first
    bucket_years = metrics.bucket_years(age, years, num_buckets=20)
    assert bucket_years == list(5.0 * np.arange(20))
    (model,) = metrics.scored([result], [bucket_years], age, gender, years)
    assert model["aabd"] == pytest.approx(sklearn_metrics.mean_absolute_error(first, bucket))
    assert model["gender_balanced_accuracy"] == pytest.approx(
        sklearn_metrics.balanced_accuracy_score(gender, predicted)
    )
    kappa = sklearn_metrics.cohen_kappa_score(first, bucket, weights="quadratic", labels=range(20))
    assert model["age_kappa"] == pytest.approx(kappa)
    other = Probs(np.roll(result.age, 1, 0), np.roll(result.gender, 1, 0))
    alone = metrics.scored([result, other], [bucket_years] * 2, age, gender, years)
    (pair,) = metrics.paired([result, other], [bucket_years] * 2, [(0, 1)], age, gender, years)
    for name in ("age_kappa", "gender_balanced_accuracy"):
        assert pair[name]["difference"] == pytest.approx(alone[0][name] - alone[1][name])
    groups = metrics.by_group(result.age, result.gender, age, gender, np.zeros(300, int), ["all"] * 300)
    assert list(groups["age"]) == [str(i) for i in range(20)] and list(groups["gender"]) == ["0", "1", "2"]
    assert metrics.majority(age, gender)["age_accuracy"] == np.bincount(first).max() / 300
    assert ensemble.evaluate([result, other], age, gender)["age_accuracy"] is not None
