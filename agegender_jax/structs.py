"""Data structures shared across packages. All are pytrees without callables.

Shape letters, used everywhere: B batch, H height, W width, C channels, A age buckets, G genders.
"""

from typing import Any

import flax.struct
import jax
import numpy as np


class Batch(flax.struct.PyTreeNode):
    """Images with their targets.

    Attributes:
      image: uint8 RGB [B, H, W, 3].
      age: int32 [B, 2], first and last age bucket that count as correct (equal, except for groups of ages).
      gender: int32 [B], 0 male, 1 female.
      mask: float32 [B], 1 for a real example, 0 for padding.
      age_years: int32 [B], -1 where only a group is known; None in batches for prediction.
    """

    image: Any  # a JAX or NumPy array, as are the others
    age: Any
    gender: Any
    mask: Any
    age_years: Any = None


class Outputs(flax.struct.PyTreeNode):
    """The outputs of a net.

    Attributes:
      age_logits: float32 [B, A].
      gender_logits: float32 [B, 2].
      attention: one soft mask [B, h, w, C] for each attention module, in (0, 1), or in [-1, 1] for channel attention;
        () if there are none.
      auxiliary: (age_logits, gender_logits) of each auxiliary branch; () at inference and for nets without branches.
      penalty: float32 scalar that training adds to the loss, for systems with further losses.
    """

    age_logits: jax.Array
    gender_logits: jax.Array
    attention: tuple[jax.Array, ...] = ()
    auxiliary: tuple[tuple[jax.Array, jax.Array], ...] = ()
    penalty: jax.Array | None = None


class Probs(flax.struct.PyTreeNode):
    """Softmax probabilities, float32: age [B, A], gender [B, 2]."""

    age: jax.Array | np.ndarray
    gender: jax.Array | np.ndarray


class TrainState(flax.struct.PyTreeNode):
    """The state that training needs to resume.

    Attributes:
      step: int32 scalar, the number of steps done.
      params, batch_stats: the model's collections.
      opt_state: the optimizer's state.
      ema: moving average of {"params", "batch_stats"}, or None.
      sums: float32 scalars summed over the steps since the last log line.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any
    sums: dict[str, jax.Array]
