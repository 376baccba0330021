"""The five-layer CNN against its layers in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agegender_jax import data, models
from agegender_jax.models import initializers, layers
from agegender_jax.models.levi_hassner import PIXEL_SCALE


def test_local_response_normalisation():
    x = np.random.default_rng(0).standard_normal((2, 3, 3, 7)).astype(np.float32) * 30
    expected = np.empty_like(x)
    for c in range(7):
        near = x[..., max(0, c - 2) : c + 3]
        expected[..., c] = x[..., c] * (1 + 1e-4 / 5 * np.square(near).sum(-1)) ** -0.75
    np.testing.assert_allclose(layers.local_response_norm(jnp.asarray(x)), expected, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda x: layers.local_response_norm(x).sum())(jnp.zeros((1, 1, 1, 7)))).all()


@pytest.fixture(scope="module")
def net_and_variables():
    net = models.classifier("levi_hassner", num_classes=2, width=0.25)
    return net, jax.jit(lambda: net.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3))))()


def test_initial_biases(net_and_variables):
    params = net_and_variables[1]["params"]["backbone"]
    assert {name: float(layer["bias"].mean()) for name, layer in params.items()} == {
        "conv1": 0.0,
        "conv2": 1.0,
        "conv3": 0.0,
        "fc6": 1.0,
        "fc7": 1.0,
    }
    assert params["conv1"]["kernel"].std() == pytest.approx(0.01, rel=0.05)
    assert params["fc6"]["kernel"].std() == pytest.approx(0.005, rel=0.05)


def test_the_input_has_the_scale_that_the_initial_weights_assume():
    """0..255 minus a mean: the features of unlike images differ by some thousandths (1e-4 without the scale)."""
    np.testing.assert_allclose(PIXEL_SCALE, 255 * data.IMAGENET_STD, rtol=1e-6)
    net = models.backbone("levi_hassner")
    colours = np.random.default_rng(0).integers(0, 256, (16, 1, 1, 3)) + np.arange(-32, 32)[:, None, None]
    images = np.broadcast_to(np.clip(colours, 0, 255).astype(np.uint8), (16, 64, 64, 3))
    variables = initializers.init(net, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32))
    features = jax.jit(net.apply)(variables, data.normalize(images))
    spread = (features.std(0) / features.mean(0)).mean()
    assert 3e-3 < spread < 0.1


def test_dropout_needs_a_key_only_in_training(net_and_variables):
    net, variables = net_and_variables
    images = jax.random.normal(jax.random.key(1), (2, 64, 64, 3))
    a, b = (net.apply(variables, images, train=True, rngs={"dropout": jax.random.key(i)}) for i in (2, 3))
    assert (a != b).any()
    np.testing.assert_array_equal(net.apply(variables, images), net.apply(variables, images))
    with pytest.raises(Exception, match="dropout"):
        net.apply(variables, images, train=True)


def pooled(x):
    """3x3, stride 2, ceil mode: [B, H, H, C]."""
    out = int(np.ceil((x.shape[1] - 3) / 2)) + 1
    parts = [[x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)) for j in range(out)] for i in range(out)]
    return np.stack([np.stack(row, 1) for row in parts], 1)


def convolved(x, layer, stride, pad):
    kernel = np.asarray(layer["kernel"])
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], (1, 2))[:, ::stride, ::stride]
    return np.einsum("bhwcij,ijco->bhwo", windows, kernel) + np.asarray(layer["bias"])


def normalised(x):
    squares = np.pad(np.square(x), ((0, 0),) * 3 + ((2, 2),))
    return x * (1 + 1e-4 / 5 * sum(squares[..., c : c + x.shape[-1]] for c in range(5))) ** -0.75


def test_the_net_layer_by_layer(net_and_variables):
    net, variables = net_and_variables
    draw = np.random.default_rng(0)
    params = jax.tree.map(lambda x: draw.standard_normal(x.shape) * 3 / np.sqrt(x.size // x.shape[-1]), variables)
    layers_of = params["params"]["backbone"]
    images = draw.standard_normal((2, 64, 64, 3)) * 0.4  # large enough for the normalisation to matter
    x = normalised(pooled(np.maximum(convolved(images * 255 * data.IMAGENET_STD, layers_of["conv1"], 4, 0), 0)))
    x = normalised(pooled(np.maximum(convolved(x, layers_of["conv2"], 1, 2), 0)))
    x = pooled(np.maximum(convolved(x, layers_of["conv3"], 1, 1), 0)).reshape(2, -1)
    for name in ("fc6", "fc7"):
        x = np.maximum(x @ layers_of[name]["kernel"] + layers_of[name]["bias"], 0)
    features = net.backbone.apply({"params": layers_of}, jnp.float32(images))
    np.testing.assert_allclose(features, x, atol=1e-4 * np.abs(x).max())
    dropped = net.backbone.apply(
        {"params": layers_of}, jnp.float32(images), train=True, rngs={"dropout": jax.random.key(0)}
    )
    assert 0.3 < float((dropped == 0).mean() - (features == 0).mean()) / float((features > 0).mean()) < 0.7


def test_maps_at_227():
    net = models.backbone("levi_hassner")
    images = jax.ShapeDtypeStruct((1, 227, 227, 3), jnp.float32)
    _, variables = jax.eval_shape(
        lambda x: net.init_with_output(jax.random.key(0), x, capture_intermediates=True), images
    )
    shapes = {
        name: layer["__call__"][0].shape[1:] for name, layer in variables["intermediates"].items() if name[0] in "cf"
    }
    assert shapes == {
        "conv1": (56, 56, 96),
        "conv2": (28, 28, 256),
        "conv3": (14, 14, 384),
        "fc6": (512,),
        "fc7": (512,),
    }
    assert variables["params"]["fc6"]["kernel"].shape == (7 * 7 * 384, 512)


def test_no_other_state_than_parameters(net_and_variables):
    assert set(net_and_variables[1]) == {"params"}
