"""The nets against published counts, golden values and their own definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import caffe_name, golden_logits

from agegender_jax import models
from agegender_jax.checkpoint import tree
from agegender_jax.errors import ConfigError
from agegender_jax.models import initializers, sizes
from agegender_jax.models.attention import ATTENTION, AttentionModule
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.models.resnet import ResNet


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes_of(net, size=64):
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), images)


# without a head: parameters, running statistics; ran: the authors' prototxts, resnet: torchvision, cifar: deduced
COUNTS = {
    "ran56": (29_761_728, 72_704),
    "ran92": (50_417_344, 133_632),
    "ran56_cifar": (1_030_394 - 2_570, 14_912),
    "ran92_cifar": (1_841_274 - 2_570, 27_072),
    "ran128_cifar": (2_652_154 - 2_570, 39_232),
    "ran164_cifar": (3_463_034 - 2_570, 51_392),
    "ran236_cifar": (5_084_794 - 2_570, 75_712),
    "resnet18": (11_176_512, 9_600),
    "resnet34": (21_284_672, 17_024),
    "resnet50": (23_508_032, 53_120),
    "levi_hassner": (11_411_970 - 1_026, 0),
    "caffenet": (56_868_224, 0),
    "vgg16": (134_260_544, 0),
    "googlenet": (5_973_552, 0),
    "deep_attention": (182_721, 0),
    "plain_cnn": (388_896, 960),
}
PUBLISHED_AT = {
    "levi_hassner": 227,
    "caffenet": 227,
    "vgg16": 224,
    "deep_attention": 96,
}  # their dense layers grow with the image
LONG = ("ran128_cifar", "ran164_cifar", "ran236_cifar")  # as ran92_cifar, but slow to trace
LONGER = ("ran92", "ran92_cifar", *LONG)
SLOW = pytest.mark.slow
OTHER_SIZES = [pytest.param(side, side, marks=SLOW) for side in (32, 100, 200)]


def test_every_net_has_a_count_and_a_source():
    assert set(COUNTS) == set(models.names()) == set(sizes.PUBLISHED)


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW if name in LONGER else ()) for name in COUNTS])
def test_exact_counts(name):
    variables = shapes_of(models.backbone(name), PUBLISHED_AT.get(name, 32))
    assert (count(variables["params"]), count(variables.get("batch_stats", {}))) == COUNTS[name]


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW if n in LONG else ()) for n in models.names()])
def test_published_counts_of_parameters_and_multiply_adds(name):
    classes, size, parameters, multiply_adds, _ = sizes.PUBLISHED[name]
    counted = sizes.count(models.classifier(name, num_classes=classes), size)
    assert counted == (parameters, multiply_adds)
    if features := {"ran56_cifar": 256, "resnet50": 2048, "levi_hassner": 512}.get(name):
        head = classes * features
        assert sizes.count(models.backbone(name), size) == (parameters - head - classes, multiply_adds - head)


@pytest.mark.parametrize("name, exact", [("ran56", 5_228_805_120), pytest.param("ran92", 8_768_732_160, marks=SLOW)])
def test_multiply_adds_with_caffe_pooling_at_200(name, exact):
    assert sizes.count(models.classifier(name, num_classes=1000), 200)[1] == exact


@pytest.mark.parametrize("size, parameters", [(224, 8_856_066), (200, 8_856_066), (128, 3_547_650), (64, 1_974_786)])
def test_levi_hassner_grows_with_the_image(size, parameters):
    assert count(shapes_of(models.classifier("levi_hassner", num_classes=2), size)["params"]) == parameters


def test_levi_hassner_for_eight_age_groups():
    assert count(shapes_of(models.classifier("levi_hassner", num_classes=8), 227)["params"]) == 11_415_048


@pytest.mark.parametrize(
    "modules, parameters",
    [(1, 963_386), pytest.param(2, 1_707_258, marks=SLOW), pytest.param(6, 4_682_746, marks=SLOW)],
)
def test_masks_without_poolings(modules, parameters):
    net = ResidualAttentionNet(**models.CIFAR | {"modules": (modules,) * 3, "depths": (2, 1, 0)})
    assert count(shapes_of(net, 32)["params"]) == parameters - 2_570


@pytest.mark.slow
def test_attention_452_has_more_units_in_each_module():
    net = ResidualAttentionNet(modules=(6, 6, 6), p=2, t=4, r=3, **models.CIFAR)
    assert count(shapes_of(net, 32)["params"]) == 10_181_242 - 2_570  # published: 8.6 M, so it has no name here


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


def test_one_head():
    head = shapes_of(models.classifier("resnet18", num_classes=8))["params"]["head"]
    assert head["kernel"].shape == (512, 8) and head["bias"].shape == (8,)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=SLOW if n in LONGER else ()) for n in models.names() if n not in LONG]
)
@pytest.mark.parametrize("height, width", [(33, 33), (64, 47), *OTHER_SIZES])
def test_any_size_from_32(name, height, width):
    net = models.build(name, num_age_classes=12, width=0.25)
    images = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    outputs = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x, train=False)[0], images)
    assert outputs.age_logits.shape == (2, 12) and outputs.gender_logits.shape == (2, 2)
    modules = {"ran56": 3, "ran92": 6, "ran56_cifar": 3, "ran92_cifar": 6, "deep_attention": 1}
    assert len(outputs.attention) == modules.get(name, 0)


@pytest.mark.parametrize(
    "name, size, shapes",
    [
        ("ran56", 224, [(56, 56, 256), (28, 28, 512), (14, 14, 1024)]),
        ("ran92", 200, [(50, 50, 256), *[(25, 25, 512)] * 2, *[(13, 13, 1024)] * 3]),
        ("ran56_cifar", 32, [(32, 32, 64), (16, 16, 128), (8, 8, 256)]),
    ],
)
def test_mask_shapes(name, size, shapes):
    net = models.build(name, num_age_classes=12)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    outputs = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x, train=False)[0], images)
    assert [m.shape[1:] for m in outputs.attention] == shapes


@pytest.mark.parametrize("shape", [(1, 31, 31, 3), (1, 64, 64, 1), (64, 64, 3)])
def test_other_images_are_refused(shape):
    with pytest.raises(ValueError, match="images must be"):
        jax.eval_shape(
            lambda x: models.backbone("resnet18").init(jax.random.key(0), x, train=False),
            jax.ShapeDtypeStruct(shape, jnp.float32),
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "resnet19"},
        {"gender_to_age": "prob"},
        {"stem": "tiny"},
        {"name": "ran56", "attention": "mix"},
        {"name": "ran56", "learning": "residue"},
    ],
)
def test_unknown_names_are_refused(wrong):
    with pytest.raises(ValueError, match="known: "):
        models.build(**{"name": "resnet18", "num_age_classes": 12, **wrong})


@pytest.mark.parametrize("width", [0, float("nan")])
def test_impossible_widths_are_refused(width):
    with pytest.raises(ValueError, match="width must be above 0"):
        models.backbone("resnet18", width=width)


@pytest.mark.parametrize("dtype", ["float16", "int32", "float33"])
def test_other_dtypes_are_refused(dtype):
    fields = {"name": "resnet18", "dtype": dtype}
    with pytest.raises(ConfigError, match=f"unknown dtype '{dtype}'; known: float32, bfloat16, float64"):
        models.from_config(fields)


def test_a_dtype_may_be_an_object():
    assert models.backbone("resnet18", dtype=jnp.bfloat16) == models.backbone("resnet18", dtype="bfloat16")


@pytest.mark.parametrize(
    "net, options",
    [
        ("resnet18", {"attention": "channel"}),
        ("resnet18", {"learning": "naive"}),
        ("levi_hassner", {"stem": "small"}),
    ],
)
def test_options_of_other_nets_are_refused(net, options):
    with pytest.raises(ValueError, match=f"{net} has no"):
        models.backbone(net, **options)


def test_the_cifar_nets_have_the_small_stem_by_default():
    assert models.backbone("ran56_cifar").stem == "small" and models.backbone("ran56").stem == "imagenet"
    assert models.backbone("ran56_cifar", stem="imagenet").stem == "imagenet"
    kernel = shapes_of(models.backbone("ran56_cifar"))["params"]["stem_conv"]["kernel"]
    assert kernel.shape == (3, 3, 3, 16)


def test_widths_are_multiples_of_8():
    params = shapes_of(models.backbone("resnet18", width=0.3))["params"]
    assert params["conv1"]["kernel"].shape[-1] == 16  # 64 * 0.3 = 19.2
    assert params["layer4_1"]["conv2"]["kernel"].shape[-1] == 152  # 512 * 0.3 = 153.6


# the authors' prototxt, executed layer by layer, ran92 in PyTorch: by net and size the first logits, their sum, argmax,
# mask means, mask stds
GOLDEN = {
    ("ran56", 64): ([-0.113819, 0.123829, 0.116605, -0.031998, 0.133397], -12.118151, 719)
    + ([0.507864, 0.502499, 0.501089], [0.210063, 0.132949, 0.045517]),
    ("ran56", 200): ([-0.150806, 0.198227, 0.127342, -0.020400, 0.125927], -12.041532, 929)
    + ([0.509651, 0.502708, 0.501308], [0.213248, 0.137815, 0.047567]),
    ("ran92", 32): ([-0.298666, 0.458861, 0.459576, 0.205117, 0.051294], -32.347179, 245)
    + ([0.507945, 0.502397, 0.505021, 0.502886, 0.496089, 0.490931],)
    + ([0.202166, 0.125019, 0.178633, 0.059554, 0.097716, 0.144464],),
}


@pytest.mark.parametrize("name, size", [("ran56", 64), ("ran56", 200), pytest.param("ran92", 32, marks=SLOW)])
def test_golden_attention(name, size):
    logits, means, stds = golden_logits(name, size)
    first, total, most, expected_means, expected_stds = GOLDEN[name, size]
    np.testing.assert_allclose(logits[:5], first, atol=1e-4)
    assert logits.sum() == pytest.approx(total, abs=1e-3) and logits.argmax() == most
    np.testing.assert_allclose(means, expected_means, atol=1e-4)
    np.testing.assert_allclose(stds, expected_stds, atol=1e-4)


@pytest.mark.parametrize("name, convolutions", [("ran56", 110), ("ran92", 179)])
def test_every_convolution_has_its_own_name_in_the_prototxt(name, convolutions):
    leaves = tree.named_leaves(shapes_of(models.backbone(name)))
    kernels = [path.split("/")[1:-1] for path in leaves if path.endswith("kernel")]
    assert len(kernels) == len({caffe_name(path) for path in kernels}) == convolutions


# input: map after the stem, maps in the masks of the three stages (Caffe's pooling), last map
MAPS = {
    448: (112, (56, 28, 14), (28, 14), (14,), 14),
    320: (80, (40, 20, 10), (20, 10), (10,), 10),
    224: (56, (28, 14, 7), (14, 7), (7,), 7),
    200: (50, (25, 12, 6), (12, 6), (6,), 7),
    192: (48, (24, 12, 6), (12, 6), (6,), 6),
    160: (40, (20, 10, 5), (10, 5), (5,), 5),
    128: (32, (16, 8, 4), (8, 4), (4,), 4),
    112: (28, (14, 7, 3), (7, 3), (3,), 4),
    96: (24, (12, 6, 3), (6, 3), (3,), 3),
    64: (16, (8, 4, 2), (4, 2), (2,), 2),
    48: (12, (6, 3, 1), (3, 1), (1,), 2),
    32: (8, (4, 2, 1), (2, 1), (1,), 1),
}


EVEN = (448, 320, 224, 192, 160, 128, 96, 64)  # all pooled maps are even, so that padding makes no difference


@pytest.mark.parametrize("size", [pytest.param(size, marks=SLOW if size in EVEN else ()) for size in MAPS])
def test_maps_of_attention56(size):
    net = models.backbone("ran56", width=0.125).clone(t=1)  # one unit in each trunk, which keeps the map

    def maps(images):
        _, state = net.init_with_output(jax.random.key(0), images, capture_intermediates=True, train=False)
        return state["intermediates"]

    state = jax.eval_shape(maps, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))

    def side(*names):
        return functools.reduce(lambda node, name: node[name], names, state)["__call__"][0].shape[1]

    masks = [[side(f"stage{i}_att1", "mask", f"down{k}_1") for k in range(1, 5 - i)] for i in (1, 2, 3)]
    assert (side("stage1_res"), *map(tuple, masks), side("final_res3")) == MAPS[size]


def test_a_zero_mask_head_gives_one_and_a_half_trunks():
    module = AttentionModule(64, 2, width=0.5)
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
    out, _ = module.clone(learning="naive").apply({**variables, "params": params}, x, train=False)
    np.testing.assert_array_equal(out, 0.5 * trunk)
    out, mask = module.clone(learning="none").apply({**variables, "params": params}, x, train=False)
    np.testing.assert_array_equal(out, trunk)
    assert mask is None


def test_without_attention_the_net_is_the_same_except_for_its_masks():
    net = models.build("ran56", num_age_classes=12, learning="none")
    with_masks = tree.named_leaves(shapes_of(models.build("ran56", num_age_classes=12)))
    expected = {path: leaf.shape for path, leaf in with_masks.items() if "/mask/" not in path}
    assert {path: leaf.shape for path, leaf in tree.named_leaves(shapes_of(net)).items()} == expected
    assert sizes.count(net.backbone, 64) == (22_804_160, 369_295_360)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    outputs = jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x, train=False)[0], images)
    assert outputs.attention == ()


def test_three_kinds_of_attention():
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype(np.float32)
    kinds = {name: np.asarray(f(x)) for name, f in ATTENTION.items()}
    np.testing.assert_allclose(kinds["mixed"], 1 / (1 + np.exp(-x)), rtol=1e-6)
    np.testing.assert_allclose(kinds["channel"], x / np.linalg.norm(x, axis=-1, keepdims=True), rtol=1e-5)
    standard = (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)
    np.testing.assert_allclose(kinds["spatial"], 1 / (1 + np.exp(-standard)), rtol=1e-4)
    one = jax.grad(lambda x: sum(f(x).sum() for f in ATTENTION.values()))(jnp.zeros((1, 1, 1, 3)))
    assert np.isfinite(one).all()  # a 1x1 map has no variance, zeros have no norm


@pytest.mark.parametrize("size", [1, 3])
def test_spatial_attention_of_a_constant_map_is_one_half(size):
    x = jnp.broadcast_to(jnp.array([0.1, 1 / 3, 17.7, -2e3]), (1, size, size, 4))
    weight = jax.random.normal(jax.random.key(0), x.shape)
    np.testing.assert_allclose(ATTENTION["spatial"](x), 0.5, atol=0.02)
    gradient = jax.grad(lambda x: (ATTENTION["spatial"](x) * weight).sum())(x)
    np.testing.assert_allclose(gradient.sum((1, 2)), 0, atol=0.01)


CIFAR = models.CIFAR | {"channels": (64,), "modules": (1,), "t": 1}
SMALL = (
    ResNet((1, 1), bottleneck=False),
    ResidualAttentionNet(**CIFAR, depths=(2,), attention="channel"),
    ResidualAttentionNet(**CIFAR, depths=(0,), p=2, r=2, attention="spatial", learning="naive"),
    ResidualAttentionNet(**CIFAR, depths=(2,), learning="none"),
)


LARGE = (pytest.param(name, marks=SLOW) for name in ("ran56", "resnet18", "resnet50"))  # to compile


@pytest.mark.parametrize("name", ["levi_hassner", *SMALL, *LARGE])
def test_every_leaf_gets_a_gradient(name):
    backbone = models.backbone(name, width=0.125) if isinstance(name, str) else name.clone(width=0.125)
    net = models.AgeGenderNet(backbone, 12)
    size = 64 if isinstance(name, str) else 32
    images = jax.random.normal(jax.random.key(1), (4, size, size, 3))
    variables = initializers.init(net, jax.random.key(0), images)

    @jax.jit
    def gradients(params):
        def loss(params):
            inputs, keys = {**variables, "params": params}, {"dropout": jax.random.key(2)}
            outputs, _ = net.apply(inputs, images, train=True, mutable=["batch_stats"], rngs=keys)
            return jnp.square(outputs.age_logits - 1).sum() + jnp.square(outputs.gender_logits - 1).sum()

        return jax.tree.map(lambda g: jnp.abs(g).max(), jax.grad(loss)(params))

    dead = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(gradients(variables["params"]))
        if not g > 0
    ]
    assert not dead
