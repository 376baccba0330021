"""Soft masks of the attention modules, resized to the image."""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from agegender_jax import data
from agegender_jax.explain import target_logit
from agegender_jax.models.resizing import resize_align_corners

STRONGEST = 4


@flax.struct.dataclass
class AttentionMaps:
    """The soft mask of one module over the image.

    Attributes:
      name: name of the module, such as "stage1_att1".
      size: (h, w) of the mask before it was resized.
      mean: float32 [B, H, W], the mean over all channels.
      channels: float32 [B, K, H, W], the strongest channels, strongest first.
      indices: int32 [B, K], which channels these are.
    """

    name: str = flax.struct.field(pytree_node=False)
    size: tuple[int, int] = flax.struct.field(pytree_node=False)
    mean: jax.Array
    channels: jax.Array
    indices: jax.Array


def attention(
    net: nn.Module,
    variables: Any,
    images: jax.Array,
    strongest: int = STRONGEST,
    shape: tuple[int, int] | None = None,
) -> tuple[AttentionMaps, ...]:
    """Return the soft mask of every attention module in the order of the net; () for a net without attention.

    A mask of h x w positions is resized linearly with corners aligned: pixel (i, j) of H x W lies at
    (i (h - 1) / (H - 1), j (w - 1) / (W - 1)) of the mask. The net uses the same function for its masks.

    The strongest channels have the largest product of mean and standard deviation over the positions: a channel that
    is open everywhere has a large weight but no structure, one that is nearly closed has structure but no weight.
    Masks are in (0, 1), those of channel attention in [-1, 1].

    Args:
      images: uint8 RGB [B, H, W, 3].
      strongest: K, at most the channels of the narrowest mask.
      shape: (H, W) of the maps; the shape of the images if None.

    Raises:
      ValueError: as `attribute`, except that controls are accepted.
    """
    target_logit.check_images(net, images)
    if not hasattr(net, "backbone"):
        return ()
    return _attention(net, strongest, shape or images.shape[1:3], variables, images)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _attention(net, strongest, shape, variables, images):
    masks = net.apply(variables, images, method=lambda net, x: net.backbone.attend(data.normalize(x), train=False)[1])
    if not masks:
        return ()
    modules = getattr(net.backbone, "modules", None)
    names = ["grid"]  # of patches
    if modules:
        names = [f"stage{i}_att{k}" for i, count in enumerate(modules, 1) for k in range(1, count + 1)]
    return tuple(_maps(name, mask, strongest, shape) for name, mask in zip(names, masks, strict=True))


def _maps(name, mask, strongest, shape):
    strength = mask.mean((1, 2)) * mask.std((1, 2))
    indices = jax.lax.top_k(strength, min(strongest, strength.shape[-1]))[1]
    channels = resize_align_corners(jnp.take_along_axis(mask, indices[:, None, None], -1), shape)
    mean = resize_align_corners(mask.mean(-1, keepdims=True), shape)
    return AttentionMaps(name, mask.shape[1:3], mean[..., 0], jnp.moveaxis(channels, -1, 1), indices)
