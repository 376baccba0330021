"""Attention modules: trunk, soft mask and its activations (Wang et al. 2017, arXiv 1704.06904, sections 3.1 and 3.3).

Submodule names are part of the checkpoint format.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from agegender_jax.models import layers, pooling, resizing
from agegender_jax.models.preact_unit import INIT, PreActUnit


def mixed(x):
    """Return the sigmoid of every channel and position (equation 4)."""
    return nn.sigmoid(x)


def channel(x):
    """Return the channels of every position divided by their norm (equation 5): in [-1, 1], not in (0, 1)."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


def spatial(x):
    """Return the sigmoid of the standardised map of every channel (equation 6).

    A constant map, such as a single pixel, gives 0.5. BatchNorm's epsilon is added to the variance; it is far above the
    rounding noise of constant maps.
    """
    centred = x - x.mean((1, 2), keepdims=True)
    return nn.sigmoid(centred * jax.lax.rsqrt(jnp.square(centred).mean((1, 2), keepdims=True) + 1e-5))


ATTENTION = {"mixed": mixed, "channel": channel, "spatial": spatial}
LEARNING: dict[str, Callable | None] = {
    "residual": lambda mask, trunk: (1 + mask) * trunk,  # equation 3
    "naive": lambda mask, trunk: mask * trunk,  # equation 1
    "none": None,  # H = T(u): no attention, no mask branch
}


class SoftMask(nn.Module):
    """Bottom-up, top-down branch: u [B, H, W, C] -> M [B, H, W, C], in (0, 1) for mixed and spatial attention.

    `depth` poolings with r units after each (2r at the bottom), then as many resizes back, each but the last with a
    skip unit added and r units after it, and BN, ReLU, 1x1 twice before the attention's activation. Without poolings,
    2r units at full size.
    """

    features: int
    depth: int
    r: int = 1
    attention: str = "mixed"
    width: float = 1.0
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, u, *, train: bool):
        def units(x, name, count):
            for n in range(1, count + 1):
                x = unit(x, f"{name}_{n}")
            return x

        def unit(x, name):
            return PreActUnit(self.features, self.width, 1, self.dtype, self.axis_name, name=name)(x, train=train)

        shapes, skips, x = [], [], u
        for level in range(1, self.depth + 1):
            shapes.append(x.shape[1:3])
            bottom = level == self.depth
            x = units(pooling.caffe_max_pool(x), f"down{level}", 2 * self.r if bottom else self.r)
            if not bottom:
                skips.append(unit(x, f"skip{level}"))
        for level in range(self.depth - 1, 0, -1):
            x = resizing.resize_align_corners(x, shapes[level]) + skips[level - 1]
            x = units(x, f"up{level}", self.r)
        x = resizing.resize_align_corners(x, shapes[0]) if self.depth else units(x, "down0", 2 * self.r)

        norm = layers.norm(train, self.dtype, self.axis_name)
        features = layers.scaled(self.features, self.width)
        for i in (1, 2):
            x = nn.relu(norm(name=f"bn{i}")(x))
            x = layers.conv(features, init=INIT, dtype=self.dtype, name=f"conv{i}")(x)
        return ATTENTION[self.attention](x.astype(jnp.float32))


class AttentionModule(nn.Module):
    """post(H), H = (1 + M(u)) * T(u), u = pre(x); p units before and after, t in the trunk, r in the mask.

    Attributes:
      attention: the activation of the mask, "mixed", "channel" or "spatial".
      learning: "residual" as above, "naive" for H = M(u) * T(u), or "none" for H = T(u), without a mask branch and with
        None in place of the mask.
      drop: rate of stochastic depth in all units except those of the mask.
    """

    features: int
    depth: int
    p: int = 1
    t: int = 2
    r: int = 1
    attention: str = "mixed"
    learning: str = "residual"
    width: float = 1.0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    drop: float = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool):
        shared: dict[str, Any] = {"width": self.width, "dtype": self.dtype, "axis_name": self.axis_name}

        def units(x, name, count):
            for n in range(1, count + 1):
                x = PreActUnit(self.features, drop=self.drop, name=f"{name}{n}", **shared)(x, train=train)
            return x

        u = units(x, "pre", self.p)
        trunk = units(u, "trunk", self.t)
        combine = LEARNING[self.learning]
        if combine is None:
            return units(trunk, "post", self.p), None
        mask = SoftMask(self.features, self.depth, self.r, self.attention, name="mask", **shared)(u, train=train)
        return units(combine(mask.astype(trunk.dtype), trunk), "post", self.p), mask
