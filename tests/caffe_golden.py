"""Deterministic weights by Caffe's layer names, and the outputs of Caffe's definitions of the nets with them.

A layer N has weights, OIHW, RandomState(crc32(N)).standard_normal(shape) * sqrt(2 / fan_in), the fan_in of a group
counting its own inputs, and biases 0.1 * RandomState(crc32(N + "/bias")).standard_normal(n). The image is
60 * RandomState(0).standard_normal((1, 3, h, h)). The values come from an interpreter of the published prototxts.
"""

import zlib

import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax import models
from agegender_jax.checkpoint import tree
from agegender_jax.models import caffe_names

# (net, size): the first five features, their sum, the index and value of the largest
FEATURES = {
    ("caffenet", 227): ((50.3422, 0, 0, 0, 64.1758), 142_096.9, 345, 276.667),
    ("caffenet", 128): ((43.8155, 0, 0, 0, 0), 144_572.3, 291, 303.498),
    ("vgg16", 64): ((168.4182, 0, 74.7992, 111.1568, 0), 339_756.6, 111, 728.469),
    ("googlenet", 200): ((1.95080, 21.44590, 17.40673, 4.10663, 62.43461), 44_529.67, 1023, 308.768),
    ("googlenet", 64): ((0.32541, 74.82150, 39.20032, 0, 61.86016), 31_391.51, 966, 242.545),
}
AUXILIARY_LOGITS = ((-178.8721, 34.0421), (-263.6548, 86.0210))  # GoogLeNet, 224 pixels, one task of two classes


def weights(name, shape):
    """Return the weights of a layer, OIHW or OI."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    return (draw * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)


def biases(name, count):
    draw = np.random.RandomState(zlib.crc32(f"{name}/bias".encode())).standard_normal(count)
    return (0.1 * draw).astype(np.float32)


def variables(net, size, method=None, **options):
    """Return the parameters of a backbone for images of `size` pixels."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False, method=method, **options), images)
    leaves = tree.named_leaves(shapes)

    def value(path, leaf):
        name, blob = caffe_names.name_of(path, leaves)[:-2], path[-4:] == "bias"
        if blob:
            return biases(name, leaf.shape[0])
        if leaf.ndim == 4:
            return weights(name, tuple(leaf.shape[i] for i in (3, 2, 0, 1))).transpose(2, 3, 1, 0)
        return caffe_names.flattened(weights(name, leaf.shape[::-1]), caffe_names.channels_before(path, leaves))

    return tree.from_dict({path: value(path, leaf) for path, leaf in leaves.items()}, shapes)


def image(size):
    """Return the image, float32 [1, size, size, 3]."""
    return np.float32(60 * np.random.RandomState(0).standard_normal((1, 3, size, size))).transpose(0, 2, 3, 1)


def features(name, size):
    """Return the features of a net on the image: [F]."""
    net = models.backbone(name)
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(net.apply)(variables(net, size), image(size)))[0]
