"""Gradient-weighted class activation maps (Selvaraju et al. 2017, arXiv 1610.02391)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from agegender_jax import data
from agegender_jax.explain import target_logit
from agegender_jax.models import caffenet, deep_attention, levi_hassner, plain_cnn, vgg
from agegender_jax.models.deep_attention import DeepAttention
from agegender_jax.models.googlenet import GoogLeNet
from agegender_jax.models.plain_cnn import PlainCNN
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.models.resnet import ResNet


@functools.partial(jax.jit, static_argnums=(0, 1))
def grad_cam(net, head, variables, images, target):
    """Return ReLU(sum_k a_k A_k), a_k the mean over positions of d logit / d A_k, resized linearly to [B, H, W].

    A [B, h, w, K] are the last convolutional maps after their ReLU (see `last_layer`). With the ImageNet stem, h is H /
    32: at 64 pixels h is 2, so the map only distinguishes the quarters of the image. Resizing aligns pixels, not
    corners: with aligned corners the maximum of such a map could only be at a corner of the image.
    """
    x, layer = data.normalize(images), last_layer(getattr(net, "backbone", net))
    maps = _output(net, variables, x, layer)

    def logit(maps):
        return target_logit.target_logit(_logits_from(net, variables, x, head, layer, maps), target).sum()

    weights = jax.grad(logit)(maps).astype(jnp.float32).mean((1, 2), keepdims=True)
    return jax.image.resize(nn.relu((weights * maps).sum(-1)), images.shape[:3], "linear")


def last_layer(backbone: nn.Module) -> str:
    """Return the submodule whose output, after a ReLU, is the last convolutional map of a backbone.

    Residual Attention Networks: the final BatchNorm. ResNets: the last block. Both are then averaged over positions.
    Caffe's nets: the last convolution, before its pooling; GoogLeNet: the last module; nets with small trunks: their
    last map before its pooling.

    Raises:
      ValueError: the backbone is of an unknown type.
    """
    if isinstance(backbone, ResidualAttentionNet):
        return "final_bn"
    if isinstance(backbone, ResNet):
        return f"layer{len(backbone.blocks)}_{backbone.blocks[-1] - 1}"
    for module, kind in ((levi_hassner, levi_hassner.LeviHassner), (caffenet, caffenet.CaffeNet)):
        if isinstance(backbone, kind):
            return f"conv{len(module.CONVOLUTIONS)}"
    if isinstance(backbone, vgg.VGG):
        return f"conv{len(vgg.BLOCKS)}_{len(vgg.BLOCKS[-1])}"
    if isinstance(backbone, GoogLeNet):
        return "inception_5b"
    if isinstance(backbone, DeepAttention):
        blocks, _, _ = deep_attention.TRUNKS[backbone.trunk]
        return f"where{len(blocks)}_{len(blocks[-1])}" if len(blocks[-1]) > 1 else f"where{len(blocks)}"
    if isinstance(backbone, PlainCNN):
        return f"bn{len(plain_cnn.UNITS)}"
    raise ValueError(f"the last convolutional map of a {type(backbone).__name__} is not known")


def _output(net, variables, x, layer):
    """Return the output of the layer after a ReLU without zeros: the net's own ReLU then has gradient 1 everywhere.

    Raises:
      ValueError: the backbone has no such layer, or does not call it.
    """
    outputs = []

    def record(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if _is_layer(context, layer):
            outputs.append(jnp.maximum(out, jnp.finfo(out.dtype).tiny))
        return out

    with nn.intercept_methods(record):
        net.apply(variables, x, train=False)
    if not outputs:
        raise ValueError(f"the backbone of this {type(net).__name__} has no output of a layer named {layer!r}")
    return outputs[0]


def _logits_from(net, variables, x, head, layer, maps):
    """Return the logits of a head with `maps` in place of the output of the layer."""

    def replace(call, args, kwargs, context):
        return maps if _is_layer(context, layer) else call(*args, **kwargs)

    with nn.intercept_methods(replace):
        return target_logit.logits(net, variables, x, head)


def _is_layer(context, layer: str) -> bool:
    return context.module.path == ("backbone", layer) and context.method_name == "__call__"
