"""The training step and the prediction of every shipped config, traced at the config's own size."""

import importlib

import jax
import pytest
import small_nets
from test_config import SHIPPED

FAST = {("ran", ""), ("resnet", "50,paper"), ("quickstart", "resnet"), ("best", "")}
CONFIGS = [pytest.param(*c[:2], marks=() if c[:2] in FAST else pytest.mark.slow) for c in SHIPPED]


@pytest.mark.parametrize("name, variant", CONFIGS)
def test_shapes_of_the_step_and_of_predictions(name, variant):
    config = importlib.import_module(f"agegender_jax.configs.{name}").get_config(variant)
    state, after, probs = small_nets.trace(config)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(after)] == [(x.shape, x.dtype) for x in jax.tree.leaves(state)]
    assert (probs.age.shape, probs.gender.shape) == ((config.batch_size, 12), (config.batch_size, 2))
