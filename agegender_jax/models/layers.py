"""Convolution, normalisation, pooling and resizing shared by all nets.

Where XLA's CPU kernels are slow, an exact alternative is chosen here by backend and shape, and nowhere else.
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

MIN_IMAGE_SIZE = 32
PARTS = 4  # of a batch in a convolution of few channels on CPU


def scaled(channels: int, width: float) -> int:
    """Channels at a width multiplier: a multiple of 8, at least 8, exact at width 1."""
    return channels if width == 1 else max(8, 8 * round(channels * width / 8))


def check_images(images: jax.Array, kind: str = "float") -> None:
    """Raise ValueError unless images are [B, H, W, 3] with H and W of at least 32.

    Args:
      kind: "float" for normalized images (see `data.normalize`), or "uint8".
    """
    arguments.check(images=(images, f"{kind} B H W 3"))
    if min(images.shape[1:3]) < MIN_IMAGE_SIZE:
        raise ValueError(f"images must be [B, H, W, 3] with H, W >= {MIN_IMAGE_SIZE}, got {images.shape}")


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def conv_by_matmul(x, kernel, strides, padding):
    """Convolution as one matrix product over the window's patches; [B, H, W, C] * [h, w, C, O]."""
    kh, kw, cin, cout = kernel.shape
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    out_h = (x.shape[1] - kh) // strides[0] + 1
    out_w = (x.shape[2] - kw) // strides[1] + 1
    patches = [
        x[:, i : i + (out_h - 1) * strides[0] + 1 : strides[0], j : j + (out_w - 1) * strides[1] + 1 : strides[1]]
        for i in range(kh)
        for j in range(kw)
    ]
    patches = jnp.concatenate(patches, -1) if len(patches) > 1 else patches[0]
    out = patches.reshape(-1, kh * kw * cin) @ kernel.reshape(-1, cout)
    return out.reshape(x.shape[0], out_h, out_w, cout)


def conv_by_shifts(x, kernel, padding):
    """Convolution of stride 1 as one matrix product, the window's columns by its rows, and a sum over shifted rows."""
    kh, kw, cin, cout = kernel.shape
    x = jnp.pad(x, ((0, 0), (0, 0), padding[1], (0, 0)))
    batch, height, width = x.shape[0], x.shape[1], x.shape[2] - kw + 1
    columns = jnp.concatenate([x[:, :, j : j + width] for j in range(kw)], -1)
    rows = columns.reshape(-1, kw * cin) @ kernel.transpose(1, 2, 0, 3).reshape(kw * cin, kh * cout)
    rows = jnp.split(rows.reshape(batch, height, width, kh * cout), kh, -1)
    low, high = padding[0]
    zero, keep = jnp.zeros((), x.dtype), (0, 0, 0)
    return sum(lax.pad(row, zero, (keep, (low - i, high - kh + 1 + i, 0), keep, keep)) for i, row in enumerate(rows))


def _conv_by_products(x, kernel, strides, padding):
    if tuple(strides) == (1, 1):
        return conv_by_shifts(x, kernel, padding)
    return conv_by_matmul(x, kernel, strides, padding)


def _conv_in_parts(convolve, x, kernel):
    return jnp.concatenate([convolve(part, kernel) for part in jnp.split(x, PARTS)])


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _products_if_differentiated(x, kernel, convolve, by_products):
    """`convolve(x, kernel)`; where a gradient is asked for, value and gradients of `by_products`, the same function."""
    return convolve(x, kernel)


@functools.partial(_products_if_differentiated.defjvp, symbolic_zeros=True)
def _products_jvp(convolve, by_products, primals, tangents):
    (x, kernel), (dx, dkernel) = primals, tangents
    parts = [] if isinstance(dx, SymbolicZero) else [by_products(dx, kernel)]
    parts += [] if isinstance(dkernel, SymbolicZero) else [by_products(x, dkernel)]
    return by_products(x, kernel), sum(parts[1:], parts[0])


