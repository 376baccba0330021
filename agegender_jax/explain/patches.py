"""The patches that `models.DeepAttention` attends to: their weights, and how few of them suffice for the prediction."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from agegender_jax import data, ensemble, metrics
from agegender_jax.explain.maps import in_batches
from agegender_jax.explain.target_logit import HEADS
from agegender_jax.models import deep_attention

FEW = (1, 2, 4)  # numbers of patches that are used alone


class Attended(NamedTuple):
    """Patches of N images on a grid of k x k cells.

    Attributes:
      weights: float32 [N, k k], each row a distribution.
      pixels: uint8 [N, k k, p, p, 3].
    """

    weights: np.ndarray
    pixels: np.ndarray


def has_patches(net: nn.Module) -> bool:
    """Return whether the net chooses patches."""
    backbone = getattr(net, "backbone", None)
    return isinstance(backbone, deep_attention.DeepAttention) and backbone.patches == "attended"


def attended(net: nn.Module, variables: Any, images: np.ndarray) -> Attended:
    """Return the patches of uint8 images [N, H, W, 3] and their weights, regardless of `top`."""
    backbone = net.backbone.clone(top=0)
    own = {name: part["backbone"] for name, part in variables.items() if "backbone" in part}

    @jax.jit
    def weights(images):
        grid = backbone.apply(own, data.normalize(images), train=False, method="attend")[1][0]
        return grid.reshape(len(grid), -1)

    cut = np.asarray(deep_attention.cut(images, backbone.grid, backbone.patch))
    return Attended(in_batches(weights, (images,)), cut)


def scores(
    net: nn.Module, variables: Any, images: np.ndarray, group: np.ndarray | None = None, open_from: int | None = None
) -> dict:
    """Return how often only the patches with the largest weights give the same prediction as all patches.

    Args:
      images: uint8 [N, H, W, 3]. group: int [N], equal for near-duplicates; None if all are independent.
      open_from: see `maps.Maps`.

    Returns:
      cells: k k. largest: mean of the largest weight. few: for each n in FEW, by head, the shares of images whose
      prediction does not change with only the n largest and with only the n smallest weights, and their difference with
      a 95 % interval.
    """
    cells = net.backbone.grid**2
    every = _classes(net, variables, images, 0, open_from)
    few: dict[str, Any] = {}
    for count in (count for count in FEW if count < cells):
        first, last = (_classes(net, variables, images, top, open_from) for top in (count, -count))
        few[str(count)] = {head: _agreement(every[head], first[head], last[head], group) for head in HEADS}
    weights = attended(net, variables, images).weights
    return {"cells": cells, "largest": float(weights.max(1).mean()), "few": few}


def _classes(net: nn.Module, variables: Any, images: np.ndarray, top: int, open_from: int | None) -> dict:
    net = net.clone(backbone=net.backbone.clone(top=top))
    probs = in_batches(lambda images: ensemble.predict(net, variables, images), (images,))
    return {"age": metrics.join_from(probs.age, open_from).argmax(-1), "gender": probs.gender.argmax(-1)}


def _agreement(every: np.ndarray, first: np.ndarray, last: np.ndarray, group: np.ndarray | None) -> dict[str, Any]:
    same = [(classes == every).astype(float) for classes in (first, last)]
    difference = same[0] - same[1]
    return {
        "largest": float(same[0].mean()),
        "smallest": float(same[1].mean()),
        "difference": {"mean": float(difference.mean()), "ci95": metrics.bootstrap_varied(difference, group)},
    }
