"""GoogLeNet (Szegedy et al. 2015, arXiv 1409.4842, table 1) as in BVLC's models/bvlc_googlenet, without BatchNorm,
which Lapuschkin et al. 2017 ([18] of arXiv 2010.03791) train for age and gender. torchvision's GoogLeNet is a different
net, with BatchNorm and with 3x3 in place of 5x5.

| layer                            | map at 224 px | units                                                   |
|----------------------------------|---------------|---------------------------------------------------------|
| conv1 7x7/2, ReLU, pool, LRN     | 56            | 64                                                      |
| conv2_reduce 1x1, ReLU           | 56            | 64                                                      |
| conv2 3x3, ReLU, LRN, pool       | 28            | 192                                                     |
| inception_3a, 3b, pool           | 14            | 256, 480                                                |
| inception_4a, 4b, 4c, 4d, 4e, pool | 7           | 512, 512, 512, 528, 832                                 |
| inception_5a, 5b                 | 7             | 832, 1024                                               |
| mean over the map, dropout 0.4   |               | 1024                                                    |

Pooling is 3x3/2 max in Caffe's ceil mode. A module joins four branches in the order 1x1; 1x1 and 3x3; 1x1 and 5x5;
3x3/1 max and 1x1 (figure 2b); every convolution has a bias and a ReLU.

In training only, two auxiliary branches look at 4a and 4d: mean 5x5/3, 1x1 convolution, dense layer, dropout 0.7, and
heads of their own, whose loss has the weight AUXILIARY_WEIGHT.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from agegender_jax.models import caffe_layers, initializers, layers, pooling
from agegender_jax.models.backbone_base import Backbone

INCEPTION = {
    # 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
POOLED = ("3b", "4e")  # pooling follows
AUXILIARY = {"4a": "auxiliary1", "4d": "auxiliary2"}
AUXILIARY_UNITS = (128, 1024)
DROPOUT, AUXILIARY_DROPOUT = 0.4, 0.7
PAPER_BIAS = 0.2


def _init(initial: str, first: bool = False):
    """Return Caffe's Xavier filler, uniform within sqrt(3 / fan in), for "paper"; else that of He et al. 2015."""
    if initial == "paper":
        scale = caffe_layers.MEAN_PIXEL_SCALE**2 if first else 1.0
        return nn.initializers.variance_scaling(scale, "fan_in", "uniform")
    return initializers.scaled_normal("in")


class Inception(nn.Module):
    """x [B, H, W, C] -> [B, H, W, sum of the four branches' units].

    Attributes:
      units: of 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5 and pool_proj.
      initial, dtype: as in GoogLeNet.
    """

    units: tuple[int, ...]
    initial: str
    dtype: Any

    @nn.compact
    def __call__(self, x):
        one, reduce3, three, reduce5, five, proj = self.units

        def conv(x, units, kernel, name):
            bias = PAPER_BIAS * (self.initial == "paper")
            return nn.relu(
                layers.conv(units, kernel, init=_init(self.initial), dtype=self.dtype, name=name, bias=bias)(x)
            )

        return jnp.concatenate(
            [
                conv(x, one, 1, "conv1x1"),
                conv(conv(x, reduce3, 1, "conv3x3_reduce"), three, 3, "conv3x3"),
                conv(conv(x, reduce5, 1, "conv5x5_reduce"), five, 5, "conv5x5"),
                conv(pooling.max_pool(x, ((1, 1), (1, 1)), 3, 1), proj, 1, "pool_proj"),
            ],
            -1,
        )


class GoogLeNet(Backbone):
    """images float32 [B, H, W, 3], H, W >= 32 -> features float32 [B, F]; F = 1024 at width 1.

    In training it needs a key named "dropout".

    Attributes:
      width: channel multiplier.
      initial: "paper" for the initial weights of the prototxt and biases of 0.2, with conv1 rescaled to this library's
        inputs; otherwise He et al. 2015 and biases of 0.
      dtype: dtype of the layers; parameters and features stay float32.
    """

    width: float = 1.0
    initial: str = "he"
    dtype: Any = jnp.float32

    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        return self.branches(images, train=train, auxiliary=False)[0]

    @nn.compact
    def branches(self, images, *, train: bool, auxiliary: bool) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """Return features [B, F], and those of the auxiliary branches, each [B, G]; () unless `auxiliary`."""
        layers.check_images(images)

        def conv(x, units, kernel, stride=1, *, name, first=False):
            init, bias = _init(self.initial, first), PAPER_BIAS * (self.initial == "paper")
            units = layers.scaled(units, self.width)
            return nn.relu(layers.conv(units, kernel, stride, init=init, dtype=self.dtype, name=name, bias=bias)(x))

        x = conv(images.astype(self.dtype), 64, 7, 2, name="conv1", first=True)
        x = layers.local_response_norm(pooling.caffe_max_pool(x))
        x = conv(conv(x, 64, 1, name="conv2_reduce"), 192, 3, name="conv2")
        x = pooling.caffe_max_pool(layers.local_response_norm(x))
        auxiliary_features = []
        for name, full in INCEPTION.items():
            units = tuple(layers.scaled(count, self.width) for count in full)
            x = Inception(units, self.initial, self.dtype, name=f"inception_{name}")(x)
            if auxiliary and name in AUXILIARY:
                branch = conv(pooling.average_pool(x, 5, 3), AUXILIARY_UNITS[0], 1, name=f"{AUXILIARY[name]}_conv")
                auxiliary_features.append(self._auxiliary_dense(branch, AUXILIARY[name], train))
            x = pooling.caffe_max_pool(x) if name in POOLED else x
        features = x.mean((1, 2), dtype=jnp.float32)
        return nn.Dropout(DROPOUT, deterministic=not train)(features), tuple(auxiliary_features)

    def _auxiliary_dense(self, x, name: str, train: bool):
        units, bias = layers.scaled(AUXILIARY_UNITS[1], self.width), PAPER_BIAS * (self.initial == "paper")
        init = {"kernel_init": _init(self.initial), "bias_init": nn.initializers.constant(bias)}
        x = nn.relu(nn.Dense(units, dtype=self.dtype, name=f"{name}_fc", **init)(x.reshape(x.shape[0], -1)))
        return nn.Dropout(AUXILIARY_DROPOUT, deterministic=not train)(x.astype(jnp.float32))
