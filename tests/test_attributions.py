"""Attributions and attention maps on tiny nets, against hand computation, SciPy and their own sums."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_nets
from scipy import ndimage

from agegender_jax import data, explain, models
from agegender_jax.config.allowed_values import CHOICES
from agegender_jax.explain.grad_cam import _is_layer, _output, last_layer
from agegender_jax.models import pooling
from agegender_jax.models.levi_hassner import LeviHassner
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.models.resnet import ResNet

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 40, 36, 3), dtype=np.uint8)
RAN = functools.partial(ResidualAttentionNet, final_units=0, stem_channels=8, t=1, width=0.25)
BACKBONES = {
    "ran": RAN((1, 1), (32, 64), (2, 1)),
    "resnet": ResNet((1, 1), bottleneck=False, width=0.125),
    "bottleneck": ResNet((1,), bottleneck=True, width=0.125),
    "levi_hassner": LeviHassner(width=0.125),
    "channel": RAN((1,), (32,), (1,), attention="channel"),
    "naive": RAN((1,), (32,), (0,), attention="spatial", learning="naive", stem="small"),
}


def random_variable(path, leaf, seed=1):
    """Return a weight unlike any initial one: BatchNorm's shifts and statistics, biases and heads are not trivial."""
    rng = np.random.default_rng([seed, sum(map(ord, jax.tree_util.keystr(path)))])
    name = path[-1].key
    if name == "kernel":
        return (rng.standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))).astype(np.float32)
    spread = 0.3 * rng.standard_normal(leaf.shape)
    return np.float32(np.exp(spread) if name in ("scale", "var") else spread)


@functools.cache
def tiny(name, feed="probs", age_hidden=0):
    net = models.AgeGenderNet(BACKBONES[name], 5, feed, age_hidden)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), data.normalize(jnp.asarray(IMAGES)))
    return net, jax.tree_util.tree_map_with_path(random_variable, shapes)


@functools.cache
def outputs(name, feed="probs", age_hidden=0):
    net, variables = tiny(name, feed, age_hidden)
    keep = {"capture_intermediates": lambda module, method: method == "__call__"}
    call = jax.jit(lambda v, x: net.apply(v, x, train=False, **keep))
    result, sown = jax.tree.map(np.asarray, call(variables, data.normalize(IMAGES)))
    return result, sown["intermediates"]["backbone"]


def enlarged(maps, corners=True):
    """Resize [B, h, w] linearly to the pictures' size, with corners aligned, or else pixels."""
    sides = zip(maps.shape[1:], IMAGES.shape[1:3], strict=True)
    if corners:
        positions = [np.linspace(0, n - 1, out) for n, out in sides]
    else:
        positions = [np.clip((np.arange(out) + 0.5) * n / out - 0.5, 0, n - 1) for n, out in sides]
    return np.stack([ndimage.map_coordinates(m, np.meshgrid(*positions, indexing="ij"), order=1) for m in maps])


def test_attention_maps_are_the_masks_at_the_pictures_size():
    net, variables = tiny("ran")
    maps, masks = explain.attention(net, variables, IMAGES), outputs("ran")[0].attention
    assert [m.name for m in maps] == ["stage1_att1", "stage2_att1"]
    for result, mask in zip(maps, masks, strict=True):
        np.testing.assert_allclose(result.mean, enlarged(mask.mean(-1)), atol=1e-4)
        strength = mask.mean((1, 2)) * mask.std((1, 2))
        strongest = np.take_along_axis(strength, np.asarray(result.indices), -1)
        np.testing.assert_allclose(strongest, -np.sort(-strength, -1)[:, :4], rtol=1e-4, atol=1e-6)
        for k in range(4):
            channel = np.stack([m[..., i] for m, i in zip(mask, result.indices[:, k], strict=True)])
            np.testing.assert_allclose(result.channels[:, k], enlarged(channel), atol=1e-4)


def test_no_attention_modules_no_maps():
    assert explain.attention(*tiny("resnet"), IMAGES) == ()


