"""model.dtype=bfloat16: the layers' maps are rounded, everything that adds up over time or decides stays float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import ensemble, models, optim, training
from agegender_jax.config import default
from agegender_jax.models import layers
from agegender_jax.run import train
from agegender_jax.structs import Batch

FLOAT32 = {jnp.dtype("float32")}
FACES = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.uint8)


def kinds(tree):
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


def test_maps_are_bfloat16():
    conv = layers.conv(8, 3, init=jax.nn.initializers.ones, dtype=jnp.dtype("bfloat16"), name=None)
    maps, variables = jax.eval_shape(lambda: conv.init_with_output(jax.random.key(0), jnp.ones((1, 8, 8, 3))))
    assert maps.dtype == jnp.bfloat16 and kinds(variables) == FLOAT32


@pytest.mark.parametrize("name", ["ran56", "resnet18", "levi_hassner"])
def test_parameters_statistics_masks_features_logits_and_probabilities_are_float32(name):
    arguments = {"width": 0.125, "dtype": "bfloat16"}
    net, backbone = models.build(name, num_age_classes=12, **arguments), models.backbone(name, **arguments)
    images = jax.ShapeDtypeStruct(FACES.shape, jnp.float32)
    outputs, variables = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x, train=False), images)
    features, _ = jax.eval_shape(lambda x: backbone.init_with_output(jax.random.key(0), x, train=False), images)
    probs = jax.eval_shape(lambda variables, faces: ensemble.predict(net, variables, faces), variables, FACES)
    assert kinds((outputs, variables, features, probs)) == FLOAT32


def test_statistics_are_those_of_the_maps_in_float32():
    x = jnp.asarray(np.random.default_rng(0).normal(100, 1, (8, 4, 4, 3)), jnp.bfloat16)  # whose sums need more digits
    norm = layers.norm(True, jnp.bfloat16)()
    variables = norm.init(jax.random.key(0), x)  # running statistics 0 and 1
    y, updated = jax.jit(lambda v, x: norm.apply(v, x, mutable=["batch_stats"]))(variables, x)
    values, result = np.asarray(x, np.float32), updated["batch_stats"]
    assert y.dtype == jnp.bfloat16 and kinds(result) == FLOAT32
    np.testing.assert_allclose(result["mean"], 0.1 * values.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(result["var"], 0.9 + 0.1 * values.var((0, 1, 2)), rtol=1e-6)


def test_a_step_keeps_float32():
    config = default()
    config.model.update(name="resnet18", width=0.125, dtype="bfloat16")
    model = models.build("resnet18", num_age_classes=12, width=0.125, dtype="bfloat16", axis_name="data")
    tx = optim.build(config.optimizer, 10)
    driver = train.make_driver(config, model, tx, jax.devices()[:1])
    state = jax.eval_shape(lambda: training.init_state(model, tx, jax.random.key(0), 32, ema=True))
    target = jax.ShapeDtypeStruct((2,), jnp.int32)
    batch = Batch(FACES, jax.ShapeDtypeStruct((2, 2), jnp.int32), target, jax.ShapeDtypeStruct((2,), jnp.float32))
    after = jax.eval_shape(driver.step, state, batch)
    assert kinds((after.params, after.batch_stats, after.ema, after.sums)) == FLOAT32
    assert kinds(after.opt_state) == FLOAT32 | {jnp.dtype("int32")}  # the count of steps
