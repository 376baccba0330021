"""Optimizer and learning-rate schedule from `config.optimizer`."""

import jax
import optax
from ml_collections import ConfigDict


def schedule(config: ConfigDict, num_steps: int) -> optax.Schedule:
    """Learning rate by step. Warm-up and decay are fractions of the run's steps.

    "constant" is the paper's rate; "cosine" rises linearly over `warmup` of the run and falls to `final` of the
    peak at its end.
    """
    warmup = round(config.warmup * num_steps)
    if config.schedule == "constant":
        return optax.constant_schedule(config.lr)
    return optax.warmup_cosine_decay_schedule(
        init_value=config.lr / (warmup + 1),
        peak_value=config.lr,
        warmup_steps=warmup,
        decay_steps=max(num_steps, warmup + 1),  # optax counts the warm-up in
        end_value=config.lr * config.final,
    )


def build(config: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    """Clipping by global norm, then Adam (decoupled weight decay on kernels only) or SGD with momentum."""
    rate = schedule(config, num_steps)
    parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    if config.name == "adam":
        parts.append(optax.scale_by_adam())
    elif config.momentum:
        parts.append(optax.trace(config.momentum))
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=_kernels))
    return optax.chain(*parts, optax.scale_by_learning_rate(rate))


def _kernels(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
