"""A GPU that this program shares with another; no jax here, for it must come first."""

from collections.abc import MutableMapping


def prepare(environment: MutableMapping[str, str]) -> None:
    """Lets JAX take a GPU's memory as it needs it, up to nearly all of it; what is set stands."""
    environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if not environment.get("XLA_PYTHON_CLIENT_MEM_FRACTION"):  # the old name: jaxlib refuses both
        environment.setdefault("XLA_CLIENT_MEM_FRACTION", "0.95")
