"""Training and evaluation steps on random images, each a call that returns when the step has finished."""

from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import data, ensemble, models, optim, parallel, training
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.models import sizes
from agegender_jax.run import train as train_command
from agegender_jax.run.training import teacher
from agegender_jax.structs import Batch

SOME_STEPS = 1000  # of the schedule if the config counts in epochs
PASSES = {"train": 3, "evaluate": 1}  # the backward pass computes the gradients of a layer's input and of its kernel


def train(config: ConfigDict) -> Callable[[], None]:
    """Return the step that launch.train runs for `config`, on one batch on the devices."""
    model = models.from_config(config.model, axis_name=parallel.AXIS)
    tx = optim.build(config.optimizer, config.num_steps or SOME_STEPS)
    driver = train_command.make_driver(config, model, tx, teacher=teacher.load(config))
    key, ema = jax.random.key(config.seed), config.optimizer.ema > 0
    state = driver.replicate(training.init_state(model, tx, key, config.data.image_size, ema=ema))
    batch = driver.split(random_batch(config.batch_size // jax.process_count(), config.data.image_size))

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(driver.step(state, batch))

    return step


def evaluate(config: ConfigDict) -> Callable[[], None]:
    """Return `ensemble.predict` on one batch of `eval.batch_size` images on the device."""
    model = models.from_config(config.model)
    batch = jax.device_put(random_batch(config.eval.batch_size, config.data.image_size))
    gender = batch.gender if config.model.gender_to_age == "true" else None
    init = jax.jit(lambda key: model.init(key, data.normalize(batch.image[:1]), train=False))
    variables = init(jax.random.key(config.seed))

    def step() -> None:
        jax.block_until_ready(ensemble.predict(model, variables, batch.image, gender))

    return step


def random_batch(count: int, image_size: int) -> Batch:
    draw = np.random.default_rng(0)
    age = draw.integers(0, NUM_AGE_BUCKETS, (count, 1), dtype=np.int32)
    return Batch(
        image=draw.integers(0, 256, (count, image_size, image_size, 3), dtype=np.uint8),
        age=np.concatenate([age, age], 1),
        gender=draw.integers(0, 2, count, dtype=np.int32),
        mask=np.ones(count, np.float32),
        age_years=10 * age[:, 0],
    )


def parameters(config: ConfigDict) -> int:
    """Return the number of parameters of the net of `config`; only shapes are computed."""
    return _count(config)[0]


def gflops(what: str, config: ConfigDict) -> float:
    """Return GFLOP of one step from shapes: two per multiply-add of a convolution or dense layer, in each pass.

    Other layers, augmentation and the optimizer are not counted. The gradient of the images is, though unused.

    Args:
      what: "train" or "evaluate".
    """
    images = config.eval.batch_size if what == "evaluate" else config.batch_size
    return 2e-9 * PASSES[what] * images * _count(config)[1]


def _count(config: ConfigDict) -> tuple[int, int]:
    return sizes.count(models.from_config(config.model), config.data.image_size)
