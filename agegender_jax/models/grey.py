"""Grey images of fixed sizes from normalised ones, for the systems that do not see colours."""

import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax.image_constants import IMAGENET_MEAN, LUMA
from agegender_jax.models.levi_hassner import PIXEL_SCALE

PIXEL_MEAN = 255 * np.array(IMAGENET_MEAN, np.float32)
_LUMA = np.array(LUMA, np.float32)


def grey(images: jax.Array, size: int) -> jax.Array:
    """Return grey values in 0..255: normalised [B, H, W, 3] -> float32 [B, size, size], resized linearly."""
    pixels = images.astype(jnp.float32) * np.asarray(PIXEL_SCALE, np.float32)[None, None, None]
    values = ((pixels + PIXEL_MEAN[None, None, None]) * _LUMA[None, None, None]).sum(-1)
    if values.shape[1:] == (size, size):
        return values
    return jax.image.resize(values, (values.shape[0], size, size), "linear")
