"""Python's garbage collector and JAX's tracing."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Switch Python's cyclic garbage collector off, and on again afterwards.

    Tracing a net creates millions of objects, nearly all of which stay in use. The collector scans them repeatedly,
    which takes a fifth of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
