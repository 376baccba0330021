"""Gradient-weighted class activation maps (Selvaraju et al. 2017, arXiv 1610.02391)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from agegender_jax import data
from agegender_jax.explain import decision
from agegender_jax.models.levi_hassner import CONVOLUTIONS, LeviHassner
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.models.resnet import ResNet


@functools.partial(jax.jit, static_argnums=(0, 1))
def grad_cam(net, head, variables, images, target):
    """ReLU(sum_k a_k A_k), a_k = the mean over positions of d logit / d A_k; linearly to [B, H, W], pixels aligned.

    A [B, h, w, K] is the last convolutional map after its ReLU (see `last_layer`). With the ImageNet stem h is H / 32:
    2 at 64 pixels, where the map tells the quarters of the picture apart and no more. With aligned corners, as masks
    are resized, the largest value of such a map could lie on a corner's pixel only.
    """
    x, layer = data.normalize(images), last_layer(net.backbone)
    maps = _output(net, variables, x, layer)

    def logit(maps):
        return decision.chosen(_logits_from(net, variables, x, head, layer, maps), target).sum()

    weights = jax.grad(logit)(maps).astype(jnp.float32).mean((1, 2), keepdims=True)
    found = nn.relu((weights * maps).sum(-1, keepdims=True))
    return jax.image.resize(found[..., 0], images.shape[:3], "linear")


def last_layer(backbone: nn.Module) -> str:
    """The submodule whose output, after a ReLU, is the last convolutional map of a backbone.

    The final normalisation of Residual Attention Networks and the last block of ResNets, whose maps are averaged to
    the features; of Levi and Hassner's net the last convolution, before its pooling.

    Raises:
      ValueError: a backbone of another kind.
    """
    if isinstance(backbone, ResidualAttentionNet):
        return "final_bn"
    if isinstance(backbone, ResNet):
        return f"layer{len(backbone.blocks)}_{backbone.blocks[-1] - 1}"
    if isinstance(backbone, LeviHassner):
        return f"conv{len(CONVOLUTIONS)}"
    raise ValueError(f"the last convolutional map of a {type(backbone).__name__} is not known")


def _output(net, variables, x, layer):
    """The layer's output after a ReLU that leaves no zeros: the net's own ReLU then has gradient 1 everywhere."""
    kept = []

    def keep(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if _is(context, layer):
            kept.append(jnp.maximum(out, jnp.finfo(out.dtype).tiny))
        return out

    with nn.intercept_methods(keep):
        net.apply(variables, x, train=False)
    return kept[0]


def _logits_from(net, variables, x, head, layer, maps):
    """The head's logits with `maps` in the place of the layer's output."""

    def replace(call, args, kwargs, context):
        return maps if _is(context, layer) else call(*args, **kwargs)

    with nn.intercept_methods(replace):
        return decision.logits(net, variables, x, head)


def _is(context, layer: str) -> bool:
    return context.module.path == ("backbone", layer) and context.method_name == "__call__"
