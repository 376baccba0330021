"""Layer-wise relevance propagation with the epsilon rule (Bach et al. 2015, doi 10.1371/journal.pone.0130140;
Lapuschkin et al. 2017, arXiv 1708.07689, Fig. 3 of arXiv 2010.03791).

A linear layer z = W x + b propagates the relevance R of its outputs to its inputs:

    R_i = sum_j x_i W_ji R_j / (z_j + eps sign z_j),    and to its bias likewise: b_j R_j / (z_j + eps sign z_j).

Here the multiplier g = R / value is propagated instead of R. The rule becomes: scale g_j by z_j / (z_j + eps sign z_j),
then apply W^T. This is the gradient except for the scaling, which is added to the backward pass at the output of:

    convolutions and dense layers   the bias absorbs its share ("absorbed")
    BatchNorm                       at inference a linear layer of its own, not merged with a convolution; its shift,
                                    bias - mean * scale / sqrt(var + 1e-5), absorbs a share

The plain gradient is the rule for

    x + y, means, concatenation, linear resizing, zero padding     proportional shares, nothing added
    ReLU                                                           all or nothing
    max pooling                                                    winner takes all
    local response normalisation                                   its first-order expansion (Binder et al. 2016,
                                                                   arXiv 1604.00825); the remainder is "error"

Soft masks are treated as constants: in (1 + M) T and in M T all relevance goes to T (signal-take-all, Arras et al.
2017, arXiv 1706.07206). The map shows what was seen through the mask, not what produced the mask. The gender fed to the
age head absorbs its share ("feed"), because softmax is not a linear layer.

At the image, R = x g with normalised x: relevance is relative to an image of ImageNet's mean colour, where x is 0.

eps is EPSILON times the mean |z| of the layer's output for one image, so that outputs near zero, which are differences
of large numbers, propagate little. A larger eps gives smoother maps that are less sensitive to noise, but loses more of
the logit ("error"), especially in deep nets. 0.03 is a compromise: with 0.1, about half of the logit of a trained
Attention-56 is error.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from agegender_jax import data, models
from agegender_jax.explain import composite_lrp, target_logit
from agegender_jax.explain.record_relevance import record_share
from agegender_jax.models.attention import SoftMask

EPSILON = 0.03
RULES = ("epsilon", "composite")


@flax.struct.dataclass
class Relevance:
    """Decomposition of a logit: logit = sum of pixels + absorbed + feed + error.

    Attributes:
      pixels: float32 [B, H, W], signed, summed over RGB.
      logit: float32 [B], of the target.
      absorbed: float32 [B], share of biases and of BatchNorm's shifts.
      feed: float32 [B], share of the gender fed to the age head; 0 for the gender head.
      error: float32 [B], the remainder: lost to eps, to local response normalisation and to rounding, and with the
        composite rules in units whose inputs all have one sign.
    """

    pixels: jax.Array
    logit: jax.Array
    absorbed: jax.Array
    feed: jax.Array
    error: jax.Array


def relevance(
    net: nn.Module,
    variables: Any,
    images: jax.Array,
    head: str,
    target=None,
    *,
    epsilon: float = EPSILON,
    rule: str = "epsilon",
) -> Relevance:
    """Decompose the logit of the target into shares of the pixels, biases and feed, by the rules above.

    Args:
      images: uint8 RGB [B, H, W, 3].
      head: one of HEADS.
      target: int [B], the class; the predicted class if None.
      epsilon: eps as a share of a layer's mean |z|; 0 for gradient times input with constant masks.
      rule: "epsilon" as above, or "composite" for the rules of [18] in `explain.composite_lrp`, which are only for
        Caffe's nets and do not use `epsilon`.

    Raises:
      ValueError: as `attribute`.
    """
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; known: {', '.join(RULES)}")
    targets = target_logit.check_targets(net, images, head, target)
    if not target_logit.has_lrp(net):
        raise ValueError(f"there are no relevance rules for a {type(getattr(net, 'backbone', net)).__name__}")
    if rule == "composite":
        return _composite(net, head, variables, images, targets)
    return _relevance(net, head, variables, images, targets, epsilon)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _relevance(net, head, variables, images, target, epsilon):
    x = data.normalize(images)
    logit, shares, absorbed, feed = propagate(
        lambda x: target_logit.target_logit(target_logit.logits(net, variables, x, head), target), x, epsilon
    )
    return _account(logit, shares, absorbed, feed)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _composite(net, head, variables, images, target):
    return _account(*composite_lrp.propagate(net, variables, data.normalize(images), head, target))


def _account(logit, shares, absorbed, feed):
    pixels = shares.sum(-1)
    return Relevance(pixels, logit, absorbed, feed, logit - pixels.sum((1, 2)) - absorbed - feed)


def propagate(score: Callable[[jax.Array], jax.Array], x: jax.Array, epsilon: float) -> tuple[jax.Array, ...]:
    """Return (score [B], relevance of x [B, ...], absorbed [B], feed [B]) of score(x), which applies linen modules."""

    def with_rules(x, absorbed, feed):
        with nn.intercept_methods(_rules(absorbed, feed, epsilon)):
            return score(x)

    zeros = jnp.zeros(len(x))
    value, pullback = jax.vjp(with_rules, x, zeros, zeros)
    multiplier, absorbed, feed = pullback(jnp.ones_like(value))
    return value, x * multiplier, absorbed, feed


def _rules(absorbed, feed, epsilon):
    def rule(call, args, kwargs, context):
        module = context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        if isinstance(module, SoftMask):
            return jax.lax.stop_gradient(call(*args, **kwargs))
        if not isinstance(module, nn.Conv | nn.Dense | nn.BatchNorm):
            return call(*args, **kwargs)
        if module.name == "age_head" and models.feed_of(module.parent) != "none":
            hidden, fed = args[0][:, :-2], args[0][:, -2:]
            args = (jnp.concatenate([hidden, record_share(feed, jax.lax.stop_gradient(fed), fed)], -1),)
        return _stabilised(record_share(absorbed, call(*args, **kwargs), _shift(module)), epsilon)

    return rule


def _shift(module: nn.Module) -> jax.Array:
    """Return b of the linear layer z = W x + b, [C]."""
    params = module.variables["params"]
    if not isinstance(module, nn.BatchNorm):
        return params.get("bias", jnp.zeros(()))
    stats = module.variables["batch_stats"]
    return params["bias"] - stats["mean"] * params["scale"] * jax.lax.rsqrt(stats["var"] + module.epsilon)


@jax.custom_vjp
def _stabilised(z, epsilon):
    """Return z; the backward pass gives g z / (z + eps sign z), eps = epsilon times the mean |z| of each example."""
    return z


def _stabilised_backward(residuals, g):
    z, epsilon = residuals
    size = jnp.abs(z.astype(jnp.float32))
    total = size + epsilon * size.mean(range(1, z.ndim), keepdims=True)
    return (g * jnp.where(total > 0, size / total, 1)).astype(g.dtype), None


_stabilised.defvjp(lambda z, epsilon: (z, (z, epsilon)), _stabilised_backward)
