"""The split of each image if some sources are only for training or listed files are left out of training."""

import csv
from collections.abc import Sequence

import numpy as np

from agegender_jax import csv_cells
from agegender_jax.data import splits
from agegender_jax.errors import DataError
from agegender_jax.files import expand

UNUSED = ""  # the split of an image that is neither trained on nor scored


def join(source: str, train_on: str) -> str:
    """Return the joint specification of both sources; `train_on` may be empty."""
    return f"{source},{train_on}" if train_on else source


def belongs_to(files: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Return which files of joined sources belong to those called `names`: bool [N]; files as in `sources.read`."""
    return np.array([file.partition("/")[0] in names for file in files], bool)


def assign(own: np.ndarray, group: np.ndarray, content: np.ndarray, dhash: np.ndarray, seed: int) -> np.ndarray:
    """Return the split of each image, str [N], if only some images may be used for validation and test.

    These are divided as if there were no others. The others are for training, except those whose group, over all
    images, contains an image of val or test: they are UNUSED.

    Args:
      own: bool [N], the images to divide.
      group, content, dhash: as in `Prepared`, of all images.
      seed: `data.split_seed`.
    """
    split = np.full(len(own), "train", "<U5")
    split[own] = splits.assign(splits.groups(content[own], dhash[own]), content[own], seed)
    held_out = np.unique(group[own & (split != "train")])
    split[~own & np.isin(group, held_out)] = UNUSED
    return split


def exclude(split: np.ndarray, files: Sequence[str], path: str) -> np.ndarray:
    """Return the splits, with the training images that a CSV lists set to UNUSED; listed images of val and test stay.

    Args:
      split, files: str [N], of each image.
      path: of a CSV with a column `file`, for example exclude.csv of `launch.audit`.

    Raises:
      DataError: the CSV cannot be read, or lists a file that is not in the source.
    """
    fix = "name a CSV with a column `file`, as launch.audit writes it for the same data.source and data.train_on"
    expanded = expand(path, "data.exclude")
    try:
        with open(expanded, newline="", encoding="utf-8", errors="surrogateescape") as file:
            listed = {csv_cells.original(row["file"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, AttributeError, csv.Error) as error:
        raise DataError(f"data.exclude cannot be read: {error}", path, fix) from None
    if unknown := sorted(listed - set(files)):
        counts = f"{len(unknown)} of the {len(listed)} files in data.exclude"
        raise DataError(f"{counts} are not in the source, for example {unknown[0]}", path, fix)
    return np.where((split == "train") & np.isin(files, sorted(listed)), UNUSED, split)
