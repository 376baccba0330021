"""Batch normalisation with one collective in each direction, forward and backward (Ioffe and Szegedy 2015)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

AXES = (0, 1, 2)  # of the statistics, in [B, H, W, C]


class BatchNorm(nn.BatchNorm):
    """y = (x - mean) / sqrt(var + epsilon) * scale + bias, for each channel of x [B, H, W, C].

    Training uses the mean and the biased variance of the batch, inference the running averages of both. Statistics are
    float32 and computed in two passes, so that the variance of a channel stays accurate if its mean is far from 0. With
    `axis_name` they are those of all devices, combined as in Chan, Golub and LeVeque 1983 from one all_gather of a mean
    and a variance per channel; the backward pass makes one psum. On an axis of one device there is no collective.

    Gradients do not flow through the running averages, and the training pass has no forward mode. Parameters and
    statistics have the same names as in nn.BatchNorm.
    """

    @nn.compact
    def __call__(self, x):
        channels = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = self.param("scale", self.scale_init, channels, self.param_dtype)
        bias = self.param("bias", self.bias_init, channels, self.param_dtype)
        x = x.astype(np.promote_types(x.dtype, np.float32))
        if self.use_running_average or self.is_initializing():
            y = (x - _wide(mean.value)) * _wide(lax.rsqrt(var.value + self.epsilon) * scale) + _wide(bias)
            return y.astype(self.dtype)
        axis_name = self.axis_name if self.axis_name and lax.axis_size(self.axis_name) > 1 else None
        y, *batch_statistics = normalise(x, scale, bias, self.epsilon, axis_name)
        for running, value in zip((mean, var), batch_statistics, strict=True):
            running.value = self.momentum * running.value + (1 - self.momentum) * value
        return y.astype(self.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalise(x, scale, bias, epsilon, axis_name):
    """Return x normalised by its own statistics, and their mean and biased variance, both [C].

    Args:
      x: [B, H, W, C], float32 or float64.
      axis_name: the mapped axis whose devices' statistics are combined, or None.
    """
    return _forward(x, scale, bias, epsilon, axis_name)[0]


@functools.partial(jax.jit, static_argnums=(3, 4))  # so that a net's many layers of one shape are traced once
def _forward(x, scale, bias, epsilon, axis_name):
    mean, var = _statistics(x, axis_name)
    centred, rstd = x - _wide(mean), lax.rsqrt(var + epsilon)
    return (centred * _wide(rstd * scale) + _wide(bias), mean, var), (centred, rstd, scale)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _backward(epsilon, axis_name, residuals, cotangents):
    """Return the gradients of x, scale and bias; cotangents of the statistics are ignored."""
    centred, rstd, scale = residuals
    dy = cotangents[0]
    sums = jnp.stack([dy.sum(AXES), (dy * centred).sum(AXES)])
    total = sums if axis_name is None else lax.psum(sums, axis_name)
    count = centred.size // centred.shape[-1] * (1 if axis_name is None else lax.axis_size(axis_name))
    through_mean, through_variance = _wide(total[0] / count), _wide(total[1] * jnp.square(rstd) / count)
    dx = _wide(rstd * scale) * (dy - through_mean - centred * through_variance)
    return dx, (sums[1] * rstd).astype(scale.dtype), sums[0].astype(scale.dtype)


normalise.defvjp(_forward, _backward)


def _wide(values):
    """Return [C] as [1, 1, 1, C], since jax may be set to refuse operands of different ranks."""
    return values[None, None, None]


def _statistics(x, axis_name):
    mean = x.mean(AXES)
    var = jnp.square(x - _wide(mean)).mean(AXES)
    if axis_name is None:
        return mean, var
    means, variances = jnp.moveaxis(lax.all_gather(jnp.stack([mean, var]), axis_name), 0, 1)
    mean = means.mean(0)
    return mean, (variances + jnp.square(means - mean[None])).mean(0)
