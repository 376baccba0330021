"""The steps of training and evaluation on random images, each as a call that ends when it is done."""

from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import data, ensemble, optim, parallel, training
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.run import outcome, trainer
from agegender_jax.structs import Batch

SOME_STEPS = 1000  # of the schedule, where the config counts in epochs


def train(config: ConfigDict) -> tuple[Callable[[], None], Callable[[], jax.stages.Lowered]]:
    """The step that launch.train runs for `config`, on one batch that lies on the devices; and its program."""
    model = outcome.build_model(config.to_dict(), axis_name=parallel.AXIS)
    tx = optim.build(config.optimizer, config.num_steps or SOME_STEPS)
    driver = trainer.make_driver(config, model, tx)
    key, ema = jax.random.key(config.seed), config.optimizer.ema > 0
    state = driver.replicate(training.init_state(model, tx, key, config.data.image_size, ema=ema))
    batch = driver.split(random_batch(config.batch_size // jax.process_count(), config.data.image_size))

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(driver.step(state, batch))

    return step, lambda: driver.step.lower(state, batch)


def evaluate(config: ConfigDict) -> tuple[Callable[[], None], Callable[[], jax.stages.Lowered]]:
    """`ensemble.predict` on one batch that lies on the device, `eval.batch_size` images; and its program."""
    model = outcome.build_model(config.to_dict())
    batch = jax.device_put(random_batch(config.eval.batch_size, config.data.image_size))
    gender = batch.gender if config.model.gender_to_age == "true" else None
    init = jax.jit(lambda key: model.init(key, data.normalize(batch.image[:1]), train=False))
    variables = init(jax.random.key(config.seed))

    def predict(variables, images):
        return ensemble.predict(model, variables, images, gender)

    def step() -> None:
        jax.block_until_ready(predict(variables, batch.image))

    return step, lambda: jax.jit(predict).lower(variables, batch.image)


def random_batch(count: int, image_size: int) -> Batch:
    draw = np.random.default_rng(0)
    age = draw.integers(0, NUM_AGE_BUCKETS, (count, 1), dtype=np.int32)
    return Batch(
        image=draw.integers(0, 256, (count, image_size, image_size, 3), dtype=np.uint8),
        age=np.concatenate([age, age], 1),
        gender=draw.integers(0, 2, count, dtype=np.int32),
        mask=np.ones(count, np.float32),
    )


def parameters(config: ConfigDict) -> int:
    """How many the net of `config` has; nothing is computed."""
    model, size = outcome.build_model(config.to_dict()), config.data.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