def conv_general(x, kernel, window_strides, padding, lhs_dilation=None, rhs_dilation=None, **kwargs):
    """`lax.conv_general_dilated`, but on CPU, for what XLA does slowly there, matrix products or parts of the batch.

    XLA's CPU convolution runs at 1 GFLOP/s on maps smaller than its kernel; a matrix product does not. Of few
    channels it makes one core's work: parts of the batch run side by side. Its gradients of 32 channels and more, and
    of a 7x7 stem of images, take up to 2.4 times the time of products; its value does not, so products are for
    training only. bfloat16 is computed in float32; the value and each gradient are rounded once.

    A NaN or inf reaches every number that one of its products enters, as by lax. Times a zero of padding it is NaN too,
    and here the two differ: at stride 1, products leave padded rows out of the value and of the kernel's gradient, but
    take the outer rows of x times zero into the latter; on small maps more or fewer may be NaN than by lax.
    """
    convolve = functools.partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        **kwargs,
    )
    undilated = all(d == 1 for d in (*(lhs_dilation or (1,)), *(rhs_dilation or (1,))))
    if not on_cpu() or not undilated or isinstance(padding, str):
        return convolve(x, kernel)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    return _conv_on_cpu(convolve, x.astype(dtype), kernel.astype(dtype), window_strides, padding).astype(x.dtype)


def _conv_on_cpu(convolve, x, kernel, strides, padding):
    pixels, (*window, cin, cout) = x.shape[1] * x.shape[2], kernel.shape
    if pixels <= 16 or window == [1, 1]:
        return conv_by_matmul(x, kernel, strides, padding)
    wide, stem = cout >= 32, cin == 3 and math.prod(window) >= 49
    if cin <= 64 and pixels >= 256 and x.shape[0] % PARTS == 0 and not (wide and stem):  # whose value uses all cores
        convolve = functools.partial(_conv_in_parts, convolve)
    if not (wide and (stem or cin >= 32)):
        return convolve(x, kernel)
    by_products = functools.partial(_conv_by_products, strides=strides, padding=padding)
    return _products_if_differentiated(x, kernel, convolve, by_products)


def conv(features, kernel=1, stride=1, *, init, dtype, name, pad: int | None = None, bias: float | None = None):
    """A square convolution, padded by (kernel - 1) / 2 or `pad` on every side; with a bias where `bias` starts it."""
    pad = (kernel - 1) // 2 if pad is None else pad
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=bias is not None,
        bias_init=nn.initializers.constant(bias or 0.0),
        dtype=dtype,
        kernel_init=init,
        conv_general_dilated=conv_general,
        name=name,
    )


def norm(train: bool, dtype, axis_name=None):
    """BatchNorm (eps 1e-5, running = 0.9 old + 0.1 new) as a partial that takes `name`.

    With `axis_name` the statistics are those of the whole batch over that axis.
    """
    return functools.partial(
        nn.BatchNorm,
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        axis_name=axis_name,
        use_fast_variance=False,
    )


def drop_branch(x, rate: float, train: bool):
    """Stochastic depth (Huang et al. 2016, arXiv 1603.09382): in training, leave out an example's residual branch.

    Called inside a compact module; needs a key named "dropout" where `rate` is above 0. What remains is divided by
    1 - rate.
    """
    return nn.Dropout(rate, broadcast_dims=(1, 2, 3), deterministic=not train)(x) if rate else x


def drop_rates(last: float, count: int) -> list[float]:
    """Rates of `count` residual branches, rising linearly to that of the last (section 3 of arXiv 1603.09382)."""
    return [last * (i + 1) / count for i in range(count)]


def max_pool(x, pad: tuple[tuple[int, int], tuple[int, int]], window: int = 3, stride: int = 2):
    """Max pooling over square windows; `pad` is (low, high) for the height and for the width. [B, H, W, C]."""
    if on_cpu():
        return _max_pool_indexed(x, pad, window, stride)
    return nn.max_pool(x, (window, window), (stride, stride), pad)


