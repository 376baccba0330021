"""Parts of CaffeNet, VGG-16 and GoogLeNet: initial values, and dense layers with a ReLU."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import numpy as np
from flax.typing import Initializer

from agegender_jax.models import initializers
from agegender_jax.models.levi_hassner import PIXEL_SCALE

INITIAL = ("default", "he", "paper")
MEAN_PIXEL_SCALE = float(np.mean(PIXEL_SCALE))  # the papers' inputs, 0..255, over those of this library


def normal(initial: str, deviation: float, first: bool = False) -> Initializer:
    """Return the initializer of a layer's weights.

    Args:
      initial: "paper" for a normal distribution with this `deviation`, otherwise that of He et al. 2015.
      first: whether the layer sees the image, which has a standard deviation of 1 here and of about 58 in the papers.
    """
    if initial == "paper":
        return initializers.normal(deviation * (MEAN_PIXEL_SCALE if first else 1.0))
    return initializers.scaled_normal("in")


def dense_stack(x: jax.Array, units: Sequence[int], *, first: int, init, bias: float, dropout: float, dtype, train):
    """Return the maps x [B, H, W, C], flattened, after dense layers fc{first}, ... with ReLU and dropout: [B, F]."""
    x = x.reshape(x.shape[0], -1)
    for n, count in enumerate(units, first):
        bias_init = nn.initializers.constant(bias)
        x = nn.relu(nn.Dense(count, dtype=dtype, kernel_init=init, bias_init=bias_init, name=f"fc{n}")(x))
        x = nn.Dropout(dropout, deterministic=not train)(x)
    return x
