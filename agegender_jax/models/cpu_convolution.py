"""Convolutions for CPUs, where XLA's own are slow; `convolution` takes them there only.

They have the results of `lax` up to rounding. One difference remains: padded zeros that a product multiplies with inf
or NaN may make more, or fewer, of the results NaN than in lax. The shapes at which each alternative pays are measured:
`python -m benchmarks.layers`.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import lax

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
PARTS = 4  # of the batch, in a convolution of few channels
GRADIENT_PARTS = 2  # in its gradients


def conv(x, kernel, strides, padding):
    """Return the convolution [B, h, w, O] of x [B, H, W, C] with kernel [kh, kw, C, O], computed in float32 at least.

    1x1 kernels and maps of up to 16 pixels are matrix products: XLA's convolution runs at 1 GFLOP/s on maps smaller
    than its kernel. A convolution of up to 64 channels is one core's work in XLA: parts of the batch run side by side.
    A stem of stride 2 with fewer than 64 filters is a convolution over pairs of pixels, four times as fast for 32.
    """
    return _in_float32(_conv, x, kernel, strides, padding)


def conv_of_tangent(dx, kernel, strides, padding):
    """Return what `conv` returns, in a form whose transpose, the gradient of x, is fast."""
    return _in_float32(functools.partial(_transposable, _linear_in_x), dx, kernel, strides, padding)


def conv_with_tangent(x, dkernel, strides, padding):
    """Return what `conv` returns, in a form whose transpose, the gradient of the kernel, is fast."""
    return _in_float32(functools.partial(_transposable, _linear_in_kernel), x, dkernel, strides, padding)


def _in_float32(convolve, x, kernel, strides, padding):
    dtype = np.promote_types(x.dtype, np.float32)
    return convolve(x.astype(dtype), kernel.astype(dtype), strides, padding).astype(x.dtype)


def _conv(x, kernel, strides, padding):
    if _is_small(x, kernel):
        return _as_products(x, kernel, strides, padding)
    if _has_pairs(x, kernel, strides):
        return conv_by_pairs(_lax_conv, x, kernel, strides, padding)
    (_, height, width, channels), features = x.shape, kernel.shape[3]
    few = channels <= 64 and height * width >= 256
    parts = PARTS if few and not (_is_stem(kernel) and features >= 32) else 1  # a wide stem's value uses all cores
    return _in_parts(_lax_conv, parts, x, kernel, strides, padding)


def _transposable(lax_conv, x, kernel, strides, padding):
    if _is_small(x, kernel):
        return _as_products(x, kernel, strides, padding)
    convolve = functools.partial(conv_by_pairs, lax_conv) if _has_pairs(x, kernel, strides) else lax_conv
    parts = PARTS if _is_stem(kernel) else GRADIENT_PARTS if x.shape[3] <= 64 else 1
    return _in_parts(convolve, parts, x, kernel, strides, padding)


def _is_small(x, kernel) -> bool:
    return x.shape[1] * x.shape[2] <= 16 or kernel.shape[:2] == (1, 1)


def _is_stem(kernel) -> bool:
    return kernel.shape[2] == 3 and math.prod(kernel.shape[:2]) >= 49


def _has_pairs(x, kernel, strides) -> bool:
    return _is_stem(kernel) and kernel.shape[3] < 64 and strides[1] == 2 and x.shape[2] % 2 == 0


def _as_products(x, kernel, strides, padding):
    convolve = conv_1x1 if kernel.shape[:2] == (1, 1) else conv_of_small_maps
    return convolve(x, kernel, strides, padding)


def _in_parts(convolve, parts, x, kernel, strides, padding):
    """Return a convolution whose batch is divided into equal parts, if it can be."""
    if parts == 1 or x.shape[0] % parts:
        return convolve(x, kernel, strides, padding)
    return jnp.concatenate([convolve(part, kernel, strides, padding) for part in jnp.split(x, parts)])


def _lax_conv(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)


# XLA has a fast convolution for CPUs, for the order of dimensions NHWC, HWIO, NHWC alone. It brings the others into
# that order, but not within a branch of a conditional, which is what `lax.platform_dependent` makes: there they take
# many times as long. Therefore the transposes of these two have that order to begin with.


def _linear_in_x(x, kernel, strides, padding):
    """Return `_lax_conv`; its transpose with respect to x has the order of dimensions that is fast."""
    numbers = ("NHWC", "HWOI", "NHWC")
    return lax.conv_general_dilated(x, kernel.swapaxes(2, 3), strides, padding, dimension_numbers=numbers)


def _linear_in_kernel(x, kernel, strides, padding):
    """Return `_lax_conv`; its transpose with respect to the kernel has the order of dimensions that is fast."""
    x, kernel, numbers = x.transpose(3, 1, 2, 0), kernel.transpose(2, 0, 1, 3), ("CHWN", "IHWO", "HWNC")
    out = lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=numbers)
    return out.transpose(2, 0, 1, 3)


def conv_of_small_maps(x, kernel, strides, padding):
    """Return a convolution as two matrix products: a constant one of zeros and ones gathers the patches.

    Both products and their gradients are single operations, so this compiles in a fifth of the time of slices. The
    gathering costs H W / O of the convolution itself.
    """
    batch, height, width, channels = x.shape
    gather = _patches_matrix(height, width, kernel.shape[:2], tuple(strides), tuple(map(tuple, padding)))
    rows = gather.shape[0] * gather.shape[1] * math.prod(kernel.shape[:2])
    matrix = jnp.broadcast_to(gather.reshape(rows, height * width).astype(x.dtype), (batch, rows, height * width))
    patches = (matrix @ x.reshape(batch, height * width, channels)).reshape(-1, math.prod(kernel.shape[:3]))
    return (patches @ kernel.reshape(-1, kernel.shape[3])).reshape(batch, *gather.shape[:2], kernel.shape[3])


@functools.cache
def _patches_matrix(height, width, window, strides, padding) -> np.ndarray:
    """Return zeros and ones [h, w, kh, kw, H, W]: the pixel of the map, if any, under each position of each window."""
    (top, bottom), (left, right) = padding
    out_h = (height + top + bottom - window[0]) // strides[0] + 1
    out_w = (width + left + right - window[1]) // strides[1] + 1
    rows = np.arange(out_h)[:, None] * strides[0] + np.arange(window[0]) - top
    columns = np.arange(out_w)[:, None] * strides[1] + np.arange(window[1]) - left
    on_row = rows[..., None] == np.arange(height)  # [h, kh, H]
    on_column = columns[..., None] == np.arange(width)
    return np.einsum("aiy,bjx->abijyx", on_row.astype(np.float32), on_column.astype(np.float32))


def conv_by_pairs(convolve, x, kernel, strides, padding):
    """Return a convolution with a horizontal stride of 2 of an even width, two neighbours as one pixel of 2 C channels.

    `convolve` computes it. The pairs are the array as it is in memory. The kernel gets columns of zeros up to
    whole pairs.
    """
    batch, height, width, channels = x.shape
    kh, kw, _, features = kernel.shape
    low, high = padding[1]
    before, out = low % 2, (width + low + high - kw) // 2 + 1
    kernel = jnp.pad(kernel, ((0, 0), (before, (kw + before) % 2), (0, 0), (0, 0)))
    kernel = kernel.reshape(kh, -1, 2 * channels, features)
    low = (low + before) // 2
    columns = (low, out + kernel.shape[1] - 1 - width // 2 - low)
    pairs = x.reshape(batch, height, width // 2, 2 * channels)
    return convolve(pairs, kernel, (strides[0], 1), (padding[0], columns))


def conv_1x1(x, kernel, strides, padding):
    """Return a convolution with a 1x1 kernel as one matrix product."""
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    x = lax.slice(x, (0, 0, 0, 0), x.shape, (1, *strides, 1))
    return (x.reshape(-1, x.shape[3]) @ kernel[0, 0]).reshape(*x.shape[:3], kernel.shape[3])
