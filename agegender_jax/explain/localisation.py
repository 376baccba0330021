"""Localisation: whether a map highlights the true cues of a synthetic face, whose regions are known pixel by pixel.

Cues of age in `synthetic`: hair (grey, thin, receding), brows (grey, thickness), beard (grey), wrinkles, spots, and
eyes, nose and mouth (a child's proportions, sagging lids, thinning lips, a growing nose). Cues of gender: hair (length,
balding), brows, beard, eyes (lashes), mouth (lipstick), earrings, bow and neck (width). Weak or diffuse cues are left
out: for both heads the outline of the head and the skin (jaw, blush, eye shadow), for age also ears, neck, glasses,
earrings and bow, for gender nose and wrinkles. A share below 1 is therefore not an error; it is compared with the share
of an uninformed map.

  share: sum of positive relevance inside the regions / sum of all positive relevance.
  hit: the maximum is inside the regions (pointing game; Zhang et al. 2016, arXiv 1608.00507, without tolerance).
"""

import numpy as np

from agegender_jax import synthetic
from agegender_jax.data.decoding import resize
from agegender_jax.synthetic.parts import FAINT

CUES = {
    "age": ("hair", "brows", "beard", "wrinkles", "spots", "eyes", "nose", "mouth"),
    "gender": ("hair", "brows", "beard", "eyes", "mouth", "earrings", "bow", "neck"),
}


def cues(file: str, drawn_size: int, size: int) -> dict[str, np.ndarray]:
    """Return the coverage of each pixel of a drawn face by the cues of each head, 0 to 1: head -> float32 [size, size].

    Args:
      file: path of the image, with its file name as written by `synthetic`.
      drawn_size: side of the image in pixels.
      size: side of the map; the regions are resized like the image.

    Raises:
      ValueError: the file is not a synthetic face.
    """
    regions = synthetic.masks(file.rpartition("/")[2], drawn_size)
    covers = {}
    for head, names in CUES.items():
        union = np.any([regions[name] for name in names if name in regions], axis=0)
        grey = np.repeat(union[..., None].astype(np.uint8) * 255, 3, -1)
        covers[head] = resize(grey, size)[..., 0].astype(np.float32) / 255
    return covers


def shares(maps: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Return the share of positive relevance inside the cues, [B] in [0, 1]; NaN if a map is nowhere positive.

    Args:
      maps, cover: [B, H, W].
    """
    positive = np.maximum(np.asarray(maps, np.float64), 0)
    total = positive.sum((1, 2))
    return np.divide((positive * cover).sum((1, 2)), total, out=np.full(len(maps), np.nan), where=total > 0)


def hits(maps: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Return 1 if the maximum of the map is at a pixel with a coverage of at least FAINT, else 0: [B].

    With several maxima, return the share of them inside, so that a constant map gets `chance`. Arguments as for
    `shares`.
    """
    largest = maps == np.max(maps, (1, 2), keepdims=True)
    return (largest & (cover >= FAINT)).sum((1, 2)) / largest.sum((1, 2))


def area(cover: np.ndarray) -> np.ndarray:
    """Return the covered share of the image, which is also the share of a constant map: [B, H, W] -> [B]."""
    return cover.mean((1, 2), dtype=np.float64)


def chance(cover: np.ndarray) -> np.ndarray:
    """Return the share of pixels that are hits: [B, H, W] -> [B]."""
    return (cover >= FAINT).mean((1, 2))
