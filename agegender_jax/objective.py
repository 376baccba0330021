"""What a training step minimises and logs. Pure functions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from agegender_jax import losses
from agegender_jax.data import augment
from agegender_jax.structs import Probs

AUXILIARY_WEIGHT = 0.3  # Szegedy et al. 2015, arXiv 1409.4842, section 5
Labels = tuple[jax.Array, jax.Array | None, jax.Array]  # int age [B, 2], age in years [B], gender [B]


def loss_and_means(
    outputs: Any,
    labels: Labels,
    share: jax.Array | None,
    teacher_probs: Probs | None = None,
    *,
    age_loss: Callable[..., jax.Array],
    label_smoothing: float,
    age_weight: float,
    gender_weight: float,
    teacher_weight: float = 0.0,
    teacher_open_from: int | None = None,
    open_from: int | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the loss to minimise, and the batch means to log: the losses and accuracies of the main heads.

    The minimised loss is that of the main heads, AUXILIARY_WEIGHT times the loss of each auxiliary branch, and
    `outputs.penalty`. With a teacher, the main heads minimise (1 - teacher_weight) times their loss and teacher_weight
    times that of `losses.teacher_loss`.

    Args:
      outputs: `Outputs`, or an object like one that may lack `auxiliary` and `penalty`.
      share: float32 [B], the weight of each image's own label in `data.augment.mixup`; None without mixup.
      teacher_probs: [B, A] and [B, G] for the images as the net sees them; None without a teacher.
      teacher_open_from: see `losses.teacher_loss`, for ages.
      open_from: first bucket of an open last group of ages, which is predicted as one, as in `metrics.scores`; or None.
      age_loss: (age_logits, age, label_smoothing, years=age_years) -> L_age [B].
    """

    def weighted(loss_age, loss_gender):
        return age_weight * loss_age + gender_weight * loss_gender

    def head_losses(*logits):
        return _mixup_losses(logits, labels, share, age_loss, label_smoothing)

    age, _, gender = labels
    loss_age, loss_gender = head_losses(outputs.age_logits, outputs.gender_logits)
    age_class, gender_class = _joined(outputs.age_logits, open_from).argmax(-1), outputs.gender_logits.argmax(-1)
    loss = weighted(loss_age, loss_gender)
    minimised = loss
    if teacher_probs is not None:
        teacher_loss = weighted(
            losses.teacher_loss(outputs.age_logits, teacher_probs.age, teacher_open_from).mean(),
            losses.teacher_loss(outputs.gender_logits, teacher_probs.gender).mean(),
        )
        minimised = (1 - teacher_weight) * loss + teacher_weight * teacher_loss
    auxiliary = sum(weighted(*head_losses(*logits)) for logits in getattr(outputs, "auxiliary", ()))
    means = {
        "loss": loss,
        "loss_age": loss_age,
        "loss_gender": loss_gender,
        "age_accuracy": ((age[:, 0] <= age_class) & (age_class <= age[:, 1])).mean(),
        "gender_accuracy": (gender_class == gender).mean(),
    }
    penalty = getattr(outputs, "penalty", None)
    return minimised + (AUXILIARY_WEIGHT * auxiliary + (0.0 if penalty is None else penalty)), means


def _joined(logits: jax.Array, open_from: int | None) -> jax.Array:
    """Return logits [B, open_from + 1] of the buckets and of the open group from `open_from` on; [B, A] for None."""
    if open_from is None:
        return logits
    group = jax.nn.logsumexp(logits[:, open_from:], axis=-1, keepdims=True)
    return jnp.concatenate([logits[:, :open_from], group], -1)


def _mixup_losses(logits, labels, share, age_loss, smoothing):
    """Return the mean losses of both heads. With mixup, the other image of a pair has the rest of the weight."""
    if share is None:
        return _mean_losses(logits, labels, 1.0, age_loss, smoothing)
    own = _mean_losses(logits, labels, share, age_loss, smoothing)
    swapped = jax.tree.map(augment.swap_neighbours, labels)
    other = _mean_losses(logits, swapped, 1 - share, age_loss, smoothing)
    return own[0] + other[0], own[1] + other[1]


def _mean_losses(logits, labels, weight, age_loss, smoothing):
    """Return the means over the batch of the weighted age loss and of the weighted gender loss."""
    age, years, gender = labels
    loss_age = age_loss(logits[0], age, smoothing, years=years)
    loss_gender = losses.gender_loss(logits[1], gender, smoothing)
    return (weight * loss_age).mean(), (weight * loss_gender).mean()
