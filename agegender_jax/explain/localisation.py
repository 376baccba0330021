"""Whether a map lies on the true cues of a drawn face (data.synthetic), whose regions are known pixel by pixel.

What tells age in data.face_traits: hair (grey, thin, receding), brows (grey, thickness), beard (grey), wrinkles, spots,
and eyes, nose and mouth (a child's proportions, sagging lids, thinning lips, a growing nose). What tells gender: hair
(length, balding), brows, beard, eyes (lashes), mouth (lipstick), earrings, bow and neck (width). Weak or diffuse cues
are left out: for both the head's outline and skin (jaw, blush, eye shadow), for age also ears, neck, glasses, earrings
and bow, for gender nose and wrinkles. So a share below 1 is no fault; it is compared with what a map without knowledge
gets.

  share: sum of the positive relevance inside of the regions / sum of all positive relevance.
  hit: the largest value lies in the regions (the pointing game; Zhang et al. 2016, arXiv 1608.00507, no tolerance).
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
    """How far each pixel of a drawn face's picture is covered by each head's cues: head -> float32 [size, size].

    Args:
      file: path of the picture, its name as data.synthetic gives it.
      drawn_size: side of the picture in pixels; size: side of the map, to which regions shrink as pictures do.

    Raises:
      ValueError: no drawn face.
    """
    regions = synthetic.masks(file.rpartition("/")[2], drawn_size)
    covers = {}
    for head, names in CUES.items():
        union = np.any([regions[name] for name in names if name in regions], axis=0)
        grey = np.repeat(union[..., None].astype(np.uint8) * 255, 3, -1)
        covers[head] = resize(grey, size)[..., 0].astype(np.float32) / 255
    return covers


def shares(maps: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Share of positive relevance inside, in [0, 1]; NaN where a map is nowhere positive.

    Args:
      maps, cover: [B, H, W].
    """
    positive = np.maximum(np.asarray(maps, np.float64), 0)
    total = positive.sum((1, 2))
    return np.divide((positive * cover).sum((1, 2)), total, out=np.full(len(maps), np.nan), where=total > 0)


def hits(maps: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """1 where the largest value of the map lies in a pixel covered by FAINT or more, else 0: [B].

    Of several largest values the share that does; so a constant map gets the rate of chance. Arguments as `shares`.
    """
    largest = maps == np.max(maps, (1, 2), keepdims=True)
    return (largest & (cover >= FAINT)).sum((1, 2)) / largest.sum((1, 2))


def area(cover: np.ndarray) -> np.ndarray:
    """Share of the picture that is inside, what an even map gets: [B, H, W] -> [B]."""
    return cover.mean((1, 2), dtype=np.float64)


def chance(cover: np.ndarray) -> np.ndarray:
    """Share of pixels that are hits: [B, H, W] -> [B]."""
    return (cover >= FAINT).mean((1, 2))
