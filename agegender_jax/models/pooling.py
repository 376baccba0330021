"""Pooling of maps [batch, height, width, channels]; max pooling on CPU is that in `cpu_pooling`."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from agegender_jax.models import cpu_pooling
from agegender_jax.models.platforms import by_platform


def max_pool(x, pad: tuple[tuple[int, int], tuple[int, int]], window: int = 3, stride: int = 2):
    """Return the maxima of square windows; `pad` is (low, high) for the height and for the width."""
    return _max_pool(x, tuple(map(tuple, pad)), window, stride)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, pad, window, stride):
    return by_platform(cpu_pooling.max_pool, _lax_max_pool, pad, window, stride)(x)


@_max_pool.defjvp
def _max_pool_jvp(pad, window, stride, primals, tangents):
    """Return the maxima and their tangents; each output takes the tangent of the first maximum in its window."""
    tangent = by_platform(cpu_pooling.max_pool_tangent, _lax_max_pool_tangent, pad, window, stride)
    return _max_pool(*primals, pad, window, stride), tangent(*primals, *tangents)


def _lax_max_pool(x, pad, window, stride):
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), ((0, 0), *pad, (0, 0))
    )


def _lax_max_pool_tangent(x, tangent, pad, window, stride):
    return jax.jvp(lambda x: _lax_max_pool(x, pad, window, stride), (x,), (tangent,))[1]


def caffe_max_pool(x, window: int = 3):
    """Return Caffe's pooling of stride 2: windows from 0, ceil mode. Equal to SAME for even sizes only."""
    high = [caffe_padding(size, window, 2) for size in x.shape[1:3]]
    return max_pool(x, ((0, high[0]), (0, high[1])), window)


def average_pool(x: jax.Array, window: int, stride: int) -> jax.Array:
    """Return Caffe's average pooling in ceil mode; in a window clipped by the border, over its real pixels only."""
    high = [caffe_padding(n, window, stride) for n in x.shape[1:3]]
    counts = [_real_pixels(n, window, stride) for n in x.shape[1:3]]
    zero = np.zeros((), x.dtype)
    padding = ((0, 0), *((0, end) for end in high), (0, 0))
    sums = lax.reduce_window(x, zero, lax.add, (1, window, window, 1), (1, stride, stride, 1), padding)
    return sums / np.multiply.outer(*counts)[None, :, :, None].astype(x.dtype)


def caffe_padding(size: int, window: int, stride: int) -> int:
    """Return the number of pixels to add at the end of a line so that Caffe's windows in ceil mode fit."""
    return max(0, (caffe_windows(size, window, stride) - 1) * stride + window - size)


def caffe_windows(size: int, window: int, stride: int) -> int:
    """Return the number of windows of Caffe's pooling in ceil mode along a line."""
    return max(1, math.ceil((size - window) / stride) + 1)


def _real_pixels(size: int, window: int, stride: int) -> np.ndarray:
    """Return how many pixels of a line each window covers."""
    start = stride * np.arange(caffe_windows(size, window, stride))
    return np.minimum(start + window, size) - start
