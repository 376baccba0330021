"""The state at step 0, the per-device training step, and the variables to evaluate. Pure functions."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from agegender_jax import losses, models, objective, tracing
from agegender_jax.data import augment
from agegender_jax.models import convolution, initializers
from agegender_jax.structs import Batch, Probs, TrainState

Path = tuple[str, ...]
SUMS = ("steps", "loss", "loss_age", "loss_gender", "age_accuracy", "gender_accuracy", "grad_norm")


def zero_sums() -> dict[str, jax.Array]:
    return {name: jnp.zeros((), jnp.float32) for name in SUMS}


def init_state(
    model: nn.Module, tx: optax.GradientTransformation, key: jax.Array, image_size: int, *, ema: bool = False
) -> TrainState:
    """Return the state at step 0 with parameters drawn from `key`.

    Args:
      ema: whether to keep a moving average of the parameters and statistics, which starts from them.
    """
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    variables = initializers.init(model, key, images)
    variables = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}  # {} without BatchNorm
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        **variables,
        opt_state=tx.init(variables["params"]),
        ema=jax.tree.map(jnp.copy, variables) if ema else None,
        sums=zero_sums(),
    )


def eval_variables(state: TrainState) -> dict[str, Any]:
    """Return {"params", "batch_stats"} to evaluate: the moving average if the run keeps one."""
    return {"params": state.params, "batch_stats": state.batch_stats} if state.ema is None else state.ema


@tracing.without_garbage_collection()
def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    key: jax.Array,
    prepare_images: Callable[[jax.Array, jax.Array], jax.Array],
    age_weight: float = 1.0,
    gender_weight: float = 1.0,
    label_smoothing: float = 0.0,
    age_loss: Callable[..., jax.Array] = losses.age_loss,
    mixup: float = 0.0,
    teacher: Callable[[jax.Array], Probs] | None = None,
    teacher_weight: float = 0.0,
    teacher_open_from: int | None = None,
    open_from: int | None = None,
    accumulate: int = 1,
    remat: bool = False,
    ema_decay: float = 0.0,
    skip_nonfinite: bool = False,
    frozen: Callable[[Path], bool] | None = None,
    axis: str = "data",
) -> TrainState:
    """Take one optimizer step on this device's part of the batch, averaged over `axis`.

    loss = age_weight * L_age + gender_weight * CE_gender, the mean over the whole batch. This loss of the main heads is
    logged. The minimised loss also includes those of auxiliary branches and the net's penalty, see `objective`.

    Args:
      model: an AgeGenderNet, or a module called like one. With `needs_labels` it receives labels and `state.step` too,
        and its `frozen_at(step)` names modules whose parameters and optimizer state must not change in that step.
      key: the run's key, from which the key of an example is derived by step and position in the global batch, and that
        of dropout by step and device.
      ema_decay: upper bound of the decay of the moving average, which starts as (1 + step) / (10 + step).
      prepare_images: (keys [B], uint8 [B, H, W, 3]) -> float32 [B, H, W, 3], augmented and normalised.
      age_loss: (age_logits, age, label_smoothing, years=age_years) -> L_age [B].
      mixup: alpha of mixup between neighbours, see `data.augment.mixup`; 0 for none. Needs an even number of examples
        on each device. The accuracies are those of the main labels.
      teacher: (float32 [B, H, W, 3], as the net sees them) -> Probs; the main heads learn from them with the weight
        `teacher_weight`, and from the labels with the rest, see `objective`. It sees the device's whole batch at once.
        None for labels only.
      teacher_open_from: see `losses.teacher_loss`.
      open_from: see `objective.loss_and_means`.
      accumulate: number of parts of the device's batch, which are computed one after another to save memory; their
        gradients are averaged. Examples (with mixup, pairs) are dealt to the parts in turn. BatchNorm uses the
        statistics of each part.
      remat: keep only the products and convolutions for the backward pass and recompute everything else, to save memory
        on a GPU. On CPU, XLA undoes this.
      frozen: returns whether the parameter at a path has no gradient, see `optim.frozen`. The backward pass stops at
        the lowest parameter that has one.
      skip_nonfinite: if any number of the new state is NaN or infinite, return the old state with the new step.
    """
    keys, dropout_key = _keys(key, state.step, batch.gender.shape[0], axis)
    images = prepare_images(keys, batch.image)
    images, share = augment.mixup(keys, images, mixup) if mixup else (images, None)
    teacher_probs = teacher(images) if teacher else None

    def apply(variables, images, age, gender, dropout_key):
        options = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": dropout_key}}
        return model.apply(variables, images, **options, **_label_arguments(model, age, gender, state.step))

    loss_and_means = functools.partial(
        objective.loss_and_means,
        age_loss=age_loss,
        label_smoothing=label_smoothing,
        age_weight=age_weight,
        gender_weight=gender_weight,
        teacher_weight=teacher_weight,
        teacher_open_from=teacher_open_from,
        open_from=open_from,
    )
    if remat:
        policies = jax.checkpoint_policies
        named = policies.save_only_these_names(convolution.NAME)
        apply = jax.checkpoint(apply, policy=policies.save_from_both_policies(_is_product, named))

    def loss_fn(params, batch_stats, examples, dropout_key):
        images, age, years, gender, share, teacher_probs = examples
        if frozen is not None:
            params = _stop_at_frozen(params, frozen)
        outputs, updated = apply({"params": params, "batch_stats": batch_stats}, images, age, gender, dropout_key)
        loss, seen = loss_and_means(outputs, (age, years, gender), share, teacher_probs)
        return loss, (updated.get("batch_stats", {}), seen)

    gradient = functools.partial(jax.grad(loss_fn, has_aux=True), state.params)
    examples = (images, batch.age, batch.age_years, batch.gender, share, teacher_probs)
    together = 2 if mixup else 1
    grads, batch_stats, seen = _accumulated(gradient, state.batch_stats, examples, dropout_key, accumulate, together)
    if lax.axis_size(axis) > 1:
        grads, seen = lax.pmean((grads, seen), axis)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if hasattr(model, "frozen_at"):
        before = state.params, state.opt_state
        params, opt_state = _with_frozen(before, (params, opt_state), model.frozen_at(state.step))
    ema = _moved_average(state, {"params": params, "batch_stats": batch_stats}, ema_decay)
    seen = seen | {"steps": 1.0, "grad_norm": optax.tree.norm(grads)}
    new = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema=ema,
        sums={name: state.sums[name] + jnp.asarray(seen[name], jnp.float32) for name in SUMS},
    )
    return _finite_or_old(new, state, axis) if skip_nonfinite else new


def _keys(key, step, size, axis):
    """Return the keys of this device's `size` examples, and the key of dropout in this step."""
    place = lax.axis_index(axis) * size + jnp.arange(size)
    step_key = jax.random.fold_in(key, step)
    dropout_key = jax.random.fold_in(step_key, -1 - lax.axis_index(axis))  # examples count from 0 up, devices down
    return jax.vmap(lambda i: jax.random.fold_in(step_key, i))(place), dropout_key


