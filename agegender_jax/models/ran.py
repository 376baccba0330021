"""Residual Attention Network (Wang et al. 2017, arXiv 1704.06904), as in the authors' Caffe prototxts.

H = (1 + M(u)) * T(u): the soft mask M in (0, 1) weighs the trunk T, and the identity keeps what it would drop.
M pools u 3, 2 or 1 times (stages 1 to 3), a unit after each pooling and two at the bottom; then resizes back, adds a
unit of that level's map and passes a unit, but neither at the last resize; then BN, ReLU, 1x1, twice, and a sigmoid.

| block (224 px)     | map | channels | Attention-56 | Attention-92 |
|--------------------|-----|----------|--------------|--------------|
| 7x7/2, max pool    | 56  | 64       | 1            | 1            |
| unit, attention    | 56  | 256      | 1, 1         | 1, 1         |
| unit/2, attention  | 28  | 512      | 1, 1         | 1, 2         |
| unit/2, attention  | 14  | 1024     | 1, 1         | 1, 3         |
| units/2, BN, ReLU  | 7   | 2048     | 3            | 3            |

The CIFAR nets (section 4.1) have no published files; this is what their depth 36 m + 20 and their sizes leave:

| block (32 px)            | map | channels | depth 36 m + 20 |
|--------------------------|-----|----------|-----------------|
| 3x3                      | 32  | 16       | 1               |
| unit, attention, unit    | 32  | 64       | 1, m, 1         |
| unit/2, attention, unit  | 16  | 128      | 1, m, 1         |
| unit/2, attention, unit  | 8   | 256      | 1, m, 1         |
| BN, ReLU                 | 8   | 256      | 1               |

Submodule names are the checkpoint format.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from agegender_jax.models import initializers, layers
from agegender_jax.models.attention import ATTENTION, LEARNING
from agegender_jax.models.backbones import Backbone, Masks

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
            x = units(layers.caffe_max_pool(x), f"down{level}", 2 * self.r if bottom else self.r)
            if not bottom:
                skips.append(unit(x, f"skip{level}"))
        for level in range(self.depth - 1, 0, -1):
            x = layers.resize_align_corners(x, shapes[level]) + skips[level - 1]
            x = units(x, f"up{level}", self.r)
        x = layers.resize_align_corners(x, shapes[0]) if self.depth else units(x, "down0", 2 * self.r)

        norm = layers.norm(train, self.dtype, self.axis_name)
        features = layers.scaled(self.features, self.width)
        for i in (1, 2):
            x = nn.relu(norm(name=f"bn{i}")(x))
            x = layers.conv(features, init=INIT, dtype=self.dtype, name=f"conv{i}")(x)
        return ATTENTION[self.attention](x.astype(jnp.float32))


class AttentionModule(nn.Module):
    """post(H), H = (1 + M(u)) * T(u), u = pre(x); p units before and after, t in the trunk, r in the mask.

    Attributes:
      attention: "mixed", "channel" or "spatial": the mask's activation.
      learning: "residual", "naive" for H = M(u) * T(u), or "none" for H = T(u): then there is no mask branch, and
        None in place of the mask.
      drop: rate of stochastic depth of all units but those of the mask.
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


class ResidualAttentionNet(Backbone):
    """images float32 [B, H, W, 3], H, W >= 32 -> features float32 [B, F]; F is the last channels times the width.

    Attributes:
      modules: attention modules in each stage: (1, 1, 1) is Attention-56, (1, 2, 3) is Attention-92.
      channels: of each stage.
      depths: poolings in each stage's masks. (3, 2, 1) brings all masks down to about the size of Attention-56's
        last map.
      extra_units: units after the modules of a stage.
      final_channels, final_units: of the last stage; no units, no stage.
      stem_channels: of the first convolution.
      stem: "imagenet" (7x7/2 and pooling) or "small" (3x3/1, none; for small faces, 16 times the work).
      p, t, r: units before and after, in the trunk and in the mask of each module.
      attention: "mixed", "channel" or "spatial"; learning: "residual", "naive" or "none", see AttentionModule.
      width: channel multiplier.
      dtype: of the convolutions; parameters, statistics, masks and features stay float32.
      axis_name: the mapped axis over which BatchNorm is synchronised, or None.
      stochastic_depth: rate of the last unit, see `layers.drop_rates`; an attention module counts as one unit.
    """

    modules: tuple[int, ...]
    channels: tuple[int, ...] = (256, 512, 1024)
    depths: tuple[int, ...] = (3, 2, 1)
    extra_units: int = 0
    final_channels: int = 2048
    final_units: int = 3
    stem_channels: int = 64
    stem: str = "imagenet"
    p: int = 1
    t: int = 2
    r: int = 1
    attention: str = "mixed"
    learning: str = "residual"
    width: float = 1.0
    dtype: Any = jnp.float32
    axis_name: str | None = None
    stochastic_depth: float = 0.0

    @nn.compact
    def attend(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, Masks]:
        """Return features [B, F] and a soft mask [B, h, w, C] of each attention module; () if learning is "none"."""
        layers.check_images(images)
        shared: dict[str, Any] = {"width": self.width, "dtype": self.dtype, "axis_name": self.axis_name}
        kinds: dict[str, Any] = {
            "p": self.p,
            "t": self.t,
            "r": self.r,
            "attention": self.attention,
            "learning": self.learning,
        }
        norm = layers.norm(train, self.dtype, self.axis_name)
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        stem_channels = layers.scaled(self.stem_channels, self.width)
        x = layers.conv(stem_channels, kernel, stride, init=INIT, dtype=self.dtype, name="stem_conv")(
            images.astype(self.dtype)
        )
        x = nn.relu(norm(name="stem_bn")(x))
        if self.stem == "imagenet":
            x = layers.caffe_max_pool(x)
        count = sum(self.modules) + len(self.modules) * (1 + self.extra_units) + self.final_units
        rates = iter(layers.drop_rates(self.stochastic_depth, count))
        masks = []
        for i, (features, depth, count) in enumerate(zip(self.channels, self.depths, self.modules, strict=True), 1):
            unit = PreActUnit(features, stride=1 if i == 1 else 2, drop=next(rates), name=f"stage{i}_res", **shared)
            x = unit(x, train=train)
            for k in range(1, count + 1):
                module = AttentionModule(features, depth, drop=next(rates), name=f"stage{i}_att{k}", **kinds, **shared)
                x, mask = module(x, train=train)
                masks.append(mask)
            for j in range(1, self.extra_units + 1):
                x = PreActUnit(features, drop=next(rates), name=f"stage{i}_extra{j}", **shared)(x, train=train)
        for j in range(1, self.final_units + 1):
            stride = 2 if j == 1 else 1
            unit = PreActUnit(self.final_channels, stride=stride, drop=next(rates), name=f"final_res{j}", **shared)
            x = unit(x, train=train)
        x = nn.relu(norm(name="final_bn")(x))
        return x.astype(jnp.float32).mean((1, 2)), tuple(mask for mask in masks if mask is not None)
