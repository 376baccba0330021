"""The split that a run recorded in its splits.csv, for runs whose split was named by `data.splits`."""

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
    data = config["data"]
    if not data.get("splits"):
        return None
    images = leaks.read_splits(run)
    names, own = images.file, np.ones(len(images.file), bool)
    if data["train_on"]:
        folders = split_exceptions.own_names(data["source"], data["train_on"])
        own = split_exceptions.belongs_to(names, folders)
        if len(folders) == 1:
            names = np.array([name.partition("/")[2] for name in names], str)
    table = dict(zip(zip(names[own], images.sha256[own], strict=True), images.split[own], strict=True))
    try:
        return np.array([table[image] for image in zip(prepared.file, prepared.sha256, strict=True)], "<U5")
    except KeyError:
        return None
