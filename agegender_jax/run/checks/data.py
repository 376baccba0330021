"""Checks of the splits: that they are large enough for the config."""

from ml_collections import ConfigDict

from agegender_jax.errors import DataError
from agegender_jax.run.dataset import Dataset


def batch_fits(faces: Dataset, config: ConfigDict) -> None:
    """Raise DataError unless the train split fills one batch."""
    count = len(faces.indices("train"))
    if config.batch_size > count:
        raise DataError(
            f"batch_size {config.batch_size} is larger than the train split of {count} images",
            f"--config.data.source={config.data.source}",
            "lower --config.batch_size or give more images",
        )


def empty_splits(faces: Dataset) -> list[str]:
    """Return a warning for each of val and test that has no images."""
    consequences = {
        "val": "the latest checkpoint is tested, without temperatures and without detection of collapsed heads",
        "test": "the results have no scores",
    }
    return [
        f"the {split} split is empty, so {consequence}; give at least 10 images"
        for split, consequence in consequences.items()
        if not len(faces.indices(split))
    ]