def _label_arguments(model, age, gender, step) -> dict[str, jax.Array]:
    """Return the labels that a net reads in training: the gender, all with the step's number, or none."""
    if models.feed_of(model) == "true":
        return {"gender": gender}
    return {"age": age[:, 0], "gender": gender, "step": step} if getattr(model, "needs_labels", False) else {}


def _stop_at_frozen(params, frozen):
    """Return the parameters, without a gradient where `frozen` is true of the path."""

    def stop(path, leaf):
        return lax.stop_gradient(leaf) if frozen(tuple(key.key for key in path)) else leaf

    return jax.tree_util.tree_map_with_path(stop, params)


def _moved_average(state, variables, upper):
    """Return the next moving average of the variables, if the run keeps one. Its decay is at most `upper`."""
    if state.ema is None:
        return None
    decay = jnp.minimum(upper, (1 + state.step) / (10 + state.step))
    return optax.incremental_update(variables, state.ema, 1 - decay)


def _with_frozen(before: Any, after: Any, frozen: dict[str, jax.Array]) -> Any:
    """Return `after` with the leaves of `before` below the names whose value in `frozen` is true."""

    def choose(path, old, new):
        names = {getattr(key, "key", None) for key in path}
        stop = [value for name, value in frozen.items() if name in names]
        return jnp.where(stop[0], old, new) if stop else new

    return jax.tree_util.tree_map_with_path(choose, before, after)


def _finite_or_old(new: TrainState, old: TrainState, axis: str) -> TrainState:
    """Return `new` if all its numbers are finite on every device, else `old` with the step of `new`."""
    numbers = [leaf for leaf in jax.tree.leaves(new) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in numbers]).all()
    if lax.axis_size(axis) > 1:
        finite = lax.pmin(finite.astype(jnp.int32), axis) == 1
    return jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, old.replace(step=new.step))


def _accumulated(gradient, batch_stats, examples, dropout_key, count, together):
    """Return the gradients and means averaged over `count` parts of the examples, and the last part's statistics.

    Args:
      together: number of neighbouring examples that stay in one part.
    """
    if count == 1:
        grads, (batch_stats, seen) = gradient(batch_stats, examples, dropout_key)
        return grads, batch_stats, seen
    # dealt out, so that an example's part, and its BatchNorm, does not depend on the number of devices
    parts = jax.tree.map(
        lambda x: x.reshape(-1, count, together, *x.shape[1:]).swapaxes(0, 1).reshape(count, -1, *x.shape[1:]), examples
    )

    def add(carry, part):
        batch_stats, total = carry
        examples, number = part
        grads, (batch_stats, seen) = gradient(batch_stats, examples, jax.random.fold_in(dropout_key, number))
        return (batch_stats, jax.tree.map(jnp.add, total, (grads, seen))), None

    grads, (_, seen) = jax.eval_shape(gradient, batch_stats, jax.tree.map(lambda x: x[0], parts), dropout_key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (grads, seen))
    (batch_stats, total), _ = lax.scan(add, (batch_stats, zeros), (parts, jnp.arange(count)))
    grads, seen = jax.tree.map(lambda x: x / count, total)
    return grads, batch_stats, seen


def _is_product(primitive, *_, **__) -> bool:
    return primitive in (lax.conv_general_dilated_p, lax.dot_general_p)
