"""Checks that numbers are finite."""

from typing import Any

import jax
import numpy as np

from agegender_jax.errors import NotFiniteError

GO_ON = "in another --workdir if this one has checkpoints, which are good: --config.init_from starts from its best"


def is_finite(values: Any) -> bool:
    """Return whether no number in a pytree is NaN or infinite."""
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(values))


def finite(step: int, values: Any) -> None:
    """Raise NotFiniteError if a number in a pytree is NaN or infinite."""
    if not is_finite(values):
        raise NotFiniteError(
            f"the loss or a weight is not finite at or shortly before step {step}",
            "training",
            f"lower --config.optimizer.lr or set --config.optimizer.clip_norm=1; {GO_ON}",
        )
