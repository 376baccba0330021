"""Groups of the same picture, and train, val and test that keep each group together.

Groups are the connected components of "equal decoded pixels" and "difference hashes at most 30 of 256 bits apart".
A split depends on the images' content and the seed alone.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

HASH_LIMIT = 30
SHARES = (("test", 0.1), ("val", 0.1))
BLOCK = 2048


def dhash(image: np.ndarray) -> np.ndarray:
    """Horizontal difference hash: uint8 RGB [H, W, 3] -> 256 bits as uint8 [32]."""
    grey = np.asarray(Image.fromarray(image).convert("L").resize((17, 16), Image.Resampling.BILINEAR), np.int16)
    return np.packbits(grey[:, 1:] > grey[:, :-1])


def near_duplicates(a: np.ndarray, b: np.ndarray, limit: int = HASH_LIMIT) -> np.ndarray:
    """Pairs (i, j) [K, 2] of hashes uint8 [N, 32] and [M, 32] that differ in at most `limit` bits."""
    signs_b = _signs(b)
    pairs = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(a), BLOCK):
        # for signs in {-1, 1}: product = 256 - 2 * distance
        close = _signs(a[start : start + BLOCK]) @ signs_b.T >= 256 - 2 * limit
        pairs.append(np.argwhere(close) + (start, 0))
    return np.concatenate(pairs)


def near_pairs(hashes: np.ndarray, limit: int = HASH_LIMIT) -> np.ndarray:
    """Pairs (i, j) [K, 2], i < j, of hashes uint8 [N, 32] that differ in at most `limit` bits."""
    pairs = [near_duplicates(hashes[i : i + BLOCK], hashes[i:], limit) + i for i in range(0, len(hashes), BLOCK)]
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *pairs])
    return pairs[pairs[:, 0] < pairs[:, 1]]


def _signs(hashes: np.ndarray) -> np.ndarray:
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1


def groups(sha256: Sequence[str], hashes: np.ndarray) -> np.ndarray:
    """Number of each image's group, int32 [N]."""
    from scipy import sparse  # takes a third of a second, at each start of a program if it stood above
    from scipy.sparse import csgraph

    count = len(sha256)
    _, first, inverse = np.unique(np.asarray(sha256), return_index=True, return_inverse=True)
    pairs = np.concatenate([near_pairs(hashes), np.stack([np.arange(count), first[inverse]], 1)])
    graph = sparse.coo_array((np.ones(len(pairs), bool), pairs.T), shape=(count, count))
    return csgraph.connected_components(graph, directed=False)[1].astype(np.int32)


def group_ids(group: np.ndarray, sha256: Sequence[str]) -> np.ndarray:
    """A name for each image's group that depends on content alone: the smallest sha256 in it. [N] str."""
    order = np.lexsort((np.asarray(sha256), group))
    numbers, first = np.unique(group[order], return_index=True)
    smallest = dict(zip(numbers.tolist(), np.asarray(sha256)[order][first].tolist(), strict=True))
    return np.array([smallest[number] for number in group.tolist()])


def assign(group: np.ndarray, sha256: Sequence[str], seed: int) -> np.ndarray:
    """The split of each image, [N] of "train", "val", "test".

    Groups stand in the order of sha256(seed, group id) and fill test, then val, to a tenth of the images each;
    a group that would overfill is passed over. The rest trains.
    """
    ids, sizes = np.unique(group_ids(group, sha256), return_counts=True)
    order = sorted(range(len(ids)), key=lambda i: hashlib.sha256(f"{seed} {ids[i]}".encode()).digest())
    split = {}
    for name, share in SHARES:
        room = int(share * len(sha256))
        for i in order:
            if ids[i] not in split and sizes[i] <= room:
                split[ids[i]] = name
                room -= sizes[i]
    return np.array([split.get(i, "train") for i in group_ids(group, sha256)])
