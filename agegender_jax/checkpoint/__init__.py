"""Checkpoints: a thin layer over Orbax, manifests that reveal damage, and weights to start from."""

from agegender_jax.checkpoint import initial_weights
from agegender_jax.checkpoint.manifest import digest
from agegender_jax.checkpoint.reading import check_match, load_variables
from agegender_jax.checkpoint.saving import Checkpoints

__all__ = ["Checkpoints", "check_match", "digest", "initial_weights", "load_variables"]
