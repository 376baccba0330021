"""Residual Attention Network (Wang et al. 2017, arXiv 1704.06904), as in the authors' Caffe prototxts.

H = (1 + M(u)) * T(u): the soft mask M in (0, 1) weighs the trunk T, and the identity keeps what it would drop.

| block (224 px)     | map | channels | Attention-56 | Attention-92 |
|--------------------|-----|----------|--------------|--------------|
| 7x7/2, max pool    | 56  | 64       | 1            | 1            |
| unit, attention    | 56  | 256      | 1, 1         | 1, 1         |
| unit/2, attention  | 28  | 512      | 1, 1         | 1, 2         |
| unit/2, attention  | 14  | 1024     | 1, 1         | 1, 3         |
| units/2, BN, ReLU  | 7   | 2048     | 3            | 3            |

Submodule names are the checkpoint format.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from agegender_jax.models import layers

INIT = nn.initializers.variance_scaling(2.0, "fan_in", "normal")  # MSRA, section 4.1 of arXiv 1704.06904
STAGE_CHANNELS = (256, 512, 1024)
MASK_DEPTHS = (3, 2, 1)  # poolings in the mask; the bottom has the size of the net's last map
FINAL_CHANNELS, FINAL_UNITS = 2048, 3


class PreActUnit(nn.Module):
    """x + conv1x1(conv3x3(conv1x1(x))), each convolution after BN and ReLU (He et al. 2016, arXiv 1603.05027).

    Attributes:
      features: channels out; a quarter of them inside.
      stride: of the 3x3 convolution. A projection of the pre-activated input replaces the identity where
        shapes differ.
    """

    features: int
    width: float = 1.0
    stride: int = 1
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

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
        return x + y


class SoftMask(nn.Module):
    """Bottom-up, top-down branch: u [B, H, W, C] -> M [B, H, W, C] in (0, 1).

    `depth` poolings with a unit after each (two at the bottom), then as many resizes back, a skip unit added
    before each but the last, and BN, ReLU, 1x1 twice before the sigmoid.
    """

    features: int
    depth: int
    width: float = 1.0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, u, *, train: bool):
        def unit(x, name):
            return PreActUnit(self.features, self.width, 1, self.dtype, self.axis_name, name=name)(x, train=train)

        shapes, skips, x = [], [], u
        for level in range(1, self.depth + 1):
            shapes.append(x.shape[1:3])
            x = unit(layers.caffe_max_pool(x), f"down{level}_1")
            if level < self.depth:
                skips.append(unit(x, f"skip{level}"))
        x = unit(x, f"down{self.depth}_2")
        for level in range(self.depth - 1, 0, -1):
            x = layers.resize_align_corners(x, shapes[level]) + skips[level - 1]
            x = unit(x, f"up{level}_1")
        x = layers.resize_align_corners(x, shapes[0])

        norm = layers.norm(train, self.dtype, self.axis_name)
        features = layers.scaled(self.features, self.width)
        for i in (1, 2):
            x = nn.relu(norm(name=f"bn{i}")(x))
            x = layers.conv(features, init=INIT, dtype=self.dtype, name=f"conv{i}")(x)
        return nn.sigmoid(x.astype(jnp.float32))


class AttentionModule(nn.Module):
    """post(H), H = (1 + M(u)) * T(u), u = pre(x); p = 1 unit before and after, t = 2 in the trunk, r = 1."""

    features: int
    depth: int
    width: float = 1.0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, *, train: bool):
        def unit(x, name):
            return PreActUnit(self.features, self.width, 1, self.dtype, self.axis_name, name=name)(x, train=train)

        u = unit(x, "pre1")
        trunk = unit(unit(u, "trunk1"), "trunk2")
        mask = SoftMask(self.features, self.depth, self.width, self.dtype, self.axis_name, name="mask")(u, train=train)
        return unit((1 + mask.astype(trunk.dtype)) * trunk, "post1"), mask


class ResidualAttentionNet(nn.Module):
    """images float32 [B, H, W, 3], H = W >= 32 -> features float32 [B, F]; F = 2048 at width 1.

    Attributes:
      modules: attention modules in each stage: (1, 1, 1) is Attention-56, (1, 2, 3) is Attention-92.
      width: channel multiplier.
      stem: "imagenet" (7x7/2 and pooling) or "small" (3x3/1, none; for small faces, 16 times the work).
      dtype: of the convolutions; parameters, statistics, masks and features stay float32.
      axis_name: the mapped axis over which BatchNorm is synchronised, or None.
    """

    modules: tuple[int, ...]
    width: float = 1.0
    stem: str = "imagenet"
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    def __call__(self, images, *, train: bool = False):
        return self.attend(images, train=train)[0]

    @nn.compact
    def attend(self, images, *, train: bool) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """Features [B, F] and one soft mask [B, h, w, C] for each attention module."""
        layers.check_images(images)
        unit = {"width": self.width, "dtype": self.dtype, "axis_name": self.axis_name}
        norm = layers.norm(train, self.dtype, self.axis_name)
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = layers.conv(layers.scaled(64, self.width), kernel, stride, init=INIT, dtype=self.dtype, name="stem_conv")(
            images.astype(self.dtype)
        )
        x = nn.relu(norm(name="stem_bn")(x))
        if self.stem == "imagenet":
            x = layers.caffe_max_pool(x)
        masks = []
        for i, (features, depth, count) in enumerate(zip(STAGE_CHANNELS, MASK_DEPTHS, self.modules, strict=True), 1):
            x = PreActUnit(features, stride=1 if i == 1 else 2, name=f"stage{i}_res", **unit)(x, train=train)
            for k in range(1, count + 1):
                x, mask = AttentionModule(features, depth, name=f"stage{i}_att{k}", **unit)(x, train=train)
                masks.append(mask)
        for j in range(1, FINAL_UNITS + 1):
            x = PreActUnit(FINAL_CHANNELS, stride=2 if j == 1 else 1, name=f"final_res{j}", **unit)(x, train=train)
        x = nn.relu(norm(name="final_bn")(x))
        return x.astype(jnp.float32).mean((1, 2)), tuple(masks)
