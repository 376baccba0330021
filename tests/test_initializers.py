"""Initial values drawn in blocks are those of the plain initialisation."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import models
from agegender_jax.models import initializers
from agegender_jax.models.levi_hassner import LeviHassner
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.models.resnet import ResNet

IMAGES = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
BACKBONES = {
    "ran": ResidualAttentionNet((1,), (64,), (1,), final_units=1, final_channels=128, t=1, width=0.25),
    "resnet18": ResNet((1, 1), bottleneck=False, width=0.25),
    "levi_hassner": LeviHassner(width=0.25),
}


@pytest.fixture(params=BACKBONES)
def net(request):
    return models.AgeGenderNet(BACKBONES[request.param], 12, age_hidden=8)


def test_the_same_variables_as_by_flax(net):
    ours = initializers.init(net, jax.random.key(3), IMAGES)
    theirs = jax.jit(functools.partial(net.init, train=False))(jax.random.key(3), jnp.zeros(IMAGES.shape))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * float(np.abs(b).max()))


def test_the_net_is_not_compiled(caplog):
    jax.clear_caches()
    with jax.log_compiles():
        initializers.init(models.build("resnet18", num_age_classes=12, width=0.25), jax.random.key(3), IMAGES)
    compiled = set(re.findall(r"Finished XLA compilation of (\S+)", caplog.text))
    assert "jit(_block)" in compiled
    assert not [name for name in compiled if re.search("normal|conv(?!ert)|dot|lambda|others", name)]


@pytest.mark.parametrize("shape", [(), (5,), (3, 3, 64, 64), (initializers.BLOCK,), (initializers.BLOCK + 1,)])
def test_blocks_are_the_numbers_of_jax(shape):
    key = jax.random.key(7)
    ours = initializers._standard_normal(jax.random.key_data(key), shape)
    np.testing.assert_allclose(ours, jax.random.normal(key, shape), rtol=1e-6, atol=1e-7)


def test_scaled_normal_is_that_of_jax():
    for fan in ("in", "out"):
        theirs = nn.initializers.variance_scaling(2.0, f"fan_{fan}", "normal")
        args = jax.random.key(0), (3, 3, 8, 16)
        np.testing.assert_allclose(initializers.scaled_normal(fan)(*args), theirs(*args), rtol=1e-6)


def test_inside_a_transformation():
    net = models.classifier("resnet18", num_classes=2, width=0.125)
    shapes = jax.eval_shape(lambda: initializers.init(net, jax.random.key(0), IMAGES))
    variables = initializers.init(net, jax.random.key(0), IMAGES)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), variables) == jax.tree.map(lambda x: (x.shape, x.dtype), shapes)


def test_another_generator_draws_as_flax_does():
    net, key = nn.Dense(3, kernel_init=initializers.normal(0.1)), jax.random.key(0, impl="rbg")
    dense = Unary(net)
    ours = initializers.init(dense, key, jax.ShapeDtypeStruct((1, 4), jnp.float32))
    theirs = dense.init(key, jnp.zeros((1, 4)), train=False)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


class Unary(nn.Module):
    inner: nn.Module

    def __call__(self, x, *, train):
        return self.inner(x)
