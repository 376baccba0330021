"""Predict probabilities, average them over nets, calibrate and score them, with pure functions."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax import array_checks, data, metrics, models, parallel
from agegender_jax.data.views import views as image_views
from agegender_jax.metrics import calibration
from agegender_jax.structs import Batch, Probs


def predict(model: nn.Module, variables: Any, images: jax.Array, gender: jax.Array | None = None) -> Probs:
    """Return the softmax of both heads, using BatchNorm's running statistics; compiled once per shape.

    Controls (`models.CONTROLS`) are computed like any other net; `predict_all` refuses them.

    Args:
      images: uint8 RGB [B, H, W, 3].
      gender: int [B], labels; only for a net whose age head receives the true gender.

    Raises:
      ValueError: the images (for example floats in [0, 1]) or genders have the wrong dtype or shape.
    """
    array_checks.check(images=(images, "uint8 B H W 3"))
    return predict_float(model, variables, images, gender)


@functools.partial(jax.jit, static_argnums=0)
def predict_float(model: nn.Module, variables: Any, images: jax.Array, gender: jax.Array | None = None) -> Probs:
    """Return what `predict` returns, for pixels computed as floats: [B, H, W, 3] in [0, 255], which is not checked.

    Raises:
      ValueError: `gender` is given for a net whose age head does not use it, or has the wrong shape.
    """
    labels: dict[str, Any] = {}
    if gender is not None:
        array_checks.check(images=(images, "number B H W 3"), gender=(gender, "int B"))
        labels = {"gender": gender}
    outputs: Any = model.apply(variables, data.normalize_float(images), train=False, **labels)
    return Probs(jax.nn.softmax(outputs.age_logits), jax.nn.softmax(outputs.gender_logits))


def predict_all(
    model: nn.Module,
    variables: Any,
    batches: Iterable[Batch],
    *,
    devices: Sequence[jax.Device] | None = None,
    allow_control: bool = False,
    views: str = "none",
) -> Probs:
    """Return `predict` for padded batches, without the padding: numpy Probs, one row per example.

    Args:
      batches: in each of several processes, its own rows; every process returns all rows, in the order of the
        processes.
      devices: devices among which the rows of each batch are divided evenly; None for the default device. The results
        are equal up to rounding.
      views: views of each image to average over, see `data.views`.

    Raises:
      ValueError: there is no batch, its arrays do not fit together, or the net is one of `models.CONTROLS`, which use
        the label or another example's prediction, and `allow_control` is False.
    """
    feed, rows = models.feed_of(model), []
    if feed in models.CONTROLS and not allow_control:
        raise ValueError(f"a net that is fed {feed!r} is a control and predicts nothing; allow_control=True scores it")
    spread = parallel.Spread(devices) if devices is not None and len(devices) > 1 else None
    variables = spread.replicate(variables) if spread else variables
    for batch in batches:
        image, gender, mask = batch.image, batch.gender if feed == "true" else None, batch.mask
        array_checks.check(**{"batch.image": (image, "uint8 B H W 3"), "batch.mask": (mask, "number B")})
        if spread:
            image, gender, mask = spread.split((image, gender, mask))
        outputs = mean_of_views([predict(model, variables, view, gender) for view in image_views(image, views)]), mask
        probs, mask = spread.gather(outputs) if spread else jax.tree.map(np.asarray, outputs)
        rows.append(jax.tree.map(lambda x, real=mask > 0: x[real], probs))
    if not rows:
        raise ValueError("batches must hold at least one batch")
    return jax.tree.map(lambda *parts: np.concatenate(parts), *rows)


def mean_of_views(parts: Sequence[Probs]) -> Probs:
    """Return the average of a net's probabilities over views of the same images; one view is returned unchanged."""
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *arrays: sum(arrays) / len(arrays), *parts)


def mean_probs(members: Sequence[Probs]) -> Probs:
    """Return the average of the members' probabilities, equally weighted (arXiv 2010.03791, section 3).

    Args:
      members: age [B, A] and gender [B, G], with the same sizes in each member.

    Raises:
      ValueError: there are no members, or the named one differs from the first in rows or classes.
    """
    if not members:
        raise ValueError("mean_probs needs at least one member")
    for i, member in enumerate(members):
        first = {"members[0].age": (members[0].age, "float B A"), "members[0].gender": (members[0].gender, "float B G")}
        own = {f"members[{i}].age": (member.age, "float B A"), f"members[{i}].gender": (member.gender, "float B G")}
        array_checks.check(**(first | own))
    return jax.tree.map(lambda *parts: sum(jnp.asarray(p) for p in parts) / len(parts), *members)


def calibrate(probs: Probs, age_temperature: float, gender_temperature: float) -> Probs:
    """Return p^(1/T), normalised, for each head: softmax(logits / T) of the logits behind the probabilities.

    Args:
      probs: age [B, A] and gender [B, G].
      age_temperature, gender_temperature: scalars above 0.

    Raises:
      ValueError: the shapes do not fit, or a temperature is not above 0.
    """
    array_checks.check(**{"probs.age": (probs.age, "float B A"), "probs.gender": (probs.gender, "float B G")})
    for name, value in (("age_temperature", age_temperature), ("gender_temperature", gender_temperature)):
        array_checks.check(**{name: (value, "number")})
        if not isinstance(value, jax.core.Tracer) and not 0 < value < np.inf:
            raise ValueError(f"{name} must be above 0 and finite, got {value}")
    age, gender = (jnp.log(jnp.maximum(head, calibration.LEAST)) for head in (probs.age, probs.gender))
    return Probs(jax.nn.softmax(age / age_temperature), jax.nn.softmax(gender / gender_temperature))


def evaluate(members: Sequence[Probs], age: np.ndarray, gender: np.ndarray) -> dict[str, float | None]:
    """Return the scores of the averaged probabilities: age_accuracy, gender_accuracy, aabd (see `metrics.scores`).

    Args:
      members: Probs of the same N examples, one per net; one member is an ensemble of one.
      age: int [N, 2], first and last bucket that count as correct.
      gender: int [N].

    Raises:
      ValueError: as `mean_probs` and `metrics.outcomes`.
    """
    probs = mean_probs(members)
    return metrics.scores(np.asarray(probs.age), np.asarray(probs.gender), age, gender)
