"""The composite relevance rules: single layers by hand, whole nets by the sum of their relevance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_attributions import random_variable

from agegender_jax import data, explain, models
from agegender_jax.explain import composite_lrp, lrp

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


def test_alpha_beta_by_hand():
    """x = (1, 2), w = (1, -1), R = 1 gives (2, -1); a bias of 1 takes half of the positive part."""
    convolve = functools.partial(composite_lrp._convolve, (1, 1), ((0, 0), (0, 0)), 1)
    x, kernel = jnp.array([1.0, 2.0]).reshape(1, 1, 1, 2), jnp.array([1.0, -1.0]).reshape(1, 1, 2, 1)

    def relevance(bias):
        z, pull = jax.vjp(
            lambda x, a: composite_lrp.alpha_beta(convolve, x, kernel, jnp.array([bias]), a), x, jnp.zeros(1)
        )
        multiplier, absorbed = pull(1 / z if bias == 0 else jnp.ones_like(z) / jnp.where(z == 0, 1, z))
        return (x * multiplier).ravel(), absorbed

    np.testing.assert_allclose(relevance(0.0)[0], [2, -1], rtol=1e-6)
    pixels, absorbed = relevance(2.0)  # z = 1
    np.testing.assert_allclose(pixels, [2 / 3, -1], rtol=1e-6)
    np.testing.assert_allclose(absorbed, [4 / 3], rtol=1e-6)


@pytest.mark.parametrize("kernel, expected", [((1.0, 1.0), (2 / 3, 4 / 3)), ((-1.0, -1.0), (-1 / 3, -2 / 3))])
def test_a_unit_of_one_sign_passes_on_twice_its_relevance_or_minus_it(kernel, expected):
    convolve = functools.partial(composite_lrp._convolve, (1, 1), ((0, 0), (0, 0)), 1)
    x = jnp.array([1.0, 2.0]).reshape(1, 1, 1, 2)
    kernel = jnp.array(kernel).reshape(1, 1, 2, 1)
    z, pull = jax.vjp(lambda x: composite_lrp.alpha_beta(convolve, x, kernel, jnp.zeros(1), jnp.zeros(1)), x)
    np.testing.assert_allclose((x * pull(1 / z)[0]).ravel(), expected, rtol=1e-6)


def test_alpha_beta_keeps_the_sum_and_sees_negative_inputs():
    draw = np.random.default_rng(0)
    x, kernel = draw.standard_normal((1, 5, 5, 3)), draw.standard_normal((3, 3, 3, 4))
    x, kernel = jnp.float32(x), jnp.float32(kernel)
    convolve = functools.partial(composite_lrp._convolve, (1, 1), ((1, 1), (1, 1)), 1)
    z, pull = jax.vjp(lambda x: composite_lrp.alpha_beta(convolve, x, kernel, jnp.zeros(4), jnp.zeros(1)), x)
    relevance = jnp.float32(draw.standard_normal(z.shape))
    pixels = np.asarray(x * pull(relevance / z)[0])
    x, kernel, relevance = (np.asarray(array) for array in (x, kernel, relevance))
    assert pixels.sum() == pytest.approx(float(relevance.sum()), rel=1e-3)
    index = (0, 2, 3, 1)  # one input by the definition
    expected = 0.0
    for i, j, o in np.ndindex(5, 5, 4):
        parts = np.zeros((3, 3, 3))
        for a, b, c in np.ndindex(3, 3, 3):
            if 0 <= i + a - 1 < 5 and 0 <= j + b - 1 < 5:
                parts[a, b, c] = x[0, i + a - 1, j + b - 1, c] * kernel[a, b, c, o]
        a, b = index[1] - i + 1, index[2] - j + 1
        if 0 <= a < 3 and 0 <= b < 3:
            part, plus, minus = parts[a, b, index[3]], parts[parts > 0].sum(), parts[parts < 0].sum()
            expected += (2 * max(part, 0) / plus - min(part, 0) / minus) * float(relevance[0, i, j, o])
    assert float(pixels[index]) == pytest.approx(expected, rel=1e-3)


def test_flat_shares_among_the_real_inputs_of_a_window():
    relevance = jnp.ones((1, 1, 1, 1))
    shares = composite_lrp.flat(relevance, (1, 1, 2, 1), (1, 2, 1, 1), (1, 1), ((0, 0), (0, 0)))
    np.testing.assert_allclose(shares.ravel(), [0.5, 0.5])
    relevance = jnp.float32(np.random.default_rng(0).standard_normal((2, 4, 4, 3)))
    shares = composite_lrp.flat(relevance, (2, 4, 4, 5), (3, 3, 5, 3), (1, 1), ((1, 1), (1, 1)))
    np.testing.assert_allclose(shares.sum((1, 2, 3)), relevance.sum((1, 2, 3)), rtol=1e-5)
    corner = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0, 0].set(1)
    shares = composite_lrp.flat(corner, (1, 4, 4, 1), (3, 3, 1, 1), (1, 1), ((1, 1), (1, 1)))
    assert float(shares.max()) == 1 / 4


@functools.cache
def tiny(name):
    net = models.build(name, num_age_classes=5, width=1 / 64)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), data.normalize(jnp.asarray(IMAGES)))
    return net, jax.tree_util.tree_map_with_path(random_variable, shapes)


@pytest.mark.parametrize(
    "name",
    ["levi_hassner", "vgg16", *(pytest.param(name, marks=pytest.mark.slow) for name in ("caffenet", "googlenet"))],
)
def test_relevance_is_that_of_the_logit_and_error_is_the_remainder(name):
    net, variables = tiny(name)
    result = explain.relevance(net, variables, IMAGES, "age", [1, 3], rule="composite")
    logits = net.apply(variables, data.normalize(IMAGES), train=False).age_logits
    np.testing.assert_allclose(result.logit, logits[[0, 1], [1, 3]], rtol=1e-4)
    rest = result.logit - result.pixels.sum((1, 2)) - result.absorbed - result.feed
    np.testing.assert_allclose(result.error, rest, rtol=1e-3, atol=1e-5)
    assert np.isfinite(result.pixels).all() and (np.abs(result.pixels).sum((1, 2)) > 0).all()
    other = explain.relevance(net, variables, IMAGES, "age", [1, 3])
    assert np.abs(other.pixels - result.pixels).max() > 0


def test_a_net_in_bfloat16_is_explained_in_float32():
    net, variables = tiny("levi_hassner")
    half = net.clone(backbone=net.backbone.clone(dtype=jnp.bfloat16))
    options = {"head": "age", "target": jnp.array([1, 3])}
    arguments = variables, jnp.asarray(data.normalize(IMAGES))
    for a, b in zip(*(composite_lrp.propagate(n, *arguments, **options) for n in (net, half)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_is_lost_without_eps_and_normalisation(monkeypatch):
    monkeypatch.setattr(composite_lrp, "EPSILON", 0.0)
    net, variables = tiny("vgg16")
    run = jax.jit(lambda x: composite_lrp.propagate(net, variables, x, "gender", jnp.array([0, 1])))
    logit, pixels, absorbed, feed = run(data.normalize(IMAGES))
    size = np.abs(pixels).sum((1, 2, 3)) + np.abs(absorbed)
    assert (np.abs(logit - pixels.sum((1, 2, 3)) - absorbed - feed) < 1e-3 * size).all()


def test_other_nets_and_rules_are_refused():
    net = models.build("resnet18", num_age_classes=5, width=1 / 64)
    with pytest.raises(ValueError, match="are for LeviHassner, CaffeNet, GoogLeNet, VGG, not for a ResNet"):
        explain.relevance(net, {}, IMAGES, "age", rule="composite")
    with pytest.raises(ValueError, match="unknown rule 'flat'; known: epsilon, composite"):
        explain.relevance(net, {}, IMAGES, "age", rule="flat")
    assert lrp.RULES == ("epsilon", "composite")


def test_the_methods_that_a_system_has():
    options = {"num_age_classes": 5, "gender_to_age": "none"}
    patches, local = (models.build(name, **options) for name in ("deep_attention", "local_dnn"))
    solved = models.build("resnet18", **options, head="elm")
    assert explain.methods_of(local) == ("integrated_gradients",)
    assert explain.methods_of(solved) == explain.methods_of(patches) == ("grad_cam", "integrated_gradients")
    assert explain.methods_of(models.build("resnet18", **options)) == explain.METHODS[:3]
    assert explain.methods_of(models.build("caffenet", **options)) == (*explain.METHODS[:3], explain.COMPOSITE)
    for net in (patches, local):
        with pytest.raises(ValueError, match="no relevance rules for a (DeepAttention|LocalDNN)"):
            explain.relevance(net, {}, IMAGES, "age")
