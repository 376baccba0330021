"""Sanity check by weight randomisation (Adebayo et al. 2018, arXiv 1810.03292): does a map depend on what was learned?

The modules of the net get new weights and statistics, as at the start of training, from the heads down in nested
levels. A map that stays similar explains the image and not the net. Similarity is the absolute Spearman rank
correlation over pixels, of the maps and of their absolute values, because an inverted map is no evidence of learning,
either.
"""

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax.explain.maps import Maps, Progress, compute_maps, silent
from agegender_jax.subsets import evenly_spaced

LEVELS = 4  # of the backbone, besides the heads
LIMIT = 0.5  # mean similarity to the fully random net from which a map fails; our choice, the paper gives none
IMAGES = 16


def similarities(
    net: nn.Module, variables: Any, images: np.ndarray, maps: Maps, progress: Progress = silent
) -> dict[str, dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]]:
    """Compare maps with those of the randomised net on IMAGES of the images, or on all if there are fewer.

    Args:
      images: uint8 RGB [N, H, W, 3], those of `maps`.

    Returns:
      head -> name of the map -> level -> likeness of the maps and of their absolute values, [IMAGES] each.
    """
    chosen = rows(len(images))
    images, targets = images[chosen], {head: values[chosen] for head, values in maps.targets.items()}
    result: dict[str, dict] = {head: {name: {} for name in maps.for_head(head)} for head in targets}
    methods = list(next(iter(maps.attributions.values())))
    levels = list(randomised(net, variables, images.shape[1], jax.random.key(0)))
    for done, (level, fresh) in enumerate(levels, 1):
        after = compute_maps(net, fresh, images, methods=methods, heads=list(targets), targets=targets)
        for head, names in result.items():
            for name, by_level in names.items():
                pair = maps.for_head(head)[name][chosen], after.for_head(head)[name]
                by_level[level] = likeness(*pair), likeness(*map(np.abs, pair))
        progress(done, len(levels))
    return result


def rows(count: int) -> np.ndarray:
    """Return the indices of the images among `count` whose maps are compared, int [IMAGES] or fewer."""
    return evenly_spaced(count, IMAGES)


def randomised(net: nn.Module, variables: Any, size: int, key: jax.Array) -> Iterator[tuple[str, Any]]:
    """Yield (name of the lowest randomised module, variables) of each level, from the heads to the whole net.

    Args:
      size: side of the images in pixels.
      key: of the fresh weights, the same at all levels.
    """
    image = jnp.zeros((1, size, size, 3))
    fresh = jax.jit(lambda key: net.init(key, image, train=False))(key)
    fresh = jax.device_put(fresh, jax.local_devices()[0])  # the device of loaded weights: no recompilation
    heads, body = _modules(net, variables, image)
    levels: list[Any] = [heads, *(part for part in np.array_split(np.array(body[::-1], object), LEVELS) if len(part))]
    replaced: set[tuple[str, ...]] = set()
    for level in levels:
        replaced |= {tuple(path) for path in level}
        yield "heads" if level is heads else level[-1][-1], _mixed(fresh, variables, replaced)


def likeness(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the absolute Spearman correlation over pixels of each pair of maps [B, H, W]: [B], in [0, 1].

    A constant map has no order: its likeness to a varying map is 0, and to another constant map 1.
    """
    pairs = zip(np.reshape(before, (len(before), -1)), np.reshape(after, (len(after), -1)), strict=True)
    return np.array([_likeness(*pair) for pair in pairs])


def _likeness(a: np.ndarray, b: np.ndarray) -> float:
    import scipy.stats  # takes a second to import

    constant = np.ptp(a) == 0, np.ptp(b) == 0
    return float(all(constant)) if any(constant) else abs(float(scipy.stats.spearmanr(a, b).statistic))


def _modules(net: nn.Module, variables: Any, image: jax.Array) -> tuple[list, list]:
    """Return the paths of the net's direct submodules and of those of its backbone, in call order."""
    paths: dict[tuple[str, ...], None] = {}

    def record(call, arguments, keywords, context):
        path = context.module.path
        paths.setdefault(path[: 2 if path[:1] == ("backbone",) else 1])
        return call(*arguments, **keywords)

    with nn.intercept_methods(record):
        jax.eval_shape(lambda v: net.apply(v, image, train=False), variables)
    return [p for p in paths if len(p) == 1 and p != ("backbone",)], [p for p in paths if len(p) == 2]


def _mixed(fresh: Any, variables: Any, replaced: set[tuple[str, ...]]) -> Any:
    """Return `fresh` below the paths in `replaced`, `variables` elsewhere."""

    def choose(path, new, old):
        keys = tuple(entry.key for entry in path[1:])  # without the collection
        return new if replaced & {keys[:1], keys[:2]} else old

    fresh = {name: fresh.get(name, {}) for name in variables}  # a net without BatchNorm has no batch_stats
    return jax.tree_util.tree_map_with_path(choose, fresh, variables)