@pytest.mark.parametrize("name", ["ran", "resnet", "levi_hassner"])
@pytest.mark.parametrize("head", explain.HEADS)
def test_grad_cam_by_hand(name, head):
    net, variables = tiny(name)
    out, sown = outputs(name)
    params, target = variables["params"], np.array([1, 0, 1])
    maps = np.maximum(sown[last_layer(net.backbone)]["__call__"][0], 0)  # [B, h, w, K]
    p, gender, age = out.gender_logits, params["gender_head"]["kernel"], params["age_head"]["kernel"]
    if head == "gender":
        slope = gender[:, target].T  # d logit / d features, [B, F]
    else:
        p = np.asarray(jax.nn.softmax(p))
        softmax = np.stack([np.diag(row) - np.outer(row, row) for row in p])  # its Jacobian, [B, 2, 2]
        slope = age[:-2, target].T + np.einsum("fg,bgh,hb->bf", gender, softmax, age[-2:, target])
    if name == "levi_hassner":
        full = params["backbone"]

        def features(maps):
            x = pooling.caffe_max_pool(maps).reshape(len(maps), -1)
            for layer in ("fc6", "fc7"):
                x = nn.relu(x @ full[layer]["kernel"] + full[layer]["bias"])
            return x

        slope = np.asarray(jax.vjp(features, jnp.asarray(maps))[1](jnp.asarray(slope))[0])
        weights = slope.mean((1, 2))
    else:
        weights = slope / np.prod(maps.shape[1:3])  # the features are means over the positions
    expected = enlarged(np.maximum(np.einsum("bhwk,bk->bhw", maps, weights), 0), corners=False)
    assert expected.max() > 0
    result = explain.attribute("grad_cam", net, variables, IMAGES, head, target)
    np.testing.assert_allclose(result, expected, atol=1e-4 * expected.max())


def test_integrated_gradients_against_a_sum_step_by_step():
    net, variables = tiny("resnet")
    x = np.asarray(data.normalize(IMAGES))
    baseline = np.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)
    target = outputs("resnet")[0].age_logits.argmax(-1)
    slope = jax.jit(jax.grad(lambda x: net.apply(variables, x, train=False).age_logits[np.arange(3), target].sum()))
    expected = sum(slope(baseline + t * (x - baseline)) for t in (1 / 6, 3 / 6, 5 / 6)) * (x - baseline) / 3
    result = explain.integrated(net, variables, IMAGES, "age", steps=3)
    np.testing.assert_allclose(result.pixels, expected.sum(-1), atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", [pytest.param("ran", marks=pytest.mark.slow), "resnet"])
def test_integrated_gradients_grow_complete(name):
    net, variables = tiny(name)
    flat = np.broadcast_to(np.round(IMAGES.mean((1, 2), keepdims=True)).astype(np.uint8), IMAGES.shape)
    few, many = (explain.integrated(net, variables, IMAGES, "age", [0, 1, 2], steps=n) for n in (2, 48))
    call = jax.jit(lambda v, x: net.apply(v, x, train=False).age_logits)
    ends = [np.diag(call(variables, data.normalize(x))) for x in (IMAGES, flat)]
    np.testing.assert_allclose(many.rise, ends[0] - ends[1], rtol=0.03)  # `flat` is rounded
    np.testing.assert_allclose(many.rise - many.pixels.sum((1, 2)), many.error, atol=1e-5 * np.abs(many.pixels).sum())
    assert np.abs(many.error).max() < 0.03 * np.abs(many.rise).max()
    assert np.abs(many.error).mean() < 0.2 * np.abs(few.error).mean()


@pytest.mark.parametrize("method", explain.METHODS[:3])  # those of every net
def test_a_map_depends_on_its_own_picture_and_on_the_predicted_class(method, monkeypatch):
    monkeypatch.setitem(explain.integrated.__kwdefaults__, "steps", 2)
    net, variables = tiny("ran")
    predicted = outputs("ran")[0].age_logits.argmax(-1)
    assert (predicted > 0).any()
    result = np.asarray(explain.attribute(method, net, variables, IMAGES, "age"))
    assert result.shape == IMAGES.shape[:3] and result.dtype == np.float32
    np.testing.assert_array_equal(result, explain.attribute(method, net, variables, IMAGES, "age", predicted))
    assert (result != explain.attribute(method, net, variables, IMAGES, "age", 4 - predicted)).any()
    other = explain.attribute(method, net, variables, IMAGES[[0, 0, 1]], "age", predicted[[0, 0, 1]])
    np.testing.assert_allclose(result[[0, 0, 1]], other, atol=1e-4 * np.abs(result).max())


DEEP = ("ran128_cifar", "ran164_cifar", "ran236_cifar")  # ran92_cifar with more modules, slow to trace


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in models.names()]
)
def test_every_net_calls_its_last_layer_once(name):
    net, found = models.build(name, num_age_classes=5, width=0.125), []
    layer = last_layer(net.backbone)

    def record(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if _is_layer(context, layer):
            found.append(out.shape)
        return out

    with nn.intercept_methods(record):
        jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((2, 32, 32, 3)), train=False))
    ((count, *side, _),) = found
    assert count == 2 and side[0] == side[1] <= 32


