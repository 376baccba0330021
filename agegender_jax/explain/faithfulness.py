"""Faithfulness by deletion and insertion (RISE; Petsiuk, Das, Saenko 2018, arXiv 1806.07421).

The CELLS x CELLS cells of an image are ordered by the mean of the map. Deletion replaces them by the mean colour of the
image, highest first; insertion copies them into the blurred image. Each gives a curve p(k / STEPS), the probability of
the target (softmax without a temperature) after k = 0 .. STEPS equal shares of the cells. The score is the area under
this curve by the trapezoid rule, in [0, 1]. A faithful map has a small deletion area and a large insertion area.

RISE deletes to black; the mean colour is closer to the training images. Integrated gradients start from it, which
favours them. An area by itself means little, because it depends on the confidence of the net and on the image. It is
therefore compared with the areas of uninformed maps (`random_maps`, `blob`) on the same images.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from agegender_jax import ensemble
from agegender_jax.structs import Probs

CELLS = 16  # per side
STEPS = 16
BLUR = 1 / 10  # of the side, the standard deviation
BLOB = 1 / 4  # of the side, the standard deviation


def areas(
    net: nn.Module, variables, images: np.ndarray, maps: np.ndarray, targets: dict[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """Return the areas under the curves of M maps for each head: {head: {"deletion": [M, B], "insertion": [M, B]}}.

    One set of predictions serves both heads, whichever decision a map explains.

    Args:
      images: uint8 RGB [B, H, W, 3]; maps: [M, B, H, W].
      targets: {"age": int [B], "gender": int [B]}, the classes whose probability is measured.
    """
    blurred = blur(images)
    per_map = []
    for one in maps:
        probs = _predict_perturbed(net, variables, images, blurred, order(one))
        per_map.append({head: area(_target_probs(getattr(probs, head), t)) for head, t in targets.items()})
    return {
        head: {name: np.stack([row[head][i] for row in per_map]) for i, name in enumerate(("deletion", "insertion"))}
        for head in targets
    }


def area(curve: np.ndarray) -> np.ndarray:
    """Return the trapezoid area under curves [..., STEPS + 1] over the share of cells, 0 to 1: [...]."""
    return np.trapezoid(curve, dx=1 / (curve.shape[-1] - 1), axis=-1)


def order(maps: np.ndarray) -> np.ndarray:
    """Return the rank of each cell, 0 for the largest mean of the map: [..., H, W] -> int [..., CELLS, CELLS].

    Pixel i of a side belongs to cell i * CELLS // side. Ties are ordered by a fixed random permutation, so that they do
    not start in a corner.
    """
    maps = np.asarray(maps, np.float64)
    for axis in (-2, -1):
        side = maps.shape[axis]
        starts = -(-np.arange(CELLS) * side // CELLS)
        sums = np.add.reduceat(maps, starts, axis)
        maps = sums / np.diff(starts, append=side).reshape((-1, 1) if axis == -2 else -1)
    flat = maps.reshape(*maps.shape[:-2], -1)
    tie_break = np.broadcast_to(np.random.default_rng(0).permutation(flat.shape[-1]), flat.shape)
    ranks = np.argsort(np.lexsort((tie_break, -flat)))
    return ranks.reshape(maps.shape)


def blur(images: np.ndarray) -> np.ndarray:
    """Return the images after a Gaussian blur of BLUR times the side: uint8 [B, H, W, 3] -> float32."""
    deviations = (0, BLUR * images.shape[1], BLUR * images.shape[2], 0)
    return scipy.ndimage.gaussian_filter(images.astype(np.float32), deviations, mode="nearest")


def random_maps(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return uniform noise, different for each image: float32 [*shape], such as (B, H, W)."""
    return np.random.default_rng(seed).random(shape, np.float32)


def blob(shape: tuple[int, ...]) -> np.ndarray:
    """Return a centred Gaussian of BLOB times the side with maximum 1, the same for all images: float32 [*shape]."""
    rows, columns = ((np.arange(side) + 0.5) / side - 0.5 for side in shape[-2:])
    squares = rows[:, None] ** 2 + columns**2
    return np.broadcast_to(np.exp(-squares / (2 * BLOB**2)).astype(np.float32), shape)


@functools.partial(jax.jit, static_argnums=0)
def _predict_perturbed(net: nn.Module, variables, images: jax.Array, blurred: jax.Array, ranks: jax.Array) -> Probs:
    """Return Probs [2, STEPS + 1, B, ...] of the images with cells deleted, and with cells inserted."""
    batch, height, width, _ = images.shape
    images = images.astype(jnp.float32)
    mean = images.mean((1, 2), keepdims=True)
    ranks = ranks[:, np.arange(height) * CELLS // height][:, :, np.arange(width) * CELLS // width]  # [B, H, W]
    counts = np.arange(STEPS + 1) * CELLS**2 // STEPS
    taken = (ranks < counts[:, None, None, None])[..., None]  # [STEPS + 1, B, H, W, 1]
    perturbed = jnp.stack([jnp.where(taken, mean, images), jnp.where(taken, images, blurred)])
    probs = ensemble.predict_float(net, variables, perturbed.reshape(-1, height, width, 3))
    return jax.tree.map(lambda p: p.reshape(2, STEPS + 1, batch, -1), probs)


def _target_probs(probs: jax.Array, target: np.ndarray) -> np.ndarray:
    """Return the probability of the target [2, B, STEPS + 1] from probs [2, STEPS + 1, B, classes]."""
    chosen = np.asarray(probs)[:, :, np.arange(len(target)), target]
    return np.moveaxis(chosen, 1, -1)
