"""Python's garbage collector and JAX's tracing."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Switch the collector of reference cycles off, and on again after.

    Tracing a net makes millions of objects, nearly all of which stay in use. The collector searches all of them
    repeatedly, which takes a fifth of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
