"""Choose between two versions of an operation when a program is lowered."""

import functools

import jax
from jax import lax


@functools.cache
def by_platform(on_cpu, elsewhere, *static):
    """Return a function of arrays that is `on_cpu` in programs lowered for CPU, and `elsewhere` in all others.

    It is jitted so that layers of the same shape are traced and differentiated only once.
    """

    @jax.jit
    def chosen(*arrays):
        return lax.platform_dependent(
            *arrays, cpu=lambda *arrays: on_cpu(*arrays, *static), default=lambda *arrays: elsewhere(*arrays, *static)
        )

    return chosen
