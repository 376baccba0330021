"""CaffeNet, VGG-16 and GoogLeNet: published counts, Caffe's values, auxiliary branches, weights from files."""

import caffe_golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_models import count, shapes_of

from agegender_jax import models, optim, training
from agegender_jax.checkpoint import initial_weights, tree
from agegender_jax.config import default
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.models import caffe_layers, caffe_names, convolution, initializers, pooling, sizes, torchvision_names
from agegender_jax.structs import Batch

FAST = (("caffenet", 128), ("googlenet", 64))


@pytest.mark.parametrize(
    "name, size",
    [case if case in FAST else pytest.param(*case, marks=pytest.mark.slow) for case in caffe_golden.FEATURES],
)
def test_features_of_the_prototxts(name, size):
    first, total, largest, value = caffe_golden.FEATURES[name, size]
    features = caffe_golden.features(name, size)
    np.testing.assert_allclose(features[:5], first, rtol=1e-4, atol=1e-4 * value)
    assert features.sum() == pytest.approx(total, rel=1e-4)
    assert features.argmax() == largest and features.max() == pytest.approx(value, rel=1e-4)


@pytest.mark.slow
def test_auxiliary_logits_of_the_prototxt():
    net = models.backbone("googlenet")
    options = {"method": "branches", "auxiliary": True}
    params = caffe_golden.variables(net, 224, **options)
    with jax.default_matmul_precision("highest"):
        call = jax.jit(lambda v, x: net.apply(v, x, train=False, **options))
        _, branches = call(params, caffe_golden.image(224))
    for n, (branch, logits) in enumerate(zip(branches, caffe_golden.AUXILIARY_LOGITS, strict=True), 1):
        name = f"loss{n}/classifier_agexgender"
        head = caffe_golden.weights(name, (2, 1024)), caffe_golden.biases(name, 2)
        np.testing.assert_allclose(branch[0] @ head[0].T + head[1], logits, rtol=1e-4, atol=0.02)


BODY = {  # parameters and multiply-adds without heads
    "caffenet": {
        227: (56_868_224, 720_310_816),
        200: (56_868_224, 598_417_408),
        128: (28_556_672, 224_239_744),
        96: (23_313_792, 124_775_552),
        64: (20_168_064, 57_624_704),
    },
    "vgg16": {
        200: (134_260_544, 12_444_020_736),
        96: (50_374_464, 2_854_420_480),
    },
    "googlenet": {200: (5_973_552, 1_218_901_504)},
}


@pytest.mark.parametrize("name", BODY)
def test_counts_by_image_size(name):
    net = models.backbone(name)
    assert {size: sizes.count(net, size) for size in BODY[name]} == BODY[name]


@pytest.mark.parametrize(
    "name, width, size, parameters",
    [
        ("caffenet", 1, 224, 56_925_606),
        ("vgg16", 1, 224, 134_317_926),
        ("caffenet", 0.25, 64, 1_283_206),
        ("vgg16", 0.25, 64, 2_510_070),
        ("googlenet", 0.25, 64, 389_382),
    ],
)
def test_counts_with_both_heads(name, width, size, parameters):
    leaves = tree.named_leaves(shapes_of(models.build(name, num_age_classes=12, width=width), size))
    assert count([leaf for path, leaf in leaves.items() if "auxiliary" not in path]) == parameters


@pytest.mark.parametrize(
    "name, classes, parameters",
    [
        ("caffenet", 2, 56_876_418),
        ("caffenet", 8, 56_901_000),
        pytest.param("vgg16", 2, 134_268_738, marks=pytest.mark.slow),
        pytest.param("vgg16", 8, 134_293_320, marks=pytest.mark.slow),
        pytest.param("vgg16", 2622, 145_002_878, marks=pytest.mark.slow),  # the identities of VGG-Face
        pytest.param("googlenet", 2, 5_975_602, marks=pytest.mark.slow),
        pytest.param("googlenet", 8, 5_981_752, marks=pytest.mark.slow),
    ],
)
def test_counts_of_published_classifiers(name, classes, parameters):
    assert count(shapes_of(models.classifier(name, num_classes=classes), 224)["params"]) == parameters


def test_counts_of_the_auxiliary_branches():
    net = models.backbone("googlenet")
    for size, dense in {224: 2_098_176, 64: 132_096}.items():
        images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        options = {"train": False, "auxiliary": True, "method": "branches"}
        params = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, **options), images)["params"]  # noqa: B023
        parts = {name: count(leaves) for name, leaves in params.items() if name.startswith("auxiliary")}
        assert parts == {
            **{"auxiliary1_conv": 65_664, "auxiliary2_conv": 67_712},
            **{"auxiliary1_fc": dense, "auxiliary2_fc": dense},
        }
        if size == 224:  # the authors' nets of one task, and BVLC's, each with three classifiers
            published = {2: 10_309_430, 8: 10_327_880, 1000: 13_378_280}
            assert {classes: count(params) + 3 * 1025 * classes for classes in published} == published


