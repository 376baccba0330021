"""Feed-forward attention over patches, after Rodriguez et al. 2017 ("Age and gender recognition in the wild with deep
attention", [19] of arXiv 2010.03791).

Known: from a face at low resolution the net predicts, end to end and without reinforcement learning, where to look; a
second CNN sees patches of the full resolution. Unknown: sizes, and whether few patches or all are seen. Chosen here:

    L = image averaged down by `low`;  A = where(L);  f0 = ReLU(Dense(A))
    g = softmax over the k x k cells of a 1x1 convolution of A, averaged to k x k
    P_1 .. P_kk: patches of side `patch` on a regular k x k grid of the image, edges repeated
    f = ReLU(Dense(f0, sum_i g_i mean(what(P_i))))

Both CNNs are small: 3x3 convolution, ReLU and 2x2 max pooling, with WHERE and WHAT units. The paper's are said to be
two VGG-16; trunk "vgg16" has the convolutions of those, and dense layers of 4096 units.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax.models import initializers, layers, pooling
from agegender_jax.models.backbone_base import Backbone, Masks
from agegender_jax.models.edges import repeat_edges
from agegender_jax.models.vgg import BLOCKS

WHERE = (16, 32, 64, 64)
WHAT = (16, 32, 64)
TRUNKS = {  # units of the convolutions before each pooling, of where and of what, and of the dense layers
    "small": ([(units,) for units in WHERE], [(units,) for units in WHAT], 128),
    "vgg16": (BLOCKS, BLOCKS, 4096),
}
PATCHES = ("attended", "uniform", "none")


class DeepAttention(Backbone):
    """images float32 [B, H, W, 3], H, W >= 32 -> features float32 [B, F]; F = 128 at width 1, 4096 of trunk "vgg16".

    Attributes:
      grid: k, cells a side.
      patch: side of a patch in pixels.
      low: factor by which the image is reduced for the net that decides where to look.
      patches: "attended" as above; controls: "uniform", all g equal, and "none", f = f0.
      top: at inference, use only the patches with the `top` largest g, rescaled to sum to 1; if negative, those with
        the smallest; 0 for all.
      trunk: one of TRUNKS.
      width: channel multiplier.
      dtype: of the layers; parameters, the grid and features stay float32.
    """

    grid: int = 3
    patch: int = 40
    low: int = 2
    patches: str = "attended"
    top: int = 0
    trunk: str = "small"
    width: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def attend(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, Masks]:
        """Return features [B, F] and the grid g [B, k, k, 1], or () if no patches are used."""
        layers.check_images(images)
        where_units, what_units, _ = TRUNKS[self.trunk]
        k, small = self.grid, images if self.low == 1 else pooling.average_pool(images, self.low, self.low)
        maps = self._trunk(small, where_units, "where")
        where = self._dense(maps.reshape(maps.shape[0], -1), "where_fc")
        if self.patches == "none":
            return where.astype(jnp.float32), ()
        if self.patches == "attended":
            conv = layers.conv(1, init=initializers.scaled_normal("in"), dtype=self.dtype, name="where_grid", bias=0.0)
            scores = adaptive_mean(conv(maps).astype(jnp.float32)[..., 0], k)
            g = nn.softmax(scores.reshape(-1, k * k))
        else:
            g = jnp.full((images.shape[0], k * k), 1 / k**2, jnp.float32)
        if self.top and not train:
            g = largest(g, self.top)
        pixels = cut(images, k, self.patch)  # [B, k k, p, p, 3]
        what = self._trunk(pixels.reshape(-1, *pixels.shape[2:]), what_units, "what").mean((1, 2), dtype=jnp.float32)
        what = (g[:, :, None] * what.reshape(*pixels.shape[:2], -1)).sum(1)
        features = self._dense(jnp.concatenate([where.astype(jnp.float32), what], -1), "join_fc")
        return features.astype(jnp.float32), (g.reshape(-1, k, k, 1),)

    def _trunk(self, x, blocks: Sequence[Sequence[int]], name: str):
        x = x.astype(self.dtype)
        for b, block in enumerate(blocks, 1):
            for n, count in enumerate(block, 1):
                init, count = initializers.scaled_normal("in"), layers.scaled(count, self.width)
                own = f"{name}{b}_{n}" if len(block) > 1 else f"{name}{b}"
                x = nn.relu(layers.conv(count, 3, init=init, dtype=self.dtype, name=own, bias=0.0)(x))
            x = pooling.caffe_max_pool(x, window=2)
        return x

    def _dense(self, x, name: str):
        units, init = layers.scaled(TRUNKS[self.trunk][2], self.width), initializers.scaled_normal("in")
        return nn.relu(nn.Dense(units, dtype=self.dtype, kernel_init=init, name=name)(x))


def largest(g: jax.Array, count: int) -> jax.Array:
    """Return [B, K] with all but the `count` largest of each row 0, or but the smallest if negative; rows sum to 1."""
    rank = jnp.argsort(jnp.argsort(-g, -1), -1)
    chosen = jnp.where(rank < count if count > 0 else rank >= g.shape[-1] + count, g, 0)
    return chosen / jnp.maximum(chosen.sum(-1, keepdims=True), jnp.finfo(g.dtype).tiny)


def cut(images: jax.Array, grid: int, side: int) -> jax.Array:
    """Return the patches of a regular grid, edges repeated: [B, H, W, 3] -> [B, grid * grid, side, side, 3]."""
    starts = [[round((i + 0.5) * n / grid - side / 2) for i in range(grid)] for n in images.shape[1:3]]
    pads = [
        (max(0, -min(line)), max(0, max(line) + side - n)) for line, n in zip(starts, images.shape[1:3], strict=True)
    ]
    padded = repeat_edges(images, pads)
    rows, columns = ([start + pad[0] for start in line] for line, pad in zip(starts, pads, strict=True))
    return jnp.stack([padded[:, y : y + side, x : x + side] for y in rows for x in columns], 1)


def adaptive_mean(x: jax.Array, size: int) -> jax.Array:
    """Return the means of size x size cells of the maps: [B, h, w] -> [B, size, size], as PyTorch's pooling."""

    def weights(n: int) -> np.ndarray:
        cells = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
        return np.array([[(a <= j < b) / (b - a) for j in range(n)] for a, b in cells], np.float32)

    return jnp.einsum("bhw,ih,jw->bij", x, weights(x.shape[1]), weights(x.shape[2]), precision="highest")
