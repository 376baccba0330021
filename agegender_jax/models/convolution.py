"""Convolutions of maps [batch, height, width, channels]; on CPU, those in `cpu_convolution`."""

import functools

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero

from agegender_jax.models import cpu_convolution
from agegender_jax.models.cpu_convolution import DIMENSIONS
from agegender_jax.models.platforms import by_platform

NAME = "convolution"  # of the results: policies of `jax.checkpoint` do not see inside the choice of the platform


def conv_general(x, kernel, window_strides, padding, dimension_numbers=None, **options):
    """Return what `lax.conv_general_dilated` returns: a drop-in for nn.Conv, with the CPU's kernels where they apply.

    These apply to [B, H, W, C] maps with explicit padding and all other options at their defaults. Everything else is
    left to lax.
    """
    usual = {"lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1, "batch_group_count": 1}
    plain = all(value is None or value == usual.get(name) for name, value in options.items())
    if not plain or isinstance(padding, str) or not _is_nhwc(x.shape, kernel.shape, dimension_numbers):
        return lax.conv_general_dilated(
            x, kernel, window_strides, padding, dimension_numbers=dimension_numbers, **options
        )
    return checkpoint_name(_conv(x, kernel, tuple(window_strides), tuple(map(tuple, padding))), NAME)


def _is_nhwc(x_shape, kernel_shape, dimension_numbers) -> bool:
    numbers = functools.partial(lax.conv_dimension_numbers, x_shape, kernel_shape)
    return len(x_shape) == 4 and numbers(dimension_numbers) == numbers(DIMENSIONS)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _conv(x, kernel, strides, padding):
    return by_platform(cpu_convolution.conv, _lax_conv, strides, padding)(x, kernel)


@functools.partial(_conv.defjvp, symbolic_zeros=True)
def _conv_jvp(strides, padding, primals, tangents):
    (x, kernel), (dx, dkernel), parts = primals, tangents, []
    if not isinstance(dx, SymbolicZero):
        parts.append(by_platform(cpu_convolution.conv_of_tangent, _lax_conv, strides, padding)(dx, kernel))
    if not isinstance(dkernel, SymbolicZero):
        parts.append(by_platform(cpu_convolution.conv_with_tangent, _lax_conv, strides, padding)(x, dkernel))
    return _conv(x, kernel, strides, padding), sum(parts[1:], parts[0])


def _lax_conv(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)
