"""Augmentation on the device, inside the jitted step: a pure function of key and images."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


def augment(keys: jax.Array, images: jax.Array, config: ConfigDict) -> jax.Array:
    """Flips, shifts and recolours each image by its own key.

    Args:
      keys: [B] one key an example.
      images: uint8 [B, H, W, 3].
      config: `flip` (bool); `shift`, the largest shift as a fraction of the side, edges repeated; `colour`,
        the largest relative change of brightness, contrast and saturation.

    Returns:
      float32 [B, H, W, 3] in [0, 255].
    """
    return jax.vmap(lambda key, image: _augment(key, image, config))(keys, images)


def _augment(key, image, config):
    flip_key, shift_key, colour_key = jax.random.split(key, 3)
    if config.flip:
        image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
    reach = round(config.shift * image.shape[0])
    if reach:
        padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
        y, x = jax.random.randint(shift_key, (2,), 0, 2 * reach + 1)
        image = jax.lax.dynamic_slice(padded, (y, x, 0), image.shape)
    image = image.astype(jnp.float32)
    if config.colour:
        brightness, contrast, saturation = jax.random.uniform(
            colour_key, (3,), minval=1 - config.colour, maxval=1 + config.colour
        )
        grey = image.mean(-1, keepdims=True)
        image = grey + (image - grey) * saturation
        mean = image.mean()
        image = (mean + (image - mean) * contrast) * brightness
        image = jnp.clip(image, 0.0, 255.0)
    return image
