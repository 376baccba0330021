"""The random keys of the training step: each image and each device has its own at every step."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from agegender_jax import parallel, training
from agegender_jax.models.agegender import AgeGenderNet
from agegender_jax.structs import Batch

COUNT, STEPS = 8, 3


class Observer(nn.Module):
    """A backbone without parameters whose statistics are the images and a dropout draw of every device."""

    @nn.compact
    def attend(self, images, *, train):
        brightness = images[:, 0, 0, 0]
        seen = self.variable("batch_stats", "images", jnp.zeros, COUNT)
        drawn = self.variable("batch_stats", "dropout", jnp.zeros, COUNT)
        if train:
            seen.value = jax.lax.all_gather(brightness, parallel.AXIS, tiled=True)
            draw = jax.random.uniform(self.make_rng("dropout"))
            drawn.value = jnp.resize(jax.lax.all_gather(draw, parallel.AXIS), COUNT)
        return brightness[:, None], ()


def draw_images(keys, images):
    return jax.vmap(lambda key, image: jnp.full(image.shape, jax.random.uniform(key)))(keys, images)


def observed(num_devices, seed=0):
    """Return the draws of images [STEPS, COUNT] and of dropout [STEPS, num_devices]."""
    model, tx = AgeGenderNet(Observer(), 12), optax.sgd(0.0)
    key = jax.random.key(seed)
    step = functools.partial(training.train_step, model=model, tx=tx, key=key, prepare_images=draw_images)
    driver = parallel.driver("shard_map", step, jax.devices()[:num_devices])
    labels = np.zeros(COUNT, np.int32)
    batch = Batch(np.zeros((COUNT, 4, 4, 3), np.uint8), np.stack([labels, labels], 1), labels, np.ones(COUNT))
    state = driver.replicate(training.init_state(model, tx, jax.random.key(0), 4))
    images, dropout = [], []
    for _ in range(STEPS):
        state = driver.step(state, driver.split(batch))
        stats = state.batch_stats["backbone"]
        images.append(np.asarray(stats["images"]))
        dropout.append(np.asarray(stats["dropout"])[:num_devices])
    return np.stack(images), np.stack(dropout)


def test_every_image_has_its_own_key_at_every_step_on_any_number_of_devices():
    one, many = observed(1)[0], observed(4)[0]
    assert len(np.unique(one)) == STEPS * COUNT
    np.testing.assert_array_equal(many, one)
    assert not np.isin(observed(1, seed=1)[0], one).any()


def test_every_device_has_its_own_dropout_at_every_step():
    assert len(np.unique(observed(4)[1])) == STEPS * 4
