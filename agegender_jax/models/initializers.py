"""Initial values, drawn without compiling the net.

XLA compiles a draw from a normal distribution again for every shape and array, which takes most of the time of
`jax.jit(net.init)`. `init` uses one program to find the key of each array and another to draw all arrays in blocks of
one size.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import Initializer
from jax import lax
from jax.extend.random import threefry_2x32
from jax.interpreters.partial_eval import dce_jaxpr

from agegender_jax import tracing

BLOCK = 2**15


class Draw(NamedTuple):
    """A normal array to be drawn later: its key, its standard deviation, and zeros in its place."""

    key: jax.Array
    deviation: np.float32
    zeros: jax.Array


_postponed: contextvars.ContextVar[list[Draw] | None] = contextvars.ContextVar("postponed", default=None)


def normal(deviation: float) -> Initializer:
    """Return an initializer that draws from a normal distribution with mean 0."""
    return _normal(lambda shape: deviation)


def scaled_normal(fan: str) -> Initializer:
    """Return the initializer of He et al. 2015, arXiv 1502.01852: normal with variance 2 / fan.

    Args:
      fan: "in" for the inputs of a unit, "out" for the outputs of an input.
    """

    def deviation(shape):
        return math.sqrt(2 / (math.prod(shape[:-1]) if fan == "in" else math.prod(shape[:-2]) * shape[-1]))

    return _normal(deviation)


def _normal(deviation_of) -> Initializer:
    def init(key, shape, dtype=jnp.float32):
        deviation, draws = np.float32(deviation_of(shape)), _postponed.get()
        if draws is None or dtype != jnp.float32:
            return jax.random.normal(key, shape, dtype) * deviation.astype(dtype)
        draws.append(Draw(key, deviation, jnp.zeros(shape, dtype)))
        return draws[-1].zeros

    return init


@contextlib.contextmanager
def _postpone() -> Iterator[list[Draw]]:
    draws: list[Draw] = []
    token = _postponed.set(draws)
    try:
        yield draws
    finally:
        _postponed.reset(token)


@tracing.without_garbage_collection()
def init(net: nn.Module, key: jax.Array, images: jax.ShapeDtypeStruct) -> Any:
    """Return the variables of `net.init(key, images, train=False)` up to rounding, compiled in a fraction of the time.

    Inside a transformation, or with a generator other than JAX's default, this is `net.init` itself.
    """
    zeros = functools.partial(jnp.zeros, images.shape, images.dtype)
    is_partitionable = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined]
    is_default = is_partitionable and str(jax.random.key_impl(key)) == "threefry2x32"
    is_traced = isinstance(jnp.zeros(()), jax.core.Tracer)  # the key may be a constant there
    if is_traced or not is_default:
        return net.init(key, zeros(), train=False)
    deviations: dict[int, tuple[np.float32, tuple[int, ...]]] = {}

    def others(key):
        with _postpone() as draws:
            leaves, tree = jax.tree.flatten(net.init(key, zeros(), train=False))
        index = {id(leaf): i for i, leaf in enumerate(leaves)}
        for draw in draws:
            deviations[index[id(draw.zeros)]] = draw.deviation, draw.zeros.shape
        keys = jnp.stack([jax.random.key_data(draw.key) for draw in draws]) if draws else ()
        return jax.tree.unflatten(tree, [None if i in deviations else leaf for i, leaf in enumerate(leaves)]), keys

    rest, keys = _evaluate_needed(others, key)
    leaves, tree = jax.tree.flatten(rest, is_leaf=lambda leaf: leaf is None)
    for key_data, (i, (deviation, shape)) in zip(np.asarray(keys), deviations.items(), strict=True):
        leaves[i] = _standard_normal(key_data, shape) * deviation
    return jax.tree.map(jnp.asarray, jax.tree.unflatten(tree, leaves))


def _evaluate_needed(f: Callable, *args: Any) -> Any:
    """Return f(*args), evaluated operation by operation, without those that no result needs: the net's own."""
    traced, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
    needed, used = dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
    flat = [x for x, is_used in zip(jax.tree.leaves(args), used, strict=True) if is_used]
    return jax.tree.unflatten(jax.tree.structure(shapes), jax.core.eval_jaxpr(needed, traced.consts, *flat))


def _standard_normal(key_data: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    """Return what `jax.random.normal` returns for this key, up to rounding.

    The bits of entry i are a hash of the key and of i (`jax_threefry_partitionable`), so blocks are independent.
    """
    count = math.prod(shape)
    blocks = [_block(key_data, np.uint32(start)) for start in range(0, count, BLOCK)]
    return np.concatenate([np.asarray(block) for block in blocks])[:count].reshape(shape)


@jax.jit
def _block(key_data, start):
    """Return BLOCK standard normal numbers of a key, from index `start` on."""
    index = start + jnp.arange(BLOCK, dtype=jnp.uint32)
    high, low = jnp.split(threefry_2x32(key_data, jnp.concatenate([jnp.zeros_like(index), index])), 2)
    mantissa = ((high ^ low) >> 9) | jnp.uint32(0x3F800000)  # a float in [1, 2)
    least = np.nextafter(np.float32(-1), np.float32(0))
    uniform = (lax.bitcast_convert_type(mantissa, jnp.float32) - 1) * (1 - least) + least
    return np.float32(math.sqrt(2)) * lax.erf_inv(jnp.maximum(least, uniform))
