"""Settings for a GPU that is shared with another process; must run before jax is imported."""

from collections.abc import MutableMapping


def prepare(environment: MutableMapping[str, str]) -> None:
    """Let JAX allocate GPU memory on demand, up to 95 %, unless the environment says otherwise."""
    environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if not environment.get("XLA_PYTHON_CLIENT_MEM_FRACTION"):  # the old name: jaxlib refuses both
        environment.setdefault("XLA_CLIENT_MEM_FRACTION", "0.95")
