"""The residual unit of Residual Attention Networks."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from agegender_jax.models import initializers, layers

INIT = initializers.scaled_normal("in")  # MSRA, section 4.1 of arXiv 1704.06904


class PreActUnit(nn.Module):
    """x + conv1x1(conv3x3(conv1x1(x))), each convolution after BN and ReLU (He et al. 2016, arXiv 1603.05027).

    Attributes:
      features: channels out; a quarter of them inside.
      stride: of the 3x3 convolution. A projection of the pre-activated input replaces the identity where
        shapes differ.
      drop: rate of stochastic depth.
    """

    features: int
    width: float = 1.0
    stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None
    drop: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool):
        norm = layers.norm(train, self.dtype, self.axis_name)
        inner, outer = layers.scaled(self.features // 4, self.width), layers.scaled(self.features, self.width)
        h = nn.relu(norm(name="bn1")(x))
        y = layers.conv(inner, init=INIT, dtype=self.dtype, name="conv1")(h)
        y = nn.relu(norm(name="bn2")(y))
        y = layers.conv(inner, 3, self.stride, init=INIT, dtype=self.dtype, name="conv2")(y)
        y = nn.relu(norm(name="bn3")(y))
        y = layers.conv(outer, init=INIT, dtype=self.dtype, name="conv3")(y)
        if x.shape[-1] != outer or self.stride != 1:
            x = layers.conv(outer, 1, self.stride, init=INIT, dtype=self.dtype, name="proj")(h)
        return x + layers.drop_branch(y, self.drop, train)