def test_average_pooling_clips_its_windows():
    x = np.random.default_rng(0).standard_normal((1, 13, 4, 2)).astype(np.float32)
    rows = [(0, 5), (3, 8), (6, 11), (9, 13)]
    expected = np.stack([x[:, a:b].mean((1, 2)) for a, b in rows], 1)[:, :, None]
    np.testing.assert_allclose(pooling.average_pool(jnp.asarray(x), 5, 3), expected, rtol=1e-5)


def test_pooling_of_2x2_is_in_ceil_mode():
    x = np.arange(25, dtype=np.float32).reshape(1, 5, 5, 1)
    np.testing.assert_array_equal(pooling.caffe_max_pool(x, 2)[0, :, 0, 0], [6, 16, 21])


class WithAuxiliary(models.AgeGenderNet):
    """Logits that are the parameters, of main and auxiliary heads."""

    @models.agegender.nn.compact
    def __call__(self, images, *, train):
        logits = self.param("logits", lambda key: jnp.zeros((2, 14)))
        main, other = (jnp.broadcast_to(x, (len(images), 14)) for x in logits)
        auxiliary = ((other[:, 2:], other[:, :2]),) if train or self.is_initializing() else ()
        return models.agegender.Outputs(main[:, 2:], main[:, :2], (), auxiliary)


def test_the_auxiliary_loss_has_weight_0_3():
    net, tx = WithAuxiliary(None, 12), optim.optax.sgd(1.0)
    state = training.init_state(net, tx, jax.random.key(0), 32)
    batch = Batch(*(np.zeros(shape, np.int32) for shape in ((2, 32, 32, 3), (2, 2), 2)), np.ones(2, np.float32))
    step = lambda state, batch: training.train_step(  # noqa: E731
        state, batch, model=net, tx=tx, key=jax.random.key(0), prepare_images=lambda keys, x: x.astype(jnp.float32)
    )
    mapped = jax.pmap(step, axis_name="data", devices=jax.devices()[:1])
    after = jax.tree.map(lambda x: x[0], mapped(*jax.tree.map(lambda x: jnp.asarray(x)[None], (state, batch))))
    main, auxiliary = np.asarray(after.params["logits"])
    assert np.abs(main).max() > 0.1
    np.testing.assert_allclose(auxiliary, 0.3 * main, rtol=1e-5)
    assert after.sums["loss"] == pytest.approx(np.log(12) + np.log(2), rel=1e-5)  # of the main heads


def test_auxiliary_heads_are_only_for_training():
    net = models.build("googlenet", num_age_classes=12, width=0.125)
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    variables = shapes_of(net, 32)
    assert jax.eval_shape(lambda v, x: net.apply(v, x, train=False), variables, images).auxiliary == ()
    rngs = {"dropout": jax.random.key(0)}
    outputs = jax.eval_shape(lambda v, x: net.apply(v, x, train=True, rngs=rngs), variables, images)
    assert [[x.shape for x in pair] for pair in outputs.auxiliary] == [[(2, 12), (2, 2)]] * 2


@pytest.mark.parametrize("name, bias", [("caffenet", 1.0), pytest.param("googlenet", 0.2, marks=pytest.mark.slow)])
def test_initial_weights_of_the_paper_and_of_he(name, bias):
    def start(initial):
        net = models.backbone(name, initial=initial, width=0.125)
        images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
        params = initializers.init(net, jax.random.key(0), images)["params"]
        return params["conv1"]["kernel"].std(), float(params["conv2"]["bias"].mean())

    fan_in = {"caffenet": 3 * 11 * 11, "googlenet": 3 * 7 * 7}[name]
    paper = {"caffenet": 0.01, "googlenet": fan_in**-0.5}[name] * caffe_layers.MEAN_PIXEL_SCALE
    assert start("paper") == (pytest.approx(paper, rel=0.1), pytest.approx(bias))
    assert start("default") == (pytest.approx((2 / fan_in) ** 0.5, rel=0.1), 0)
    with pytest.raises(ConfigError, match="vgg16 has no initial"):
        models.from_config({"name": "vgg16", "initial": "paper"})


def test_layer_groups():
    groups = {"conv2_reduce": 1, "inception_3a": 2, "inception_5b": 4, "auxiliary1_fc": optim.HEADS, "conv5_3": 4}
    assert {name: optim.layer_group(("backbone", name)) for name in groups} == groups
    assert optim.layer_group(("auxiliary1_age_head",)) == optim.HEADS


