"""Explanations: attention maps, and attributions of one prediction to the pixels."""

from typing import Any

import flax.linen as nn
import jax

from agegender_jax.explain import composite_lrp, target_logit
from agegender_jax.explain.attention import AttentionMaps, attention
from agegender_jax.explain.grad_cam import grad_cam
from agegender_jax.explain.integrated_gradients import Integrated, integrated
from agegender_jax.explain.lrp import Relevance, relevance
from agegender_jax.explain.target_logit import HEADS

__all__ = [
    "COMPOSITE",
    "HEADS",
    "METHODS",
    "RULES",
    "AttentionMaps",
    "Integrated",
    "Relevance",
    "attention",
    "attribute",
    "integrated",
    "methods_of",
    "relevance",
]

COMPOSITE = "lrp_composite"
RULES = {"lrp": "epsilon", COMPOSITE: "composite"}  # of `relevance`
METHODS = ("grad_cam", "integrated_gradients", "lrp", COMPOSITE)


def methods_of(net: nn.Module) -> tuple[str, ...]:
    """Return the METHODS that a net supports.

    A net without a backbone supports only integrated gradients. `has_lrp` and `composite_lrp.has_rules` decide about
    LRP.
    """
    if not hasattr(net, "backbone"):
        return METHODS[1:2]
    if not target_logit.has_lrp(net):
        return METHODS[:2]
    return METHODS if composite_lrp.has_rules(net) else METHODS[:3]


def attribute(
    method: str, net: nn.Module, variables: Any, images: jax.Array, head: str, target: jax.Array | None = None
) -> jax.Array:
    """Return how much each pixel supports one class of one head: float32 [B, H, W], positive for the class.

    | method               | map                                                         | sign   |
    |----------------------|-------------------------------------------------------------|--------|
    | grad_cam             | weighted sum of the last convolutional maps (`grad_cam`)    | >= 0   |
    | integrated_gradients | shares of the logit's rise from the mean colour (`integrated`) | signed |
    | lrp                  | shares of the logit, epsilon rule (`relevance`)             | signed |
    | lrp_composite        | the same by the rules of [18], for Caffe's nets alone       | signed |

    The map of an image does not depend on the rest of the batch. A method is compiled once per net, head and shape.

    Args:
      method: one of METHODS.
      images: uint8 RGB [B, H, W, 3].
      head: one of HEADS.
      target: int [B], the class; the predicted class if None.

    Raises:
      ValueError: the method or head is unknown, the net is not from `models.build` or is one of `models.CONTROLS`, or
        the images or targets have the wrong dtype or shape.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if method == "integrated_gradients":
        return integrated(net, variables, images, head, target).pixels
    if method in RULES:
        return relevance(net, variables, images, head, target, rule=RULES[method]).pixels
    return grad_cam(net, head, variables, images, target_logit.check_targets(net, images, head, target))
