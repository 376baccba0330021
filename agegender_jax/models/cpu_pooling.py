"""Max pooling for CPUs, where XLA's own is slow; `pooling` takes it there only.

It has the results of `lax`, NaN included. The sizes at which it pays are measured: `python -m benchmarks.layers`.
"""

import jax.numpy as jnp
from jax import lax


def max_pool(x, pad, window, stride):
    """Return the maxima [B, h, w, C] of square windows of x [B, H, W, C], NaN where a window has one."""
    return _pooled_with_index(x, pad, window, stride)[0]


def max_pool_tangent(x, tangent, pad, window, stride):
    """Return for each window the tangent of its first maximum, as lax does. Linear in `tangent`."""
    index = _pooled_with_index(x, pad, window, stride)[1]
    return sum(jnp.where(index == k, view, 0) for k, view in enumerate(_views(tangent, 0, pad, window, stride)))


def _pooled_with_index(x, pad, window, stride):
    """Return the maxima and which view each came from; after a NaN the search for it starts again, as in lax."""
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


def _views(x, fill, pad, window, stride):
    """Yield x, padded with `fill`, strided and shifted to every offset in the window."""
    x = lax.pad(x, jnp.array(fill, x.dtype), ((0, 0, 0), (*pad[0], 0), (*pad[1], 0), (0, 0, 0)))
    stop = [(n - window) // stride * stride + 1 for n in x.shape[1:3]]
    for i in range(window):
        for j in range(window):
            yield x[:, i : i + stop[0] : stride, j : j + stop[1] : stride]
