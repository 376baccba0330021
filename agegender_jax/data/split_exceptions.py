"""The split of each image if some sources are only for training or listed files are left out of training."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agegender_jax.data import listed_files, splits
from agegender_jax.data.resolve import source_names


def join(source: str, train_on: str) -> str:
    """Return the joint specification of both sources; `train_on` may be empty."""
    return f"{source},{train_on}" if train_on else source


def own_names(source: str, train_on: str) -> list[str]:
    """Return the first part of the files of `source` in the joined sources, one for each source that it names."""
    return source_names(join(source, train_on))[: len(source_names(source))]


def belongs_to(files: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Return which files of joined sources belong to those called `names`: bool [N]; files as in `sources.read`."""
    return np.array([file.partition("/")[0] in names for file in files], bool)


def assign(own: np.ndarray, prepared: Any, seed: int) -> np.ndarray:
    """Return the split of each image, str [N], if perhaps only some images may be used for validation and test.

    These are divided as if there were no others. The others are for training, except those whose group, over all
    images, contains an image of val or test: they are `splits.UNUSED`, as are mirror images that groups miss.

    Args:
      own: bool [N], the images to divide.
      prepared: has `group`, `content`, `dhash` and `mirrored`, as `Prepared`, of all images.
      seed: `data.split_seed`.
    """
    split, content = np.full(len(own), "train", "<U5"), prepared.content[own]
    group = prepared.group if own.all() else splits.groups(content, prepared.dhash[own])
    split[own] = splits.assign(group, content, seed)
    splits.leave_out_copies(split, own, prepared.group)
    splits.leave_out_mirrored(split, prepared.mirrored)
    return split


def exclude(split: np.ndarray, files: Sequence[str], bad: Sequence[tuple[str, str]], path: str) -> np.ndarray:
    """Return the splits, with the training images that a CSV lists set to `splits.UNUSED`; val and test stay whole.

    Args:
      split, files: str [N], of each image.
      bad: as in `Prepared`.
      path: of a CSV with a column `file`, for example exclude.csv of `launch.audit`.

    Raises:
      DataError: the CSV cannot be read, or lists a file that is not in the source.
      ConfigError: the path is a URL or in an unknown home folder.
    """
    fix = "name a CSV with a column `file`, as launch.audit writes it for the same data.source and data.train_on"
    listed = {file for _, (file,) in listed_files.read(path, "data.exclude", ("file",), fix)}
    listed_files.check_known(listed, files, bad, path, "data.exclude")
    return np.where((split == "train") & np.isin(files, sorted(listed)), splits.UNUSED, split)
