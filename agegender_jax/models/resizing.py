"""Resizing of maps [batch, height, width, channels]."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax


def resize_align_corners(x, shape: tuple[int, int]):
    """Return x [B, h, w, C] resized to [B, *shape, C], bilinear with corners aligned; a 1x1 map becomes constant.

    Computed in float32 and rounded once to the dtype of x.
    """
    dtype = x.dtype
    for axis, out in ((1, shape[0]), (2, shape[1])):
        if x.shape[axis] != out:
            matrix = _align_corners_matrix(x.shape[axis], out)
            x = jnp.moveaxis(jnp.tensordot(matrix, x, ((1,), (axis,)), precision=lax.Precision.HIGHEST), 0, axis)
    return x.astype(dtype)


@functools.cache
def _align_corners_matrix(size: int, out: int) -> np.ndarray:
    """Return the [out, size] weights of a linear resize that keeps both end values (Caffe's Interp)."""
    position = np.arange(out) * ((size - 1) / (out - 1) if out > 1 else 0.0)
    low = np.minimum(position.astype(int), size - 1)
    high = np.minimum(low + 1, size - 1)
    matrix = np.zeros((out, size), np.float32)
    np.add.at(matrix, (np.arange(out), low), 1 - (position - low))
    np.add.at(matrix, (np.arange(out), high), position - low)
    return matrix
