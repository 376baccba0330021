"""Residual Attention Network (Wang et al. 2017, arXiv 1704.06904), as in the authors' Caffe prototxts.

H = (1 + M(u)) * T(u): the soft mask M in (0, 1) weights the trunk T, and the identity term preserves what M would
suppress. M pools u 3, 2 or 1 times (stages 1 to 3), with a unit after each pooling and two at the bottom. Then it
resizes back; after each resize except the last, it adds a unit of the map at that level and passes another unit. BN,
ReLU and a 1x1 convolution follow, twice, and a sigmoid.

| block (224 px)     | map | channels | Attention-56 | Attention-92 |
|--------------------|-----|----------|--------------|--------------|
| 7x7/2, max pool    | 56  | 64       | 1            | 1            |
| unit, attention    | 56  | 256      | 1, 1         | 1, 1         |
| unit/2, attention  | 28  | 512      | 1, 1         | 1, 2         |
| unit/2, attention  | 14  | 1024     | 1, 1         | 1, 3         |
| units/2, BN, ReLU  | 7   | 2048     | 3            | 3            |

The CIFAR nets (section 4.1) have no published files; this follows from their depth 36 m + 20 and their sizes:

| block (32 px)            | map | channels | depth 36 m + 20 |
|--------------------------|-----|----------|-----------------|
| 3x3                      | 32  | 16       | 1               |
| unit, attention, unit    | 32  | 64       | 1, m, 1         |
| unit/2, attention, unit  | 16  | 128      | 1, m, 1         |
| unit/2, attention, unit  | 8   | 256      | 1, m, 1         |
| BN, ReLU                 | 8   | 256      | 1               |

Submodule names are part of the checkpoint format.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from agegender_jax.models import layers, pooling
from agegender_jax.models.attention import AttentionModule
from agegender_jax.models.backbone_base import Backbone, Masks
from agegender_jax.models.preact_unit import INIT, PreActUnit


class ResidualAttentionNet(Backbone):
    """images float32 [B, H, W, 3], H, W >= 32 -> features float32 [B, F]; F is the last channels times the width.

    Attributes:
      modules: attention modules in each stage: (1, 1, 1) is Attention-56, (1, 2, 3) is Attention-92.
      channels: of each stage.
      depths: poolings in each stage's masks. (3, 2, 1) brings all masks down to about the size of Attention-56's
        last map.
      extra_units: units after the modules of a stage.
      final_channels, final_units: of the last stage, which is absent if there are no units.
      stem_channels: of the first convolution.
      stem: "imagenet" (7x7/2 and pooling) or "small" (3x3/1 without pooling, for small faces; 16 times the work).
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
            x = pooling.caffe_max_pool(x)
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
