"""The composite relevance rules of Lapuschkin et al. 2017 (arXiv 1708.07689, their Caffe layers) for Caffe's nets.

| layer                        | rule                                                                       |
|------------------------------|----------------------------------------------------------------------------|
| dense                        | epsilon with an absolute eps of 0.1                                        |
| convolutions                 | alpha-beta, alpha 2 and beta 1:                                            |
|                              | R_i = sum_j (alpha z_ij+ / z_j+ - beta z_ij- / z_j-) R_j                   |
| the convolutions of FLAT     | R_i = sum_j R_j / n_j, n the inputs of the window inside the image         |
| max pooling                  | winner takes all                                                           |
| local response normalisation | its first-order expansion, as in `lrp`                                     |

z_j+ and z_j- include the positive and the negative part of the bias. As in the authors' layers, a unit without a
negative part passes on 2 R_j, and one without a positive part -R_j; the difference is part of `lrp.Relevance.error`.
Between the flat convolutions relevance does not depend on the values: it passes ReLU and normalisation unchanged, and
goes to the winners of max pooling. The authors' flat rule gives every input channel the whole relevance of a window;
here a window's relevance is shared among its channels, which keeps the sum.

The net is computed in float32, whatever its own dtype. As in `lrp`, the multiplier R / value is propagated down to the
last flat convolution, and R itself below it.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from agegender_jax.explain import target_logit
from agegender_jax.explain.record_relevance import record_share
from agegender_jax.models import convolution, pooling
from agegender_jax.models.caffenet import CaffeNet
from agegender_jax.models.googlenet import GoogLeNet
from agegender_jax.models.levi_hassner import LeviHassner
from agegender_jax.models.vgg import VGG

ALPHA, BETA, EPSILON = 2.0, 1.0, 0.1
# By net: its flat convolutions, from the image up (the authors' layer indices), and the window of pooling among them
FLAT: dict[type[nn.Module], tuple[tuple[str, ...], int]] = {
    LeviHassner: (("conv1",), 3),
    CaffeNet: (("conv1",), 3),
    GoogLeNet: (("conv1", "conv2_reduce"), 3),
    VGG: (("conv1_1", "conv1_2", "conv2_1", "conv2_2"), 2),
}


def has_rules(net: nn.Module) -> bool:
    """Return whether the net's backbone is one of FLAT."""
    return type(net.backbone) in FLAT


def propagate(net: nn.Module, variables: Any, x: jax.Array, head: str, target: jax.Array) -> tuple[jax.Array, ...]:
    """Return (logit [B], relevance of x [B, H, W, 3], absorbed [B], feed [B]) of a class's logit.

    Args:
      x: normalised images [B, H, W, 3].

    Raises:
      ValueError: the backbone is not one of FLAT.
    """
    if not has_rules(net):
        known = ", ".join(kind.__name__ for kind in FLAT)
        raise ValueError(f"the composite rules are for {known}, not for a {type(net.backbone).__name__}")
    names, window = FLAT[type(net.backbone)]
    net = net.clone(backbone=net.backbone.clone(dtype=jnp.float32))

    static: dict[str, tuple] = {}  # kernel shape, strides and padding of the flat convolutions

    def score(x, absorbed, feed, carrier):
        seen: dict[str, tuple[jax.Array, jax.Array]] = {}  # their inputs and outputs
        with nn.intercept_methods(_rules(absorbed, feed, carrier, names, seen, static)):
            value = target_logit.target_logit(target_logit.logits(net, variables, x, head), target)
        return value, seen

    zeros = jnp.zeros(len(x))
    _, seen = jax.eval_shape(lambda x: score(x, zeros, zeros, None), x)
    carrier = jnp.zeros(seen[names[-1]][1].shape, jnp.float32)
    value, pullback, seen = jax.vjp(score, x, zeros, zeros, carrier, has_aux=True)
    _, absorbed, feed, relevance = pullback(jnp.ones_like(value))
    for place in range(len(names) - 1, -1, -1):
        relevance = flat(relevance, seen[names[place]][0].shape, *static[names[place]])
        if place:
            relevance = _to_output(relevance, seen[names[place - 1]][1], window)
    return value, relevance, absorbed, feed