def caffe_file(path, net, size, head):
    """Write random arrays with Caffe's names, for a net with one head of 3 classes; return them."""
    leaves = tree.named_leaves(shapes_of(net, size))
    draw, blobs = np.random.default_rng(0), {}
    for name, leaf in leaves.items():
        shape = {4: lambda s: (s[3], s[2], s[0], s[1]), 2: lambda s: s[::-1], 1: lambda s: s}[leaf.ndim](leaf.shape)
        blobs[caffe_names.name_of(name, leaves)] = 0.1 * draw.standard_normal(shape).astype(np.float32)
    assert f"{head}/0" in blobs
    np.savez(path, **blobs)
    return blobs


@pytest.mark.parametrize(
    "name, stem, head",
    [
        ("caffenet", ("conv1", 4, 0), "fc8"),
        ("vgg16", ("conv1_1", 1, 0), "fc8"),
        ("googlenet", ("conv1/7x7_s2", 2, 0), "loss3/classifier"),
        ("levi_hassner", ("conv1", 4, 0), "fc8"),
    ],
)
def test_caffes_first_convolution_sees_caffes_images(tmp_path, name, stem, head):
    net = models.classifier(name, num_classes=3, width=0.125)
    stored = caffe_file(tmp_path / "w.npz", net, 64, head)
    mean = caffe_names.MEAN
    if name == "vgg16":  # VGG-Face's
        mean = np.array([129.1863, 104.7624, 93.5940])
        np.savez(tmp_path / "w.npz", mean=mean, **stored)
    leaves = initial_weights.load(str(tmp_path / "w.npz"), shapes_of(net, 64))
    assert len(leaves) == len(stored)
    layer, stride, _ = stem
    ours = layer.replace("/7x7_s2", "")
    kernel, bias = (leaves[f"params/backbone/{ours}/{leaf}"] for leaf in ("kernel", "bias"))
    rgb = np.random.default_rng(1).integers(0, 256, (1, 24, 24, 3)).astype(np.float32)
    bgr = (rgb - mean)[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)
    convolve = jax.lax.conv_general_dilated
    theirs = convolve(bgr, stored[f"{layer}/0"], (stride, stride), "VALID").transpose(0, 2, 3, 1)
    x = (rgb - caffe_names.OUR_MEAN) / (1 if name == "levi_hassner" else caffe_names.OUR_STD)
    if name == "levi_hassner":
        x = rgb - caffe_names.OUR_MEAN  # the net multiplies by PIXEL_SCALE itself
    actual = convolve(x.astype(np.float32), kernel, (stride, stride), "VALID", dimension_numbers=convolution.DIMENSIONS)
    np.testing.assert_allclose(actual + bias, theirs + stored[f"{layer}/1"], rtol=1e-3, atol=1e-2)


def test_caffes_dense_layers_read_their_maps_in_our_order(tmp_path):
    net = models.classifier("caffenet", num_classes=3, width=0.25)
    stored = caffe_file(tmp_path / "w.npz", net, 128, "fc8")
    kernel = initial_weights.load(str(tmp_path / "w.npz"), shapes_of(net, 128))["params/backbone/fc6/kernel"]
    maps = np.random.default_rng(1).standard_normal((3, 3, 64)).astype(np.float32)  # H, W, C
    expected = stored["fc6/0"] @ maps.transpose(2, 0, 1).ravel()
    np.testing.assert_allclose(maps.ravel() @ kernel, expected, rtol=1e-4, atol=1e-4)


def test_files_of_caffe_that_do_not_fit(tmp_path):
    net = models.classifier("googlenet", num_classes=3, width=0.125)
    path = tmp_path / "w.npz"
    stored = caffe_file(path, net, 64, "loss3/classifier")
    two_heads = shapes_of(models.build("googlenet", num_age_classes=12, width=0.125), 64)
    notices = []
    initial_weights.load(str(path), two_heads, notices.append)  # auxiliary branches keep their initial weights
    assert "auxiliary1_age_head" in notices[1] or "and" in notices[1]
    np.savez(path, mean=np.zeros((3, 2)), **stored)
    with pytest.raises(CheckpointError, match="mean must be three numbers"):
        initial_weights.load(str(path), two_heads)
    del stored["inception_4c/5x5/0"]
    np.savez(path, **stored)
    with pytest.raises(CheckpointError, match="missing: params/backbone/inception_4c/conv5x5/kernel"):
        initial_weights.load(str(path), two_heads)
    with pytest.raises(CheckpointError, match="another net"):
        initial_weights.load(str(path), shapes_of(models.classifier("caffenet", num_classes=3, width=0.125), 64))
    with pytest.raises(CheckpointError, match="only for ResNets and Caffe's nets"):
        initial_weights.load(str(path), shapes_of(models.build("ran56_cifar", num_age_classes=12, width=0.125), 32))


