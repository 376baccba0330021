"""ResNets against PyTorch on the same random weights: forward, and gradients in training mode.

Where PyTorch is installed every entry is compared, elsewhere stored samples of its output (tests/torch_parity.py).
"""

import importlib.util
import json

import jax
import numpy as np
import optax
import pytest
import torch_parity

from agegender_jax import models
from agegender_jax.checkpoint import tree
from agegender_jax.models import torchvision_names

HAS_TORCH = importlib.util.find_spec("torch") is not None


def to_theirs(array):
    return {4: lambda: array.transpose(3, 2, 0, 1), 2: lambda: array.T}.get(array.ndim, lambda: array)()


def ours(name, dtype):
    """Return logits at inference in float32; or, in float64, logits in training and gradients by PyTorch's names."""
    net = models.classifier(name, num_classes=torch_parity.CLASSES, dtype=dtype)
    images, labels = torch_parity.batch()
    images = images.transpose(0, 2, 3, 1).astype(dtype)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), images))

    def value(path, leaf):
        theirs = torchvision_names.name_of(jax.tree_util.keystr(path, simple=True, separator="/"))
        random = torch_parity.random_value(theirs, to_theirs(np.empty(leaf.shape)).shape)
        return torchvision_names.to_ours(random).astype(dtype)

    variables = jax.tree_util.tree_map_with_path(value, shapes)

    def loss(params):
        logits, _ = net.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    if dtype == "float32":
        return np.asarray(jax.jit(lambda v: net.apply(v, images))(variables))
    gradients, training = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    named = tree.named_leaves({"params": gradients})
    return training, {torchvision_names.name_of(n): to_theirs(np.asarray(g)) for n, g in named.items()}


def close(actual, expected, **options):
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max(), rtol=0, **options)


NETS = [
    pytest.param(name, marks=pytest.mark.slow) if name == "resnet34" else name  # it has resnet18's blocks
    for name in torch_parity.NETS
]


@pytest.mark.parametrize("name", NETS)
def test_resnets_predict_and_learn_as_in_pytorch(name):
    with jax.enable_x64(True):
        training, gradients = ours(name, "float64")
    golden = json.loads(torch_parity.GOLDEN.read_text())[name]
    if HAS_TORCH:
        *logits, expected = torch_parity.run(torch_parity.build(name))
        close(logits, [golden["inference"], golden["training"]])
        for key in expected:
            close(gradients[key], expected[key], err_msg=key)
    close(training, golden["training"])
    close(ours(name, "float32"), golden["inference"])
    assert gradients.keys() == golden["gradients"].keys()
    for key, samples in golden["gradients"].items():
        close(torch_parity.samples(gradients[key]), samples, err_msg=key)


def test_names_and_layouts_of_torchvision():
    assert torchvision_names.to_ours(np.zeros((8, 4, 3, 3))).shape == (3, 3, 4, 8)
    for path, name in {
        "params/backbone/conv1/kernel": "conv1.weight",
        "batch_stats/backbone/layer4_1/bn2/var": "layer4.1.bn2.running_var",
        "params/layer2_0/downsample_conv/kernel": "layer2.0.downsample.0.weight",
        "batch_stats/layer2_0/downsample_bn/mean": "layer2.0.downsample.1.running_mean",
        "params/head/bias": "fc.bias",
    }.items():
        assert torchvision_names.name_of(path) == name
