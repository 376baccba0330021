"""Layer-wise relevance propagation with the epsilon rule (Bach et al. 2015, doi 10.1371/journal.pone.0130140;
Lapuschkin et al. 2017, arXiv 1708.07689, Fig. 3 of arXiv 2010.03791).

A linear layer z = W x + b hands the relevance R of its outputs on to its inputs:

    R_i = sum_j x_i W_ji R_j / (z_j + eps sign z_j),    and to its bias likewise: b_j R_j / (z_j + eps sign z_j).

Here the multiplier g = R / value goes backwards instead of R. The rule then reads: scale g_j by
z_j / (z_j + eps sign z_j), then apply W^T. That is the gradient but for the scaling, which is all that is added to
the net's own backward pass, at the output of these layers:

    convolutions and dense layers   the bias keeps its share ("absorbed")
    BatchNorm                       at inference a linear layer of its own, not merged with a convolution: its shift,
                                    bias - mean * scale / sqrt(var + 1e-5), absorbs

and the gradient alone is the rule for

    x + y, means, concatenation, linear resizing, zero padding     proportional shares, nothing added
    ReLU                                                           all or nothing
    max pooling                                                    the winner takes all
    local response normalisation                                   its first-order expansion (Binder et al. 2016,
                                                                   arXiv 1604.00825), which loses a little: "error"

The soft masks weigh the trunk but are constants: in (1 + M) T and in M T all relevance goes to T (signal-take-all,
Arras et al. 2017, arXiv 1706.07206). The map tells what was seen through the mask, not what made it. The gender that
feeds the age head keeps its share ("feed"): a softmax is no linear layer.

At the picture R = x g, x normalised: relevance is relative to a picture of ImageNet's mean colour, where x is 0.

eps is EPSILON times the mean |z| of the layer's output for one picture, so that outputs near zero, differences of
large numbers, hand on little. A larger eps gives calmer maps, which change less with noise in the picture, and loses
more of the logit, the more the deeper the net: that is the "error". 0.03 is a compromise; 0.1 gives yet calmer maps,
but in a trained Attention-56 about half of the logit is then error.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from agegender_jax import data, models
from agegender_jax.explain import decision
from agegender_jax.models.ran import SoftMask

EPSILON = 0.03


@flax.struct.dataclass
class Relevance:
    """Where a logit came from: logit = sum of pixels + absorbed + feed + error.

    Attributes:
      pixels: float32 [B, H, W], signed, summed over RGB.
      logit: float32 [B], the target's.
      absorbed: float32 [B], by biases and the shifts of BatchNorm.
      feed: float32 [B], by the gender that feeds the age head; 0 for the gender head.
      error: float32 [B], what eps took (and local response normalisation), and rounding.
    """

    pixels: jax.Array
    logit: jax.Array
    absorbed: jax.Array
    feed: jax.Array
    error: jax.Array


def relevance(
    net: nn.Module, variables: Any, images: jax.Array, head: str, target=None, *, epsilon: float = EPSILON
) -> Relevance:
    """The target's logit shared out among the pixels, biases and the feed; the rules are above.

    Args:
      images: uint8 RGB [B, H, W, 3].
      head: one of HEADS.
      target: int [B], the class; the predicted one if None.
      epsilon: eps as a share of a layer's mean |z|; 0 for gradient times input with constant masks.

    Raises:
      ValueError: as `attribute`.
    """
    return _relevance(net, head, variables, images, decision.check(net, images, head, target), epsilon)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _relevance(net, head, variables, images, target, epsilon):
    x = data.normalize(images)
    logit, shares, absorbed, feed = propagate(
        lambda x: decision.chosen(decision.logits(net, variables, x, head), target), x, epsilon
    )
    pixels = shares.sum(-1)
    return Relevance(pixels, logit, absorbed, feed, logit - pixels.sum((1, 2)) - absorbed - feed)


def propagate(score: Callable[[jax.Array], jax.Array], x: jax.Array, epsilon: float) -> tuple[jax.Array, ...]:
    """(score [B], relevance of x [B, ...], absorbed [B], feed [B]) for score(x), which applies linen modules."""

    def ruled(x, absorbed, feed):
        with nn.intercept_methods(_rules(absorbed, feed, epsilon)):
            return score(x)

    nothing = jnp.zeros(len(x))
    value, back = jax.vjp(ruled, x, nothing, nothing)
    multiplier, absorbed, feed = back(jnp.ones_like(value))
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
            args = (jnp.concatenate([hidden, _book(feed, jax.lax.stop_gradient(fed), fed)], -1),)
        return _stabilised(_book(absorbed, call(*args, **kwargs), _shift(module)), epsilon)

    return rule


def _shift(module: nn.Module) -> jax.Array:
    """b of the linear layer z = W x + b, [C]."""
    params = module.variables["params"]
    if not isinstance(module, nn.BatchNorm):
        return params.get("bias", jnp.zeros(()))
    stats = module.variables["batch_stats"]
    return params["bias"] - stats["mean"] * params["scale"] * jax.lax.rsqrt(stats["var"] + module.epsilon)


@jax.custom_vjp
def _book(account, value, part):
    """`value`; going backwards, the relevance of `part` of it (part * g, summed to [B]) is added to the account."""
    return value


def _book_backwards(part, g):
    return (part * g.astype(jnp.float32)).sum(range(1, g.ndim)), g, None


_book.defvjp(lambda account, value, part: (value, part), _book_backwards)


@jax.custom_vjp
def _stabilised(z, epsilon):
    """z; going backwards, g z / (z + eps sign z), eps = epsilon times the mean |z| of each example."""
    return z


def _stabilised_backwards(kept, g):
    z, epsilon = kept
    size = jnp.abs(z.astype(jnp.float32))
    total = size + epsilon * size.mean(range(1, z.ndim), keepdims=True)
    return (g * jnp.where(total > 0, size / total, 1)).astype(g.dtype), None


_stabilised.defvjp(lambda z, epsilon: (z, (z, epsilon)), _stabilised_backwards)
