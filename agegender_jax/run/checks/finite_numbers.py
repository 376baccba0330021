"""Checks that numbers are finite."""

from typing import Any

import jax
import numpy as np

from agegender_jax.errors import NotFiniteError


def is_finite(values: Any) -> bool:
    """Return whether no number in a pytree is NaN or infinite."""
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(values))


def finite(step: int, values: Any) -> None:
    """Raise NotFiniteError if a number in a pytree is NaN or infinite."""
    if not is_finite(values):
        raise NotFiniteError(
            f"the loss or a weight is not finite at or shortly before step {step}",
            "training",
            "lower --config.optimizer.lr or set --config.optimizer.clip_norm=1; the checkpoints before are good",
        )
