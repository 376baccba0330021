"""Whether a map depends on what the net has learned: weight randomisation (Adebayo et al. 2018, arXiv 1810.03292).

From the heads down the net's modules get fresh weights and statistics, as at the start of training, in levels that
contain each other. A map that stays alike explains the picture and not the net. Likeness is the size of Spearman's rank
correlation over pixels, of the maps and of their absolute values: an inverted map has learned nothing either.
"""

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

LEVELS = 4  # besides the heads, the backbone in as many parts
LIMIT = 0.5  # mean likeness from which a map counts as unchanged by a wholly random net; ours, the paper gives none


def randomised(net: nn.Module, variables: Any, size: int, key: jax.Array) -> Iterator[tuple[str, Any]]:
    """Variables of each level, from the heads to the whole net, and the level's name: that of its lowest module.

    Args:
      size: side of the images in pixels. key: of the fresh weights, the same in all levels.
    """
    image = jnp.zeros((1, size, size, 3))
    fresh = jax.jit(lambda key: net.init(key, image, train=False))(key)
    fresh = jax.device_put(fresh, jax.local_devices()[0])  # where loaded weights are: nothing is compiled again
    heads, body = _modules(net, variables, image)
    levels = [heads, *(part for part in np.array_split(np.array(body[::-1], object), LEVELS) if len(part))]
    done: set[tuple[str, ...]] = set()
    for level in levels:
        done |= {tuple(path) for path in level}
        yield "heads" if level is heads else level[-1][-1], _mixed(fresh, variables, done)


def likeness(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Size of Spearman's correlation over the pixels of each pair of maps [B, H, W]: [B], in [0, 1].

    A constant map has no order: 0 beside one that varies, 1 beside another constant.
    """
    pairs = zip(np.reshape(before, (len(before), -1)), np.reshape(after, (len(after), -1)), strict=True)
    return np.array([_likeness(*pair) for pair in pairs])


def _likeness(a: np.ndarray, b: np.ndarray) -> float:
    import scipy.stats  # takes a second, at each start of a program if it stood above

    constant = np.ptp(a) == 0, np.ptp(b) == 0
    return float(all(constant)) if any(constant) else abs(float(scipy.stats.spearmanr(a, b).statistic))


def _modules(net: nn.Module, variables: Any, image: jax.Array) -> tuple[list, list]:
    """Paths of the modules right below the net, and of those right below its backbone, in the order of their calls."""
    paths: dict[tuple[str, ...], None] = {}

    def note(call, arguments, keywords, context):
        path = context.module.path
        paths.setdefault(path[: 2 if path[:1] == ("backbone",) else 1])
        return call(*arguments, **keywords)

    with nn.intercept_methods(note):
        jax.eval_shape(lambda v: net.apply(v, image, train=False), variables)
    return [p for p in paths if len(p) == 1 and p != ("backbone",)], [p for p in paths if len(p) == 2]


def _mixed(fresh: Any, variables: Any, done: set[tuple[str, ...]]) -> Any:
    """`fresh` below the paths in `done`, `variables` elsewhere."""

    def choose(path, new, old):
        keys = tuple(entry.key for entry in path[1:])  # without the collection
        return new if done & {keys[:1], keys[:2]} else old

    fresh = {name: fresh.get(name, {}) for name in variables}  # a net without BatchNorm has no batch_stats
    return jax.tree_util.tree_map_with_path(choose, fresh, variables)
