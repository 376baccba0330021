"""All maps of one net for many images, computed in batches."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import numpy as np

from agegender_jax import ensemble, metrics
from agegender_jax.explain import METHODS, RULES, attention, attribute, methods_of, relevance
from agegender_jax.explain.attention import AttentionMaps
from agegender_jax.explain.lrp import Relevance
from agegender_jax.explain.target_logit import HEADS
from agegender_jax.labels import AGE_BUCKETS, GENDERS
from agegender_jax.structs import Probs

BATCH = 8  # images at once
CLASSES = {"age": AGE_BUCKETS, "gender": GENDERS}
Progress = Callable[[int, int], None]  # receives (done, total)


def silent(done: int, total: int) -> None:
    """Ignore progress."""


@flax.struct.dataclass
class Maps:
    """Predictions of one net for N images with their explanations, as NumPy arrays.

    Attributes:
      probs: the predictions.
      targets: head -> int [N], the explained classes.
      attention: one entry per module, with arrays [N, ...].
      attributions: head -> method -> float32 [N, H, W].
      relevance: head -> method -> decomposition of the logit, for the methods of RULES.
      open_from: first class of an open last group of ages, such as "more than 70", which is predicted as one; None for
        single classes.
    """

    probs: Probs
    targets: dict[str, np.ndarray]
    attention: tuple[AttentionMaps, ...]
    attributions: dict[str, dict[str, np.ndarray]]
    relevance: dict[str, dict[str, Relevance]]
    open_from: int | None = flax.struct.field(pytree_node=False, default=None)

    def prediction(self, head: str, i: int) -> tuple[str, float]:
        """Return the name and the probability of the explained class of image i, or of the open group that it is in."""
        target, probs = int(self.targets[head][i]), getattr(self.probs, head)[i]
        if head == "age" and self.open_from is not None and target >= self.open_from:
            return metrics.range_name(self.open_from, len(probs) - 1, len(probs)), float(probs[self.open_from :].sum())
        return CLASSES[head][target], float(probs[target])

    def for_head(self, head: str) -> dict[str, np.ndarray]:
        """Return the maps to score for a head: method or attention_<module> -> [N, H, W] in [-1, 1].

        These are the attributions of its decision and the mean mask of every module. Each map is divided by its largest
        magnitude and rounded to 5 digits, so that rounding errors do not order the pixels of a constant map.
        """
        maps = self.attributions[head] | {f"attention_{module.name}": module.mean for module in self.attention}
        return {name: _normalised(values) for name, values in maps.items()}


def compute_maps(
    net: nn.Module,
    variables: Any,
    images: np.ndarray,
    *,
    methods: Sequence[str] = METHODS,
    heads: Sequence[str] = HEADS,
    targets: dict[str, np.ndarray] | None = None,
    open_from: int | None = None,
    progress: Progress = silent,
) -> Maps:
    """Predict uint8 RGB images [N, H, W, 3] and compute their maps.

    Args:
      methods: of METHODS. heads: of HEADS.
      targets: head -> int [N], the classes to explain; the predicted classes if None.
      open_from: see `Maps`. If the open group is predicted, its most probable class is explained.
      progress: receives the number of images done and the total.

    Raises:
      ValueError: as `attribute`.
    """

    methods = [method for method in methods if method in methods_of(net)]

    def explain_batch(images, targets):
        probs = ensemble.predict(net, variables, images)
        if targets is None:
            targets = {head: predicted(probs, head, open_from) for head in heads}
        targets = {head: targets[head] for head in heads}
        logits = {
            head: {
                method: relevance(net, variables, images, head, targets[head], rule=RULES[method])
                for method in methods
                if method in RULES
            }
            for head in heads
        }
        attributions = {
            head: {
                method: logits[head][method].pixels
                if method in RULES
                else attribute(method, net, variables, images, head, targets[head])
                for method in methods
            }
            for head in heads
        }
        return Maps(probs, targets, attention(net, variables, images), attributions, logits, open_from)

    return in_batches(explain_batch, (images, targets), progress)


def predicted(probs: Probs, head: str, open_from: int | None) -> np.ndarray:
    """Return the predicted classes, int [N]; of an open group of ages (see `Maps`), its most probable class."""
    of_head = np.asarray(getattr(probs, head))
    if head != "age" or open_from is None:
        return of_head.argmax(-1)
    group = metrics.join_from(of_head, open_from).argmax(-1)
    return np.where(group == open_from, open_from + of_head[:, open_from:].argmax(-1), group)


def _normalised(maps: np.ndarray) -> np.ndarray:
    size = np.abs(maps).max((1, 2), keepdims=True)
    return np.round(np.divide(maps, size, out=np.zeros_like(maps), where=size > 0), 5)


def in_batches(function: Callable, arguments: tuple, progress: Progress = silent, axis: int = 0) -> Any:
    """Return `function(*arguments)`, computed for BATCH rows at a time.

    All batches have the same shape: the last one is filled up with rows from the start.

    Args:
      arguments: a pytree of arrays [N, ...], N > 0.
      axis: of the rows in the result of `function`, a pytree of arrays, which is returned whole, as NumPy.
    """
    count = len(jax.tree.leaves(arguments)[0])
    size, parts = min(BATCH, count), []
    for start in range(0, count, size):
        rows = np.arange(start, start + size) % count
        result = function(*jax.tree.map(lambda x, rows=rows: np.asarray(x)[rows], arguments))
        valid = (slice(None),) * axis + (slice(count - start),)
        parts.append(jax.tree.map(lambda x, valid=valid: np.asarray(x)[valid], result))
        progress(min(start + size, count), count)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis), *parts)
