"""The loss of a training step and its config fields, on a linear model."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agegender_jax import config as config_lib
from agegender_jax import losses, parallel, training
from agegender_jax.run import train
from agegender_jax.structs import Batch, Outputs

WEIGHTS = {"age_weight": 0.5, "gender_weight": 3.0}
SMOOTHING = 0.2


class Linear(nn.Module):
    """Both heads linear in the image's mean colour."""

    @nn.compact
    def __call__(self, images, *, train):
        features = images.mean((1, 2))
        return Outputs(nn.Dense(12, name="age")(features), nn.Dense(2, name="gender")(features))


def prepare_images(keys, images):
    return images.astype(jnp.float32) / 255


@pytest.fixture(scope="module")
def batch():
    draw = np.random.default_rng(0)
    age = np.sort(draw.integers(0, 12, (8, 2), dtype=np.int32), axis=1)
    images = draw.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    return Batch(images, age, draw.integers(0, 2, 8, dtype=np.int32), np.ones(8, np.float32), np.full(8, -1, np.int32))


@pytest.mark.parametrize("devices", [1, 8])
def test_an_update_follows_the_weighted_mean_of_both_losses(batch, devices):
    model, tx = Linear(), optax.sgd(1.0)
    options = {"prepare_images": prepare_images, "label_smoothing": SMOOTHING, **WEIGHTS}
    step = functools.partial(training.train_step, model=model, tx=tx, key=jax.random.key(1), **options)
    driver = parallel.driver("shard_map", step, jax.devices()[:devices])
    state = training.init_state(model, tx, jax.random.key(0), 4)
    params = jax.tree.map(np.array, state.params)
    after = driver.step(driver.replicate(state), driver.split(batch))

    def parts(params):
        outputs = model.apply({"params": params}, prepare_images(None, batch.image), train=True)
        age = losses.age_loss(outputs.age_logits, batch.age, SMOOTHING).mean()
        return age, losses.gender_loss(outputs.gender_logits, batch.gender, SMOOTHING).mean()

    def loss(params):
        age, gender = parts(params)
        return WEIGHTS["age_weight"] * age + WEIGHTS["gender_weight"] * gender

    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    expected = jax.tree.map(lambda value, gradient: value - gradient, params, jax.grad(loss)(params))
    jax.tree.map(close, after.params, expected)
    close([after.sums[name] for name in ("loss", "loss_age", "loss_gender")], [loss(params), *parts(params)])
    assert after.step == 1 and after.sums["steps"] == 1


def test_a_config_sets_weights_average_seed_and_augmentation(monkeypatch):
    config = config_lib.default()
    config.seed = 7
    config.loss.update(label_smoothing=SMOOTHING, **WEIGHTS)
    config.optimizer.ema, config.train.on_nonfinite = 0.9, "skip"
    config.augment.update(flip=False, shift=0.0, colour=0.0, grey=1.0)
    monkeypatch.setattr(parallel, "driver", lambda name, step, devices: step)
    options = train.make_driver(config, None, None).keywords
    expected = WEIGHTS | {"label_smoothing": SMOOTHING, "ema_decay": 0.9, "skip_nonfinite": True}
    assert {name: options[name] for name in expected} == expected
    assert options["key"] == jax.random.fold_in(jax.random.key(7), 1)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    images = options["prepare_images"](jax.random.split(jax.random.key(0), 2), pixels)
    grey = np.repeat(pixels.mean(-1, keepdims=True), 3, -1)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(images, (grey / 255 - mean) / deviation, rtol=1e-4, atol=1e-5)
