"""The settings of a run: their defaults, their allowed values, variants, and what may change on resumption."""

from ml_collections import ConfigDict

from agegender_jax.config.allowed_values import CHOICES, RANGES, outside, validate
from agegender_jax.config.defaults import default, fields_help, flat, to_dict
from agegender_jax.config.resuming import resume_difference
from agegender_jax.config.variants import apply_variants, paper

__all__ = [
    "CHOICES",
    "RANGES",
    "ConfigDict",
    "apply_variants",
    "default",
    "fields_help",
    "flat",
    "outside",
    "paper",
    "resume_difference",
    "to_dict",
    "validate",
]
