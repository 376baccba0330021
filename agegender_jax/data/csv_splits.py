"""The split of each image as a CSV names it: an official split of the data, or the splits.csv of another run.

The CSV has the columns `file` and `split`, which is train, val, test, or empty for an image that is left out; further
columns are ignored. It names every image of `data.source`. Groups of near-duplicates must not lie in several splits;
mirror images that groups miss are left out as in the default split.
"""

import numpy as np

from agegender_jax.data import listed_files, splits
from agegender_jax.data.prepared_source import Prepared
from agegender_jax.errors import DataError

FIELD = "data.splits"
SPLITS = ("train", "val", "test")
SHOWN = 3  # files in a message


def assign(prepared: Prepared, own: np.ndarray, path: str, folder: str = "") -> np.ndarray:
    """Return the split of each image, str [N].

    Images of `data.train_on` need no row. They are for training, except those whose row has an empty split, and those
    whose group, over all images, contains an image of val or test. Mirror images that groups miss are left out, see
    `splits.leave_out_mirrored`.

    Args:
      own: bool [N], the images of `data.source`.
      path: of the CSV.
      folder: of the files of `data.source` in the joined sources, with a slash at the end. The CSV may leave it out
        from all names.

    Raises:
      DataError: the CSV cannot be read, contradicts itself, does not fit the source, leaves a split empty, or divides
        a group.
      ConfigError: the path is a URL or in an unknown home folder.
    """
    files = prepared.file.tolist()
    table = read(path)
    if folder and table.keys().isdisjoint(files):
        table = {folder + file: split for file, split in table.items()}
    listed_files.check_known(table, files, prepared.bad, path, FIELD)
    _check_complete(table, prepared.file[own].tolist(), path)
    split = np.array([table.get(file, "train") for file in files], "<U5")
    if moved := prepared.file[~own & np.isin(split, ("val", "test"))].tolist():
        raise DataError(
            f"{len(moved)} images of data.train_on are in val or test of {FIELD}, for example {min(moved)}",
            path,
            "give them the split train, or an empty one to leave them out",
        )
    group = prepared.group[own] if own.all() else splits.groups(prepared.content[own], prepared.dhash[own])
    _check_groups(prepared.file[own], split[own], group, path)
    splits.leave_out_copies(split, own, prepared.group)
    splits.leave_out_mirrored(split, prepared.mirrored)
    _check_sizes(split[own], path)
    return split


def read(path: str) -> dict[str, str]:
    """Return the split of each file that a CSV names.

    Raises:
      DataError: it cannot be read, or a row has an unknown split or contradicts an earlier row.
      ConfigError: the path is a URL or in an unknown home folder.
    """
    fix = "name a CSV with the columns `file` and `split`, such as splits.csv of a run"
    table: dict[str, str] = {}
    for line, (file, split) in listed_files.read(path, FIELD, ("file", "split"), fix):
        if split not in (*SPLITS, splits.UNUSED):
            fix = "use train, val or test, or leave the cell empty to leave the image out"
            raise DataError(f"unknown split {split!r} of {file} in {FIELD}", f"{path}, line {line}", fix)
        if table.setdefault(file, split) != split:
            both = f"{table[file]!r} and {split!r}"
            raise DataError(f"{file} is in {both} of {FIELD}", f"{path}, line {line}", "remove one of its rows")
    return table


def _check_complete(table: dict[str, str], own: list[str], path: str) -> None:
    if absent := sorted(set(own) - table.keys()):
        shown = ", ".join(absent[:SHOWN]) + (f" and {len(absent) - SHOWN} more" if absent[SHOWN:] else "")
        raise DataError(
            f"{len(absent)} of {len(own)} images of data.source are not in {FIELD}: {shown}",
            path,
            "add a row for each; an empty split leaves the image out",
        )


def _check_sizes(split: np.ndarray, path: str) -> None:
    if empty := [name for name in SPLITS if name not in split]:
        raise DataError(
            f"no image of data.source is in {' or '.join(empty)} of {FIELD}",
            path,
            "give images to each of train, val and test; val chooses the checkpoint, for example a tenth of train",
        )


def _check_groups(files: np.ndarray, split: np.ndarray, group: np.ndarray, path: str) -> None:
    """Raise DataError if a group, int32 [N], has images in several splits, not counting images that are left out."""
    used = np.flatnonzero(split != splits.UNUSED)
    pairs = np.unique(np.stack([group[used], np.unique(split[used], return_inverse=True)[1]], 1), axis=0)
    numbers, counts = np.unique(pairs[:, 0], return_counts=True)
    divided = sorted(used[np.isin(group[used], numbers[counts > 1])].tolist(), key=lambda i: files[i])
    if divided:
        first = divided[0]
        other = next(i for i in divided if group[i] == group[first] and split[i] != split[first])
        count = int((counts > 1).sum())
        raise DataError(
            f"{count} {'group of near-duplicates lies' if count == 1 else 'groups of near-duplicates lie'} in several "
            f"splits of {FIELD}, for example {files[first]} ({split[first]}) and {files[other]} ({split[other]})",
            path,
            "leave out the images of a group in all splits but one by an empty split; splits.csv of launch.audit lists "
            "the groups",
        )
