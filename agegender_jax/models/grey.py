"""Grey images of fixed sizes from normalised ones, for the systems that do not see colours."""

import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax.models.levi_hassner import PIXEL_SCALE

MEAN = 255 * np.array([0.485, 0.456, 0.406], np.float32)  # of data.normalize
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def grey(images: jax.Array, size: int) -> jax.Array:
    """Return grey values in 0..255: normalised [B, H, W, 3] -> float32 [B, size, size], resized linearly."""
    pixels = images.astype(jnp.float32) * np.asarray(PIXEL_SCALE, np.float32)[None, None, None] + MEAN[None, None, None]
    values = (pixels * LUMA[None, None, None]).sum(-1)
    if values.shape[1:] == (size, size):
        return values
    return jax.image.resize(values, (values.shape[0], size, size), "linear")
