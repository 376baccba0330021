"""ResNet-18, -34, -50 (He et al. 2016, arXiv 1512.03385), torchvision's layers and names.

| block            | map (224 px) | 18       | 34       | 50              |
|------------------|--------------|----------|----------|-----------------|
| 7x7/2, 3x3/2 max | 56           | 64       | 64       | 64              |
| layer1           | 56           | 2 x 64   | 3 x 64   | 3 x (64, 256)   |
| layer2, /2       | 28           | 2 x 128  | 4 x 128  | 4 x (128, 512)  |
| layer3, /2       | 14           | 2 x 256  | 6 x 256  | 6 x (256, 1024) |
| layer4, /2       | 7            | 2 x 512  | 3 x 512  | 3 x (512, 2048) |

Submodule names are part of the checkpoint format.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from agegender_jax.models import initializers, layers, pooling
from agegender_jax.models.backbone_base import Backbone

INIT = initializers.scaled_normal("out")  # torchvision's kaiming_normal, fan_out


class Block(nn.Module):
    """ReLU(x + F(x)); F is two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the channels out.

    Attributes:
      features: channels inside.
      bottleneck: three convolutions instead of two; the stride sits on the 3x3 one ("v1.5").
      drop: rate of stochastic depth.
    """

    features: int
    bottleneck: bool
    width: float = 1.0
    stride: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None
    drop: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool):
        norm = layers.norm(train, self.dtype, self.axis_name)
        inner = layers.scaled(self.features, self.width)
        if self.bottleneck:
            outer = layers.scaled(4 * self.features, self.width)
            plan: tuple[tuple[int, int, int], ...] = ((inner, 1, 1), (inner, 3, self.stride), (outer, 1, 1))
        else:
            outer = inner
            plan = ((inner, 3, self.stride), (outer, 3, 1))
        y = x
        for n, (features, kernel, stride) in enumerate(plan, 1):
            y = layers.conv(features, kernel, stride, init=INIT, dtype=self.dtype, name=f"conv{n}")(y)
            y = norm(name=f"bn{n}")(y)
            if n < len(plan):
                y = nn.relu(y)
        if self.stride != 1 or x.shape[-1] != outer:
            x = layers.conv(outer, 1, self.stride, init=INIT, dtype=self.dtype, name="downsample_conv")(x)
            x = norm(name="downsample_bn")(x)
        return nn.relu(x + layers.drop_branch(y, self.drop, train))


class ResNet(Backbone):
    """images float32 [B, H, W, 3], H, W >= 32 -> features float32 [B, F]; F = 512, or 2048 with bottlenecks.

    Attributes:
      blocks: blocks in each of the four layers.
      bottleneck: three-convolution blocks.
      width: channel multiplier.
      stem: "imagenet" (7x7/2 and pooling) or "small" (3x3/1 without pooling, for small faces; 16 times the work).
      dtype: of the convolutions; parameters, statistics and features stay float32.
      axis_name: the mapped axis over which BatchNorm is synchronised, or None.
      stochastic_depth: rate of the last block, see `layers.drop_rates`.
    """

    blocks: tuple[int, ...]
    bottleneck: bool
    width: float = 1.0
    stem: str = "imagenet"
    dtype: Any = jnp.float32
    axis_name: str | None = None
    stochastic_depth: float = 0.0

    @nn.compact
    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        norm = layers.norm(train, self.dtype, self.axis_name)
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = layers.conv(layers.scaled(64, self.width), kernel, stride, init=INIT, dtype=self.dtype, name="conv1")(
            images.astype(self.dtype)
        )
        x = nn.relu(norm(name="bn1")(x))
        if self.stem == "imagenet":
            x = pooling.max_pool(x, ((1, 1), (1, 1)))
        rates = iter(layers.drop_rates(self.stochastic_depth, sum(self.blocks)))
        for i, count in enumerate(self.blocks):
            for b in range(count):
                x = Block(
                    64 * 2**i,
                    self.bottleneck,
                    self.width,
                    stride=2 if i > 0 and b == 0 else 1,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    drop=next(rates),
                    name=f"layer{i + 1}_{b}",
                )(x, train=train)
        return x.astype(jnp.float32).mean((1, 2))
