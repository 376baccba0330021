"""Deterministic kernels on GPUs. This module does not import jax, whose backend reads the setting when it starts."""

import os

FLAG = "--xla_gpu_deterministic_ops"
CACHES = "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"


def request() -> None:
    """Ask XLA for kernels whose sums have a fixed order, by an environment variable that child processes inherit.

    Without it, the gradients of pooling and some convolutions on GPUs add in any order, and XLA chooses its kernels by
    timing them. On CPUs the setting changes nothing. XLA's cache of chosen kernels is turned off, because it contains
    what other runs have timed. jax must not have been imported yet, since it reads that setting when it is imported.
    """
    os.environ.setdefault(CACHES, "none")
    if FLAG not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}=true".strip()


def is_requested() -> bool:
    """Return whether the environment asks for deterministic kernels."""
    words = os.environ.get("XLA_FLAGS", "").split()
    return any(word in (FLAG, f"{FLAG}=true", f"{FLAG}=1") for word in words)
