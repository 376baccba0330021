"""Recompute the BatchNorm statistics of the weights to evaluate, from images of the train split."""

import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import data, models, training
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host import processes
from agegender_jax.run.host.signals import StopFlag
from agegender_jax.structs import TrainState

BATCH_WEIGHT = 0.1  # of a batch in the running statistics, see `models.layers.norm`


def reestimate(config: ConfigDict, dataset: Dataset, state: TrainState, stop: StopFlag | None = None) -> TrainState:
    """Return the state with the statistics of its evaluated weights averaged over `eval.bn_batches` train batches.

    They depend only on the weights, not on the earlier statistics. As in evaluation, the images are not augmented;
    every process uses the same images. Source: Izmailov et al. 2018, arXiv 1803.05407, section 3.2, which does so for
    averaged weights.

    Raises:
      Stopped: after a signal.
    """
    count = config.eval.bn_batches * config.batch_size
    rows = np.random.default_rng(config.seed).permutation(dataset.indices("train"))[:count]
    images, gender = dataset.prepared.images(config.data.image_size), dataset.prepared.gender
    parts = np.array_split(rows, max(1, len(rows) // config.batch_size))
    variables = jax.device_put(jax.tree.map(np.asarray, training.eval_variables(state)), jax.local_devices()[0])
    model = models.from_config(config.model)
    batches = ((images[part], gender[part]) for part in parts)
    stoppable = processes.until_stopped(batches, stop, "computing BatchNorm statistics", int(state.step))
    batch_stats = mean_statistics(model, variables, stoppable)
    if state.ema is None:
        return state.replace(batch_stats=batch_stats)
    return state.replace(ema=state.ema | {"batch_stats": batch_stats})


def mean_statistics(model: nn.Module, variables: Any, batches: Any) -> Any:
    """Return the mean of the batches' own means and variances, in the form of `variables["batch_stats"]`.

    Args:
      batches: (images uint8 [B, H, W, 3], gender int [B]). Dropout is on, as in training.
    """
    zeros = jax.tree.map(np.zeros_like, variables["batch_stats"])
    total, count = zeros, 0
    for count, (images, gender) in enumerate(batches, 1):
        new = _statistics(model, variables["params"], zeros, images, gender, jax.random.key(count))
        total = jax.tree.map(lambda a, b: a + np.asarray(b), total, new)
    return jax.tree.map(lambda x: (x / (BATCH_WEIGHT * count)).astype(np.float32), total)


@functools.partial(jax.jit, static_argnums=0)  # here, so that a later evaluation compiles nothing
def _statistics(model: nn.Module, params: Any, zeros: Any, images: jax.Array, gender: jax.Array, key: jax.Array) -> Any:
    """Return the running statistics after one batch, starting from zeros."""
    oracle = {"gender": gender} if models.feed_of(model) == "true" else {}
    at = {"params": params, "batch_stats": zeros}
    images = data.normalize(images)
    _, updated = model.apply(at, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}, **oracle)
    return updated.get("batch_stats", {})
