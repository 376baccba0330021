"""The base class of all backbones: their methods, and the check of the images."""

import flax.linen as nn
import jax

from agegender_jax.models import layers

Masks = tuple[jax.Array, ...]


class Backbone(nn.Module):
    """images float32 [B, H, W, 3], H, W >= 32 -> features float32 [B, F].

    A net without attention defines `features`; a net with attention defines `attend`, and checks its images there.
    """

    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the features [B, F] of normalised images [B, H, W, 3]."""
        return self.attend(images, train=train)[0]

    def attend(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, Masks]:
        """Return the features [B, F], and one attention mask [B, h, w, C] for each module; () without attention.

        Raises:
          ValueError: images of another shape or dtype, or smaller than 32 pixels.
        """
        layers.check_images(images)
        return self.features(images, train=train), ()

    def features(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return the features [B, F] of a net without attention."""
        raise NotImplementedError
