"""CaffeNet, the AlexNet-like net of BVLC's reference model (models/bvlc_reference_caffenet), as Ozbulak et al. 2016
([17] of arXiv 2010.03791) and Lapuschkin et al. 2017 ([18]) train it for age and gender.

| layer (227 px)                            | map | units | std of weights, bias in the prototxt     |
|-------------------------------------------|-----|-------|------------------------------------------|
| conv1 11x11/4, ReLU, 3x3/2 max, LRN       | 27  | 96    | 0.01, 0                                  |
| conv2 5x5, 2 groups, ReLU, 3x3/2 max, LRN | 13  | 256   | 0.01, 1                                  |
| conv3 3x3, ReLU                           | 13  | 384   | 0.01, 0                                  |
| conv4 3x3, 2 groups, ReLU                 | 13  | 384   | 0.01, 1                                  |
| conv5 3x3, 2 groups, ReLU, 3x3/2 max      | 6   | 256   | 0.01, 1                                  |
| fc6, ReLU, dropout 0.5                    |     | 4096  | 0.005, 1                                 |
| fc7, ReLU, dropout 0.5                    |     | 4096  | 0.005, 1                                 |

It differs from AlexNet in that it pools before the normalisation. torchvision's AlexNet is a different net: 64 to 256
units, no groups, no normalisation. fc6 reads its map in the order H, W, C, and its size depends on the image size.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from agegender_jax.models import caffe_layers, layers, pooling
from agegender_jax.models.backbone_base import Backbone

CONVOLUTIONS = (
    # units, kernel, stride, padding, groups, bias, pooled, local response normalisation
    (96, 11, 4, 0, 1, 0.0, True, True),
    (256, 5, 1, 2, 2, 1.0, True, True),
    (384, 3, 1, 1, 1, 0.0, False, False),
    (384, 3, 1, 1, 2, 1.0, False, False),
    (256, 3, 1, 1, 2, 1.0, True, False),
)
FULL = (4096, 4096)
DROPOUT = 0.5


class CaffeNet(Backbone):
    """images float32 [B, H, W, 3], H, W >= 32 -> features float32 [B, F], fc7; F = 4096 at width 1.

    In training it needs a key named "dropout".

    Attributes:
      width: channel multiplier.
      initial: "paper" for the values above, with conv1 rescaled to this library's inputs; otherwise He et al. 2015 and
        biases of 0, which learn from the first epoch, whereas the paper's values start on a plateau.
      dtype: dtype of the layers; parameters and features stay float32.
    """

    width: float = 1.0
    initial: str = "he"
    dtype: Any = jnp.float32

    @nn.compact
    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = images.astype(self.dtype)
        paper = self.initial == "paper"
        for n, (units, kernel, stride, pad, groups, bias, pooled, normalised) in enumerate(CONVOLUTIONS, 1):
            x = layers.conv(
                layers.scaled(units, self.width),
                kernel,
                stride,
                init=caffe_layers.normal(self.initial, 0.01, first=n == 1),
                dtype=self.dtype,
                name=f"conv{n}",
                pad=pad,
                bias=bias * paper,
                groups=groups,
            )(x)
            x = nn.relu(x)
            x = pooling.caffe_max_pool(x) if pooled else x
            x = layers.local_response_norm(x) if normalised else x
        full = [layers.scaled(count, self.width) for count in FULL]
        init = caffe_layers.normal(self.initial, 0.005)
        options = {"dropout": DROPOUT, "dtype": self.dtype, "train": train}
        x = caffe_layers.dense_stack(x, full, first=6, init=init, bias=float(paper), **options)
        return x.astype(jnp.float32)
