"""BatchNorm against flax's own, on one device and on several."""

import functools
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from test_platforms import count

from agegender_jax import models
from agegender_jax.models import layers


def mesh(count):
    return Mesh(np.array(jax.devices()[:count]), ("data",))


def norm_and_gradients(norm, x, scale, bias, cotangent):
    """Return y, gradients of x, scale and bias, and the running statistics after one batch."""
    variables = {"batch_stats": {"mean": jnp.full_like(bias, 0.5), "var": jnp.full_like(bias, 2.0)}}

    def f(x, scale, bias):
        return norm.apply({**variables, "params": {"scale": scale, "bias": bias}}, x, mutable=["batch_stats"])

    y, pullback, updated = jax.vjp(f, x, scale, bias, has_aux=True)
    return y, *pullback(cotangent), updated["batch_stats"]


def batch(shape=(8, 5, 4, 3), shift=0.0):
    rng = np.random.default_rng(0)
    x, cotangent = rng.standard_normal((2, *shape)).astype(np.float32)
    scale, bias = rng.uniform(0.5, 2, (2, shape[-1])).astype(np.float32)
    return jnp.asarray(x + np.float32(shift)), scale, bias, cotangent


def flax_norm(train, axis_name=None):
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, axis_name=axis_name)


@pytest.mark.parametrize("train", [True, False])
def test_the_same_as_flax(train):
    ours, theirs = (norm_and_gradients(norm, *batch()) for norm in (layers.norm(train, None)(), flax_norm(train)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, theirs)


def test_names_and_shapes_are_those_of_flax():
    shapes = [
        jax.eval_shape(norm.init, jax.random.key(0), jnp.zeros((2, 4, 4, 8)))
        for norm in (layers.norm(True, jnp.float32)(), flax_norm(True))
    ]
    assert shapes[0] == shapes[1]


def split(f):
    """Return f(x, scale, bias, cotangent) over four devices; it sums the gradients of parameters over them."""

    def one(*args):
        y, dx, dscale, dbias, stats = f(*args)
        return y, dx, *jax.lax.psum((dscale, dbias), "data"), stats

    rows, whole = PartitionSpec("data"), PartitionSpec()
    outs = (rows, rows, whole, whole, whole)
    return jax.jit(
        jax.shard_map(one, mesh=mesh(4), in_specs=(rows, whole, whole, rows), out_specs=outs, check_vma=False)
    )


def test_four_devices_normalise_like_one():
    ours = functools.partial(norm_and_gradients, layers.norm(True, jnp.float32, "data")())
    alone = functools.partial(norm_and_gradients, layers.norm(True, jnp.float32)())
    args = batch()
    args = (args[0] + jnp.arange(8.0)[:, None, None, None], *args[1:])  # devices have means of their own
    many, one = split(ours)(*args), alone(*args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), many, one)


def test_one_collective_forwards_and_one_backwards():
    ours = functools.partial(norm_and_gradients, layers.norm(True, jnp.float32, "data")())
    text = split(ours).lower(*batch()).as_text()
    of_gradients = 2
    assert text.count("stablehlo.all_gather") == 1 and text.count("stablehlo.all_reduce") == 1 + of_gradients


def test_a_net_makes_two_collectives_for_each_normalisation():
    net = models.build("resnet18", num_age_classes=12, width=0.125, axis_name="data")
    images = jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(net.init, train=False), jax.random.key(0), images)

    def loss(variables, images):
        outputs, _ = net.apply(variables, images, train=True, mutable=["batch_stats"])
        return outputs.age_logits.sum()

    def lowered(devices):
        specs = (PartitionSpec(), PartitionSpec("data"))
        gradient = jax.shard_map(
            jax.grad(loss), mesh=mesh(devices), in_specs=specs, out_specs=specs[0], check_vma=False
        )
        text = jax.jit(gradient).lower(variables, images).as_text()
        return count(types.SimpleNamespace(mlir_module=lambda: text), "all_gather", "all_reduce")

    assert lowered(2) == (20, 20)  # that many normalisations
    assert lowered(1) == (0, 0)


def test_a_large_mean_does_not_hide_the_variance():
    """On four devices too: E[x^2] - E[x]^2 would be off by tens of per cent."""
    x, scale, bias, cotangent = batch((8, 8, 8, 3), shift=3000.0)
    exact = np.float64(x).var((0, 1, 2))
    for f in (
        functools.partial(norm_and_gradients, layers.norm(True, jnp.float32)()),
        split(functools.partial(norm_and_gradients, layers.norm(True, jnp.float32, "data")())),
    ):
        var = (f(x, scale, bias, cotangent)[-1]["var"] - 0.9 * 2) / 0.1
        np.testing.assert_allclose(var, exact, rtol=1e-3)


def test_bfloat16_is_normalised_in_float32():
    x, scale, bias, cotangent = batch(shift=10.0)
    x, cotangent = x.astype(jnp.bfloat16), cotangent.astype(jnp.bfloat16)
    y, dx, dscale, _, stats = norm_and_gradients(layers.norm(True, jnp.bfloat16)(), x, scale, bias, cotangent)
    exact, *_ = norm_and_gradients(
        layers.norm(True, jnp.float32)(), x.astype(jnp.float32), scale, bias, cotangent.astype(jnp.float32)
    )
    assert (y.dtype, dx.dtype) == (jnp.bfloat16,) * 2
    assert dscale.dtype == stats["mean"].dtype == jnp.float32
    np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=2**-8)
