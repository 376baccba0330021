"""Checkpoints: Orbax behind a few functions, and a manifest of our own that tells damage."""

from agegender_jax.checkpoint.reading import check_match, load_variables
from agegender_jax.checkpoint.saving import Checkpoints

__all__ = ["Checkpoints", "check_match", "load_variables"]
