"""From files to batches: sources, decoding, splits, prepared data, the input pipeline."""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:  # the listing of sources does not need jax
    import jax

Images = TypeVar("Images", "jax.Array", np.ndarray)

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def normalize(images: Images) -> Images:
    """(images / 255 - mean) / std with ImageNet's mean and standard deviation of each channel.

    Args:
      images: uint8 RGB [..., 3]; a JAX array, traced or not, or a NumPy one.

    Returns:
      float32 [..., 3] of the same kind, about -2.1 to 2.6.
    """
    return (images.astype(np.float32) / np.float32(255) - IMAGENET_MEAN) / IMAGENET_STD
