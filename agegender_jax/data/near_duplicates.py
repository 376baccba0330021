"""Pairs of images that show the same picture, possibly mirrored: difference hashes, and thumbnails to confirm them."""

import numpy as np
from PIL import Image

from agegender_jax.data.cache import Progress

HASH_LIMIT = 30  # bits of 256
COPY_LIMIT = 16  # bits; closer pairs need no confirmation
MIN_CORRELATION = 0.96  # of thumbnails, for pairs between COPY_LIMIT and HASH_LIMIT
SIDE = 12  # pixels of a thumbnail
BLOCK = 2048  # images compared with as many others at a time


def dhash(image: np.ndarray) -> np.ndarray:
    """Return the horizontal difference hash of a uint8 RGB image [H, W, 3]: 256 bits as uint8 [32]."""
    grey = np.asarray(Image.fromarray(image).convert("L").resize((17, 16), Image.Resampling.BILINEAR), np.int16)
    return np.packbits(grey[:, 1:] > grey[:, :-1])


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return the grey levels of the central three quarters of a uint8 RGB image [H, W, 3], as uint8 [SIDE * SIDE].

    The borders are left out because the black corners of a rotated crop would dominate the correlation.
    """
    height, width = image.shape[:2]
    box = (width / 8, height / 8, width * 7 / 8, height * 7 / 8)
    return np.asarray(Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)).ravel()


def mirrored(hashes: np.ndarray) -> np.ndarray:
    """Return the hashes of the mirror images, up to ties between neighbouring pixels: uint8 [N, 32] -> [N, 32]."""
    bits = np.unpackbits(hashes, axis=1).reshape(-1, 16, 16)
    return np.packbits(1 - bits[:, :, ::-1].reshape(-1, 256), axis=1)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distance in bits of each pair of hashes, uint8 [K, 32] and [K, 32], or of a mirror image: int [K]."""
    return np.minimum(_hamming(a, b), _hamming(a, mirrored(b)))


def pairs_between(a: np.ndarray, b: np.ndarray, limit: int = HASH_LIMIT) -> np.ndarray:
    """Return the pairs (i, j), int [K, 2], of hashes uint8 [N, 32] and [M, 32] at most `limit` bits apart.

    A pair also counts if one image is close to the mirror image of the other.
    """
    blocks = [np.zeros((0, 2), np.int64)]
    for i in range(0, len(a), BLOCK):
        signs = _signs(a[i : i + BLOCK])
        for j in range(0, len(b), BLOCK):
            # for signs in {-1, 1}: product = 256 - 2 * distance
            part, least = b[j : j + BLOCK], 256 - 2 * limit
            close = (signs @ _signs(part).T >= least) | (signs @ _signs(mirrored(part)).T >= least)
            blocks.append(np.argwhere(close) + (i, j))
    return np.concatenate(blocks)


def pairs_within(hashes: np.ndarray, limit: int = HASH_LIMIT, progress: Progress | None = None) -> np.ndarray:
    """Return the pairs (i, j), i < j, int [K, 2], of hashes uint8 [N, 32] at most `limit` bits apart."""
    blocks = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(hashes), BLOCK):
        if progress:
            progress(start, len(hashes), "finding near-duplicates")
        pairs = pairs_between(hashes[start : start + BLOCK], hashes[start:], limit) + start
        blocks.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(blocks)


def confirmed(hashes: tuple[np.ndarray, np.ndarray], thumbnails: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return which pairs of near hashes show the same picture, bool [K].

    Between UTKFace and FairFace 40 pairs of different people are 25 to 30 bits apart; their thumbnails correlate by at
    most 0.93. Copies at such distances correlate by 0.96 or more.

    Args:
      hashes: of the first and of the second image of each pair, uint8 [K, 32] each.
      thumbnails: likewise, uint8 [K, SIDE * SIDE] each.
    """
    a, b = (pixels.reshape(-1, SIDE, SIDE) for pixels in thumbnails)
    agree = np.maximum(_correlation(a, b), _correlation(a, b[:, :, ::-1])) >= MIN_CORRELATION
    return agree | (distances(*hashes) <= COPY_LIMIT)


def _signs(hashes: np.ndarray) -> np.ndarray:
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1


def _hamming(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.bitwise_count(a ^ b).sum(-1, dtype=int)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the correlation of the pixels of each pair of images [K, SIDE, SIDE]; 0 if one is a single colour."""
    a, b = (pixels.reshape(len(pixels), SIDE * SIDE).astype(np.float32) for pixels in (a, b))
    a, b = (pixels - pixels.mean(1, keepdims=True) for pixels in (a, b))
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return (a * b).sum(1) / np.maximum(scale, 1e-6)
