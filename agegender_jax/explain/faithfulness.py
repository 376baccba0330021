"""Whether a decision rests where a map says: deletion and insertion (RISE; Petsiuk, Das, Saenko 2018, 1806.07421).

A picture's CELLS x CELLS cells are ordered by their mean in the map. Deletion replaces them by the picture's mean
colour, the first ones first; insertion puts them into the blurred picture. Each gives a curve p(k / STEPS): the
target's probability, the net's softmax without a temperature, after k = 0 .. STEPS equal shares of the cells; and the
curve's area by the trapezoid rule, in [0, 1]. A faithful map has a small area of deletion and a large one of insertion.

RISE deletes to black; the mean colour is nearer to the pictures that the nets know. Integrated gradients start from it,
which favours them. An area means little alone, for it follows the net's confidence and the picture: it is compared with
maps that know nothing of the net (`random_maps`, `blob`) on the same pictures.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from agegender_jax import ensemble
from agegender_jax.structs import Probs

CELLS = 16  # a side
STEPS = 16
BLUR = 1 / 10  # of the side, the standard deviation
BLOB = 1 / 4  # of the side, the standard deviation


def areas(
    net: nn.Module, variables, images: np.ndarray, maps: np.ndarray, targets: dict[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """Areas under the curves of M maps for each head: {head: {"deletion": [M, B], "insertion": [M, B]}}.

    One set of answers serves both heads, whatever decision a map explains.

    Args:
      images: uint8 RGB [B, H, W, 3]; maps: [M, B, H, W].
      targets: {"age": int [B], "gender": int [B]}, the classes whose probability is followed.
    """
    blurred = blur(images)
    found = []
    for one in maps:
        probs = _answers(net, variables, images, blurred, order(one))
        found.append({head: area(_of(getattr(probs, head), target)) for head, target in targets.items()})
    return {
        head: {name: np.stack([f[head][i] for f in found]) for i, name in enumerate(("deletion", "insertion"))}
        for head in targets
    }


def area(curve: np.ndarray) -> np.ndarray:
    """Trapezoid area under curves [..., STEPS + 1] over the share of cells, 0 to 1: [...]."""
    return np.trapezoid(curve, dx=1 / (curve.shape[-1] - 1), axis=-1)


def order(maps: np.ndarray) -> np.ndarray:
    """The rank of each cell, 0 for the largest mean of the map: [..., H, W] -> int [..., CELLS, CELLS].

    Pixel i of a side lies in cell i * CELLS // side. Equal cells come in an order drawn once, not from a corner.
    """
    maps = np.asarray(maps, np.float64)
    for axis in (-2, -1):
        side = maps.shape[axis]
        starts = -(-np.arange(CELLS) * side // CELLS)
        sums = np.add.reduceat(maps, starts, axis)
        maps = sums / np.diff(starts, append=side).reshape((-1, 1) if axis == -2 else -1)
    flat = maps.reshape(*maps.shape[:-2], -1)
    drawn = np.broadcast_to(np.random.default_rng(0).permutation(flat.shape[-1]), flat.shape)
    ranks = np.argsort(np.lexsort((drawn, -flat)))  # the place of each cell in the order
    return ranks.reshape(maps.shape)


def blur(images: np.ndarray) -> np.ndarray:
    """Gaussian blur with BLUR of the side as deviation: uint8 [B, H, W, 3] -> float32."""
    deviations = (0, BLUR * images.shape[1], BLUR * images.shape[2], 0)
    return scipy.ndimage.gaussian_filter(images.astype(np.float32), deviations, mode="nearest")


def random_maps(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform noise, another for each picture: [*shape], such as (B, H, W)."""
    return np.random.default_rng(seed).random(shape, np.float32)


def blob(shape: tuple[int, ...]) -> np.ndarray:
    """A Gaussian about the centre, BLOB of the side as deviation, 1 at its top, the same for all: [*shape]."""
    rows, columns = ((np.arange(side) + 0.5) / side - 0.5 for side in shape[-2:])
    squares = rows[:, None] ** 2 + columns**2
    return np.broadcast_to(np.exp(-squares / (2 * BLOB**2)).astype(np.float32), shape)


@functools.partial(jax.jit, static_argnums=0)
def _answers(net: nn.Module, variables, images: jax.Array, blurred: jax.Array, ranks: jax.Array) -> Probs:
    """Probs [2, STEPS + 1, B, ...] of the pictures with cells deleted, and inserted."""
    batch, height, width, _ = images.shape
    images = images.astype(jnp.float32)
    mean = images.mean((1, 2), keepdims=True)
    ranks = ranks[:, np.arange(height) * CELLS // height][:, :, np.arange(width) * CELLS // width]  # [B, H, W]
    counts = np.arange(STEPS + 1) * CELLS**2 // STEPS
    taken = (ranks < counts[:, None, None, None])[..., None]  # [STEPS + 1, B, H, W, 1]
    pictures = jnp.stack([jnp.where(taken, mean, images), jnp.where(taken, images, blurred)])
    probs = ensemble.predict_float(net, variables, pictures.reshape(-1, height, width, 3))
    return jax.tree.map(lambda p: p.reshape(2, STEPS + 1, batch, -1), probs)


def _of(probs: jax.Array, target: np.ndarray) -> np.ndarray:
    """The target's probability [2, B, STEPS + 1] of probs [2, STEPS + 1, B, classes]."""
    chosen = np.asarray(probs)[:, :, np.arange(len(target)), target]
    return np.moveaxis(chosen, 1, -1)
