import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import optim
from agegender_jax.config import default, paper


def optimizer(**fields):
    config = default().optimizer
    config.update(**fields)
    return config


@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 1000])
def test_cosine_rises_to_the_peak_and_falls_to_the_final_rate(num_steps):
    config = optimizer(lr=0.005, warmup=0.1, final=0.01)
    rates = np.array([optim.schedule(config, num_steps)(step) for step in range(num_steps + 1)])
    assert rates.max() == pytest.approx(0.005) and (rates > 0).all()
    assert rates.argmax() == round(0.1 * num_steps)
    if num_steps > 3:
        assert rates[-1] == pytest.approx(5e-5, rel=0.01) and rates[0] < 0.005


def test_the_papers_recipe_is_adam_at_a_constant_rate():
    config = default()
    paper(config)
    tx = optim.build(config.optimizer, 100)
    params = {"kernel": jnp.ones((2, 2))}
    updates, _ = tx.update({"kernel": jnp.full((2, 2), 1e6)}, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.005, rtol=1e-5)  # neither clipped nor warmed up


def test_clipping_bounds_the_global_norm():
    tx = optim.build(optimizer(name="sgd", lr=1.0, schedule="constant", momentum=0.0, clip_norm=1.0), 10)
    params = {"a": jnp.zeros(3), "b": jnp.zeros(4)}
    updates, _ = tx.update({"a": jnp.full(3, 10.0), "b": jnp.full(4, -10.0)}, tx.init(params), params)
    assert np.sqrt(sum((u**2).sum() for u in updates.values())) == pytest.approx(1.0, rel=1e-5)


def test_weight_decay_shrinks_kernels_and_nothing_else():
    tx = optim.build(optimizer(name="sgd", lr=0.1, schedule="constant", momentum=0.0, weight_decay=0.5), 10)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "scale": jnp.ones(2)}
    updates, _ = tx.update({name: jnp.zeros_like(p) for name, p in params.items()}, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.05)
    np.testing.assert_array_equal(updates["bias"], 0.0)
    np.testing.assert_array_equal(updates["scale"], 0.0)
