"""One device against many, shard_map against pmap: the same losses, the same parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import data, models, optim, parallel, training
from agegender_jax.config import default
from agegender_jax.data.augment import augment
from agegender_jax.structs import Batch

BATCH, SIZE, STEPS = 16, 32, 10


def prepare_images(keys, images):
    return data.normalize(augment(keys, images, default().augment))


def batches():
    rng = np.random.default_rng(0)
    while True:
        age = rng.integers(0, 12, (BATCH, 1), dtype=np.int32)
        yield Batch(
            image=rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8),
            age=np.concatenate([age, age], 1),
            gender=rng.integers(0, 2, BATCH, dtype=np.int32),
            mask=np.ones(BATCH, np.float32),
        )


def run(name, num_devices, steps=STEPS, scale=None, optimizer="sgd"):
    """Losses by step, and the final parameters; `scale` wraps the optimizer to fake a wrong reduction."""
    config = default()
    with config.unlocked():
        config.optimizer.update(name=optimizer, lr=0.1, schedule="constant", clip_norm=0.0, momentum=0.0)
    model = models.build("resnet18", num_age_classes=12, width=0.125, axis_name=parallel.AXIS)
    tx = optim.build(config.optimizer, steps)
    if scale:
        import optax

        tx = optax.chain(optax.scale(scale), tx)
    step = functools.partial(
        training.train_step, model=model, tx=tx, key=jax.random.key(7), prepare_images=prepare_images
    )
    driver = parallel.driver(name, step, jax.devices()[:num_devices])
    state = driver.replicate(training.init_state(model, tx, jax.random.key(0), SIZE))
    losses, params = [], []
    for _, batch in zip(range(steps), batches(), strict=False):
        state = driver.step(state, driver.split(batch))
        fetched = jax.tree.map(np.asarray, driver.fetch(state))
        losses.append(float(fetched.sums["loss"]))
        params.append(fetched.params)
    return np.diff([0.0, *losses]), params


@pytest.fixture(scope="module")
def one_device():
    return run("shard_map", 1)


def gradient(params):
    """What plain SGD applied in the first step."""
    model = models.build("resnet18", num_age_classes=12, width=0.125, axis_name=parallel.AXIS)
    start = model.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), train=False)["params"]
    return jax.tree.map(lambda a, b: (np.asarray(a) - b) / 0.1, start, params[0])


def assert_same_training(many, one):
    np.testing.assert_allclose(many[0], one[0], rtol=1e-4)
    for got, want in zip(jax.tree.leaves(gradient(many[1])), jax.tree.leaves(gradient(one[1])), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max() + 1e-6)


@pytest.mark.parametrize("num_devices", [2, 8])
def test_many_devices_train_like_one(one_device, num_devices):
    assert_same_training(run("shard_map", num_devices), one_device)


def test_gradients_scaled_by_the_number_of_devices_are_noticed(one_device):
    with pytest.raises(AssertionError):
        assert_same_training(run("shard_map", 2, scale=2.0), one_device)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_pmap_and_shard_map_agree_bit_for_bit(optimizer):
    a, b = (run(name, 2, steps=4, optimizer=optimizer) for name in parallel.NAMES)
    np.testing.assert_array_equal(a[0], b[0])
    jax.tree.map(np.testing.assert_array_equal, a[1][-1], b[1][-1])


def test_loss_falls(one_device):
    assert one_device[0][0] == pytest.approx(np.log(12) + np.log(2), rel=0.05)
