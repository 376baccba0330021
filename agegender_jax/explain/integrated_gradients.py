"""Integrated gradients (Sundararajan, Taly, Yan 2017, arXiv 1703.01365)."""

import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from agegender_jax import data
from agegender_jax.explain import target_logit

STEPS = 32


@flax.struct.dataclass
class Integrated:
    """Integrated gradients and their completeness error: rise = sum of pixels + error.

    Attributes:
      pixels: float32 [B, H, W], signed.
      rise: float32 [B], the logit of the image minus the logit of the baseline.
      error: float32 [B].
    """

    pixels: jax.Array
    rise: jax.Array
    error: jax.Array


def integrated(
    net: nn.Module, variables: Any, images: jax.Array, head: str, target=None, *, steps: int = STEPS
) -> Integrated:
    """Return (x - x') * mean over the path from x' to x of d logit / d x, summed over RGB.

    The baseline x' is the mean colour of the image at every pixel: the same brightness without structure, from which
    dark and bright pixels differ equally. (With a black baseline, dark pixels such as hair and pupils would get no
    relevance.) The map therefore does not show what the mean colour itself contributes. The path is straight and
    evaluated at the midpoints of `steps` equal parts.

    The predicted gender fed to the age head is part of the function, and its gradient is included. With `gender_to_age`
    "hard" and "stop_gradient", the gradient by design differs from that of the function; the difference is part of
    `error`.

    Args:
      images: uint8 RGB [B, H, W, 3].
      head: one of HEADS.
      target: int [B], the class; the predicted class if None.

    Raises:
      ValueError: as `attribute`.
    """
    target = target_logit.check_targets(net, images, head, target)
    x, baseline, target, rise = _ends(net, head, variables, images, target)
    slopes = jnp.zeros_like(x)
    for part in range(steps):  # on CPU 5 to 8 times faster than the same step inside lax.scan
        slopes = _add_slope(net, head, variables, baseline, x, (part + 0.5) / steps, target, slopes)
    pixels = ((x - baseline) * slopes / steps).sum(-1)
    return Integrated(pixels, rise, rise - pixels.sum((1, 2)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _ends(net, head, variables, images, target):
    x = data.normalize(images)
    baseline = jnp.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)
    last, first = jnp.split(target_logit.logits(net, variables, jnp.concatenate([x, baseline]), head), 2)
    target = target_logit.resolve(last, target)
    return x, baseline, target, target_logit.target_logit(last, target) - target_logit.target_logit(first, target)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=7)
def _add_slope(net, head, variables, baseline, x, share, target, slopes):
    def logit(x):
        return target_logit.target_logit(target_logit.logits(net, variables, x, head), target).sum()

    return slopes + jax.grad(logit)(baseline + share * (x - baseline))