def caffe_max_pool(x):
    """3x3, stride 2, windows from 0, ceil mode: Caffe's pool; equals SAME for even sizes only (models of RAN)."""

    def high(size: int) -> int:
        out = max(1, math.ceil((size - 3) / 2) + 1)
        return max(0, (out - 1) * 2 + 3 - size)

    return max_pool(x, ((0, high(x.shape[1])), (0, high(x.shape[2]))))


def _views(x, fill, pad, window, stride):
    """The strided views of x, padded with `fill`, at every offset inside the window: a candidate of every maximum."""
    x = lax.pad(x, jnp.array(fill, x.dtype), ((0, 0, 0), (*pad[0], 0), (*pad[1], 0), (0, 0, 0)))
    stop = [(n - window) // stride * stride + 1 for n in x.shape[1:3]]
    for i in range(window):
        for j in range(window):
            yield x[:, i : i + stop[0] : stride, j : j + stop[1] : stride]


def _pooled_with_index(x, pad, window, stride):
    """The maxima, NaN where a window has one, and which view lax's gradient goes to: after a NaN it goes on looking."""
    best = chosen = index = None
    for k, view in enumerate(_views(x, -jnp.inf, pad, window, stride)):
        if best is None:
            best = chosen = view
            index = jnp.zeros(view.shape, jnp.uint8)
        else:
            keep = chosen >= view
            index = jnp.where(keep, index, jnp.uint8(k))
            chosen = jnp.where(keep, chosen, view)
            best = jnp.maximum(best, view)
    return best, index


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _max_pool_indexed(x, pad, window, stride):
    return _pooled_with_index(x, pad, window, stride)[0]


@_max_pool_indexed.defjvp
def _max_pool_jvp(pad, window, stride, primals, tangents):
    """Each output takes the tangent of the first maximum of its window, as in lax."""
    best, index = _pooled_with_index(*primals, pad, window, stride)
    views = enumerate(_views(*tangents, 0, pad, window, stride))
    return best, sum(jnp.where(index == k, view, 0) for k, view in views)


def local_response_norm(x, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
    """x * (k + alpha / size * sum of x^2 over the `size` nearest channels)^-beta, as in Caffe and PyTorch.

    Krizhevsky, Sutskever, Hinton 2012, section 3.3, but for the division of alpha. [B, H, W, C], float32 inside.
    """
    squares = jnp.square(x.astype(jnp.float32))
    sums = lax.reduce_window(
        squares, 0.0, lax.add, (1, 1, 1, size), (1, 1, 1, 1), ((0, 0),) * 3 + ((size // 2, size // 2),)
    )
    return x * ((k + alpha / size * sums) ** -beta).astype(x.dtype)


@functools.cache
def _align_corners_matrix(size: int, out: int) -> np.ndarray:
    """[out, size] weights of a linear resize that keeps both end values (Caffe's Interp)."""
    position = np.arange(out) * ((size - 1) / (out - 1) if out > 1 else 0.0)
    low = np.minimum(position.astype(int), size - 1)
    high = np.minimum(low + 1, size - 1)
    matrix = np.zeros((out, size), np.float32)
    np.add.at(matrix, (np.arange(out), low), 1 - (position - low))
    np.add.at(matrix, (np.arange(out), high), position - low)
    return matrix


def resize_align_corners(x, shape: tuple[int, int]):
    """Bilinear resize of [B, h, w, C] to [B, *shape, C] with corners aligned; a 1x1 map becomes constant.

    Computed in float32 and rounded once to the dtype of x.
    """
    dtype = x.dtype
    for axis, out in ((1, shape[0]), (2, shape[1])):
        if x.shape[axis] != out:
            matrix = _align_corners_matrix(x.shape[axis], out)
            x = jnp.moveaxis(jnp.tensordot(matrix, x, ((1,), (axis,)), precision=lax.Precision.HIGHEST), 0, axis)
    return x.astype(dtype)
