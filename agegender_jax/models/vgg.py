"""VGG-16 (Simonyan and Zisserman 2015, arXiv 1409.1556, table 1, column D), which [17] and [18] of arXiv 2010.03791
fine-tune for age and gender, and of which VGG-Face (Parkhi et al. 2015) is a set of weights.

| block | convolutions 3x3, each with ReLU | map at 224 px, pooled 2x2/2 |
|-------|----------------------------------|-----------------------------|
| 1     | 64, 64                           | 112                         |
| 2     | 128, 128                         | 56                          |
| 3     | 256, 256, 256                    | 28                          |
| 4     | 512, 512, 512                    | 14                          |
| 5     | 512, 512, 512                    | 7                           |

Then fc6 and fc7 of 4096 units, each with ReLU and dropout 0.5. Odd maps are pooled in ceil mode, as in Caffe: at 200
pixels 25, 13, 7, where PyTorch's floor mode has 25, 12, 6. At 224 the two agree. The published nets start from ImageNet
weights; from scratch, this one starts from the initialisation of He et al. 2015 with biases of 0. fc6 reads its map in
the order H, W, C, and its size depends on the image size.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from agegender_jax.models import caffe_layers, initializers, layers, pooling
from agegender_jax.models.backbone_base import Backbone

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
FULL = (4096, 4096)
DROPOUT = 0.5


class VGG(Backbone):
    """images float32 [B, H, W, 3], H, W >= 32 -> features float32 [B, F], fc7; F = 4096 at width 1.

    In training it needs a key named "dropout".

    Attributes:
      width: channel multiplier.
      dtype: dtype of the layers; parameters and features stay float32.
    """

    width: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        x, init = images.astype(self.dtype), initializers.scaled_normal("in")
        for b, block in enumerate(BLOCKS, 1):
            for n, units in enumerate(block, 1):
                units = layers.scaled(units, self.width)
                x = nn.relu(layers.conv(units, 3, init=init, dtype=self.dtype, name=f"conv{b}_{n}", bias=0.0)(x))
            x = pooling.caffe_max_pool(x, window=2)
        full = [layers.scaled(count, self.width) for count in FULL]
        options = {"dropout": DROPOUT, "dtype": self.dtype, "train": train}
        x = caffe_layers.dense_stack(x, full, first=6, init=init, bias=0.0, **options)
        return x.astype(jnp.float32)
