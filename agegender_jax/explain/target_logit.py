"""The explained decision: the logit of one class of one head as a function of the normalised image."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax import models
from agegender_jax.models.deep_attention import DeepAttention
from agegender_jax.models.layers import check_images as check_format

HEADS = ("age", "gender")
PREDICTED = -1  # as a target: the predicted class


def check_images(net: nn.Module, images) -> None:
    """Raise ValueError unless the net has both heads and the images are uint8 RGB [B, H, W, 3]."""
    if not isinstance(net, (models.AgeGenderNet, models.ELMNet, *models.SYSTEMS.values())):
        raise ValueError(f"only nets from models.build can be explained, not a {type(net).__name__}")
    check_format(images, "uint8")


def has_lrp(net: nn.Module) -> bool:
    """Return whether relevance has rules for all layers; an ELM's sigmoids and patches as examples have none."""
    return isinstance(net, models.AgeGenderNet) and not isinstance(net.backbone, DeepAttention)


def check_targets(net: nn.Module, images, head: str, target) -> np.ndarray:
    """Return the targets as int32 [B]; PREDICTED if `target` is None.

    Raises:
      ValueError: as `check_images`; or the net is a control, the head is unknown, or the targets are not one class
        per image.
    """
    check_images(net, images)
    if net.gender_to_age in models.CONTROLS:
        raise ValueError(f"gender_to_age={net.gender_to_age!r} is a control: it cannot predict without labels")
    if head not in HEADS:
        raise ValueError(f"unknown head {head!r}; known: {', '.join(HEADS)}")
    if target is None:
        return np.full(len(images), PREDICTED, np.int32)
    target = np.asarray(target)
    classes = net.num_age_classes if head == "age" else 2
    if target.shape != (len(images),) or target.dtype.kind not in "iu" or ((target < 0) | (target >= classes)).any():
        raise ValueError(f"target must be one of {classes} classes for each of {len(images)} images, got {target}")
    return target.astype(np.int32)


def logits(net: nn.Module, variables: Any, x: jax.Array, head: str) -> jax.Array:
    """Return the logits of a head, float32 [B, A] or [B, 2], of normalised images [B, H, W, 3]."""
    return getattr(net.apply(variables, x, train=False), f"{head}_logits")


def resolve(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Return the targets, int32 [B], with PREDICTED replaced by the predicted class."""
    return jnp.where(target == PREDICTED, logits.argmax(-1), target)


def target_logit(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Return the logit of the target, [B]."""
    return jnp.take_along_axis(logits, resolve(logits, target)[:, None], -1)[:, 0]
