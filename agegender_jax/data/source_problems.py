"""Find problems in a prepared source: duplicates, contradicting labels, leaks between splits, unusual names.

Two files are *exact* duplicates if their decoded pixels are equal. Otherwise they are *near* duplicates if their
difference hashes (or the hash of one and that of the other's mirror image) are at most 30 of 256 bits apart: copies
that were re-encoded or cropped again, and sometimes different people.
"""

import dataclasses

import numpy as np
from scipy.sparse.csgraph import minimum_spanning_tree

from agegender_jax.data import near_duplicates, splits
from agegender_jax.data.prepared_source import Prepared
from agegender_jax.data.utkface import remark
from agegender_jax.labels import GENDERS


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs (i, j), i < j, of files with the same picture.

    Attributes:
      exact: int [K, 2], equal pixels.
      near: int [L, 2], different pixels. distance: int [L], in bits. mirrored: bool [L], nearer to the mirror image.
    """

    exact: np.ndarray
    near: np.ndarray
    distance: np.ndarray
    mirrored: np.ndarray

    def all(self) -> np.ndarray:
        """Return exact and near pairs, int [K + L, 2]: files that must be in the same split."""
        return np.concatenate([self.exact, self.near])


def find_pairs(content: np.ndarray, dhash: np.ndarray, thumbnail: np.ndarray) -> Pairs:
    """Return all pairs of N files.

    Args:
      content: str [N], equal for equal pictures.
      dhash: uint8 [N, 64]. thumbnail: uint8 [N, 144]; see `near_duplicates`.
    """
    pairs = near_duplicates.pairs_within(dhash[:, : near_duplicates.HALF])
    i, j = pairs = np.concatenate([pairs, near_duplicates.mirrored_copies_within(dhash, thumbnail)]).T
    exact = np.asarray(content)[i] == np.asarray(content)[j]
    near = pairs.T[~exact]
    distance = near_duplicates.distances(dhash[near[:, 0]], dhash[near[:, 1]])
    direct = near_duplicates.direct_distances(dhash[near[:, 0]], dhash[near[:, 1]])
    return Pairs(pairs.T[exact], near, distance, direct > distance)


def exact_groups(faces: Prepared) -> list[np.ndarray]:
    """Return the files of each picture that occurs more than once, int [M] each."""
    return _groups(faces.content)


def near_groups(faces: Prepared) -> list[np.ndarray]:
    """Return the files of each group of different but nearly equal pictures, int [M] each. A chain is one group."""
    groups = _groups(splits.join(faces.group, faces.mirrored))
    return [files for files in groups if len(set(faces.content[files].tolist())) > 1]


def links(faces: Prepared, files: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the shortest links between the different pictures of a group: (file, file, distance in bits).

    Each picture is represented by its first file. M pictures have M - 1 links.
    """
    files = files[np.sort(np.unique(faces.content[files], return_index=True)[1])]
    hashes = faces.dhash[files]
    apart = np.stack([near_duplicates.distances(np.broadcast_to(bits, hashes.shape), hashes) for bits in hashes])
    tree = minimum_spanning_tree(apart + 1).tocoo()  # 0 would mean no link
    edges = zip(files[tree.row].tolist(), files[tree.col].tolist(), (tree.data - 1).astype(int).tolist(), strict=True)
    return sorted((min(i, j), max(i, j), bits) for i, j, bits in edges)


def disagreements(faces: Prepared, pairs: np.ndarray) -> dict[str, np.ndarray]:
    """Return how the labels of each pair (int [K, 2]) differ.

    Returns:
      bucket, gender, race: bool [K]; age ranges differ if they do not overlap.
      buckets_apart: int [K], 0 if they overlap. years_apart: float [K], NaN if years are unknown.
    """
    i, j = pairs.T
    age, years = faces.age, np.where(faces.age_years < 0, np.nan, faces.age_years)
    apart = np.maximum(np.maximum(age[i, 0] - age[j, 1], age[j, 0] - age[i, 1]), 0)
    return {
        "bucket": apart > 0,
        "gender": faces.gender[i] != faces.gender[j],
        "race": faces.race[i] != faces.race[j],
        "buckets_apart": apart,
        "years_apart": np.abs(years[i] - years[j]),
    }


