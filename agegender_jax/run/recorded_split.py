"""What a run recorded in its splits.csv about the images of its `data.source`: which they were, and their splits."""

import hashlib

import numpy as np

from agegender_jax.data import split_exceptions
from agegender_jax.data.prepared_source import Prepared
from agegender_jax.run import leaks
from agegender_jax.run.workdir import Workdir


def read(run: Workdir, config: dict, prepared: Prepared) -> np.ndarray | None:
    """Return the run's split of each image of its `data.source`, str [N].

    The CSV of `data.splits` may have changed since, or be elsewhere; it is not read.

    Args:
      config: config.json of the run.
      prepared: the images, without those of `data.train_on`.

    Returns:
      None if the run divided its images by content, or has no image of this name with these pixels for one of them.

    Raises:
      DataError: splits.csv is missing or damaged.
    """
    if not config["data"].get("splits"):
        return None
    names, sha256, split = _own(run, config)
    table = dict(zip(zip(names, sha256, strict=True), split, strict=True))
    try:
        return np.array([table[image] for image in zip(prepared.file, prepared.sha256, strict=True)], "<U5")
    except KeyError:
        return None


def source_digest(run: Workdir, config: dict) -> str:
    """Return the `pixels_digest` of the images of a run's `data.source`, without those of `data.train_on`.

    Raises:
      DataError: splits.csv is missing or damaged.
    """
    return pixels_digest(_own(run, config)[1])


def pixels_digest(sha256: np.ndarray) -> str:
    """Return a digest of images, str [N] of their pixels, without their names and order."""
    return hashlib.sha256("".join(sorted(sha256.tolist())).encode()).hexdigest()


def _own(run: Workdir, config: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the names in `data.source`, the sha256 and the splits of a run's images, without those of `train_on`."""
    data, images = config["data"], leaks.read_splits(run)
    names, own = images.file, np.ones(len(images.file), bool)
    if data.get("train_on"):
        folders = split_exceptions.own_names(data["source"], data["train_on"])
        own = split_exceptions.belongs_to(names, folders)
        if len(folders) == 1:
            names = np.array([name.partition("/")[2] for name in names], str)
    return names[own], images.sha256[own], images.split[own]
