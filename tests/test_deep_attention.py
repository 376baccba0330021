"""Attention over patches after Rodriguez et al. 2017: the grid, the patches, the controls and the size of the paper."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import data, ensemble, models, report
from agegender_jax.explain import patches
from agegender_jax.models import deep_attention, initializers

DRAW = np.random.default_rng(0)


@functools.cache
def attention_net(patches="attended"):
    net = models.backbone("deep_attention", width=0.25, patch=12, patches=patches)
    images = jnp.float32(DRAW.standard_normal((2, 36, 36, 3)))
    return net, initializers.init(net, jax.random.key(0), jax.ShapeDtypeStruct(images.shape, jnp.float32)), images


def test_the_grid_is_a_distribution_that_no_fine_pixel_changes():
    net, variables, images = attention_net()
    attend = jax.jit(lambda x: net.apply(variables, x, train=False, method="attend"))
    features, (g,) = attend(images)
    assert g.shape == (2, 3, 3, 1)
    np.testing.assert_allclose(g.sum((1, 2, 3)), 1, rtol=1e-5)
    y, x = np.mgrid[:36, :36]
    other, (fine,) = attend(images + ((x + y) % 2 * 2 - 1.0)[None, :, :, None].astype(np.float32))
    np.testing.assert_allclose(fine, g, atol=1e-5)
    assert np.abs(other - features).max() > 1e-3  # the patches see it


def test_equal_scores_are_the_uniform_control_and_unattended_patches_do_not_count():
    net, variables, images = attention_net()
    params = jax.tree.map(jnp.asarray, variables["params"])
    params["where_grid"] = jax.tree.map(jnp.zeros_like, params["where_grid"])
    features, (g,) = net.apply({"params": params}, images, train=False, method="attend")
    uniform = {"params": {name: leaf for name, leaf in params.items() if name != "where_grid"}}
    expected, _ = net.clone(patches="uniform").apply(uniform, images, train=False, method="attend")
    np.testing.assert_array_equal(g, np.float32(1 / 9))
    np.testing.assert_allclose(features, expected, rtol=1e-5)


def test_patches_of_the_grid_are_the_image():
    images = jnp.float32(DRAW.standard_normal((2, 12, 12, 3)))
    patches = np.asarray(deep_attention.cut(images, 3, 4)).reshape(2, 3, 3, 4, 4, 3)
    np.testing.assert_array_equal(patches.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape), images)
    wide = deep_attention.cut(images, 3, 8)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    np.testing.assert_array_equal(wide[:, 0], padded[:, :8, :8])  # edges are repeated
    np.testing.assert_array_equal(wide[:, 8], padded[:, 8:, 8:])
    np.testing.assert_array_equal(wide[:, 4], images[:, 2:10, 2:10])


def test_adaptive_means():
    x = jnp.arange(5.0)[None, None] * jnp.ones((1, 5, 1))
    np.testing.assert_allclose(deep_attention.adaptive_mean(x, 2)[0, 0], [1, 3])
    np.testing.assert_allclose(deep_attention.adaptive_mean(x[:, :2, :2], 3)[0, 0], [0, 0.5, 1])


def test_only_the_patches_with_the_largest_weights_count(monkeypatch):
    g = jnp.array([[0.1, 0.4, 0.2, 0.3], [0.25, 0.25, 0.25, 0.25]])
    np.testing.assert_allclose(deep_attention.largest(g, 2), [[0, 4 / 7, 0, 3 / 7], [0.5, 0.5, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(deep_attention.largest(g, -1), [[1, 0, 0, 0], [0, 0, 0, 1]], rtol=1e-6)
    net, variables, images = attention_net()
    attend = functools.partial(net.clone(top=1).apply, variables, images, method="attend")
    features, (g,) = jax.jit(functools.partial(attend, train=False))()
    assert (np.sort(g.reshape(2, 9))[:, :-1] == 0).all()
    chosen = np.asarray(g).reshape(2, 9, 1, 1, 1) > 0
    noise = 100 * DRAW.standard_normal((2, 9, 12, 12, 3))
    own = deep_attention.cut
    with monkeypatch.context() as patch:
        patch.setattr(deep_attention, "cut", lambda *args: jnp.where(chosen, own(*args), noise))
        np.testing.assert_array_equal(jax.jit(functools.partial(attend, train=False))()[0], features)
        patch.setattr(deep_attention, "cut", lambda *args: jnp.where(chosen, noise, own(*args)))
        assert np.abs(jax.jit(functools.partial(attend, train=False))()[0] - features).max() > 1e-3
    every, (trained,) = jax.jit(functools.partial(attend, train=True))()
    assert (trained > 0).all() and np.abs(every - features).max() > 1e-3


@pytest.mark.slow
def test_how_few_patches_suffice_for_the_prediction(monkeypatch):
    monkeypatch.setattr(patches, "FEW", (1, 9))  # 9 are all
    backbone, variables, _ = attention_net()
    net = models.AgeGenderNet(backbone, 5, "none")
    images = DRAW.integers(0, 256, (6, 36, 36, 3)).astype(np.uint8)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), data.normalize(images[:1]))
    params = jax.tree.map(lambda leaf: jnp.asarray(DRAW.standard_normal(leaf.shape), jnp.float32), shapes["params"])
    grid = jax.tree.map(lambda leaf: 30 * leaf, variables["params"]["where_grid"])  # one patch has nearly all weight
    variables = {"params": params | {"backbone": variables["params"] | {"where_grid": grid}}}
    chosen = patches.attended(net.clone(backbone=backbone.clone(top=2)), variables, images)
    assert chosen.weights.shape == (6, 9) and chosen.pixels.shape == (6, 9, 12, 12, 3)
    assert chosen.weights.max(1).min() > 0.9
    np.testing.assert_array_equal(chosen.pixels[:, 4], images[:, 12:24, 12:24])
    scores = patches.scores(net, variables, images)
    assert scores["cells"] == 9 and 1 / 9 < scores["largest"] <= 1 and list(scores["few"]) == ["1"]
    alone = ensemble.predict(net.clone(backbone=backbone.clone(top=1)), variables, images).age.argmax(-1)
    same = alone == ensemble.predict(net, variables, images).age.argmax(-1)
    assert scores["few"]["1"]["age"]["largest"] == pytest.approx(same.mean())
    joined = patches.scores(net, variables, images, open_from=1)["few"]["1"]["age"]  # 0 or from 1 on
    every, one = (
        (ensemble.predict(n, variables, images).age[:, 0] > 0.5)
        for n in (net, net.clone(backbone=backbone.clone(top=1)))
    )
    assert joined["largest"] == pytest.approx((every == one).mean())
    row = scores["few"]["1"]["gender"]
    assert row["largest"] > row["smallest"]
    assert row["difference"]["mean"] == pytest.approx(row["largest"] - row["smallest"])
    assert patches.has_patches(net) and not patches.has_patches(models.build("resnet18", num_age_classes=5))
    assert report.patches_grid(images, chosen, ["label"] * 6).startswith(b"\x89PNG")


def test_the_paper_variant_has_the_size_of_two_vgg16():
    net = models.backbone("deep_attention", trunk="vgg16", patch=160)
    images = jax.ShapeDtypeStruct((1, 448, 448, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x), images)["params"]
    dense = (7 * 7 * 512 + 1) * 4096 + (4096 + 512 + 1) * 4096
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 2 * 14_714_688 + 512 + 1 + dense
    assert {"where5_3", "what1_1", "where_grid"} <= set(shapes)


def test_both_trunks_learn():
    net, variables, images = attention_net()
    gradient = jax.jit(jax.grad(lambda v: net.apply(v, images).sum()))(variables)["params"]
    assert all(np.abs(gradient[name]["kernel"]).max() > 0 for name in ("where1", "where_grid", "what1"))
