"""The gender input of the age head, and controls, which are refused as predictors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import ensemble, models
from agegender_jax.models.agegender import AgeGenderNet, feed
from agegender_jax.structs import Batch

LOGITS = jnp.array([[0.0, 1.0], [2.0, 0.5], [-1.0, 3.0]])
PROBS = np.asarray(nn.softmax(LOGITS))
GENDER = jnp.array([0, 0, 1])
EXPECTED = {
    "probs": PROBS,
    "none": np.zeros((3, 0)),
    "logits": LOGITS,
    "stop_gradient": PROBS,
    "hard": [[0, 1], [1, 0], [0, 1]],
    "true": [[1, 0], [1, 0], [0, 1]],
    "shuffled": PROBS[[1, 2, 0]],
}


class Mean(nn.Module):
    """Features that are the image's mean colour."""

    @nn.compact
    def attend(self, images, *, train):
        return images.mean((1, 2)), ()


def test_every_feed_has_a_case():
    assert set(EXPECTED) == set(models.FEEDS)


@pytest.mark.parametrize("kind", EXPECTED)
def test_feed_values(kind):
    np.testing.assert_allclose(feed(kind, LOGITS, GENDER), EXPECTED[kind], atol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_a_shuffled_feed_contains_nothing_of_the_example_or_its_partner_in_mixup(count):
    givers = np.asarray(feed("shuffled", jnp.eye(count), None)).argmax(-1)
    assert sorted(givers.tolist()) == list(range(count)) and (givers != np.arange(count)).all()
    if count >= 4:
        assert (givers // 2 != np.arange(count) // 2).all()


@pytest.mark.parametrize("kind", EXPECTED)
def test_feed_gradients(kind):
    weight = jnp.array([[1.0, -2.0], [0.5, 3.0], [2.0, 1.0]])

    def gradient(f):
        return np.asarray(jax.grad(lambda logits: (f(logits) * weight[:, : f(logits).shape[1]]).sum())(LOGITS))

    through = gradient(nn.softmax)
    expected = {"probs": through, "hard": through, "logits": weight}.get(kind, np.zeros((3, 2)))
    np.testing.assert_allclose(gradient(lambda logits: feed(kind, logits, GENDER)), expected, atol=1e-6)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def net_and_variables(kind):
    net = AgeGenderNet(Mean(), 12, kind)
    variables = net.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    return net, jax.tree.map(lambda x: x + jax.random.normal(jax.random.key(1), x.shape), variables)


@pytest.mark.parametrize("kind", EXPECTED)
def test_the_age_head_sees_the_feed_and_gender_does_not_change(kind, images):
    net, variables = net_and_variables(kind)
    outputs = net.apply(variables, jnp.float32(images), train=False, gender=jnp.array([0, 1, 1, 0]))
    features = jnp.float32(images).mean((1, 2))
    fed = feed(kind, outputs.gender_logits, jnp.array([0, 1, 1, 0]))
    head = variables["params"]["age_head"]
    expected = jnp.concatenate([features, fed], -1) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs.age_logits, expected, rtol=1e-5)


def test_controls_are_no_predictors(images):
    batch = Batch(images, np.zeros((4, 2), np.int32), np.array([0, 1, 1, 0], np.int32), np.ones(4, np.float32))
    for kind in models.CONTROLS:
        net, variables = net_and_variables(kind)
        with pytest.raises(ValueError, match="control"):
            ensemble.predict_all(net, variables, [batch])
        probs = ensemble.predict_all(net, variables, [batch], allow_control=True)
        assert probs.age.shape == (4, 12)
    net, variables = net_and_variables("true")
    flipped = batch.replace(gender=1 - batch.gender)
    a, b = (ensemble.predict_all(net, variables, [x], allow_control=True) for x in (batch, flipped))
    assert np.abs(a.age - b.age).max() > 1e-3 and (a.gender == b.gender).all()


def test_missing_inputs_of_controls_are_errors(images):
    net, variables = net_and_variables("true")
    with pytest.raises(ValueError, match="true gender"):
        net.apply(variables, jnp.float32(images), train=False)
    net, variables = net_and_variables("shuffled")
    with pytest.raises(ValueError, match="at least two"):
        net.apply(variables, jnp.float32(images[:1]), train=False)
