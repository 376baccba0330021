"""What a net looked at: attention maps, and attributions of one decision to the pixels."""

from typing import Any

import flax.linen as nn
import jax

from agegender_jax.explain import decision
from agegender_jax.explain.attention import AttentionMaps, attention
from agegender_jax.explain.decision import HEADS
from agegender_jax.explain.grad_cam import grad_cam
from agegender_jax.explain.integrated import Integrated, integrated
from agegender_jax.explain.lrp import Relevance, relevance

__all__ = [
    "HEADS",
    "METHODS",
    "AttentionMaps",
    "Integrated",
    "Relevance",
    "attention",
    "attribute",
    "integrated",
    "relevance",
]

METHODS = ("grad_cam", "integrated_gradients", "lrp")


def attribute(
    method: str, net: nn.Module, variables: Any, images: jax.Array, head: str, target: jax.Array | None = None
) -> jax.Array:
    """How much each pixel speaks for one class of one head: float32 [B, H, W], positive for the class.

    | method               | the map                                                     | sign   |
    |----------------------|-------------------------------------------------------------|--------|
    | grad_cam             | where the last convolutional map speaks for it (`grad_cam`) | >= 0   |
    | integrated_gradients | shares of the rise from the mean colour (`integrated`)      | signed |
    | lrp                  | shares of the logit, epsilon rule (`relevance`)             | signed |

    A picture's map does not depend on the others of the batch. A method is compiled once for a net, head and shape.

    Args:
      method: one of METHODS.
      images: uint8 RGB [B, H, W, 3].
      head: one of HEADS.
      target: int [B], the class; the predicted one if None.

    Raises:
      ValueError: an unknown method or head, a net that is not by `models.build` or whose age head is fed one of
        `models.CONTROLS`, images or targets of another kind.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if method == "integrated_gradients":
        return integrated(net, variables, images, head, target).pixels
    if method == "lrp":
        return relevance(net, variables, images, head, target).pixels
    return grad_cam(net, head, variables, images, decision.check(net, images, head, target))
