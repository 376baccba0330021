"""Optimizer and learning-rate schedule from `config.optimizer`."""

import fnmatch
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from agegender_jax.errors import ConfigError
from agegender_jax.suggestions import nearest_field

HEADS = 5  # the group of both heads, see `layer_group`


def schedule(config: ConfigDict, num_steps: int) -> optax.Schedule:
    """Return the learning rate by step. Warm-up and decay are fractions of the run's steps.

    "constant" is the paper's schedule; "cosine" rises linearly over the fraction `warmup` of the run and falls to the
    fraction `final` of the peak at its end.
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
    """Return clipping by global norm, then Adam (decoupled weight decay on kernels only) or SGD with momentum.

    With `layer_decay` d below 1, the rate of layer group g is that of the heads times d^(HEADS - g). The parameters of
    the first `freeze` groups do not change, but their BatchNorm statistics do. `rates` multiplies the updates of the
    parameters that match a pattern.
    """
    rate = schedule(config, num_steps)
    factors = [config.layer_decay ** (HEADS - g) if g >= config.freeze else 0.0 for g in range(HEADS + 1)]
    parts = [_by_group([float(g >= config.freeze) for g in range(HEADS + 1)])] if config.freeze else []
    parts += [clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    if config.name == "adam":
        parts.append(_scale_by_adam())
    elif config.momentum:
        parts.append(optax.trace(config.momentum))
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=_kernels))
    parts.append(optax.scale_by_learning_rate(rate))
    if set(factors) != {1.0}:
        parts.append(_by_group(factors))
    if config.get("rates", ""):  # runs of version 0.1 have no such field
        parts.append(_by_pattern(rates(config.rates)))
    return _with_standard_promotion(optax.chain(*parts))


def _with_standard_promotion(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return a transformation that works with JAX_NUMPY_DTYPE_PROMOTION=strict, too, unlike optax's own."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return tx.update(updates, state, params)

    return optax.GradientTransformation(tx.init, update)


def _scale_by_adam() -> optax.GradientTransformation:
    """Return `optax.scale_by_adam` with an initial state made by NumPy; JAX would compile zeros for every shape."""
    adam = optax.scale_by_adam()

    def init(params: Any) -> Any:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params)):
            return adam.init(params)
        zeros = jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), jax.eval_shape(adam.init, params))
        return jax.device_put(zeros)

    return optax.GradientTransformation(init, adam.update)


def rates(text: str) -> dict[str, float]:
    """Return the factor of each pattern of `optimizer.rates`, such as "*_head/bias:20,backbone/conv1/*:0".

    Raises:
      ConfigError: a part is not PATTERN:FACTOR with a factor of at least 0.
    """
    factors = {}
    for part in filter(None, text.split(",")):
        pattern, _, factor = part.rpartition(":")
        try:
            factors[pattern] = float(factor)
            if not pattern or not 0 <= factors[pattern] < math.inf:
                raise ValueError
        except ValueError:
            example = "PATTERN:FACTOR, for example *_head/kernel:10"
            raise ConfigError(f"optimizer.rates has {part!r}", "--config.optimizer.rates", example) from None
    return factors


def _by_pattern(factors: dict[str, float]) -> optax.GradientTransformation:
    """Multiply each parameter's update by the factor of the last pattern that its path matches."""

    def factor(path: Any) -> float:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return next((f for p, f in reversed(factors.items()) if fnmatch.fnmatchcase(name, p)), 1.0)

    def init(params: Any) -> Any:
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
        for pattern in factors:
            if not fnmatch.filter(names, pattern):
                fix = nearest_field(pattern, names).replace("see --help for all fields", "names are in docs/models.md")
                raise ConfigError(f"no parameter matches {pattern!r}", "--config.optimizer.rates", fix)
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, x: x * factor(path), updates), state

    return optax.GradientTransformation(init, update)


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Return `optax.clip_by_global_norm` up to rounding, as one factor for all gradients.

    optax divides each gradient by the norm, which XLA computes and stores before the update.
    """

    def update(grads: Any, params: Any = None) -> Any:
        factor = limit / jnp.maximum(optax.tree.norm(grads), limit)
        return jax.tree.map(lambda grad: grad * factor.astype(grad.dtype), grads)

    return optax.stateless(update)


def layer_group(path: tuple[str, ...]) -> int:
    """Return the depth of a parameter by its path: 0 for the stem, 1 to 4 for the stages, HEADS for the heads."""
    if path[0] != "backbone":
        return HEADS
    if stage := re.match(r"(?:layer|stage)(\d)", path[1]):
        return int(stage[1])
    if path[1].startswith("auxiliary"):
        return HEADS
    if path[1].startswith(("final", "fc")):  # the last stage of a RAN, the dense layers of Caffe's nets
        return HEADS - 1
    if module := re.match(r"inception_(\d)", path[1]):
        return int(module[1]) - 1
    layer = re.match(r"(?:conv|bn)(\d)", path[1])
    return int(layer[1]) - 1 if layer else 0


def frozen(config: ConfigDict) -> Callable[[tuple[str, ...]], bool] | None:
    """Return the predicate of the parameter paths in the first `config.freeze` layer groups; None without any."""
    return (lambda path: layer_group(path) < config.freeze) if config.freeze else None


def _by_group(factors: list[float]) -> optax.GradientTransformation:
    """Multiply each parameter's update by the factor of its layer group."""

    def scale(path: tuple[Any, ...], update: jax.Array) -> jax.Array:
        return update * factors[layer_group(tuple(key.key for key in path))]

    def update(updates: Any, params: Any = None) -> Any:
        return jax.tree_util.tree_map_with_path(scale, updates)

    return optax.stateless(update)


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
