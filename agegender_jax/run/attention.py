"""The attention masks of a member over a few faces."""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import numpy as np

from agegender_jax import data, report
from agegender_jax.data.decoding import resize
from agegender_jax.models.layers import resize_align_corners

SIDE = 150  # pixels of a face in the figure
FACES = 7


def has_masks(model: nn.Module) -> bool:
    """Whether the net is of the kind that has attention modules."""
    return hasattr(model.backbone, "attention")


def draw(model: nn.Module, variables, pictures: Sequence[np.ndarray], labels: Sequence[str], image_size: int) -> bytes:
    """PNG of the pictures (uint8 RGB [H, W, 3], cropped as the net's input is) under the masks of each module."""
    images = np.stack([resize(picture, image_size) for picture in pictures])
    names = [f"module {name.removeprefix('stage').replace('_att', '.')}" for name in modules(variables)]
    found = dict(zip(names, map(np.asarray, masks(model, variables, images, SIDE)), strict=True))
    return report.png(report.attention([resize(picture, SIDE) for picture in pictures], found, labels))


def modules(variables) -> list[str]:
    """Names of the attention modules in the order of `Outputs.attention`: "stage1_att1", ..."""
    return sorted(name for name in variables["params"]["backbone"] if "_att" in name)


@functools.partial(jax.jit, static_argnums=(0, 3))
def masks(model: nn.Module, variables, images: jax.Array, side: int) -> tuple[jax.Array, ...]:
    """Mean over channels of each module's soft mask, float32 [B, side, side].

    Up-sampled by the net's own resize, linear with aligned corners: corner values stay at the corners, and between
    the values of the mask nothing is added that a straight line would not give.

    Args:
      images: uint8 RGB [B, H, W, 3], as the net sees them.
    """

    def attend(net, normalized):
        return net.backbone.attend(normalized, train=False)[1]

    found = model.apply(variables, data.normalize(images), method=attend)
    return tuple(resize_align_corners(mask.mean(-1, keepdims=True), (side, side))[..., 0] for mask in found)
