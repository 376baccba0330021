"""The masks' activations and their use on the trunk (Wang et al. 2017, arXiv 1704.06904, sections 3.1 and 3.3)."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


def mixed(x):
    """Return the sigmoid of every channel and position (equation 4)."""
    return nn.sigmoid(x)


def channel(x):
    """Return every position's channels divided by their norm (equation 5): in [-1, 1], not in (0, 1)."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


def spatial(x):
    """Return the sigmoid of every channel's standardised map (equation 6).

    A constant map, such as one pixel, gives 0.5. The variance gets BatchNorm's epsilon, which is far above the rounding
    noise of constant maps.
    """
    centred = x - x.mean((1, 2), keepdims=True)
    return nn.sigmoid(centred * jax.lax.rsqrt(jnp.square(centred).mean((1, 2), keepdims=True) + 1e-5))


ATTENTION = {"mixed": mixed, "channel": channel, "spatial": spatial}
LEARNING: dict[str, Callable | None] = {
    "residual": lambda mask, trunk: (1 + mask) * trunk,  # equation 3
    "naive": lambda mask, trunk: mask * trunk,  # equation 1
    "none": None,  # H = T(u): no attention, no mask branch
}
