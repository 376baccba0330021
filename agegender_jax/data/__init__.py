"""From files to batches: sources, decoding, splits, prepared data, the input pipeline."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from agegender_jax import array_checks, image_constants

if TYPE_CHECKING:  # the listing of sources does not need jax
    import jax

Images = TypeVar("Images", "jax.Array", np.ndarray)

IMAGENET_MEAN = np.array(image_constants.IMAGENET_MEAN, np.float32)
IMAGENET_STD = np.array(image_constants.IMAGENET_STD, np.float32)


def normalize(images: Images) -> Images:
    """Return (images / 255 - mean) / std with ImageNet's mean and standard deviation of each channel.

    Args:
      images: uint8 RGB [..., 3]; a JAX array, traced or not, or a NumPy one.

    Returns:
      float32 [..., 3] of the same kind, about -2.1 to 2.6.

    Raises:
      ValueError: other images, such as floats in [0, 1].
    """
    array_checks.check(images=(images, "uint8 ... 3"))
    return normalize_float(images)


def normalize_float(images: Images) -> Images:
    """Return what `normalize` returns, for pixels computed as floats in [0, 255], which is not checked."""
    axes = (1,) * (images.ndim - 1) + (3,)  # as many as the images have: jax may be set to refuse fewer
    mean, std = IMAGENET_MEAN.reshape(axes), IMAGENET_STD.reshape(axes)
    return (images.astype(np.float32) / np.float32(255) - mean) / std