def contradictions(faces: Prepared, pairs: np.ndarray) -> list[tuple[str, str]]:
    """Return (file, reason) of each image that has a copy with another age bucket or gender, sorted by file.

    Args:
      pairs: int [K, 2], as from `Pairs.all`.
    """
    differ = disagreements(faces, pairs)
    reasons: dict[str, str] = {}
    for pair in pairs[differ["bucket"] | differ["gender"]].tolist():
        for file, other in (pair, pair[::-1]):
            age, gender, _ = label_of(faces, other)
            reasons.setdefault(str(faces.file[file]), f"copy labelled {age}, {GENDERS[gender]}: {faces.file[other]}")
    return sorted(reasons.items())


def label_of(faces: Prepared, file: int) -> tuple[str, int, int]:
    """Return a file's label: age as text, gender and race as codes."""
    return str(faces.age_text[file]), int(faces.gender[file]), int(faces.race[file])


def independent(faces: Prepared, pairs: np.ndarray) -> np.ndarray:
    """Return which pairs (int [K, 2]) have independent labels, bool [K]; a file copied with its name does not count."""
    stems = np.array([file.rpartition("/")[2].partition(".")[0].strip() for file in faces.file.tolist()])
    i, j = pairs.T
    same = (faces.age_text[i] == faces.age_text[j]) & (faces.gender[i] == faces.gender[j])
    return ~(same & (faces.race[i] == faces.race[j]) & (stems[i] == stems[j]))


def pairs_across(pairs: np.ndarray, split: np.ndarray) -> int:
    """Return the number of pairs (int [K, 2]) whose files are in different splits ([N] str, "" for none)."""
    a, b = split[pairs[:, 0]], split[pairs[:, 1]]
    return int(((a != b) & (a != "") & (b != "")).sum())


def random_split(pairs: np.ndarray, count: int) -> dict[str, float]:
    """Return the expected leakage of a random split of single files, 80/10/10, that ignores duplicates.

    With n_s of N files in split s, a pair is split with probability 1 - sum n_s (n_s - 1) / (N (N - 1)). A test file
    with m duplicates does not leak if all of them are in test, too, with probability prod_{k < m} (n_test - 1 - k) / (N
    - 1 - k).

    Returns:
      pairs: expected number of pairs in different splits.
      test_files: expected number of test files with a duplicate in train or val; test: number of test files.
    """
    sizes = {name: int(share * count) for name, share in splits.SHARES}
    test, all_sizes = sizes["test"], [*sizes.values(), count - sum(sizes.values())]
    torn = 1 - sum(n * (n - 1) for n in all_sizes) / max(count * (count - 1), 1)
    twins = np.bincount(pairs.ravel(), minlength=count)
    k = np.arange(twins.max(initial=0))
    safe = np.concatenate([[1.0], np.cumprod(np.maximum(test - 1 - k, 0) / np.maximum(count - 1 - k, 1))])
    seen = (1 - safe[twins]).sum() * test / max(count, 1)
    return {"pairs": float(len(pairs) * torn), "test_files": float(seen), "test": test}


def remarks(faces: Prepared) -> list[tuple[str, str]]:
    """Return (file, remark) of unusual names with a valid label. Files with labels from a CSV are left out."""
    remarks_by_file = [(file, remark(file.rpartition("/")[2])) for file in faces.file[faces.age_years >= 0].tolist()]
    return sorted((file, text) for file, text in remarks_by_file if text)


def _groups(number: np.ndarray) -> list[np.ndarray]:
    """Return the indices of each value that occurs more than once, ordered by the first index."""
    _, inverse, counts = np.unique(number, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    parts = np.split(order, np.cumsum(counts)[:-1])
    return sorted((part for part in parts if len(part) > 1), key=lambda part: part[0])
