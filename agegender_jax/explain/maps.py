"""All maps of one net for many pictures, a few at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import numpy as np

from agegender_jax import ensemble
from agegender_jax.explain import METHODS, attention, attribute, relevance
from agegender_jax.explain.attention import AttentionMaps
from agegender_jax.explain.decision import HEADS
from agegender_jax.explain.lrp import Relevance
from agegender_jax.structs import Probs

BATCH = 8  # pictures at once


@flax.struct.dataclass
class Maps:
    """What one net looked at in N pictures; all of it NumPy.

    Attributes:
      probs: its answers.
      targets: head -> int [N], the classes explained.
      attention: one for each module, with arrays [N, ...].
      attributions: head -> method -> float32 [N, H, W].
      relevance: head -> its account, where "lrp" is among the methods.
    """

    probs: Probs
    targets: dict[str, np.ndarray]
    attention: tuple[AttentionMaps, ...]
    attributions: dict[str, dict[str, np.ndarray]]
    relevance: dict[str, Relevance]

    def of(self, head: str) -> dict[str, np.ndarray]:
        """The maps that can explain a head's decision, for scoring: its attributions, and the mean masks by module.

        Each picture's map is divided by its largest size and rounded to 5 digits, so that a constant map is constant
        and its rounding errors give no order.

        Returns:
          Method, or attention_<module> -> [N, H, W] in [-1, 1].
        """
        named = self.attributions[head] | {f"attention_{maps.name}": maps.mean for maps in self.attention}
        return {name: _rounded(map_) for name, map_ in named.items()}


def draw(
    net: nn.Module,
    variables: Any,
    images: np.ndarray,
    *,
    methods: Sequence[str] = METHODS,
    heads: Sequence[str] = HEADS,
    targets: dict[str, np.ndarray] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Maps:
    """The maps of uint8 RGB images [N, H, W, 3].

    Args:
      targets: head -> int [N], the classes to explain; those that the net answers if None.
      progress: is told how many pictures are done, and of how many.

    Raises:
      ValueError: as `attribute`.
    """

    def batch(images, given):
        probs = ensemble.predict(net, variables, images)
        chosen = {head: np.asarray(getattr(probs, head)).argmax(-1) if given is None else given[head] for head in heads}
        accounts = {head: relevance(net, variables, images, head, chosen[head]) for head in heads if "lrp" in methods}
        attributions = {
            head: {
                method: accounts[head].pixels
                if method == "lrp"
                else attribute(method, net, variables, images, head, chosen[head])
                for method in methods
            }
            for head in heads
        }
        return Maps(probs, chosen, attention(net, variables, images), attributions, accounts)

    return in_batches(batch, (images, targets), progress)


def _rounded(maps: np.ndarray) -> np.ndarray:
    size = np.abs(maps).max((1, 2), keepdims=True)
    return np.round(np.divide(maps, size, out=np.zeros_like(maps), where=size > 0), 5)


def in_batches(
    function: Callable, arguments: tuple, progress: Callable[[int, int], None] = lambda done, total: None, axis: int = 0
) -> Any:
    """`function(*arguments)` for BATCH rows at a time, the last batch filled up with rows from the start.

    Args:
      arguments: a pytree of arrays [N, ...], N > 0.
      axis: of the rows in what `function` returns, a pytree of arrays; it comes back whole, as NumPy.
    """
    count = len(jax.tree.leaves(arguments)[0])
    size, parts = min(BATCH, count), []
    for start in range(0, count, size):
        rows = np.arange(start, start + size) % count
        found = function(*jax.tree.map(lambda x, rows=rows: np.asarray(x)[rows], arguments))
        real = (slice(None),) * axis + (slice(count - start),)
        parts.append(jax.tree.map(lambda x, real=real: np.asarray(x)[real], found))
        progress(min(start + size, count), count)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis), *parts)
