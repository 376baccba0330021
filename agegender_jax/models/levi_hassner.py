"""The five-layer CNN of Levi and Hassner 2015 (CVPR Workshops, "Age and Gender Classification Using Convolutional
Neural Networks"), as in the authors' Caffe prototxts; Fig. 2 of arXiv 2010.03791.

| layer (227 px)                         | map | units | initial std of weights, bias          |
|----------------------------------------|-----|-------|---------------------------------------|
| conv1 7x7/4, ReLU, 3x3/2 max, LRN      | 28  | 96    | 0.01, 0                               |
| conv2 5x5, ReLU, 3x3/2 max, LRN        | 14  | 256   | 0.01, 1                               |
| conv3 3x3, ReLU, 3x3/2 max             | 7   | 384   | 0.01, 0                               |
| fc6, ReLU, dropout 0.5                 |     | 512   | 0.005, 1                              |
| fc7, ReLU, dropout 0.5                 |     | 512   | 0.005, 1                              |

The authors train two nets with one head each (fc8: 2 genders or 8 age groups), which is
`models.classifier("levi_hassner", num_classes=2)` or `8`; here both heads share the layers below. The authors use BGR
pixels in 0..255 minus a mean image, and their initial weights suit that range. This library's nets receive
`data.normalize`d RGB, which this net multiplies by PIXEL_SCALE, giving RGB in 0..255 minus a mean colour. Submodule
names are part of the checkpoint format; fc6 reads its map in the order H, W, C (Caffe: C, H, W), and its size depends
on the image size.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax.image_constants import IMAGENET_STD
from agegender_jax.models import initializers, layers, pooling
from agegender_jax.models.backbone_base import Backbone

CONVOLUTIONS = (
    # units, kernel, stride, padding, bias, local response normalisation
    (96, 7, 4, 0, 0.0, True),
    (256, 5, 1, 2, 1.0, True),
    (384, 3, 1, 1, 0.0, False),
)
FULL = (512, 512)
DROPOUT = 0.5
PIXEL_SCALE = tuple(255 * deviation for deviation in IMAGENET_STD)  # undoes the divisions of data.normalize


class LeviHassner(Backbone):
    """images float32 [B, H, W, 3], H, W >= 32 -> features float32 [B, F], fc7; F = 512 at width 1.

    In training it needs a key named "dropout".

    Attributes:
      width: channel multiplier.
      dtype: dtype of the layers; parameters and features stay float32.
    """

    width: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        x, init = (images * np.array([[[PIXEL_SCALE]]], np.float32)).astype(self.dtype), initializers.normal(0.01)
        for n, (units, kernel, stride, pad, bias, normalised) in enumerate(CONVOLUTIONS, 1):
            units = layers.scaled(units, self.width)
            x = layers.conv(units, kernel, stride, init=init, dtype=self.dtype, name=f"conv{n}", pad=pad, bias=bias)(x)
            x = pooling.caffe_max_pool(nn.relu(x))
            x = layers.local_response_norm(x) if normalised else x
        x, init = x.reshape(x.shape[0], -1), initializers.normal(0.005)
        for n, units in enumerate(FULL, len(CONVOLUTIONS) + 3):
            units = layers.scaled(units, self.width)
            x = nn.relu(
                nn.Dense(units, dtype=self.dtype, kernel_init=init, bias_init=nn.initializers.ones, name=f"fc{n}")(x)
            )
            x = nn.Dropout(DROPOUT, deterministic=not train)(x)
        return x.astype(jnp.float32)
