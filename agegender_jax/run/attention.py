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
    shown = {}
    for name, mask in zip(modules(variables), masks(model, variables, images), strict=True):
        height, width = mask.shape[1:]
        number = name.removeprefix("stage").replace("_att", ".")
        shown[f"module {number}, mask of {height} x {width}"] = np.asarray(upsampled(mask, SIDE))
    return report.png(report.attention([resize(picture, SIDE) for picture in pictures], shown, labels))


def modules(variables) -> list[str]:
    """Names of the attention modules in the order of `Outputs.attention`: "stage1_att1", ..."""
    return sorted(name for name in variables["params"]["backbone"] if "_att" in name)


@functools.partial(jax.jit, static_argnums=0)
def masks(model: nn.Module, variables, images: jax.Array) -> tuple[jax.Array, ...]:
    """Mean over channels of each module's soft mask, float32 [B, h, w].

    Args:
      images: uint8 RGB [B, H, W, 3], as the net sees them.
    """

    def attend(net, normalized):
        return net.backbone.attend(normalized, train=False)[1]

    found = model.apply(variables, data.normalize(images), method=attend)
    return tuple(mask.mean(-1) for mask in found)


def upsampled(mask: jax.Array, side: int) -> jax.Array:
    """[B, h, w] -> [B, side, side] by the net's own resize: linear, the corners' values at the corners."""
    return resize_align_corners(mask[..., None], (side, side))[..., 0]
