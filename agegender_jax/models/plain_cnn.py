"""A plain CNN in place of [27] of arXiv 2010.03791 (Nair et al. 2019), of which only a gender accuracy is known.

Four blocks of 3x3 convolution, BatchNorm, ReLU and 2x2 max pooling, with 32, 64, 128 and 256 units; mean over the map;
dropout 0.5. Nothing is taken from that paper.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from agegender_jax.models import initializers, layers, pooling
from agegender_jax.models.backbone_base import Backbone

UNITS = (32, 64, 128, 256)
DROPOUT = 0.5


class PlainCNN(Backbone):
    """images float32 [B, H, W, 3], H, W >= 32 -> features float32 [B, F]; F = 256 at width 1.

    In training it needs a key named "dropout".

    Attributes:
      width: channel multiplier.
      dtype: of the convolutions.
      axis_name: mapped axis over which BatchNorm is synchronised in training.
    """

    width: float = 1.0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        norm = layers.norm(train, self.dtype, self.axis_name)
        x, init = images.astype(self.dtype), initializers.scaled_normal("in")
        for n, units in enumerate(UNITS, 1):
            x = layers.conv(layers.scaled(units, self.width), 3, init=init, dtype=self.dtype, name=f"conv{n}")(x)
            x = pooling.caffe_max_pool(nn.relu(norm(name=f"bn{n}")(x)), window=2)
        features = x.mean((1, 2), dtype=jnp.float32)
        return nn.Dropout(DROPOUT, deterministic=not train)(features)
