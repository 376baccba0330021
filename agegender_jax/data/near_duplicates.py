"""Pairs of images that show the same picture, possibly mirrored: difference hashes, and thumbnails to confirm them.

A hash is uint8 [64]: 256 bits of the image and 256 of its mirror image. The latter are not the reversed and inverted
bits of the former where neighbouring pixels are equal, as on a white background. Hashes of version 0.2, uint8 [32], are
of the image alone; every function takes both kinds.
"""

import numpy as np
from PIL import Image

from agegender_jax.data.cache import Progress

HASH_LIMIT = 30  # bits of 256
COPY_LIMIT = 16  # bits; closer pairs need no confirmation
MIN_CORRELATION = 0.96  # of thumbnails, for pairs between COPY_LIMIT and HASH_LIMIT
HALF = 32  # bytes of the hash of an image or of its mirror image
SIDE = 12  # pixels of a thumbnail
BLOCK = 2048  # images compared with as many others at a time


def dhash(image: np.ndarray) -> np.ndarray:
    """Return the horizontal difference hashes of a uint8 RGB image [H, W, 3] and of its mirror image: uint8 [64]."""
    grey = np.asarray(Image.fromarray(image).convert("L").resize((17, 16), Image.Resampling.BILINEAR), np.int16)
    return np.concatenate([np.packbits(levels[:, 1:] > levels[:, :-1]) for levels in (grey, grey[:, ::-1])])


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return the grey levels of the central three quarters of a uint8 RGB image [H, W, 3], as uint8 [SIDE * SIDE].

    The borders are left out because the black corners of a rotated crop would dominate the correlation.
    """
    height, width = image.shape[:2]
    box = (width / 8, height / 8, width * 7 / 8, height * 7 / 8)
    return np.asarray(Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)).ravel()


def halves(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes of the images and of their mirror images, uint8 [N, 32] each, from uint8 [N, 64] or [N, 32].

    From the latter, those of the mirror images are right up to ties between neighbouring pixels.
    """
    if hashes.shape[1] == HALF:
        bits = np.unpackbits(hashes, axis=1).reshape(-1, 16, 16)
        return hashes, np.packbits(1 - bits[:, :, ::-1].reshape(-1, 256), axis=1)
    return hashes[:, :HALF], hashes[:, HALF:]


def whole(hashes: np.ndarray) -> np.ndarray:
    """Return hashes as uint8 [N, 64], see `halves`."""
    return np.concatenate(halves(hashes), 1)


def mirrored(hashes: np.ndarray) -> np.ndarray:
    """Return the hashes of the mirror images, uint8 [N, 64]."""
    return np.concatenate(halves(hashes)[::-1], 1)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distance in bits of each of K pairs of hashes, or of one and the other's mirror image: int [K]."""
    return np.minimum(direct_distances(a, b), _mirrored_distances(a, b))


def direct_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distance in bits of each pair of hashes, without mirror images: int [K]."""
    return _hamming(halves(a)[0], halves(b)[0])


def _mirrored_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    (a, a_mirrored), (b, b_mirrored) = halves(a), halves(b)
    return np.minimum(_hamming(a_mirrored, b), _hamming(a, b_mirrored))


def pairs_between(a: np.ndarray, b: np.ndarray, limit: int = HASH_LIMIT) -> np.ndarray:
    """Return the pairs (i, j), int [K, 2], of hashes uint8 [N, 64 or 32] and [M, 64 or 32] at most `limit` bits apart.

    A pair also counts if one image is close to the mirror image of the other.
    """
    blocks = [np.zeros((0, 2), np.int64)]
    least = 256 - 2 * limit  # for signs in {-1, 1}: product = 256 - 2 * distance
    for i in range(0, len(a), BLOCK):
        own, own_mirrored = map(_signs, halves(a[i : i + BLOCK]))
        for j in range(0, len(b), BLOCK):
            other, other_mirrored = map(_signs, halves(b[j : j + BLOCK]))
            close = own @ other.T >= least
            close |= own_mirrored @ other.T >= least
            if max(a.shape[1], b.shape[1]) > HALF:  # else the same as the line above
                close |= own @ other_mirrored.T >= least
            blocks.append(np.argwhere(close) + (i, j))
    return np.concatenate(blocks)


def pairs_within(hashes: np.ndarray, limit: int = HASH_LIMIT, progress: Progress | None = None) -> np.ndarray:
    """Return the pairs (i, j), i < j, int [K, 2], of hashes uint8 [N, 64 or 32] at most `limit` bits apart."""
    blocks = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(hashes), BLOCK):
        if progress:
            progress(start, len(hashes), "finding near-duplicates")
        pairs = pairs_between(hashes[start : start + BLOCK], hashes[start:], limit) + start
        blocks.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(blocks)


def mirrored_copies_within(hashes: np.ndarray, thumbnails: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """Return the pairs (i, j), i < j, of N images that only the hashes of mirror images find, confirmed: int [K, 2].

    Args:
      hashes: uint8 [N, 64]. thumbnails: uint8 [N, SIDE * SIDE].
    """
    unique, _, inverse = distinct(hashes)  # equal hashes are never far from each other
    pairs = pairs_within(unique, progress=progress)
    pairs = pairs[_far(unique[pairs[:, 0]], unique[pairs[:, 1]])]
    order = np.argsort(inverse, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(inverse, minlength=len(unique)))[:-1])
    crossed = [np.stack(np.meshgrid(members[i], members[j]), -1).reshape(-1, 2) for i, j in pairs.tolist()]
    between = np.sort(np.concatenate([np.zeros((0, 2), np.int64), *crossed]), 1)
    return _mirrored_copies(between[np.lexsort(between.T[::-1])], (hashes, hashes), (thumbnails, thumbnails))


def mirrored_copies_between(
    hashes: tuple[np.ndarray, np.ndarray], thumbnails: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return the pairs (i, j) of N and M images that only the hashes of mirror images find, confirmed: int [K, 2].

    Args:
      hashes: uint8 [N, 64] and [M, 64]. thumbnails: uint8 [N, SIDE * SIDE] and [M, SIDE * SIDE].
    """
    return _mirrored_copies(pairs_between(*hashes), hashes, thumbnails)


def _mirrored_copies(pairs, hashes, thumbnails):
    i, j = pairs.T
    a, b = hashes[0][i], hashes[1][j]
    return pairs[_far(a, b) & confirmed((a, b), (thumbnails[0][i], thumbnails[1][j]))]


def _far(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return whether pairs of hashes are too far apart for the hashes of the images alone: bool [K]."""
    return distances(a[:, :HALF], b[:, :HALF]) > HASH_LIMIT


def distinct(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the different rows of hashes uint8 [N, D], the first place of each, and the row of each hash, int [N]."""
    rows = np.ascontiguousarray(hashes).view(np.dtype((np.void, hashes.shape[1]))).ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    return hashes[first], first, inverse


def confirmed(hashes: tuple[np.ndarray, np.ndarray], thumbnails: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return which pairs of near hashes show the same picture, bool [K].

    Between UTKFace and FairFace 40 pairs of different people are 25 to 30 bits apart; their thumbnails correlate by at
    most 0.93. Copies at such distances correlate by 0.96 or more.

    Args:
      hashes: of the first and of the second image of each pair.
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
