"""Borders that repeat the outermost pixels."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def repeat_edges(x: jax.Array, widths: Sequence[tuple[int, int]]) -> jax.Array:
    """Return `jnp.pad(x, ((0, 0), *widths, (0, 0), ...), mode="edge")`: the widths are of axis 1 and the next ones.

    It adds no parts of width 0, which jax2onnx cannot convert.
    """
    for axis, (before, after) in enumerate(widths, 1):
        first, last = jax.lax.slice_in_dim(x, 0, 1, axis=axis), jax.lax.slice_in_dim(x, -1, None, axis=axis)
        parts = [jnp.repeat(first, before, axis)] if before else []
        parts += [x, *([jnp.repeat(last, after, axis)] if after else [])]
        x = jnp.concatenate(parts, axis)
    return x