def variants(name):
    """Return {option=value: net} for every value of every option that may change its layers, one at a time."""
    options = {field.removeprefix("model."): values for field, values in CHOICES.items() if field.startswith("model.")}
    options |= {"name": (), "gender_to_age": (), "age_hidden": (8,), "low": (1,), "top": (2,)}
    nets = {}
    for option, values in options.items():
        for value in values:
            feed = {"gender_to_age": "none"} if value in models.SOLVED else {}
            try:
                net = models.build(name, num_age_classes=5, width=0.125, **feed | {option: value})
            except ValueError:  # it has no such option
                continue
            nets.setdefault(net, f"{option}={value}")
    return {what: net for net, what in nets.items()}


KINDS = {kind: name for name, (kind, _) in reversed(models.BACKBONES.items())}.values()
TRACED_LONG = ("googlenet", "ran56")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in TRACED_LONG else name for name in KINDS]
)
def test_grad_cam_of_every_variant_of_every_kind_of_net(name, monkeypatch):
    small_nets.patch(monkeypatch, name)
    nets, images = variants(name), jax.ShapeDtypeStruct((2, 32, 32, 3), np.uint8)
    assert {"dtype=bfloat16", "head=elm", "head=ridge", "age_hidden=8"} <= set(nets)
    assert name != "deep_attention" or {"trunk=vgg16", "patches=none", "top=2"} <= set(nets)
    for what, net in nets.items():
        shapes = jax.eval_shape(lambda net=net: net.init(jax.random.key(0), jnp.zeros((2, 32, 32, 3)), train=False))
        result = jax.eval_shape(lambda v, x, net=net: explain.attribute("grad_cam", net, v, x, "age"), shapes, images)
        assert result.shape == (2, 32, 32) and result.dtype == np.float32, what


def test_a_backbone_without_a_last_map():
    with pytest.raises(ValueError, match="Dense"):
        last_layer(nn.Dense(2))
    net, variables = tiny("resnet")
    with pytest.raises(ValueError, match="no output of a layer named 'layer9_0'"):
        jax.eval_shape(lambda v, x: _output(net, v, x, "layer9_0"), variables, data.normalize(IMAGES))


@pytest.mark.parametrize(
    "change,message",
    [
        ({"method": "saliency"}, "unknown method 'saliency'; known: grad_cam"),
        ({"head": "race"}, "unknown head 'race'; known: age, gender"),
        ({"images": IMAGES.astype(np.float32)}, "uint8"),
        ({"images": IMAGES[0]}, "images must be"),
        ({"target": [0, 1]}, "3 images"),
        ({"target": [0, 1, 5]}, "5 classes"),
        ({"target": [0.0, 1.0, 2.0]}, "5 classes"),
        ({"net": models.build("resnet18", num_age_classes=5, gender_to_age="true")}, "'true' is a control"),
        ({"net": models.build("resnet18", num_age_classes=5, gender_to_age="shuffled")}, "control"),
        ({"net": models.classifier("resnet18", num_classes=5)}, "Classifier"),
    ],
)
def test_invalid_arguments_are_refused(change, message):
    arguments = {"method": "lrp", "net": tiny("resnet")[0], "variables": {}, "images": IMAGES, "head": "age"} | change
    with pytest.raises(ValueError, match=message):
        explain.attribute(**arguments)
