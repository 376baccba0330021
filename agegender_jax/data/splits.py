"""Groups of images that show the same picture, and train, val and test splits that keep each group together.

Groups are the connected components of "equal decoded pixels" and "difference hashes, of the images or of one and the
other's mirror image, at most 30 of 256 bits apart", where the hash of the mirror image is derived from that of the
image. Mirror images that this misses, because neighbouring pixels are equal, are left out (`leave_out_mirrored`). A
split depends only on the content of the images and the seed.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from agegender_jax.data import near_duplicates
from agegender_jax.data.cache import Progress

SHARES = (("test", 0.1), ("val", 0.1))
UNUSED = ""  # the split of an image that is neither trained on nor scored


def groups(sha256: Sequence[str], hashes: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """Return the number of each image's group, int32 [N].

    Args:
      sha256: N strings that are equal for equal images.
      hashes: uint8 [N, 64], see `near_duplicates`, of which the first halves are used.
      progress: called with (done, total, text) while hashes are compared.
    """
    count, halves = len(sha256), hashes[:, : near_duplicates.HALF]
    _, first, inverse = np.unique(np.asarray(sha256), return_index=True, return_inverse=True)
    equal = np.stack([np.arange(count), first[inverse]], 1)
    distinct, first, inverse = near_duplicates.distinct(halves)  # equal ones would be pairs in quadratic numbers
    same_hash = np.stack([np.arange(count), first[inverse]], 1)
    near = first[near_duplicates.pairs_within(distinct, progress=progress)]
    return _components(np.concatenate([near, same_hash, equal]), count)


def mirrored(hashes: np.ndarray, thumbnails: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """Return numbers that are equal for images and their mirror images which groups miss: int32 [N].

    Args:
      hashes, thumbnails: see `near_duplicates.mirrored_copies_within`.
    """
    return _components(near_duplicates.mirrored_copies_within(hashes, thumbnails, progress), len(hashes))


def join(*numbers: np.ndarray) -> np.ndarray:
    """Return numbers, int32 [N], that are equal for images connected by equal numbers of any kind, int [N] each."""
    count = len(numbers[0])
    firsts = [np.unique(kind, return_index=True, return_inverse=True)[1:] for kind in numbers]
    pairs = [np.stack([np.arange(count), first[inverse]], 1) for first, inverse in firsts]
    return _components(np.concatenate(pairs), count)


def _components(pairs: np.ndarray, count: int) -> np.ndarray:
    from scipy import sparse  # a third of a second, which not every start of a program needs
    from scipy.sparse import csgraph

    graph = sparse.coo_array((np.ones(len(pairs), bool), pairs.T), shape=(count, count))
    return csgraph.connected_components(graph, directed=False)[1].astype(np.int32)


def group_ids(group: np.ndarray, sha256: Sequence[str]) -> np.ndarray:
    """Return a name for each image's group that depends only on content, the smallest sha256 in it: [N] str."""
    order = np.lexsort((np.asarray(sha256), group))
    numbers, first = np.unique(group[order], return_index=True)
    smallest = dict(zip(numbers.tolist(), np.asarray(sha256)[order][first].tolist(), strict=True))
    return np.array([smallest[number] for number in group.tolist()])


def assign(group: np.ndarray, sha256: Sequence[str], seed: int) -> np.ndarray:
    """Return the split of each image, [N] of "train", "val", "test".

    In the order of sha256(seed, group id), groups fill test and then val, each up to a tenth of the images. A group
    that does not fit is skipped. The rest is train.
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


def leave_out_copies(split: np.ndarray, own: np.ndarray, group: np.ndarray) -> None:
    """Set to UNUSED, in place, the further images whose group contains an own image of val or test.

    Args:
      split: str [N]; own: bool [N], the images that are divided and not only trained on; group: int [N], of all images.
    """
    held_out = np.unique(group[own & np.isin(split, ("val", "test"))])
    split[~own & np.isin(group, held_out)] = UNUSED


def leave_out_mirrored(split: np.ndarray, mirrored: np.ndarray) -> None:
    """Set to UNUSED, in place, images of train that also occur, mirrored, in val or test, and those of val in test.

    Args:
      split: str [N]; mirrored: int [N], see `mirrored`.
    """
    for kept, others in (("test", ("val", "train")), ("val", ("train",))):
        split[np.isin(split, others) & np.isin(mirrored, mirrored[split == kept])] = UNUSED
