"""Gradient accumulation and rematerialisation: the same step in less memory."""

import collections
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_training

from agegender_jax import config as config_lib
from agegender_jax import data, models, parallel, training
from agegender_jax.errors import ConfigError
from agegender_jax.run import checks
from agegender_jax.structs import Outputs

BATCH = next(tiny_training.batches())


class Plain(nn.Module):
    """One convolution without BatchNorm."""

    @nn.compact
    def __call__(self, images, *, train):
        features = nn.softplus(nn.Conv(8, (3, 3), (2, 2))(images)).mean((1, 2))
        return Outputs(nn.Dense(12)(features), nn.Dense(2)(features))


def prepare_images(keys, images):
    return data.normalize(images)


def driver_of(model, devices=1, **options):
    step = functools.partial(
        training.train_step,
        model=model,
        tx=optax.sgd(1.0),
        key=jax.random.key(7),
        prepare_images=prepare_images,
        **options,
    )
    return parallel.driver("shard_map", step, jax.devices()[:devices])


def state_after_step(model, devices=1, **options):
    """Return the state after one step."""
    driver = driver_of(model, devices, **options)
    state = driver.replicate(training.init_state(model, optax.sgd(1.0), jax.random.key(0), tiny_training.SIZE))
    return jax.tree.map(np.array, driver.step(state, driver.split(BATCH)))


def assert_close(a, b, rtol=1e-5, atol=1e-6):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), a, b)


@pytest.mark.parametrize("devices, options", [(1, {}), (2, {"mixup": 0.3})], ids=["plain", "mixup, two devices"])
def test_gradients_of_parts_average_to_that_of_the_batch(devices, options):
    whole, split = state_after_step(Plain(), **options), state_after_step(Plain(), devices, accumulate=4, **options)
    assert_close((split.params, split.sums), (whole.params, whole.sums))


def test_batch_norm_sees_the_parts_in_turn():
    model = tiny_training.build_model()
    state = training.init_state(model, optax.sgd(1.0), jax.random.key(0), tiny_training.SIZE)
    single = tiny_training.AgeGenderNet(tiny_training.Smooth(axis_name=None), 12)
    apply = jax.jit(lambda variables, images: single.apply(variables, images, train=True, mutable=["batch_stats"])[1])
    stats = state.batch_stats
    for part in (data.normalize(BATCH.image[n::2]) for n in range(2)):
        stats = apply({"params": state.params, "batch_stats": stats}, part)["batch_stats"]
    assert_close(state_after_step(model, accumulate=2).batch_stats, stats, rtol=1e-4)


@pytest.mark.parametrize("mixup", [0.0, 0.3])
def test_parts_do_not_depend_on_the_number_of_devices(mixup):
    model = tiny_training.build_model()
    one, four = (state_after_step(model, devices, accumulate=2, mixup=mixup) for devices in (1, 4))
    assert_close((four.params, four.batch_stats, four.sums), (one.params, one.batch_stats, one.sums), rtol=1e-4)


def test_parts_draw_their_own_dropout():
    model = models.AgeGenderNet(tiny_training.Smooth(), 12, dropout=0.5)
    seen = []

    def age_loss(logits, age, smoothing, years):
        jax.debug.callback(lambda x: seen.append(np.array(x)), logits)
        return 0 * logits.sum(-1)

    same = jax.tree.map(lambda x: np.concatenate([x[:4]] * 4), BATCH)
    driver = driver_of(model, accumulate=4, age_loss=age_loss)
    state = training.init_state(model, optax.sgd(1.0), jax.random.key(0), tiny_training.SIZE)
    jax.block_until_ready(driver.step(driver.replicate(state), driver.split(same)))
    jax.effects_barrier()
    assert len({x.tobytes() for x in seen}) == 4


class Deep(nn.Module):
    """A convolution and many activations, each of which the backward pass needs."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(8, (3, 3))(images)
        for _ in range(12):
            x = jnp.tanh(x)
        return Outputs(nn.Dense(12)(x.mean((1, 2))), nn.Dense(2)(x.mean((1, 2))))


def test_rematerialisation_gives_the_same_step_without_repeating_convolutions():
    states, texts = [], []
    state = training.init_state(Deep(), optax.sgd(1.0), jax.random.key(0), tiny_training.SIZE)
    state = jax.tree.map(np.array, state)
    for remat in (False, True):
        driver = driver_of(Deep(), remat=remat)
        inputs = driver.replicate(state), driver.split(BATCH)
        lowered = driver.step.lower(*inputs)
        texts.append(lowered.as_text())
        states.append(jax.tree.map(np.array, lowered.compile()(*inputs)))
    assert_close(*((state.params, state.sums) for state in states))
    assert [text.count("stablehlo.tanh") for text in texts] == [12, 24]
    assert len({text.count("stablehlo.convolution") for text in texts}) == 1


@pytest.mark.parametrize("name", ["resnet18", "ran56"])
def test_rematerialisation_repeats_activations_and_no_product_of_a_net(name):
    """Counted on both platforms: a convolution is traced for each."""
    model = models.build(name, num_age_classes=12, width=0.125, axis_name=parallel.AXIS)
    state = jax.eval_shape(
        lambda key: training.init_state(model, optax.sgd(1.0), key, tiny_training.SIZE), jax.random.key(0)
    )
    counts = []
    for remat in (False, True):
        driver = driver_of(model, remat=remat)
        program = jax.make_jaxpr(driver.step)(state, driver.split(BATCH))
        counts.append(primitives(program))
    once, twice = counts
    assert [twice[product] - once[product] for product in ("conv_general_dilated", "dot_general")] == [0, 0]
    assert once["conv_general_dilated"] > 60 and twice["rsqrt"] == 2 * once["rsqrt"] and twice["max"] > once["max"]


def primitives(program):
    """Return how often each primitive occurs, those of nested programs included."""
    program = getattr(program, "jaxpr", program)
    counted = collections.Counter(equation.primitive.name for equation in program.eqns)
    for equation in program.eqns:
        for value in jax.tree.leaves(list(equation.params.values())):
            if hasattr(getattr(value, "jaxpr", value), "eqns"):
                counted += primitives(value)
    return counted


def test_a_batch_must_have_equal_parts():
    config = config_lib.default()
    config.accumulate, config.batch_size = 3, 4 * jax.device_count()
    with pytest.raises(ConfigError, match="equal parts"):
        checks.parts(config)
    config.batch_size = 3 * jax.device_count()
    checks.parts(config)
    config.augment.mixup = 0.1
    with pytest.raises(ConfigError, match="even number"):
        checks.parts(config)
