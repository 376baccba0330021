"""From images to probabilities to scores; one net or many on the same path. Pure functions."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax import data, metrics, models, parallel
from agegender_jax.structs import Batch, Probs


@functools.partial(jax.jit, static_argnums=0)
def predict(model: nn.Module, variables: Any, images: jax.Array, gender: jax.Array | None = None) -> Probs:
    """Softmax of both heads, running statistics in BatchNorm: uint8 RGB [B, H, W, 3] -> Probs.

    Controls (`models.CONTROLS`) are answered like any net; `predict_all` refuses them.

    Args:
      gender: int [B], labels; only for a net whose age head is fed the true gender.
    """
    oracle: dict[str, Any] = {} if gender is None else {"gender": gender}
    outputs: Any = model.apply(variables, data.normalize(images), train=False, **oracle)
    return Probs(jax.nn.softmax(outputs.age_logits), jax.nn.softmax(outputs.gender_logits))


def predict_all(
    model: nn.Module,
    variables: Any,
    batches: Iterable[Batch],
    *,
    devices: Sequence[jax.Device] | None = None,
    allow_control: bool = False,
) -> Probs:
    """`predict` over padded batches, padding dropped: numpy Probs, one row for each example.

    Args:
      batches: with several processes, each one's own rows; all get the rows of all, process by process.
      devices: share the rows of each batch evenly, their results equal to rounding; None for the default device.

    Raises:
      ValueError: the age head is fed one of `models.CONTROLS`, which know the label or mix up the examples, and
        `allow_control` does not say that this is known.
    """
    feed, rows = models.feed_of(model), []
    if feed in models.CONTROLS and not allow_control:
        raise ValueError(f"a net that is fed {feed!r} is a control and predicts nothing; allow_control=True scores it")
    spread = parallel.Spread(devices) if devices is not None and len(devices) > 1 else None
    variables = spread.replicate(variables) if spread else variables
    for batch in batches:
        image, gender, mask = batch.image, batch.gender if feed == "true" else None, batch.mask
        if spread:
            image, gender, mask = spread.split((image, gender, mask))
        found = predict(model, variables, image, gender), mask
        probs, mask = spread.gather(found) if spread else jax.tree.map(np.asarray, found)
        rows.append(jax.tree.map(lambda x, real=mask > 0: x[real], probs))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *rows)


def mean_probs(members: Sequence[Probs]) -> Probs:
    """The average of the members' probabilities, equally weighted (arXiv 2010.03791, section 3).

    Raises:
      ValueError: no members.
    """
    if not members:
        raise ValueError("mean_probs needs at least one member")
    return jax.tree.map(lambda *parts: sum(jnp.asarray(p) for p in parts) / len(parts), *members)


def calibrate(probs: Probs, age_temperature: float, gender_temperature: float) -> Probs:
    """p^(1/T), normalised, for each head: softmax(logits / T) of the logits behind the probabilities."""
    return Probs(
        jax.nn.softmax(jnp.log(probs.age) / age_temperature),
        jax.nn.softmax(jnp.log(probs.gender) / gender_temperature),
    )


def evaluate(members: Sequence[Probs], age: np.ndarray, gender: np.ndarray) -> dict[str, float | None]:
    """Scores of the averaged probabilities: age_accuracy, gender_accuracy, aabd (see `metrics.scores`).

    Args:
      members: Probs of the same N examples, one for each net; one member is an ensemble of one.
      age: int [N, 2], first and last bucket that count as right.
      gender: int [N].
    """
    probs = mean_probs(members)
    return metrics.scores(np.asarray(probs.age), np.asarray(probs.gender), age, gender)
