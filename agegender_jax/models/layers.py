"""Convolution, normalisation, pooling and resizing shared by all nets.

Arrays are [batch, height, width, channels]. Where XLA's CPU backend is slow, `cpu_kernels` has an alternative, chosen
when a program is lowered: a program exported for a GPU holds the plain operations, wherever it was made.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from agegender_jax import arguments
from agegender_jax.models import cpu_kernels
from agegender_jax.models.batch_norm import BatchNorm

MIN_IMAGE_SIZE = 32
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def scaled(channels: int, width: float) -> int:
    """Return the channels at a width multiplier: a multiple of 8, at least 8, exact at width 1."""
    return channels if width == 1 else max(8, 8 * round(channels * width / 8))


def check_images(images: jax.Array, kind: str = "float") -> None:
    """Raise ValueError unless images are [B, H, W, 3] with H and W of at least 32.

    Args:
      kind: "float" for normalized images (see `data.normalize`), or "uint8".
    """
    arguments.check(images=(images, f"{kind} B H W 3"))
    if min(images.shape[1:3]) < MIN_IMAGE_SIZE:
        raise ValueError(f"images must be [B, H, W, 3] with H, W >= {MIN_IMAGE_SIZE}, got {images.shape}")


def conv(
    features, kernel=1, stride=1, *, init, dtype, name, pad: int | None = None, bias: float | None = None, groups=1
):
    """Return a square nn.Conv, padded by (kernel - 1) / 2 or `pad` on every side.

    It has a bias, starting at `bias`, only if that is not None.
    """
    pad = (kernel - 1) // 2 if pad is None else pad
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding=((pad, pad), (pad, pad)),
        feature_group_count=groups,
        use_bias=bias is not None,
        bias_init=nn.initializers.constant(bias or 0.0),
        dtype=dtype,
        kernel_init=init,
        conv_general_dilated=conv_general,
        name=name,
    )


def conv_general(x, kernel, window_strides, padding, dimension_numbers=None, **options):
    """Return what `lax.conv_general_dilated` returns: a drop-in for nn.Conv, with the CPU's kernels where they apply.

    They apply to [B, H, W, C] maps with explicit padding and every other option at its default. All else is left to
    lax.
    """
    usual = {"lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1, "batch_group_count": 1}
    plain = all(value is None or value == usual.get(name) for name, value in options.items())
    if not plain or isinstance(padding, str) or not _is_nhwc(x.shape, kernel.shape, dimension_numbers):
        return lax.conv_general_dilated(
            x, kernel, window_strides, padding, dimension_numbers=dimension_numbers, **options
        )
    return _conv(x, kernel, tuple(window_strides), tuple(map(tuple, padding)))


def _is_nhwc(x_shape, kernel_shape, dimension_numbers) -> bool:
    numbers = functools.partial(lax.conv_dimension_numbers, x_shape, kernel_shape)
    return len(x_shape) == 4 and numbers(dimension_numbers) == numbers(DIMENSIONS)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _conv(x, kernel, strides, padding):
    return _by_platform(cpu_kernels.conv, _lax_conv, strides, padding)(x, kernel)


@functools.partial(_conv.defjvp, symbolic_zeros=True)
def _conv_jvp(strides, padding, primals, tangents):
    convolve = _by_platform(cpu_kernels.differentiable_conv, _lax_conv, strides, padding)
    (x, kernel), (dx, dkernel) = primals, tangents
    parts = [] if isinstance(dx, SymbolicZero) else [convolve(dx, kernel)]
    parts += [] if isinstance(dkernel, SymbolicZero) else [convolve(x, dkernel)]
    return convolve(x, kernel), sum(parts[1:], parts[0])


def _lax_conv(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)


@functools.cache
def _by_platform(on_cpu, elsewhere, *static):
    """Return a function of arrays that is `on_cpu` in programs lowered for CPU, and `elsewhere` in all others.

    It is jitted so that a net's many layers of one shape are traced and differentiated once.
    """

    @jax.jit
    def chosen(*arrays):
        return lax.platform_dependent(
            *arrays, cpu=lambda *arrays: on_cpu(*arrays, *static), default=lambda *arrays: elsewhere(*arrays, *static)
        )

    return chosen


def norm(train: bool, dtype, axis_name=None):
    """Return BatchNorm (eps 1e-5, running = 0.9 old + 0.1 new) as a partial that takes `name`.

    With `axis_name` the statistics are those of the whole batch over that axis.
    """
    return functools.partial(
        BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, axis_name=axis_name
    )


def drop_branch(x, rate: float, train: bool):
    """Leave out an example's residual branch in training: stochastic depth (Huang et al. 2016, arXiv 1603.09382).

    Called inside a compact module; needs a key named "dropout" where `rate` is above 0. What remains is divided by
    1 - rate.
    """
    return nn.Dropout(rate, broadcast_dims=(1, 2, 3), deterministic=not train)(x) if rate else x


def drop_rates(last: float, count: int) -> list[float]:
    """Return the rates of residual branches, rising linearly to that of the last (arXiv 1603.09382, section 3)."""
    return [last * (i + 1) / count for i in range(count)]


def max_pool(x, pad: tuple[tuple[int, int], tuple[int, int]], window: int = 3, stride: int = 2):
    """Return the maxima of square windows; `pad` is (low, high) for the height and for the width."""
    return _max_pool(x, tuple(map(tuple, pad)), window, stride)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, pad, window, stride):
    return _by_platform(cpu_kernels.max_pool, _lax_max_pool, pad, window, stride)(x)


@_max_pool.defjvp
def _max_pool_jvp(pad, window, stride, primals, tangents):
    """Return the maxima and their tangents: each output takes that of the first maximum of its window."""
    tangent = _by_platform(cpu_kernels.max_pool_tangent, _lax_max_pool_tangent, pad, window, stride)
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


def caffe_padding(size: int, window: int, stride: int) -> int:
    """Return the pixels to add at the end of a line so that Caffe's windows, ceil mode, lie within it."""
    return max(0, (caffe_windows(size, window, stride) - 1) * stride + window - size)


def caffe_windows(size: int, window: int, stride: int) -> int:
    """Return how many windows Caffe's pooling, ceil mode, has along a line."""
    return max(1, math.ceil((size - window) / stride) + 1)


def local_response_norm(x, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
    """Return x * (k + alpha / size * sum of x^2 over the `size` nearest channels)^-beta, as in Caffe and PyTorch.

    Krizhevsky, Sutskever, Hinton 2012, section 3.3, but for the division of alpha. The sum is taken in float32.
    """
    squares = jnp.square(x.astype(jnp.float32))
    sums = lax.reduce_window(
        squares, 0.0, lax.add, (1, 1, 1, size), (1, 1, 1, 1), ((0, 0),) * 3 + ((size // 2, size // 2),)
    )
    return x * ((k + alpha / size * sums) ** -beta).astype(x.dtype)


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
