"""The moving average of the parameters and of BatchNorm's statistics."""

import functools

import jax
import numpy as np
import optax
import pytest
import tiny_training

from agegender_jax import models, parallel, training
from agegender_jax.checkpoint import Checkpoints, load_variables

DECAYS = (0.1, 0.15, 0.15)  # the smaller of 0.15 and (1 + step) / (10 + step), for steps 0, 1 and 2


@pytest.fixture(scope="module")
def states():
    """The states at steps 0 to 3 of a net with BatchNorm, on the host."""
    model, tx = tiny_training.build_model(), optax.sgd(0.1)
    step = functools.partial(
        training.train_step,
        model=model,
        tx=tx,
        key=jax.random.key(7),
        prepare_images=tiny_training.prepare_images,
        ema_decay=max(DECAYS),
    )
    driver = parallel.driver("shard_map", step, jax.devices()[:1])
    state = driver.replicate(training.init_state(model, tx, jax.random.key(0), tiny_training.SIZE, ema=True))
    states = [jax.tree.map(np.array, state)]
    for _, batch in zip(DECAYS, tiny_training.batches(), strict=False):
        state = driver.step(state, driver.split(batch))
        states.append(jax.tree.map(np.array, state))
    return states


def variables(state):
    return {"params": state.params, "batch_stats": state.batch_stats}


def assert_close(actual, expected):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), actual, expected)


def test_average_of_parameters_and_statistics_follows_its_formula(states):
    expected = variables(states[0])
    assert expected["batch_stats"]
    for decay, state in zip(DECAYS, states[1:], strict=True):
        expected = jax.tree.map(
            lambda old, new, decay=decay: decay * old + (1 - decay) * new, expected, variables(state)
        )
        assert_close(state.ema, expected)


def test_evaluation_uses_the_average_where_there_is_one(states, tmp_path):
    state = states[-1]
    assert training.eval_variables(state) is state.ema
    assert training.eval_variables(state.replace(ema=None)) == variables(state)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, state, {})
    checkpoints.close()
    assert_close(load_variables(tmp_path, "latest")[0], state.ema)


def test_a_net_without_batchnorm_has_an_average(tmp_path):
    model = models.build("levi_hassner", num_age_classes=12, width=1 / 64)
    state = training.init_state(model, optax.sgd(0.1), jax.random.key(0), 32, ema=True)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, state, {})
    restored, _ = checkpoints.restore_latest(state)
    checkpoints.close()
    assert_close(restored.ema, variables(state))
    assert load_variables(tmp_path, "latest")[0]["batch_stats"] == {}