def _rules(absorbed, feed, carrier, names, seen, static):
    def rule(call, args, kwargs, context):
        module = context.module
        if context.method_name != "__call__" or not isinstance(module, nn.Conv | nn.Dense):
            return call(*args, **kwargs)
        params = module.variables["params"]
        if isinstance(module, nn.Dense):
            if module.name == "age_head" and getattr(module.parent, "gender_to_age", "none") != "none":
                hidden, fed = args[0][:, :-2], args[0][:, -2:]
                args = (jnp.concatenate([hidden, record_share(feed, lax.stop_gradient(fed), fed)], -1),)
            return _stabilised(record_share(absorbed, call(*args, **kwargs), params["bias"]))
        strides, padding = tuple(module.strides), tuple(map(tuple, module.padding))
        if module.name in names:
            z = call(*args, **kwargs)
            seen[module.name], static[module.name] = (args[0], z), (params["kernel"].shape, strides, padding)
            return z if module.name != names[-1] or carrier is None else _carried(carrier, z)
        convolve = functools.partial(_convolve, strides, padding, module.feature_group_count)
        return alpha_beta(convolve, args[0], params["kernel"], params["bias"], absorbed)

    return rule


def _convolve(strides, padding, groups, x, kernel):
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=convolution.DIMENSIONS, feature_group_count=groups
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def alpha_beta(convolve: Callable, x, kernel, bias, absorbed):
    """Return z = convolve(x, kernel) + bias; the backward pass gives the multiplier of the alpha-beta rule for x.

    The share of the bias is added to `absorbed`.
    """
    return convolve(x, kernel) + bias[None, None, None]


def _alpha_beta_forward(convolve, x, kernel, bias, absorbed):
    z = alpha_beta(convolve, x, kernel, bias, absorbed)
    return z, (x, kernel, bias, z)


def _alpha_beta_backward(convolve, residuals, g):
    x, kernel, bias, z = residuals
    relevance, bias = z * g, bias[None, None, None]
    plus, minus = jnp.maximum(kernel, 0), jnp.minimum(kernel, 0)
    above, below = jnp.maximum(x, 0), jnp.minimum(x, 0)
    positive, pull_positive = jax.vjp(lambda a, b: convolve(a, plus) + convolve(b, minus), above, below)
    negative, pull_negative = jax.vjp(lambda a, b: convolve(a, minus) + convolve(b, plus), above, below)
    positive, negative = positive + jnp.maximum(bias, 0), negative + jnp.minimum(bias, 0)
    share_positive = _divide(ALPHA * relevance, positive)
    share_negative = _divide(-BETA * relevance, negative)
    parts = [pull_positive(share_positive), pull_negative(share_negative)]
    multiplier = jnp.where(x > 0, parts[0][0] + parts[1][0], parts[0][1] + parts[1][1])
    of_bias = jnp.maximum(bias, 0) * share_positive + jnp.minimum(bias, 0) * share_negative
    return multiplier, jnp.zeros_like(kernel), jnp.zeros(kernel.shape[-1]), of_bias.sum((1, 2, 3))


alpha_beta.defvjp(_alpha_beta_forward, _alpha_beta_backward)


def _divide(a, b):
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def flat(relevance: jax.Array, shape, kernel, strides, padding) -> jax.Array:
    """Return the relevance of a convolution's input [B, H, W, C] by the flat rule.

    Args:
      relevance: of the output [B, h, w, O].
      shape: of the input. kernel: shape [kh, kw, C / groups, O] of the weights.
    """
    _, height, width, channels = shape
    window = jnp.ones((*kernel[:2], 1, 1))
    convolve = functools.partial(_convolve, strides, padding, 1)
    counts, pull = jax.vjp(lambda ones: convolve(ones, window), jnp.ones((len(relevance), height, width, 1)))
    (shared,) = pull(relevance.sum(-1, keepdims=True) / (counts * channels))
    return jnp.broadcast_to(shared, shape)


def _to_output(relevance, z, window: int):
    """Return the relevance of a convolution's output z [B, h, w, C] from that of what was made of it."""
    if relevance.shape == z.shape:
        return relevance
    return jax.vjp(lambda a: pooling.caffe_max_pool(a, window), nn.relu(z))[1](relevance)[0]


@jax.custom_vjp
def _stabilised(z):
    """Return z; the backward pass gives g z / (z + EPSILON sign z)."""
    return z


def _stabilised_backward(z, g):
    size = jnp.abs(z)
    return ((g * size / (size + EPSILON)).astype(g.dtype),)


_stabilised.defvjp(lambda z: (z, z), _stabilised_backward)


@jax.custom_vjp
def _carried(carrier, z):
    """Return z; the backward pass gives the relevance z g to `carrier`, and nothing to z."""
    return z


_carried.defvjp(lambda carrier, z: (z, z), lambda z, g: (z * g, jnp.zeros_like(z)))
