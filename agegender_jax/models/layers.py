"""Building blocks of all nets: convolution, BatchNorm, response normalisation, stochastic depth, and channel counts."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from agegender_jax import array_checks
from agegender_jax.models import convolution
from agegender_jax.models.batch_norm import BatchNorm

MIN_IMAGE_SIZE = 32


def scaled(channels: int, width: float) -> int:
    """Return the number of channels at a width multiplier: a multiple of 8, at least 8; unchanged at width 1."""
    return channels if width == 1 else max(8, 8 * round(channels * width / 8))


def check_images(images: jax.Array, kind: str = "float") -> None:
    """Raise ValueError unless images are [B, H, W, 3] with H and W of at least 32.

    Args:
      kind: "float" for normalized images (see `data.normalize`), or "uint8".
    """
    array_checks.check(images=(images, f"{kind} B H W 3"))
    if min(images.shape[1:3]) < MIN_IMAGE_SIZE:
        raise ValueError(f"images must be [B, H, W, 3] with H, W >= {MIN_IMAGE_SIZE}, got {images.shape}")


def conv(
    features, kernel=1, stride=1, *, init, dtype, name, pad: int | None = None, bias: float | None = None, groups=1
):
    """Return a square nn.Conv, padded by (kernel - 1) / 2 or `pad` on every side.

    It has a bias, initialised to `bias`, only if that is not None.
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
        conv_general_dilated=convolution.conv_general,
        name=name,
    )


def norm(train: bool, dtype, axis_name=None):
    """Return BatchNorm (eps 1e-5, running = 0.9 old + 0.1 new) as a partial that takes `name`.

    With `axis_name` the statistics are those of the whole batch over that axis.
    """
    return functools.partial(
        BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, axis_name=axis_name
    )


def drop_branch(x, rate: float, train: bool):
    """Drop residual branches of single examples in training: stochastic depth (Huang et al. 2016, arXiv 1603.09382).

    Call this inside a compact module; it needs a key named "dropout" if `rate` is above 0. The remaining branches are
    divided by 1 - rate.
    """
    return nn.Dropout(rate, broadcast_dims=(1, 2, 3), deterministic=not train)(x) if rate else x


def drop_rates(last: float, count: int) -> list[float]:
    """Return the rates of residual branches, rising linearly to that of the last (arXiv 1603.09382, section 3)."""
    return [last * (i + 1) / count for i in range(count)]


def local_response_norm(x, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
    """Return x * (k + alpha / size * sum of x^2 over the `size` nearest channels)^-beta, as in Caffe and PyTorch.

    As in Krizhevsky, Sutskever, Hinton 2012, section 3.3, except that alpha is divided by `size`. The sum is in
    float32.
    """
    squares = jnp.square(x.astype(jnp.float32))
    sums = lax.reduce_window(
        squares, 0.0, lax.add, (1, 1, 1, size), (1, 1, 1, 1), ((0, 0),) * 3 + ((size // 2, size // 2),)
    )
    return x * ((k + alpha / size * sums) ** -beta).astype(x.dtype)
