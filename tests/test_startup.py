"""Start-up time: few kernels, traces shared by layers, and zeros that are not compiled."""

import gc
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from agegender_jax import optim, tracing, training
from agegender_jax.config import default
from agegender_jax.models.batch_norm import normalise


def test_normalisations_of_one_shape_share_a_function():
    def loss(x, scale, bias):
        for _ in range(3):
            x = normalise(x, scale, bias, 1e-5, None)[0]
        return jnp.square(x).sum()

    x, channel = jnp.zeros((2, 4, 4, 8)), jnp.zeros(8)
    text = jax.jit(jax.grad(loss, (0, 1, 2))).lower(x, channel, channel).as_text()
    for name in ("_forward", "_backward"):
        assert len(re.findall(rf"func\.func private @{name}\w*\(", text)) == 1
        assert len(re.findall(rf"call @{name}\w*\(", text)) == 3


def test_adam_starts_as_in_optax_without_compiling(monkeypatch):
    """JAX would compile zeros for each shape."""
    compiled, zeros_like = [], jnp.zeros_like
    config = default().optimizer
    config.clip_norm, config.weight_decay = 0.0, 0.0
    params = {"kernel": jnp.ones((3, 17, 5)), "bias": jnp.ones(19), "half": jnp.ones(23, jnp.bfloat16)}
    init = optim.build(config, 10).init

    def record(x, *args, **kwargs):
        compiled.extend([] if isinstance(x, jax.core.Tracer) else [x.shape])
        return zeros_like(x, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(jnp, "zeros_like", record)
        state = init(params)
    assert compiled == []
    expected = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(lambda step: 0.1)).init(params)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        assert isinstance(a, jax.Array) and a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert jax.tree.map(jnp.shape, jax.eval_shape(init, params)) == jax.tree.map(jnp.shape, expected)


def test_the_step_is_traced_without_garbage_collection():
    states = []

    def prepare_images(keys, images):
        states.append(gc.isenabled())
        raise InterruptedError

    def step(gender):
        batch = types.SimpleNamespace(gender=gender, image=None)
        state = types.SimpleNamespace(step=jnp.zeros((), int))
        training.train_step(state, batch, model=None, tx=None, key=jax.random.key(0), prepare_images=prepare_images)

    assert gc.isenabled()
    with pytest.raises(InterruptedError):
        jax.vmap(step, axis_name="data")(jnp.zeros((1, 4), int))
    assert states == [False] and gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with tracing.without_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