def test_torchvisions_names_of_vgg16():
    positions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    blocks = [f"conv{b}_{n}" for b, count in enumerate((2, 2, 3, 3, 3), 1) for n in range(1, count + 1)]
    names = dict(zip(blocks, (f"features.{i}" for i in positions), strict=True))
    names |= {"fc6": "classifier.0", "fc7": "classifier.3"}
    for ours, theirs in names.items():
        assert torchvision_names.name_of(f"params/backbone/{ours}/kernel") == f"{theirs}.weight"


def test_vgg16_in_pytorch(tmp_path):
    """Features and gradients of torchvision's VGG-16 of an eighth of the width, with random weights, at 224 pixels."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch import nn

    units, parts, channels = ((8, 8), (16, 16), (32,) * 3, (64,) * 3, (64,) * 3), [], 3
    for block in units:
        for count_ in block:
            parts += [nn.Conv2d(channels, count_, 3, padding=1), nn.ReLU()]
            channels = count_
        parts.append(nn.MaxPool2d(2, 2))
    net = nn.Module()
    net.features, net.avgpool = nn.Sequential(*parts), nn.AdaptiveAvgPool2d(7)
    dense = [nn.Linear(64 * 49, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU(), nn.Dropout()]
    net.classifier = nn.Sequential(*dense, nn.Linear(512, 10))
    torch.manual_seed(0)
    for parameter in net.parameters():
        deviation = (2 / np.prod(parameter.shape[1:])) ** 0.5 if parameter.ndim > 1 else 0.1
        nn.init.normal_(parameter, std=deviation)
    net.eval()
    torch.save(net.state_dict(), tmp_path / "vgg16.pth")
    ours = models.backbone("vgg16", width=0.125)
    template = {"params": {"backbone": shapes_of(ours, 224)["params"]}}
    leaves = initial_weights.load(str(tmp_path / "vgg16.pth"), template)
    params = tree.from_dict(leaves, template)["params"]["backbone"]
    images = np.random.default_rng(0).standard_normal((2, 224, 224, 3)).astype(np.float32)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2)).requires_grad_()
    features = net.classifier[:5](net.avgpool(net.features(pixels)).flatten(1))
    features.square().sum().backward()

    @jax.jit
    def features_and_gradients(params, images):
        def f(params, images):
            actual = ours.apply({"params": params}, images)
            return jnp.square(actual).sum(), actual

        return jax.grad(f, (0, 1), has_aux=True)(params, images)

    (of_params, of_images), actual = features_and_gradients(params, images)
    pairs = [(actual, features.detach().numpy()), (of_images, pixels.grad.numpy().transpose(0, 2, 3, 1))]
    for name, position in (("conv1_1", 0), ("conv5_3", 28)):
        pairs.append((of_params[name]["kernel"], net.features[position].weight.grad.numpy().transpose(2, 3, 1, 0)))
    pairs.append((of_params["fc7"]["kernel"], net.classifier[3].weight.grad.numpy().T))
    for ours_, theirs in pairs:
        np.testing.assert_allclose(ours_, theirs, atol=1e-4 * np.abs(theirs).max())


def test_rates_by_name():
    config = default().optimizer
    config.update(name="sgd", momentum=0.0, lr=0.5, schedule="constant", clip_norm=0.0)
    params = {"backbone": {"fc7": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}, "age_head": {"bias": jnp.ones(2)}}

    def moved(rates):
        config.rates = rates
        tx = optim.build(config, 10)
        updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
        return {name: float(leaf.ravel()[0]) / -0.5 for name, leaf in tree.named_leaves(updates).items()}

    actual = moved("*/bias:2,*_head/bias:20,backbone/fc7/kernel:0")
    assert actual == {"backbone/fc7/kernel": 0, "backbone/fc7/bias": 2, "age_head/bias": 20}
    assert set(moved("").values()) == {1.0}
    with pytest.raises(ConfigError, match="no parameter matches 'backbone/fc8/kernel'") as error:
        moved("backbone/fc8/kernel:2")
    assert "backbone/fc7/kernel" in error.value.fix
    for wrong in ("fc7", "fc7:", ":2", "fc7:-1", "fc7:inf"):
        with pytest.raises(ConfigError, match="optimizer.rates has"):
            moved(wrong)
