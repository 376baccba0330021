"""The nets against published counts, golden values and their own definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import golden_logits

from agegender_jax import models
from agegender_jax.models.ran import AttentionModule


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes_of(net, size=64):
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), images)


# the prototxts of arXiv 1704.06904's authors, and torchvision; without a head: parameters, running statistics
COUNTS = {
    "ran56": (29_761_728, 72_704),
    "ran92": (50_417_344, 133_632),
    "resnet18": (11_176_512, 9_600),
    "resnet34": (21_284_672, 17_024),
    "resnet50": (23_508_032, 53_120),
}


def test_every_net_has_a_count():
    assert set(COUNTS) == set(models.names())


@pytest.mark.parametrize("name", COUNTS)
def test_exact_counts(name):
    variables = shapes_of(models.backbone(name))
    assert (count(variables["params"]), count(variables["batch_stats"])) == COUNTS[name]


@pytest.mark.parametrize("feed,extra", [("probs", 2), ("none", 0)])
def test_heads_are_two_dense_layers(feed, extra):
    net = models.build("resnet18", num_age_classes=12, gender_to_age=feed)
    params = shapes_of(net)["params"]
    assert params["gender_head"]["kernel"].shape == (512, 2)
    assert params["age_head"]["kernel"].shape == (512 + extra, 12)


def test_hidden_layer_before_the_age_head():
    params = shapes_of(models.build("resnet18", num_age_classes=12, age_hidden=32))["params"]
    assert params["age_hidden"]["kernel"].shape == (512, 32)
    assert params["age_head"]["kernel"].shape == (34, 12)


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("size", [32, 33, 48, 100, 200, 224])
def test_any_size_from_32(name, size):
    net = models.build(name, num_age_classes=12, width=0.25)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    outputs = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x, train=False)[0], images)
    assert outputs.age_logits.shape == (2, 12) and outputs.gender_logits.shape == (2, 2)
    assert len(outputs.attention) == {"ran56": 3, "ran92": 6}.get(name, 0)


def test_mask_shapes_at_224():
    net = models.build("ran56", num_age_classes=12)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    outputs = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x, train=False)[0], images)
    assert [m.shape[1:] for m in outputs.attention] == [(56, 56, 256), (28, 28, 512), (14, 14, 1024)]


@pytest.mark.parametrize("shape", [(1, 31, 31, 3), (1, 64, 64, 1), (64, 64, 3)])
def test_other_images_are_refused(shape):
    with pytest.raises(ValueError, match="images must be"):
        jax.eval_shape(
            lambda x: models.backbone("resnet18").init(jax.random.key(0), x, train=False),
            jax.ShapeDtypeStruct(shape, jnp.float32),
        )


@pytest.mark.parametrize("wrong", [{"name": "resnet19"}, {"gender_to_age": "prob"}, {"stem": "tiny"}])
def test_unknown_names_are_refused(wrong):
    with pytest.raises(ValueError, match="known: "):
        models.build(**{"name": "resnet18", "num_age_classes": 12, **wrong})


def test_widths_are_multiples_of_8():
    params = shapes_of(models.backbone("resnet18", width=0.3))["params"]
    assert params["conv1"]["kernel"].shape[-1] == 16  # 64 * 0.3 = 19.2
    assert params["layer4_1"]["conv2"]["kernel"].shape[-1] == 152  # 512 * 0.3 = 153.6


def test_golden_attention56():
    logits, means, stds = golden_logits("ran56", 64)
    np.testing.assert_allclose(logits[:5], [-0.113819, 0.123829, 0.116605, -0.031998, 0.133397], atol=1e-4)
    assert logits.sum() == pytest.approx(-12.118151, abs=1e-3) and logits.argmax() == 719
    np.testing.assert_allclose(means, [0.507864, 0.502499, 0.501089], atol=1e-4)
    np.testing.assert_allclose(stds, [0.210063, 0.132949, 0.045517], atol=1e-4)


def test_a_zero_mask_head_gives_one_and_a_half_trunks():
    module = AttentionModule(64, 2, 0.5)
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 32))
    variables = module.init(jax.random.key(0), x, train=False)
    params = variables["params"]
    params["mask"]["conv2"]["kernel"] *= 0
    params["post1"]["conv3"]["kernel"] *= 0  # the post unit becomes the identity

    def trunk_only(params):
        (_, mask), state = module.apply(
            {**variables, "params": params}, x, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        return state["intermediates"]["trunk2"]["__call__"][0], mask

    trunk, mask = trunk_only(params)
    out, _ = module.apply({**variables, "params": params}, x, train=False)
    np.testing.assert_array_equal(mask, 0.5)
    np.testing.assert_array_equal(out, 1.5 * trunk)


@pytest.mark.parametrize("name", ["ran56", "resnet18", "resnet50"])
def test_every_leaf_gets_a_gradient(name):
    net = models.build(name, num_age_classes=12, width=0.125)
    images = jax.random.normal(jax.random.key(1), (4, 64, 64, 3))
    variables = jax.jit(lambda: net.init(jax.random.key(0), images, train=False))()

    @jax.jit
    def gradients(params):
        def loss(params):
            outputs, _ = net.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return jnp.square(outputs.age_logits - 1).sum() + jnp.square(outputs.gender_logits - 1).sum()

        return jax.tree.map(lambda g: jnp.abs(g).max(), jax.grad(loss)(params))

    dead = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(gradients(variables["params"]))
        if not g > 0
    ]
    assert not dead


def test_bfloat16_keeps_parameters_and_outputs_in_float32():
    net = models.build("ran56", num_age_classes=12, width=0.125, dtype="bfloat16")
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    outputs, variables = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x, train=False), images)
    assert {leaf.dtype for leaf in jax.tree.leaves((outputs, variables))} == {jnp.dtype("float32")}
